"""What relaxing a query costs: class joins, joins with other conditions, capture, a new query.

Ratios are of times measured side by side in one run; each time is the best of several. The large
joins run in processes of their own, whose peak memory is theirs alone. Run it on a quiet machine.

    python -m experiments.relaxation [--quick]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from experiments import results, tpch_like
from rainpp.relax import ask
from rainpp.relax.answer import Answer, evaluate, match_predictions
from rainpp.relax.capture import capture_sql
from rainpp.relax.plan import Plan, make_plan
from rainpp.relax.relaxed import Place, Sums, Values
from rainpp.relax.rowsums import Gradient, Predictions
from rainpp.types import FloatArray, PredictionTable

Run = dict[str, Any]
CLASSES = tuple(range(10))
CLASS_JOIN = "SELECT count(*) AS n FROM l, r WHERE predict(l) = predict(r)"
JOINS = {
    "class": "true",
    "class and key": "l.k = r.k",
    "class and inequality": "l.a < r.a",
    "class, key and inequality": "l.k = r.k AND l.a < r.a",
    "class and a condition on both rows": "abs(l.a - r.a) < 0.05 AND (l.k + r.k) % 10 < 2",
}
SCALE = 0.1
# {low} and {high} make every text a query that was never seen.
NEW_QUERIES = {
    "join": "SELECT l.g, count(*) AS n, sum(l.a) AS s FROM l JOIN r ON l.k = r.k WHERE "
    "predict(l) = predict(r) AND l.a + {low} > 3 AND r.a < {high} GROUP BY l.g ORDER BY l.g",
    "one table": "SELECT g, count(*) AS n, avg(a) AS s FROM l "
    "WHERE predict(l) = 3 AND a + {low} > 3 GROUP BY g ORDER BY g",
    "having": "SELECT g, count(*) AS n FROM l WHERE predict(l) = 3 AND a + {low} > 3 "
    "GROUP BY g HAVING count(*) > 10 ORDER BY g",
    "left join": "SELECT l.g, count(r.id) AS n FROM l LEFT JOIN r ON l.id = r.id "
    "AND predict(r) = 3 AND r.a < {high} GROUP BY l.g ORDER BY l.g",
    "exists": "SELECT count(*) AS n FROM l WHERE l.a + {low} > 3 AND EXISTS "
    "(SELECT 1 FROM r WHERE r.k = l.k AND predict(r) = 3 AND r.a < {high})",
    "cte": "WITH c AS (SELECT g, a FROM l WHERE predict(l) = 3 AND a + {low} > 3) "
    "SELECT g, count(*) AS n, sum(a) AS s FROM c GROUP BY g ORDER BY g",
    "distinct": "SELECT DISTINCT g, predict(l) AS c FROM l WHERE a + {low} > 3 AND a < {high}",
    "count distinct": "SELECT count(DISTINCT g) AS n FROM l "
    "WHERE predict(l) = 3 AND a + {low} > 3 AND a < 10",
    "min": "SELECT g, min(a) AS n FROM l WHERE predict(l) = 3 AND a + {low} > 3 "
    "GROUP BY g ORDER BY g",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes only, nothing is saved")
    parser.add_argument("--join", nargs=2, metavar=("KIND", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.join:
        print(json.dumps(measure_join(options.join[0], int(options.join[1]))))
        return
    runs = [pairwise(10_000)]
    for kind, rows in joins(quick=options.quick):
        runs.append(measured_alone(kind, rows))
        print(runs[-1], flush=True)
    runs += capture_runs(0.01 if options.quick else SCALE)
    runs += [new_query(kind) for kind in NEW_QUERIES]
    if options.quick:
        print(json.dumps(runs, indent=1))
        return
    settings = {"classes": len(CLASSES), "scale": SCALE, "threads": 2, "seeds": [0]}
    command = "python -m experiments.relaxation"
    print(results.save("relaxation", command=command, settings=settings, runs=runs))


def joins(*, quick: bool) -> list[tuple[str, int]]:
    """Which joins are measured at which size."""
    sizes = [(kind, 10_000) for kind in JOINS]
    if quick:
        return sizes
    return [
        *sizes,
        *((kind, 100_000) for kind in JOINS),
        ("class", 1_000_000),
        ("class and key", 1_000_000),
    ]


def measured_alone(kind: str, rows: int) -> Run:
    """`measure_join` in a process of its own."""
    command = [sys.executable, "-m", "experiments.relaxation", "--join", kind, str(rows)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def database(rows: int) -> duckdb.DuckDBPyConnection:
    """Two tables of `rows` rows: group g of 50, key k of rows / 10, a in [0, 100)."""
    con = duckdb.connect()
    con.execute("SET threads = 2")
    for seed, name in enumerate(("l", "r")):
        con.execute(
            f"CREATE TABLE {name} AS SELECT range AS id, hash(range, {seed}) % 50 AS g, "
            f"hash(range, {seed} + 10) % {rows // 10} AS k, "
            f"(hash(range, {seed} + 20) % 10000) / 100 AS a FROM range({rows})"
        )
    return con


def probabilities(rows: int, seed: int, classes: int = len(CLASSES)) -> FloatArray:
    """Random rows that sum to one."""
    draws = np.random.default_rng(seed).random((rows, classes))
    return draws / draws.sum(axis=1, keepdims=True)


def predictions(plan: Plan, rows: int) -> Predictions:
    """A table of predictions for every slot of a plan over `database(rows)`."""
    tables = {
        slot: PredictionTable(
            slot.model, slot.table, None, np.arange(rows), probabilities(rows, seed), CLASSES
        )
        for seed, slot in enumerate(plan.slots)
    }
    return match_predictions(plan.slots, plan.query.classes, tables)


def best(action: Callable[[], Any], repeats: int = 7, budget: float = 20.0) -> float:
    """The shortest of several times, in milliseconds; fewer repeats once `budget` s are spent."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < budget:
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return round(min(times) * 1e3, 3)


def measure_join(kind: str, rows: int) -> Run:
    """Plan, capture, plain answer, value and gradient of one join, and peak memory so far."""
    con = database(rows)
    where = JOINS[kind]
    sql = CLASS_JOIN if where == "true" else f"{CLASS_JOIN} AND {where}"
    found = make_plan(sql, con, {"predict": CLASSES})
    assert isinstance(found, Plan)
    known = predictions(found, rows)
    layout = found.relaxed(con, exact=True)
    sums = Sums(con, found.query, layout, known)
    run: Run = {"kind": kind, "rows": rows, "strategy": sums.strategy}
    run["first_value_ms"] = best(lambda: _value(sums), repeats=1)
    run["value_ms"] = best(lambda: _value(_fresh(sums)))
    run["memory_after_value_gb"] = peak_memory()
    run["value_and_gradient_ms"] = best(lambda: _gradient(_fresh(sums), known))
    run["memory_after_gradient_gb"] = peak_memory()
    run["plan_ms"] = best(lambda: make_plan(sql, con, {"predict": CLASSES}))
    run["capture_ms"] = best(lambda: Sums(con, found.query, layout, known), repeats=3)
    pairs = sums.joined_rows()
    run["joined_rows"] = pairs
    run["plain_ms"] = best(lambda: found.run(con, known.tables, sums.layout, pairs), repeats=3)
    run["memory_gb"] = peak_memory()
    return run


def peak_memory() -> float:
    """Peak resident memory of this process so far, in gigabytes.

    Linux hands `ru_maxrss` on to a child process; the figure in /proc is the process's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1e6, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3)


def _fresh(sums: Sums) -> Sums:
    """The same captured rows with nothing summed yet."""
    sums.forget()
    return sums


def _value(sums: Sums) -> float:
    return Values(sums).cell(sums.query.cells[0], Place(0, (0, 0)))


def _gradient(sums: Sums, known: Predictions) -> Gradient:
    values, gradient = Values(sums), Gradient.zeros(known)
    values.cell(sums.query.cells[0], Place(0, (0, 0)))
    values.add_gradient(sums.query.cells[0], Place(0, (0, 0)), gradient)
    return gradient


def pairwise(rows: int) -> Run:
    """The class join pair by pair: in DuckDB, and in NumPy tiles; beside the factorised one."""
    con = database(rows)
    plan = make_plan(CLASS_JOIN, con, {"predict": CLASSES})
    assert isinstance(plan, Plan)
    known = predictions(plan, rows)
    sums = Sums(con, plan.query, plan.relaxed(con, exact=True), known)
    left, right = known.probabilities
    for name, values in (("p_l", left), ("p_r", right)):
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        con.register("made", pa.table({"p": flat}))
        con.execute(f"CREATE TABLE {name} AS SELECT p::DOUBLE[{values.shape[1]}] AS p FROM made")
        con.unregister("made")
    sql = "SELECT sum(array_inner_product(x.p, y.p)) FROM p_l AS x, p_r AS y"
    run: Run = {"kind": "pairwise", "rows": rows}
    run["value_ms"] = best(lambda: _value(_fresh(sums)), repeats=30)
    run["value_and_gradient_ms"] = best(lambda: _gradient(_fresh(sums), known), repeats=30)
    run["duckdb_value_ms"] = best(lambda: con.execute(sql).fetchall(), repeats=2)
    run["numpy_value_and_gradient_ms"] = best(lambda: dense(left, right), repeats=2)
    run["difference"] = abs(_value(_fresh(sums)) - dense(left, right)[0])
    return run


def dense(left: FloatArray, right: FloatArray, tile: int = 500) -> tuple[float, Any, Any]:
    """Value and gradients of the class join from every pair's own probability, tile by tile."""
    total, to_left, to_right = 0.0, np.zeros_like(left), np.zeros_like(right)
    for low in range(0, len(left), tile):
        rows = slice(low, low + tile)
        equal = np.einsum("ic,jc->ij", left[rows], right)
        total += float(equal.sum())
        to_left[rows] += np.einsum("ij,jc->ic", np.ones_like(equal), right)
        to_right += np.einsum("ij,ic->jc", np.ones_like(equal), left[rows])
    return total, to_left, to_right


def capture_runs(scale: float) -> list[Run]:
    """Every TPC-H-like query: DuckDB alone, the rows the relaxation fetches, and everything."""
    con, known = tpch_like.connect(scale)
    runs = [_capture_run(con, known, name) for name in tpch_like.QUERIES]
    print(statistics.median(run["ratio"] for run in runs), flush=True)
    return runs


def _capture_run(con: duckdb.DuckDBPyConnection, known: dict[str, FloatArray], name: str) -> Run:
    plain, written = (
        f(tpch_like.QUERIES[name]) for f in (tpch_like.plain_sql, tpch_like.relaxed_sql)
    )
    plan = make_plan(written, con, {"predict": tpch_like.CLASSES})
    assert isinstance(plan, Plan)
    tables = {
        slot: PredictionTable(
            slot.model,
            slot.table,
            None,
            np.arange(len(known[slot.table])),
            known[slot.table],
            tpch_like.CLASSES,
        )
        for slot in plan.slots
    }
    sides = plan.relaxed(con, exact=True)[1].sides
    fetches = [capture_sql(plan.query, side) for side in sides]
    alone = best(lambda: con.sql(plain).to_arrow_table(), repeats=9)
    fetched = best(lambda: [con.sql(fetch).to_arrow_table() for fetch in fetches], repeats=9)
    answer = evaluate(plan, con, tables)
    return {
        "kind": "capture",
        "query": name,
        "plain_ms": alone,
        "capture_ms": fetched,
        "ratio": round(fetched / alone, 3),
        "total_ms": best(lambda: _answered(evaluate(plan, con, tables)), repeats=3),
        "method": answer.method,
    }


def _answered(answer: Answer) -> None:
    """Every relaxed cell, and the gradient of the first."""
    assert len(answer.relaxed)
    answer.gradient(0, answer.columns[0])


def new_query(kind: str, rows: int = 10_000, repeats: int = 12) -> Run:
    """From the text of a query never seen to its first gradient, in a warm process.

    Wall and processor time: on a busy machine the second says what the first would be.
    """
    con = database(rows)
    tables = {
        name: PredictionTable(
            "predict", name, None, np.arange(rows), probabilities(rows, seed), CLASSES
        )
        for seed, name in enumerate(("l", "r"))
    }
    texts = [
        NEW_QUERIES[kind].format(low=number, high=90 - number) for number in range(repeats + 2)
    ]
    spent = [_first_gradient(con, sql, tables) for sql in texts][2:]
    wall, worked = ([round(times[k], 2) for times in spent] for k in (0, 1))
    return {
        "kind": "new query",
        "query": kind,
        "rows": rows,
        "duckdb_ms": _plain_time(con, tables, texts[-1]),
        "median_ms": statistics.median(wall),
        "best_ms": min(wall),
        "worst_ms": max(wall),
        "processor_ms": min(worked),
    }


def _first_gradient(
    con: duckdb.DuckDBPyConnection, sql: str, tables: dict[str, PredictionTable]
) -> tuple[float, float]:
    """Wall and processor time in milliseconds."""
    began, busy = time.perf_counter(), time.process_time()
    plan = ask.prepare(sql, con, {"predict": CLASSES})
    answer = ask.answer(plan, con, {slot: tables[slot.table] for slot in plan.slots})
    if answer.columns:
        answer.gradient(0, answer.columns[0])
    else:
        answer.existence_gradient(0)
    return (time.perf_counter() - began) * 1e3, (time.process_time() - busy) * 1e3


def _plain_time(
    con: duckdb.DuckDBPyConnection, tables: dict[str, PredictionTable], sql: str
) -> float:
    """The same over columns of classes, which is what DuckDB alone would have to do."""
    for name, table in tables.items():
        winners = table.probabilities.argmax(axis=1)
        con.register("made", pa.table({"id": np.arange(len(winners)), "pred": winners}))
        con.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {name} JOIN made USING (id)")
        con.unregister("made")
    plain = sql.replace("predict(l)", "l.pred").replace("predict(r)", "r.pred")
    return best(lambda: con.execute(plain).fetchall())


if __name__ == "__main__":
    main()
