"""Literals that predictions are compared with: each must be a class."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import cast

import duckdb
from sqlglot import exp

from rainpp.relax.dialect import is_literal
from rainpp.relax.masks import check_literals
from rainpp.relax.nested.rewriting import items_of
from rainpp.types import ClassValue

_PREDICTION = re.compile(r"__prediction_(\d+)")


def check_classes(
    con: duckdb.DuckDBPyConnection,
    tree: exp.Expr,
    classes: Sequence[tuple[ClassValue, ...]],
    shown: Callable[[exp.Expr], str],
) -> None:
    """Refuse ``predict(x) = 12`` anywhere in a qualified query if 12 is not a class.

    Raises
    ------
    QueryError : the literal, the comparison as the user wrote it, and the classes there are.
    """
    carried = _carried(tree)
    found: dict[tuple[tuple[int, int], str], str] = {}
    for node in tree.find_all(exp.EQ, exp.NEQ, exp.In):
        if isinstance(node, exp.In):
            sides = [(node.this, other) for other in cast("list[exp.Expr]", node.expressions)]
        else:
            sides = [(node.left, node.right), (node.right, node.left)]
        for side, other in sides:
            plain, value = side.unnest(), other.unnest()
            slot = _slot(plain, carried)
            if slot is None or not is_literal(value) or _is_class(value, classes[slot]):
                continue
            found[(slot, 0), value.sql(dialect="duckdb")] = shown(node)
    check_literals(con, found, classes)


def _slot(node: exp.Expr, carried: dict[tuple[str, str], int]) -> int | None:
    """The slot whose prediction a column holds."""
    if not isinstance(node, exp.Column):
        return None
    direct = _PREDICTION.fullmatch(node.name)
    return int(direct[1]) if direct else carried.get((node.table, node.name))


def _carried(tree: exp.Expr) -> dict[tuple[str, str], int]:
    """(alias, column) of derived tables and CTEs that hold a bare prediction."""
    bodies = {cte.alias: cast(exp.Expr, cte.this) for cte in tree.find_all(exp.CTE)}
    sources: list[tuple[str, exp.Expr]] = []
    for source in tree.find_all(exp.Subquery, exp.Table):
        inner = bodies.get(source.name) if isinstance(source, exp.Table) else source.this
        if isinstance(inner, exp.Select) and source.alias_or_name:
            sources.append((source.alias_or_name, inner))
    found: dict[tuple[str, str], int] = {}
    # Every round carries predictions one derived table further out.
    for _ in range(len(sources)):
        before = len(found)
        for alias, inner in sources:
            for item in items_of(inner):
                slot = _slot(item.unalias().unnest(), found)
                if slot is not None:
                    found[alias, item.alias_or_name] = slot
        if len(found) == before:
            break
    return found


def _is_class(node: exp.Expr, classes: tuple[ClassValue, ...]) -> bool:
    """Whether a literal is plainly one of the classes, without asking DuckDB."""
    if not isinstance(node, exp.Literal):
        return False
    if node.is_string:
        return node.name in classes
    return node.is_int and any(type(c) is int and c == int(node.name) for c in classes)
