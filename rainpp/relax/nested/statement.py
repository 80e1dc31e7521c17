"""A nested query understood once: resolved, qualified, and ready to run plainly."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import duckdb
import pandas as pd
import pyarrow as pa
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import OptimizeError
from sqlglot.optimizer.qualify import qualify

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.capture import registered
from rainpp.relax.catalog import TableEntry, clean, quote
from rainpp.relax.dialect import dialect_for, parse_query, render
from rainpp.relax.hard import answer_frame, predicted
from rainpp.relax.masks import sql_type
from rainpp.relax.nested.blocks import Base
from rainpp.relax.nested.literals import check_classes
from rainpp.relax.nested.resolve import Resolver
from rainpp.relax.nested.rewriting import is_grouped, sources_of, unique_aliases
from rainpp.relax.nested.shorthands import Shorthands
from rainpp.relax.nested.wording import worded
from rainpp.relax.query import Slot
from rainpp.types import ClassValue, PredictionTable


@dataclass(frozen=True, eq=False)
class Statement:
    """What planning found: `tree` is qualified, with predictions as columns of `bases`.

    `plain` is the user's query with predictions as columns, run as it is. `hidden` columns at the
    end of both tell answer rows apart and are not shown.
    """

    sql: str
    dialect: Dialect
    tree: exp.Query
    plain: str
    bases: dict[str, Base]
    slots: tuple[Slot, ...]
    classes: tuple[tuple[ClassValue, ...], ...]
    calls: dict[int, str]
    hidden: int

    def entry(self, slot: Slot) -> TableEntry:
        """The slot's table, under a quoted name that resolves whatever the default schema is."""
        return next(b.entry for b in self.bases.values() if b.entry.shown == slot.table)

    def sql_name(self, slot: Slot) -> str:
        """A quoted name of the slot's table that resolves whatever the default schema is."""
        return self.entry(slot).qualified

    def shown(self, node: exp.Expr) -> str:
        """A part of `tree` as the user would write it."""
        return worded(render(node, self.dialect), self.calls, self.bases.values())

    def check(self, con: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB bind the query without running it.

        Raises
        ------
        QueryError : DuckDB refuses it; the message is DuckDB's, in the user's words.
        """
        sources = [
            f"(SELECT NULL::BIGINT AS rid, NULL::{sql_type(classes)} AS prediction)"
            for classes in self.classes
        ]
        try:
            con.sql(self.filled(sources))  # binds only: 0.7 ms where EXPLAIN takes 3.3
        except duckdb.Error as error:
            raise QueryError(f"DuckDB refuses the query: {self._clean(error)}.") from None

    def run(
        self, con: duckdb.DuckDBPyConnection, tables: Sequence[PredictionTable]
    ) -> tuple[pd.DataFrame, pa.Table]:
        """The answer as DuckDB gives it, and the same with hidden columns, as Arrow."""
        with ExitStack() as stack:
            names = [stack.enter_context(registered(con, predicted(table))) for table in tables]
            try:
                answer = _table(con, self.filled(names))
                shown = answer.select(range(answer.num_columns - self.hidden))
                return answer_frame(con, shown), answer
            except duckdb.Error as error:
                raise QueryError(f"DuckDB refuses the query: {self._clean(error)}.") from None

    def filled(self, names: Sequence[str]) -> str:
        """`plain` with a relation (rid, prediction) for every slot."""
        text = self.plain
        for slot, name in enumerate(names):
            text = text.replace(f'"{_placeholder(slot)}"', name)
        return text

    def _clean(self, error: Exception) -> str:
        text = clean(error)
        for slot, call in self.calls.items():
            text = text.replace(f"__prediction_{slot}", call)
        for base in self.bases.values():
            text = text.replace(base.name, base.entry.shown)
        return text


def _table(con: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The result of a query that DuckDB's optimiser may fail on: 2.0 does once in 5 000 queries."""
    try:
        return con.sql(sql).to_arrow_table()
    except duckdb.InternalException:
        con.execute("PRAGMA disable_optimizer")
        try:
            return con.sql(sql).to_arrow_table()
        finally:
            con.execute("PRAGMA enable_optimizer")


def make_statement(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, tuple[ClassValue, ...]]
) -> Statement:
    """Resolve and qualify `sql`.

    Raises
    ------
    QueryError : a syntax error, or a table, column, class or row that does not exist.
    UnsupportedQueryError : something without a relaxation; the fragment is quoted.
    """
    dialect = dialect_for(functions)
    resolver = Resolver(sql, dialect, functions, con)
    tree = Shorthands(con, resolver.shown).written_out(parse_query(sql, dialect))
    _semi_joins(tree)
    resolver.resolve(tree)
    if not resolver.slots:
        raise UnsupportedQueryError(
            sql.strip(),
            why="it contains no prediction, so there is nothing to differentiate",
            instead=f"Call one of: {', '.join(functions) or 'no model is registered'}",
        )
    hidden = _append_identity(tree, resolver)
    classes = tuple(functions[slot.model] for slot in resolver.slots)
    plain = _plain(tree, resolver)
    qualified = _qualified(tree, resolver)
    _restore(qualified, resolver)
    statement = Statement(
        sql,
        dialect,
        qualified,
        plain,
        resolver.bases,
        tuple(resolver.slots),
        classes,
        resolver.calls,
        hidden,
    )
    statement.check(con)
    check_classes(con, qualified, classes, statement.shown)
    return statement


def _semi_joins(tree: exp.Expr) -> None:
    """SEMI and ANTI joins as EXISTS, which is what they mean."""
    # Inner blocks first: an outer one copies them.
    for select in reversed(list(tree.find_all(exp.Select))):
        kept: list[exp.Join] = []
        joins = cast("list[exp.Join]", select.args.get("joins") or [])
        sides = [(join.side or "").upper() for join in joins]
        for number, join in enumerate(joins):
            kind = (join.kind or join.side or "").upper()
            if kind in ("SEMI", "ANTI") and {"RIGHT", "FULL"} & set(sides[number + 1 :]):
                # WHERE would also filter the rows such a join pads.
                raise UnsupportedQueryError(
                    join.sql(dialect="duckdb"),
                    why=f"a {kind} JOIN before a RIGHT or FULL JOIN has no relaxation",
                    instead="Put it into a subquery of its own",
                )
            if kind not in ("SEMI", "ANTI") or join.args.get("using"):
                kept.append(join)
                continue
            inner = exp.select("1").from_(join.this.copy())
            if join.args.get("on") is not None:
                inner = inner.where(join.args["on"].copy())
            found = exp.Exists(this=inner)
            select.where(exp.Not(this=found) if kind == "ANTI" else found, copy=False)
        if select.args.get("joins"):
            select.set("joins", kept)


def _append_identity(tree: exp.Expr, resolver: Resolver) -> int:
    """Add hidden columns that tell the rows of the answer apart; how many."""
    if not isinstance(tree, exp.Select) or tree.args.get("distinct") is not None:
        return 0
    added: list[exp.Expr] = []
    if is_grouped(tree):
        added = _hidden_keys(tree)
    elif not any(join.side for join in tree.args.get("joins") or []):
        for source in sources_of(tree):
            if isinstance(source, exp.Table) and source.name in resolver.bases:
                added.append(exp.column("rowid", table=source.alias_or_name, quoted=True))
    for node in added:
        tree.append(
            "expressions", exp.alias_(node.copy(), _hidden_title(node, resolver), quoted=True)
        )
    return len(added)


def _hidden_title(node: exp.Expr, resolver: Resolver) -> str:
    """What a hidden column is called where a complaint names its row."""
    if isinstance(node, exp.Column) and node.name == "rowid":
        return f"rowid of {node.table}"

    def call(found: re.Match[str]) -> str:
        slot = resolver.slots[int(found[2])]
        if slot.arguments is None:
            return f"{slot.model}({found[1]})"
        return f"{slot.model}({', '.join(f'{found[1]}.{name}' for name in slot.arguments)})"

    text = node.sql(dialect=resolver.dialect)
    return re.sub(r'"?(\w+)"?\."__prediction_(\d+)"', call, text)


def _hidden_keys(tree: exp.Select) -> list[exp.Expr]:
    """GROUP BY expressions that no SELECT item shows."""
    group = tree.args.get("group")
    if group is None or group.args.get("all"):
        return []
    if group.find(exp.Rollup, exp.Cube, exp.GroupingSets) is not None:
        return []
    items = cast("list[exp.Expr]", tree.expressions)
    shown = {item.unalias().sql(dialect="duckdb").lower() for item in items}
    shown |= {item.alias.lower() for item in items if item.alias}
    keys = cast("list[exp.Expr]", group.expressions)
    return [
        key
        for key in keys
        if not isinstance(key, exp.Literal)
        and key.sql(dialect="duckdb").lower() not in shown
        and key.name.lower() not in shown
    ]


def _plain(tree: exp.Query, resolver: Resolver) -> str:
    """SQL of the user's query with a CTE in place of every predicted table."""
    out = tree.copy()
    texts: list[str] = []
    for select in out.find_all(exp.Select):
        _hide_rowid(select, resolver, everywhere=False)
    for base in resolver.bases.values():
        if base.slots:
            columns = [f"t.{quote(name)}" for name in base.entry.columns]
            columns.append("t.rowid AS rowid")
            joins: list[str] = []
            for slot in sorted(base.slots):
                columns.append(f"p{slot}.prediction AS __prediction_{slot}")
                joins.append(f'JOIN "{_placeholder(slot)}" AS p{slot} ON p{slot}.rid = t.rowid')
            source = f"FROM {base.entry.qualified} AS t {' '.join(joins)}"
            texts.append(f"{quote(base.name)} AS (SELECT {', '.join(columns)} {source})")
    _restore(out, resolver)
    if texts:
        first = resolver.dialect.parse(f"WITH {', '.join(texts)} SELECT 1")[0]
        clause = cast(exp.Expr, cast(exp.Expr, first).args["with_"])
        own = out.args.get("with_")
        if own is not None:
            clause.set("expressions", [*clause.expressions, *own.expressions])
        out.set("with_", clause)
    return render(out, resolver.dialect)


def _hide_rowid(select: exp.Select, resolver: Resolver, *, everywhere: bool) -> None:
    """A table that shows its row id as a column, as a predicted one does, must not in ``*``."""
    tables = [
        s for s in sources_of(select) if isinstance(s, exp.Table) and s.name in resolver.bases
    ]
    owners = {t.alias_or_name.lower() for t in tables if everywhere or resolver.bases[t.name].slots}
    for item in cast("list[exp.Expr]", select.expressions):
        table = item.table.lower() if isinstance(item, exp.Column) else ""
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star) and owners and table in ("", *owners):
            hidden = exp.to_identifier("rowid", quoted=True)
            star.set("except_", [*(star.args.get("except_") or []), hidden])


def _restore(tree: exp.Expr, resolver: Resolver) -> None:
    """Base tables without predictions under their own names again."""
    for table in list(tree.find_all(exp.Table)):
        base = resolver.bases.get(table.name)
        if base is not None and not base.slots:
            named = exp.to_table(base.entry.qualified, dialect="duckdb")
            named.set("alias", table.args.get("alias"))
            table.replace(named)


def _qualified(tree: exp.Query, resolver: Resolver) -> exp.Query:
    """Every column with its source, stars expanded, every alias used once."""
    schema: dict[str, object] = {
        base.name: {
            **dict.fromkeys(base.entry.columns, "UNKNOWN"),
            **{f"__prediction_{slot}": "UNKNOWN" for slot in sorted(base.slots)},
            "rowid": "BIGINT",
        }
        for base in resolver.bases.values()
    }
    out = tree.copy()
    for select in out.find_all(exp.Select):
        _hide_rowid(select, resolver, everywhere=True)
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        found = qualify(
            out,
            dialect=resolver.dialect,
            schema=schema,
            validate_qualify_columns=False,
            allow_partial_qualification=True,
        )
    except OptimizeError as error:
        raise QueryError(f"the query cannot be resolved: {error}") from None
    finally:
        logger.setLevel(level)
    _alias_subqueries(found)
    unique_aliases(found)
    return found


def _alias_subqueries(tree: exp.Expr) -> None:
    """An item that is a subquery carries its name itself; it shall be an alias like any other."""
    for select in tree.find_all(exp.Select):
        for item in list(cast("list[exp.Expr]", select.expressions)):
            if isinstance(item, exp.Subquery) and item.alias:
                bare = item.copy()
                bare.set("alias", None)
                name = exp.to_identifier(item.alias, quoted=True)
                item.replace(exp.Alias(this=bare, alias=name))


def _placeholder(slot: int) -> str:
    return f"__predictions_of_slot_{slot}"
