"""From changed panes to changed windows, for every kind of window."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rainpp.stream.cells import Array, Cells, Key, Layout, Place, Sums, added
from rainpp.stream.exact import LIMBS, rounded
from rainpp.stream.window import Last, Session, Window

Undo = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Changed:
    """What a batch did to the windows.

    Attributes
    ----------
    touched : for each side the (window, group) of records that changed.
    gone : windows that are no more: sessions that became part of another, or lost their rows.
    undo : takes the change back, if it cannot be written down.
    """

    touched: list[list[Place]]
    gone: list[Place]
    undo: Undo


class Windowed:
    """Records of windows that are sums of panes: one for every window and group, kept added up."""

    def __init__(self, window: Window, layouts: Sequence[Layout]) -> None:
        self.window, self.layouts = window, list(layouts)
        self.cells = [Cells(layout.width) for layout in layouts]

    def apply(self, changes: Sequence[Sums]) -> Changed:
        """Take in what a batch changes in the panes of every side."""
        before: list[Sums] = []
        touched: list[list[Place]] = []
        for cells, change in zip(self.cells, changes, strict=True):
            spread = self._spread(change, cells.width)
            before.append(cells.add(spread))
            touched.append(spread.places)

        def undo() -> None:
            for cells, records in zip(self.cells, before, strict=True):
                cells.put(records)

        return Changed(touched, [], undo)

    def _spread(self, change: Sums, width: int) -> Sums:
        """A change of panes as one of the windows they are part of."""
        covering = {pane: self.window.covering(pane) for pane, _ in change.places}
        if all(len(windows) == 1 for windows in covering.values()):
            places = [(covering[pane][0], key) for pane, key in change.places]
            return Sums(places, change.values)
        shifted: list[Sums] = []
        for step in range(max(map(len, covering.values()), default=0)):
            places = [(covering[pane][step], key) for pane, key in change.places]
            shifted.append(Sums(places, change.values))
        return added(shifted, width)

    def restore(self, records: Sequence[Sums]) -> None:
        """Take in what `cells` held when it was written down."""
        for cells, part in zip(self.cells, records, strict=True):
            cells.put(part)

    def oldest(self, horizon: int) -> int:
        """The event time before which no row is needed."""
        return horizon

    def windows(self) -> list[int]:
        """Windows that have records."""
        return sorted({pane for cells in self.cells for pane in cells.panes})

    def records(
        self, side: int, window: int, keys: Sequence[Key] | None = None
    ) -> tuple[list[Key], Array]:
        """Groups of one side in a window and their records (n, width); all groups by default."""
        cells = self.cells[side]
        chosen = cells.keys(window) if keys is None else list(keys)
        return chosen, rounded(cells.read([(window, key) for key in chosen]))

    def bounds(self, window: int, key: Key) -> tuple[int, int] | None:
        """First instant of a window and the first after it; None where nobody can say yet."""
        del key
        return self.window.bounds(window)

    def expire(self, before: int) -> list[int]:
        """Forget windows that ended at or before an instant; returns them."""
        old = [window for window in self.windows() if self.window.bounds(window)[1] <= before]
        for window in old:
            for cells in self.cells:
                cells.drop(window)
        return old


class SessionWindows(Windowed):
    """Sessions of every group: runs of instants no further apart than the gap.

    A window is named by its first instant. Adding a row can join two sessions and deleting one can
    part them; only the sessions near the changed instants are looked at.
    """

    def __init__(self, window: Session, layouts: Sequence[Layout]) -> None:
        super().__init__(window, layouts)
        self._gap = window.length
        self._instants: dict[Key, list[int]] = {}
        self._ends: dict[Key, dict[int, int]] = {}

    def apply(self, changes: Sequence[Sums]) -> Changed:
        """Take in changed instants; their sessions are formed anew."""
        (change,), (cells,) = changes, self.cells
        before = cells.add(change)
        changed: dict[Key, list[int]] = {}
        for pane, key in change.places:
            changed.setdefault(key, []).append(pane)
        kept = {
            key: (list(self._instants.get(key, ())), dict(self._ends.get(key, {})))
            for key in changed
        }
        touched: list[Place] = []
        gone: list[Place] = []
        for key, instants in changed.items():
            new, old = self._formed(key, instants)
            touched += [(start, key) for start in new]
            gone += [(start, key) for start in old]

        def undo() -> None:
            cells.put(before)
            for key, (instants, ends) in kept.items():
                self._instants.pop(key, None)
                self._ends.pop(key, None)
                if ends:
                    self._instants[key], self._ends[key] = instants, ends

        return Changed([touched], gone, undo)

    def restore(self, records: Sequence[Sums]) -> None:
        """Form the sessions of instants that were written down."""
        self.apply(records)

    def windows(self) -> list[int]:
        """First instants of sessions."""
        return sorted({start for ends in self._ends.values() for start in ends})

    def records(
        self, side: int, window: int, keys: Sequence[Key] | None = None
    ) -> tuple[list[Key], Array]:
        """Groups with a session that begins at `window`, and the sums of their sessions."""
        chosen = [
            key
            for key in (self._ends if keys is None else keys)
            if window in self._ends.get(key, {})
        ]
        cells = self.cells[side]
        found = [
            rounded(cells.summed([(at, key) for at in self._inside(key, window)])) for key in chosen
        ]
        return chosen, np.stack(found) if found else np.zeros((0, cells.width))

    def bounds(self, window: int, key: Key) -> tuple[int, int] | None:
        """The first instant, and the gap after the last."""
        end = self._ends.get(key, {}).get(window)
        return None if end is None else (window, end + self._gap)

    def expire(self, before: int) -> list[int]:
        """Forget sessions that ended, gap and all, before an instant."""
        old: list[int] = []
        for key, ends in list(self._ends.items()):
            for start, end in list(ends.items()):
                if end + self._gap > before:
                    continue
                for instant in self._inside(key, start):
                    self._drop(instant, key)
                del ends[start]
                old.append(start)
            if not ends:
                del self._ends[key]
                self._instants.pop(key, None)
        return old

    def _drop(self, instant: int, key: Key) -> None:
        cells = self.cells[0]
        zero = np.zeros((1, cells.width, LIMBS))
        cells.put(Sums([(instant, key)], zero))
        instants = self._instants[key]
        del instants[bisect_left(instants, instant)]

    def _inside(self, key: Key, start: int) -> list[int]:
        instants = self._instants[key]
        low = bisect_left(instants, start)
        return instants[low : bisect_right(instants, self._ends[key][start])]

    def _formed(self, key: Key, changed: Sequence[int]) -> tuple[list[int], list[int]]:
        """Starts of the sessions that changed, and of those that are no more."""
        instants, ends = self._instants.setdefault(key, []), self._ends.setdefault(key, {})
        low, high = min(changed) - self._gap, max(changed) + self._gap
        old = {start: end for start, end in ends.items() if start <= high and end >= low}
        for instant in changed:
            self._place(instants, instant, there=self.cells[0].holds((instant, key)))
        first, last = min([*old, *changed]), max([*old.values(), *changed])
        new = self._runs(instants[bisect_left(instants, first) : bisect_right(instants, last)])
        for start in old:
            del ends[start]
        ends.update(new)
        if not ends:
            del self._ends[key], self._instants[key]
        fresh = [
            start
            for start, end in new.items()
            if old.get(start) != end or any(start <= instant <= end for instant in changed)
        ]
        return fresh, [start for start in old if start not in new]

    def _place(self, instants: list[int], instant: int, *, there: bool) -> None:
        at = bisect_left(instants, instant)
        known = at < len(instants) and instants[at] == instant
        if there and not known:
            instants.insert(at, instant)
        elif known and not there:
            del instants[at]

    def _runs(self, instants: Sequence[int]) -> dict[int, int]:
        """First and last instant of runs no further apart than the gap."""
        found: dict[int, int] = {}
        start = None
        for before, instant in zip([None, *instants], instants, strict=False):
            if before is None or start is None or instant - before > self._gap:
                start = instant
            found[start] = instant
        return found


class LastWindows(Windowed):
    """The last rows: one window, in which a pane is a row and every new row pushes one out.

    Rows that no group counts take a place too. Rows beyond the last are kept until they expire: a
    deletion brings one of them back.
    """

    def __init__(self, window: Last, layouts: Sequence[Layout]) -> None:
        super().__init__(window, layouts)
        self._count = window.count
        # Event time and number of every row, in this order.
        self._rows: list[tuple[int, int]] = []
        self._times: dict[int, int] = {}
        self._coming: dict[int, int] = {}
        self._going: list[int] = []

    def move(self, coming: Mapping[int, int], going: Iterable[int] = ()) -> None:
        """Rows that come, with their event times, and rows that go with the next changes."""
        self._coming, self._going = dict(coming), list(going)

    def apply(self, changes: Sequence[Sums]) -> Changed:
        """Take in rows that came and went."""
        (change,), (cells,) = changes, self.cells
        rows, times = list(self._rows), dict(self._times)
        window = set(rows[-self._count :])
        groups = {key for _, row in window for key in cells.keys(row)}
        before = cells.add(change)
        for row, time in self._coming.items():
            insort(self._rows, (time, row))
            self._times[row] = time
        for row in self._going:
            if row in self._times:
                entry = (self._times.pop(row), row)
                del self._rows[bisect_left(self._rows, entry)]
        self._coming, self._going = {}, []
        groups |= {key for _, row in self._rows[-self._count :] for key in cells.keys(row)}

        def undo() -> None:
            cells.put(before)
            self._rows, self._times = rows, times

        return Changed([[(0, key) for key in groups]], [], undo)

    def restore(self, records: Sequence[Sums]) -> None:
        """Order rows that were written down; `move` comes first."""
        self.apply(records)

    def oldest(self, horizon: int) -> int:
        """The event time of the first of the last rows, where that is older."""
        rows = self._rows[-self._count :]
        return min(horizon, rows[0][0]) if rows else horizon

    def windows(self) -> list[int]:
        """The only one."""
        return [0] if self._rows else []

    def records(
        self, side: int, window: int, keys: Sequence[Key] | None = None
    ) -> tuple[list[Key], Array]:
        """Groups among the last rows and their sums."""
        del window
        inside: dict[Key, list[Place]] = {}
        for _, row in self._rows[-self._count :]:
            for key in self.cells[side].keys(row):
                inside.setdefault(key, []).append((row, key))
        chosen = [key for key in (inside if keys is None else keys) if key in inside]
        cells = self.cells[side]
        found = [rounded(cells.summed(inside[key])) for key in chosen]
        return chosen, np.stack(found) if found else np.zeros((0, cells.width))

    def bounds(self, window: int, key: Key) -> tuple[int, int] | None:
        """From the first of the last rows to the last."""
        del window, key
        rows = self._rows[-self._count :]
        return (rows[0][0], rows[-1][0] + 1) if rows else None

    def expire(self, before: int) -> list[int]:
        """Forget rows older than an instant that are not among the last."""
        stop = min(bisect_left(self._rows, (before, -1)), max(0, len(self._rows) - self._count))
        for _, row in self._rows[:stop]:
            for cells in self.cells:
                cells.drop(row)
            del self._times[row]
        del self._rows[:stop]
        return []


def windowed(window: Window, layouts: Sequence[Layout]) -> Windowed:
    """What keeps the windows of a kind up to date."""
    if isinstance(window, Session):
        return SessionWindows(window, layouts)
    return LastWindows(window, layouts) if isinstance(window, Last) else Windowed(window, layouts)
