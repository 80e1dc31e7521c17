"""One measure as nested sums: every side sends the next one what it amounts to per key and class.

For two sides joined on a key k and on equal classes the message is S[k, c] = Σ P[r, c] over the
rows r of one side; the value is Σ P[l, c] S[k_l, c] over the rows l of the other, and S is the
derivative by P[l, c]. Trees of sides nest the same step. In a self-join the pairs of a row with
itself, whose two predictions are one variable, are subtracted as they were and added as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rainpp.relax.events import Leaf
from rainpp.relax.formula import Term
from rainpp.relax.measures import Measure
from rainpp.relax.portable.keys import Key
from rainpp.relax.portable.masks import ClassColumn, Writer, class_column, hole_alias
from rainpp.relax.portable.select import Factor, Rows, summed
from rainpp.relax.portable.ties import Tie, neighbours, ties
from rainpp.relax.query import Atom
from rainpp.relax.strategy import Layout, terms

Chosen = Sequence[tuple[Key, str]]


@dataclass(frozen=True, eq=False, slots=True)
class Sum:
    """Σ over joined rows of a measure; `chosen` picks one group, else it is by `keys`."""

    writer: Writer
    layout: Layout
    measure: Measure
    keys: tuple[Key, ...]
    chosen: Chosen = ()

    def totals(self) -> list[str]:
        """SELECTs of (keys ..., w), whose sum per group is the measure."""
        root = self.layout.root
        keys = () if self.chosen else self.keys
        rows = self._meeting(root, None, keys)
        columns = [(self._key_column(key, root), key.name) for key in keys]
        found = [_grouped(rows, columns, rows.weight())]
        for sign, pairs in self._diagonal():
            columns = [(key.sql, key.name) for key in keys]
            found.append(_grouped(pairs, columns, f"{sign} * {pairs.weight()}"))
        return found

    def derivatives(self, slot: int) -> list[str]:
        """SELECTs of (rid, cls, w), whose sum is the derivative by that probability."""
        found: list[str] = []
        for side in range(len(self.layout.sides)):
            rows = self._meeting(side, None, ())
            found += [_derivative(rows, a, "1") for a in rows.atoms if a.slot == slot]
        for sign, pairs in self._diagonal():
            found += [_derivative(pairs, a, sign) for a in pairs.atoms if a.slot == slot]
        return found

    def _meeting(self, side: int, toward: int | None, keys: Sequence[Key]) -> Rows:
        """The rows of a side with the messages of all neighbours but one joined to them."""
        rows = self._rows(side)
        for tie in neighbours(ties(self.layout), side, toward):
            other = tie.other(side)
            name = f"rainpp_m_{other}"
            rows.tables.append(f"({self._message(other, tie, keys)}) AS {name}")
            rows.where.append(tie.met(side, name, self.writer))
            rows.where += [
                self.writer.event(leaf, self._column_beside(side, name))
                for leaf in self._between(side, other)
            ]
            rows.factors.append(Factor(f"{name}.w"))
        return rows

    def _message(self, side: int, tie: Tie, keys: Sequence[Key]) -> str:
        toward = tie.other(side)
        rows = self._meeting(side, toward, keys)
        columns = tie.sent(side, self.writer)
        opened = self.layout.opened[side]
        if opened is not None and self._between(side, toward):
            columns.append((class_column(opened), "cls"))
        columns += [(key.sql, key.name) for key in keys if self._at(key) == side]
        return _grouped(rows, columns or [("1", "everything")], rows.weight())

    def _rows(self, side: int) -> Rows:
        """The rows of one side alone, weighted."""
        spec, term = self.layout.sides[side], terms(self.measure, self.layout)[0][side]
        keyed = {key.atom for key in self.keys if key.atom and key.atom.source in spec.sources}
        atoms = term.atoms() | keyed
        rows = Rows.of(self.writer, spec.sources, spec.conditions, atoms)
        self._restrict(rows, term)
        rows.where += [part for key, part in self.chosen if self._at(key) == side]
        return rows

    def _diagonal(self) -> Iterator[tuple[str, Rows]]:
        """Rows paired with themselves: as one variable, and less them as two."""
        twin = self.layout.twin
        if twin is None:
            return
        cut, cross = terms(self.measure, self.layout)
        atoms = {atom for term in cut for atom in term.atoms()}
        same = f"{self.writer.row_id(twin[0])} = {self.writer.row_id(twin[1])}"
        for sign, apart in (("1", None), ("-1", twin)):
            sources = sorted(s for side in self.layout.sides for s in side.sources)
            rows = Rows.of(self.writer, sources, self.writer.certain, atoms, apart)
            for term in cut:
                self._restrict(rows, term)
            rows.where += [same, *(self.writer.event(leaf) for leaf in cross)]
            rows.where += [part for _, part in self.chosen]
            yield sign, rows

    def _restrict(self, rows: Rows, term: Term) -> None:
        rows.where += [self.writer.event(event) for event in term.events]
        if term.payload is not None:
            rows.factors.append(Factor(self.writer.number(term.payload)))

    def _between(self, side: int, other: int) -> list[Leaf]:
        """Relations between a prediction of one side and one of another."""
        cross = terms(self.measure, self.layout)[1]
        met = {side, other}
        return [
            leaf for leaf in cross if {self.layout.side_of(a.source) for a in leaf.atoms} == met
        ]

    def _column_beside(self, side: int, message: str) -> ClassColumn:
        inside = self.layout.sides[side].sources
        return lambda atom: class_column(atom) if atom.source in inside else f"{message}.cls"

    def _at(self, key: Key) -> int:
        """The side that has a key; one without columns can be anywhere."""
        return self.layout.side_of(min(key.sources)) if key.sources else self.layout.root

    def _key_column(self, key: Key, root: int) -> str:
        side = self._at(key)
        return key.sql if side == root else f"rainpp_m_{side}.{key.name}"


def of_group(found: Sum, chosen: Chosen) -> Sum:
    """The same sum for one group."""
    return replace(found, chosen=tuple(chosen))


def _grouped(rows: Rows, columns: Sequence[tuple[str, str]], weight: str) -> str:
    columns = columns or [("1", "everything")]
    inner = rows.select([*columns, (weight, "w")])
    return summed(inner, [name for _, name in columns])


def _derivative(rows: Rows, atom: Atom, sign: str) -> str:
    alias = hole_alias(atom)
    weight = f"{sign} * {rows.weight(atom)}"
    columns = [(f"{alias}.rid", "rid"), (f"{alias}.cls", "cls"), (weight, "w")]
    return summed(rows.select(columns, rows.derivative_where(atom)), ["rid", "cls"])
