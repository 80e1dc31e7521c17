"""The vaguest complaint of ADULT, sharpened: Q7, that too many people are predicted to earn much.

The errors are among private-sector men (`experiments.adult`). AUC_R of Q7 alone; with cells held
that somebody knows to be right, the shares among women and outside the private sector; of two
complaints about whole groups together; and with the rows of a predicate of `ranking.explain` first.

    python -m experiments.adult_vague [--seeds 0 1 2 3 4] [--rate 0.5]
"""

from __future__ import annotations

import argparse
from typing import Any

import duckdb
import numpy as np

import rainpp
from experiments import adult, data, results
from experiments.corrupt import flip_private_men
from experiments.explain_adult import HIDDEN

HELD = {
    "women": "SELECT avg(predict(*)) AS share FROM people WHERE gender = 'Female'",
    "not private": "SELECT avg(predict(*)) AS share FROM people WHERE workclass <> 'Private'",
}
# Predicates of `explain` that are tried, by place.
PREDICATES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rate", type=float, default=0.5)
    asked = parser.parse_args()
    runs = [run for seed in asked.seeds for run in measure(seed, asked.rate)]
    settings = {"seeds": asked.seeds, "rate": asked.rate}
    command = "python -m experiments.adult_vague"
    print(results.save("adult_vague", command=command, settings=settings, runs=runs))


def measure(seed: int, rate: float) -> list[dict[str, Any]]:
    """AUC_R of every way to ask."""
    people = data.adult()
    planted = flip_private_men(people, rate=rate, seed=seed)
    model = adult.fit(people, planted)
    index = rainpp.precompute(model, people.train_inputs, planted.labels)
    database = adult.open_database(people, model, index)
    asked = {
        query: database.sql(sql).complain("share", should="decrease")
        for query, sql in adult.QUERIES.items()
    }
    held = {name: database.sql(sql).keep("share", row=0) for name, sql in HELD.items()}
    vague = asked["Q7"].rank()
    rankings = {
        "Q7": vague,
        **{f"Q7, {name} held": asked["Q7"].rank(keep=[cell]) for name, cell in held.items()},
        "Q7, both held": asked["Q7"].rank(keep=list(held.values())),
        "Q5 and Q6 together": database.rank([asked["Q5"], asked["Q6"]]),
        "Q4": asked["Q4"].rank(),
    }
    found = {name: _deletions(ranking) for name, ranking in rankings.items()}
    frame = people.train_frame.drop(columns=HIDDEN)
    inside = _predicates(vague, frame, planted.labels, planted.count)
    for place, rows in enumerate(inside, start=1):
        found[f"Q7, predicate {place} first"] = _first(found["Q7"], rows)
    auc = {name: rainpp.metrics.auc_r(each, planted.corrupted) for name, each in found.items()}
    runs = [{"seed": seed, "asked": name, "auc_r": round(each, 4)} for name, each in auc.items()]
    print(*runs, sep="\n", flush=True)
    return runs


def _deletions(ranking: rainpp.Ranking) -> np.ndarray:
    return ranking.scores[ranking.interventions.of("delete")]


def _predicates(
    ranking: rainpp.Ranking, frame: Any, labels: np.ndarray, top: int
) -> list[np.ndarray]:
    """Rows (n,) of the first predicates."""
    told = ranking.explain(frame, top=top, count=PREDICATES)["predicate"]
    connection = duckdb.connect()
    connection.register("rows", frame.assign(label=labels, place=np.arange(len(frame))))
    return [
        connection.execute(f"SELECT ({each}) AS holds FROM rows ORDER BY place")
        .df()["holds"]
        .to_numpy(bool)
        for each in told
    ]


def _first(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scores with `rows` above all others, each part in its order."""
    return np.where(rows, scores - scores.min() + 1, scores - scores.max())


if __name__ == "__main__":
    main()
