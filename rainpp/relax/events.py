"""Uncertain conditions as trees of leaves, negation pushed down under three-valued logic.

A leaf is an SQL expression over few predictions that DuckDB evaluates for every class. WHERE keeps
a row only if its condition is TRUE, so NOT swaps "is true" for "is false" at the leaves, and a NULL
comparison is neither.

Exact semantics makes leaves as large as possible: everything over one prediction is one leaf, so
``p = 1 OR p = 4`` and ``p IN (1, 4)`` are the same mask. Rain's rules (Flokas et al. 2022, §2.3)
work on syntax: leaves are single comparisons and each gets its own copy of the prediction, after
which the product rules *are* the exact ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.relax.dialect import render
from rainpp.relax.query import Atom, Query, Scalar, hole_name, is_amount


class Reading(Enum):
    """What is asked of an SQL expression: is it true, is it false, or what number is it."""

    TRUE = "IS TRUE"
    FALSE = "IS FALSE"
    NUMBER = "AS DOUBLE"


@dataclass(frozen=True, eq=False, slots=True)
class Leaf:
    """One SQL expression, read as `reading`; axis i of its table belongs to `atoms[i]`.

    `constant` leaves depend on the classes alone; the others have a table per captured row.
    """

    name: str
    sql: str
    reading: Reading
    atoms: tuple[Atom, ...]
    sources: frozenset[int]
    constant: bool


@dataclass(frozen=True, eq=False, slots=True)
class All:
    """Every child holds."""

    children: tuple[Event, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Any:
    """At least one child holds."""

    children: tuple[Event, ...]


Event = Leaf | All | Any


def leaves(events: Iterable[Event]) -> Iterator[Leaf]:
    """Every leaf below `events`, in order."""
    for event in events:
        if isinstance(event, Leaf):
            yield event
        else:
            yield from leaves(event.children)


def atoms_of(event: Event) -> frozenset[Atom]:
    """The predictions an event depends on."""
    return frozenset(atom for leaf in leaves([event]) for atom in leaf.atoms)


def sources_of(event: Event) -> frozenset[int]:
    """The sources an event depends on, by column or by prediction."""
    return frozenset(source for leaf in leaves([event]) for source in leaf.sources)


@dataclass(eq=False, slots=True)
class EventBuilder:
    """Makes events and payload leaves out of scalars; equal leaves are made once in exact mode."""

    query: Query
    dialect: Dialect
    exact: bool
    made: dict[tuple[str, Reading], Leaf] = field(default_factory=dict[tuple[str, Reading], Leaf])
    copies: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def condition(self, scalar: Scalar) -> Event:
        """The event that `scalar`, a WHERE condition, is TRUE."""
        return self._event(scalar.node, negated=False)

    def present(self, scalar: Scalar) -> Leaf:
        """The event that `scalar` is not NULL."""
        inner = exp.Paren(this=scalar.node.copy())
        self._settle_amounts(inner)
        node = exp.Not(this=exp.Is(this=inner, expression=exp.Null()))
        return self._leaf(node, Reading.TRUE)

    def _settle_amounts(self, node: exp.Expr) -> None:
        """No number is NULL: one will do for all."""
        amounts = {hole_name(h) for h, _ in self.query.calls if is_amount(self.query.slots[h[0]])}
        for column in list(node.find_all(exp.Column)) if amounts else []:
            if not column.table and column.name in amounts:
                column.replace(exp.cast(exp.Literal.number(0), "DOUBLE"))

    def number(self, scalar: Scalar) -> Leaf:
        """`scalar` as a number per class, NULL read as zero."""
        return self._leaf(scalar.node, Reading.NUMBER)

    def atom(self, hole: tuple[int, int]) -> Atom:
        """A prediction variable for one occurrence of `hole`."""
        return Atom(*hole) if self.exact else Atom(*hole, copy=next(self.copies))

    def _event(self, node: exp.Expr, *, negated: bool) -> Event:
        node = node.unnest()
        splits = isinstance(node, (exp.And, exp.Or, exp.Not))
        if not splits or (self.exact and len(self._parts(node)[0]) <= 1):
            return self._leaf(node, Reading.FALSE if negated else Reading.TRUE)
        if isinstance(node, exp.Not):
            return self._event(node.this, negated=not negated)
        kind = All if isinstance(node, exp.And) != negated else Any
        operands = [node.args["this"], node.args["expression"]]
        return kind(tuple(self._event(operand, negated=negated) for operand in operands))

    def _leaf(self, node: exp.Expr, reading: Reading) -> Leaf:
        key = (render(node, self.dialect), reading)
        if self.exact and key in self.made:
            return self.made[key]
        holes, columns = self._parts(node)
        leaf = Leaf(
            f"leaf_{len(self.made) if self.exact else next(self.copies)}",
            key[0],
            reading,
            tuple(self.atom(hole) for hole in holes),
            columns | {source for _, source in holes},
            not columns and bool(holes),
        )
        self.made[key if self.exact else (leaf.name, reading)] = leaf
        return leaf

    def part(self, node: exp.Expr, shown: str) -> Scalar:
        """A piece of a lowered expression as a scalar of its own."""
        holes, columns = self._parts(node)
        return Scalar(node, render(node, self.dialect), shown, tuple(holes), columns)

    def _parts(self, node: exp.Expr) -> tuple[list[tuple[int, int]], frozenset[int]]:
        """The holes of a lowered expression, sorted, and the sources of its columns."""
        names = {hole_name(hole): hole for hole, _ in self.query.calls}
        aliases = {source.alias: index for index, source in enumerate(self.query.sources)}
        holes: set[tuple[int, int]] = set()
        sources: set[int] = set()
        for column in node.find_all(exp.Column):
            if not column.table and column.name in names:
                holes.add(names[column.name])
            else:
                sources.add(aliases[column.table])
        return sorted(holes), frozenset(sources)
