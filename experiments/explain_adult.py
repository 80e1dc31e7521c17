"""Whether the planted predicate of ADULT is among the first that `ranking.explain` gives.

Low earners among private-sector men are labelled high; the complaints Q4 (the share of predicted
high earners among private-sector men) to Q7 (among everybody).

    python -m experiments.explain_adult [--seeds 0 1 2 3 4]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import rainpp
from experiments import adult, data, results
from experiments.corrupt import flip_private_men

PLANTED = {"workclass = 'Private'", "sex = 'Male'", "label = 1"}
# What the model's labels came from, and a weight of the census.
HIDDEN = ["income", "fnlwgt"]
COUNT = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rate", type=float, default=0.5)
    arguments = parser.parse_args()
    runs = [run for seed in arguments.seeds for run in measure(seed, arguments.rate)]
    settings = {"seeds": arguments.seeds, "rate": arguments.rate}
    command = "python -m experiments.explain_adult"
    print(results.save("explain_adult", command=command, settings=settings, runs=runs))


def measure(seed: int, rate: float) -> list[dict[str, Any]]:
    """Where the planted predicate stands for each complaint."""
    people = data.adult()
    planted = flip_private_men(people, rate=rate, seed=seed)
    model = adult.fit(people, planted)
    index = rainpp.precompute(model, people.train_inputs, planted.labels)
    database = adult.open_database(people, model, index)
    frame = people.train_frame.drop(columns=HIDDEN)
    runs: list[dict[str, Any]] = []
    for query, sql in adult.QUERIES.items():
        ranking = database.sql(sql).complain("share", should="decrease").rank()
        began = time.perf_counter()
        found = ranking.explain(frame, top=planted.count, count=COUNT)
        seconds = time.perf_counter() - began
        rows = found.to_dict(orient="records")
        places = [
            n for n, row in enumerate(rows) if set(row["predicate"].split(" AND ")) == PLANTED
        ]
        place = places[0] if places else None
        runs.append(
            {
                "query": query,
                "seed": seed,
                "place": None if place is None else place + 1,
                "first": rows[0]["predicate"],
                "precision": None if place is None else round(rows[place]["precision"], 3),
                "recall": None if place is None else round(rows[place]["recall"], 3),
                "seconds": round(seconds, 2),
            }
        )
        print(runs[-1], flush=True)
    return runs


if __name__ == "__main__":
    main()
