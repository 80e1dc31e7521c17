"""Any labelled metric, kept in constant time per label: counts that are added and taken away.

Per pane of time and bucket there is one record: how many rows were predicted as each class, and of
the labelled ones the confusion matrix. Records of panes and of workers add up; a corrected label or
a retraction is subtracted. So one label costs the same whether ten thousand or ten million came
before it, and every metric that depends on the confusion matrix can be read for (Shankar &
Parameswaran, "Towards observability for production machine learning pipelines", §3.2.1)

(a) all rows until now (`ever`), also those of panes that have expired;
(b) the last t panes, counted back from the newest pane seen (`last`), or any panes (`over`);
(c) the last k labels in the order in which they came (`recent`): of these k arrivals, those not
    taken back. A corrected label is taken back and comes anew. No ids are kept: what is taken back
    is the newest arrival of the same pane, bucket, prediction and label.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.errors import DataError, SettingsError

__all__ = ["Outcomes", "Tally"]

Counts = NDArray[np.int64]
_INTEGERS = (int, np.integer)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over some panes; the last of the B + 1 buckets holds the rows of none.

    Metrics are NaN where they divide by zero. R is the number of classes.
    """

    predicted: Counts  # (B + 1, R) rows predicted as each class, labelled or not
    confusion: Counts  # (B + 1, R, R) labelled rows: predicted class × label

    @property
    def live(self) -> Counts:
        """Predictions per bucket (B + 1,)."""
        return self.predicted.sum(1)

    @property
    def labelled(self) -> Counts:
        """Labelled predictions per bucket (B + 1,)."""
        return self.confusion.sum((1, 2))

    @property
    def correct(self) -> Counts:
        """Right ones among the labelled per bucket (B + 1,)."""
        return np.trace(self.confusion, axis1=1, axis2=2)

    def metric(self, function: Callable[[Counts], Any]) -> Any:
        """What `function` makes of the confusion matrix (R, R), predicted class × label."""
        return function(self.confusion.sum(0))

    def accuracy(self) -> float:
        """Share of right predictions among the labelled rows."""
        return _ratio(self.correct.sum(), self.confusion.sum())

    def error_rate(self) -> float:
        """Share of wrong predictions among the labelled rows."""
        return 1 - self.accuracy()

    def precision(self, c: int) -> float:
        """Share of label `c` among the labelled rows predicted as `c`."""
        matrix = self._matrix(c)
        return _ratio(matrix[c, c], matrix[c].sum())

    def recall(self, c: int) -> float:
        """Share predicted as `c` among the rows of label `c`."""
        matrix = self._matrix(c)
        return _ratio(matrix[c, c], matrix[:, c].sum())

    def f1(self, c: int) -> float:
        """Harmonic mean of precision and recall of class `c`."""
        matrix = self._matrix(c)
        return _ratio(2 * matrix[c, c], matrix[c].sum() + matrix[:, c].sum())

    def _matrix(self, c: int) -> Counts:
        if not isinstance(c, _INTEGERS) or not 0 <= c < self.predicted.shape[1]:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`c` is {c!r}; classes are 0 to {self.predicted.shape[1] - 1}.")
        return self.confusion.sum(0)


class Outcomes:
    """Additive counts of predictions and labels, by pane and bucket.

    Parameters
    ----------
    classes : R; predictions and labels are 0 to R - 1.
    buckets : B; bucket numbers are 0 to B - 1, or -1 for a row in none.
    recent : how many of the last labels `recent()` looks at.

    Notes
    -----
    A pane takes 8 (B + 1) R (R + 1) bytes, whatever the number of its rows. All methods that take
    rows accept one row as plain integers (a few microseconds) or arrays (n,), of which `panes` and
    `buckets` may be one number for all. They raise DataError for a number out of range or for
    more taken away than is there, and have then changed nothing.

    Examples
    --------
    >>> seen = Outcomes(classes=2)
    >>> seen.predicted(0, 0, [1, 1, 0])
    >>> seen.labelled(0, 0, [1, 1], [1, 0])
    >>> seen.last(1).accuracy(), seen.last(1).precision(1), seen.ever().live.tolist()
    (0.5, 0.5, [3, 0])
    """

    def __init__(self, classes: int, *, buckets: int = 1, recent: int = 1000) -> None:
        for name, value in (("classes", classes), ("buckets", buckets), ("recent", recent)):
            if isinstance(value, bool) or not isinstance(value, _INTEGERS) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SettingsError(f"`{name}` is {value!r}; it must be a whole number >= 1.")
        self.classes, self.buckets = int(classes), int(buckets)
        # One flat row of counts per pane: B + 1 times (R predicted, then R × R labelled).
        self._labels_at = (self.buckets + 1) * self.classes
        self._width = self._labels_at * (1 + self.classes)
        self._ever = np.zeros(self._width, np.int64)
        self._panes: dict[int, Counts] = {}
        self._horizon = -(1 << 63)
        self._ring = _Ring(int(recent), self._width)

    def predicted(self, panes: Any, buckets: Any, classes: Any) -> None:
        """Rows were predicted as `classes`."""
        self._add(panes, self._cells(buckets, classes), 1)

    def retracted(self, panes: Any, buckets: Any, classes: Any) -> None:
        """Predictions are taken back; their labels, if any, by `unlabelled`."""
        self._add(panes, self._cells(buckets, classes), -1)

    def labelled(self, panes: Any, buckets: Any, predicted: Any, labels: Any) -> None:
        """Labels came for rows; `panes` and `buckets` are those of the prediction."""
        cells = self._cells(buckets, predicted, labels)
        self._add(panes, cells, 1)
        self._ring.push(panes, cells)

    def unlabelled(self, panes: Any, buckets: Any, predicted: Any, labels: Any) -> None:
        """Labels are taken back; to correct one, take it back and give the right one."""
        cells = self._cells(buckets, predicted, labels)
        self._add(panes, cells, -1)
        self._ring.pull(panes, cells)

    def expire(self, before_pane: int) -> None:
        """Forget every pane before this one.

        Its rows stay in `ever` and among the `recent` labels; what comes late for it changes
        these alone.
        """
        self._horizon = max(self._horizon, int(before_pane))
        for pane in [pane for pane in self._panes if pane < self._horizon]:
            del self._panes[pane]

    @property
    def panes(self) -> list[int]:
        """Panes that hold a record, ascending."""
        return sorted(self._panes)

    def ever(self) -> Tally:
        """All rows until now, expired ones among them."""
        return self._tally(self._ever)

    def over(self, panes: Iterable[int]) -> Tally:
        """The rows of these panes; one that is not there counts as empty."""
        total = np.zeros(self._width, np.int64)
        for pane in set(panes):
            if pane in self._panes:
                total += self._panes[pane]
        return self._tally(total)

    def last(self, t: int) -> Tally:
        """The rows of the t panes that end with the newest one seen and not expired."""
        if not isinstance(t, _INTEGERS) or t < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`t` is {t!r}; it must be a number of panes >= 1.")
        newest = max(self._panes, default=0)
        return self.over(pane for pane in self._panes if pane > newest - t)

    def recent(self) -> Tally:
        """The last k labels, whatever their pane; `predicted` counts labelled rows only."""
        tally = self._tally(self._ring.counts)
        return Tally(tally.confusion.sum(2), tally.confusion)

    def _tally(self, flat: Counts) -> Tally:
        sizes = self.buckets + 1, self.classes
        predicted = flat[: self._labels_at].reshape(sizes).copy()
        return Tally(predicted, flat[self._labels_at :].reshape(*sizes, self.classes).copy())

    def _cells(self, buckets: Any, *classes: Any) -> Any:
        """Where in a flat record rows are counted: an int for one row, else (n,)."""
        start = self._labels_at if len(classes) == 2 else 0
        if isinstance(buckets, int) and all(isinstance(c, int) for c in classes):
            if not -1 <= buckets < self.buckets or not all(0 <= c < self.classes for c in classes):
                raise self._out_of_range()
            cell = buckets if buckets >= 0 else self.buckets
            for c in classes:
                cell = cell * self.classes + c
            return start + cell
        numbers = [_integers(part) for part in (buckets, *classes)]
        numbers[0] = np.where(numbers[0] == -1, self.buckets, numbers[0])
        shape = (self.buckets + 1, *(self.classes for _ in classes))
        try:
            flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*numbers)), shape)
        except ValueError:
            raise self._out_of_range() from None
        return np.atleast_1d(flat) + start

    def _out_of_range(self) -> DataError:
        return DataError(
            f"a row is out of range: buckets are -1 to {self.buckets - 1}, classes and labels 0 "
            f"to {self.classes - 1}, in arrays of one length."
        )

    def _add(self, panes: Any, cells: Any, sign: int) -> None:
        """Count rows in the records of their panes and in the one of all."""
        if isinstance(cells, int) and isinstance(panes, int):
            self._add_one(panes, cells, sign)
            return
        cells, numbers = np.atleast_1d(cells), _integers(panes)
        if numbers.shape not in ((), (1,), cells.shape):
            raise DataError(f"`panes` has {numbers.size} entries for {cells.size} rows.")
        if cells.size == 0:
            return
        parts = _by_pane(numbers, cells)
        if sign < 0:
            self._check_there(parts)
        np.add.at(self._ever, cells, sign)
        for pane, some in parts:
            if pane >= self._horizon:
                np.add.at(self._record(pane), some, sign)

    def _add_one(self, pane: int, cell: int, sign: int) -> None:
        record = self._record(pane) if pane >= self._horizon else None
        if sign < 0 and (self._ever[cell] < 1 or (record is not None and record[cell] < 1)):
            raise _too_many()
        self._ever[cell] += sign
        if record is not None:
            record[cell] += sign

    def _record(self, pane: int) -> Counts:
        record = self._panes.get(pane)
        if record is None:
            record = self._panes[pane] = np.zeros(self._width, np.int64)
        return record

    def _check_there(self, parts: list[tuple[int, Counts]]) -> None:
        """Nothing can be taken away that was not counted."""
        everything = np.concatenate([some for _, some in parts])
        records = [(some, self._panes.get(pane)) for pane, some in parts if pane >= self._horizon]
        for some, record in [*records, (everything, self._ever)]:
            cells, times = np.unique(some, return_counts=True)
            if record is None or (record[cells] < times).any():
                raise _too_many()


class _Ring:
    """The last k labels that came, as pane and cell, and the sum of those not taken back."""

    def __init__(self, size: int, width: int) -> None:
        self.counts = np.zeros(width, np.int64)
        self._panes = np.zeros(size, np.int64)
        self._cells = np.full(size, -1, np.int64)  # -1: nothing there, or taken back
        self._next = 0

    def push(self, panes: Any, cells: Any) -> None:
        if isinstance(cells, int) and isinstance(panes, int):
            old = self._cells[self._next]
            if old >= 0:
                self.counts[old] -= 1
            self.counts[cells] += 1
            self._panes[self._next], self._cells[self._next] = panes, cells
            self._next = (self._next + 1) % self._cells.size
            return
        size, cells = self._cells.size, np.atleast_1d(cells)
        numbers = np.broadcast_to(_integers(panes), cells.shape)
        last = slice(max(cells.size - size, 0), None)
        places = (self._next + np.arange(cells.size)[last]) % size
        old = self._cells[places]
        np.subtract.at(self.counts, old[old >= 0], 1)
        np.add.at(self.counts, cells[last], 1)
        self._panes[places], self._cells[places] = numbers[last], cells[last]
        self._next = (self._next + cells.size) % size

    def pull(self, panes: Any, cells: Any) -> None:
        """Empty the newest place of every pair of pane and cell, as often as it is named."""
        size = self._cells.size
        if isinstance(cells, int) and isinstance(panes, int):
            same = np.flatnonzero((self._cells == cells) & (self._panes == panes))
            if same.size:
                self._empty(same[((same - self._next) % size).argmax()])
            return
        cells = np.atleast_1d(cells)
        numbers = np.broadcast_to(_integers(panes), cells.shape)
        newest = (self._next - 1 - np.arange(size)) % size
        newest = newest[np.isin(self._cells[newest], cells)]
        if newest.size == 0:
            return
        different, rank = np.unique(
            np.concatenate([numbers, self._panes[newest]]), return_inverse=True
        )
        pairs = rank + different.size * np.concatenate([cells, self._cells[newest]])
        pairs = np.unique(pairs, return_inverse=True)[1]
        wanted = np.bincount(pairs[: cells.size], minlength=int(pairs.max()) + 1)
        held = pairs[cells.size :]
        order = np.argsort(held, kind="stable")  # newest first within a pair
        held = held[order]
        nth = np.arange(held.size) - np.searchsorted(held, held)
        self._empty(newest[order[nth < wanted[held]]])

    def _empty(self, places: Any) -> None:
        np.subtract.at(self.counts, self._cells[places], 1)
        self._cells[places] = -1


def _by_pane(panes: NDArray[np.int64], cells: Counts) -> list[tuple[int, Counts]]:
    """Every pane with the cells of its rows."""
    if (panes == panes.flat[0]).all():
        return [(int(panes.flat[0]), cells)]
    order = np.argsort(panes, kind="stable")
    numbers = panes[order]
    starts = np.flatnonzero(np.diff(numbers)) + 1
    firsts = [0, *starts.tolist()]
    return list(zip(numbers[firsts].tolist(), np.split(cells[order], starts), strict=True))


def _too_many() -> DataError:
    return DataError(
        "more rows are taken back than were counted in their pane, bucket and class; nothing was "
        "changed. Take back what was given, once."
    )


def _integers(values: Any) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise DataError(
            f"panes, buckets, classes and labels are whole numbers; got dtype {array.dtype}."
        )
    if array.ndim > 1:
        raise DataError(f"rows must be (n,) numbers; got shape {array.shape}.")
    return array.astype(np.int64)


def _ratio(part: Any, whole: Any) -> float:
    return float(operator.truediv(int(part), int(whole))) if whole else float("nan")
