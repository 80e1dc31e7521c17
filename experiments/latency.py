"""How long a complaint takes: from `complain(...)` to the frame of the top 100 a user holds.

MNIST logistic regression, 60 000 training rows, 10 000 materialised inferences of 10 classes: once
with 60 000 deletions, once with 600 000 interventions (a deletion and nine relabels per row). Also
the time to build the index. Run it on a quiet machine.

    python -m experiments.latency [--repeats 1000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import rainpp
from experiments import data, results, train
from experiments.corrupt import flip_classes
from experiments.mnist_flips import QUERIES, Case, fit, open_database, time_complaint

KINDS = {"deletions": [rainpp.Delete()], "all": [rainpp.Delete(), rainpp.Relabel()]}
K = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    digits = data.mnist()
    planted = flip_classes(digits.train_labels, [(1, 7)], rate=0.3, seed=0)
    model, _ = fit(Case("logistic", 0.3, 0, 60_000), digits.train_inputs, planted.labels)
    runs: list[dict[str, Any]] = []
    for name, kinds in KINDS.items():
        for k in ("auto", K):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                index = rainpp.precompute(
                    model,
                    digits.train_inputs,
                    planted.labels,
                    k=k,
                    interventions=kinds,
                    path=Path(folder) / "mnist.rain",
                )
                built = time.perf_counter() - began
                opened = rainpp.load(Path(folder) / "mnist.rain")
                runs += measure(
                    open_database(digits, model, opened),
                    repeats,
                    {
                        "interventions": len(index.interventions),
                        "kinds": name,
                        "k": index.k,
                        "index_seconds": round(built, 2),
                    },
                )
    settings = {"repeats": repeats, "l2": train.L2}
    command = "python -m experiments.latency"
    print(results.save("latency", command=command, settings=settings, runs=runs))


def measure(database: rainpp.Database, repeats: int, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Cold and warm times of both queries' complaints."""
    runs: list[dict[str, Any]] = []
    for query, sql in QUERIES.items():
        began = time.perf_counter()
        result = database.sql(sql)
        answered = time.perf_counter() - began
        cold = time_complaint(result, query)
        seconds = [time_complaint(result, query) for _ in range(repeats)]
        record = about | {
            "query": query,
            "sql_ms": round(answered * 1e3, 2),
            "cold_ms": round(cold * 1e3, 2),
        }
        runs.append(record | results.milliseconds(seconds))
        print(runs[-1], flush=True)
    return runs


if __name__ == "__main__":
    main()
