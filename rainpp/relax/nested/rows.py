"""Rows of one block while its expressions are evaluated; subqueries and windows become columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import quote
from rainpp.relax.codes import integers
from rainpp.relax.nested.algebra import NEVER, Index, Intractable
from rainpp.relax.nested.arrays import meetings
from rainpp.relax.nested.names import KEY, Scope
from rainpp.relax.nested.relation import ROW, Relation, certain_ids
from rainpp.relax.nested.rewriting import (
    ColumnName,
    renamed,
    substituted,
)
from rainpp.relax.nested.subqueries import alternatives, subqueries
from rainpp.relax.nested.windows import MAX_PAIRS, with_window
from rainpp.relax.nested.wording import reworded, worded

if TYPE_CHECKING:
    from rainpp.relax.nested.engine import Engine


@dataclass(frozen=True, eq=False)
class Rows:
    """A relation whose columns stand for the columns of a block.

    `places` maps (alias, name) to a column, `extra` the SQL of a whole expression to the column
    that holds its value.
    """

    engine: Engine
    scope: Scope
    relation: Relation
    places: dict[ColumnName, str]
    extra: dict[str, str]

    @property
    def key(self) -> str | None:
        """The column that names the outer row of a correlated subquery."""
        return self.places.get((self.scope.outer, KEY)) if self.scope.keys is not None else None

    def place(self, node: exp.Expr) -> exp.Expr:
        """`node` over the columns of the relation, alias b."""
        known = {sql: exp.column(name, table="b", quoted=True) for sql, name in self.extra.items()}
        node = substituted(node, known, self.engine.context.dialect) if known else node
        return renamed(node, lambda name: ("b", self.places[name]) if name in self.places else None)

    def varies(self, node: exp.Expr) -> bool:
        """Whether the value of an expression, not only its row's presence, is uncertain."""
        found = {column.name for column in self.place(node).find_all(exp.Column)}
        return bool(found & self.relation.cells)

    def evaluate(self, items: Sequence[tuple[str, exp.Expr]]) -> pa.Table:
        """Values of expressions, one row per row."""
        context, n = self.engine.context, len(self.relation)
        placed = {name: self.place(node) for name, node in items}
        found = {name: self._known(node, n) for name, node in placed.items()}
        listed = ", ".join(
            f"{context.sql(placed[name])} AS {quote(name)}"
            for name, values in found.items()
            if values is None
        )
        if not listed:
            return pa.table(found or {"one": pa.array(np.ones(n, np.int32))})
        text = f"SELECT {listed} FROM {self.relation.name} AS b ORDER BY b.{ROW}"
        try:
            fetched = context.fetch(self.scope.prefix() + text)
        except QueryError as error:
            raise QueryError(reworded(str(error), self._words())) from None
        if fetched.num_rows != n:
            shown = ", ".join(context.shown(node) for _, node in items)
            why = "it makes several rows of one"
            raise UnsupportedQueryError(shown, why=why, instead="Put unnest() in FROM")
        return pa.table({k: fetched.column(k) if v is None else v for k, v in found.items()})

    def _words(self) -> dict[str, str]:
        """What the user wrote for the columns of the relation."""
        words = {column: ".".join(name) for name, column in self.places.items()}
        context = self.engine.context
        for sql, column in self.extra.items():
            words[column] = worded(sql, context.calls, context.bases.values())
        return words

    def _known(self, node: exp.Expr, n: int) -> pa.ChunkedArray | pa.Array | None:
        """Values of a placed expression that needs no SQL: a column, a small whole number."""
        if isinstance(node, exp.Column) and node.table == "b":
            known = node.name in self.relation.columns and not node.args.get("db")
            return self.relation.table.column(node.name) if known else None
        if isinstance(node, exp.Literal) and node.is_int and len(node.name) < 10:
            return pa.array(np.full(n, int(node.name), np.int32))
        return None

    def holds(self, condition: exp.Expr) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which rows satisfy a condition."""
        node = exp.Is(this=exp.Paren(this=condition.copy()), expression=exp.Boolean(this=True))
        found = self.evaluate([("holds", node)])
        return np.asarray(found.column("holds").to_numpy(zero_copy_only=False), bool)

    def filtered(self, conditions: Sequence[exp.Expr]) -> Rows:
        """The rows where all conditions hold."""
        rows = self
        for condition in conditions:
            if rows._waits(condition):
                ids = rows._condition_events(condition)
                chosen = np.flatnonzero(ids != NEVER)
                rows = rows.taken(chosen, ids[chosen])
            else:
                chosen = np.flatnonzero(rows.holds(condition))
                rows = rows.taken(chosen, rows.relation.ids[chosen])
            rows.engine.context.note("filter", rows.engine.context.shown(condition), len(chosen))
        return rows

    def _waits(self, condition: exp.Expr) -> bool:
        """Whether a condition has an uncertain subquery that is not a column yet."""
        known, context = self.extra, self.engine.context
        return any(
            context.sql(query) not in known and self.engine.uncertain(query, self.scope)
            for query in subqueries(condition)
        )

    def _condition_events(self, condition: exp.Expr) -> Index:
        """Events that a row is there and satisfies a condition with uncertain subqueries.

        The condition is decided once per distinct value of the columns it reads, so that rows do
        not multiply with what a subquery can return.
        """
        algebra, context = self.engine.context.algebra, self.engine.context
        used = sorted(
            {c.name for c in self.place(condition).find_all(exp.Column) if c.table == "b"}
        )
        code, first, count = self.engine.distinct_rows(self.relation, used)
        table = self.relation.table.select([*used, ROW]).take(pa.array(first))
        table = table.append_column("__distinct", pa.array(np.arange(count)))
        values = context.relation(table, certain_ids(count), np.arange(count), self.relation.cells)
        distinct = Rows(self.engine, self.scope, values, self.places, self.extra)
        number = exp.column("__distinct", table="b", quoted=True)
        distinct = distinct.expanded([condition])
        chosen = np.flatnonzero(distinct.holds(condition))
        place = integers(distinct.evaluate([("n", number)]), "n")[chosen]
        holds = algebra.some(distinct.relation.ids[chosen], place, count)
        return algebra.every([self.relation.ids, holds[code]])

    def taken(
        self, chosen: Index, ids: Index, added: dict[str, pa.ChunkedArray | pa.Array] | None = None
    ) -> Rows:
        """Some of the rows, possibly repeated, with new events and further columns that vary."""
        table = self.relation.table.drop_columns([ROW]).take(pa.array(chosen))
        cells = self.relation.cells
        for name, values in (added or {}).items():
            table, cells = table.append_column(name, values), cells | {name}
        found = self.engine.context.relation(table, ids, self.relation.owner[chosen], cells)
        return Rows(self.engine, self.scope, found, self.places, self.extra)

    def knowing(self, node: exp.Expr, column: str) -> Rows:
        """The same rows, remembering which column holds the value of `node`."""
        sql = self.engine.context.sql(node)
        return Rows(
            self.engine, self.scope, self.relation, self.places, {**self.extra, sql: column}
        )

    def expanded(self, nodes: Sequence[exp.Expr]) -> Rows:
        """A row for every value the uncertain subqueries in `nodes` can take."""
        rows = self
        for node in nodes:
            for query in list(subqueries(node)):
                known = self.engine.context.sql(query) in rows.extra
                if not known and self.engine.uncertain(query, self.scope):
                    rows = rows._with_subquery(query)
        return rows

    def _with_subquery(self, node: exp.Expr) -> Rows:
        """Every row with every alternative of its key."""
        found = alternatives(self, node)
        met = meetings(found.code, found.key, MAX_PAIRS)
        if met is None:
            raise Intractable("a subquery can return too many different values")
        row, other = met
        events = self.engine.context.algebra.every([self.relation.ids[row], found.ids[other]])
        name = self.new_column()
        taken = self.taken(row, events, {name: found.values.take(pa.array(other))})
        return taken.knowing(node, name)

    def new_column(self) -> str:
        """A name for the next column that `knowing` is told of."""
        return f"__value_{len(self.extra)}"

    def with_windows(self, nodes: Sequence[exp.Expr]) -> Rows:
        """A row for every value the window aggregates in `nodes` can take."""
        rows = self
        for node in nodes:
            for window in list(node.find_all(exp.Window)):
                if self.engine.context.sql(window) not in rows.extra:
                    rows = with_window(rows, window)
        return rows
