"""Everything about a request for an index that can be refused before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rainpp.errors import ModelError, SettingsError
from rainpp.index import store
from rainpp.intervention import Delete, Relabel
from rainpp.intervention.table import kind_names
from rainpp.lanczos.curvature import KINDS
from rainpp.lanczos.eigenpairs import check_k
from rainpp.lanczos.memory import Budget
from rainpp.lanczos.subsample import check_rows
from rainpp.model import Model
from rainpp.training_set import TrainingSet


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request that can be carried out.

    Attributes
    ----------
    kinds : names of the interventions to score.
    num_classes : R.
    budget : memory that may be used beside the rows.
    """

    model: Model
    training: TrainingSet
    kinds: tuple[str, ...]
    num_classes: int
    budget: Budget

    @property
    def num_outputs(self) -> int:
        """Columns of the model's probabilities."""
        return 1 if self.model.task == "regression" and self.num_classes == 0 else self.num_classes

    @property
    def relabel(self) -> bool:
        """Whether changes of label are to be projected."""
        return "relabel" in self.kinds


def check_options(model: Model, options: dict[str, Any], path: str | Path | None) -> None:
    """Refuse options of `precompute` that make no sense for this model, whatever the rows.

    Raises
    ------
    ModelError, SettingsError, ArtifactError : as `precompute`.
    """
    if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"`model` is a {type(model).__name__}; wrap it as rainpp.Model(...).")
    if not isinstance(options["seed"], int | np.integer):
        raise SettingsError(f"`seed` is {options['seed']!r}; it must be a whole number.")
    if path is not None:
        store.check_target(store.as_path(path))
    check_k(options["k"], model.num_params)
    if options["curvature"] not in KINDS:
        raise SettingsError(
            f"`curvature` is {options['curvature']!r}; it must be one of {list(KINDS)}."
        )


def prepare(
    model: Model,
    training: TrainingSet,
    *,
    interventions: Sequence[Delete | Relabel] | None,
    curvature_rows: int | str,
    memory: Any,
) -> Prepared:
    """What is to be computed, from checked rows.

    Raises
    ------
    SettingsError : rows, interventions or memory make no sense.
    """
    check_rows(curvature_rows, training.num_rows)
    kinds = kind_names(_defaults(model) if interventions is None else interventions)
    if "relabel" in kinds and model.task == "regression":
        raise SettingsError("rainpp.Relabel() needs classes; with squared_error use Delete() only.")
    num_classes = model.criterion.num_classes(model.output_width(training.inputs))
    return Prepared(model, training, kinds, num_classes, Budget.of(memory))


def _defaults(model: Model) -> list[Delete | Relabel]:
    return [Delete()] if model.task == "regression" else [Delete(), Relabel()]


def request_of(model: Model, training: TrainingSet, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything an index depends on: work for another request is of no use to this one."""
    from rainpp import __version__

    return {
        **{name: _plain(value) for name, value in settings.items()},
        "model": model.fingerprint,
        "data": training.fingerprint,
        "rainpp": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": jax.local_devices()[0].device_kind,
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
