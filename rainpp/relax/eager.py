"""The plain answer of a join too large to run: every side is grouped before sides are joined.

Rows of a side that agree on all columns the rest of the query reads are one row with a count, so a
class join of a million rows by a million joins ten rows with ten. DuckDB still does all of it: the
aggregates are sums of products of counts, cast to the types and names the query has as written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlglot import exp

from rainpp.relax.catalog import quote
from rainpp.relax.dialect import render
from rainpp.relax.linear import aggregate_name
from rainpp.relax.query import Query, hole_name
from rainpp.relax.scope import Scope

_COUNTS = {"count", "count_star", "count_if"}


class CannotGroup(Exception):
    """The query has to be run as it is written."""


@dataclass(eq=False, slots=True)
class _Side:
    """What one side has to bring: columns by SQL text, partial aggregates by SQL text."""

    sources: frozenset[int]
    columns: dict[str, str] = field(default_factory=dict[str, str])
    partials: dict[str, str] = field(default_factory=dict[str, str])
    conditions: list[str] = field(default_factory=list[str])


@dataclass(eq=False, slots=True)
class EagerQuery:
    """Rewrites a query over `sides`; make the text with `text`.

    Raises
    ------
    CannotGroup : an aggregate or a condition reads several sides in a way that forbids it.
    """

    query: Query
    scope: Scope
    sides: Sequence[frozenset[int]]
    _sides: list[_Side] = field(init=False)

    def __post_init__(self) -> None:
        self._sides = [_Side(frozenset(side)) for side in self.sides]

    def text(self, outputs: Sequence[tuple[str, str]], predictions: Sequence[str]) -> str:
        """SQL with the columns `outputs`, (name, type), over tables of predictions per slot."""
        wanted = [item.unalias() for item in cast("list[exp.Expr]", self.query.tree.expressions)]
        hidden = [key.scalar.node for key in self.query.keys if key.position is None]
        items = [self._rewritten(self._lowered(node)) for node in wanted]
        items += [self._rewritten(node) for node in hidden]
        columns = [
            f"CAST({item} AS {kind}) AS {quote(name)}"
            for item, (name, kind) in zip(items, outputs, strict=True)
        ]
        where = self._conditions()
        keys = [self._rewritten(key.scalar.node) for key in self.query.keys]
        order = self._order({name.lower() for name, _ in outputs})
        sides = [f"side_{i} AS ({self._side_text(i, predictions)})" for i in range(len(self.sides))]
        tables = ", ".join(f"side_{i}" for i in range(len(self.sides)))
        return (
            f"WITH {', '.join(sides)} SELECT {', '.join(columns)} FROM {tables}"
            + (f" WHERE {' AND '.join(where)}" if where else "")
            + (f" GROUP BY {', '.join(keys)}" if keys else "")
            + (f" ORDER BY {order}" if order else "")
        )

    def _lowered(self, node: exp.Expr) -> exp.Expr:
        """`node` with qualified columns and holes; aggregates stay in it."""
        return self.scope.lower(node).node

    def _conditions(self) -> list[str]:
        """Conditions over several sides; those of one side are left to it."""
        across: list[str] = []
        for condition in self.query.conditions:
            place = self._place(condition.sources)
            if place is None:
                across.append(f"({self._rewritten(condition.node)})")
            else:
                self._sides[place].conditions.append(f"({condition.sql})")
        return across

    def _rewritten(self, node: exp.Expr) -> str:
        """SQL over the sides: aggregates from partial ones, columns from kept ones."""
        holder = exp.Paren(this=node.copy())
        for part in self._aggregates(holder):
            part.replace(exp.maybe_parse(self._aggregate(part), dialect="duckdb"))
        for column in list(holder.find_all(exp.Column)):
            if not column.table.startswith("side_"):
                column.replace(self._kept(column))
        return render(holder.this, self.scope.dialect)

    def _aggregates(self, holder: exp.Expr) -> list[exp.Expr]:
        found = [n for n in holder.walk() if isinstance(n, exp.Filter) or aggregate_name(n)]
        return [node for node in found if not isinstance(node.parent, exp.Filter)]

    def _kept(self, column: exp.Column) -> exp.Column:
        """A column or hole outside aggregates: the side is grouped by it."""
        place = self._place(self._sources(column))
        if place is None:
            raise CannotGroup
        sql = render(column, self.scope.dialect)
        title = self._sides[place].columns.setdefault(sql, f"c{len(self._sides[place].columns)}")
        return exp.column(title, table=f"side_{place}")

    def _aggregate(self, node: exp.Expr) -> str:
        condition = None
        call = node
        if isinstance(node, exp.Filter):
            call, condition = node.this, node.expression.this
        name = aggregate_name(call)
        argument = _argument(call)
        if name == "count_if":
            condition = argument if condition is None else exp.and_(condition, argument)
            argument = None
        touched = self._sources(*(part for part in (argument, condition) if part is not None))
        place = self._place(touched) if touched else 0
        if place is None or name not in {*_COUNTS, "sum", "avg", "mean"}:
            raise CannotGroup
        shown = "*" if argument is None else render(argument, self.scope.dialect)
        only = "" if condition is None else self._filter(condition)
        count = self._weighted(place, f"count({shown}){only}")
        if name in _COUNTS:
            return f"coalesce(sum({count}), 0)"
        total = self._weighted(place, f"sum({shown}){only}")
        return f"sum({total})" if name == "sum" else f"sum({total}) / nullif(sum({count}), 0)"

    def _filter(self, condition: exp.Expr) -> str:
        return f" FILTER (WHERE {render(condition, self.scope.dialect)})"

    def _weighted(self, place: int, partial: str) -> str:
        """A partial aggregate of one side times the row counts of the others."""
        side = self._sides[place]
        title = side.partials.setdefault(partial, f"a{len(side.partials)}")
        others = [f"side_{i}.n" for i in range(len(self._sides)) if i != place]
        return " * ".join([f"side_{place}.{title}", *others])

    def _sources(self, *nodes: exp.Expr) -> frozenset[int]:
        names = {hole_name(hole): hole[1] for hole, _ in self.query.calls}
        aliases = {source.alias: index for index, source in enumerate(self.query.sources)}
        return frozenset(
            names[column.name] if not column.table else aliases[column.table]
            for node in nodes
            for column in node.find_all(exp.Column)
        )

    def _place(self, sources: frozenset[int]) -> int | None:
        """The one side that holds all of `sources`."""
        return next((i for i, side in enumerate(self._sides) if sources <= side.sources), None)

    def _order(self, names: set[str]) -> str:
        order = self.query.tree.args.get("order")
        if order is None:
            return ""
        terms: list[str] = []
        for ordered in cast("list[exp.Ordered]", order.expressions):
            node = ordered.this
            known = isinstance(node, exp.Column) and not node.table and node.name.lower() in names
            if not (known or isinstance(node, (exp.Literal, exp.Star)) or node.name == "ALL"):
                ordered = ordered.copy()
                text = self._rewritten(self._lowered(node))
                ordered.set("this", exp.maybe_parse(text, dialect="duckdb"))
            terms.append(render(ordered, self.scope.dialect))
        return ", ".join(terms)

    def _side_text(self, number: int, predictions: Sequence[str]) -> str:
        side = self._sides[number]
        columns = [f"{sql} AS {title}" for sql, title in side.columns.items()]
        columns += [f"{sql} AS {title}" for sql, title in side.partials.items()]
        tables = ", ".join(self._table(place, predictions) for place in sorted(side.sources))
        where = f" WHERE {' AND '.join(side.conditions)}" if side.conditions else ""
        groups = ", ".join(side.columns)
        return (
            f"SELECT {', '.join([*columns, 'count(*)::HUGEINT AS n'])} FROM {tables}{where}"
            + (f" GROUP BY {groups}" if groups else "")
            + " HAVING count(*) > 0"
        )

    def _table(self, place: int, predictions: Sequence[str]) -> str:
        source = self.query.sources[place]
        slots = sorted(slot for (slot, at), _ in self.query.calls if at == place)
        if not slots:
            return f"{source.qualified} AS {quote(source.alias)}"
        added = [f"p{slot}.prediction AS {quote(hole_name((slot, place)))}" for slot in slots]
        joins = [f"JOIN {predictions[slot]} AS p{slot} ON p{slot}.rid = t.rowid" for slot in slots]
        columns = ", ".join(["t.*", "t.rowid AS rowid", *added])
        inner = f"SELECT {columns} FROM {source.qualified} AS t {' '.join(joins)}"
        return f"({inner}) AS {quote(source.alias)}"


def _argument(call: exp.Expr) -> exp.Expr | None:
    given = call.expressions if isinstance(call, exp.Anonymous) else [call.this]
    if not given or given[0] is None or isinstance(given[0], exp.Star):
        return None
    return cast(exp.Expr, given[0])
