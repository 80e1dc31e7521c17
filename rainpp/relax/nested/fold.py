"""The distribution of aggregates over uncertain members, as events.

The members of a segment fall into parts that share no prediction. Each part's results are listed
by its predictions; parts are then added one after the other to a table of distinct running totals.
A total after some parts is an exclusive sum of pairs (total before, result of the part), so the
table is itself a formula, and the final totals are the classes of a new variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rainpp.relax.nested.algebra import ALWAYS, NEVER, Intractable
from rainpp.relax.nested.arrays import Index, distinct, run_lengths, run_starts, spans
from rainpp.relax.nested.connect import sums
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.tally import Tally, Values, distinct_states

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


def folded(gates: Gates, tally: Tally, parts: States, segment: Index) -> States:
    """Totals of whole segments from totals of parts; part p belongs to `segment[p]`, ascending.

    Raises
    ------
    Intractable : too many distinct totals, or too much work.
    """
    begin = np.searchsorted(parts.owner, np.arange(len(segment)))
    size = np.bincount(parts.owner, minlength=len(segment))
    head = run_starts(segment)
    length = run_lengths(head, len(segment))
    _refuse_long(tally, parts, segment)
    whole = spans(begin[head], size[head])
    states = States(
        segment[parts.owner[whole]], [t[whole] for t in parts.totals], parts.events[whole]
    )
    done: list[States] = []
    work = 0
    for step in range(1, int(length.max(initial=0)) + 1):
        more = np.zeros(int(segment[-1]) + 1, np.int64) - 1
        going = length > step
        more[segment[head[going]]] = head[going] + step
        done.append(states.take(np.flatnonzero(more[states.owner] < 0)))
        states = states.take(np.flatnonzero(more[states.owner] >= 0))
        if not len(states.owner):
            break
        part = more[states.owner]
        work += int(size[part].sum())
        if work > MAX_WORK:
            raise _too_many(f"more than {MAX_WORK} steps")
        states = _next(gates, tally, states, parts, spans(begin[part], size[part]), size[part])
        if np.bincount(states.owner).max(initial=0) > MAX_STATES:
            raise _too_many(f"more than {MAX_STATES} for one group")
    return joined(done) if done else states


def _next(
    gates: Gates, tally: Tally, states: States, parts: States, theirs: Index, size: Index
) -> States:
    """States after one more part; state i meets the next `size[i]` rows `theirs` of `parts`."""
    mine = np.repeat(np.arange(len(size)), size)
    before = [t[mine] for t in states.totals]
    totals = tally.combined(before, [t[theirs] for t in parts.totals])
    return _summed(gates, states.owner[mine], totals, states.events[mine], parts.events[theirs])


def _refuse_long(tally: Tally, parts: States, segment: Index) -> None:
    """Refuse at once what must take too long: a count of n parts takes n² steps."""
    for total, values in zip(tally.totals, parts.totals, strict=True):
        if total.combine is np.add and len(segment):
            moved = segment[distinct(parts.owner[values != 0])]
            per_segment = np.bincount(moved).astype(float)
            if (per_segment**2).sum() / 2 > MAX_WORK:
                raise _too_many(f"more than {MAX_WORK} steps")


def _too_many(how: str) -> Intractable:
    return Intractable(f"aggregates over uncertain rows can have too many results ({how})")
