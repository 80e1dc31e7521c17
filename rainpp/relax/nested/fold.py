"""The distribution of aggregates over uncertain members, as events.

The members of a segment fall into parts that share no prediction. Each part's results are listed
by its predictions; parts are then added one after the other to a table of distinct running totals.
A total after some parts is an exclusive sum of pairs (total before, result of the part), so the
table is itself a formula, and the final totals are the classes of a new variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rainpp.relax.nested.algebra import ALWAYS, NEVER, Intractable
from rainpp.relax.nested.arrays import Index, distinct, run_lengths, run_starts, spans
from rainpp.relax.nested.connect import sums
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.tally import Values, distinct_states

MAX_STATES = 20_000
MAX_WORK = 10_000_000


@dataclass(frozen=True, eq=False, slots=True)
class States:
    """Totals a segment or part can have, and when: exclusive and, per owner, exhaustive.

    `owner` ascends.
    """

    owner: Index
    totals: list[Values]
    events: Index

    def take(self, rows: Index) -> States:
        """Some of them."""
        return States(self.owner[rows], [t[rows] for t in self.totals], self.events[rows])


class Adder(Protocol):
    """How totals combine, such as a `Tally`."""

    @property
    def combines(self) -> Sequence[np.ufunc]:
        """What combines each total."""
        ...

    def combined(self, left: Sequence[Values], right: Sequence[Values]) -> list[Values]:
        """Totals of both."""
        ...


def joined(parts: Sequence[States]) -> States:
    """All of several states, sorted by owner."""
    owner = np.concatenate([part.owner for part in parts])
    totals = [np.concatenate(columns) for columns in zip(*(p.totals for p in parts), strict=True)]
    events = np.concatenate([part.events for part in parts])
    return States(owner, totals, events).take(np.argsort(owner, kind="stable"))


def merged(gates: Gates, states: States) -> States:
    """Equal totals of one owner become one state, with the sum of their events."""
    ones = np.full(len(states.events), ALWAYS)
    return _summed(gates, states.owner, states.totals, states.events, ones)


def _summed(gates: Gates, owner: Index, totals: list[Values], left: Index, right: Index) -> States:
    """States whose events are exclusive pairs; equal ones become one."""
    first, number = distinct_states(owner, totals)
    order = np.argsort(number, kind="stable")
    events = sums(gates, left[order], right[order], number[order], len(first))
    keep = np.flatnonzero(events != NEVER)
    chosen = first[keep]
    return States(owner[chosen], [t[chosen] for t in totals], events[keep])


def folded(gates: Gates, tally: Adder, parts: States, segment: Index, made: list[Index]) -> States:
    """Totals of whole segments from totals of parts; part p belongs to `segment[p]`, ascending.

    Neighbours are joined in a tree while a block has no more totals than its parts together, as
    counts do: a few wide rounds. Other blocks follow one another, which takes fewer pairs. Events
    of totals on the way are appended to `made`.

    Raises
    ------
    Intractable : too many distinct totals, or too much work.
    """
    _refuse_long(tally, parts, segment)
    work = _Fold(
        gates, tally, parts, segment, np.bincount(parts.owner, minlength=len(segment)), made
    )
    while work.join(in_tree=True):
        pass
    while work.join(in_tree=False):
        pass
    return States(work.segment[work.blocks.owner], work.blocks.totals, work.blocks.events)


@dataclass(eq=False, slots=True)
class _Fold:
    """Blocks of neighbouring parts: block b of `segment[b]` has parts with `weight[b]` states."""

    gates: Gates
    tally: Adder
    blocks: States
    segment: Index
    weight: Index
    made: list[Index]
    work: int = 0

    def join(self, *, in_tree: bool) -> bool:
        """Join pairs of blocks, or the first two of every segment; False if there are none."""
        count = len(self.segment)
        size = np.bincount(self.blocks.owner, minlength=count)
        head = run_starts(self.segment)
        rank = np.arange(count) - np.repeat(head, run_lengths(head, count))
        left = (rank % 2 == 0) if in_tree else (rank == 0)
        left[-1:] = False
        left[:-1] &= self.segment[1:] == self.segment[:-1]
        if in_tree:
            fine = size <= self.weight
            left[:-1] &= fine[:-1] & fine[1:]
        chosen = np.flatnonzero(left)
        if not len(chosen):
            return False
        self._join(chosen, size)
        return True

    def _join(self, chosen: Index, size: Index) -> None:
        """Join the chosen blocks with their successors."""
        self.work += int((size[chosen].astype(float) * size[chosen + 1]).sum())
        if self.work > MAX_WORK:
            raise _too_many(f"more than {MAX_WORK} steps")
        begin = np.cumsum(size) - size
        states = self.blocks.take(spans(begin[chosen], size[chosen]))
        after = states.owner + 1
        theirs = spans(begin[after], size[after])
        made = self._after(states, theirs, size[after])
        if np.bincount(made.owner).max(initial=0) > MAX_STATES:
            raise _too_many(f"more than {MAX_STATES} for one group")
        self.made.append(made.events)
        self.weight[chosen] += self.weight[chosen + 1]
        stay = np.ones(len(self.segment), bool)
        stay[chosen + 1] = False
        apart = stay.copy()
        apart[chosen] = False
        rest = self.blocks.take(np.flatnonzero(apart[self.blocks.owner]))
        blocks = joined([rest, made])
        place = np.cumsum(stay) - 1
        self.blocks = States(place[blocks.owner], blocks.totals, blocks.events)
        self.segment, self.weight = self.segment[stay], self.weight[stay]

    def _after(self, states: States, theirs: Index, size: Index) -> States:
        """States after one more block; state i meets the next `size[i]` of the rows `theirs`."""
        mine = np.repeat(np.arange(len(size)), size)
        left, right = states.take(mine), self.blocks.take(theirs)
        totals = self.tally.combined(left.totals, right.totals)
        return _summed(self.gates, left.owner, totals, left.events, right.events)


def _refuse_long(tally: Adder, parts: States, segment: Index) -> None:
    """Refuse at once what must take too long: a count of n parts takes n² steps."""
    for combine, values in zip(tally.combines, parts.totals, strict=True):
        if combine is np.add and len(segment):
            moved = segment[distinct(parts.owner[values != 0])]
            per_segment = np.bincount(moved).astype(float)
            if (per_segment**2).sum() / 2 > MAX_WORK:
                raise _too_many(f"more than {MAX_WORK} steps")


def _too_many(how: str) -> Intractable:
    return Intractable(f"aggregates over uncertain rows can have too many results ({how})")
