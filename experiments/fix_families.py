"""Which kind of change resolves a complaint: salt and pepper, deletion against repairs (Fig. 15).

MNIST, logistic regression; a share of the images of 1s has salt and pepper on 30 % of its pixels.
The complaint: too few predicted 1s (Q3). AUC_R of every family's own scores, and what the best rows
of each family are predicted to do together (`ranking.families`), without being told which is right.

    python -m experiments.fix_families [--rates 0.7 0.8 0.9 1.0] [--seeds 0 1 2] [--rows 10000]
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np

import rainpp
from experiments import data, mnist_flips, models, results, train
from rainpp.intervention import images

PIXELS, SHAPE = 0.3, (28, 28)
KINDS = [
    rainpp.Delete(),
    rainpp.Relabel(),
    images.median_filter(shape=SHAPE),
    images.gaussian_filter(sigma=1.0, shape=SHAPE),
    images.unsharp_mask(shape=SHAPE),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.7, 0.8, 0.9, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=10_000)
    asked = parser.parse_args()
    runs = [
        run
        for rate in asked.rates
        for seed in asked.seeds
        for run in measure(asked.rows, rate, seed)
    ]
    settings = {"rows": asked.rows, "seeds": asked.seeds, "pixels": PIXELS, "l2": train.L2}
    command = "python -m experiments.fix_families"
    print(results.save("fix_families", command=command, settings=settings, runs=runs))


def measure(rows: int, rate: float, seed: int) -> list[dict[str, Any]]:
    """A record for every family."""
    digits = data.mnist()
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(60_000)[:rows])
    inputs, labels = digits.train_inputs[chosen].copy(), digits.train_labels[chosen]
    ones = np.flatnonzero(labels == 1)
    noisy = np.sort(generator.choice(ones, round(rate * ones.size), replace=False))
    inputs[noisy] = salt_and_pepper(inputs[noisy], generator)
    corrupted = np.isin(np.arange(rows), noisy)
    network = models.softmax_regression()
    start = network.init(jax.random.key(0))
    params, _ = train.fit_convex(network.apply, start, inputs, labels)
    model = rainpp.Model(network.apply, params, l2=train.L2)
    index = rainpp.precompute(model, inputs, labels, interventions=KINDS)
    database = mnist_flips.open_database(digits, model, index)
    answer = database.sql(mnist_flips.QUERIES["Q3"])
    ranking = answer.complain("n", should="increase").rank()
    compared = ranking.families(noisy.size).to_dict(orient="records")
    places = {str(row["family"]): (n, row) for n, row in enumerate(compared, start=1)}
    table = ranking.interventions
    records: list[dict[str, Any]] = []
    for kind in table.kinds:
        scores = ranking.scores[table.of(kind)].reshape(rows, -1).max(axis=1)
        records.append(
            {
                "rate": rate,
                "seed": seed,
                "family": kind,
                "auc_r": round(rainpp.metrics.auc_r(scores, corrupted), 4),
                "together": round(float(places[kind][1]["together"]), 2),
                "place": places[kind][0],
                "count": ranking.complaints[0].hard,
                "corrupted": int(noisy.size),
            }
        )
        print(records[-1], flush=True)
    return records


def salt_and_pepper(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Images with a share of their pixels black or white."""
    found = pixels.copy()
    where = generator.random(pixels.shape) < PIXELS
    found[where] = generator.integers(0, 2, int(where.sum())).astype(pixels.dtype)
    return found


if __name__ == "__main__":
    main()
