"""Oracles for the relaxation: DuckDB itself, and enumeration of every possible prediction.

Queries are written twice in the tests: with `predict(...)` for rainpp, and as plain SQL over a
real column `pred` (`pred2` for a second model) for DuckDB.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping

import duckdb
import numpy as np
import pyarrow as pa

from rainpp.relax.answer import evaluate as evaluate_flat
from rainpp.relax.ask import AnyAnswer
from rainpp.relax.ask import answer as evaluate
from rainpp.relax.ask import prepare as make_plan
from rainpp.relax.plan import make_plan as plan_flat
from rainpp.types import PredictionTable

CLASSES = (0, 1, 2)


def database(**tables: str) -> duckdb.DuckDBPyConnection:
    """A database in memory with the given tables, each from the SQL that fills it."""
    con = duckdb.connect()
    con.execute("SET threads = 2")
    for name, sql in tables.items():
        con.execute(f'CREATE TABLE "{name}" AS {sql}')
    return con


def rowids(con, table):
    return np.array(
        [row[0] for row in con.execute(f'SELECT rowid FROM "{table}" ORDER BY rowid').fetchall()],
        dtype=np.int64,
    )


def evaluated(
    con, sql, probabilities: Mapping[str, np.ndarray], *, mode="exact", classes=CLASSES
) -> AnyAnswer:
    """The answer to `sql`; probabilities by table name, or by (model, table)."""
    functions = classes if isinstance(classes, dict) else {"predict": tuple(classes)}
    plan = make_plan(sql, con, functions)
    return evaluate(plan, con, predictions(con, plan, probabilities, functions), mode=mode)


def flat(con, sql, probabilities, *, mode="exact", classes=CLASSES):
    """The same by the factorised evaluator of one flat block, which must understand the query."""
    functions = classes if isinstance(classes, dict) else {"predict": classes}
    plan = plan_flat(sql, con, functions)
    return evaluate_flat(plan, con, predictions(con, plan, probabilities, functions), mode=mode)


def random_probabilities(seed, n, num_classes=3):
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), n)


def one_hot(labels, num_classes=3):
    return np.eye(num_classes)[np.asarray(labels, int)]


def frame(con, sql):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return con.execute(sql).df()


def expectation(con, plain, probabilities, *, classes=CLASSES, condition=None):
    """E[cell] by running `plain` (one row, one number) in DuckDB in every possible world.

    `{table}` in `plain` reads the world's predictions; one correlated query covers all worlds.
    NULL counts as zero, unless `condition` is given: then the expectation is conditional on the
    number it computes being non-zero.
    """
    names = list(probabilities)
    sizes = [len(probabilities[name]) for name in names]
    worlds = np.array(list(itertools.product(range(len(classes)), repeat=sum(sizes))))
    weights, views, offset = np.ones(len(worlds)), {}, 0
    for name, size in zip(names, sizes, strict=True):
        chosen = worlds[:, offset : offset + size]
        weights *= probabilities[name][np.arange(size), chosen].prod(axis=1)
        offset += size
        predictions = pa.table(
            {
                "world": np.repeat(np.arange(len(worlds)), size),
                "i": np.tile(rowids(con, name), len(worlds)),
                "pred": pa.array(list(classes)).take(pa.array(chosen.ravel())),
            }
        )
        con.register(f"worlds_of_{name}", predictions)
        views[name] = (
            f"(SELECT t.*, t.rowid AS rid, p.pred FROM {name} t JOIN worlds_of_{name} p "
            "ON p.i = t.rowid WHERE p.world = w.world)"
        )
    condition = "SELECT 1" if condition is None else condition
    rows = con.execute(
        f"SELECT coalesce(({plain.format(**views)}), 0)::DOUBLE, "
        f"({condition.format(**views)})::DOUBLE > 0 "
        f"FROM range({len(worlds)}) w(world) ORDER BY world"
    ).fetchnumpy()
    for name in names:
        con.unregister(f"worlds_of_{name}")
    values, present = (np.asarray(column) for column in rows.values())
    return float((weights * values * present).sum() / (weights * present).sum())


def slope_along(con, sql, probabilities, direction, *, table, column, row=0, mode="exact"):
    """Central difference of a relaxed cell along `direction (V, R)`, rows not renormalised."""
    step = 1e-6
    plan = make_plan(sql, con, {"predict": CLASSES})
    values = []
    for sign in (1, -1):
        moved = {**probabilities, table: probabilities[table] + sign * step * direction}
        answer = evaluate(plan, con, predictions(con, plan, moved), mode=mode)
        values.append(answer.cell(row, column)[1])
    return (values[0] - values[1]) / (2 * step)


def assert_slopes(con, sql, probabilities, *, tables, column="n", row=0, mode="exact"):
    """The gradient agrees with differences along random directions, one of them a single entry."""
    gradient = evaluated(con, sql, probabilities, mode=mode).gradient(row, column)
    for table in tables:
        p = probabilities[table]
        rng = np.random.default_rng(len(sql))
        single = np.zeros(p.shape)
        single[rng.integers(len(p)), rng.integers(p.shape[1])] = 1.0
        for direction in (rng.normal(size=p.shape), single):
            seen = slope_along(
                con, sql, probabilities, direction, table=table, column=column, row=row, mode=mode
            )
            slope = float((gradient["predict", table] * direction).sum())
            assert abs(seen - slope) <= 1e-6 * max(1.0, abs(slope)), (table, seen, slope)


def predictions(con, plan, probabilities, functions=None):
    """Prediction tables for the slots of a plan, found by table or by (model, table)."""
    classes = functions or {"predict": CLASSES}
    return {
        slot: PredictionTable(
            slot.model,
            slot.table,
            None,
            rowids(con, slot.table),
            probabilities.get((slot.model, slot.table), probabilities.get(slot.table)),
            classes[slot.model],
        )
        for slot in plan.slots
    }
