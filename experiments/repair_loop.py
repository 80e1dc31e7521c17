"""The repair loop on planted label errors: what it touches, and what becomes of every class.

MNIST, logistic regression, 30 % of the 1s labelled 7. The complaint: the count of predicted 1s
should be that of a model trained on the clean labels. The loop fixes, trains again and asks again;
then the counts of all classes are compared with the clean model's.

    python -m experiments.repair_loop [--rows 10000] [--seeds 0 1 2] [--kinds relabels all]

*Corrected*: new labels are as plausible as `rainpp.label_probabilities` says without training.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np

import rainpp
from experiments import data, mnist_flips, models, results, train
from experiments.corrupt import flip_classes

KINDS: dict[str, list[str] | None] = {
    "relabels": ["relabel"],
    "relabels, corrected": ["relabel"],
    "all": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for name in arguments.kinds:
            runs.append(measure(arguments.rows, seed, name, KINDS[name]))
            print(runs[-1], flush=True)
    settings = {"rows": arguments.rows, "seeds": arguments.seeds, "rate": 0.3, "l2": train.L2}
    command = "python -m experiments.repair_loop"
    print(results.save("repair_loop", command=command, settings=settings, runs=runs))


def measure(rows: int, seed: int, name: str, kinds: list[str] | None) -> dict[str, Any]:
    """One loop, with the counts of every class before and after."""
    digits = data.mnist()
    chosen = np.sort(np.random.default_rng(seed).permutation(60_000)[:rows])
    inputs, clean = digits.train_inputs[chosen], digits.train_labels[chosen]
    planted = flip_classes(clean, [(1, 7)], rate=0.3, seed=seed)
    network = models.softmax_regression()

    def fit(inputs: Any, labels: Any, start: Any = None) -> Any:
        first = network.init(jax.random.key(0)) if start is None else start
        return train.fit_convex(network.apply, first, inputs, labels)[0]

    params = fit(inputs, planted.labels)
    model = rainpp.Model(network.apply, params, l2=train.L2)
    wanted = counts(model.with_params(fit(inputs, clean)), digits)
    chances = None
    if name == "relabels, corrected":
        chances = rainpp.label_probabilities(model, inputs, planted.labels)
    index = rainpp.precompute(
        model, inputs, planted.labels, interventions=[rainpp.Delete(), rainpp.Relabel(chances)]
    )
    database = mnist_flips.open_database(digits, model, index)
    answer = database.sql(mnist_flips.QUERIES["Q3"])
    ranking = answer.complain("n", should="equal", target=float(wanted[1])).rank()
    began = time.perf_counter()
    loop = rainpp.repair_loop(
        ranking, fit=lambda x, y: fit(x, y, params), kinds=kinds, most=2 * rows
    )
    seconds = time.perf_counter() - began
    after = counts(loop.model, digits)
    touched = np.isin(np.arange(rows), loop.patch.frame["id"].to_numpy())
    return {
        "kinds": name,
        "seed": seed,
        "planted": planted.count,
        "touched": loop.touched,
        "touched_over_planted": round(loop.touched / planted.count, 3),
        "right": round(float(planted.corrupted[touched].mean()), 3),
        "count_before": loop.before,
        "count_after": loop.rounds[-1].value,
        "count_clean": int(wanted[1]),
        "largest_error_of_a_class": round(float(np.abs(after / wanted - 1).max()), 4),
        "largest_error_before": round(float(np.abs(counts(model, digits) / wanted - 1).max()), 4),
        "resolved": loop.resolved,
        "rounds": [
            {name: getattr(each, name) for name in ("changed", "predicted", "value", "relaxed")}
            for each in loop.rounds
        ],
        "seconds": round(seconds, 1),
    }


def counts(model: rainpp.Model, digits: data.Dataset) -> np.ndarray:
    """Predicted test images of each class."""
    return np.bincount(model.probabilities(digits.test_inputs).argmax(axis=1), minlength=10)


if __name__ == "__main__":
    main()
