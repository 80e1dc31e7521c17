"""How well the cost that `explain` predicts meets the time a query takes.

Predictions use constants fitted to two tables of hashes at three sizes and to every other one of
the TPC-H-like queries (`--fit` prints new ones); the rest of these is held out. Times are those of
the plain and the relaxed answer together, the best of several, in a warm process; planning is not
among them. Run it on a quiet machine.

    python -m experiments.relaxation_cost [--fit]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
from scipy.optimize import minimize

from experiments import relaxation, results, tpch_like
from experiments.relaxation import CLASS_JOIN, JOINS, NEW_QUERIES, best, database, probabilities
from rainpp.relax import ask
from rainpp.relax.cost import ANSWER, NANOSECONDS
from rainpp.relax.explain import Prediction, predict
from rainpp.types import ClassValue, FloatArray, PredictionTable

Run = dict[str, Any]
SIZES = (1_000, 10_000, 100_000)
SCALE = 0.05
# Formulas too entangled for circuits: these go to worlds, listed or sampled.
ENTANGLED = {
    "median": "SELECT median(a) AS n FROM l WHERE predict(l) = 3",
    "median of few": "SELECT median(a) AS n FROM l WHERE predict(l) = 3 AND id < 4",
    "median by group": "SELECT g, median(a) AS n FROM l WHERE predict(l) = 3 GROUP BY g",
}
# What is asked at which sizes; entangled queries over 100 000 rows need more memory than allowed.
LIMITS = dict.fromkeys(ENTANGLED, 10_000) | {"class and a condition on both rows": 10_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="print constants, save nothing")
    fit = parser.parse_args().fit
    runs = [*hash_runs(), *tpch_runs()]
    if fit:
        print_constants([run for run in runs if run["kind"] == "fitted"])
        return
    summary = [summarised(runs, kind) for kind in ("fitted", "held out")]
    print(*summary, sep="\n")
    settings = {"sizes": list(SIZES), "scale": SCALE, "threads": 2, "seeds": [0]}
    command = "python -m experiments.relaxation_cost"
    print(results.save("relaxation_cost", command=command, settings=settings, runs=summary + runs))


def hash_runs() -> Iterator[Run]:
    """Every query over the tables of hashes, at every size."""
    joins = {
        name: CLASS_JOIN if where == "true" else f"{CLASS_JOIN} AND {where}"
        for name, where in JOINS.items()
    }
    queries = {**joins, **NEW_QUERIES, **ENTANGLED}
    for rows in SIZES:
        con = database(rows)
        known = {name: probabilities(rows, seed) for seed, name in enumerate(("l", "r"))}
        for name, text in queries.items():
            if rows <= LIMITS.get(name, rows):
                sql = text.format(low=1, high=80)
                about = {"kind": "fitted", "query": name, "rows": rows}
                yield about | measured(con, sql, known, relaxation.CLASSES)


def tpch_runs() -> Iterator[Run]:
    """The TPC-H-like queries, every other one of which no constant has seen."""
    con, known = tpch_like.connect(SCALE)
    for number, (name, text) in enumerate(tpch_like.QUERIES.items()):
        kind = "held out" if number % 2 else "fitted"
        about = {"kind": kind, "query": name, "scale": SCALE}
        yield about | measured(con, tpch_like.relaxed_sql(text), known, tpch_like.CLASSES)


def measured(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    known: Mapping[str, FloatArray],
    classes: tuple[ClassValue, ...],
) -> Run:
    """Predicted and actual time of one query, and the counts of the prediction."""
    plan = ask.prepare(sql, con, {"predict": classes})
    tables = {
        slot: PredictionTable(
            slot.model, slot.table, None, np.arange(len(known[slot.table])), known[slot.table],
            classes,
        )
        for slot in plan.slots
    }  # fmt: skip
    answer = ask.answer(plan, con, tables, max_error=10.0)
    found = predict(plan, con, answer)
    actual = best(lambda: ask.answer(plan, con, tables, max_error=10.0).relaxed, 5, 5.0)
    run = _run(answer.method, found, actual)
    print(sql[:60], run["method"], run["predicted_ms"], actual, flush=True)
    return run


def _run(method: str, found: Prediction, actual: float) -> Run:
    cost = found.cost
    counts = {name: getattr(cost, name) for name in [*NANOSECONDS, "held"]}
    predicted = cost.milliseconds
    ratio = max(predicted, actual) / min(predicted, actual)
    return {
        "method": method.partition(", error")[0],
        "counts": counts,
        "predicted_ms": round(predicted, 3),
        "actual_ms": actual,
        "off_by": round(ratio, 2),
    }


def summarised(runs: list[Run], kind: str) -> Run:
    """Median and worst factor between prediction and time."""
    off = [run["off_by"] for run in runs if run["kind"] == kind]
    return {
        "kind": f"{kind}, all",
        "queries": len(off),
        "median_off_by": round(statistics.median(off), 2),
        "worst_off_by": max(off),
    }


def print_constants(runs: list[Run]) -> None:
    """Prices that make the factors between prediction and time small: Σ |log|, rounded at 0."""
    actual = np.array([run["actual_ms"] for run in runs])
    counts = np.array([[1.0, *(run["counts"][name] for name in NANOSECONDS)] for run in runs])

    def missed(logs: FloatArray) -> float:
        return float(np.sqrt(0.05 + np.log(counts @ np.exp(logs) / actual) ** 2).sum())

    start = np.log([ANSWER / 1e6, *(price / 1e6 for price in NANOSECONDS.values())])
    draws = np.random.default_rng(0).normal(0.0, 1.0, (8, len(start)))
    limits = [(np.log(1e-6), None)] * len(start)
    found = [minimize(missed, start + d, method="L-BFGS-B", bounds=limits) for d in draws]
    prices = np.exp(min(found, key=lambda each: each.fun).x) * 1e6
    for name, price in zip(["answer", *NANOSECONDS], prices, strict=True):
        print(f"{name}: {price:.2g}")


if __name__ == "__main__":
    main()
