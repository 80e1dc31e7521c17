"""From the parser's tree to a `Query`; whatever has no rule here is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import builtin_functions
from rainpp.relax.dialect import dialect_for, function_names, parse_select
from rainpp.relax.linear import CellReader, aggregate_name
from rainpp.relax.query import Cell, GroupKey, Query, Scalar
from rainpp.relax.scope import Scope
from rainpp.relax.sources import read_from
from rainpp.types import ClassValue

_TABLE_FIRST = "Join, or make it a table first: CREATE TABLE name AS SELECT ..."
_HANDLED = {"expressions", "from_", "joins", "where", "group", "order"}
_REFUSALS = {
    "having": ("HAVING compares an uncertain aggregate", "Drop HAVING and read the rows you want"),
    "distinct": ("DISTINCT merges uncertain rows", "Use GROUP BY"),
    "limit": ("LIMIT keeps an uncertain set of rows", "Drop LIMIT and read the rows you want"),
    "offset": ("OFFSET keeps an uncertain set of rows", "Drop OFFSET"),
    "with_": ("a CTE has no row ids", "Make it a table first: CREATE TABLE name AS SELECT ..."),
    "qualify": ("QUALIFY filters on window functions", "Use WHERE"),
}


def lower(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, tuple[ClassValue, ...]]
) -> tuple[Query, Scope]:
    """Parse and resolve `sql`; the scope knows how the user wrote things.

    Raises
    ------
    QueryError : it does not parse, or names a table, column, row or class that is not there.
    UnsupportedQueryError : it uses something without a relaxation; the fragment is quoted.
    """
    dialect = dialect_for(functions)
    tree = parse_select(sql, dialect)
    scope = Scope(sql, dialect, functions)
    _check_shape(tree, scope)
    joined = read_from(tree, scope, con)
    for item in cast("list[exp.Expr]", tree.expressions):
        if isinstance(item, exp.Alias):
            scope.aliases.setdefault(item.alias.lower(), item.this)
    where = tree.args.get("where")
    conditions = [
        scope.lower(part)
        for whole in [*joined, *([where.this] if where else [])]
        for part in _conjuncts(whole)
    ]
    keys = _group_keys(tree, scope)
    reader = CellReader(scope, con)
    cells = _cells(tree, reader, keys)
    if not scope.slots:
        raise UnsupportedQueryError(
            sql.strip(),
            why="it contains no prediction, so there is nothing to differentiate",
            instead=f"Call one of: {', '.join(functions) or 'no model is registered'}",
        )
    query = Query(
        sql,
        tree,
        tuple(scope.slots),
        tuple(scope.sources),
        tuple(conditions),
        tuple(keys),
        tuple(reader.aggregates),
        tuple(cells),
        tuple(functions[slot.model] for slot in scope.slots),
        tuple(scope.calls.items()),
    )
    return query, scope


def _conjuncts(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.And):
        return [*_conjuncts(node.left), *_conjuncts(node.right)]
    if isinstance(node, exp.Paren):
        return _conjuncts(node.this) if isinstance(node.this, (exp.And, exp.Paren)) else [node.this]
    return [node]


def _check_shape(tree: exp.Select, scope: Scope) -> None:
    for key, value in tree.args.items():
        if not value or key in _HANDLED:
            continue
        fragment = value[0] if isinstance(value, list) else value
        shown = scope.shown(fragment) if isinstance(fragment, exp.Expr) else key
        why, instead = _REFUSALS.get(key, ("it has no relaxation yet", "Leave it out"))
        raise UnsupportedQueryError(shown or key.upper(), why=why, instead=instead)
    _, volatile = builtin_functions()
    for node in tree.walk():
        if node is not tree and isinstance(node, (exp.Query, exp.Exists)):
            _refuse(scope, node, "subqueries have no relaxation yet", _TABLE_FIRST)
        if isinstance(node, exp.Window):
            _refuse(scope, node, "window functions have no relaxation yet", "Use GROUP BY")
        if function_names(node) & volatile:
            _refuse(scope, node, "its value changes from run to run", "Store it in a column")


def _refuse(scope: Scope, node: exp.Expr, why: str, instead: str) -> None:
    raise UnsupportedQueryError(scope.shown(node), why=why, instead=instead)


def _group_keys(tree: exp.Select, scope: Scope) -> list[GroupKey]:
    group = tree.args.get("group")
    if group is None:
        return []
    strange = [
        key for key, value in group.args.items() if value and key not in ("expressions", "all")
    ]
    if strange or group.find(exp.Rollup, exp.Cube, exp.GroupingSets):
        _refuse(scope, group, "grouping sets have no relaxation yet", "Use plain GROUP BY")
    items = [item.unalias() for item in cast("list[exp.Expr]", tree.expressions)]
    if group.args.get("all"):
        wanted = [item for item in items if not _holds_aggregate(item) and _varies(item)]
    else:
        wanted = [_positional(node, items) for node in group.expressions]
    lowered = [None if _holds_aggregate(item) else scope.lower(item) for item in items]
    keys: dict[str, GroupKey] = {}
    for node in wanted:
        scalar = scope.lower(node)
        place = next((i for i, item in enumerate(lowered) if item and item.sql == scalar.sql), None)
        _check_key(scalar)
        keys.setdefault(scalar.sql, GroupKey(scalar, place))
    return list(keys.values())


def _positional(node: exp.Expr, items: list[exp.Expr]) -> exp.Expr:
    if not (isinstance(node, exp.Literal) and node.is_int):
        return node
    place = int(node.name)
    if not 1 <= place <= len(items):
        raise QueryError(f"GROUP BY {place} is out of range: SELECT has {len(items)} items.")
    return items[place - 1]


def _check_key(scalar: Scalar) -> None:
    if len(scalar.holes) > 1:
        raise UnsupportedQueryError(
            scalar.shown, why="a group key may use one prediction", instead="Use several group keys"
        )
    if scalar.holes and not scalar.constant:
        raise UnsupportedQueryError(
            scalar.shown,
            why="a group key may not mix a prediction and columns",
            instead="Group by the columns and by the prediction, each as its own key",
        )


def _holds_aggregate(node: exp.Expr) -> bool:
    return any(aggregate_name(part) for part in node.walk())


def _varies(node: exp.Expr) -> bool:
    return node.find(exp.Column, exp.Anonymous) is not None


def _cells(tree: exp.Select, reader: CellReader, keys: list[GroupKey]) -> list[Cell]:
    cells: list[Cell] = []
    for position, item in enumerate(cast("list[exp.Expr]", tree.expressions)):
        inner = item.unalias()
        if _holds_aggregate(inner):
            cells.append(reader.cell(inner, position))
        elif keys:
            _check_grouped(
                reader.scope.lower(inner), {key.scalar.sql for key in keys}, reader.scope
            )
        elif _varies(inner):
            raise UnsupportedQueryError(
                reader.scope.shown(item),
                why="a query without aggregates has one answer row per table row",
                instead="Use COUNT, SUM or AVG, with GROUP BY where needed",
            )
    if not cells:
        raise UnsupportedQueryError(
            reader.scope.shown(tree),
            why="it has no aggregate to relax",
            instead="Use COUNT, SUM or AVG",
        )
    return cells


def _check_grouped(item: Scalar, keys: set[str], scope: Scope) -> None:
    pending = [item.node]
    while pending:
        node = pending.pop()
        if scope.dialect.generate(node, normalize_functions=False) in keys:
            continue
        if isinstance(node, exp.Column):
            raise QueryError(f"`{item.shown}` must appear in GROUP BY or inside COUNT, SUM or AVG.")
        pending += list(node.iter_expressions())
