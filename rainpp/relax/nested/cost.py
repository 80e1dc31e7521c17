"""The cost of evaluating a query operator by operator, on each rung of the ladder."""

from __future__ import annotations

import math

import duckdb
from sqlglot import exp

from rainpp.relax.cost import Cost, estimate, table_rows
from rainpp.relax.dialect import parse_query, render
from rainpp.relax.masks import sql_type
from rainpp.relax.nested.rewriting import is_grouped
from rainpp.relax.nested.statement import Statement

_OPERATORS = (
    exp.Select,
    exp.SetOperation,
    exp.Join,
    exp.Group,
    exp.Having,
    exp.Distinct,
    exp.Limit,
)


def statement_cost(
    statement: Statement, con: duckdb.DuckDBPyConnection, worlds: int = 0, predictions: int = 0
) -> Cost:
    """The cost with events as formulas, or as bits of that many worlds.

    Parameters
    ----------
    worlds : how many are listed or sampled; 0 for formulas.
    predictions : how many are listed; 0 means that all are sampled.
    """
    plain = estimate(con, _every_row(statement))
    events = _events(statement, con) + plain.passed
    return Cost(
        operators=sum(1 for _ in statement.tree.find_all(*_OPERATORS)),
        read=2 * _read(statement, con),
        events=events,
        groups=plain.rows,
        pairs=plain.pairs,
        in_worlds=worlds * (predictions or plain.passed),
        held=events * (24 + math.ceil(worlds / 8)),
    )


def _every_row(statement: Statement) -> str:
    """The plain query without its conditions on predictions: every row that could count."""
    sources = [
        # A value that the optimizer cannot know.
        f"(SELECT rowid AS rid, CASE WHEN random() < 2 THEN NULL::{sql_type(classes)} END "
        f"AS prediction FROM {statement.sql_name(slot)})"
        for slot, classes in zip(statement.slots, statement.classes, strict=True)
    ]
    tree = parse_query(statement.filled(sources), statement.dialect)
    for place in list(tree.find_all(exp.Where, exp.Join)):
        key = "this" if isinstance(place, exp.Where) else "on"
        condition = place.args.get(key)
        if condition is not None:
            parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
            kept = [part for part in parts if not _is_predicted(part)]
            place.set(key, exp.and_(*kept, copy=False) if kept else exp.true())
    for block in list(tree.find_all(exp.Select)):
        if is_grouped(block):
            # Otherwise DuckDB may count rows without reading them, or before it joins them.
            block.where("random() < 2", copy=False)
    return render(tree, statement.dialect)


def _is_predicted(condition: exp.Expr) -> bool:
    if condition.find(exp.Query) is not None:
        return False
    return any("__prediction_" in column.name for column in condition.find_all(exp.Column))


def _read(statement: Statement, con: duckdb.DuckDBPyConnection) -> int:
    """Rows of all tables the query mentions."""
    return sum(table_rows(con, base.entry.qualified) for base in statement.bases.values())


def _events(statement: Statement, con: duckdb.DuckDBPyConnection) -> int:
    """Rows of every mention of a predicted table, one per combination of its classes."""
    total = 0
    for table in statement.tree.find_all(exp.Table):
        base = statement.bases.get(table.name)
        if base is not None and base.slots:
            classes = math.prod(len(statement.classes[slot]) for slot in base.slots)
            total += table_rows(con, base.entry.qualified) * classes
    return total
