"""From events and payloads to tensors: which predictions of a row belong together.

Exact mode must never multiply two factors that share a prediction. Parts that share one are
merged into a joint table over their classes; the rest stay separate and multiply. In a self-join
the two sides of a row pair may be the same row, hence the same prediction: such rows get a block
of their own in which the two atoms are one variable.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.capture import Index, Relation
from rainpp.relax.events import All, Any, Event, Leaf, atoms_of, leaves
from rainpp.relax.masks import MAX_COMBINATIONS, MAX_CONSTANT, Factor, refuse_size
from rainpp.relax.query import Atom
from rainpp.relax.weights import Node, Product, Tensor, Union

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """What is summed over rows: ⟦events⟧ · payload, with one class axis kept if `opened`."""

    events: tuple[Event, ...]
    payload: Leaf | None = None
    opened: Atom | None = None
    masks: tuple[tuple[Atom, tuple[bool, ...]], ...] = ()

    def atoms(self) -> frozenset[Atom]:
        """Every prediction the term depends on."""
        found = {atom for event in self.events for atom in atoms_of(event)}
        found |= set(self.payload.atoms) if self.payload else set()
        found |= {self.opened} if self.opened else set()
        return frozenset(found | {atom for atom, _ in self.masks})


@dataclass(frozen=True, eq=False, slots=True)
class Compiler:
    """Builds the node of one block: `variable` says which atoms are the same prediction."""

    factors: Mapping[str, Factor]
    variable: Mapping[Atom, int]
    sizes: Mapping[int, int]

    def compile(self, term: Term) -> Product:
        """The term as a product whose first part carries the open class axis, if any."""
        items: list[Event] = [*term.events]
        if term.payload is not None:
            items.append(term.payload)
        opened = None if term.opened is None else self.variable[term.opened]
        masks: dict[int, Array] = {}
        for atom, allowed in term.masks:
            v = self.variable[atom]
            masks[v] = masks.get(v, np.ones(self.sizes[v])) * np.asarray(allowed, float)
        if opened is not None:
            masks.setdefault(opened, np.ones(self.sizes[opened]))
        parts = self._parts(items, All, masks, opened)
        return Product(tuple(sorted(parts, key=lambda part: not _is_open(part))))

    def _parts(
        self,
        items: Sequence[Event],
        kind: type[All] | type[Any],
        masks: dict[int, Array],
        opened: int | None,
    ) -> list[Node]:
        """Independent parts: items that share a variable, or touch a mask, become one tensor."""
        nodes: list[Node] = []
        for members, variables in _components(items, masks, self._variables):
            touched = {v: mask for v, mask in masks.items() if v in variables}
            if len(members) == 1 and not touched and not isinstance(members[0], Leaf):
                nodes.append(self._tree(members[0]))
            else:
                keep = opened if opened in variables else None
                nodes.append(self._joint(members, kind, touched, keep))
        return nodes

    def _tree(self, event: All | Any) -> Node:
        parts = tuple(self._parts(event.children, type(event), {}, None))
        return Product(parts) if isinstance(event, All) else Union(parts)

    def _variables(self, event: Event) -> frozenset[int]:
        return frozenset(self.variable[atom] for atom in atoms_of(event))

    def _joint(
        self,
        members: Sequence[Event],
        kind: type[All] | type[Any],
        masks: dict[int, Array],
        opened: int | None,
    ) -> Tensor:
        used = sorted({v for event in members for v in self._variables(event)} | set(masks))
        shape = tuple(self.sizes[v] for v in used)
        wanted = list(dict.fromkeys(leaves(members)))
        rows, index = _combined([self.factors[leaf.name] for leaf in wanted])
        limit = MAX_CONSTANT if len(used) <= 2 and index is None else MAX_COMBINATIONS
        if len(used) > 1 and math.prod(shape) > limit:
            refuse_size(" AND ".join(leaf.sql for leaf in wanted), shape, limit)
        aligned = {
            leaf.name: self._aligned(leaf, row, used)
            for leaf, row in zip(wanted, rows, strict=True)
        }
        table = _truth(kind(tuple(members)), aligned)
        for v, mask in masks.items():
            table = table * mask.reshape([-1 if w == v else 1 for w in [None, *used]])
        count = 1 if index is None else len(table)
        return Tensor(tuple(used), Factor(np.broadcast_to(table, (count, *shape)), index), opened)

    def _aligned(self, leaf: Leaf, row: Index | None, used: list[int]) -> Array:
        """A leaf's table with one axis per variable in `used`; a variable twice: diagonal."""
        values = self.factors[leaf.name].values
        if row is not None:
            values = values[row]
        axes = [used.index(self.variable[atom]) + 1 for atom in leaf.atoms]
        kept = sorted(set(axes))
        values = np.einsum(f"{_letters([0, *axes])}->{_letters([0, *kept])}", values)
        shape = [len(values)] + [1] * len(used)
        for position, axis in enumerate(kept):
            shape[axis] = values.shape[position + 1]
        return values.reshape(shape)


def _letters(axes: list[int]) -> str:
    return "".join(string.ascii_letters[axis] for axis in axes)


def _is_open(node: Node) -> bool:
    return isinstance(node, Tensor) and node.open_variable is not None


def _truth(event: Event, tables: Mapping[str, Array]) -> Array:
    if isinstance(event, Leaf):
        return tables[event.name]
    parts = [_truth(child, tables) for child in event.children]
    out = np.ones(1)
    for part in parts:
        out = out * (part if isinstance(event, All) else 1.0 - part)
    return out if isinstance(event, All) else 1.0 - out


def _components(
    items: Sequence[Event], masks: dict[int, Array], variables: Callable[[Event], frozenset[int]]
) -> list[tuple[list[Event], frozenset[int]]]:
    """Groups of items connected by shared variables; a masked variable is an item of its own."""
    found: list[tuple[list[Event], frozenset[int]]] = [([], frozenset([v])) for v in masks]
    for item in items:
        members, touched = [item], variables(item)
        separate: list[tuple[list[Event], frozenset[int]]] = []
        for other, theirs in found:
            if theirs & touched:
                members, touched = [*other, *members], touched | theirs
            else:
                separate.append((other, theirs))
        found = [*separate, (members, touched)]
    return found


def _combined(factors: Sequence[Factor]) -> tuple[list[Index | None], Index | None]:
    """Distinct combinations of per-row tables, and which one each row has.

    For every factor the table it contributes to each combination; None for its only one.
    """
    varying = [i for i, factor in enumerate(factors) if factor.index is not None]
    if not varying:
        return [None] * len(factors), None
    indexes = [np.asarray(factors[i].index) for i in varying]
    if len(indexes) == 1:
        rows: list[Index | None] = [None] * len(factors)
        return rows, indexes[0]
    unique, inverse = np.unique(np.stack(indexes, axis=1), axis=0, return_inverse=True)
    rows = [None] * len(factors)
    for column, i in enumerate(varying):
        rows[i] = unique[:, column]
    return rows, inverse.reshape(-1)


def blocks(
    relation: Relation, atoms: frozenset[Atom], *, shared: bool
) -> list[tuple[Index | None, dict[Atom, int]]]:
    """Rows that agree on which atoms are the same prediction, with that identification.

    The row set is None when it is all of them. Without `shared` every atom is its own variable.
    """
    ordered = sorted(atoms)
    twins = [
        (i, j)
        for i, left in enumerate(ordered)
        for j, right in enumerate(ordered)
        if i < j and left.slot == right.slot and left.source != right.source
    ]
    if not shared or not twins:
        return [(None, {atom: number for number, atom in enumerate(ordered)})]
    same = np.stack(
        [relation.rids[ordered[i].source] == relation.rids[ordered[j].source] for i, j in twins], 1
    )
    patterns, which = np.unique(same, axis=0, return_inverse=True)
    found: list[tuple[Index | None, dict[Atom, int]]] = []
    for number, pattern in enumerate(patterns):
        merged = {atom: place for place, atom in enumerate(ordered)}
        for (i, j), equal in zip(twins, pattern, strict=True):
            if equal:
                low, high = sorted((merged[ordered[i]], merged[ordered[j]]))
                merged = {atom: low if v == high else v for atom, v in merged.items()}
        rows = np.flatnonzero(which.reshape(-1) == number)
        found.append((None if len(patterns) == 1 else rows, merged))
    return found
