"""Indexes from bfloat16 matrix products beside those from float32: errors, rankings, seconds.

    python -m experiments.offline matmul [--rows 20000]

On a CPU bfloat16 gains nothing; what is measured here is what it does to the numbers.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from scipy.stats import rankdata

import rainpp
from experiments import results
from experiments.cases import Case, adult_case, mnist_case
from rainpp.errors import NotAtOptimumWarning
from rainpp.metrics import auc_r

MATMULS = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    warnings.simplefilter("ignore", NotAtOptimumWarning)
    cases = (
        mnist_case("logistic", 0.3, rows=rows),
        mnist_case("mlp", 0.3, rows=rows),
        adult_case(0.5),
    )
    runs = [run for case in cases for run in compared(case)]
    command = "python -m experiments.offline matmul"
    print(results.save("offline_matmul", command=command, settings={"rows": rows}, runs=runs))


def compared(case: Case) -> list[dict[str, Any]]:
    """A run for every query and kind of product."""
    found = {matmul: _measured(case, matmul) for matmul in MATMULS}
    exact = found["float32"][1]
    runs: list[dict[str, Any]] = []
    for about, scores in found.values():
        for query, values in scores.items():
            rank = float(np.corrcoef(rankdata(values), rankdata(exact[query]))[0, 1])
            run = {
                "case": case.name,
                "query": query,
                **about,
                "auc_r": round(auc_r(values, case.corrupted), 4),
                "spearman": round(rank, 5),
            }
            print(run, flush=True)
            runs.append(run)
    return runs


def _measured(case: Case, matmul: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """About an index with k chosen, and the effect of deleting each row by query."""
    training = case.training
    began = time.perf_counter()
    index = rainpp.precompute(case.model, training.inputs, training.labels, matmul=matmul)
    seconds = time.perf_counter() - began
    checks = {check["name"]: check for check in index.manifest["self_checks"]}
    about = {
        "matmul": matmul,
        "parameters": case.model.num_params,
        "k": index.k,
        "product_error": float(f"{checks['float64']['value']:.2g}"),
        "residual": float(f"{checks['eigenpair residuals']['value']:.2g}"),
        "failed": [name for name, check in checks.items() if not check["passed"]],
        "seconds": round(seconds, 1),
    }
    scores = {
        query: index.rank(index.eigenvectors @ np.asarray(gradient)).scores[: training.num_rows]
        for query, gradient in case.gradients().items()
    }
    return about, scores


if __name__ == "__main__":
    main()
