"""Values of gates from values of classes, and the way back: two passes over the levels.

Right only where every product has factors without a common variable; `compile` sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.arrays import Column, Index, distinct, run_lengths, run_starts, spans
from rainpp.relax.nested.convolve import products_of_others
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.heads import Heads, Kernel

Array = NDArray[np.float64]


def resolved(events: Index, moved: Index, first_gate: int) -> Index:
    """Events with nodes replaced by the ones they were compiled to; `moved` is -1 elsewhere."""
    while True:
        gate = np.flatnonzero(events >> 1 >= first_gate)
        into = moved[(events[gate] >> 1) - first_gate]
        hit = into >= 0
        if not hit.any():
            return events
        events = events.copy()
        events[gate[hit]] = into[hit] ^ (events[gate[hit]] & 1)


@dataclass(frozen=True, eq=False, slots=True)
class GateLayer:
    """Products or sums whose children have values already; edges are grouped by gate."""

    gates: Index
    starts: Index
    owner: Index
    left: Index
    right: Index | None

    def forward(self, values: Array) -> None:
        """Set the values of the layer's gates."""
        if self.right is None:
            values[self.gates] = np.multiply.reduceat(_signed(values, self.left), self.starts)
        else:
            pairs = _signed(values, self.left) * _signed(values, self.right)
            values[self.gates] = np.add.reduceat(pairs, self.starts)

    def backward(self, values: Array, slopes: Array) -> None:
        """Pass the slopes of the layer's gates on to their children."""
        above = slopes[self.gates][self.owner]
        if self.right is None:
            factors = _signed(values, self.left)
            _add(slopes, self.left, above * products_of_others(factors, self.starts, self.owner))
        else:
            _add(slopes, self.left, above * _signed(values, self.right))
            _add(slopes, self.right, above * _signed(values, self.left))


def _signed(values: Array, events: Index) -> Array:
    found = values[events >> 1]
    return np.where(events & 1, 1.0 - found, found)


def _add(slopes: Array, events: Index, amounts: Array) -> None:
    np.add.at(slopes, events >> 1, np.where(events & 1, -amounts, amounts))


class Layer(Protocol):
    """Gates whose children have values already."""

    def forward(self, values: Array) -> None:
        """Set the values of the layer's gates."""
        ...

    def backward(self, values: Array, slopes: Array) -> None:
        """Pass the slopes of the layer's gates on to their children."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class HeadLayer:
    """Heads of one kind: the events of their edges, and the places of their slots."""

    kernel: Kernel
    edges: Index
    slots: Index

    def forward(self, values: Array) -> None:
        """Set the values of the slots."""
        values[self.slots] = self.kernel.forward(_signed(values, self.edges))

    def backward(self, values: Array, slopes: Array) -> None:
        """Pass the slopes of the slots on to the edges."""
        del values
        _add(slopes, self.edges, self.kernel.backward(slopes[self.slots]))


@dataclass(eq=False, slots=True)
class Sweep:
    """What a set of events is made of, layer by layer.

    `leaves` are the class nodes (and node 0) below; a position in it, or behind it, is a place in
    the array of values.
    """

    leaves: Index
    size: int
    layers: list[Layer]
    roots: Index
    _values: Array | None = field(default=None)
    _given: Array | None = field(default=None)

    def values(self, probabilities: Array) -> Array:
        """(n,) probabilities of the events, from those of all class nodes; node 0 has zero."""
        values = np.empty(self.size)
        values[: len(self.leaves)] = probabilities[self.leaves]
        for layer in self.layers:
            layer.forward(values)
        self._values, self._given = values, probabilities
        return _signed(values, self.roots)

    def slopes(self, probabilities: Array, adjoint: Array) -> tuple[Index, Array]:
        """Class nodes, each once, and the slope of Σ adjoint · probability along each."""
        if self._values is None or self._given is not probabilities:
            self.values(probabilities)
        assert self._values is not None
        slopes = np.zeros(self.size)
        _add(slopes, self.roots, adjoint)
        for layer in reversed(self.layers):
            layer.backward(self._values, slopes)
        real = self.leaves > 0
        return self.leaves[real], slopes[: len(self.leaves)][real]


def sweep(heads: Heads, moved: Index, events: Index) -> Sweep:
    """Arrange everything below `events` in layers."""
    gates = heads.gates
    roots = resolved(events, moved, gates.first_gate)
    found, edges = _below(gates, moved, roots)
    nodes = distinct(
        np.concatenate(
            [[0], roots >> 1, *(edge[1] >> 1 for edge in edges)] + [edge[2] >> 1 for edge in edges]
        )
    )
    leaves = nodes[nodes < gates.first_gate]
    # A table over all nodes: searching a million children in a million leaves took 1 s.
    places = np.empty(len(gates), np.int64)
    places[leaves] = np.arange(len(leaves))
    places[found] = len(leaves) + np.arange(len(found))

    def local(events: Index) -> Index:
        return 2 * places[events >> 1] + (events & 1)

    owner, left, right = (
        np.concatenate([np.zeros(0, np.int64), *(edge[side] for edge in edges)])
        for side in range(3)
    )
    graph = _Graph(heads, found, len(leaves), owner, local(left), local(right))
    return Sweep(leaves, graph.size, graph.layers(), local(roots))


def _below(
    gates: Gates, moved: Index, roots: Index
) -> tuple[Index, list[tuple[Index, Index, Index]]]:
    """Gates reached from `roots`, each once, and edges (position of the gate, left, right)."""
    seen = np.zeros(len(gates) - gates.first_gate, bool)
    found = Column(np.int64)
    edges: list[tuple[Index, Index, Index]] = []
    ahead = roots >> 1
    while True:
        ahead = distinct(ahead[ahead >= gates.first_gate])
        ahead = ahead[~seen[ahead - gates.first_gate]]
        if not len(ahead):
            return found.all, edges
        seen[ahead - gates.first_gate] = True
        owner, left, right = gates.children(ahead)
        left = resolved(left, moved, gates.first_gate)
        right = resolved(right, moved, gates.first_gate)
        edges.append((owner + len(found), left, right))
        found.extend(ahead)
        ahead = np.concatenate([left, right]) >> 1


@dataclass(eq=False, slots=True)
class _Graph:
    """Gates by position, and their edges sorted by gate, over places in the array of values.

    The slots of heads come after all gates; classes of a head read them instead of the head.
    """

    heads: Heads
    gates: Index
    offset: int
    owner: Index
    left: Index
    right: Index
    size: int = field(init=False)
    _head: Index = field(init=False)
    _slots: Index = field(init=False)
    _read: Index = field(init=False)

    def __post_init__(self) -> None:
        self._head = self.heads.number(self.gates)
        widths = np.zeros(len(self.gates), np.int64)
        found = self._head >= 0
        widths[found] = self.heads.slots.all[self._head[found]]
        self._slots = self.offset + len(self.gates) + np.cumsum(widths) - widths
        self.size = self.offset + len(self.gates) + int(widths.sum())
        store = self.heads.gates
        slot = store.slot.all[self.gates - store.first_gate][self.owner]
        self._read = self.left
        reads = np.flatnonzero(slot >= 0)
        if len(reads):
            self._read = self.left.copy()
            head = self.left[reads] // 2 - self.offset
            self._read[reads] = 2 * (self._slots[head] + slot[reads])

    def layers(self) -> list[Layer]:
        """Gates in rounds: a gate is ready when all its children have values."""
        starts = run_starts(self.owner)
        lengths = run_lengths(starts, len(self.owner))
        kind = self.heads.gates.is_sum.all[self.gates - self.heads.gates.first_gate].astype(int)
        kind[self._head >= 0] = 2
        child = np.concatenate([self.left, self.right]) // 2 - self.offset
        parent = np.concatenate([self.owner, self.owner])
        parent, child = parent[child >= 0], child[child >= 0]
        waiting = np.bincount(parent, minlength=len(starts))
        parent = parent[np.argsort(child, kind="stable")]
        ups = np.bincount(child, minlength=len(starts))
        first = np.cumsum(ups) - ups
        ready, out = np.flatnonzero(waiting == 0), list[Layer]()
        while len(ready):
            for number in range(3):
                chosen = ready[kind[ready] == number]
                if len(chosen):
                    out += self._layer(chosen, starts[chosen], lengths[chosen], number)
            above = np.sort(parent[spans(first[ready], ups[ready])])
            heads = run_starts(above)
            told, times = above[heads], run_lengths(heads, len(above))
            waiting[told] -= times
            ready = told[waiting[told] == 0]
        return out

    def _layer(self, chosen: Index, starts: Index, lengths: Index, kind: int) -> list[Layer]:
        if kind == 2:
            return [
                self._head_layer(chosen[at], starts[at], lengths[at], kernel)
                for at, kernel in self.heads.kernels(self._head[chosen])
            ]
        edge = spans(starts, lengths)
        begin = np.cumsum(lengths) - lengths
        owner = np.repeat(np.arange(len(chosen)), lengths)
        right = self.right[edge] if kind == 1 else None
        return [GateLayer(chosen + self.offset, begin, owner, self._read[edge], right)]

    def _head_layer(
        self, chosen: Index, starts: Index, lengths: Index, kernel: Kernel
    ) -> HeadLayer:
        slots = spans(self._slots[chosen], self.heads.slots.all[self._head[chosen]])
        return HeadLayer(kernel, self.left[spans(starts, lengths)], slots)
