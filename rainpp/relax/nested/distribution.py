"""Outcomes of aggregates: members to parts, parts to segments, totals to results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from rainpp.relax.nested.addition import Addition
from rainpp.relax.nested.algebra import ALWAYS, NEVER, Aggregation, Members, Outcomes
from rainpp.relax.nested.arrays import Index, run_lengths, run_starts
from rainpp.relax.nested.compile import Compiler, connected
from rainpp.relax.nested.connect import sums
from rainpp.relax.nested.counting import Counting
from rainpp.relax.nested.fold import States, folded
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.heads import Heads
from rainpp.relax.nested.parts import PartStates
from rainpp.relax.nested.support import Supports
from rainpp.relax.nested.tally import Tally, Values, distinct_states


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """Makes outcomes; without `share` members are taken to be independent of one another."""

    gates: Gates
    supports: Supports
    compiler: Compiler
    heads: Heads
    counting: Counting
    connection: duckdb.DuckDBPyConnection
    share: bool

    def outcomes(self, members: Members, aggregations: Sequence[Aggregation]) -> Outcomes:
        """The joint results of several aggregates over every segment.

        Raises
        ------
        Intractable : an aggregate is not plain, or its results or their causes are too many.
        """
        members = possible(members)
        tally = Tally(members, aggregations, self.connection)
        if not len(members.ids):
            nothing = np.zeros(0, np.int64)
            absent = np.full(members.count, ALWAYS)
            return Outcomes(nothing, tally.results(nothing, tally.start(0)), nothing, absent)
        work = PartStates(self.gates, self.supports, tally)
        parts, segment = self._listed(members, work)
        added = Addition.of(tally, parts, segment)
        if added is None:
            return self._tabled(members, tally, work, parts, segment)
        found = added.outcomes(tally, self.counting, self.heads, self.supports, members)
        there = found.take(np.flatnonzero(found.totals[0] > 0))
        table = tally.results(there.owner, there.totals)
        absent = _absent(found.owner, found.totals[0], found.events, members.count)
        out = Outcomes(there.owner, table, there.events, absent)
        rest = ~np.isin(segment, added.segments)
        if not rest.any():
            return out
        at = np.flatnonzero(rest[parts.owner])
        others = parts.take(at)
        others = States((np.cumsum(rest) - 1)[others.owner], others.totals, others.events)
        return _together(out, self._tabled(members, tally, work, others, segment[rest]))

    def _tabled(
        self, members: Members, tally: Tally, work: PartStates, parts: States, segment: Index
    ) -> Outcomes:
        """Results by tables of running totals."""
        states = folded(self.gates, tally, parts, segment, work.made)
        if work.simple:
            self.compiler.trust(np.concatenate([parts.events, *work.made]))
        table = tally.results(states.owner, states.totals)
        first, states = self._by_result(states, table)
        events = self._events(states, members)
        there = np.flatnonzero(states.totals[0] > 0)
        absent = _absent(states.owner, states.totals[0], events, members.count)
        return Outcomes(states.owner[there], table.take(first[there]), events[there], absent)

    def _listed(self, members: Members, work: PartStates) -> tuple[States, Index]:
        """Totals of every part, and the segment of every part."""
        part, segment = self._parts(members)
        return work.of(members.ids, part), segment

    def parts(self, members: Members, aggregation: Aggregation) -> tuple[States, Index, Tally]:
        """Totals every independent part of the members can add to an aggregate.

        Raises
        ------
        Intractable : the aggregate is not plain, or a part is too entangled.
        """
        tally = Tally(members, [aggregation], self.connection)
        if not len(members.ids):
            nothing = np.zeros(0, np.int64)
            return States(nothing, tally.start(0), nothing), nothing, tally
        states, segment = self._listed(members, PartStates(self.gates, self.supports, tally))
        return states, segment, tally

    def _by_result(self, states: States, table: pa.Table) -> tuple[Index, States]:
        """States with equal results made one, and a row of the table for each of them.

        An average of 3 over 2 rows and one of 6 over 4 rows are different totals.
        """
        codes = [
            column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
            for column in table.columns
        ]
        there = states.totals[0]
        first, number = distinct_states(states.owner, [there, *(c.astype(np.int64) for c in codes)])
        order = np.argsort(number, kind="stable")
        ones = np.full(len(order), ALWAYS)
        events = sums(self.gates, states.events[order], ones, number[order], len(first))
        return first, States(states.owner[first], [there[first]], events)

    def _parts(self, members: Members) -> tuple[Index, Index]:
        """The part of every member, and the segment of every part."""
        if not self.share:
            return np.arange(len(members.ids)), members.segment
        self.supports.open_shared(members.ids, members.segment)
        return connected(self.supports, members.segment, members.ids)

    def _events(self, states: States, members: Members) -> Index:
        """Events of states; those of one segment become classes of one variable."""
        starts = run_starts(states.owner)
        lengths = run_lengths(starts, len(states.owner))
        variables = self.gates.variables(states.events >> 1)
        mixture = np.minimum.reduceat(variables, starts) != np.maximum.reduceat(variables, starts)
        mixture |= variables[starts] < 0
        out = states.events.copy()
        out[starts[lengths == 1]] = ALWAYS
        fresh = np.repeat(mixture & (lengths > 1), lengths)
        if fresh.any():
            out[fresh], new = self.gates.derive(states.events[fresh], states.owner[fresh])
            if new.any():
                behind = np.isin(members.segment, states.owner[fresh][new])
                self.supports.note(members.ids[behind], members.segment[behind])
        return out


def _together(left: Outcomes, right: Outcomes) -> Outcomes:
    segment = np.concatenate([left.segment, right.segment])
    order = np.argsort(segment, kind="stable")
    table = pa.concat_tables([left.table, right.table]).take(pa.array(order))
    assert left.absent is not None
    assert right.absent is not None
    # A segment is known to one side only; the other takes it to be empty.
    absent = np.where(left.absent == ALWAYS, right.absent, left.absent)
    return Outcomes(segment[order], table, np.concatenate([left.ids, right.ids])[order], absent)


def _absent(owner: Index, there: Values, events: Index, count: int) -> Index:
    """(count,) events that a segment has no member, from states with a flag for having one."""
    out = np.full(count, ALWAYS)
    out[owner] = NEVER
    none = there == 0
    out[owner[none]] = events[none]
    return out


def possible(members: Members) -> Members:
    """Members that can be there at all."""
    keep = members.ids != NEVER
    if keep.all():
        return members
    table = None if members.table is None else members.table.take(np.flatnonzero(keep))
    return Members(members.ids[keep], members.segment[keep], members.count, table)
