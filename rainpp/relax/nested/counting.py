"""Sums of small integers over independent parts, one derived variable per segment.

A state of a part has an index, what it adds above the least it can add, and a level: 0 if none of
its members is there, 1 if none of those counts, 2 otherwise; below level 2 nothing is added. A
segment has the highest level of its parts. With D the distribution of the sum, z the index at which
nothing is added and F_l the product over parts of the probability of a level of at most l,

    P(level 2, index i) = D_i - [i = z] F_1,   P(level 1) = F_1 - F_0,   P(level 0) = F_0.

Slots of a head are those: the indices at level 2, then level 0, then level 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import ALWAYS, NEVER
from rainpp.relax.nested.arrays import (
    Column,
    Hash,
    Index,
    hashed_sums,
    mixed,
    run_lengths,
    run_starts,
    spans,
)
from rainpp.relax.nested.connect import sums
from rainpp.relax.nested.convolve import SumTrees, products_of_others
from rainpp.relax.nested.fold import States, folded
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.heads import Heads, Kernel

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Terms:
    """States of parts: `part` 0, 1, ... ascends with `head`; index, level and event of each state.

    `width` is one more than the greatest index of each head, `zero` its index z, -1 for none.
    """

    head: Index
    part: Index
    index: Index
    level: Index
    event: Index
    width: Index
    zero: Index

    def take(self, heads: Index) -> Terms:
        """Those of some ascending heads."""
        number = np.full(len(self.width), -1)
        number[heads] = np.arange(len(heads))
        at = np.flatnonzero(number[self.head] >= 0)
        part = np.cumsum(np.diff(self.part[at], prepend=-1) != 0) - 1
        return Terms(
            number[self.head[at]],
            part,
            self.index[at],
            self.level[at],
            self.event[at],
            self.width[heads],
            self.zero[heads],
        )

    def hashes(self) -> Hash:
        """Of every head: equal for the same states in any order."""
        key = mixed(mixed(mixed(self.event) * np.uint64(3) + mixed(self.index)) ^ mixed(self.level))
        starts = run_starts(self.part)
        parts = mixed(hashed_sums(key, self.part, len(starts)))
        heads = hashed_sums(parts, self.head[starts], len(self.width))
        return mixed(heads ^ mixed(self.zero))


class Counting:
    """Heads of sums."""

    def __init__(self, gates: Gates, heads: Heads) -> None:
        self._gates, self._heads = gates, heads
        self._number = heads.register(self)
        self._place: dict[int, int] = {}
        self._part, self._index, self._level = (Column(np.int64) for _ in range(3))
        self._start, self._size = Column(np.int64), Column(np.int64)
        self._width, self._zero = Column(np.int64), Column(np.int64)

    def add(self, terms: Terms) -> Index:
        """New heads."""
        starts = run_starts(terms.head)
        sizes = run_lengths(starts, len(terms.head))
        parts = np.maximum.reduceat(terms.part, starts) - terms.part[starts] + 1
        made = self._heads.add(self._number, terms.event, sizes, terms.width + 2, parts + 8)
        self._place.update(
            zip(made.tolist(), range(len(self._start), len(self._start) + len(made)), strict=True)
        )
        self._start.extend(len(self._part) + starts)
        self._size.extend(sizes)
        self._width.extend(terms.width)
        self._zero.extend(terms.zero)
        self._part.extend(terms.part)
        self._index.extend(terms.index)
        self._level.extend(terms.level)
        return made

    def _terms(self, heads: Index) -> Terms:
        places = np.array([self._place[head] for head in heads.tolist()], np.int64)
        size = self._size.all[places]
        edge = spans(self._start.all[places], size)
        head = np.repeat(np.arange(len(places)), size)
        part = self._part.all[edge]
        # Parts were numbered within the call that made their head.
        fresh = (np.diff(part, prepend=-1) != 0) | (np.diff(head, prepend=-1) != 0)
        _, events, _ = self._gates.children(self._heads.node.all[heads])
        return Terms(
            head,
            np.cumsum(fresh) - 1,
            self._index.all[edge],
            self._level.all[edge],
            events,
            self._width.all[places],
            self._zero.all[places],
        )

    def kernels(self, heads: Index) -> list[tuple[Index, Kernel]]:
        """See `Maker.kernels`: one for all heads."""
        return [(np.arange(len(heads)), Sums(self._terms(heads)))]

    def formulas(self, heads: Index) -> Index:
        """See `Maker.formulas`: sums as tables of running totals.

        Raises
        ------
        Intractable : too many steps.
        """
        terms = self._terms(heads)
        states = States(terms.part, [terms.level, terms.index], terms.event)
        segment = terms.head[run_starts(terms.part)]
        found = folded(self._gates, _Running(), states, segment, [])
        level, index = found.totals
        # At lower levels nothing is added, so all their states have index z.
        slot = np.where(level == 2, index, terms.width[found.owner] + level)
        slot += (np.cumsum(terms.width + 2) - terms.width - 2)[found.owner]
        out = np.full(int((terms.width + 2).sum()), NEVER)
        order = np.argsort(slot, kind="stable")
        used = run_starts(slot[order])
        group = np.repeat(np.arange(len(used)), run_lengths(used, len(order)))
        ones = np.full(len(order), ALWAYS)
        out[slot[order][used]] = sums(self._gates, found.events[order], ones, group, len(used))
        return out


@dataclass(eq=False, slots=True)
class Sums:
    """The kernel of heads of sums."""

    terms: Terms
    _trees: SumTrees = field(init=False)
    _leaf: Index = field(init=False)
    _leaves: int = field(init=False)
    _first: Index = field(init=False)
    _below: list[Array] = field(init=False, default_factory=lambda: list[Array]())

    def __post_init__(self) -> None:
        terms = self.terms
        starts = run_starts(terms.part)
        length = 1 + np.maximum.reduceat(terms.index, starts)
        self._first = starts
        self._trees = SumTrees(terms.head[starts], length)
        self._leaf = (np.cumsum(length) - length)[terms.part] + terms.index
        self._leaves = int(length.sum())

    def _places(self) -> tuple[Index, Index, Index, Index]:
        """Slots of all indices and first slot after them; heads with an index z and its slot."""
        width = self.terms.width
        base = np.cumsum(width + 2) - (width + 2)
        some = np.flatnonzero(self.terms.zero >= 0)
        return spans(base, width), base + width, some, base[some] + self.terms.zero[some]

    def forward(self, inputs: Array) -> Array:
        """See `Kernel`."""
        terms = self.terms
        leaves = np.bincount(self._leaf, inputs, self._leaves).astype(np.float64)
        at, low, some, zero = self._places()
        out = np.zeros(int((terms.width + 2).sum()))
        out[at] = self._trees.forward(leaves)
        part_starts = run_starts(terms.head[self._first])
        self._below = [
            np.add.reduceat(np.where(terms.level <= level, inputs, 0.0), self._first)
            for level in (0, 1)
        ]
        none, unused = (np.multiply.reduceat(below, part_starts) for below in self._below)
        out[low], out[low + 1] = none, np.maximum(unused - none, 0.0)
        out[zero] = np.maximum(out[zero] - unused[some], 0.0)
        return out

    def backward(self, slopes: Array) -> Array:
        """See `Kernel`."""
        terms = self.terms
        at, low, some, zero = self._places()
        out = self._trees.backward(slopes[at])[self._leaf]
        along = [slopes[low] - slopes[low + 1], slopes[low + 1]]
        along[1][some] -= slopes[zero]
        owner = terms.head[self._first]
        for level, (below, slope) in enumerate(zip(self._below, along, strict=True)):
            others = slope[owner] * products_of_others(below, run_starts(owner), owner)
            out += np.where(terms.level <= level, others[terms.part], 0.0)
        return out


@dataclass(frozen=True, eq=False, slots=True)
class _Running:
    """Level and index as running totals."""

    combines: tuple[np.ufunc, ...] = (np.maximum, np.add)

    def combined(self, left: Sequence[Index], right: Sequence[Index]) -> list[Index]:
        """Totals of both."""
        return [np.maximum(left[0], right[0]), left[1] + right[1]]
