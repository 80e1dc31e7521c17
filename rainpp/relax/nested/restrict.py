"""What becomes of formulas when the class of a variable is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainpp.relax.nested.algebra import ALWAYS, NEVER
from rainpp.relax.nested.arrays import Index, distinct, numbered, run_starts, unknown
from rainpp.relax.nested.connect import conjunctions, sums
from rainpp.relax.nested.gates import Flags, Gates
from rainpp.relax.nested.support import Supports


def restricted(
    gates: Gates, supports: Supports, events: Index, variables: Index, classes: Index
) -> Index:
    """(n,) event i given that variable i has class i."""
    width = int(gates.num_classes(variables).max()) if len(variables) else 1
    cases, _, case = numbered(variables * width + classes)
    work = _Restriction(gates, supports, cases // width, cases % width)
    return work.run(events, case)


@dataclass(eq=False, slots=True)
class _Restriction:
    """An item is a node with a case: a variable and its class. Only nodes it concerns are items."""

    gates: Gates
    supports: Supports
    variable: Index
    number: Index

    def run(self, events: Index, case: Index) -> Index:
        """Events under their cases."""
        items = self._gathered(events >> 1, case)
        results = np.full(len(items), NEVER, np.int64)
        nodes, cases = items // len(self.variable), items % len(self.variable)
        token = self.supports.is_token(nodes)
        results[token] = self._decided(nodes[token], cases[token])
        inner = np.flatnonzero(~token)
        levels = self.gates.levels(nodes[inner])
        order = np.argsort(levels, kind="stable")
        for part in np.split(inner[order], run_starts(levels[order])[1:]):
            for summed in (False, True):
                chosen = part[self.gates.is_sum.all[nodes[part] - self.gates.first_gate] == summed]
                if len(chosen):
                    results[chosen] = self._rebuilt(
                        nodes[chosen], cases[chosen], items, results, summed=summed
                    )
        return self._looked_up(events, case, items, results)

    def _concerned(self, nodes: Index, case: Index) -> Flags:
        return self.supports.contain(self.supports.of(nodes), self.variable[case])

    def _keys(self, nodes: Index, case: Index) -> Index:
        return nodes * len(self.variable) + case

    def _gathered(self, nodes: Index, case: Index) -> Index:
        """Every item below, ascending."""
        found = np.zeros(0, np.int64)
        while True:
            here = self._concerned(nodes, case)
            ahead = distinct(self._keys(nodes[here], case[here]))
            ahead = unknown(ahead, found)
            if not len(ahead):
                return found
            found = np.sort(np.concatenate([found, ahead]))
            nodes, case = ahead // len(self.variable), ahead % len(self.variable)
            inner = ~self.supports.is_token(nodes)
            owner, left, right = self.gates.children(nodes[inner])
            nodes = np.concatenate([left, right]) >> 1
            case = np.tile(case[inner][owner], 2)

    def _decided(self, nodes: Index, case: Index) -> Index:
        owner, classes = self.gates.members(nodes)
        out = np.full(len(nodes), NEVER, np.int64)
        out[owner[classes == self.number[case][owner]]] = ALWAYS
        return out

    def _looked_up(self, events: Index, case: Index, items: Index, results: Index) -> Index:
        if not len(items):
            return events
        keys = self._keys(events >> 1, case)
        at = np.minimum(np.searchsorted(items, keys), len(items) - 1)
        return np.where(items[at] == keys, results[at] ^ (events & 1), events)

    def _rebuilt(
        self, nodes: Index, case: Index, items: Index, results: Index, *, summed: bool
    ) -> Index:
        owner, left, right = self.gates.children(nodes)
        left = self._looked_up(left, case[owner], items, results)
        if not summed:
            return conjunctions(self.gates, left, owner, len(nodes))
        right = self._looked_up(right, case[owner], items, results)
        return sums(self.gates, left, right, owner, len(nodes))
