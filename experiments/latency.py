"""How long a complaint takes: from `complain(...)` to the frame of the top 100 a user holds.

MNIST logistic regression, 60 000 training rows, 10 000 materialised inferences of 10 classes: once
with 60 000 deletions, once with 600 000 interventions (a deletion and nine relabels per row). Cold
is the first complaint of a process about a query, first that about each of 200 new answers to it,
warm every later one about the same cell. Beside it, in the same run: one read of the table of
projections, the product that scores it, the first complaint on queries of a structure not seen
before, and opening an index of a million rows. Processor time stands beside the clock, for a
machine that is not alone.

    python -m experiments.latency [--repeats 1000]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import rainpp
from experiments import data, results, train
from experiments.corrupt import flip_classes
from experiments.mnist_flips import QUERIES, SHOULD, Case, fit, open_database
from rainpp.index import store
from rainpp.index.ann import Ordered, Table

KINDS = {"deletions": [rainpp.Delete()], "all": [rainpp.Delete(), rainpp.Relabel()]}
K = 20
# Answers to one query, each complained about for the first time.
FRESH = 200
OPENED_ROWS = 1_000_000
TABLES = ("digits", "LEFT", "RIGHT")
# Structures the two queries of the paper do not have, each asked for the first time.
NEW_QUERIES = {
    "two conditions": "SELECT count(*) AS n FROM digits WHERE predict(image) = 1 AND rowid < 7000",
    "groups": "SELECT rowid % 3 AS part, count(*) AS n FROM digits WHERE predict(image) IN (1, 7) "
    "GROUP BY 1 ORDER BY 1",
    "average": "SELECT avg(predict(image)) AS n FROM digits WHERE rowid < 5000",
    "case": "SELECT sum(CASE WHEN predict(image) = 1 THEN 2 ELSE 1 END) AS n FROM digits "
    "WHERE rowid % 2 = 0",
    "three-way": 'SELECT count(*) AS n FROM "LEFT" L JOIN "RIGHT" R ON predict(L.image) = '
    "predict(R.image) WHERE L.rowid < 1000",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    runs: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for kinds in KINDS:
        for k in ("auto", K):
            with tempfile.TemporaryDirectory() as folder:
                database, about = opened(kinds, k, Path(folder))
                runs += measure(database, repeats, about)
                new = new or first_complaints(database)
    settings = {
        "repeats": repeats,
        "l2": train.L2,
        "load": _load(),
        "new_queries": new,
        "opening": opening(),
    }
    command = "python -m experiments.latency"
    print(results.save("latency", command=command, settings=settings, runs=runs))


@functools.cache
def trained() -> tuple[data.Dataset, np.ndarray, rainpp.Model]:
    """The digits, the corrupted labels, and the model trained on them."""
    digits = data.mnist()
    planted = flip_classes(digits.train_labels, [(1, 7)], rate=0.3, seed=0)
    model, _ = fit(Case("logistic", 0.3, 0, 60_000), digits.train_inputs, planted.labels)
    return digits, planted.labels, model


def opened(kinds: str, k: int | str, folder: Path) -> tuple[rainpp.Database, dict[str, Any]]:
    """A materialised database over an index as opened from disk, and times of its kernels."""
    digits, labels, model = trained()
    began = time.perf_counter()
    index = rainpp.precompute(
        model,
        digits.train_inputs,
        labels,
        k=k,
        interventions=KINDS[kinds],
        path=folder / "mnist.rain",
    )
    built = time.perf_counter() - began
    loaded = rainpp.load(folder / "mnist.rain")
    about = {
        "interventions": len(index.interventions),
        "kinds": kinds,
        "k": index.k,
        "index_seconds": round(built, 2),
        **kernels(loaded),
    }
    return open_database(digits, model, loaded), about


def measure(database: rainpp.Database, repeats: int, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Cold and warm times of both queries' complaints."""
    runs: list[dict[str, Any]] = []
    for query, sql in QUERIES.items():
        began = time.perf_counter()
        result = database.sql(sql)
        answered = time.perf_counter() - began

        def ask(result: rainpp.Result = result, query: str = query) -> None:
            result.complain("n", should=SHOULD[query]).rank().top(100)

        cold, _ = _seconds(ask)
        warm = [_seconds(ask) for _ in range(repeats)]
        fresh = [database.sql(sql) for _ in range(FRESH)]
        first = [_seconds(lambda result=result: ask(result)) for result in fresh]
        record = about | {
            "query": query,
            "sql_ms": round(answered * 1e3, 2),
            "cold_ms": round(cold * 1e3, 2),
            "cpu_ms": round(statistics.median(cpu for _, cpu in warm) * 1e3, 3),
            **{
                f"first_{name}": value
                for name, value in results.milliseconds([wall for wall, _ in first]).items()
            },
        }
        runs.append(record | results.milliseconds([wall for wall, _ in warm]))
        print(runs[-1], flush=True)
    return runs


def kernels(index: rainpp.Index) -> dict[str, float]:
    """One read of the projections from memory, the product with them, and product to top 100."""
    table = index.arrays["projections"]
    vector = np.asarray(table[::701].sum(axis=0), np.float64)
    direction = (vector / index.eigenvalues).astype(table.dtype)
    parts: dict[str, Callable[[], Any]] = {
        "read": lambda: table.reshape(-1).max(),
        "product": lambda: table @ direction,
        "scored": lambda: index.rank(vector).positions(100),
    }
    found: dict[str, float] = {}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for _ in range(100):  # in turn, so that what else the machine does meets all alike
        for name, call in parts.items():
            taken[name].append(_seconds(call))
    for name, times in taken.items():
        found[f"{name}_ms"] = round(statistics.median(wall for wall, _ in times) * 1e3, 3)
        found[f"{name}_cpu_ms"] = round(statistics.median(cpu for _, cpu in times) * 1e3, 3)
    ordered = Ordered.of(Table.of(index))
    searched = [_seconds(lambda: ordered.search(vector, 100)) for _ in range(20)]
    found["longest_rows_ms"] = round(statistics.median(wall for wall, _ in searched) * 1e3, 3)
    found["longest_rows_read"] = round(ordered.search(vector, 100)[1] / len(ordered.rows), 4)
    found["scored_over_read"] = round(
        statistics.median(
            one[1] / other[1] for one, other in zip(taken["scored"], taken["read"], strict=True)
        ),
        2,
    )
    return found


def first_complaints(database: rainpp.Database) -> list[dict[str, Any]]:
    """Queries of new structure: what DuckDB takes for its part, and all until the top 100.

    DuckDB's part is the plain query over stored predictions, and the check that the tables are what
    they were when they were materialised, one hash over all that the model reads.
    """
    _store_predictions(database)
    runs: list[dict[str, Any]] = []
    for name, sql in NEW_QUERIES.items():
        alone = statistics.median(
            _seconds(lambda sql=sql: _duckdb(database, sql))[0] for _ in "123"
        )

        def ask(sql: str = sql) -> None:
            result = database.sql(sql)
            result.complain("n", row=0, should="increase").rank().top(100)

        first, _ = _seconds(ask)
        again = statistics.median(_seconds(ask)[0] for _ in range(5))
        runs.append(
            {
                "query": name,
                "duckdb_ms": round(alone * 1e3, 2),
                "answer_and_complaint_ms": round(first * 1e3, 2),
                "beyond_duckdb_ms": round((first - alone) * 1e3, 2),
                "again_ms": round(again * 1e3, 2),
            }
        )
        print(runs[-1], flush=True)
    return runs


def _store_predictions(database: rainpp.Database) -> None:
    """Beside each table of images one with the predicted class of every row."""
    for name in TABLES:
        found = database.sql(f'SELECT predict(image) AS p FROM "{name}"').df()
        database.connection.register("found", found)
        database.connection.execute(
            f'CREATE TABLE "{name} predicted" AS SELECT * FROM "{name}" POSITIONAL JOIN found'
        )
        database.connection.unregister("found")


def _duckdb(database: rainpp.Database, sql: str) -> None:
    """What DuckDB does for a query: hash the images it is about, and answer it."""
    plain = re.sub(r"predict\((\w+\.)?image\)", r"\1p", sql)
    for name in TABLES:
        plain = re.sub(rf'FROM {name}\b|"{name}"', lambda found: _predicted(found.group()), plain)
        if name in sql:
            database.connection.execute(
                f'SELECT count(*), max(rowid), bit_xor(hash(rowid, image)) FROM "{name}"'
            ).fetchall()
    database.connection.execute(plain).fetchall()


def _predicted(found: str) -> str:
    start, name = ("FROM ", found[5:]) if found.startswith("FROM") else ("", found.strip('"'))
    return f'{start}"{name} predicted"'


_OPENING = """
import json, resource, sys, time
import rainpp.index.artifact
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, used = time.perf_counter(), time.process_time()
index = rainpp.load(sys.argv[1], verify=json.loads(sys.argv[2]))
index.interventions
print(json.dumps([time.perf_counter() - began, time.process_time() - used,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def opening() -> list[dict[str, Any]]:
    """Opening an index of a million rows and ten interventions each, in a process of its own."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.rain"
        _write_large(path)
        for verify in (False, "on use", True):
            command = [sys.executable, "-c", _OPENING, str(path), json.dumps(verify)]
            times = [
                json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
                for _ in range(5)
            ]
            wall, cpu, grown = (statistics.median(column) for column in zip(*times, strict=True))
            runs.append(
                {
                    "rows": OPENED_ROWS,
                    "verify": verify,
                    "ms": round(wall * 1e3, 2),
                    "cpu_ms": round(cpu * 1e3, 2),
                    "grown_mb": round(grown / 1024, 1),
                }
            )
            print(runs[-1], flush=True)
    return runs


def _write_large(path: Path) -> None:
    """Numbers without meaning in the arrays of an index."""
    size = OPENED_ROWS
    arrays = {
        "projections": np.ones((10 * size, K), np.float32),
        "plausibility": np.ones(10 * size, np.float32),
        "eigenvalues": np.ones(K),
        "eigenvectors": np.ones((K, 7850), np.float32),
        "labels": np.zeros(size, np.int32),
        "train_ids": np.arange(size),
        "losses": np.ones(size, np.float32),
    }
    manifest = {
        "num_train": size,
        "num_classes": 10,
        "num_params": 7850,
        "interventions": ["delete", "relabel"],
        "data_fingerprint": hashlib.sha256(b"none").hexdigest(),
        "model_fingerprint": hashlib.sha256(b"none").hexdigest(),
        "inference": {},
    }
    store.write(path, manifest, arrays)


def _seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - used


def _load() -> float:
    """Processes that want a core, for each core: 1 or less on a quiet machine."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 1)


if __name__ == "__main__":
    main()
