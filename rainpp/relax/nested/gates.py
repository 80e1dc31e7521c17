"""A store of formulas over independent categorical variables.

A *node* is a number, an *event* a signed node: ``2 · node`` or, negated, ``2 · node + 1``. Node 0
is false, so `NEVER` = 0 and `ALWAYS` = 1. The next nodes are the classes of the predictions, one
after the other, and need no storage. After them come *gates*: a product of events, or a sum of
pairs of events whose conjunctions exclude one another.

Variables are the predictions, then *derived* ones: the outcome of an aggregate is a variable whose
classes are sums. A set of classes of one variable is the sum of its classes, or the negation of the
sum of the others where those are fewer, so that one set always has one event.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import ALWAYS, NEVER
from rainpp.relax.nested.arrays import (
    Column,
    Hash,
    HashIndex,
    Index,
    hashed_sums,
    mixed,
    numbered,
    run_lengths,
    run_starts,
    spans,
)

Flags = NDArray[np.bool_]


class Gates:
    """Nodes with their children, variables and levels.

    Parameters
    ----------
    shapes : (V, R) of every slot's predictions.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        rows = np.array([v for v, _ in shapes], np.int64)
        self._slot_classes = np.array([r for _, r in shapes], np.int64)
        self.slot_node = 1 + np.r_[0, np.cumsum(rows * self._slot_classes)]
        self.slot_variable = np.r_[0, np.cumsum(rows)]
        self.first_gate = int(self.slot_node[-1])
        self.num_predictions = int(self.slot_variable[-1])
        self.is_sum, self.variable = Column(np.bool_), Column(np.int64)
        self.number, self.slot = Column(np.int64), Column(np.int64)
        self.start, self.arity, self.level = Column(np.int64), Column(np.int64), Column(np.int64)
        self.left, self.right = Column(np.int64), Column(np.int64)
        self.derived_node, self.derived_classes = Column(np.int64), Column(np.int64)
        self._known, self._derived = HashIndex(), HashIndex()

    def __len__(self) -> int:
        return self.first_gate + len(self.is_sum)

    @property
    def num_variables(self) -> int:
        """Predictions and derived variables."""
        return self.num_predictions + len(self.derived_node)

    def class_nodes(self, slot: int, places: Index, classes: Index) -> Index:
        """Nodes of "row `places[i]` of `slot` has class `classes[i]`"."""
        return self.slot_node[slot] + places * self._slot_classes[slot] + classes

    def _slots(self, variables: Index) -> Index:
        return np.searchsorted(self.slot_variable, variables, side="right") - 1

    def first_class(self, variables: Index) -> Index:
        """Node of class 0 of every variable; the other classes follow it."""
        out = np.empty(len(variables), np.int64)
        base = variables < self.num_predictions
        known = variables[base]
        slots = self._slots(known)
        offset = (known - self.slot_variable[slots]) * self._slot_classes[slots]
        out[base] = self.slot_node[slots] + offset
        out[~base] = self.derived_node.all[variables[~base] - self.num_predictions]
        return out

    def num_classes(self, variables: Index) -> Index:
        """Number of classes of every variable."""
        out = np.empty(len(variables), np.int64)
        base = variables < self.num_predictions
        out[base] = self._slot_classes[self._slots(variables[base])]
        out[~base] = self.derived_classes.all[variables[~base] - self.num_predictions]
        return out

    def variables(self, nodes: Index) -> Index:
        """The variable a node is a set of classes of, -1 for constants and other gates."""
        if not len(self.is_sum):
            return np.where(nodes > 0, self._prediction(nodes), -1)
        gate = nodes >= self.first_gate
        out = np.full(len(nodes), -1, np.int64)
        out[gate] = self.variable.all[nodes[gate] - self.first_gate]
        base = ~gate & (nodes > 0)
        out[base] = self._prediction(nodes[base])
        return out

    def _prediction(self, nodes: Index) -> Index:
        if self.first_gate == 1:
            return np.full(len(nodes), -1)
        if len(self._slot_classes) == 1:
            return (nodes - 1) // self._slot_classes[0]
        slots = np.searchsorted(self.slot_node, nodes, side="right") - 1
        slots = np.maximum(slots, 0)
        return (
            self.slot_variable[slots]
            + (nodes - self.slot_node[slots]) // (self._slot_classes[slots])
        )

    def levels(self, nodes: Index) -> Index:
        """Longest way down to a class."""
        out = np.zeros(len(nodes), np.int64)
        gate = nodes >= self.first_gate
        out[gate] = self.level.all[nodes[gate] - self.first_gate]
        return out

    def children(self, gates: Index) -> tuple[Index, Index, Index]:
        """Edges of gates (node numbers): position in `gates`, left event, right event."""
        at = gates - self.first_gate
        lengths = self.arity.all[at]
        edge = spans(self.start.all[at], lengths)
        return np.repeat(np.arange(len(gates)), lengths), self.left.all[edge], self.right.all[edge]

    def members(self, nodes: Index) -> tuple[Index, Index]:
        """Classes in every literal node, ascending: position in `nodes`, class."""
        single = self.is_class(nodes)
        lengths = np.ones(len(nodes), np.int64)
        sets = nodes[~single] - self.first_gate
        lengths[~single] = self.arity.all[sets]
        owner = np.repeat(np.arange(len(nodes)), lengths)
        found = nodes[owner]
        edge = spans(self.start.all[sets], self.arity.all[sets])
        found[~single[owner]] = self.left.all[edge] >> 1
        return owner, found - self.first_class(self.variables(nodes))[owner]

    def is_class(self, nodes: Index) -> Flags:
        """Whether a node is one class of a variable."""
        out = (nodes > 0) & (nodes < self.first_gate)
        gate = nodes >= self.first_gate
        out[gate] = self.number.all[nodes[gate] - self.first_gate] >= 0
        return out

    def class_sets(self, variables: Index, owner: Index, classes: Index) -> Index:
        """Events "variable i has one of the classes listed for owner i"; pairs sorted, distinct."""
        sizes, first = self.num_classes(variables), self.first_class(variables)
        held = np.bincount(owner, minlength=len(variables))
        flip = 2 * held > sizes
        if flip.any():
            owner, classes = _complemented(owner, classes, sizes, flip)
            held = np.where(flip, sizes - held, held)
        out = np.full(len(variables), NEVER, np.int64)
        starts = np.cumsum(held) - held
        one = held == 1
        out[one] = 2 * (first[one] + classes[starts[one]])
        many = np.flatnonzero(held > 1)
        edge = spans(starts[many], held[many])
        group = np.repeat(np.arange(len(many)), held[many])
        left = 2 * (first[many][group] + classes[edge])
        out[many] = 2 * self.intern(
            left, np.full(len(left), ALWAYS), group, len(many), variables[many]
        )
        return out ^ flip

    def intern(
        self,
        left: Index,
        right: Index | None,
        group: Index,
        count: int,
        variables: Index | None = None,
    ) -> Index:
        """(count,) nodes of products (`right` None) or sums of the edges of ascending groups.

        Gates with the same edges in any order are one node.
        """
        keys = mixed(left) if right is None else mixed(mixed(left) * np.uint64(3) + mixed(right))
        tag = np.uint64(0x51ED270B if right is None else 0xA24BAED4963EE407)
        hashes: Hash = mixed(hashed_sums(keys, group, count) + tag)
        unique, first, inverse = numbered(hashes)
        nodes = self._known.find(unique)
        new = np.flatnonzero(nodes < 0)
        # Numbered in the order they were asked for, so that sums run in a fixed order.
        new = new[np.argsort(first[new])]
        nodes[new] = len(self) + np.arange(len(new))
        self._known.add(unique[np.sort(new)], nodes[np.sort(new)])
        chosen = first[new]
        edge, lengths = _edges_of(chosen, group, count)
        rights = np.full(len(edge), ALWAYS) if right is None else right[edge]
        owned = None if variables is None else variables[chosen]
        self.append(left[edge], rights, lengths, summed=right is not None, variables=owned)
        return nodes[inverse]

    def append(
        self,
        left: Index,
        right: Index,
        lengths: Index,
        *,
        summed: bool,
        variables: Index | None = None,
        numbers: Index | None = None,
    ) -> None:
        """Add gates; none may be without edges.

        Sets of classes know their `variables`; classes of derived variables also their `numbers`.
        """
        blank = np.full(len(lengths), -1)
        starts = np.cumsum(lengths) - lengths
        below = np.maximum(self.levels(left >> 1), self.levels(right >> 1))
        self.start.extend(len(self.left) + starts)
        self.arity.extend(lengths)
        self.level.extend(1 + np.maximum.reduceat(below, starts) if len(starts) else starts)
        self.is_sum.extend(np.full(len(lengths), summed))
        self.variable.extend(blank if variables is None else variables)
        self.number.extend(blank if numbers is None else numbers)
        self.slot.extend(blank)
        self.left.extend(left)
        self.right.extend(right)

    def append_classes(self, events: Index, variables: Index, numbers: Index) -> None:
        """Add classes of derived variables, one gate for each event."""
        ones, always = np.ones(len(events), np.int64), np.full(len(events), ALWAYS)
        self.append(events, always, ones, summed=True, variables=variables, numbers=numbers)

    def derive(self, events: Index, owner: Index) -> tuple[Index, Flags]:
        """Events of the classes of variables, which are the events of ascending owners.

        The events of one owner must exclude one another and together be certain. The same events
        make the same variable; the flags say of every event whether its variable is new.
        """
        starts = run_starts(owner)
        sizes = run_lengths(starts, len(owner))
        group = np.repeat(np.arange(len(starts)), sizes)
        numbers = np.arange(len(events)) - starts[group]
        keys = mixed(mixed(events) * np.uint64(3) + mixed(numbers))
        hashes = mixed(hashed_sums(keys, group, len(starts)))
        unique, at, which = numbered(hashes)
        known = self._derived.find(unique)
        unknown = known < 0
        new = np.zeros(len(starts), bool)
        new[at[unknown]] = True
        lengths = sizes[new]
        made = np.zeros(len(starts), np.int64)
        made[new] = len(self) + np.cumsum(lengths) - lengths
        nodes = np.where(unknown, made[at], known)
        self._derived.add(unique[unknown], nodes[unknown])
        first, fresh = nodes[which], new[group]
        variables = self.num_variables + np.repeat(np.arange(len(lengths)), lengths)
        self.derived_node.extend(made[new])
        self.derived_classes.extend(lengths)
        self.append_classes(events[fresh], variables, numbers[fresh])
        return 2 * (first[group] + numbers), fresh


def _edges_of(chosen: Index, group: Index, count: int) -> tuple[Index, Index]:
    """Places of some groups among ascending `group`, one after the other, and their sizes."""
    bounds = np.searchsorted(group, np.arange(count + 1))
    lengths = bounds[chosen + 1] - bounds[chosen]
    return spans(bounds[chosen], lengths), lengths


def _complemented(owner: Index, classes: Index, sizes: Index, flip: Flags) -> tuple[Index, Index]:
    """Pairs in which owners with `flip` have the classes they had not."""
    offsets = np.cumsum(sizes) - sizes
    dense = np.zeros(int(sizes.sum()), bool)
    dense[offsets[owner] + classes] = True
    dense ^= np.repeat(flip, sizes)
    hit = np.flatnonzero(dense)
    found = np.repeat(np.arange(len(sizes)), sizes)[hit]
    return found, hit - offsets[found]
