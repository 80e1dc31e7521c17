"""From the library's objects to what a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rainpp.bound_complaint import BoundComplaint
from rainpp.complaint import Cell
from rainpp.errors import ShapeError
from rainpp.index.artifact import Index
from rainpp.metrics import auc_r, recall_curve
from rainpp.ranking import Ranking
from rainpp.report.story import AnswerRow, Change, Cumulative, Example, Recall, Spectrum
from rainpp.result import Result
from rainpp.types import ClassValue
from rainpp.verification import Verification


def cell_name(cell: Cell) -> str:
    """A short name for a cell: `n of 1`, or `n` for an answer with one row."""
    group = ", ".join(str(value) for value in cell.key.values())
    return f"{cell.column} of {group}" if group else cell.column


def answer_rows(
    result: Result,
    complaints: Sequence[BoundComplaint],
    verification: Verification | None = None,
    expected: Mapping[int, float] | None = None,
) -> tuple[AnswerRow, ...]:
    """Every row of the answer, for the column of the first complaint.

    Parameters
    ----------
    complaints : about cells of `result`, in the order they were ranked and verified.
    expected : right value by row position, beyond the targets of the complaints.
    """
    column, name = complaints[0].cell.column, complaints[0].registered.name
    after = result
    if verification is not None:
        setting = result.setting.with_model(name, verification.model)
        after = Result(setting, setting.evaluate())
    outcomes = verification.outcomes if verification is not None else ()
    predicted = {o.complaint.cell.row: o.predicted for o in outcomes}
    targets = {c.cell.row: c.want.target for c in complaints}
    rows: list[AnswerRow] = []
    for row in range(len(result.df())):
        hard, relaxed = result.answer.cell(row, column)
        key = result.answer.key(row)
        new = after.answer.at(key, column) if verification is not None else (None, None)
        rows.append(
            AnswerRow(
                key=", ".join(str(value) for value in key.values()) or "all",
                before=hard,
                before_relaxed=relaxed,
                predicted=predicted.get(row),
                after=new[0],
                after_relaxed=new[1],
                expected={**(expected or {}), **_known(targets)}.get(row),
                complained=row in targets,
            )
        )
    return tuple(rows)


def _known(targets: Mapping[int, float | None]) -> dict[int, float]:
    return {row: value for row, value in targets.items() if value is not None}


def cell_changes(ranking: Ranking, complaint: BoundComplaint) -> np.ndarray:
    """Predicted signed change of the complaint's own cell under every intervention (N,).

    A ranking for several complaints holds a weighted sum of their effects; each complaint's own
    come from the index. With one complaint they are the ranking's, refined if it is.
    """
    alone = len(ranking.complaints) == 1 and not ranking.kept
    effects = ranking.effects if alone else complaint.index.rank(complaint.vector()).effects
    return complaint.complaint.direction * np.asarray(effects, np.float64)


def examples(
    ranking: Ranking,
    complaints: Sequence[BoundComplaint],
    *,
    count: int,
    images: np.ndarray | None = None,
    truth: Sequence[ClassValue] | np.ndarray | None = None,
) -> tuple[Example, ...]:
    """The top `count` rows of a ranking, with the effect on each complaint's own cell.

    Parameters
    ----------
    images : pixels of every training row (n, H, W) or (n, H, W, 3).
    truth : right label of every training row (n,), as SQL values, when they are known.

    Raises
    ------
    ShapeError : images or truth do not have n rows.
    """
    table = ranking.interventions
    for name, values in (("images", images), ("truth", truth)):
        if values is not None and len(values) != table.num_rows:
            raise ShapeError(f"`{name}` has {len(values)} rows; there are {table.num_rows}.")
    positions = ranking.positions(count)
    rows, labels = table.rows(positions), table.new_labels(positions)
    changes = [(cell_name(item.cell), cell_changes(ranking, item)) for item in complaints]
    return tuple(
        Example(
            train_id=table.ids[row].item(),
            old_label=_label(ranking, int(table.labels[row])),
            new_label=None if label < 0 else _label(ranking, int(label)),
            changes=tuple(Change(cell, float(amounts[at])) for cell, amounts in changes),
            plausibility=float(ranking.plausibility[at]),
            true_label=None if truth is None else _plain(truth[row]),
            image=None if images is None else images[row],
        )
        for at, row, label in zip(positions, rows, labels, strict=True)
    )


def _label(ranking: Ranking, label: int) -> ClassValue:
    return ranking.classes[label] if ranking.classes else label


def _plain(value: Any) -> ClassValue:
    return value.item() if isinstance(value, np.generic) else value


def cumulative(
    ranking: Ranking,
    complaint: BoundComplaint,
    *,
    shown: int,
    applied: int,
    retrained: float | None = None,
) -> Cumulative:
    """Predicted relaxed value of the complaint's cell along the ranking."""
    start = complaint.complaint.relaxed
    changes = cell_changes(ranking, complaint)[ranking.positions(shown)]
    return Cumulative(
        cell=cell_name(complaint.cell),
        start=start,
        values=start + np.cumsum(changes),
        applied=applied,
        retrained=retrained,
        target=complaint.want.target,
    )


def spectrum(index: Index) -> Spectrum:
    """The curvature's eigenvalues as far as they were computed, and how many are kept."""
    return Spectrum(np.asarray(index.arrays["spectrum"]), index.k, index.manifest["k_rule"])


def recall(ranking: Ranking, corrupted: np.ndarray, *, applied: int) -> Recall:
    """How well the ranking finds the rows known to be wrong (n,), and the precision of the fix."""
    scores = ranking.row_scores()
    rows = ranking.interventions.rows(ranking.positions(applied))
    return Recall(
        curve=recall_curve(scores, corrupted),
        auc_r=auc_r(scores, corrupted),
        num_training_rows=int(corrupted.size),
        precision=float(np.asarray(corrupted)[rows].mean()),
    )
