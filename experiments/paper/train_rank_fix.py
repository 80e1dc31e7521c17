"""Rain's own loop: train, rank, delete the first rows, train again (Wu et al. 2020).

MNIST, 1s labelled 7; the complaint is that too few 1s are counted. In every round the best ranked
rows are deleted until as many have gone as there are errors. AUC_R is that of the order in which
rows went. The one-shot ranking of the first round stands beside it.

    python -m experiments.paper.train_rank_fix [--size small|full] [--networks cnn] [--seeds 1 2]

At size small one seed of the logistic regression is run; the rest takes longer, and is run when it
is named.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rainpp
from experiments import commands, results
from experiments.cases import count_of
from experiments.paper import sweep
from experiments.paper.cells import SIZES, Cell, Size
from experiments.paper.kept import keep_programs
from experiments.paper.networks import trainee
from experiments.paper.tasks import SPOILT, Task, task
from rainpp.metrics import auc_r
from rainpp.training_set import TrainingSet

# More eigenpairs than the library keeps of these networks, 8 or 9 (Fig. 5).
_MOST = 20
RATES = (0.1, 0.3, 0.5, 0.7)
# What Rain reports at these rates.
RAIN_2020 = {"logistic": (0.93, 0.97, 0.97, 0.95), "cnn": (0.84, 0.90, 0.83, 0.67)}


@dataclass(frozen=True)
class Plan:
    """What is run unless something else is named, and in how many rounds the errors go."""

    networks: tuple[str, ...]
    seeds: tuple[int, ...]
    rounds: dict[str, int]


_PLANS: dict[Size, Plan] = {
    "small": Plan(("logistic",), (0,), {"logistic": 5, "cnn": 5}),
    "full": Plan(("logistic", "cnn"), (0, 1, 2), {"logistic": 50, "cnn": 50}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--networks", nargs="+", choices=tuple(RAIN_2020))
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    parser.add_argument("--seeds", nargs="+", type=_seed)
    asked = parser.parse_args()
    size: Size = asked.size
    results.check_place()
    plan = _PLANS[size]
    for network, rate, seed in itertools.product(
        asked.networks or plan.networks, RATES, asked.seeds or plan.seeds
    ):
        cell = Cell("mnist", network, "flip", rate, seed, size)
        if not asked.again and cell.name in results.known(_name(size), "cell"):
            print(f"{cell.name}: saved before", flush=True)
            continue
        record = measure(cell, plan.rounds[network])
        print(record, flush=True)
        with results.joined(_name(size), record, by="cell") as runs:
            _save(size, runs)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _name(size: Size) -> str:
    return f"paper_train_rank_fix_{size}"


def _save(size: Size, runs: list[dict[str, Any]]) -> None:
    command = f"python -m experiments.paper.train_rank_fix --size {size}"
    seeds = sorted({run["seed"] for run in runs})
    settings = {"rates": RATES, "rounds": _PLANS[size].rounds, "seeds": seeds}
    results.save(_name(size), command=command, settings=settings, runs=runs)


def measure(cell: Cell, rounds: int) -> dict[str, Any]:
    """One loop."""
    began, made = time.perf_counter(), task(cell)
    inputs, labels = made.training.inputs, made.training.labels
    errors = int(made.corrupted.sum())
    model, rows, gone = made.model, np.arange(len(labels)), list[int]()
    counts, once = [_count(made, model)], float("nan")
    for number in range(rounds):
        scores = _scores(made, model, inputs[rows], labels[rows])
        if not number:
            once = float(auc_r(scores, made.corrupted))
        size = (errors * (number + 1)) // rounds - len(gone)
        first = np.argsort(-scores, kind="stable")[:size]
        gone += rows[first].tolist()
        rows = np.delete(rows, first)
        model = trainee(cell, made.pool.width).again(model, inputs[rows], labels[rows])
        counts.append(_count(made, model))
    order = np.zeros(len(labels))
    order[gone] = np.arange(len(gone), 0, -1)
    return {
        "cell": cell.name,
        "network": cell.network,
        "rate": cell.rate,
        "seed": cell.seed,
        "train_rows": len(labels),
        "errors": errors,
        "rounds": rounds,
        "auc_r": round(float(auc_r(order, made.corrupted)), 4),
        "auc_r_once": round(once, 4),
        "found": round(float(made.corrupted[gone].mean()), 4),
        "counts": counts,
        "count_clean": _count(made, made.clean),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _scores(made: Task, model: rainpp.Model, inputs: Any, labels: Any) -> NDArray[np.float64]:
    """Of deleting each row (n,), by the eigenpairs of the present model that the library keeps."""
    now = replace(made, model=model, training=TrainingSet.checked(model, inputs, labels))
    far = replace(sweep.effort(made.cell), most=_MOST)
    pairs = sweep.pairs_of(now, sweep.curvature_of(now, far), far)
    kept = min(sweep.chosen_k(now, pairs), len(pairs.values))
    vectors = pairs.vectors[:kept]
    gradient = sweep.gradient_of(now, count_of(SPOILT, (len(made.pool.truth), 10)))
    along = vectors.astype(np.float64) @ gradient / pairs.values[:kept]
    return sweep.projected(now, now.training, vectors) @ along


def _count(made: Task, model: rainpp.Model) -> int:
    found = model.probabilities(made.pool.inference, batch_size=2 * made.batch)
    return int((found.argmax(axis=1) == SPOILT).sum())


if __name__ == "__main__":
    keep_programs()
    commands.run(main)
