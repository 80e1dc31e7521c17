"""Additive records by (pane, group): what is kept of a stream instead of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.stream.exact import LIMBS, carried, rounded

Array = NDArray[np.float64]
Key = tuple[Any, ...]
# Pane, or window, and the values of the group keys.
Place = tuple[int, Key]


@dataclass(frozen=True)
class Layout:
    """Where things stand in a record of `width` numbers.

    The first is the number of rows that could count. Then for every part, which is a sum of the
    query's: its plain value, its expectation, its variance, and the k derivatives along the
    eigenvectors.
    """

    parts: int
    k: int

    @property
    def width(self) -> int:
        """Numbers in a record."""
        return 1 + self.parts * (3 + self.k)

    def plain(self, part: int) -> int:
        """Column of the value under the likeliest classes."""
        return 1 + part * (3 + self.k)

    def value(self, part: int) -> int:
        """Column of the expectation."""
        return self.plain(part) + 1

    def variance(self, part: int) -> int:
        """Column of the variance, predictions being independent."""
        return self.plain(part) + 2

    def gradient(self, part: int) -> slice:
        """Columns of the projected gradient of the expectation."""
        return slice(self.plain(part) + 3, self.plain(part) + 3 + self.k)


@dataclass(frozen=True, eq=False)
class Sums:
    """Exact sums (n, width, 4) at `places`, each place once."""

    places: list[Place]
    values: Array

    def rounded(self) -> Array:
        """As doubles (n, width)."""
        return rounded(self.values)


class Cells:
    """Records by place; places whose rows have all gone are forgotten."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._slots: dict[int, dict[Key, int]] = {}
        self._data = np.zeros((16, width, LIMBS))
        self._free: list[int] = list(range(15, -1, -1))

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    @property
    def panes(self) -> list[int]:
        """Panes with records, in the order they first came."""
        return list(self._slots)

    def keys(self, pane: int) -> list[Key]:
        """Groups with a record in a pane."""
        return list(self._slots.get(pane, ()))

    def holds(self, place: Place) -> bool:
        """Whether there is a record at a place."""
        return self._slot(place) >= 0

    def read(self, places: Sequence[Place]) -> Array:
        """Sums (n, width, 4) at `places`; zeros where there are none."""
        slots = [self._slot(place) for place in places]
        found = self._data[slots] if slots else np.zeros((0, self.width, LIMBS))
        found[np.asarray(slots, int) < 0] = 0.0
        return found

    def summed(self, places: Sequence[Place]) -> Array:
        """The sum (width, 4) of records that are there."""
        return carried(self._data[[self._slot(place) for place in places]].sum(axis=0))

    def add(self, change: Sums) -> Sums:
        """Add to the records; returns what they were before, for `put` to undo it."""
        before = self.read(change.places)
        self.put(Sums(change.places, carried(before + change.values)))
        return Sums(change.places, before)

    def put(self, records: Sums) -> None:
        """Set records; one without rows is forgotten, and with it the rounding of its gradient."""
        if not records.places:
            return
        keep = rounded(records.values[:, 0]) != 0
        slots: list[int] = []
        for (pane, key), kept in zip(records.places, keep.tolist(), strict=True):
            groups = self._slots.get(pane)
            slot = None if groups is None else groups.get(key)
            if not kept:
                if groups is not None and slot is not None:
                    self._forget(pane, groups, key)
                continue
            if slot is None:
                slot = self._new_slot()
                self._slots.setdefault(pane, {})[key] = slot
            slots.append(slot)
        if slots:
            self._data[slots] = records.values[keep]

    def drop(self, pane: int) -> None:
        """Forget all records of a pane."""
        self._free += self._slots.pop(pane, {}).values()

    def everything(self) -> Sums:
        """All records, to be written down."""
        places = [(pane, key) for pane, groups in self._slots.items() for key in groups]
        return Sums(places, self.read(places))

    def _slot(self, place: Place) -> int:
        groups = self._slots.get(place[0])
        return -1 if groups is None else groups.get(place[1], -1)

    def _forget(self, pane: int, groups: dict[Key, int], key: Key) -> None:
        self._free.append(groups.pop(key))
        if not groups:
            del self._slots[pane]

    def _new_slot(self) -> int:
        if not self._free:
            size = len(self._data)
            self._data = np.concatenate([self._data, np.zeros_like(self._data)])
            self._free = list(range(2 * size - 1, size - 1, -1))
        return self._free.pop()


def added(changes: Sequence[Sums], width: int) -> Sums:
    """Several changes as one, in which every place stands once."""
    if len(changes) == 1:
        return changes[0]
    where: dict[Place, int] = {}
    for change in changes:
        for place in change.places:
            where.setdefault(place, len(where))
    total = np.zeros((len(where), width, LIMBS))
    for change in changes:
        at = [where[place] for place in change.places]
        if at:
            total[at] = carried(total[at] + change.values)
    return Sums(list(where), total)
