"""What stands behind a change or an alarm: the complaint, the training rows, what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd

from rainpp.complaint import Cell, Complaint, Want
from rainpp.errors import ArtifactError, ComplaintError, RainError
from rainpp.index.artifact import Index
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.delta import Delta
from rainpp.ranking import Ranking
from rainpp.relax.lookup import find_row
from rainpp.result import Result
from rainpp.selection import leading
from rainpp.types import ClassValue

if TYPE_CHECKING:
    from rainpp.bound_complaint import BoundComplaint


@dataclass(frozen=True)
class Reaction:
    """One thing to do about an alarm.

    Attributes
    ----------
    kind : "delete", "relabel" or the name of a repair.
    rows : how many training rows it changes.
    train_ids : which, the best first.
    labels : the new label of each, as SQL knows it; None for other kinds.
    effect : how far it is predicted to move the number, in its units; first order.
    after : the number then.
    resolves : whether that is enough.
    """

    kind: str
    rows: int
    train_ids: tuple[Any, ...] = field(repr=False)
    labels: tuple[Any, ...] | None = field(repr=False)
    effect: float
    after: float
    resolves: bool

    def __str__(self) -> str:
        named = [str(row) for row in self.train_ids[:5]]
        if self.labels is not None:
            named = [f"{row} to {new}" for row, new in zip(named, self.labels[:5], strict=True)]
        ids = ", ".join(named) + (", ..." if self.rows > 5 else "")
        enough = "enough" if self.resolves else "not enough"
        return (
            f"{self.kind} {self.rows} rows ({ids}): {self.after:.3g} by their single effects, "
            f"{enough}"
        )


class Context:
    """How a handler asks about what it was told; everything is as of that change."""

    def __init__(
        self,
        about: Alarm | Delta,
        *,
        sql: str,
        index: Index,
        classes: tuple[ClassValue, ...],
        gradient: Callable[[], np.ndarray],
        result: Callable[[bool], Result],
        ask: Callable[[str], pd.DataFrame],
    ) -> None:
        self.about = about
        self._sql, self._index, self._classes = sql, index, classes
        self._gradient, self._result, self._ask = gradient, result, ask

    @property
    def index(self) -> Index:
        """What ranks: the index of the model that answers now."""
        return self._index

    @property
    def classes(self) -> tuple[ClassValue, ...]:
        """SQL value of each class."""
        return self._classes

    @property
    def gradient(self) -> np.ndarray:
        """The derivative of the number along the eigenvectors of the index (k,).

        Raises
        ------
        RainError : as `explain`.
        """
        return self._gradient()

    @property
    def wish(self) -> Want:
        """What should become of the number: from the alarm, else nothing is known."""
        if isinstance(self.about, Alarm):
            beyond = (self.about.value - self.about.target) * (
                1 if self.about.should == "decrease" else -1
            )
            if beyond > 0:
                word = "at_most" if self.about.should == "decrease" else "at_least"
                return Want.of(word, self.about.target)
            return Want.of(self.about.should)
        raise ComplaintError(
            "a change by itself is no complaint; say what is wrong: ctx.complain('lower')."
        )

    def complain(self, wanted: float | str | None = None) -> Complaint:
        """The number as a complaint.

        Parameters
        ----------
        wanted : what it should be, "lower" or "higher"; by default what the alarm says.

        Raises
        ------
        ComplaintError : the number is as wanted, or nothing was said about a mere change.
        """
        want = self.wish if wanted is None else _want(wanted)
        about = self.about
        cell = Cell(about.column, 0, dict(about.group))
        return Complaint(self._sql, cell, want, about.value, about.relaxed)

    def explain(self, wanted: float | str | None = None) -> Ranking:
        """All interventions ranked for the complaint, from the gradient that was kept up to date.

        Nothing is recomputed: k numbers are multiplied with the index.

        Raises
        ------
        ComplaintError : as `complain`.
        ArtifactError : the model or the index is another one by now.
        """
        complaint = self.complain(wanted)
        vector = complaint.direction * self._gradient()
        return self._index.rank(vector, complaints=(complaint,), classes=self._classes)

    def suggest(
        self, wanted: float | str | None = None, *, most: int | None = None
    ) -> list[Reaction]:
        """For every kind of intervention the fewest rows predicted to settle the complaint.

        Parameters
        ----------
        wanted : as for `complain`.
        most : rows of a kind that are looked at; a tenth of the training rows by default, as single
            effects of more say little about what they do together.

        Effects are first order and added up; `ctx.bound().rank().group_effect(...)` says what many
        rows do together. Those that suffice come first, then those of few rows.
        """
        return reactions(self.explain(wanted), (self.complain(wanted),), most)

    def result(self) -> Result:
        """The query run again over the rows of the window: to refine, explain and verify.

        Raises
        ------
        RainError : the inputs of the rows are not kept.
        """
        return self._result(False)

    def bound(self, wanted: float | str | None = None) -> BoundComplaint:
        """The complaint on `result()`; `wanted` as for `complain`, errors are those of both."""
        want = self.wish if wanted is None else _want(wanted)
        group = dict(self.about.group)
        result = self.result()
        if group and not _has(result, group):
            # SQL leaves out groups of which no row counts; asked for by itself, such a group is 0.
            result, group = self._result(True), {}
        return result.complain(
            column=self.about.column, where=group or None, should=want.should, target=want.target
        )

    def training_row(self, train_id: Any) -> dict[str, Any]:
        """Inputs and label of a training row that `explain` names.

        Raises
        ------
        RainError : the index came without its training rows, or has no such row.
        """
        training = self._index.training
        if training is None:
            raise RainError(
                "the training rows are not at hand; give data=(inputs, labels) to rainpp.monitor."
            )
        found = np.flatnonzero(training.ids == train_id)
        if not len(found):
            raise RainError(f"there is no training row {train_id!r}.")
        at = int(found[0])
        inputs = jax.tree.map(lambda leaf: np.asarray(leaf[at]).tolist(), training.inputs)
        return {"inputs": inputs, "label": training.labels[at].item()}

    def sql(self, query: str) -> pd.DataFrame:
        """A query over the monitor's state file."""
        return self._ask(query)


def _has(result: Result, group: dict[str, Any]) -> bool:
    try:
        find_row(result.df(), None, group)
    except ComplaintError:
        return False
    return True


def _want(wanted: float | str) -> Want:
    words = {"lower": "decrease", "higher": "increase"}
    if isinstance(wanted, str):
        if wanted not in words:
            raise ComplaintError(f"`wanted` is {wanted!r}; give a number, 'lower' or 'higher'.")
        return Want.of(words[wanted])
    return Want.of("equal", wanted)


@dataclass(frozen=True)
class _Course:
    """Where a number is, which way it should go, and by how much; infinity without a target."""

    hard: float
    direction: float
    needed: float

    @staticmethod
    def of(complaints: Sequence[Complaint]) -> _Course:
        """Of the sum of the numbers; where some should rise and some fall, of their distance."""
        targets = [item.want.target for item in complaints]
        gaps = [
            float("inf") if target is None else abs(target - item.hard)
            for item, target in zip(complaints, targets, strict=True)
        ]
        directions = {item.direction for item in complaints}
        if len(directions) > 1:
            return _Course(sum(gaps), -1.0, sum(gaps))
        return _Course(sum(item.hard for item in complaints), directions.pop(), sum(gaps))


def reactions(
    ranking: Ranking, complaints: Sequence[Complaint], most: int | None
) -> list[Reaction]:
    """What `Context.suggest` says; for several complaints about their sum."""
    course = _Course.of(complaints)
    limit = max(1, ranking.interventions.num_rows // 10) if most is None else most
    table = ranking.interventions
    found = [_reaction(ranking, kind, course, limit) for kind in table.kinds]
    known = [reaction for reaction in found if reaction is not None]
    return sorted(known, key=lambda item: (not item.resolves, item.rows))


def _reaction(ranking: Ranking, kind: str, course: _Course, most: int) -> Reaction | None:
    places = kind_places(ranking, kind, most)
    if not len(places):
        return None
    summed = np.cumsum(ranking.effects[places])
    enough = np.flatnonzero(summed >= course.needed)
    count = int(enough[0]) + 1 if len(enough) else int(np.argmax(summed)) + 1
    if summed[count - 1] <= 0:
        return None
    ids = tuple(ranking.interventions.ids[ranking.interventions.rows(places[:count])].tolist())
    effect = float(summed[count - 1]) * course.direction
    after = course.hard + effect
    return Reaction(
        kind, count, ids, _labels(ranking, kind, places[:count]), effect, after, bool(len(enough))
    )


def _labels(ranking: Ranking, kind: str, places: np.ndarray) -> tuple[Any, ...] | None:
    if kind != "relabel":
        return None
    numbers = ranking.interventions.new_labels(places).tolist()
    return tuple(numbers if ranking.classes is None else (ranking.classes[n] for n in numbers))


def kind_places(ranking: Ranking, kind: str, most: int) -> np.ndarray:
    """The best interventions of one kind by score, at most one for each training row."""
    where = ranking.interventions.of(kind)
    labels = max(1, (where.stop - where.start) // max(1, ranking.interventions.num_rows))
    found = where.start + leading(ranking.scores[where], most * labels)
    rows = ranking.interventions.rows(found)
    first = np.sort(np.unique(rows, return_index=True)[1])
    return found[first][:most]


def check_same(expected: str, now: str) -> None:
    """Refuse to rank with another index than the gradient was made with.

    Raises
    ------
    ArtifactError : the model or index was exchanged.
    """
    if expected != now:
        raise ArtifactError(
            "the model or its index has been exchanged since; the gradient of this change belongs "
            f"to {expected[:12]}, the monitor has {now[:12]}."
        )
