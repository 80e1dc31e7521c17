"""Accuracy of what a monitor sees: labels as they come, and an estimate for rows without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.stream.blend import Estimate, blend
from rainpp.stream.buckets import Buckets
from rainpp.stream.evidence import MeanSequence
from rainpp.stream.outcomes import Outcomes, Tally
from rainpp.types import ClassValue

Index = NDArray[np.int64]
_NONE = -1
# The pane of a row that is not known, or not of this model.
NO_PANE = -(1 << 62)
# Of the labels that come while a window is watched; see `MeanSequence`.
_ALPHA = 0.05


_KINDS = {"pane": np.int64, "bucket": np.int32, "predicted": np.int16, "label": np.int32}
_EMPTY = {"pane": NO_PANE, "bucket": _NONE, "predicted": _NONE, "label": _NONE}


class Ledger:
    """For every row since the oldest that is kept: pane, bucket, predicted class, label.

    18 bytes a row in arrays that double, so that a label finds its row in constant time.
    """

    def __init__(self) -> None:
        self._first = 0
        self._columns = {name: np.full(1024, _EMPTY[name], kind) for name, kind in _KINDS.items()}

    def write(self, numbers: Index, **columns: Any) -> None:
        """Set columns of rows."""
        if not len(numbers):
            return
        at = numbers - self._first
        while int(at.max()) >= len(self._columns["pane"]):
            self._columns = {
                name: np.concatenate([column, np.full_like(column, _EMPTY[name])])
                for name, column in self._columns.items()
            }
        for name, values in columns.items():
            self._columns[name][at] = values

    def read(self, name: str, numbers: Index) -> Index:
        """A column of rows; -1, or no pane, where it was never set."""
        column = self._columns[name]
        at = numbers - self._first
        inside = (at >= 0) & (at < len(column))
        return np.where(inside, column[np.where(inside, at, 0)], _EMPTY[name]).astype(np.int64)

    def forget(self, before: int) -> None:
        """Drop rows with smaller numbers."""
        gone = min(before - self._first, len(self._columns["pane"]) - 1024)
        if gone >= 1024:
            self._columns = {name: column[gone:].copy() for name, column in self._columns.items()}
            self._first += gone


@dataclass(frozen=True)
class Standing:
    """Accuracy of one window."""

    estimate: Estimate
    rows: int
    labelled: int
    correct: int

    @property
    def sure(self) -> tuple[float, float]:
        """Where it lies, however often one has looked while labels came.

        The estimate's interval, widened to hold at all times for the labels alone.
        """
        low, high = self.estimate.low, self.estimate.high
        if not self.labelled or self.estimate.basis == "iw":
            return low, high
        always = MeanSequence(_ALPHA).interval(self.labelled, self.correct)
        return min(low, float(always[0])), max(high, float(always[1]))


class Quality:
    """Accuracy by window, from labels and, where `buckets` are given, from a reference."""

    def __init__(
        self,
        classes: Sequence[ClassValue],
        buckets: Buckets | None,
        panes_of: Callable[[int], list[int]],
    ) -> None:
        self._classes = {value: number for number, value in enumerate(classes)}
        self._values = list(classes)
        self._buckets, self._panes_of = buckets, panes_of
        width = 1 if buckets is None else len(buckets)
        # One class more, for labels that the model does not know.
        self._outcomes = Outcomes(len(self._classes) + 1, buckets=width)
        self._ledger = Ledger()
        # The last window whose labels contradicted the reference.
        self._contradicted: int | None = None
        # What was last read of a window: most have not changed since.
        self._blends: dict[int, tuple[bytes, Estimate, Estimate]] = {}

    def arrived(
        self, numbers: Index, panes: Index, predicted: Index, rows: pa.Table, labels: Sequence[Any]
    ) -> Callable[[], None]:
        """Rows that came, some with labels; the result takes them back."""
        buckets = np.zeros(len(numbers), np.int64)
        if self._buckets is not None:
            names = [str(column["name"]) for column in self._buckets.columns]
            buckets = self._buckets.assign({n: rows.column(n).to_numpy() for n in names})
        self._ledger.write(numbers, pane=panes, bucket=buckets, predicted=predicted, label=_NONE)
        self._outcomes.predicted(panes, buckets, predicted)
        codes = self.codes(labels)
        known = codes >= 0
        back = self.labelled(numbers[known], codes[known])

        def undo() -> None:
            back()
            self._outcomes.retracted(panes, buckets, predicted)
            self._ledger.write(numbers, pane=NO_PANE)

        return undo

    def left(self, numbers: Index) -> Callable[[], None]:
        """Rows that went; the result brings them back."""
        panes, buckets, predicted, labels = self._read(numbers)
        known = labels >= 0
        joined = (panes[known], buckets[known], predicted[known], labels[known])
        self._outcomes.unlabelled(*joined)
        self._outcomes.retracted(panes, buckets, predicted)
        self._ledger.write(numbers, pane=NO_PANE, label=_NONE)

        def undo() -> None:
            self._outcomes.predicted(panes, buckets, predicted)
            self._outcomes.labelled(*joined)
            self._ledger.write(
                numbers, pane=panes, bucket=buckets, predicted=predicted, label=labels
            )

        return undo

    def labelled(self, numbers: Index, codes: Index) -> Callable[[], None]:
        """Labels of rows, first or corrected, -1 for none; the result takes them back."""
        panes, buckets, predicted, before = self._read(numbers)
        had, has = before >= 0, codes >= 0
        old = (panes[had], buckets[had], predicted[had], before[had])
        new = (panes[has], buckets[has], predicted[has], codes[has])
        self._outcomes.unlabelled(*old)
        self._outcomes.labelled(*new)
        self._ledger.write(numbers, label=codes)

        def undo() -> None:
            self._outcomes.unlabelled(*new)
            self._outcomes.labelled(*old)
            self._ledger.write(numbers, label=before)

        return undo

    def codes(self, labels: Sequence[Any]) -> Index:
        """Class numbers of labels: -1 for NULL, R for a value that is no class."""
        other = len(self._classes)
        found = (_NONE if value is None else self._classes.get(value, other) for value in labels)
        return np.fromiter(found, np.int64, len(labels))

    def panes(self, numbers: Index) -> Index:
        """The pane of every row; NO_PANE where it is not known."""
        return self._ledger.read("pane", numbers)

    def labels(self, numbers: Index) -> Index:
        """The class number of every row's label; -1 where it has none."""
        return self._ledger.read("label", numbers)

    def there(self) -> list[int]:
        """Panes with rows."""
        return self._outcomes.panes

    def tally(self, window: int) -> Tally:
        """Counts of one window."""
        return self._outcomes.over(self._panes_of(window))

    def read(self, window: int, *, doubted: bool = False) -> Standing:
        """Accuracy of one window.

        Parameters
        ----------
        doubted : live rows do not look like the training rows, so the reference says little. The
            same holds for windows after one whose labels contradicted it. Of rows without labels
            nothing is known then: they may be all wrong or all right.
        """
        tally = self.tally(window)
        estimate, judged = self._blended(window, tally)
        live, labelled, correct = (
            int(part.sum()) for part in (tally.live, tally.labelled, tally.correct)
        )
        if self._buckets is None:
            estimate = _without_reference(estimate)
        elif labelled and judged.drifted:
            self._contradicted = window
        elif labelled and self._contradicted is not None and window > self._contradicted:
            self._contradicted = None
        after = self._contradicted is not None and window > self._contradicted
        if estimate.basis == "iw" and (doubted or after):
            ends = correct / live, (correct + live - labelled) / live
            estimate = replace(estimate, low=ends[0], high=ends[1], drifted=True)
        return Standing(estimate, live, labelled, correct)

    def _blended(self, window: int, tally: Tally) -> tuple[Estimate, Estimate]:
        """The estimate, and the one that says whether labels contradict the reference."""
        known = np.concatenate([tally.live, tally.labelled, tally.correct]).tobytes()
        before = self._blends.get(window)
        if before is not None and before[0] == known:
            return before[1:]
        rates, counts = np.zeros(len(tally.live)), np.zeros(len(tally.live))
        if self._buckets is not None:
            rates[:-1], counts[:-1] = self._buckets.rates, self._buckets.counts
        estimate = judged = blend(tally.live, tally.labelled, tally.correct, rates, counts)
        if estimate.coverage == 1 and self._buckets is not None:
            # Where every row is labelled the reference is not looked at: one more row, unlabelled.
            judged = blend(tally.live + 1, tally.labelled, tally.correct, rates, counts)
        self._blends[window] = known, estimate, judged
        return estimate, judged

    def confusion(self, window: int) -> pd.DataFrame:
        """Labelled rows of a window: predicted classes down, labels across."""
        matrix = self.tally(window).confusion.sum(0)[: len(self._values)]
        across = [*self._values, "other"]
        return pd.DataFrame(
            matrix, index=pd.Index(self._values, name="predicted"), columns=pd.Index(across)
        )

    def expire(self, before_pane: int | None, first_row: int) -> None:
        """Forget panes and rows that are not kept any more."""
        if before_pane is not None:
            self._outcomes.expire(before_pane)
            self._blends.clear()
        self._ledger.forget(first_row)

    def _read(self, numbers: Index) -> tuple[Index, Index, Index, Index]:
        names = ("pane", "bucket", "predicted", "label")
        first, *rest = (self._ledger.read(name, numbers) for name in names)
        return first, rest[0], rest[1], rest[2]


def _without_reference(estimate: Estimate) -> Estimate:
    """What labels alone say; nothing where there are none."""
    if estimate.coverage == 0:
        return replace(estimate, value=float("nan"), basis="none")
    return replace(estimate, basis="labels")


def as_frame(standings: Mapping[Any, Standing]) -> pd.DataFrame:
    """Accuracy of windows, by (first instant, first after it), as a frame."""
    parts = list(standings.values())
    estimates = [found.estimate for found in parts]
    columns: dict[str, Any] = {
        "window_start": np.array([start for start, _ in standings], "datetime64[us]"),
        "window_end": np.array([end for _, end in standings], "datetime64[us]"),
        "accuracy": np.array([item.value for item in estimates], float),
        "low": np.array([item.low for item in estimates], float),
        "high": np.array([item.high for item in estimates], float),
        # With its type said, as pandas takes 0.3 ms to find it out.
        "basis": pd.array([item.basis for item in estimates], "str"),
        "coverage": np.array([item.coverage for item in estimates], float),
        "unseen": np.array([item.unseen for item in estimates], float),
        "drifted": np.array([item.drifted for item in estimates], bool),
        "rows": np.array([found.rows for found in parts], np.int64),
        "labelled": np.array([found.labelled for found in parts], np.int64),
    }
    return pd.DataFrame(columns)
