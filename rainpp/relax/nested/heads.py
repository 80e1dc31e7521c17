"""Gates with many values at once, each of which is the event of a class of a derived variable.

A *head* reads a list of events and gives values in numbered slots. Its edges are those events; a
class is a sum of one pair (head, always) that remembers its slot. What a head computes is a
`Kernel`; heads of the counting kind are evaluated together, whichever events ask for them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import ALWAYS, Intractable
from rainpp.relax.nested.arrays import (
    Column,
    Hash,
    HashIndex,
    Index,
    numbered,
    run_lengths,
    run_starts,
    spans,
)
from rainpp.relax.nested.gates import Flags, Gates

Array = NDArray[np.float64]


class Kernel(Protocol):
    """Values of one or several heads from the probabilities of their edges, and the way back."""

    def forward(self, inputs: Array) -> Array:
        """Values of all slots, head by head."""
        ...

    def backward(self, slopes: Array) -> Array:
        """Slopes along the inputs last seen, from those along the slots."""
        ...


class Heads:
    """Heads by number; ascending numbers have ascending nodes.

    A `Maker` says what the heads of a kind compute.
    """

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.node, self.slots, self._maker = Column(np.int64), Column(np.int64), Column(np.int64)
        self._makers: list[Maker] = []
        self._derived = HashIndex()
        self._of_variable: dict[int, int] = {}

    def register(self, maker: Maker) -> int:
        """A number for a kind of heads."""
        self._makers.append(maker)
        return len(self._makers) - 1

    def __len__(self) -> int:
        return len(self.node)

    def add(self, maker: int, events: Index, sizes: Index, slots: Index, reserve: Index) -> Index:
        """Numbers of new heads over `sizes` events each.

        `reserve` is how many levels of ordinary gates may have to take their place.
        """
        first, gates = len(self), self.gates
        count = len(sizes)
        self.node.extend(len(gates) + np.arange(count))
        self.slots.extend(slots)
        self._maker.extend(np.full(count, maker))
        gates.append(events, np.full(len(events), ALWAYS), sizes, summed=True)
        gates.level.all[len(gates.level) - count :] += reserve
        return first + np.arange(count)

    def classes(self, heads: Index, owner: Index, slots: Index) -> Index:
        """Events of the classes of one new variable per ascending owner; class c reads slots[c]."""
        gates = self.gates
        starts = run_starts(owner)
        sizes = run_lengths(starts, len(owner))
        first = len(gates)
        gates.derived_node.extend(first + starts)
        gates.derived_classes.extend(sizes)
        variables = gates.num_variables - len(starts) + np.arange(len(starts))
        self._of_variable.update(zip(variables.tolist(), heads.tolist(), strict=True))
        number = np.arange(len(owner)) - np.repeat(starts, sizes)
        left = 2 * self.node.all[np.repeat(heads, sizes)]
        gates.append_classes(left, np.repeat(variables, sizes), number)
        gates.slot.all[first - gates.first_gate :] = slots
        return 2 * (first + np.arange(len(owner)))

    def known(self, hashes: Hash) -> tuple[Index, Flags]:
        """Node of class 0 of variables seen before, -1 else; which are to be made, each once."""
        unique, first, inverse = numbered(hashes)
        found = self._derived.find(unique)
        fresh = np.zeros(len(hashes), bool)
        fresh[first[found < 0]] = True
        return found[inverse], fresh

    def remember(self, hashes: Hash, nodes: Index) -> None:
        """Class 0 of new variables by distinct hashes."""
        order = np.argsort(hashes)
        self._derived.add(hashes[order], nodes[order])

    def number(self, nodes: Index) -> Index:
        """(n,) heads of nodes, -1 for other nodes."""
        if not len(self):
            return np.full(len(nodes), -1)
        at = np.minimum(np.searchsorted(self.node.all, nodes), len(self) - 1)
        return np.where(self.node.all[at] == nodes, at, -1)

    def kernels(self, heads: Index) -> list[tuple[Index, Kernel]]:
        """Positions in `heads` and the kernel of these, for all of them."""
        kinds = self._maker.all[heads]
        out: list[tuple[Index, Kernel]] = []
        for kind in np.unique(kinds):
            at = np.flatnonzero(kinds == kind)
            for rows, kernel in self._makers[int(kind)].kernels(heads[at]):
                out.append((at[rows], kernel))
        return out

    def unfold(self, variables: Index) -> None:
        """Let classes of variables be formulas of ordinary gates.

        Raises
        ------
        Intractable : that is too large, or there is no such formula.
        """
        head = np.array([self._of_variable.get(v, -1) for v in variables.tolist()], np.int64)
        variables, head = variables[head >= 0], head[head >= 0]
        kinds = self._maker.all[head]
        for kind in np.unique(kinds):
            mine = kinds == kind
            self._unfold(self._makers[int(kind)], variables[mine], head[mine])

    def _unfold(self, maker: Maker, variables: Index, head: Index) -> None:
        gates, place = self.gates, variables - self.gates.num_predictions
        unique, _, number = numbered(head)
        width = self.slots.all[unique]
        events = maker.formulas(unique)
        sizes = gates.derived_classes.all[place]
        nodes = spans(gates.derived_node.all[place] - gates.first_gate, sizes)
        base = (np.cumsum(width) - width)[number]
        chosen = events[np.repeat(base, sizes) + gates.slot.all[nodes]]
        if (gates.levels(chosen >> 1) >= gates.level.all[nodes]).any():
            raise Intractable("aggregates over uncertain rows take too many steps")
        gates.left.all[gates.start.all[nodes]] = chosen
        gates.slot.all[nodes] = -1
        for variable in variables.tolist():
            del self._of_variable[variable]


class Maker(Protocol):
    """A kind of heads."""

    def kernels(self, heads: Index) -> list[tuple[Index, Kernel]]:
        """Kernels for several heads, and the positions each is for."""
        ...

    def formulas(self, heads: Index) -> Index:
        """Events of all slots of distinct heads, made of ordinary gates."""
        ...
