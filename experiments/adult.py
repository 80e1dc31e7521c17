"""ADULT with low earners among private-sector men labelled high (Table 3, Fig. 12 of the paper).

Q4 to Q7 ask for the share of predicted high earners among private-sector men, in the private
sector, among men, and over everybody. Every one is too high; the vaguer the question, the harder
the errors are to find. Beside the library, Rain by conjugate gradients. Cases that are not named
keep the results they have.

    python -m experiments.adult [--rates 0.5 0.6 0.7] [--seeds 0 1 2] [--again]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import jax
import pyarrow as pa

import rainpp
from experiments import commands, data, models, results, train
from experiments.corrupt import Corruption, flip_private_men
from experiments.rain import run_rain

_SHARE = "SELECT avg(predict(*)) AS share FROM people"
QUERIES = {
    "Q4": f"{_SHARE} WHERE workclass = 'Private' AND gender = 'Male'",
    "Q5": f"{_SHARE} WHERE workclass = 'Private'",
    "Q6": f"{_SHARE} WHERE gender = 'Male'",
    "Q7": _SHARE,
}
RATES = (0.5, 0.6, 0.7)
ROWS = 32_561
RAIN_ITERATIONS = 20


def main() -> None:
    arguments = _arguments()
    command = "python -m experiments.adult"
    results.check_place()
    for rate, seed in itertools.product(arguments.rates, arguments.seeds):
        cases = [(rate, seed, query) for query in QUERIES]
        if not arguments.again and results.merged("adult", cases, ROWS):
            print(f"{rate:.0%} seed {seed}: saved before", flush=True)
            continue
        found = list(run_case(rate, seed))
        results.merge("adult", found, command=command, l2=train.L2)


def run_case(rate: float, seed: int) -> Iterator[dict[str, Any]]:
    """Train on the flipped labels, build the index, complain about each query."""
    people = data.adult()
    planted = flip_private_men(people, rate=rate, seed=seed)
    model = fit(people, planted)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        index = rainpp.precompute(
            model, people.train_inputs, planted.labels, path=Path(folder) / "adult.rain"
        )
        built = time.perf_counter() - began
        database = open_database(people, model, index)
        for query in QUERIES:
            record = ask(database, query, planted) | {
                "rate": rate,
                "seed": seed,
                "parameters": model.num_params,
                "train_rows": len(planted.labels),
                "k": index.k,
                "index_seconds": round(built, 2),
                "loss_auc_r": round(
                    rainpp.metrics.auc_r(index.arrays["losses"], planted.corrupted), 4
                ),
            }
            print(_line(record), flush=True)
            yield record


def fit(people: data.AdultDataset, planted: Corruption) -> rainpp.Model:
    """Logistic regression at the optimum of its objective on the flipped labels."""
    network = models.binary_regression(num_inputs=people.train_inputs.shape[1])
    start = network.init(jax.random.key(0))
    params, _ = train.fit_convex(
        network.apply, start, people.train_inputs, planted.labels, loss="binary_cross_entropy"
    )
    return rainpp.Model(network.apply, params, loss="binary_cross_entropy", l2=train.L2)


def open_database(
    people: data.AdultDataset, model: rainpp.Model, index: rainpp.Index
) -> rainpp.Database:
    """The test people as a table with their features, workclass and gender."""
    width = people.test_inputs.shape[1]
    features = pa.FixedSizeListArray.from_arrays(pa.array(people.test_inputs.ravel()), width)
    rows = {
        "features": features,
        "workclass": people.test_frame["workclass"].to_numpy(),
        "gender": people.test_frame["sex"].to_numpy(),
    }
    connection = duckdb.connect()
    connection.register("rows", pa.table(rows))
    connection.execute("CREATE TABLE people AS SELECT * FROM rows")
    connection.unregister("rows")
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    database.materialize("predict", table="people", args=["features"])
    return database


def ask(database: rainpp.Database, query: str, planted: Corruption) -> dict[str, Any]:
    """Quality of one complaint that the share is too high, and of Rain on the same."""
    complaint = database.sql(QUERIES[query]).complain("share", should="decrease")
    ranking = complaint.rank()
    deletions = ranking.scores[: ranking.interventions.num_rows]
    rain = run_rain(complaint, planted.corrupted, iterations=RAIN_ITERATIONS)
    return {
        "query": query,
        "hard": round(complaint.complaint.hard, 4),
        "relaxed": round(complaint.complaint.relaxed, 4),
        "corrupted": planted.count,
        "auc_r": round(rainpp.metrics.auc_r(deletions, planted.corrupted), 4),
        "auc_r_with_relabels": round(
            rainpp.metrics.auc_r(ranking.row_scores(), planted.corrupted), 4
        ),
        "coverage": round(ranking.coverage, 4),
        "rain_auc_r": [round(value, 4) for value in rain.auc],
        "rain_seconds": round(rain.seconds_two, 4),
    }


def _line(record: dict[str, Any]) -> str:
    return (
        f"{record['query']} {record['rate']:.0%} seed {record['seed']}: "
        f"AUC_R {record['auc_r']:.3f} (with relabels {record['auc_r_with_relabels']:.3f}), "
        f"k {record['k']}, Rain best {max(record['rain_auc_r']):.3f}, "
        f"loss alone {record['loss_auc_r']:.3f}, index {record['index_seconds']} s"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    return parser.parse_args()


if __name__ == "__main__":
    commands.run(main)
