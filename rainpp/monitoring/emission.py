"""Which cells of the answer a batch changed, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from rainpp.monitoring.alarm import Seen
from rainpp.monitoring.delta import Delta, Status
from rainpp.stream.cells import Key, Place
from rainpp.stream.packing import key_text, read_key
from rainpp.stream.reading import Reading, Row
from rainpp.stream.window import as_datetime

# Half the width of a 95 % interval in standard deviations.
INTERVAL = 1.959963984540054
# What a datetime can say, with a day to spare: 0001-01-02 and 9999-12-30, in microseconds.
_FIRST, _LAST = -62_135_510_400_000_000, 253_402_128_000_000_000
Bounds = tuple[int, int] | None


@dataclass(eq=False)
class Said:
    """What was last said about a row of the answer in a window."""

    revision: int
    final: bool
    values: tuple[tuple[float, float], ...]
    rows: float


def as_times(bounds: Bounds) -> tuple[datetime | None, datetime | None]:
    """Bounds of a window as times; None where a window has no such end."""
    if bounds is None:
        return None, None
    start, end = (as_datetime(at) if _FIRST <= at <= _LAST else None for at in bounds)
    return start, end


@dataclass(frozen=True, eq=False)
class Spoken:
    """One row of the answer and the changes that say so."""

    row: Row
    seen: Seen
    deltas: list[Delta]


class Emission:
    """Revisions and status of every cell of the windows that are kept."""

    def __init__(self, monitor: str, key_names: tuple[str, ...], *, together: bool) -> None:
        """`together`: the groups of a window end at one instant, as they do not in sessions."""
        self._monitor, self._key_names, self._together = monitor, key_names, together
        self._said: dict[int, dict[Key, Said]] = {}
        self._open: dict[int, set[Key]] = {}
        self._log: list[tuple[Place, Said | None]] = []

    def known(self, window: int) -> list[Key]:
        """Rows of the answer that something was said about."""
        return list(self._said.get(window, ()))

    def due(self, mark: int | None, bounds: Callable[[int, Key], Bounds]) -> list[Place]:
        """Rows of windows that the watermark has passed and that were not said to be final."""
        found: list[Place] = []
        if mark is None:
            return found
        for window, keys in self._open.items():
            for key in keys:
                at = bounds(window, key)
                if at is not None and at[1] <= mark:
                    found.append((window, key))
                elif self._together:
                    break
        return found

    def say(
        self,
        window: int,
        row: Row,
        *,
        bounds: Bounds,
        mark: int | None,
        model: str,
        seq: int,
    ) -> Spoken | None:
        """The changes of one row; None if nothing about it is new."""
        place = (window, row.key)
        before = self._said.get(window, {}).get(row.key)
        over = bounds is not None and mark is not None and bounds[1] <= mark
        values = tuple((cell.plain, cell.relaxed) for cell in row.cells.values())
        same = before is not None and _equal(before.values, values) and before.rows == row.rows
        if before is None and not row.rows and self._key_names:
            return None
        if same and before is not None and before.final == over:
            return None
        revision = 0 if before is None else before.revision + 1
        status = _status(before, over, gone=not row.rows and bool(self._key_names))
        self._log.append((place, before))
        self._set(place, Said(revision, over, values, row.rows))
        return self._spoken(
            window,
            row,
            as_times(bounds),
            mark=mark,
            model=model,
            seq=seq,
            said=(revision, status, over),
        )

    def retract(
        self, place: Place, columns: Iterable[str], *, mark: int | None, model: str, seq: int
    ) -> Spoken | None:
        """The end of a row of the answer, as of a session that became part of another.

        Its numbers are NaN and its window has no end any more. None if nothing was said about it.
        """
        window, key = place
        before = self._said.get(window, {}).get(key)
        self._log.append((place, before))
        self._set(place, None)
        if before is None or not before.rows:
            return None
        nothing = Reading(float("nan"), float("nan"), float("nan"), np.zeros(0))
        return self._spoken(
            window,
            Row(key, present=False, rows=0.0, cells=dict.fromkeys(columns, nothing)),
            (as_times((window, window))[0], None),
            mark=mark,
            model=model,
            seq=seq,
            said=(before.revision + 1, "retracted", False),
        )

    def _spoken(
        self,
        window: int,
        row: Row,
        times: tuple[datetime | None, datetime | None],
        *,
        mark: int | None,
        model: str,
        seq: int,
        said: tuple[int, Status, bool],
    ) -> Spoken:
        """The changes of one row; `said` are its revision, its status, and whether it is final."""
        revision, status, final = said
        group = dict(zip(self._key_names, row.key, strict=True))
        deltas = [
            Delta(
                monitor=self._monitor,
                column=column,
                group=group,
                window=times,
                revision=revision,
                status=status,
                value=cell.plain,
                relaxed=cell.relaxed,
                low=cell.relaxed - INTERVAL * cell.spread,
                high=cell.relaxed + INTERVAL * cell.spread,
                rows=row.rows,
                watermark=None if mark is None else as_times((mark, mark))[0],
                model=model,
                seq=seq + number,
            )
            for number, (column, cell) in enumerate(row.cells.items())
        ]
        return Spoken(row, Seen(group, window, times, final, row.rows, row.cells), deltas)

    def begin(self) -> Callable[[], None]:
        """From here on changes are remembered; the result takes them back."""
        log = self._log = []

        def undo() -> None:
            for place, before in reversed(log):
                self._set(place, before)

        return undo

    def forget(self, windows: Iterable[int]) -> None:
        """Windows that are not kept any more."""
        for window in windows:
            self._said.pop(window, None)
            self._open.pop(window, None)

    def windows(self) -> list[int]:
        """Windows that something was said about."""
        return sorted(self._said)

    def line(self, window: int, key: Key) -> list[Any]:
        """What was last said about a row of the answer, as JSON values; see `restore`."""
        said = self._said.get(window, {}).get(key)
        if said is None:
            return [window, key_text(key)]
        return [
            window,
            key_text(key),
            said.revision,
            said.final,
            _numbers(said.values),
            said.rows,
        ]

    def body(self) -> list[Any]:
        """The state as JSON values."""
        return [self.line(window, key) for window, rows in self._said.items() for key in rows]

    def restore(self, body: Iterable[Any]) -> None:
        """The inverse of `body`."""
        for window, text, *rest in body:
            said = None
            if rest:
                revision, final, values, rows = rest
                pairs = tuple((_float(a), _float(b)) for a, b in values)
                said = Said(revision, final, pairs, rows)
            self._set((window, read_key(text)), said)

    def _set(self, place: Place, said: Said | None) -> None:
        window, key = place
        rows, keys = self._said.setdefault(window, {}), self._open.setdefault(window, set())
        if said is None:
            rows.pop(key, None)
        else:
            rows[key] = said
        if said is None or said.final:
            keys.discard(key)
        else:
            keys.add(key)
        if not keys:
            del self._open[window]
        if not rows:
            del self._said[window]


def _status(before: Said | None, over: bool, *, gone: bool) -> Status:
    if gone:
        return "retracted"
    if not over:
        return "provisional"
    return "corrected" if before is not None and before.final else "final"


def _equal(left: tuple[tuple[float, float], ...], right: tuple[tuple[float, float], ...]) -> bool:
    return bool(np.array_equal(np.asarray(left), np.asarray(right), equal_nan=True))


def _numbers(values: Any) -> list[list[float | None]]:
    return [[None if number != number else number for number in pair] for pair in values]


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
