"""From SQL to an answer by the first evaluator that understands the query.

One flat block of inner joins with COUNT, SUM and AVG is evaluated factorised (`plan`, `answer`);
everything else operator by operator (`nested`).
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.answer import Answer, evaluate, match_predictions
from rainpp.relax.nested.answer import MAX_ERROR, NestedAnswer
from rainpp.relax.nested.statement import Statement, make_statement
from rainpp.relax.plan import Plan, Slot, make_plan
from rainpp.types import ClassValue, PredictionTable

__all__ = ["MAX_ERROR", "AnyAnswer", "AnyPlan", "Slot", "answer", "as_statement", "prepare"]

# Joined rows that share predictions, for the exact probability that a group has any.
MAX_PAIRS = 1_000_000

AnyPlan = Plan | Statement
AnyAnswer = Answer | NestedAnswer


def prepare(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, tuple[ClassValue, ...]]
) -> AnyPlan:
    """Understand `sql`; parameters and errors are those of `plan.make_plan`."""
    try:
        return make_plan(sql, con, functions)
    except UnsupportedQueryError:
        return make_statement(sql, con, functions)


def as_statement(plan: AnyPlan, con: duckdb.DuckDBPyConnection) -> Statement:
    """The same query for evaluation operator by operator; errors are those of `prepare`."""
    if isinstance(plan, Statement):
        return plan
    slots = zip(plan.slots, plan.query.classes, strict=True)
    return make_statement(plan.sql, con, {slot.model: classes for slot, classes in slots})


def answer(
    plan: AnyPlan,
    con: duckdb.DuckDBPyConnection,
    tables: Mapping[Slot, PredictionTable],
    mode: str = "exact",
    max_error: float = MAX_ERROR,
) -> AnyAnswer:
    """Run a prepared query.

    Parameters
    ----------
    tables : predictions for every slot of the plan; the rows of their tables must be complete.
    mode : "exact", the expectation under independent predictions, or "rain", the product rules of
        Rain and Rain++.
    max_error : largest half width of a 95 % interval, relative to max(1, |value|), that an
        approximation may have.

    Raises
    ------
    QueryError : predictions are missing for a slot or a row, or DuckDB fails.
    UnsupportedQueryError : the data make the query infeasible, or an approximation too coarse.
    """
    if mode not in ("exact", "rain"):
        raise QueryError(f'`mode` must be "exact" or "rain"; got {mode!r}.')
    found = None
    if isinstance(plan, Plan):
        try:
            found = evaluate(plan, con, tables, mode)
            if mode == "rain" or not 0 < found.row_pairs <= MAX_PAIRS:
                return found
        except UnsupportedQueryError:
            found = None
        plan = as_statement(plan, con)
    predictions = match_predictions(plan.slots, plan.classes, tables)
    try:
        return NestedAnswer(plan, con, predictions, exact=mode == "exact", max_error=max_error)
    except UnsupportedQueryError:
        if found is None:
            raise
        return found
