"""Numbers shown row by row, as averages over one row each.

``SELECT id, predict_proba(x)[1] FROM t`` has no aggregate to relax. Grouped by the row ids of its
tables it has: the average of one number is that number.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from sqlglot import exp

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.catalog import default_alias, has_rows
from rainpp.relax.linear import aggregate_name

_HANDLED = {"expressions", "from_", "joins", "where", "order"}


def is_row_by_row(tree: exp.Query) -> bool:
    """Whether `tree` is one SELECT of rows of tables: no aggregate, DISTINCT, LIMIT or subquery."""
    if not isinstance(tree, exp.Select) or tree.args.get("from_") is None:
        return False
    if any(value and key not in _HANDLED for key, value in tree.args.items()):
        return False
    if any(isinstance(node, (exp.Window, exp.Subquery)) for node in tree.walk()):
        return False
    plain = not any(aggregate_name(n) for item in tree.expressions for n in item.walk())
    return plain and all(has_rows(table) for table in _tables(tree))


def grouped_by_row(
    tree: exp.Select, calls: Collection[exp.Expr], functions: Collection[str]
) -> None:
    """Rewrite `tree` in place: items with one of `calls` become averages, the others group keys.

    Raises
    ------
    UnsupportedQueryError : another item shows a prediction, or a number is read by its alias.
    """
    rowids = [exp.column("rowid", table=_alias(table)) for table in _tables(tree)]
    keys: list[exp.Expr] = [*rowids]
    for item in list(cast("list[exp.Expr]", tree.expressions)):
        inner = item.unalias()
        if any(node is call for node in inner.walk() for call in calls):
            _check_alias(tree, item)
            title = item.alias or item.sql(dialect="duckdb", normalize_functions="lower")
            item.replace(exp.alias_(exp.Avg(this=inner.copy()), title, quoted=True))
            continue
        _check_certain(item, functions)
        if inner.find(exp.Column, exp.Star):
            keys.append(inner.copy())
    keys += _ordering(tree)
    if tree.args.get("order") is None:
        tree.order_by(*(rowid.copy() for rowid in rowids), copy=False)
    tree.group_by(*keys, copy=False)


def _ordering(tree: exp.Select) -> list[exp.Expr]:
    """Columns of ORDER BY that SELECT does not show."""
    order = tree.args.get("order")
    shown = {item.alias_or_name.lower() for item in tree.expressions}
    columns = list(order.find_all(exp.Column)) if order is not None else []
    return [c.copy() for c in columns if c.table or c.name.lower() not in shown]


def _check_certain(item: exp.Expr, functions: Collection[str]) -> None:
    known = {name.lower() for name in functions}
    if item.find(exp.Star) is not None:
        why = "a star beside a number stands for several columns"
        raise UnsupportedQueryError(item.sql(dialect="duckdb"), why=why, instead="Name the columns")
    if any(call.name.lower() in known for call in item.find_all(exp.Anonymous)):
        raise UnsupportedQueryError(
            item.sql(dialect="duckdb", normalize_functions=False),
            why="a row cannot show a prediction beside a number",
            instead="Query the two apart",
        )


def _tables(tree: exp.Select) -> list[exp.Expr]:
    joins = cast("list[exp.Join]", tree.args.get("joins") or [])
    return [tree.args["from_"].this, *(join.this for join in joins)]


def _alias(table: exp.Expr) -> exp.Identifier:
    name = table.alias or default_alias(cast(exp.Table, table))
    return exp.to_identifier(name, quoted=True)


def _check_alias(tree: exp.Select, item: exp.Expr) -> None:
    for column in tree.find_all(exp.Column):
        ordered = column.find_ancestor(exp.Order) is not None
        if not ordered and not column.table and column.name.lower() == item.alias.lower():
            raise UnsupportedQueryError(
                item.alias,
                why="the query reads it as the name of a number that it also shows",
                instead="Write the call out, or give the column a name that nothing else has",
            )
