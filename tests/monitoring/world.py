"""A small world for monitors: rows with times and labels, and what DuckDB says about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import duckdb
import numpy as np
import pandas as pd

import rainpp
from tests import oracles

START = datetime(2026, 1, 1)
COLUMNS = ("id", "t", "region", "amount", "label", "a", "b", "c", "d")
SCHEMA = {
    "id": "BIGINT",
    "t": "TIMESTAMP",
    "region": "VARCHAR",
    "amount": "DOUBLE",
    "label": "BIGINT",
    **dict.fromkeys("abcd", "DOUBLE"),
}


@dataclass(frozen=True, eq=False)
class Trained:
    problem: oracles.Problem
    index: rainpp.Index

    @property
    def model(self):
        return self.problem.model


@cache
def trained(seed: int = 0) -> Trained:
    problem = oracles.solved_regression(rows=60, l2=1e-2, seed=seed)
    index = rainpp.precompute(
        problem.model,
        problem.inputs,
        problem.labels,
        k=6,
        interventions=[rainpp.Delete(), rainpp.Relabel()],
    )
    return Trained(problem, index)


def make_rows(count: int, seed: int = 0, *, seconds: int = 120) -> pd.DataFrame:
    """Rows with distinct ids, in no order of time; some amounts and labels are NULL."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 4)) * 1.5
    times = [START + timedelta(seconds=int(s)) for s in rng.integers(0, seconds, count)]
    amounts = np.round(rng.exponential(100, count), 2)
    labels = pd.array(rng.integers(0, 3, count), "Int64")
    labels[rng.random(count) < 0.2] = pd.NA
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "t": pd.to_datetime(times).astype("datetime64[us]"),
            "region": rng.choice(["EU", "US", "ASIA"], count),
            "amount": np.where(rng.random(count) < 0.1, np.nan, amounts),
            "label": labels,
            **{name: features[:, at] for at, name in enumerate("abcd")},
        }
    )


@cache
def _empty() -> duckdb.DuckDBPyConnection:
    """A database without tables: opening one for every batch takes longer than the batch."""
    return duckdb.connect()


def arrow(rows: pd.DataFrame):  # noqa: ARG001 - DuckDB finds it by its name
    """As DuckDB sees it: NaN amounts are NULL."""
    con = _empty().cursor()
    chosen = ", ".join(f"{name}::{kind} AS {name}" for name, kind in SCHEMA.items())
    return con.sql(f"SELECT {chosen} FROM rows").to_arrow_table()


def asked(rows: pd.DataFrame, sql: str, mode: str = "exact") -> rainpp.database.Result:
    """The query asked of DuckDB over all of `rows`."""
    con = duckdb.connect()
    whole = arrow(rows)  # noqa: F841 - DuckDB finds it by its name
    con.execute("CREATE TABLE people AS SELECT * FROM whole")
    db = rainpp.connect(con)
    db.register_model("predict", trained().model, trained().index)
    return db.sql(sql, mode=mode)


def answer(
    rows: pd.DataFrame, sql: str, mode: str = "exact"
) -> dict[tuple, dict[str, tuple[float, float, np.ndarray | None]]]:
    """{group: {column: (plain, relaxed, projected gradient)}} over all of `rows`.

    The gradient is None for NULL.
    """
    if not len(rows):
        return {}
    result = asked(rows, sql, mode)
    frame, relaxed = result.df(), result.relaxed()
    values = result.answer.columns
    keys = [name for name in frame.columns if name not in values]
    found = {}
    for at in range(len(frame)):
        key = tuple(_python(frame[name].iloc[at]) for name in keys)
        found[key] = {}
        for name in values:
            plain, mean = (float(part[name].iloc[at]) for part in (frame, relaxed))
            found[key][name] = (plain, mean, _gradient(result, name, at, plain))
    return found


def _gradient(result, name, at, plain):
    if np.isnan(plain):
        return None
    weights = result.gradient(name, row=at)
    if not any(np.any(part) for part in weights.values()):
        return np.zeros(trained().index.k)
    return result.complain(column=name, row=at, should="increase").query_projection()


def _python(value):
    return value.item() if isinstance(value, np.generic) else value


@cache
def schema():
    """Of the rows, as a monitor is told before the first."""
    return arrow(make_rows(1)).schema


def watch(sql: str, **options) -> rainpp.Monitor:
    settings = {"time": "t", "id": "id", "schema": schema(), **options}
    return rainpp.monitor("people", sql, model=trained().model, index=trained().index, **settings)
