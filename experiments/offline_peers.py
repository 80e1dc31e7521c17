"""The whole way to a first complaint beside a general attribution library, on the same weights.

    python -m experiments.offline_peers --peers PYTHON [--models logistic mlp] [--quick]

PYTHON is the interpreter of an environment made from `experiments/peers/requirements.txt`. MNIST
with 30 % of the 1s labelled 7; the complaint: the count of predicted 1s is too low. Both sides get
the same weights and 2 threads, in one run, one after the other.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import rainpp
from experiments import data, results, train
from experiments.corrupt import Corruption, flip_classes
from experiments.mnist_flips import QUERIES, SHOULD, Case, fit, open_database

SCRIPT = Path(__file__).parent / "peers" / "dattri_scores.py"
ROWS = {"logistic": 60_000, "mlp": 20_000}
# How each peer is called. `batch` is as large as memory allows (n x d gradients of 4 bytes): the
# library takes the gradient of the complaint and solves for it again in every batch.
CALLS = {
    "logistic": [
        ("arnoldi", {"proj_dim": 20, "batch": 60_000}),
        ("cg", {"max_iter": 10, "regularization": 1e-2, "batch": 60_000}),
    ],
    "mlp": [
        ("arnoldi", {"proj_dim": 20, "batch": 2_000}),
        ("cg", {"max_iter": 10, "regularization": 1e-2, "batch": 2_000}),
    ],
}


def main() -> None:
    arguments = _arguments()
    runs: list[dict[str, Any]] = []
    for name in arguments.models:
        case = Case(name, rate=0.3, seed=0, rows=2000 if arguments.quick else ROWS[name])
        runs += run_case(case, arguments.peers)
    settings = {"rate": 0.3, "seeds": [0], "threads": 2, "quick": arguments.quick}
    command = "python -m experiments.offline_peers --peers PYTHON"
    if not arguments.quick:
        print(results.save("offline_peers", command=command, settings=settings, runs=runs))


def run_case(case: Case, python: Path) -> list[dict[str, Any]]:
    """rainpp and every peer on one trained model."""
    digits = data.mnist()
    rows = np.sort(np.random.default_rng(case.seed).permutation(60_000)[: case.rows])
    inputs = digits.train_inputs[rows]
    planted = flip_classes(digits.train_labels[rows], [(1, 7)], rate=case.rate, seed=case.seed)
    model, _ = fit(case, inputs, planted.labels)
    about = {"model": case.name, "rows": case.rows, "parameters": model.num_params}
    with tempfile.TemporaryDirectory() as folder:
        runs = [about | own_run(Path(folder), digits, model, inputs, planted)]
        np.savez(Path(folder) / "case.npz", **_case(model, digits, inputs, planted))
        for method, settings in CALLS[case.name]:
            found = peer_run(Path(folder), python, (method, settings), planted)
            runs.append(about | found | _against(runs[0], found))
            print(runs[-1], flush=True)
    return runs


def own_run(
    folder: Path, digits: data.Dataset, model: rainpp.Model, inputs: Any, planted: Corruption
) -> dict[str, Any]:
    """Index, query, complaint and ranking, from nothing to the first ranking."""
    began = time.perf_counter()
    index = rainpp.precompute(model, inputs, planted.labels, path=folder / "mnist.rain")
    built = time.perf_counter()
    database = open_database(digits, model, index)
    opened = time.perf_counter()
    result = database.sql(QUERIES["Q3"])
    ranking = result.complain("n", should=SHOULD["Q3"]).rank()
    ended = time.perf_counter()
    again = time.perf_counter()
    result.complain("n", should=SHOULD["Q3"]).rank().top(100)
    second = time.perf_counter() - again
    deletions = ranking.scores[: ranking.interventions.num_rows]
    found = {
        "library": f"rainpp {rainpp.__version__}",
        "method": f"index, k = {index.k}",
        "offline_seconds": round(opened - began, 2),
        "index_seconds": round(built - began, 2),
        "first_complaint_seconds": round(ended - opened, 4),
        "second_complaint_seconds": round(second, 5),
        "auc_r": round(rainpp.metrics.auc_r(deletions, planted.corrupted), 4),
    }
    print(found, flush=True)
    return found


def peer_run(
    folder: Path, python: Path, call: tuple[str, dict[str, Any]], planted: Corruption
) -> dict[str, Any]:
    """One method of the peer in its own process."""
    method, settings = call
    out = folder / f"{method}.npz"
    pairs = [f"{name}={value}" for name, value in settings.items()]
    command = [str(python), str(SCRIPT), str(folder / "case.npz"), str(out), method, *pairs]
    subprocess.run(command, check=True)
    with np.load(out) as archive:
        scores, versions = archive["scores"], archive["versions"]
        times = {name: float(archive[f"{name}_seconds"]) for name in ("cache", "attribute")}
    return {
        "library": ", ".join(versions.tolist()),
        "method": f"{method} {' '.join(pairs)}",
        "offline_seconds": round(times["cache"], 2),
        "first_complaint_seconds": round(times["attribute"], 2),
        # The library's sign convention is not ours: the better of the two is counted.
        "auc_r": round(
            max(rainpp.metrics.auc_r(sign * scores, planted.corrupted) for sign in (1, -1)), 4
        ),
    }


def _against(own: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    first = own["offline_seconds"] + own["first_complaint_seconds"]
    return {
        "times_offline_and_first": round(
            (peer["offline_seconds"] + peer["first_complaint_seconds"]) / first, 1
        ),
        "times_online": round(peer["first_complaint_seconds"] / own["second_complaint_seconds"], 0),
    }


def _case(
    model: rainpp.Model, digits: data.Dataset, inputs: Any, planted: Corruption
) -> dict[str, Any]:
    params = {name: np.asarray(leaf) for name, leaf in dict(model.params).items()}
    if "weights" in params:
        params = {f"{name}0": leaf for name, leaf in params.items()}
    return params | {
        "inputs": inputs,
        "labels": planted.labels,
        "asked": digits.test_inputs,
        "counted": 1,
        "l2": train.L2,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="Interpreter with the peers.")
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp"])
    parser.add_argument("--quick", action="store_true", help="2 000 rows; nothing is saved.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
