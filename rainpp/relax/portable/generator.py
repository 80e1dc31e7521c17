"""The second generator: a query's relaxed values and gradients as plain SQL in the long form.

Predictions are tables P(rid, cls, prob): row id, number of the class, its probability. Nothing but
JOIN, SUM, CASE and EXP(SUM(LN(...))) is needed: no arrays, lambdas or GROUP BY ALL. The text is the
same for every database but for what sqlglot spells differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import quote
from rainpp.relax.measures import AggregatePlan, Relaxation
from rainpp.relax.plan import Plan
from rainpp.relax.portable.expressions import never_null_by_class, render_for
from rainpp.relax.portable.keys import Key, conditions_of, keys_of
from rainpp.relax.portable.masks import Writer
from rainpp.relax.portable.messages import Sum, of_group
from rainpp.relax.portable.presence import presence_sql
from rainpp.relax.portable.select import ONE, probability_table
from rainpp.relax.portable.tables import ProbabilityTable, probability_table_of
from rainpp.relax.query import Aggregate, Cell, Query


@dataclass(frozen=True, eq=False, slots=True)
class Portable:
    """A query in the long form; make one with `generate`.

    Attributes
    ----------
    tables : the probabilities the SQL reads, besides the tables of the query.
    keys, cells : names of the columns the value SQL gives, in that order; then `_exists`.
    exists : whether the value SQL has `_exists`. It has not where predictions of several tables
        decide together which groups there are.
    """

    tables: tuple[ProbabilityTable, ...]
    keys: tuple[str, ...]
    cells: tuple[str, ...]
    exists: bool
    _writer: Writer
    _relaxed: Relaxation
    _sums: tuple[Sum, ...]
    _group_keys: tuple[Key, ...]

    def value_sql(self, dialect: str = "duckdb") -> str:
        """SELECT of keys, relaxed cells and `_exists`: one row per group that could be there.

        Rows have no order. Without GROUP BY there is one row. A SUM or AVG that no row could
        contribute to is NULL.

        Raises
        ------
        QueryError : no such dialect.
        UnsupportedQueryError : the dialect cannot say it.
        """
        names = [key.name for key in self._group_keys]
        present = presence_sql(self._writer, self._relaxed, self._group_keys) if names else None
        parts: list[str] = []
        columns: list[str] = []
        for number in self._needed(groups=bool(names) and present is None):
            parts += [_labelled(sql, names, number) for sql in self._sums[number].totals()]
            columns.append(f"SUM(CASE WHEN measure = {number} THEN w END) AS measure_{number}")
        if present is not None:
            parts.append(_labelled(present, names, -1))
            columns.append("MAX(CASE WHEN measure = -1 THEN w END) AS present")
        by = f" GROUP BY {', '.join(names)}" if names else ""
        pivoted = (
            f"SELECT {', '.join([*names, *columns])} "
            f"FROM ({' UNION ALL '.join(parts)}) AS rainpp_parts{by}"
        )
        return render_for(f"SELECT {self._shown()} FROM ({pivoted}) AS rainpp_groups", dialect)

    def gradient_sql(
        self,
        dialect: str = "duckdb",
        *,
        cell: str | int = 0,
        key: Sequence[object] = (),
        table: str | None = None,
    ) -> str:
        """SELECT of (rid, cls, grad): derivative of a cell by the entries of one table.

        Entries that are left out have derivative 0. Where a condition combines predictions of
        several rows by OR the result may differ from `Result.gradient` by a constant per row id,
        which no change of probabilities that sum to 1 can notice.

        Parameters
        ----------
        cell : name or number of an aggregate column.
        key : the group's values of the GROUP BY expressions, in that order.
        table : name of one of `tables`; needed if there are several.

        Raises
        ------
        QueryError : no such cell, table, dialect or group.
        """
        chosen = conditions_of(self._group_keys, key)
        slot = self._slot(table)
        parts: list[str] = []
        for scale, number in self._cell(cell).terms:
            parts += self._derivatives(scale, self._relaxed.aggregates[number], chosen, slot)
        nothing = f"SELECT rid, cls, prob AS w FROM {probability_table(slot)} WHERE 1 = 0"
        every = " UNION ALL ".join(parts or [nothing])
        text = f"SELECT rid, cls, SUM(w) AS grad FROM ({every}) AS rainpp_parts GROUP BY rid, cls"
        return render_for(text, dialect)

    def _derivatives(
        self, scale: float, plan: AggregatePlan, chosen: Sequence[tuple[Key, str]], slot: int
    ) -> list[str]:
        measure = plan.members if plan.kind == "COUNT" else plan.total
        found = of_group(self._sums[measure], chosen).derivatives(slot)
        factor = f"CAST({scale!r} AS DOUBLE)"
        if plan.kind != "AVG":
            return [f"SELECT rid, cls, {factor} * w AS w FROM ({sql}) AS r" for sql in found]
        members = " UNION ALL ".join(of_group(self._sums[plan.members], chosen).totals())
        count = f"(SELECT SUM(w) AS w FROM ({members}) AS m)"
        return [
            f"SELECT r.rid AS rid, r.cls AS cls, {factor} * r.w / n.w AS w "
            f"FROM ({sql}) AS r, {count} AS n"
            for sql in found
        ]

    def _needed(self, *, groups: bool) -> list[int]:
        """Numbers of the measures that cells read; the first if it must tell which groups are."""
        query = self._writer.query
        found = {0} if groups else set[int]()
        for _, number in (term for cell in query.cells for term in cell.terms):
            plan = self._relaxed.aggregates[number]
            found |= {plan.members} if plan.kind != "SUM" else set[int]()
            found |= {plan.total} if plan.kind != "COUNT" else set[int]()
        return sorted(found)

    def _shown(self) -> str:
        query = self._writer.query
        columns = [
            f"{key.value()} AS {quote(name)}"
            for key, name in zip(self._group_keys, self.keys, strict=True)
        ]
        columns += [
            f"{self._value(cell)} AS {quote(name)}"
            for cell, name in zip(query.cells, self.cells, strict=True)
        ]
        if self.exists:
            columns.append(f"{'present' if self._group_keys else ONE} AS {quote('_exists')}")
        return ", ".join(columns)

    def _value(self, cell: Cell) -> str:
        parts = [f"CAST({cell.constant!r} AS DOUBLE)"] if cell.constant or not cell.terms else []
        for scale, number in cell.terms:
            parts.append(f"CAST({scale!r} AS DOUBLE) * {self._aggregate(number)}")
        return " + ".join(parts)

    def _aggregate(self, number: int) -> str:
        plan = self._relaxed.aggregates[number]
        if plan.kind == "COUNT":
            return f"COALESCE(measure_{plan.members}, 0)"
        if plan.kind == "SUM":
            return f"measure_{plan.total}"
        # Both are NULL where no row counts, and the count is certain: it is never 0.
        return f"(measure_{plan.total} / measure_{plan.members})"

    def _cell(self, cell: str | int) -> Cell:
        cells = self._writer.query.cells
        if isinstance(cell, str) and self.cells.count(cell) == 1:
            return cells[self.cells.index(cell)]
        if isinstance(cell, int) and 0 <= cell < len(cells):
            return cells[cell]
        raise QueryError(f"`cell` is {cell!r}; the cells are {', '.join(self.cells)}.")

    def _slot(self, table: str | None) -> int:
        names = [found.name for found in self.tables]
        if table is None and len(names) == 1:
            return 0
        if table not in names:
            raise QueryError(f"`table` is {table!r}; it must be one of {', '.join(names)}.")
        return names.index(table)


def generate(
    plan: Plan, con: duckdb.DuckDBPyConnection, *, rid: str | Mapping[str, str] = "rid"
) -> Portable:
    """A query over one flat block as SQL for any database.

    Parameters
    ----------
    con : the database the query was planned on; only masks over classes are evaluated there.
    rid : the column with the row id, for all tables of the query or by table name. The `rid` of
        the probabilities are its values.

    Raises
    ------
    UnsupportedQueryError : an average over uncertain rows, which no sum of products gives, or an
        expression whose meaning differs between databases.
    """
    query = plan.query
    relaxed, layout = plan.relaxed(con, exact=True)
    for aggregate, found in zip(query.aggregates, relaxed.aggregates, strict=True):
        if found.kind == "AVG" and found.uncertain:
            _check_members(query, aggregate)
    tables = [source.table for source in query.sources]
    rids = tuple(rid if isinstance(rid, str) else rid.get(table, "rid") for table in tables)
    writer = Writer(query, plan.dialect, relaxed.constants, rids)
    keys = keys_of(relaxed, writer)
    sums = tuple(Sum(writer, layout, measure, keys) for measure in relaxed.measures)
    names = _names(query.tree, [k.position for k in query.keys], [c.position for c in query.cells])
    made = Portable(
        tuple(probability_table_of(writer, number) for number in range(len(query.slots))),
        names[: len(keys)],
        names[len(keys) :],
        not keys or presence_sql(writer, relaxed, keys) is not None,
        writer,
        relaxed,
        sums,
        keys,
    )
    made.value_sql()
    return made


def _check_members(query: Query, aggregate: Aggregate) -> None:
    """Refuse an average unless the same rows count whatever is predicted."""
    argument = aggregate.argument
    uncertain = any(part.holes for part in (*query.conditions, *aggregate.filters))
    uncertain |= any(key.scalar.holes for key in query.keys)
    if uncertain or argument is None or not never_null_by_class(argument.node):
        raise UnsupportedQueryError(
            aggregate.shown,
            why="predictions decide which rows are averaged, and no sum of products gives that",
            instead="Ask for SUM and COUNT as two columns",
        )


def _names(tree: exp.Select, keys: Sequence[int | None], cells: Sequence[int]) -> tuple[str, ...]:
    """A name for every column: the user's where there is one and it is new."""
    found: list[str] = []
    for place, position in enumerate([*keys, *cells]):
        alias = "" if position is None else tree.expressions[position].alias_or_name
        name = alias or f"column_{place}"
        taken = {other.lower() for other in (*found, "_exists")}
        found.append(f"{name}_{place}" if name.lower() in taken else name)
    return tuple(found)


def _labelled(sql: str, names: Sequence[str], number: int) -> str:
    listed = ", ".join([*names, f"{number} AS measure", "w"])
    return f"SELECT {listed} FROM ({sql}) AS rainpp_part"
