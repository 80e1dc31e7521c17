"""Which variables a formula depends on: sets of variables, shared between the nodes that have them.

A derived variable counts as one variable of its own, as if it were independent of the rest. Where
the predictions it is made of occur in the same event again, `open_shared` opens it: from then on
its classes are formulas like any other; `unfold` is told before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import Intractable
from rainpp.relax.nested.arrays import (
    Column,
    HashIndex,
    Index,
    distinct,
    hashed_sums,
    mixed,
    numbered,
    run_lengths,
    run_starts,
    spans,
)
from rainpp.relax.nested.gates import Flags, Gates

MAX_SUPPORT = 60_000_000
_UNKNOWN = np.iinfo(np.int64).min
_SHIFT = 32


class Supports:
    """Set numbers of nodes: 0 is the empty set, -1 - v is {v}, others are listed."""

    def __init__(self, gates: Gates, unfold: Callable[[Index], None]) -> None:
        self._gates, self._unfold = gates, unfold
        self._known, self._opened = Column(np.int64), Column(np.bool_)
        self._start, self._size, self._keys = Column(np.int64), Column(np.int64), Column(np.int64)
        self._start.extend(np.zeros(1, np.int64))
        self._size.extend(np.zeros(1, np.int64))
        self._unions, self._contents = HashIndex(), HashIndex()
        self._made_of = Column(np.int64)

    def is_token(self, nodes: Index) -> Flags:
        """Whether a node is a set of classes of a variable that is not open."""
        return self._closed(self._gates.variables(nodes))

    def _closed(self, variables: Index) -> Flags:
        self._grow()
        derived = variables >= self._gates.num_predictions
        out = variables >= 0
        if derived.any():
            at = variables[derived] - self._gates.num_predictions
            out[derived] = ~self._opened.all[at]
        return out

    def _grow(self) -> None:
        gates = len(self._gates) - self._gates.first_gate
        self._known.extend(np.full(gates - len(self._known), _UNKNOWN))
        self._opened.extend(np.zeros(len(self._gates.derived_node) - len(self._opened), bool))

    def of(self, nodes: Index) -> Index:
        """(n,) set numbers.

        Raises
        ------
        Intractable : the sets are too large to list.
        """
        self._grow()
        self._learn(nodes)
        return self._found(nodes)

    def _found(self, nodes: Index) -> Index:
        variables = self._gates.variables(nodes)
        out = -1 - variables
        other = ~self._closed(variables)
        inner = other & (nodes > 0)
        out[other] = 0
        out[inner] = self._known.all[nodes[inner] - self._gates.first_gate]
        return out

    def _unlearned(self, nodes: Index) -> Index:
        nodes = nodes[nodes >= self._gates.first_gate]
        nodes = nodes[self._known.all[nodes - self._gates.first_gate] == _UNKNOWN]
        return distinct(nodes[~self.is_token(nodes)])

    def _learn(self, nodes: Index) -> None:
        pending: list[Index] = []
        seen = np.zeros(len(self._known), bool)
        ahead = self._unlearned(nodes)
        while len(ahead):
            pending.append(ahead)
            seen[ahead - self._gates.first_gate] = True
            _, left, right = self._gates.children(ahead)
            ahead = self._unlearned(np.concatenate([left, right]) >> 1)
            ahead = ahead[~seen[ahead - self._gates.first_gate]]
        if pending:
            gates = np.concatenate(pending)
            levels = self._gates.levels(gates)
            order = np.argsort(levels, kind="stable")
            for part in np.split(gates[order], run_starts(levels[order])[1:]):
                self._learn_level(part)

    def _learn_level(self, gates: Index) -> None:
        """Sets of gates whose children's sets are known."""
        owner, left, right = self._gates.children(gates)
        sets = np.concatenate([self._found(left >> 1), self._found(right >> 1)])
        owner = np.concatenate([owner, owner])
        owner, sets = owner[sets != 0], sets[sets != 0]
        order = np.lexsort((sets, owner))
        owner, sets = owner[order], sets[order]
        fresh = np.r_[True, (owner[1:] != owner[:-1]) | (sets[1:] != sets[:-1])][: len(owner)]
        owner, sets = owner[fresh], sets[fresh]
        out = np.zeros(len(gates), np.int64)
        starts = run_starts(owner)
        lengths = run_lengths(starts, len(owner))
        one = lengths == 1
        out[owner[starts[one]]] = sets[starts[one]]
        many = np.flatnonzero(~one)
        edge = spans(starts[many], lengths[many])
        group = np.repeat(np.arange(len(many)), lengths[many])
        out[owner[starts[many]]] = self._union(sets[edge], group, len(many))
        self._known.all[gates - self._gates.first_gate] = out

    def _union(self, sets: Index, group: Index, count: int) -> Index:
        """(count,) numbers of the unions of the distinct sets of ascending groups."""
        hashes = mixed(hashed_sums(mixed(sets), group, count))
        unique, first, inverse = numbered(hashes)
        found = self._unions.find(unique)
        new = np.flatnonzero(found < 0)
        if len(new):
            chosen = np.full(count, -1, np.int64)
            chosen[first[new]] = np.arange(len(new))
            keep = chosen[group] >= 0
            found[new] = self._listed(sets[keep], chosen[group[keep]], len(new))
            self._unions.add(unique[new], found[new])
        return found[inverse]

    def _listed(self, sets: Index, group: Index, count: int) -> Index:
        owner, variables = self.expand(sets)
        keys = distinct((group[owner] << _SHIFT) | variables)
        group, variables = keys >> _SHIFT, keys & ((1 << _SHIFT) - 1)
        hashes = mixed(hashed_sums(mixed(variables), group, count))
        unique, first, inverse = numbered(hashes)
        found = self._contents.find(unique)
        new = np.flatnonzero(found < 0)
        found[new] = len(self._start) + np.arange(len(new))
        self._contents.add(unique[new], found[new])
        bounds = np.searchsorted(group, np.arange(count + 1))
        lengths = (bounds[1:] - bounds[:-1])[first[new]]
        edge = spans(bounds[first[new]], lengths)
        self._start.extend(len(self._keys) + np.cumsum(lengths) - lengths)
        self._size.extend(lengths)
        self._keys.extend((np.repeat(found[new], lengths) << _SHIFT) | variables[edge])
        return found[inverse]

    def sizes(self, sets: Index) -> Index:
        """How many variables every set has."""
        return np.where(sets < 0, 1, self._size.all[np.maximum(sets, 0)])

    def expand(self, sets: Index) -> tuple[Index, Index]:
        """Pairs of a position in `sets` and a variable of that set, ascending."""
        lengths = self.sizes(sets)
        if int(lengths.sum()) > MAX_SUPPORT:
            raise Intractable("the predictions behind the events are too many to compare")
        owner = np.repeat(np.arange(len(sets)), lengths)
        variables = -1 - sets[owner]
        listed = sets > 0
        edge = spans(self._start.all[sets[listed]], lengths[listed])
        variables[listed[owner]] = self._keys.all[edge] & ((1 << _SHIFT) - 1)
        return owner, variables

    def contain(self, sets: Index, variables: Index) -> Flags:
        """Whether variable i is in set i."""
        out = sets == -1 - variables
        listed = np.flatnonzero(sets > 0)
        wanted = (sets[listed] << _SHIFT) | variables[listed]
        keys = self._keys.all
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        out[listed] = keys[at] == wanted
        return out

    def shared(self, events: Index) -> bool:
        """Whether a derived variable shares a prediction with another variable of the events."""
        owner = np.zeros(len(events), np.int64)
        return bool(len(self._clashing(*self._variables(events >> 1, owner))))

    def open_shared(self, events: Index, owner: Index) -> bool:
        """Open derived variables that share a prediction with another variable of their owner.

        `owner` groups events that are looked at together. Says whether any was opened.
        """
        opened = False
        while len(self._gates.derived_node):
            clash = self._clashing(*self._variables(events >> 1, owner))
            if not len(clash):
                return opened
            opened = True
            self._unfold(clash)
            self._grow()
            self._opened.all[clash - self._gates.num_predictions] = True
            self._known.all[:] = _UNKNOWN
        return opened

    def _variables(self, nodes: Index, owner: Index) -> tuple[Index, Index]:
        """Distinct pairs of an owner and a variable of one of its nodes."""
        at, variables = self.expand(self.of(nodes))
        keys = distinct((owner[at] << _SHIFT) | variables)
        return keys >> _SHIFT, keys & ((1 << _SHIFT) - 1)

    def _clashing(self, owner: Index, variables: Index) -> Index:
        """Derived variables with a prediction that another variable of the owner has too."""
        if not len(owner):
            return owner
        many = np.r_[False, owner[1:] == owner[:-1]]
        many[:-1] |= many[1:]
        derived = np.bincount(owner[variables >= self._gates.num_predictions])
        many &= np.r_[derived, np.zeros(int(owner.max(initial=0)) + 1, np.int64)][owner] > 0
        owner, variables = owner[many], variables[many]
        unique, _, which = numbered(variables)
        if not len(unique):
            return unique
        start, base = self._predictions_of(unique)
        sizes = np.diff(start)[which]
        pair = np.repeat(np.arange(len(owner)), sizes)
        keys = (owner[pair] << _SHIFT) | base[spans(start[:-1][which], sizes)]
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        hit = variables[pair[np.concatenate([order[same], order[same + 1]])]]
        return distinct(hit[hit >= self._gates.num_predictions])

    def _predictions_of(self, variables: Index) -> tuple[Index, Index]:
        """CSR lists of the predictions below ascending variables."""
        owner, tokens = np.arange(len(variables)), variables
        done: list[NDArray[Any]] = []
        while len(tokens):
            base = tokens < self._gates.num_predictions
            done.append((owner[base] << _SHIFT) | tokens[base])
            owner, tokens = owner[~base], tokens[~base]
            at, found = self.expand(self._made_of.all[tokens - self._gates.num_predictions])
            owner, tokens = owner[at], found
        keys = distinct(np.concatenate(done))
        start = np.searchsorted(keys >> _SHIFT, np.arange(len(variables) + 1))
        return start, keys & ((1 << _SHIFT) - 1)

    def note_all(self, events: Index, count: int) -> None:
        """Say that the `count` newest derived variables are made of the same events."""
        self.note(events, np.zeros(len(events), np.int64))
        self._made_of.extend(np.repeat(self._made_of.all[-1:], count - 1))

    def note(self, events: Index, owner: Index) -> None:
        """Say what the newest derived variables are made of: one per distinct ascending owner."""
        sets = self.of(events >> 1)
        owner, sets = owner[sets != 0], sets[sets != 0]
        order = np.lexsort((sets, owner))
        owner, sets = owner[order], sets[order]
        fresh = np.r_[True, (owner[1:] != owner[:-1]) | (sets[1:] != sets[:-1])]
        owner, sets = owner[fresh], sets[fresh]
        starts = run_starts(owner)
        lengths = run_lengths(starts, len(owner))
        group = np.repeat(np.arange(len(starts)), lengths)
        union = self._union(sets, group, len(starts))
        self._made_of.extend(np.where(lengths == 1, sets[starts], union))
