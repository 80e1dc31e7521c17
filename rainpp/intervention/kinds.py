"""The families of interventions a user can ask for, and one of them on one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray

from rainpp.types import ClassValue, PyTree


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row from the training set. Plausibility 1: it claims nothing about the row."""

    name: ClassVar[str] = "delete"


@dataclass(frozen=True, slots=True)
class Relabel:
    """Give the row each of the other classes as its label.

    The plausibility of a new label is the model's own posterior P(label | x): effect alone would
    prefer correct rows of other classes, because giving any row the label 3 raises the number of
    3s (MNIST, 30 % of the 3s labelled 8: 18 % of the top rows were wrong by effect alone, 83 % by
    effect x plausibility).

    Attributes
    ----------
    probabilities : (n, R) in the place of the model's own, for every row; those of
        `rainpp.label_probabilities` are better calibrated. Rows appended later have the model's.
    """

    name: ClassVar[str] = "relabel"
    probabilities: NDArray[Any] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Replace:
    """Give the row other inputs: what `repair` makes of them. Its label stays.

    Plausibility 1, as of a deletion: it claims nothing about the label. The model's own posterior
    P(label | repaired inputs) was tried and hides what is most wrong: with salt and pepper on every
    image of a class the model never predicts that class, and AUC_R of the median filter was 0.21
    instead of 0.85 (`experiments/fix_families.py`).

    Attributes
    ----------
    name : what it is called in `top()`, in patches and in files.
    repair : from a batch of inputs to inputs of the same shapes, row by row: what it makes of a
        row may not depend on the batch. `rainpp.intervention` has some for images, tables and text.
    """

    name: str
    repair: Callable[[PyTree], PyTree] = field(repr=False)


Kind = Delete | Relabel | Replace


@dataclass(frozen=True, slots=True)
class Intervention:
    """One change to one training row.

    Attributes
    ----------
    row : position in the training set.
    train_id : the id the user gave that row; its position unless ids were given.
    kind : "delete", "relabel" or "replace".
    detail : the new label, or the name of the repair; None for a deletion.
    """

    row: int
    train_id: int | str
    kind: str
    detail: ClassValue | None
