"""Oracles for the relaxation: DuckDB itself, and enumeration of every possible prediction.

Queries are written twice in the tests: with `predict(...)` for rainpp, and as plain SQL over a
real column `pred` (`pred2` for a second model) for DuckDB.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping

import duckdb
import numpy as np

from rainpp.relax.answer import Answer, evaluate
from rainpp.relax.plan import make_plan
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
) -> Answer:
    """The answer to `sql`; probabilities by table name, or by (model, table)."""
    functions = classes if isinstance(classes, dict) else {"predict": tuple(classes)}
    plan = make_plan(sql, con, functions)
    tables = {}
    for slot in plan.slots:
        p = probabilities.get((slot.model, slot.table), probabilities.get(slot.table))
        tables[slot] = PredictionTable(
            slot.model, slot.table, None, rowids(con, slot.table), p, functions[slot.model]
        )
    return evaluate(plan, con, tables, mode=mode)


def with_column(con, table, predictions, *, column="pred"):
    """Write predictions into the real column that plain SQL uses."""
    con.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {_kind(predictions)}")
    for rid, value in zip(rowids(con, table), predictions, strict=True):
        con.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [value, int(rid)])


def _kind(values):
    return "VARCHAR" if any(isinstance(value, str) for value in values) else "BIGINT"


def random_probabilities(seed, n, num_classes=3):
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), n)


def one_hot(labels, num_classes=3):
    return np.eye(num_classes)[np.asarray(labels, int)]


def frame(con, sql):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return con.execute(sql).df()


def expectation(con, plain, probabilities, *, classes=CLASSES, condition=None):
    """E[cell] by running `plain` (one row, one number) in DuckDB for every possible world.

    `{table}` in `plain` reads the world's predictions. NULL counts as zero, unless `condition` is
    given: then the expectation is conditional on the number it computes being non-zero.
    """
    names = list(probabilities)
    sizes = [len(probabilities[name]) for name in names]
    total = mass = 0.0
    for world in itertools.product(range(len(classes)), repeat=sum(sizes)):
        weight, offset = 1.0, 0
        views = {}
        for name, size in zip(names, sizes, strict=True):
            chosen = world[offset : offset + size]
            offset += size
            weight *= math.prod(probabilities[name][i, c] for i, c in enumerate(chosen))
            rows = ", ".join(f"({i}, {classes[c]!r})" for i, c in enumerate(chosen))
            views[name] = (
                f"(SELECT t.*, t.rowid AS rid, w.pred FROM {name} t "
                f"JOIN (VALUES {rows}) w(i, pred) ON w.i = t.rowid)"
            )
        value = con.execute(plain.format(**views)).fetchone()[0]
        if condition is not None:
            present = con.execute(condition.format(**views)).fetchone()[0]
            if not present:
                continue
        mass += weight
        total += weight * (value or 0.0)
    return total / mass if condition is not None else total


def finite_difference(con, sql, probabilities, *, table, column, row=0, mode="exact", **kwargs):
    """Central differences of a relaxed cell over single entries of P, not renormalised."""
    step = 1e-6
    p = probabilities[table]
    out = np.zeros_like(p)
    for index in np.ndindex(*p.shape):
        values = []
        for sign in (1, -1):
            moved = p.copy()
            moved[index] += sign * step
            answer = evaluated(con, sql, {**probabilities, table: moved}, mode=mode, **kwargs)
            values.append(answer.cell(row, column)[1])
        out[index] = (values[0] - values[1]) / (2 * step)
    return out
