"""How plausible a new label is: by the model itself, or by models that have not seen the row.

MNIST, 30 % of a class labelled as another. Of the first N rows of a ranking, N being how many were
planted, how many are planted, and whether the best new label of those is the right one; log loss of
the true labels under either plausibility.

    python -m experiments.plausibility [--models logistic mlp] [--seeds 0 1 2] [--rows 10000]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import rainpp
from experiments import data, mnist_flips, results
from experiments.cases import fit_digits
from experiments.corrupt import Corruption, flip_classes

FLIPS = ((3, 8), (1, 7))
QUERY = "SELECT count(*) AS n FROM digits WHERE predict(image) = {}"
# The kinds of interventions of each ranking, and whose probabilities they have.
RANKINGS = {
    "delete": (("delete",), "model"),
    "all, model's": (("delete", "relabel"), "model"),
    "all, unseen": (("delete", "relabel"), "unseen"),
    "relabels, model's": (("relabel",), "model"),
    "relabels, unseen": (("relabel",), "unseen"),
    "all, corrected": (("delete", "relabel"), "corrected"),
    "relabels, corrected": (("relabel",), "corrected"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=10_000)
    asked = parser.parse_args()
    runs = [
        run
        for name in asked.models
        for flip in FLIPS
        for seed in asked.seeds
        for run in measure(name, flip, seed, asked.rows)
    ]
    settings = {"rows": asked.rows, "seeds": asked.seeds, "rate": 0.3}
    command = "python -m experiments.plausibility"
    print(results.save("plausibility", command=command, settings=settings, runs=runs))


def measure(name: str, flip: tuple[int, int], seed: int, rows: int) -> list[dict[str, Any]]:
    """A record for every ranking of one case."""
    digits = data.mnist()
    chosen = np.sort(np.random.default_rng(seed).permutation(60_000)[:rows])
    inputs, clean = digits.train_inputs[chosen], digits.train_labels[chosen]
    planted = flip_classes(clean, [flip], rate=0.3, seed=seed)
    model = fit_digits(name, inputs, planted.labels, seed=seed)
    unseen = rainpp.label_probabilities(
        model, inputs, planted.labels, fit=lambda x, y: fit_digits(name, x, y, seed=seed)
    )
    probabilities = {
        "model": np.asarray(model.probabilities(inputs)),
        "unseen": unseen,
        "corrected": rainpp.label_probabilities(model, inputs, planted.labels),
    }
    found: list[dict[str, Any]] = []
    rankings = {
        whose: _ranking(digits, model, inputs, planted.labels, given, flip[0])
        for whose, given in probabilities.items()
    }
    for label, (kinds, whose) in RANKINGS.items():
        chances = probabilities[whose][np.arange(rows), clean]
        found.append(
            {"model": name, "flip": list(flip), "seed": seed, "ranking": label}
            | _quality(rankings[whose], kinds, planted, clean)
            | {"log_loss": round(float(-np.log(np.maximum(chances, 1e-9)).mean()), 4)}
        )
    print(*found, sep="\n", flush=True)
    return found


def _ranking(
    digits: data.Dataset,
    model: rainpp.Model,
    inputs: np.ndarray,
    labels: np.ndarray,
    given: np.ndarray | None,
    digit: int,
) -> rainpp.Ranking:
    kinds = [rainpp.Delete(), rainpp.Relabel(given)]
    index = rainpp.precompute(model, inputs, labels, interventions=kinds)
    database = mnist_flips.open_database(digits, model, index)
    return database.sql(QUERY.format(digit)).complain("n", should="increase").rank()


def _quality(
    ranking: rainpp.Ranking, kinds: tuple[str, ...], planted: Corruption, clean: np.ndarray
) -> dict[str, Any]:
    table, scores = ranking.interventions, np.full(len(ranking), -np.inf)
    for kind in kinds:
        scores[table.of(kind)] = ranking.scores[table.of(kind)]
    by_row = table.best_by_row(scores)
    first = np.argsort(-by_row, kind="stable")[: planted.count]
    hits = first[planted.corrupted[first]]
    # The best relabel of each row, whatever kind of change came first.
    relabels = ranking.scores[table.of("relabel")].reshape(len(clean), -1)
    best = np.arange(table.of("relabel").start, table.of("relabel").stop).reshape(len(clean), -1)
    new = table.new_labels(best[np.arange(len(clean)), relabels.argmax(axis=1)])
    return {
        "planted": planted.count,
        "precision": round(float(planted.corrupted[first].mean()), 4),
        "right_label": round(float((new[hits] == clean[hits]).mean()), 4),
        "auc_r": round(rainpp.metrics.auc_r(by_row, planted.corrupted), 4),
    }


if __name__ == "__main__":
    main()
