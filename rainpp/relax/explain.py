"""How a query was answered, what that was predicted to cost, and what else was possible."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.answer import Answer
from rainpp.relax.ask import AnyAnswer, AnyPlan, as_statement
from rainpp.relax.blockcost import block_cost, joined_cost
from rainpp.relax.cost import Cost, written
from rainpp.relax.nested.cost import statement_cost
from rainpp.relax.nested.ladder import Rung
from rainpp.relax.nested.statement import Statement
from rainpp.relax.nested.worlds import SAMPLES
from rainpp.relax.numberplan import NumberPlan
from rainpp.relax.plan import MAX_PAIRS, Plan, make_plan


@dataclass(frozen=True, slots=True)
class Prediction:
    """The cost of the strategy that answered, and a line for every other one."""

    cost: Cost
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"predicted cost: {self.cost}"]
        return "\n".join(lines + [f"  not chosen: {other}" for other in self.others])


def explained(plan: AnyPlan, con: duckdb.DuckDBPyConnection, answer: AnyAnswer, mode: str) -> str:
    """The plan that ran with its predicted cost, in the user's words.

    The prediction is made from the tables as they are now, not from what the run found.
    """
    try:
        predicted = str(predict(plan, con, answer, mode))
    except duckdb.Error:
        predicted = "predicted cost: unknown, a table of the query is gone"
    text = f"{answer.explain()}\n{predicted}"
    if not isinstance(plan, NumberPlan):
        return text
    # What a number is used for tells its predictions apart; to the user they are one model's.
    lines = plan.numbers.spelled(text).splitlines()
    slots = [line.startswith("  slot ") for line in lines]
    kept = [n for n, slot in enumerate(slots) if not slot or lines[n] not in lines[:n]]
    return "\n".join(lines[n] for n in kept)


def predict(
    plan: AnyPlan, con: duckdb.DuckDBPyConnection, answer: AnyAnswer, mode: str = "exact"
) -> Prediction:
    """What the strategy behind `answer` costs by the plan and DuckDB's estimates of rows.

    Raises
    ------
    duckdb.Error : a table of the plan is no longer there.
    """
    inner = plan.inner if isinstance(plan, NumberPlan) else plan
    if isinstance(answer, Answer):
        assert isinstance(inner, Plan)
        return _of_block(inner, con, exact=mode == "exact")
    statement = as_statement(inner, con)
    assert isinstance(statement, Statement)
    rung = answer.rung
    cost = statement_cost(statement, con, rung.worlds, rung.listed)
    sums = _sums(inner, con, exact=mode == "exact")
    return Prediction(cost, (sums, *_other_rungs(statement, con, rung, exact=mode == "exact")))


def _of_block(plan: Plan, con: duckdb.DuckDBPyConnection, *, exact: bool) -> Prediction:
    relaxed, found = plan.relaxed(con, exact=exact)
    cost = block_cost(plan, con, exact=exact)
    if len(plan.query.sources) == 1:
        return Prediction(cost)
    if found.factorised:
        joined = joined_cost(plan, con, exact=exact)
        return Prediction(cost, (f"joined rows, {joined}",))
    if any(kind.kind == "AVG" and kind.uncertain for kind in relaxed.aggregates) and exact:
        return Prediction(cost, ("sides kept apart: AVG needs the weight of every joined row",))
    reason = f"sides kept apart: a condition ties them, and up to {MAX_PAIRS:,} row pairs are kept"
    return Prediction(cost, (reason,))


def _sums(plan: Plan | Statement, con: duckdb.DuckDBPyConnection, *, exact: bool) -> str:
    """Why no sums over one block: they cannot be had, or are not exact."""
    if isinstance(plan, Plan):
        cost = block_cost(plan, con, exact=exact)
        return f"sums, {written(cost.milliseconds)}: joined rows share predictions"
    functions = {slot.model: of for slot, of in zip(plan.slots, plan.classes, strict=True)}
    try:
        make_plan(plan.sql, con, functions)
    except UnsupportedQueryError as reason:
        return f"sums: no closed form for `{' '.join(reason.fragment.split())}`"
    return "sums: asked for operator by operator"


def _other_rungs(
    statement: Statement, con: duckdb.DuckDBPyConnection, rung: Rung, *, exact: bool
) -> list[str]:
    refused = [f"{name}: {reason}" for name, reason in rung.refused]
    if rung.worlds or not exact:
        return refused
    sampled = statement_cost(statement, con, SAMPLES)
    return [f"{SAMPLES} sampled worlds, {written(sampled.milliseconds)}: not exact"]
