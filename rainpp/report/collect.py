"""From the library's objects to what a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from rainpp.bound_complaint import BoundComplaint
from rainpp.complaint import Cell, Quantity
from rainpp.errors import ShapeError
from rainpp.fix import Fix
from rainpp.index.artifact import Index
from rainpp.intervention import Intervention
from rainpp.metrics import auc_r, recall_curve
from rainpp.ranking import Ranking
from rainpp.relax.ask import AnyAnswer
from rainpp.repair import RepairLoop
from rainpp.report.story import AnswerRow, Change, Cumulative, Example, Recall, Spectrum
from rainpp.result import Result
from rainpp.setting import Setting
from rainpp.types import ClassValue
from rainpp.verification import Verification

# What says how a complaint's number is to change, or has changed.
Proof = Fix | Verification | RepairLoop


def name_of(about: Quantity) -> str:
    """A short name for what a complaint is about: `n of 1`, or `n` for an answer with one row."""
    if not isinstance(about, Cell):
        return str(about).replace("`", "")
    group = ", ".join(str(value) for value in about.key.values())
    return f"{about.column} of {group}" if group else about.column


def answer_rows(
    result: Result,
    complaints: Sequence[BoundComplaint],
    proof: Proof | None = None,
    expected: Mapping[int, float] | None = None,
    most: int | None = None,
) -> tuple[AnswerRow, ...]:
    """The rows of the answer, for the column of the first complaint.

    Parameters
    ----------
    complaints : about cells of `result`, in the order they were ranked and verified.
    proof : what a fix promises, or a retraining gave.
    expected : right value by row position, beyond the targets of the complaints.
    most : so many rows, those complained about among them; all by default.
    """
    column = complaints[0].cell.column
    after = _after(result.setting, complaints, proof)
    promised = dict(
        zip([c.cell.row for c in complaints], _promised(complaints, proof), strict=True)
    )
    targets = {c.cell.row: c.want.target for c in complaints}
    rows: list[AnswerRow] = []
    for row in _shown(len(result.df()), targets, most):
        hard, relaxed = result.answer.cell(row, column)
        key = result.answer.key(row)
        new = after.at(key, column) if after is not None else (None, None)
        rows.append(
            AnswerRow(
                key=", ".join(str(value) for value in key.values()) or "all",
                before=hard,
                before_relaxed=relaxed,
                predicted=promised.get(row),
                after=new[0],
                after_relaxed=new[1],
                expected={**(expected or {}), **_known(targets)}.get(row),
                complained=row in targets,
            )
        )
    return tuple(rows)


def quantity_rows(
    complaints: Sequence[BoundComplaint], proof: Proof | None = None
) -> tuple[AnswerRow, ...]:
    """What each complaint is about, where that is no column of one answer."""
    rows: list[AnswerRow] = []
    for bound, promised in zip(complaints, _promised(complaints, proof), strict=True):
        after = _after(bound.result.setting, complaints, proof)
        new = bound.about.read(after) if after is not None else (None, None)
        rows.append(
            AnswerRow(
                name_of(bound.about),
                bound.complaint.hard,
                bound.complaint.relaxed,
                promised,
                *new,
                expected=bound.want.target,
                complained=True,
            )
        )
    return tuple(rows)


def _after(
    setting: Setting, complaints: Sequence[BoundComplaint], proof: Proof | None
) -> AnyAnswer | None:
    """The answer by the model that was trained again, where there is one."""
    if proof is None or isinstance(proof, Fix):
        return None
    return setting.with_model(complaints[0].registered.name, proof.model).evaluate()


def _promised(
    complaints: Sequence[BoundComplaint], proof: Proof | None
) -> tuple[float | None, ...]:
    """The relaxed value that was promised for each complaint; rounds have promises of their own."""
    if isinstance(proof, Verification):
        return tuple(outcome.predicted for outcome in proof.outcomes)
    if isinstance(proof, Fix) and len(complaints) == 1:
        complaint = complaints[0].complaint
        return (complaint.relaxed + complaint.direction * proof.together.effect,)
    return (None,) * len(complaints)


def _shown(count: int, targets: Mapping[int, Any], most: int | None) -> list[int]:
    """Which rows, in order: the first ones, after those complained about."""
    wanted = sorted(range(count), key=lambda row: (row not in targets, row))
    return sorted(wanted[: max(most or count, len(targets))])


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
    chosen: Sequence[Intervention] | None = None,
) -> tuple[Example, ...]:
    """The top `count` rows of a ranking, with the effect on each complaint's own cell.

    Parameters
    ----------
    chosen : the first of these instead.
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
    if chosen is not None:
        positions = table.positions_of(chosen[:count])
    rows, labels = table.rows(positions), table.new_labels(positions)
    repairs = [
        table.repairs[number] if number >= 0 else None for number in table.repair_numbers(positions)
    ]
    changes = [(name_of(item.about), cell_changes(ranking, item)) for item in complaints]
    return tuple(
        Example(
            train_id=table.ids[row].item(),
            old_label=_label(ranking, table.labels[row]),
            new_label=None if label < 0 else _label(ranking, label),
            changes=tuple(Change(cell, float(amounts[at])) for cell, amounts in changes),
            plausibility=float(ranking.plausibility[at]),
            true_label=None if truth is None else _plain(truth[row]),
            image=None if images is None else images[row],
            repair=repair,
        )
        for at, row, label, repair in zip(positions, rows, labels, repairs, strict=True)
    )


def with_columns(
    examples: Sequence[Example], items: Sequence[Intervention], rows: pd.DataFrame
) -> tuple[Example, ...]:
    """Examples of `items` with the columns of their training rows."""
    found: list[Example] = []
    for example, item in zip(examples, items, strict=True):
        values = rows.iloc[item.row]
        columns = {str(name): _plain(value) for name, value in values.items()}
        found.append(replace(example, columns=columns))
    return tuple(found)


def _label(ranking: Ranking, label: Any) -> ClassValue:
    """The SQL value of a class; the number itself, or all of them, for a model of numbers."""
    if ranking.classes:
        return ranking.classes[int(label)]
    values = np.asarray(label).reshape(-1).tolist()
    return values[0] if len(values) == 1 else str(values)


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
        cell=name_of(complaint.about),
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
