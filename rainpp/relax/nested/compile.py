"""Formulas in which a variable occurs twice, made into ones whose factors are independent.

A product whose factors share variables is split into connected parts; a part is expanded by the
classes of the variable most of its factors share (Shannon), as often as needed. Classes that no
event of the part tells apart are one branch, and equal formulas are compiled once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from rainpp.relax.nested.algebra import Intractable
from rainpp.relax.nested.arrays import Column, Index, distinct, numbered
from rainpp.relax.nested.connect import conjunctions
from rainpp.relax.nested.expand import expanded
from rainpp.relax.nested.factor import factored, told_apart
from rainpp.relax.nested.gates import Flags, Gates
from rainpp.relax.nested.support import Supports
from rainpp.relax.nested.sweep import resolved

MAX_BRANCHES = 4096
# Predictions behind all formulas that are expanded, added up.
MAX_WORK = 800_000
# Edges that expanding one set of events may add: about 2 s.
MAX_GROWTH = 3_000_000


class Compiler:
    """Remembers what products were compiled to: `moved` has -1 for those that stayed."""

    def __init__(self, gates: Gates, supports: Supports) -> None:
        self._gates, self._supports = gates, supports
        self._moved, self._checked = Column(np.int64), Column(np.bool_)

    @property
    def moved(self) -> Index:
        """(gates,) the event a gate was compiled to, -1 if it stayed."""
        self._grow()
        return self._moved.all

    def _grow(self) -> None:
        fresh = len(self._gates) - self._gates.first_gate - len(self._moved)
        self._moved.extend(np.full(fresh, -1))
        self._checked.extend(np.zeros(fresh, bool))

    def trust(self, events: Index) -> None:
        """Take sums as compiled; below them there must be only such sums and classes."""
        self._grow()
        nodes = events[events >> 1 >= self._gates.first_gate] >> 1
        nodes = nodes[self._gates.is_sum.all[nodes - self._gates.first_gate]]
        self._checked.all[nodes - self._gates.first_gate] = True

    def prepare(self, events: Index) -> None:
        """Make every product below `events` one of independent factors.

        Raises
        ------
        Intractable : that takes too many branches.
        """
        events = distinct(events)
        if self._supports.open_shared(events, np.arange(len(events))):
            self._grow()
            self._checked.all[:] = False
        limit = len(self._gates.left) + MAX_GROWTH
        walk = _Walk(np.zeros(len(events), np.int64))
        ahead, origin = events, np.arange(len(events))
        while True:
            nodes, origin = self._unseen(ahead, origin, walk)
            if not len(nodes):
                break
            ahead, origin = self._step(nodes, origin, walk)
            if len(self._gates.left) > limit or walk.work > MAX_WORK:
                raise Intractable("predictions occur together in too many ways")
        # Only now: an exception must not leave products behind that look checked.
        self._checked.all[walk.seen.all.nonzero()[0]] = True

    def _unseen(self, events: Index, origin: Index, walk: _Walk) -> tuple[Index, Index]:
        """Gates not checked before, each once, with the first of their origins."""
        first = self._gates.first_gate
        events = resolved(events, self.moved, first)
        walk.grow(len(self._moved))
        inner = events >> 1 >= first
        nodes, at, _ = numbered(events[inner] >> 1)
        fresh = ~self._checked.all[nodes - first] & ~walk.seen.all[nodes - first]
        nodes = nodes[fresh]
        walk.seen.all[nodes - first] = True
        return nodes, origin[inner][at[fresh]]

    def _step(self, nodes: Index, origin: Index, walk: _Walk) -> tuple[Index, Index]:
        """Compile the products among `nodes`; what is to be looked at next."""
        entangled = self._entangled(nodes)
        stay = nodes[~entangled]
        owner, left, right = self._gates.children(stay)
        ahead = [left, right]
        origins = [origin[~entangled][owner]] * 2
        if entangled.any():
            sets = self._supports.of(nodes[entangled])
            walk.work += int(self._supports.sizes(sets).sum())
            moved = self._compiled(nodes[entangled], origin[entangled], walk)
            self._grow()
            self._moved.all[nodes[entangled] - self._gates.first_gate] = moved
            ahead.append(moved)
            origins.append(origin[entangled])
        return np.concatenate(ahead), np.concatenate(origins)

    def _entangled(self, nodes: Index) -> Flags:
        """Which gates are products with a variable in two factors.

        Only the smaller factors are listed; for the largest one it is enough to look things up.
        """
        out = np.zeros(len(nodes), bool)
        products = np.flatnonzero(~self._gates.is_sum.all[nodes - self._gates.first_gate])
        owner, factors, _ = self._gates.children(nodes[products])
        formula = ~self._supports.is_token(factors >> 1)
        mixed = np.zeros(len(products), bool)
        # Literals of one product have distinct variables since it was made.
        mixed[owner[formula]] = True
        owner, factors = owner[mixed[owner]], factors[mixed[owner]]
        sets = self._supports.of(factors >> 1)
        order = np.lexsort((sets, self._supports.sizes(sets), owner))
        owner, sets = owner[order], sets[order]
        # Equal sets need no look inside: a semijoin has one large set once for every class.
        twice = owner[1:][(owner[1:] == owner[:-1]) & (sets[1:] == sets[:-1])]
        out[products[twice]] = True
        keep = ~out[products[owner]]
        owner, sets = owner[keep], sets[keep]
        last = np.r_[owner[1:] != owner[:-1], True][: len(owner)]
        largest = np.zeros(len(products), np.int64)
        largest[owner[last]] = sets[last]
        at, variables = self._supports.expand(sets[~last])
        group = owner[~last][at]
        hit = self._supports.contain(largest[group], variables)
        out[products[group[hit]]] = True
        keys = np.sort(group * self._gates.num_variables + variables)
        again = keys[1:][keys[1:] == keys[:-1]]
        out[products[again // self._gates.num_variables]] = True
        return out

    def _compiled(self, nodes: Index, origin: Index, walk: _Walk) -> Index:
        """Events that say the same as entangled products."""
        owner, factors, _ = self._gates.children(nodes)
        part, owners = connected(self._supports, owner, factors)
        split = np.bincount(owners, minlength=len(nodes)) > 1
        made = conjunctions(self._gates, factors, part, len(owners), flat=False)
        out = conjunctions(self._gates, made, owners, len(nodes), flat=False)
        if not split.all():
            out[~split] = self._opened(nodes[~split], origin[~split], walk)
        return out

    def _opened(self, nodes: Index, origin: Index, walk: _Walk) -> Index:
        """Connected products as sums, multiplied out backwards or else expanded by classes."""
        out = np.empty(len(nodes), np.int64)
        easy, made = told_apart(self._gates, self._supports, nodes)
        out[easy] = made
        rest = np.flatnonzero(~easy)
        if len(rest):
            easy, made = factored(self._gates, nodes[rest])
            out[rest[easy]] = made
            rest = rest[~easy]
        if len(rest):
            out[rest], branches = expanded(self._gates, self._supports, nodes[rest])
            walk.count(origin[rest], branches)
        return out


@dataclass(eq=False, slots=True)
class _Walk:
    """One call's progress: gates seen, and branches made for every requested event."""

    branches: Index
    seen: Column
    work: int

    def __init__(self, branches: Index) -> None:
        self.branches, self.seen, self.work = branches, Column(np.bool_), 0

    def grow(self, size: int) -> None:
        """Cover new gates."""
        self.seen.extend(np.zeros(size - len(self.seen), bool))

    def count(self, origin: Index, branches: Index) -> None:
        """Charge branches to the events they were made for."""
        np.add.at(self.branches, origin, branches)
        if self.branches.max(initial=0) > MAX_BRANCHES:
            raise Intractable(
                "the predictions behind one event occur together in too many ways "
                f"(more than {MAX_BRANCHES} branches)"
            )


def connected(supports: Supports, owner: Index, events: Index) -> tuple[Index, Index]:
    """Connected parts of the events of each ascending owner: an event's part, a part's owner.

    Events are connected when they have a variable in common. Parts ascend with their owner.
    """
    sets = supports.of(events >> 1)
    order = np.lexsort((sets, owner))
    fresh = (np.diff(owner[order], prepend=-1) != 0) | (np.diff(sets[order], prepend=0) != 0)
    alike = np.empty(len(events), np.int64)
    alike[order] = np.cumsum(fresh) - 1
    first = order[fresh]
    at, variables = supports.expand(sets[first])
    _, _, key = numbered((owner[first[at]] << 32) | variables)
    size = len(first) + len(at)
    links = sparse.coo_array((np.ones(len(at), bool), (at, len(first) + key)), (size, size))
    label = csgraph.connected_components(links, directed=False)[1][alike]
    # Constants share nothing, although their sets are equal.
    label = np.where(sets == 0, size + np.arange(len(events)), label)
    found, _, part = numbered((owner << 32) | label.astype(np.int64))
    return part, found >> 32
