"""A query understood once: the predictions it needs and how it will be evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import duckdb
import pandas as pd
import pyarrow as pa
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.relax.capture import SideSpec
from rainpp.relax.catalog import TableEntry, rows
from rainpp.relax.dialect import is_literal
from rainpp.relax.eager import CannotGroup, EagerQuery
from rainpp.relax.events import leaves
from rainpp.relax.hard import HardQuery
from rainpp.relax.lower import lower
from rainpp.relax.masks import check_literals, sql_type
from rainpp.relax.measures import Relaxation, relaxation
from rainpp.relax.query import Query, Slot, hole_name
from rainpp.relax.scope import Scope
from rainpp.relax.strategy import Layout, layout
from rainpp.types import ClassValue, PredictionTable

__all__ = ["Plan", "Slot", "make_plan"]

# Row pairs under a condition that only DuckDB can decide: kept as rows up to here, then streamed.
MAX_PAIRS = 4_000_000
# Joined rows DuckDB is left to visit for the plain answer: 20 M take about 0.2 s.
MAX_JOINED = 20_000_000


@dataclass(frozen=True, eq=False)
class Plan:
    """What `make_plan` found out about a query; `str` shows the strategy."""

    query: Query
    hard: HardQuery
    scope: Scope
    _relaxed: dict[bool, tuple[Relaxation, Layout]] = field(
        default_factory=dict[bool, tuple[Relaxation, Layout]]
    )

    @property
    def sql(self) -> str:
        """The query as it was given."""
        return self.query.sql

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The distinct predictions the query needs, in order of appearance."""
        return self.query.slots

    def entry(self, slot: Slot) -> TableEntry:
        """The slot's table, under a quoted name that resolves whatever the default schema is."""
        found = {source.table: source for source in self.query.sources}[slot.table]
        return TableEntry(found.table, found.qualified, found.columns)

    def sql_name(self, slot: Slot) -> str:
        """A quoted name of the slot's table that resolves whatever the default schema is."""
        return self.entry(slot).qualified

    def relaxed(self, con: duckdb.DuckDBPyConnection, *, exact: bool) -> tuple[Relaxation, Layout]:
        """Measures and layout under exact semantics or Rain's rules; made once."""
        if exact not in self._relaxed:
            relaxed = relaxation(self.query, con, self.dialect, exact=exact)
            found = layout(self.query, relaxed, self.dialect, self._many_pairs(con))
            self._relaxed[exact] = relaxed, found
        return self._relaxed[exact]

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect in which predictions are function calls."""
        return self.scope.dialect

    def run(
        self,
        con: duckdb.DuckDBPyConnection,
        tables: Sequence[PredictionTable],
        found: Layout,
        joined_rows: float,
    ) -> tuple[pd.DataFrame, pa.Table]:
        """The plain answer, as `HardQuery.run` gives it; large joins group their sides first."""
        if found.factorised and joined_rows > MAX_JOINED:
            sides = [frozenset(side.sources) for side in found.sides]
            with suppress(CannotGroup):
                return self.hard.run(con, tables, EagerQuery(self.query, self.scope, sides).text)
        return self.hard.run(con, tables)

    def _many_pairs(self, con: duckdb.DuckDBPyConnection) -> Callable[[frozenset[int]], bool]:
        """Whether the tables of some sources have more row pairs than are kept as rows."""

        def many(sources: frozenset[int]) -> bool:
            names = [self.query.sources[source].qualified for source in sources]
            counts = [rows(con, f"SELECT count(*) FROM {name}")[0][0] for name in names]
            return math.prod(cast("list[int]", counts)) > MAX_PAIRS

        return many

    def __str__(self) -> str:
        relaxed, found = self._relaxed[True]
        lines = [f"plan: {'factorised' if found.factorised else 'rows'}"]
        lines += [f"  slot {slot.model} on {slot.table}{_shown(slot)}" for slot in self.slots]
        lines += [line for side in found.sides for line in _side_lines(self.query, side)]
        for edge in found.edges:
            lines.append(f"  sides {edge.left} and {edge.right}: {edge.strategy}, {edge.condition}")
        events = [event for measure in relaxed.measures for event in measure.events]
        for leaf in dict.fromkeys(leaves(events)):
            if not leaf.sources:  # a number's own presence: it has no prediction and no column
                continue
            sql = leaf.sql
            for hole, call in self.query.calls:
                sql = sql.replace(f'"{hole_name(hole)}"', call)
            lines.append(f"  mask {sql} {leaf.reading.value}{_classes(relaxed, leaf.name)}")
        return "\n".join(lines)


def make_plan(
    sql: str,
    con: duckdb.DuckDBPyConnection,
    functions: Mapping[str, tuple[ClassValue, ...]],
) -> Plan:
    """Understand `sql`, or say exactly what stands in the way.

    Parameters
    ----------
    sql : one SELECT statement in DuckDB's dialect.
    con : the database, used for its catalogue and to evaluate conditions class by class; nothing
        permanent is created and no table rows are read.
    functions : registered SQL function names and the class values each can return.

    Raises
    ------
    QueryError : a syntax error, or a table, column, class or row that does not exist.
    UnsupportedQueryError : valid SQL for which no relaxation is known.
    """
    for classes in functions.values():
        sql_type(classes)
    query, scope = lower(sql, con, functions)
    hard = HardQuery(query, scope)
    check_literals(con, _compared(query), query.classes)
    hard.check(con)
    plan = Plan(query, hard, scope)
    plan.relaxed(con, exact=True)
    return plan


def _compared(query: Query) -> dict[tuple[tuple[int, int], str], str]:
    """Literals compared with a bare prediction by =, <> or IN, and where."""
    names = {hole_name(hole): hole for hole, _ in query.calls}
    scalars = [*query.conditions, *(key.scalar for key in query.keys)]
    for aggregate in query.aggregates:
        scalars += [*aggregate.filters, *([aggregate.argument] if aggregate.argument else [])]
    found: dict[tuple[tuple[int, int], str], str] = {}
    for scalar in scalars:
        for node in scalar.node.find_all(exp.EQ, exp.NEQ, exp.In):
            if isinstance(node, exp.In):
                sides = [(node.this, other) for other in node.expressions]
            else:
                sides = [(node.left, node.right), (node.right, node.left)]
            for side, other in sides:
                plain, value = side.unnest(), other.unnest()
                if isinstance(plain, exp.Column) and plain.name in names and is_literal(value):
                    found[names[plain.name], value.sql(dialect="duckdb")] = scalar.shown
    return found


def _shown(slot: Slot) -> str:
    return "(*)" if slot.arguments is None else f"({', '.join(slot.arguments)})"


def _side_lines(query: Query, side: SideSpec) -> list[str]:
    sources = ", ".join(
        f"{query.sources[s].table} AS {query.sources[s].alias}" for s in side.sources
    )
    lines = [f"  side {sources}"]
    lines += [f"    where {condition.shown}" for condition in side.conditions]
    lines += [f"    group by {group.shown}" for group in side.groups]
    lines += [f"    join key {key.sql}" for key in side.joins]
    lines += [f"    column_{i} {column.sql}" for i, column in enumerate(side.columns)]
    return lines


def _classes(relaxed: Relaxation, name: str) -> str:
    """Which class numbers a constant mask over one prediction holds."""
    factor = relaxed.constants.get(name)
    if factor is None or factor.values.ndim != 2:
        return "" if factor is None else " (all class combinations)"
    table = factor.values[0]
    chosen = [str(c) for c in range(len(table)) if table[c]]
    return f" for class numbers {', '.join(chosen) or 'none'} of {len(table)}"
