"""Proof by retraining: apply interventions, train again, ask the same question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from rainpp.backing import RetrainableBacking
from rainpp.bound_complaint import BoundComplaint
from rainpp.complaint import Complaint
from rainpp.errors import ModelError, RainError, SettingsError, named
from rainpp.intervention import Intervention
from rainpp.intervention.applying import apply_interventions
from rainpp.model import Model
from rainpp.patch import Patch
from rainpp.ranking import Ranking
from rainpp.relax.ask import AnyAnswer
from rainpp.setting import Setting
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree

# Interventions that are applied where nobody says how many.
_TOP = 100

Fit = Callable[[PyTree, np.ndarray], Any]


@dataclass(frozen=True)
class Outcome:
    """One complained-about number before and after the fix.

    `predicted` is what was promised for the relaxed cell by Newton steps of the edited objective
    (`ranking.group_effect`); compare it with `after_relaxed`. `first_order` is the sum of single
    effects. `after` is NaN when the row is no longer in the answer.
    """

    complaint: Complaint
    before: float
    before_relaxed: float
    predicted: float
    first_order: float
    after: float
    after_relaxed: float

    @property
    def resolved(self) -> bool:
        """Whether the complaint holds now; for a direction, whether the cell moved that way."""
        return self.complaint.resolved(self.after)


@dataclass(frozen=True)
class Verification:
    """What retraining with the fix did to every complaint."""

    outcomes: tuple[Outcome, ...]
    applied: tuple[Intervention, ...] = field(repr=False)
    model: Model = field(repr=False)

    @property
    def before(self) -> float:
        """Hard value of the first complaint's cell before the fix."""
        return self.outcomes[0].before

    @property
    def predicted(self) -> float:
        """Relaxed value the fix was predicted to give it."""
        return self.outcomes[0].predicted

    @property
    def after(self) -> float:
        """Hard value after retraining."""
        return self.outcomes[0].after

    def frame(self) -> pd.DataFrame:
        """One row per complaint: cell, before, predicted, after (hard and relaxed), resolved.

        `predicted_relaxed` and `first_order` are both for `after_relaxed`; see `Outcome`.
        """
        return pd.DataFrame(
            {
                "complaint": [str(item.complaint) for item in self.outcomes],
                "before": [item.before for item in self.outcomes],
                "before_relaxed": [item.before_relaxed for item in self.outcomes],
                "predicted_relaxed": [item.predicted for item in self.outcomes],
                "first_order": [item.first_order for item in self.outcomes],
                "after": [item.after for item in self.outcomes],
                "after_relaxed": [item.after_relaxed for item in self.outcomes],
                "resolved": [item.resolved for item in self.outcomes],
            }
        )

    def __repr__(self) -> str:
        return f"{len(self.applied)} interventions applied\n{self.frame().to_string(index=False)}"

    def _repr_html_(self) -> str:
        note = f"<p>{len(self.applied)} interventions applied</p>"
        return note + self.frame().to_html(index=False)


def verify(
    ranking: Ranking, *, fit: Fit, top: int | None = None, patch: Patch | None = None
) -> Verification:
    """Apply interventions, retrain, rerun the query, and compare with the prediction.

    Parameters
    ----------
    fit : (inputs, labels) -> params; the training that made the model, on these rows. It may also
        return a Model, and for a model from Flax the variables or the trained NNX module.
    top : how many interventions to apply, the best ones, at most one per training row; 100 unless
        there is a patch.
    patch : apply exactly these changes instead: what `rainpp.read_patch` returns, perhaps with
        lines deleted.

    Raises
    ------
    RainError : the ranking has no database behind it, the training rows are not at hand, or the
        function behind a repair is not.
    SettingsError : `top` is not a whole number of at least 1, `patch` is no patch, both are given,
        or `fit` is not a function.
    ModelError : `fit` fails, or returns parameters or a model that cannot take the place of the
        one it was.
    DataError : the database has changed since the complaint; the patch is for other rows, is empty,
        or makes a change that the index does not know.
    """
    if not isinstance(ranking, Ranking):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`ranking` is a {type(ranking).__name__}; give what complaint.rank() returns."
        )
    _check_options(fit, top, patch)
    backing = ranking.backing
    if not isinstance(backing, RetrainableBacking):
        raise RainError("`verify` needs a ranking made from complaints on a database.")
    settings = list(dict.fromkeys(bound.result.setting for bound in backing.complaints))
    backing.check_unchanged()
    positions = _positions(ranking, backing, top, patch)
    changes = _predicted_changes(ranking, backing, positions)
    promised = _answers(settings, backing.registered.name, backing.after(positions))
    applied = [ranking.interventions[int(position)] for position in positions]
    repaired = apply_interventions(backing.training, applied, backing.index.repairs)
    model = retrained(fit, repaired, backing.model)
    after = _answers(settings, backing.registered.name, model)
    outcomes = [
        _outcome(bound, change, promised[bound.result.setting], after[bound.result.setting])
        for bound, change in zip(backing.complaints, changes, strict=True)
    ]
    return Verification(tuple(outcomes), tuple(applied), model)


def _positions(
    ranking: Ranking, backing: RetrainableBacking, top: int | None, patch: Patch | None
) -> np.ndarray:
    """Where the interventions to apply stand in the ranking."""
    if patch is None:
        return ranking.positions(_TOP if top is None else top)
    return patch.positions(backing.training, ranking.interventions)


def _predicted_changes(
    ranking: Ranking, backing: RetrainableBacking, positions: np.ndarray
) -> list[float]:
    """Refined effects when there are any; they exist for one complaint that keeps nothing."""
    if ranking.refined_steps and len(backing.complaints) == 1 and not backing.kept:
        direction = backing.complaints[0].complaint.direction
        return [direction * float(ranking.effects[positions].sum())]
    return backing.changes(positions)


def _check_options(fit: Any, top: Any, patch: Any) -> None:
    whole = isinstance(top, int | np.integer) and not isinstance(top, bool)
    if top is not None and (not whole or top < 1):
        raise SettingsError(
            f"`top` is {top!r}; it must be a whole number: at least one intervention must be "
            "applied."
        )
    if patch is not None and not isinstance(patch, Patch):
        raise SettingsError(
            f"`patch` is a {type(patch).__name__}; give what rainpp.read_patch returns, or the "
            "patch of a fix."
        )
    if top is not None and patch is not None:
        raise SettingsError("`top` and `patch` both say what to apply; give one of them.")
    check_fit(fit)


def check_fit(fit: Any) -> None:
    """Refuse what is no function.

    Raises
    ------
    SettingsError : it is not.
    """
    if not callable(fit):
        raise SettingsError(
            f"`fit` is {fit!r}; it must be a function (inputs, labels) -> params or a Model."
        )


def _answers(
    settings: Sequence[Setting], name: str = "", model: Model | None = None
) -> dict[Setting, AnyAnswer]:
    """The answer of each query once, however many complaints are about it; by `model` if given."""
    asked = {s: s.with_model(name, model) if model is not None else s for s in settings}
    return {setting: again.evaluate() for setting, again in asked.items()}


def retrained(fit: Fit, training: TrainingSet, model: Model) -> Model:
    """What `fit` makes of these rows, in the place of `model`.

    Raises
    ------
    ModelError : `fit` fails, or returns nothing, parameters of another structure, NaN, or a model
        with other outputs.
    """
    try:
        fitted = fit(training.inputs, training.labels)
    except RainError:
        raise
    except (Exception, SystemExit) as problem:  # a script may end with sys.exit()
        raise ModelError(f"`fit` fails: {named(problem)}") from problem
    found = model.refitted(fitted)
    was, width = (_outputs(each, training) for each in (model, found))
    if width != was:
        raise ModelError(f"`fit` returned a model with {width}; the one it replaces has {was}.")
    return found


def _outputs(model: Model, training: TrainingSet) -> str:
    width = model.output_width(training.inputs)
    return f"{model.criterion.num_classes(width)} {model.task} outputs"


def _outcome(
    bound: BoundComplaint, change: float, promised: AnyAnswer, after: AnyAnswer
) -> Outcome:
    complaint = bound.complaint
    hard, relaxed = complaint.about.read(after)
    return Outcome(
        complaint=complaint,
        before=complaint.hard,
        before_relaxed=complaint.relaxed,
        predicted=complaint.about.read(promised)[1],
        first_order=complaint.relaxed + change,
        after=hard,
        after_relaxed=relaxed,
    )
