"""Twenty different complaints on the same weights: rainpp, attribution libraries and cleanlab.

    python -m experiments.twenty_complaints --peers PYTHON [--models ...] [--seeds ...]

PYTHON is the interpreter of an environment made from `experiments/peers/requirements.txt`. MNIST,
30 % of the 1s labelled 7. The first complaint, which quality is measured on: the count of predicted
1s is too low; the others: counts of the other digits, then of two digits. All sides get the same
rows, weights and 2 threads, each in a fresh process of its own, one after the other; imports and
reading the rows are off the clock, compiling is on it. Seeds but 0 ask the first complaint alone.

cleanlab knows of no complaint. It takes the model's own probabilities of its training rows, which
are off the clock, or, as it asks for, those of five models trained without a fifth of the rows.
Processor times stand beside wall times, as a machine that does other work stretches the second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rainpp
from experiments import data, results, train
from experiments.corrupt import Corruption, flip_classes
from experiments.mnist_flips import Case, fit
from experiments.offline_peers import THREADS, PeerCall, peer_run

ROWS = {"logistic": 10_000, "mlp": 2_000}
RATE, FOLDS = 0.3, 5
# In 240 s on a machine that gave a quarter of a core dattri did not answer for the network.
LIMIT_SECONDS = 420
# Ten digits and ten pairs of digits; a single one stands there twice.
COMPLAINTS = (
    *((digit, digit) for digit in (1, 7, 0, 2, 3, 4, 5, 6, 8, 9)),
    *((digit, (digit + step) % 10) for step in (1, 2) for digit in range(0, 10, 2)),
)

Run = dict[str, Any]


def calls(rows: int) -> list[PeerCall]:
    """rainpp and the peers, with the settings that `experiments.offline_peers` arrived at.

    dattri's batches are as large as memory allows, as it repeats a complaint's solve for every one.
    """
    return [
        PeerCall("rainpp", "index", {}),
        PeerCall("cleanlab", "self_confidence", {"source": "in_sample"}),
        PeerCall("cleanlab", "self_confidence", {"source": "held_out"}),
        PeerCall("cleanlab", "find_label_issues", {"source": "held_out"}),
        PeerCall("kronfluence", "ekfac", {"damping": train.L2, "batch": 1000}),
        PeerCall("dattri", "arnoldi", {"proj_dim": 20, "batch": min(rows, 10_000)}),
    ]


def main() -> None:
    asked = _arguments()
    settings: dict[str, Any] = {
        "rate": RATE, "threads": THREADS, "limit_seconds": LIMIT_SECONDS, "folds": FOLDS,
        "complaints": len(COMPLAINTS), "l2": train.L2,
    }  # fmt: skip
    for name in asked.models:
        for seed in asked.seeds:
            case = Case(name, RATE, seed, ROWS[name])
            chosen = [call for call in calls(case.rows) if call.library in asked.libraries]
            runs = _kept(name, seed, asked.libraries)
            for run in run_case(case, asked.peers, chosen):
                print(run, flush=True)
                runs.append(run)
            settings["seeds"] = sorted({run["seed"] for run in runs})
            command = "python -m experiments.twenty_complaints --peers PYTHON"
            results.save("twenty_complaints", command=command, settings=settings, runs=runs)


def _kept(model: str, seed: int, libraries: list[str]) -> list[Run]:
    """What earlier calls found about other models, seeds and libraries."""
    runs = results.runs("twenty_complaints")
    same = (model, seed)
    return [r for r in runs if (r["model"], r["seed"]) != same or r["library"] not in libraries]


def run_case(case: Case, peers: Path, chosen: list[PeerCall]) -> Iterator[Run]:
    """Libraries on one trained model; seed 0 asks all complaints."""
    timed = case.seed == 0
    digits = data.mnist()
    rows = np.sort(np.random.default_rng(case.seed).permutation(60_000)[: case.rows])
    inputs = digits.train_inputs[rows]
    planted = flip_classes(digits.train_labels[rows], [(1, 7)], rate=case.rate, seed=case.seed)
    model, _ = fit(case, inputs, planted.labels)
    needed = any(call.settings.get("source") == "held_out" for call in chosen)
    held_out, spent = out_of_fold(case, inputs, planted) if needed else (np.empty(0), {})
    about = {"model": case.name, "seed": case.seed, "rows": case.rows}
    about |= {"parameters": model.num_params, "corrupted": planted.count}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        arrays: dict[str, Any] = {
            "inputs": inputs,
            "labels": planted.labels,
            "asked": digits.test_inputs,
            "counted": np.array(COMPLAINTS if timed else COMPLAINTS[:1]),
            "l2": train.L2,
            "in_sample": model.probabilities(inputs),
            "held_out": held_out,
        }
        arrays |= layers(model)
        np.savez(path, **arrays)
        for call in chosen:
            python = Path(sys.executable) if call.library == "rainpp" else peers
            found = peer_run(path, python, call, limit=LIMIT_SECONDS)
            if call.settings.get("source") == "held_out" and "first_seconds" in found:
                for name, value in spent.items():
                    found[name] = round(found[name] + value, 2)
            yield about | {"timed": timed} | judged(found, planted)


def out_of_fold(
    case: Case, inputs: np.ndarray, planted: Corruption
) -> tuple[np.ndarray, dict[str, float]]:
    """Probabilities (n, R) of each row by a model trained without its fold, and the time."""
    began, cpu = time.perf_counter(), time.process_time()
    fold = np.random.default_rng(case.seed).permutation(len(inputs)) % FOLDS
    found = np.empty((len(inputs), 10))
    for number in range(FOLDS):
        out = fold == number
        model, _ = fit(case, inputs[~out], planted.labels[~out])
        found[out] = model.probabilities(inputs[out])
    return found, {
        "offline_seconds": time.perf_counter() - began,
        "offline_processor": time.process_time() - cpu,
    }


def layers(model: rainpp.Model) -> dict[str, np.ndarray]:
    """Weights and biases with the number of their layer."""
    params = {name: np.asarray(leaf) for name, leaf in dict(model.params).items()}
    return {f"{name}0" if name in ("weights", "bias") else name: params[name] for name in params}


def judged(found: Run, planted: Corruption) -> Run:
    """A run with AUC_R in the place of its scores.

    The attribution libraries' signs differ: of theirs the better counts. rainpp's and cleanlab's
    say what is first.
    """
    record = {name: value for name, value in found.items() if name != "scores"}
    if "scores" in found:
        signs = (1,) if found["library"] in ("rainpp", "cleanlab") else (1, -1)
        auc = [rainpp.metrics.auc_r(sign * found["scores"], planted.corrupted) for sign in signs]
        record["auc_r"] = round(max(auc), 4)
    return record


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="Interpreter with the peers.")
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp"])
    everything = ["rainpp", "cleanlab", "kronfluence", "dattri"]
    parser.add_argument("--libraries", nargs="+", default=everything)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
