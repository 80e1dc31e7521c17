"""FROM: base tables under their aliases, and the conditions of inner joins."""

from __future__ import annotations

from typing import cast

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import Names, default_alias, find_table, has_rows, read_names
from rainpp.relax.query import Source
from rainpp.relax.scope import Scope

_COPY_FIRST = "Make it a table first: CREATE TABLE name AS SELECT ..."


def read_from(tree: exp.Select, scope: Scope, con: duckdb.DuckDBPyConnection) -> list[exp.Expr]:
    """Fill `scope` with the sources of FROM; return the join conditions, unresolved.

    Raises
    ------
    UnsupportedQueryError : outer joins, subqueries, files, table functions and the like.
    QueryError : an unknown table, or one alias twice.
    """
    start = tree.args.get("from_")
    if start is None:
        raise UnsupportedQueryError(
            scope.shown(tree), why="it reads no table", instead="Predictions need rows: add FROM"
        )
    names = read_names(con)
    _add(cast(exp.Expr, start.this), scope, con, names)
    conditions: list[exp.Expr] = []
    for join in cast("list[exp.Join]", tree.args.get("joins") or []):
        _check_kind(join, scope)
        _add(cast(exp.Expr, join.this), scope, con, names)
        if join.args.get("on") is not None:
            conditions.append(cast(exp.Expr, join.args["on"]))
        conditions += [_using(cast(exp.Expr, name), scope) for name in join.args.get("using") or []]
    return conditions


def _check_kind(join: exp.Join, scope: Scope) -> None:
    allowed = {"this", "on", "using", "kind", "side", "method"}
    strange = [key for key, value in join.args.items() if value and key not in allowed]
    inner = (join.kind or "INNER") in ("INNER", "CROSS") and not (join.side or join.method)
    if not inner or strange:
        raise UnsupportedQueryError(
            scope.shown(join),
            why="only inner joins have a relaxation so far",
            instead="Use JOIN ... ON, JOIN ... USING, CROSS JOIN or a comma",
        )


def _add(node: exp.Expr, scope: Scope, con: duckdb.DuckDBPyConnection, names: Names) -> None:
    if not isinstance(node, exp.Table) or not has_rows(node):
        raise UnsupportedQueryError(
            scope.shown(node), why="it is not a table, so it has no row ids", instead=_COPY_FIRST
        )
    strange = [
        key
        for key, value in node.args.items()
        if value and key not in {"this", "db", "catalog", "alias"}
    ]
    alias = node.args.get("alias")
    if strange or (alias is not None and alias.args.get("columns")):
        raise UnsupportedQueryError(
            scope.shown(node),
            why="only a table name with an alias is understood here",
            instead="Write FROM table AS alias",
        )
    shown = scope.shown(exp.Table(this=node.this, db=node.args.get("db")))
    entry = find_table(con, node, shown, names)
    if any(column.lower() == "rowid" for column in entry.columns):
        raise UnsupportedQueryError(
            entry.shown,
            why="its column `rowid` hides DuckDB's row id",
            instead="Rename that column",
        )
    name = node.alias or default_alias(node)
    if any(source.alias.lower() == name.lower() for source in scope.sources):
        raise QueryError(f"`{name}` names two tables of this query; give each its own alias.")
    scope.sources.append(Source(name, entry.shown, entry.qualified, entry.columns))


def _using(name: exp.Expr, scope: Scope) -> exp.Expr:
    wanted, last = name.name.lower(), len(scope.sources) - 1
    holders = [
        index
        for index, source in enumerate(scope.sources)
        if any(column.lower() == wanted for column in source.columns)
    ]
    if last not in holders or len(holders) < 2:
        raise QueryError(f"USING ({name.name}) needs a column of that name on both sides.")
    first = scope.merged.setdefault(wanted, holders[0])
    left, right = (
        exp.column(name.name, table=scope.sources[index].alias, quoted=True)
        for index in (first, last)
    )
    return exp.EQ(this=left, expression=right)
