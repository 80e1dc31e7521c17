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
from rainpp.relax.numberplan import NumberPlan
from rainpp.relax.numbers import read_numbers
from rainpp.relax.plan import Plan, Slot, make_plan
from rainpp.relax.query import is_amount
from rainpp.types import ClassValue, PredictionTable

__all__ = ["MAX_ERROR", "AnyAnswer", "AnyPlan", "Slot", "answer", "as_statement", "prepare"]

# Joined rows that share predictions, for the exact probability that a group has any.
MAX_PAIRS = 1_000_000

AnyPlan = Plan | Statement | NumberPlan
AnyAnswer = Answer | NestedAnswer


def prepare(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, tuple[ClassValue, ...]]
) -> AnyPlan:
    """Understand `sql`; parameters and errors are those of `plan.make_plan`.

    A function without classes is a regression; its predictions have one column, its values.
    """
    numbers = read_numbers(sql, con, functions)
    if numbers is None:
        return _prepared(sql, con, {name: known for name, known in functions.items() if known})
    with numbers.in_the_users_words():
        inner = _prepared(numbers.sql, con, numbers.functions)
    return NumberPlan(sql, numbers, inner)


def _prepared(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, tuple[ClassValue, ...]]
) -> Plan | Statement:
    try:
        return make_plan(sql, con, functions)
    except UnsupportedQueryError as reason:
        statement = make_statement(sql, con, functions)
        if any(map(is_amount, statement.slots)):
            raise reason from None
        return statement


def as_statement(plan: AnyPlan, con: duckdb.DuckDBPyConnection) -> AnyPlan:
    """The same query for evaluation operator by operator; errors are those of `prepare`."""
    if isinstance(plan, NumberPlan):
        with plan.numbers.in_the_users_words():
            return NumberPlan(plan.sql, plan.numbers, _as_statement(plan.inner, con))
    return _as_statement(plan, con)


def _as_statement(plan: Plan | Statement, con: duckdb.DuckDBPyConnection) -> Statement:
    if isinstance(plan, Statement):
        return plan
    if any(map(is_amount, plan.slots)):
        raise UnsupportedQueryError(
            plan.sql.strip(),
            why="joined rows share predictions, which numbers in the same query do not allow",
            instead="Query the number on its own",
        )
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
    if not isinstance(plan, NumberPlan):
        return _answer(plan, con, tables, mode, max_error)
    with plan.numbers.in_the_users_words():
        found = _answer(plan.inner, con, plan.tables(tables), mode, max_error)
    plan.finish(found, tables)
    return found


def _answer(
    plan: Plan | Statement,
    con: duckdb.DuckDBPyConnection,
    tables: Mapping[Slot, PredictionTable],
    mode: str,
    max_error: float,
) -> AnyAnswer:
    found = None
    if isinstance(plan, Plan):
        try:
            found = evaluate(plan, con, tables, mode)
            alone = any(map(is_amount, plan.slots))
            if mode == "rain" or alone or not 0 < found.row_pairs <= MAX_PAIRS:
                return found
        except UnsupportedQueryError:
            if any(map(is_amount, plan.slots)):
                raise
            found = None
        plan = _as_statement(plan, con)
    predictions = match_predictions(plan.slots, plan.classes, tables)
    try:
        return NestedAnswer(plan, con, predictions, exact=mode == "exact", max_error=max_error)
    except UnsupportedQueryError:
        if found is None:
            raise
        return found
