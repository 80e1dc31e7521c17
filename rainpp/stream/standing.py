"""What of a standing query can be kept up to date by additions, and how.

One table, or two that meet where expressions of each side are equal, with COUNT, SUM and AVG: then
a row's share of every sum depends on that row and its predicted class alone, and a sum over joined
rows is a product of sums of the sides (Flokas et al. 2022, section 5.2, for one table). Anything
else is recomputed from the rows of a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import duckdb
from sqlglot import exp

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.dialect import render
from rainpp.relax.plan import make_plan
from rainpp.relax.query import Aggregate, Cell, Query, Scalar, Slot, Source, hole_name, is_amount
from rainpp.relax.scope import Scope
from rainpp.types import ClassValue


@dataclass(frozen=True)
class Expression:
    """An SQL expression over one row and its predicted class, which is a column of `hole_name`."""

    sql: str
    reads_row: bool
    reads_class: bool

    @property
    def mixed(self) -> bool:
        """Whether it must be asked for every row and class together."""
        return self.reads_row and self.reads_class


ONE = Expression("1", reads_row=False, reads_class=False)


@dataclass(frozen=True, eq=False)
class Side:
    """One table of a standing query: which rows count, for which group, and how much.

    Attributes
    ----------
    slot : the predictions of its rows; None where it calls no model.
    joins : number of leading keys by which the sides meet.
    weights : of a row in each of the side's sums; the first is 1.
    """

    source: Source
    slot: Slot | None
    conditions: tuple[Expression, ...]
    keys: tuple[Expression, ...]
    joins: int
    weights: tuple[Expression, ...]

    def varies(self, weight: int) -> bool:
        """Whether a sum depends on predictions at all."""
        parts = [*self.conditions, *self.keys, self.weights[weight]]
        return any(part.reads_class for part in parts)


@dataclass(frozen=True)
class Term:
    """One aggregate as sums: numerator, and for SUM and AVG the number of values behind it.

    A sum is named by one weight for each side: over joined rows it is the product of the sides'.
    """

    kind: str
    value: tuple[int, ...]
    count: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Standing:
    """A query as additive sums.

    Attributes
    ----------
    columns : names of the SELECT items, aliases where there are any.
    keys : for each GROUP BY expression the side it is a key of, its place there, and the SELECT
        item that shows it, if one does.
    cells : the SELECT items a user can complain about.
    """

    query: Query
    columns: tuple[str, ...]
    sides: tuple[Side, ...]
    keys: tuple[tuple[int, int, int | None], ...]
    cells: tuple[Cell, ...]
    terms: tuple[Term, ...]

    @property
    def key_names(self) -> tuple[str, ...]:
        """A name for each GROUP BY expression: its column, else its SQL."""
        shown = [key.scalar.shown for key in self.query.keys]
        return tuple(
            text if position is None else self.columns[position]
            for text, (_, _, position) in zip(shown, self.keys, strict=True)
        )

    @property
    def value_names(self) -> tuple[str, ...]:
        """Columns that hold numbers."""
        return tuple(self.columns[cell.position] for cell in self.cells)


def standing(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, tuple[ClassValue, ...]]
) -> Standing:
    """Understand `sql` over tables that `con` has, empty or not.

    Raises
    ------
    UnsupportedQueryError : it cannot be kept by additions; `why` says so.
    QueryError : as `make_plan`.
    """
    plan = make_plan(sql, con, functions)
    return _Reader(plan.query, plan.scope).read()


def select_names(tree: exp.Select, scope: Scope) -> tuple[str, ...]:
    """The name of every SELECT item: its alias, its column, else how the user wrote it."""
    items = cast("list[exp.Expr]", tree.expressions)
    return tuple(item.alias_or_name or scope.shown(item) for item in items)


@dataclass(eq=False)
class _Reader:
    query: Query
    scope: Scope
    _conditions: list[list[Expression]] = field(init=False)
    _joins: list[list[Expression]] = field(init=False)
    _weights: list[list[Expression]] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.query.sources)
        self._conditions = [[] for _ in range(count)]
        self._joins = [[] for _ in range(count)]
        self._weights = [[ONE] for _ in range(count)]

    def read(self) -> Standing:
        self._check_shape()
        for condition in self.query.conditions:
            self._condition(condition)
        if len(self.query.sources) == 2 and not self._joins[0]:
            self._refuse(self.query.sql, "its tables meet under no equality, so every pair counts")
        groups: list[list[Expression]] = [[] for _ in self.query.sources]
        keys: list[tuple[int, int, int | None]] = []
        for key in self.query.keys:
            side = self._side(key.scalar, "a group key reads both tables")
            keys.append((side, len(self._joins[side]) + len(groups[side]), key.position))
            groups[side].append(self._expression(key.scalar))
        terms = tuple(self._term(found) for found in self.query.aggregates)
        return Standing(
            self.query,
            select_names(self.query.tree, self.scope),
            tuple(self._made(place, tuple(groups[place])) for place in range(len(groups))),
            tuple(keys),
            self.query.cells,
            terms,
        )

    def _made(self, place: int, groups: tuple[Expression, ...]) -> Side:
        slots = sorted({slot for (slot, source), _ in self.query.calls if source == place})
        if len(slots) > 1:
            self._refuse(self.query.sql, "one row is predicted twice, by two models or arguments")
        joins = tuple(self._joins[place])
        return Side(
            self.query.sources[place],
            self.query.slots[slots[0]] if slots else None,
            tuple(self._conditions[place]),
            (*joins, *groups),
            len(joins),
            tuple(self._weights[place]),
        )

    def _check_shape(self) -> None:
        query = self.query
        if len(query.sources) > 2:
            self._refuse(query.sql, f"it joins {len(query.sources)} tables; two are kept apart")
        tables = [source.table for source in query.sources]
        if len(set(tables)) < len(tables):
            self._refuse(query.sql, f"it joins `{tables[0]}` with itself: a row meets itself")
        if any(map(is_amount, query.slots)):
            self._refuse(query.sql, "it reads probabilities or a regression as numbers")
        if len({slot.model for slot in query.slots}) > 1:
            self._refuse(query.sql, "it calls two models")

    def _condition(self, condition: Scalar) -> None:
        sources = sorted(condition.sources)
        if len(sources) < 2:
            place = sources[0] if sources else 0
            self._conditions[place].append(self._expression(condition))
            return
        node = condition.node.unnest()
        equal = isinstance(node, exp.EQ)
        sides = [self._half(part) for part in (node.left, node.right)] if equal else []
        if sorted(place for place, _ in sides) != [0, 1]:
            self._refuse(condition.shown, "its tables meet under something else than an equality")
        for place, expression in sides:
            self._joins[place].append(expression)

    def _half(self, node: exp.Expr) -> tuple[int, Expression]:
        """One side of an equality: the table it reads, -1 for none or both."""
        holes = {hole_name(hole): hole for hole, _ in self.query.calls}
        aliases = {source.alias.lower(): at for at, source in enumerate(self.query.sources)}
        rows: set[int] = set()
        called: set[int] = set()
        for column in node.find_all(exp.Column):
            if column.name in holes and not column.table:
                called.add(holes[column.name][1])
            else:
                rows.add(aliases[column.table.lower()])
        sql = render(node, self.scope.dialect)
        found = Expression(sql, reads_row=bool(rows), reads_class=bool(called))
        return (next(iter(rows | called)) if len(rows | called) == 1 else -1), found

    def _term(self, found: Aggregate) -> Term:
        needs = [*found.filters, *([found.argument] if found.argument else [])]
        filters: list[list[str]] = [[] for _ in self.query.sources]
        reads = [[False, False] for _ in self.query.sources]
        for scalar in needs:
            place = self._side(scalar, "it reads both tables")
            expression = self._expression(scalar)
            reads[place][0] |= expression.reads_row
            reads[place][1] |= expression.reads_class
            if scalar is not found.argument:
                filters[place].append(f"({scalar.sql})")
        if found.argument is not None:
            at = self._side(found.argument, "it reads both tables")
            filters[at].append(f"({found.argument.sql}) IS NOT NULL")
        count = self._sum(filters, reads, None)
        if found.kind == "COUNT" or found.argument is None:
            return Term("COUNT", count, None)
        at = self._side(found.argument, "it reads both tables")
        return Term(found.kind, self._sum(filters, reads, (at, found.argument.sql)), count)

    def _sum(
        self,
        filters: Sequence[Sequence[str]],
        reads: Sequence[Sequence[bool]],
        argument: tuple[int, str] | None,
    ) -> tuple[int, ...]:
        """The weight of each side of one sum, added to the sides' weights if it is new."""
        found: list[int] = []
        for place, conditions in enumerate(filters):
            value = "1"
            if argument is not None and argument[0] == place:
                value = f"({argument[1]})::DOUBLE"
            sql = value
            if conditions:
                sql = f"CASE WHEN {' AND '.join(conditions)} THEN {value} ELSE 0 END"
            expression = Expression(sql, *reads[place]) if sql != "1" else ONE
            if expression not in self._weights[place]:
                self._weights[place].append(expression)
            found.append(self._weights[place].index(expression))
        return tuple(found)

    def _side(self, scalar: Scalar, why: str) -> int:
        sources = sorted(scalar.sources)
        if len(sources) > 1:
            self._refuse(scalar.shown, why)
        return sources[0] if sources else 0

    def _expression(self, scalar: Scalar) -> Expression:
        return Expression(
            scalar.sql, reads_row=bool(scalar.column_sources), reads_class=bool(scalar.holes)
        )

    def _refuse(self, fragment: str, why: str) -> None:
        raise UnsupportedQueryError(
            fragment.strip(), why=why, instead="It is recomputed from the rows of a window"
        )
