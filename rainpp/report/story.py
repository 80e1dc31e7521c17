"""What a report shows, as plain values: filled from library objects, drawn by `rainpp.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rainpp.errors import DataError, ShapeError
from rainpp.report.families import Families
from rainpp.report.predicates import Predicates
from rainpp.report.rounds import Rounds
from rainpp.types import ClassValue


@dataclass(frozen=True, slots=True)
class Finding:
    """One number of the summary at the top.

    Attributes
    ----------
    label : what it counts, in a few words.
    before, after : its value on either side of the fix; `before` is None for a lone number.
    note : a short remark below it.
    """

    label: str
    after: float | str
    before: float | str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One row of the query's answer; a number is None when it is not known.

    Attributes
    ----------
    key : the group, as the user knows it.
    before, before_relaxed : hard and relaxed value with the model as it was.
    predicted : the relaxed value the fix was predicted to give.
    after, after_relaxed : hard and relaxed value after retraining.
    expected : what the user says it should be.
    complained : whether a complaint is about this row.
    """

    key: str
    before: float
    before_relaxed: float | None = None
    predicted: float | None = None
    after: float | None = None
    after_relaxed: float | None = None
    expected: float | None = None
    complained: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """How one cell is predicted to move if one intervention is applied, in query units."""

    cell: str
    amount: float


@dataclass(frozen=True, eq=False)
class Example:
    """One training row and what is suggested for it.

    Attributes
    ----------
    old_label, new_label : `new_label` is None when the row should be deleted or repaired.
    changes : predicted change of every complained-about cell, signed.
    plausibility : the model's own P(new label | row), else 1, in [0, 1].
    true_label : the right label when it is known, else None.
    image : pixels (H, W) or (H, W, 3), or None.
    columns : the row's values when it is a table row, else empty.
    repair : what gives the row other inputs, or None when it is deleted or relabelled.
    image_after : what the repair makes of `image`.
    changed : inputs that the repair changes, old and new, where they are not drawn; the first ones
        are shown.
    """

    train_id: int | str
    old_label: ClassValue
    new_label: ClassValue | None
    changes: tuple[Change, ...]
    plausibility: float
    true_label: ClassValue | None = None
    image: np.ndarray | None = None
    columns: Mapping[str, object] = field(default_factory=dict[str, object])
    repair: str | None = None
    image_after: np.ndarray | None = None
    changed: Mapping[str, tuple[object, object]] = field(
        default_factory=dict[str, tuple[object, object]]
    )

    def __post_init__(self) -> None:
        _check_image("image", self.image)
        _check_image("image_after", self.image_after)
        if self.repair is not None and self.new_label is not None:
            raise DataError(
                f"row {self.train_id} has both a `repair` and a `new_label`; a repair keeps labels."
            )

    @property
    def kind(self) -> str:
        """What is done to the row: "delete", "relabel" or "replace"."""
        if self.repair is not None:
            return "replace"
        return "delete" if self.new_label is None else "relabel"

    @property
    def verdict(self) -> bool | None:
        """Whether the suggestion agrees with the truth; None when the truth is not known.

        A deletion is right when the label it removes is wrong; a repair says nothing about labels.
        """
        if self.true_label is None or self.kind == "replace":
            return None
        if self.new_label is None:
            return self.old_label != self.true_label
        return self.new_label == self.true_label


def _check_image(name: str, image: np.ndarray | None) -> None:
    if image is not None and not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ShapeError(f"`{name}` has shape {image.shape}; (H, W) or (H, W, 3) is drawn.")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the curvature, descending and positive; the first `k` are in the index.

    `rule` says in words how k was chosen.
    """

    values: np.ndarray
    k: int
    rule: str


@dataclass(frozen=True, eq=False)
class Cumulative:
    """Relaxed value of one cell if the first 1 .. N interventions are applied, as predicted.

    Attributes
    ----------
    start : its value before the fix.
    values : (N,).
    applied : how many of the N were applied.
    retrained : its value after retraining with those, or None.
    target : where the user wants it, or None.
    """

    cell: str
    start: float
    values: np.ndarray
    applied: int
    retrained: float | None = None
    target: float | None = None


@dataclass(frozen=True, eq=False)
class Recall:
    """Share of the known errors among the first 1 .. N suspects (N,), and its AUC_R.

    `precision` is the share of real errors among the rows the fix changed; NaN if not measured.
    """

    curve: np.ndarray
    auc_r: float
    num_training_rows: int
    precision: float = float("nan")


@dataclass(frozen=True, eq=False)
class Story:
    """Everything a report shows. Only title, query, complaints and answer are required.

    Attributes
    ----------
    lead : one or two sentences under the title.
    findings : the numbers to remember.
    facts : what model and data are: rows, classes, parameters.
    column : the complained-about column of the answer; group : what its rows stand for.
    answer : its rows, in order.
    fix : how the rows to change were chosen, in a sentence.
    examples : the top suspects, best first.
    families : kinds of change compared.
    predicates : conditions that describe the rows that are blamed.
    rounds : of a repair loop.
    num_applied : interventions applied in all; more than `examples` when the page shows a part.
    trust : what the training labels say about the complaint, in a sentence.
    coverage : share of the complaint's gradient that the index captures, [0, 1], or None.
    timings : seconds by step.
    reproduce : shell commands.
    """

    title: str
    query: str
    complaints: tuple[str, ...]
    column: str
    answer: tuple[AnswerRow, ...]
    group: str = "group"
    lead: str = ""
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    fix: str = ""
    examples: tuple[Example, ...] = ()
    num_applied: int = 0
    cumulative: tuple[Cumulative, ...] = ()
    recall: Recall | None = None
    families: Families | None = None
    predicates: Predicates | None = None
    rounds: Rounds | None = None
    spectrum: Spectrum | None = None
    trust: str = ""
    coverage: float | None = None
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    reproduce: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.answer:
            raise DataError("`answer` has no rows: there is nothing to report.")
