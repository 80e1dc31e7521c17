"""Rows of one block while its expressions are evaluated; subqueries and windows become columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import quote
from rainpp.relax.codes import integers
from rainpp.relax.dialect import function_names
from rainpp.relax.nested.algebra import NEVER, Index, Intractable, Members
from rainpp.relax.nested.calls import aggregation
from rainpp.relax.nested.names import KEY, Scope
from rainpp.relax.nested.relation import ROW, Relation, certain_ids
from rainpp.relax.nested.rewriting import (
    ColumnName,
    aggregates_in,
    outer_columns,
    renamed,
    substituted,
)
from rainpp.relax.nested.wording import reworded, worded

if TYPE_CHECKING:
    from rainpp.relax.nested.engine import Engine

_MAX_PAIRS = 5_000_000
# Functions of a window only, which sqlglot takes for aggregates.
_RANKING = frozenset(
    (
        *("rank", "dense_rank", "percent_rank", "cume_dist", "row_number", "ntile"),
        *("lag", "lead", "first_value", "last_value", "nth_value"),
    )
)


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
            for query in _subqueries(condition)
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
            for query in list(_subqueries(node)):
                known = self.engine.context.sql(query) in rows.extra
                if not known and self.engine.uncertain(query, self.scope):
                    rows = rows._with_subquery(query)
        return rows

    def _with_subquery(self, node: exp.Expr) -> Rows:
        if isinstance(node, exp.Exists):
            return self._joined(node, *self._exists(node))
        if isinstance(node, exp.Subquery):
            return self._joined(node, *self._scalar(node))
        return self._joined(node, *self._compared(node))

    def _joined(
        self, node: exp.Expr, code: Index, key: Index, values: pa.Array, ids: Index
    ) -> Rows:
        """Every row with every alternative of its key; `code` is the key of a row."""
        order = np.argsort(key, kind="stable")
        key, ids, values = key[order], ids[order], values.take(pa.array(order))
        low, high = np.searchsorted(key, code), np.searchsorted(key, code, side="right")
        counts = high - low
        if counts.sum() > _MAX_PAIRS:
            raise Intractable("a subquery can return too many different values")
        row = np.repeat(np.arange(len(code)), counts)
        start = np.repeat(low - np.r_[0, np.cumsum(counts)[:-1]] if len(counts) else low, counts)
        alternative = start + np.arange(len(row))
        events = self.engine.context.algebra.every([self.relation.ids[row], ids[alternative]])
        name = f"__value_{len(self.extra)}"
        taken = self.taken(row, events, {name: values.take(pa.array(alternative))})
        return taken.knowing(node, name)

    def _keys(
        self, query: exp.Expr, more: Sequence[tuple[str, exp.Expr]]
    ) -> tuple[Index, Relation]:
        """Distinct outer values a subquery depends on: the key of every row, and the keys."""
        context = self.engine.context
        names = [name for name in outer_columns(query) if name in self.places]
        items: list[tuple[str, exp.Expr]] = [
            (".".join(name), exp.column(name[1], table=name[0], quoted=True)) for name in names
        ]
        items += more
        if not items:
            table = pa.table({KEY: pa.array([0], pa.int64())})
            keys = context.relation(table, certain_ids(1), np.zeros(1, np.int64))
            return np.zeros(len(self.relation), np.int64), keys
        values = self.evaluate(items)
        numbered = context.relation(
            values, certain_ids(len(values)), np.arange(len(values)), frozenset()
        )
        code, first, count = self.engine.distinct_rows(numbered, list(numbered.columns))
        chosen = values.take(pa.array(first)).append_column(KEY, pa.array(np.arange(count)))
        return code, context.relation(chosen, certain_ids(count), np.arange(count))

    def _inner(self, query: exp.Expr, keys: Relation) -> Relation:
        """A subquery's rows for every key, with a column KEY."""
        outer = f"k{len(self.scope.outer) + len(self.extra)}_{len(self.relation)}"
        outer = f"outer_{outer}"
        inside = set(outer_columns(query)) & set(self.places)
        moved = renamed(query, lambda n: (outer, ".".join(n)) if n in inside else None)
        scope = Scope(self.scope.relations, self.scope.certain, keys, outer)
        return self.engine.query(moved, scope)

    def _exists(self, node: exp.Exists) -> tuple[Index, Index, pa.Array, Index]:
        query = cast(exp.Expr, node.this).copy()
        for unneeded in ("order", "distinct"):
            query.set(unneeded, None)
        limit = query.args.get("limit")
        if limit is not None and limit.expression.name != "0" and not query.args.get("offset"):
            query.set("limit", None)
        code, keys = self._keys(query, [])
        found = self._inner(query, keys)
        algebra, count = self.engine.context.algebra, len(keys)
        present = algebra.some(found.ids, integers(found.table, KEY), count)
        key = np.arange(count)
        values = pa.array([True] * count + [False] * count)
        return code, np.r_[key, key], values, np.r_[present, algebra.negation(present)]

    def _scalar(self, node: exp.Subquery) -> tuple[Index, Index, pa.Array, Index]:
        code, keys = self._keys(node, [])
        found = self._inner(node, keys)
        key, count = integers(found.table, KEY), len(keys)
        values = found.table.column("c0").combine_chunks()
        algebra = self.engine.context.algebra
        limit = node.unnest().args.get("limit")
        one = limit is not None and limit.expression.name == "1"
        single = np.unique(np.stack([key, found.owner], axis=1), axis=0)[:, 0]
        if not one and len(np.unique(single)) < len(single):
            self.engine.refuse(node, "it may return several rows", "Aggregate it, as min() does")
        absent = algebra.negation(algebra.some(found.ids, key, count))
        return (
            code,
            np.r_[key, np.arange(count)],
            pa.concat_arrays([values, pa.nulls(count, values.type)]),
            np.r_[found.ids, absent],
        )

    def _compared(self, node: exp.Expr) -> tuple[Index, Index, pa.Array, Index]:
        """IN, = ANY, < ALL and the like: true, false and NULL are three alternatives."""
        left, query, operator, universal = _comparison(node)
        plain = left.unnest()
        parts = plain.expressions if isinstance(plain, exp.Tuple) else [left]
        if len(parts) > 1 and operator != "=":
            self.engine.refuse(node, "rows can only be compared with IN", "Compare one column")
        code, keys = self._keys(query, [(f"__left{i}", part) for i, part in enumerate(parts)])
        met = " AND ".join(f"k.__left{i} {operator} r.c{i}" for i in range(len(parts)))
        context, algebra, count = self.engine.context, self.engine.context.algebra, len(keys)
        if any(name in self.places for name in outer_columns(query)):
            found = self._inner(query, keys)
            on = f"k.{KEY} = r.{KEY}"
        else:
            found = self.engine.query(query, self.scope.without_keys())
            on = "true"
        pairs = context.fetch(
            f"SELECT * FROM (SELECT k.{KEY} AS k, r.{ROW} AS r, "
            f"({met}) AS met FROM {keys.name} AS k "
            f"JOIN {found.name} AS r ON {on}) "
            f"WHERE met IS NOT {'TRUE' if universal else 'FALSE'} "
            "ORDER BY k, r"
        )
        key, row = integers(pairs, "k"), integers(pairs, "r")
        unknown = np.asarray(pairs.column("met").is_null().to_numpy(), bool)
        decided, open_ = (
            algebra.some(found.ids[row[chosen]], key[chosen], count)
            for chosen in (~unknown, unknown)
        )
        undecided = algebra.every([algebra.negation(decided), open_])
        other = algebra.every([algebra.negation(decided), algebra.negation(open_)])
        values = [not universal] * count + [None] * count + [universal] * count
        ids = np.r_[decided, undecided, other]
        kept = ids != NEVER
        place = np.tile(np.arange(count), 3)
        array = pa.array(values, pa.bool_()).take(pa.array(np.flatnonzero(kept)))
        return code, place[kept], array, ids[kept]

    def with_windows(self, nodes: Sequence[exp.Expr]) -> Rows:
        """A row for every value the window aggregates in `nodes` can take."""
        rows = self
        for node in nodes:
            for window in list(node.find_all(exp.Window)):
                if self.engine.context.sql(window) not in rows.extra:
                    rows = rows._with_window(window)
        return rows

    def _with_window(self, window: exp.Window) -> Rows:
        engine, context = self.engine, self.engine.context
        call = cast(exp.Expr, window.this)
        if window.args.get("order") is not None or window.args.get("spec") is not None:
            engine.refuse(window, "a window in an order has no relaxation", "Use PARTITION BY only")
        if function_names(call) & _RANKING or not aggregates_in(call):
            engine.refuse(window, "only windows of aggregates have a relaxation", "Use count, sum")
        arguments: list[tuple[str, exp.Expr]] = []
        item = aggregation(engine, call, arguments)
        parts = cast("list[exp.Expr]", window.args.get("partition_by") or [])
        values = self.evaluate([(f"p{i}", part) for i, part in enumerate(parts)] + arguments)
        n = len(self.relation)
        numbered = context.relation(values, certain_ids(n), np.arange(n)) if n else self.relation
        code = engine.distinct_rows(numbered, [f"p{i}" for i in range(len(parts))])[0]
        order = np.argsort(code, kind="stable")
        low = np.searchsorted(code[order], code)
        counts = np.searchsorted(code[order], code, side="right") - low
        if counts.sum() > _MAX_PAIRS:
            engine.refuse(window, "its partitions are too large", "Use GROUP BY and a join")
        row = np.repeat(np.arange(n), counts)
        start = np.repeat(low - (np.cumsum(counts) - counts), counts)
        other = order[start + np.arange(len(row))]
        both = context.algebra.every([self.relation.ids[row], self.relation.ids[other]])
        chosen = values.select([name for name, _ in arguments]).take(pa.array(other))
        table = chosen if arguments else None
        found = context.algebra.outcomes(Members(both, row, n, table), [item])
        column = f"__value_{len(self.extra)}"
        taken = self.taken(found.segment, found.ids, {column: found.table.column("v0")})
        context.note("window", context.shown(window), len(found.ids))
        return taken.knowing(window, column)


def _subqueries(node: exp.Expr) -> Iterator[exp.Expr]:
    """Outermost subqueries of an expression, with the comparison they belong to."""
    if isinstance(node, (exp.Exists, exp.Subquery)):
        yield node
    elif isinstance(node, exp.In) and node.args.get("query") is not None:
        yield from _subqueries(node.this)
        yield node
    elif isinstance(node, exp.Binary) and isinstance(node.expression, (exp.Any, exp.All)):
        yield node
    else:
        for child in node.iter_expressions():
            yield from _subqueries(child)


def _comparison(node: exp.Expr) -> tuple[exp.Expr, exp.Expr, str, bool]:
    """(left side, subquery, operator, whether it must hold for all)."""
    if isinstance(node, exp.In):
        return node.this, cast(exp.Expr, node.args["query"]).unnest(), "=", False
    operators: dict[type[exp.Expr], str] = {
        exp.EQ: "=",
        exp.NEQ: "<>",
        exp.LT: "<",
        exp.LTE: "<=",
        exp.GT: ">",
        exp.GTE: ">=",
    }
    quantified = cast(exp.Expr, node.args["expression"])
    query = cast(exp.Expr, quantified.this).unnest()
    return node.args["this"], query, operators[type(node)], isinstance(quantified, exp.All)
