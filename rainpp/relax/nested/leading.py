"""LIMIT and OFFSET over uncertain rows: which rows are among the first ones that are there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import NEVER, Intractable
from rainpp.relax.nested.arrays import Index, numbered, run_lengths, run_starts, spans
from rainpp.relax.nested.compile import connected
from rainpp.relax.nested.connect import conjunctions
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.heads import Heads, Kernel
from rainpp.relax.nested.parts import literal_classes
from rainpp.relax.nested.prefix import Window
from rainpp.relax.nested.support import Supports

# Pairs of rows of one part that are looked at for whether they exclude one another.
_MAX_PAIRS = 500_000
# Products of numbers: about 10 s.
_MAX_WORK = 3_000_000_000
_ENTANGLED = "LIMIT counts rows that share predictions in other ways than as alternatives"


@dataclass(frozen=True, eq=False, slots=True)
class _Limit:
    """What a head needs for its kernel."""

    part: Index
    wanted: NDArray[np.float64]
    always: float


class Leading:
    """Heads of limited rows."""

    def __init__(self, gates: Gates, supports: Supports, heads: Heads) -> None:
        self._gates, self._supports, self._heads = gates, supports, heads
        self._number = heads.register(self)
        self._limits: dict[int, _Limit] = {}

    def kernels(self, heads: Index) -> list[tuple[Index, Kernel]]:
        """See `Maker.kernels`: each head has its own."""
        limits = [self._limits[head] for head in heads.tolist()]
        return [
            (np.array([i]), Window(limit.part, limit.wanted, limit.always))
            for i, limit in enumerate(limits)
        ]

    def formulas(self, heads: Index) -> Index:
        """See `Maker.formulas`: there are none."""
        del heads
        raise Intractable("events before a LIMIT meet events after it")

    def rows(self, ids: Index, skip: int, take: int | None) -> Index:
        """Events that a row is there after `skip` to `skip + take` others; no id is `NEVER`.

        The rows of independent parts of alternatives become classes of one variable per part.

        Raises
        ------
        Intractable : rows share predictions in other ways, or too many are to be counted.
        """
        part = self._alternatives(ids)
        count = int(part.max()) + 1
        if skip >= count or take == 0:
            return np.full(len(ids), NEVER)
        last = skip if take is None else skip + take
        if skip == 0 and (take is None or last >= count):
            return ids
        size = min(last, count)
        if len(ids) * float(size) ** 2 * count.bit_length() > _MAX_WORK:
            raise Intractable("LIMIT counts too many uncertain rows")
        wanted = np.full(size, -1.0) if take is None else (np.arange(size) >= skip).astype(float)
        return self._made(ids, _Limit(part, wanted, 1.0 if take is None else 0.0), count)

    def _made(self, ids: Index, limit: _Limit, count: int) -> Index:
        n, part = len(ids), limit.part
        head = self._heads.add(
            self._number, ids, np.array([n]), np.array([n + count]), np.zeros(1, np.int64)
        )
        self._limits[int(head[0])] = limit
        owner = np.concatenate([part, np.arange(count)])
        slots = np.argsort(owner, kind="stable")
        events = self._heads.classes(np.repeat(head, count), owner[slots], slots)
        self._supports.note_all(ids, count)
        out = np.empty(n + count, np.int64)
        out[slots] = events
        return out[:n]

    def _alternatives(self, ids: Index) -> Index:
        """(n,) independent parts of which at most one row is there."""
        if self._supports.shared(ids):
            raise Intractable(_ENTANGLED)
        part, _ = connected(self._supports, np.zeros(len(ids), np.int64), ids)
        order = np.argsort(part, kind="stable")
        starts = run_starts(part[order])
        sizes = run_lengths(starts, len(ids))
        many = np.repeat(sizes > 1, sizes)
        variables = self._gates.variables(ids[order] >> 1)
        one = np.minimum.reduceat(variables, starts) == np.maximum.reduceat(variables, starts)
        one &= variables[starts] >= 0
        literal = np.repeat(one, sizes)
        rows = order[many & literal]
        if not _distinct_classes(self._gates, ids[rows], part[rows]):
            raise Intractable(_ENTANGLED)
        rest = np.flatnonzero((sizes > 1) & ~one)
        if not self._exclusive(ids[order], starts[rest], sizes[rest]):
            raise Intractable(_ENTANGLED)
        return part

    def _exclusive(self, ids: Index, starts: Index, sizes: Index) -> bool:
        """Whether all pairs within ranges of ids are seen to contradict each other."""
        if float((sizes.astype(float) ** 2).sum()) > _MAX_PAIRS:
            return False
        first = spans(starts, sizes)
        size = np.repeat(sizes, sizes)
        second = spans(np.repeat(starts, sizes), size)
        first = np.repeat(first, size)
        first, second = first[second > first], second[second > first]
        pair = np.tile(np.arange(len(first)), 2)
        both = conjunctions(
            self._gates, np.concatenate([ids[first], ids[second]]), pair, len(first)
        )
        return bool((both == NEVER).all())


def _distinct_classes(gates: Gates, events: Index, part: Index) -> bool:
    """Whether no two literals of a part hold under the same class."""
    edge, classes = literal_classes(gates, events)
    keys, _, _ = numbered((part[edge] << 32) | classes)
    return len(keys) == len(edge)
