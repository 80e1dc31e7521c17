"""Complaints about one data set put together, to find what a vague one misses.

ADULT with 50 to 70 % of the low earners among private-sector men labelled high, as in
`experiments.adult`. Q4 to Q7 say that the share of predicted high earners is too high among
private-sector men, in the private sector, among men, and over everybody; the last two are vague.
AUC_R of deletions for each alone, and for pairs and all four in one ranking by `Database.rank`,
which scales every complaint by the norm of its projected gradient and adds them up. Beside them the
rows of largest loss.

    python -m experiments.adult_together [--rates 0.5 0.6 0.7] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import rainpp
from experiments import adult, data, results, train
from experiments.corrupt import flip_private_men

TOGETHER = (
    *((query,) for query in adult.QUERIES),
    ("Q4", "Q7"),
    ("Q6", "Q7"),
    ("Q5", "Q6"),
    tuple(adult.QUERIES),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=list(adult.RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    runs = [run for rate in asked.rates for seed in asked.seeds for run in measure(rate, seed)]
    settings = {"rates": asked.rates, "seeds": asked.seeds, "l2": train.L2}
    command = "python -m experiments.adult_together"
    print(results.save("adult_together", command=command, settings=settings, runs=runs))


def measure(rate: float, seed: int) -> Iterator[dict[str, Any]]:
    """AUC_R of every set of complaints on one corrupted training set, and of the loss alone."""
    people = data.adult()
    planted = flip_private_men(people, rate=rate, seed=seed)
    model = adult.fit(people, planted)
    index = rainpp.precompute(model, people.train_inputs, planted.labels)
    database = adult.open_database(people, model, index)
    complaints = {
        query: database.sql(sql).complain("share", should="decrease")
        for query, sql in adult.QUERIES.items()
    }
    about = {"rate": rate, "seed": seed, "k": index.k, "train_rows": len(planted.labels)}
    loss = rainpp.metrics.auc_r(index.arrays["losses"], planted.corrupted)
    yield about | {"asked": [], "auc_r": round(loss, 4)}
    for asked in TOGETHER:
        ranking = database.rank([complaints[query] for query in asked])
        deletions = ranking.scores[ranking.interventions.of("delete")]
        run = about | {
            "asked": list(asked),
            "auc_r": round(rainpp.metrics.auc_r(deletions, planted.corrupted), 4),
            "coverage": round(ranking.coverage, 4),
            "least_cosine": least_cosine(ranking),
        }
        print(run, flush=True)
        yield run


def least_cosine(ranking: rainpp.Ranking) -> float | None:
    """The smallest cosine between two of the complaints; None for one alone."""
    return None if ranking.cosines is None else round(float(np.min(ranking.cosines.to_numpy())), 4)


if __name__ == "__main__":
    main()
