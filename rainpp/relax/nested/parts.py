"""What members that share predictions can add up to: every joint result of a part, and when.

A part of one member has two results. A larger one is opened by the class of the prediction most of
its members share; under each class the members that stay open fall into smaller parts, whose
results are added up in turn. Parts that came to look the same are listed once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rainpp.relax.nested.algebra import ALWAYS, NEVER, Intractable
from rainpp.relax.nested.arrays import (
    Index,
    hashed_sums,
    mixed,
    numbered,
    run_starts,
    spans,
    unknown,
)
from rainpp.relax.nested.compile import MAX_BRANCHES, connected
from rainpp.relax.nested.connect import sums
from rainpp.relax.nested.expand import Blocks, class_blocks, most_shared
from rainpp.relax.nested.fold import States, folded, joined, merged
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.restrict import restricted
from rainpp.relax.nested.support import Supports
from rainpp.relax.nested.tally import Tally, distinct_states

_MAX_EDGES = 20_000_000


@dataclass(frozen=True, eq=False, slots=True)
class Open:
    """Undecided members: edge e is the member in `row[e]` of part `part[e]` (ascending)."""

    part: Index
    row: Index
    event: Index

    def take(self, edges: Index) -> Open:
        """Some of them."""
        return Open(self.part[edges], self.row[edges], self.event[edges])


@dataclass(eq=False, slots=True)
class PartStates:
    """Lists the totals of parts.

    Events made on the way are in `made`; `simple` says that below them there are only those and
    classes, so that no formula behind the totals needs compiling.

    Raises
    ------
    Intractable : the predictions of parts combine in too many ways.
    """

    gates: Gates
    supports: Supports
    tally: Tally
    limit: int = field(init=False, default=0)
    edges: int = field(init=False, default=0)
    made: list[Index] = field(init=False, default_factory=list[Index])
    simple: bool = field(init=False, default=True)

    def of(self, ids: Index, part: Index) -> States:
        """Totals every part can have; member i, with event `ids[i]`, belongs to `part[i]`."""
        order = np.argsort(part, kind="stable")
        self.limit = MAX_BRANCHES * (int(part.max()) + 1)
        return self._listed(Open(part[order], order, ids[order]))

    def _listed(self, members: Open) -> States:
        size = np.bincount(members.part)[members.part]
        formula = ~self.supports.is_token(members.event >> 1)
        # Connected classes without a formula among them are classes of one variable.
        wide = np.bincount(members.part, weights=formula)[members.part] > 0
        kinds = (
            (size == 1, self._single),
            ((size > 1) & ~wide, self._of_one_variable),
            ((size > 1) & wide, self._opened),
        )
        return joined(
            [list_of(members.take(np.flatnonzero(at))) for at, list_of in kinds if at.any()]
        )

    def _of_one_variable(self, members: Open) -> States:
        """Parts of several members that are all about one variable: a state per class at most."""
        starts = run_starts(members.part)
        variables = self.gates.variables(members.event[starts] >> 1)
        self._note(variables)
        sizes = self.gates.num_classes(variables)
        offset = np.cumsum(sizes) - sizes
        place = np.cumsum(np.diff(members.part, prepend=-1) != 0) - 1
        edge, classes = literal_classes(self.gates, members.event)
        slot = offset[place[edge]] + classes
        order = np.argsort(slot, kind="stable")
        total = int(sizes.sum())
        totals = self.tally.gathered(members.row[edge[order]], slot[order], total)
        owner = np.repeat(np.arange(len(starts)), sizes)
        first, number = distinct_states(owner, totals)
        order = np.argsort(number, kind="stable")
        numbers = np.arange(total) - offset[owner]
        events = self.gates.class_sets(variables[owner[first]], number[order], numbers[order])
        return States(members.part[starts][owner[first]], [t[first] for t in totals], events)

    def _single(self, members: Open) -> States:
        """Parts of one member: there, or not."""
        count = len(members.row)
        self._note(self.gates.variables(members.event >> 1))
        there = self.tally.gathered(members.row, np.arange(count), count)
        out = joined(
            [
                States(members.part, there, members.event),
                States(members.part, self.tally.start(count), members.event ^ 1),
            ]
        )
        return out.take(np.flatnonzero(out.events != NEVER))

    def _note(self, variables: Index) -> None:
        """Totals are simple while they rest on predictions alone."""
        fine = (variables >= 0) & (variables < self.gates.num_predictions)
        self.simple &= bool(fine.all())

    def _opened(self, members: Open) -> States:
        """Parts of several members, by the class of one prediction."""
        parts, _, owner = numbered(members.part)
        chosen = most_shared(self.gates, self.supports, owner, members.event)
        self._note(chosen)
        blocks = class_blocks(self.gates, self.supports, owner, members.event >> 1, chosen)
        below = self._restricted(owner, members, chosen, blocks)
        sure = below.event == ALWAYS
        count = len(blocks.first_owner)
        certain = self.tally.gathered(below.row[sure], below.part[sure], count)
        later = self._later(below.take(np.flatnonzero(~sure & (below.event != NEVER))), count)
        totals = self.tally.combined([t[later.owner] for t in certain], later.totals)
        order = np.lexsort((blocks.number, blocks.block))
        literal = self.gates.class_sets(
            chosen[blocks.first_owner], blocks.block[order], blocks.number[order]
        )
        pairs = np.arange(len(later.owner))
        events = sums(self.gates, literal[later.owner], later.events, pairs, len(pairs))
        self.made.append(events)
        owners = parts[blocks.first_owner[later.owner]]
        out = merged(self.gates, States(owners, totals, events))
        self.made.append(out.events)
        return out

    def _restricted(self, owner: Index, members: Open, chosen: Index, blocks: Blocks) -> Open:
        """Members under every block; their part is the block."""
        size = np.bincount(owner)
        start = np.cumsum(size) - size
        edge = spans(start[blocks.first_owner], size[blocks.first_owner])
        block = np.repeat(np.arange(len(blocks.first_owner)), size[blocks.first_owner])
        self.limit -= len(blocks.first_owner)
        self.edges += len(edge)
        if self.limit < 0 or self.edges > _MAX_EDGES:
            raise Intractable(
                "predictions that aggregated rows share combine in too many ways "
                f"(more than {MAX_BRANCHES})"
            )
        variable = chosen[blocks.first_owner[block]]
        events = restricted(
            self.gates, self.supports, members.event[edge], variable, blocks.first_class[block]
        )
        return Open(block, members.row[edge], events)

    def _later(self, members: Open, count: int) -> States:
        """What is still to come in each of `count` blocks."""
        part, block = connected(self.supports, members.part, members.event)
        busy = np.bincount(members.part, minlength=count) > 0
        idle = np.flatnonzero(~busy)
        found = [States(idle, self.tally.start(len(idle)), np.full(len(idle), ALWAYS))]
        if len(part):
            order = np.argsort(part, kind="stable")
            states = self._shared(Open(part, members.row, members.event).take(order), len(block))
            found.append(folded(self.gates, self.tally, states, block, self.made))
        return joined(found)

    def _shared(self, members: Open, count: int) -> States:
        """Totals of `count` parts, each kind listed once."""
        keys = mixed(self.tally.hashes()[members.row] * np.uint64(3) + mixed(members.event))
        kinds, first, kind = numbered(hashed_sums(keys, members.part, count))
        place = np.full(count, -1, np.int64)
        place[first] = np.arange(len(kinds))
        chosen = members.take(np.flatnonzero(place[members.part] >= 0))
        order = np.argsort(place[chosen.part], kind="stable")
        chosen = chosen.take(order)
        listed = self._listed(Open(place[chosen.part], chosen.row, chosen.event))
        size = np.bincount(listed.owner, minlength=len(kinds))
        begin = np.cumsum(size) - size
        states = listed.take(spans(begin[kind], size[kind]))
        return States(np.repeat(np.arange(count), size[kind]), states.totals, states.events)


def literal_classes(gates: Gates, events: Index) -> tuple[Index, Index]:
    """Classes under which literal events happen: position in `events`, class."""
    edge, classes = gates.members(events >> 1)
    negated = np.flatnonzero(events & 1)
    if not len(negated):
        return edge, classes
    flip = np.isin(edge, negated)
    sizes = gates.num_classes(gates.variables(events[negated] >> 1))
    width = int(sizes.max())
    every = np.repeat(negated, sizes) * width + spans(np.zeros_like(sizes), sizes)
    rest = unknown(every, edge[flip] * width + classes[flip])
    return (
        np.concatenate([edge[~flip], rest // width]),
        np.concatenate([classes[~flip], rest % width]),
    )
