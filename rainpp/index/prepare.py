"""A request for an index: what can be told, and everything that can be refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rainpp.errors import DataError, ModelError, SettingsError, ShapeError
from rainpp.fingerprint import fingerprint
from rainpp.index import store
from rainpp.index.storage import check_storage
from rainpp.index.together import check_same, from_first
from rainpp.intervention import Delete, Kind, Relabel, Replace
from rainpp.intervention.repair import repaired
from rainpp.intervention.table import kind_names
from rainpp.lanczos.choose_k import reason_for_many
from rainpp.lanczos.curvature import KINDS
from rainpp.lanczos.eigenpairs import check_k
from rainpp.lanczos.memory import Budget
from rainpp.lanczos.subsample import check_rows
from rainpp.matmul import check_matmul
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """What `rainpp.precompute` and `rainpp.estimate` can be told; explained at `precompute`."""

    k: int | str = "auto"
    interventions: Sequence[Kind] | None = None
    ids: Sequence[Any] | np.ndarray | None = None
    weights: Any = None
    curvature: str = "hessian"
    curvature_rows: int | str = "auto"
    matmul: str = "float32"
    memory: int | str | None = None
    storage: str = "float32"
    path: str | Path | None = None
    seed: int = 0

    @property
    def target(self) -> Path | None:
        """The directory to write, None for none."""
        return None if self.path is None else store.as_path(self.path)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request that can be carried out.

    Attributes
    ----------
    kinds : names of the interventions to score.
    num_classes : R.
    budget : memory that may be used beside the rows.
    chances : (n, R) probabilities of labels in the place of the model's own.
    """

    model: Model
    training: TrainingSet
    options: Options
    kinds: tuple[str, ...]
    num_classes: int
    budget: Budget
    repairs: tuple[Replace, ...] = ()
    chances: np.ndarray | None = None

    @property
    def num_outputs(self) -> int:
        """Columns of the model's probabilities."""
        return 1 if self.model.task == "regression" and self.num_classes == 0 else self.num_classes

    @property
    def many_pairs(self) -> str:
        """Why "auto" keeps thirty eigenpairs; empty where it does not."""
        rows, parameters = self.training.num_rows, self.model.num_params
        return reason_for_many(rows, parameters, repairs=bool(self.repairs))

    @property
    def relabel(self) -> bool:
        """Whether changes of label are to be projected."""
        return "relabel" in self.kinds

    @property
    def working(self) -> Prepared:
        """The same, its model with the matrix products that eigenpairs and projections use."""
        return replace(self, model=self.model.with_matmul(self.options.matmul))

    @property
    def request(self) -> dict[str, Any]:
        """Everything an index depends on: work for another request is of no use to this one."""
        from rainpp import __version__

        names = ("k", "seed", "curvature", "curvature_rows")
        chosen = {"matmul": self.options.matmul, "storage": self.options.storage}
        return {
            **{name: _plain(getattr(self.options, name)) for name in names},
            # Requests of the default are what they were before there was a choice.
            **{name: kind for name, kind in chosen.items() if kind != "float32"},
            **self._repairs_seen,
            **({} if self.chances is None else {"chances": fingerprint(self.chances)}),
            "interventions": list(self.kinds),
            "model": self.model.fingerprint,
            "data": self.training.fingerprint,
            "rainpp": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "device": jax.local_devices()[0].device_kind,
            "x64": bool(jax.config.read("jax_enable_x64")),
        }

    @property
    def _repairs_seen(self) -> dict[str, Any]:
        """What the repairs make of the first rows: a function has no fingerprint of its own."""
        first = self.training.take(np.arange(min(_REPAIRED_ROWS, self.training.num_rows))).inputs
        seen = {item.name: fingerprint(repaired(item, first)) for item in self.repairs}
        return {"repairs": seen} if seen else {}


def prepare(model: Model, inputs: PyTree, labels: Any, options: Options) -> Prepared:
    """What is to be computed, once everything that can be refused now has been looked at.

    Raises
    ------
    DataError, ShapeError, ModelError, SettingsError, ArtifactError : as `precompute`.
    """
    _check(model, options)
    training = TrainingSet.checked(model, inputs, labels, ids=options.ids, weights=options.weights)
    check_rows(options.curvature_rows, training.num_rows)
    asked = default_kinds(model) if options.interventions is None else options.interventions
    kinds = kind_names(asked)
    repairs = tuple(item for item in asked if isinstance(item, Replace))
    if "relabel" in kinds and model.task == "regression":
        raise SettingsError("rainpp.Relabel() needs classes; with squared_error use Delete() only.")
    num_classes = model.criterion.num_classes(model.output_width(training.inputs))
    budget = Budget.of(options.memory)
    chances = _chances(asked, (training.num_rows, num_classes))
    found = Prepared(model, training, options, kinds, num_classes, budget, repairs, chances)
    # Hosts may have other accelerators; the rest decides what is computed, step by step.
    steps = {"memory": budget.total, "path": options.path is not None, "device": "any"}
    check_same({**found.request, **steps})
    return found


def _check(model: Model, options: Options) -> None:
    """Refuse options that make no sense for this model, whatever the rows."""
    if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"`model` is a {type(model).__name__}; wrap it as rainpp.Model(...).")
    whole = isinstance(options.seed, int | np.integer) and not isinstance(options.seed, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not whole or options.seed < 0:
        raise SettingsError(f"`seed` is {options.seed!r}; it must be a whole number >= 0.")
    if (target := options.target) is not None:
        from_first(lambda: store.check_target(target))
    check_k(options.k, model.num_params)
    if options.curvature not in KINDS:
        raise SettingsError(
            f"`curvature` is {options.curvature!r}; it must be one of {list(KINDS)}."
        )
    check_matmul(options.matmul, np.dtype(model.theta.dtype))
    check_storage(options.storage)


def _chances(asked: Sequence[Kind], shape: tuple[int, int]) -> np.ndarray | None:
    """The probabilities of labels that somebody gave, checked."""
    given = [item.probabilities for item in asked if isinstance(item, Relabel)]
    if not given or given[0] is None:
        return None
    try:
        found = np.asarray(given[0])
    except ValueError:
        raise ShapeError(
            "the `probabilities` of rainpp.Relabel are rows of different lengths; numbers "
            f"{shape} are needed: one for each training row and class."
        ) from None
    if found.dtype.kind != "f" or found.shape != shape:
        raise ShapeError(
            f"the `probabilities` of rainpp.Relabel are {found.dtype} {found.shape}; numbers "
            f"{shape} are needed: one for each training row and class."
        )
    bad = np.flatnonzero(~((found >= 0) & (found <= 1 + 1e-6)).all(axis=1))
    if bad.size:
        raise DataError(
            f"the `probabilities` of rainpp.Relabel for training row {bad[0]} are "
            f"{found[bad[0]].tolist()} ({bad.size} such rows); they must lie between 0 and 1."
        )
    return found


# Enough rows to tell one repair from another.
_REPAIRED_ROWS = 32


def default_kinds(model: Model) -> list[Kind]:
    """Families that are scored where nobody says which."""
    return [Delete()] if model.task == "regression" else [Delete(), Relabel()]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
