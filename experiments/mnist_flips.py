"""MNIST with 1s labelled 7 (Table 2 of Flokas et al. 2022): which rows made a count wrong.

Q3, `SELECT count(*) ... WHERE predict(image) = 1`, is too low; Q1, the join of digits 0-4 with
digits 5-9 on equal predictions, should be empty and is too high. One shot: no retraining between
deletions, k chosen by the library. Beside it Rain, answering by conjugate gradients. Cases that are
not named keep the results they have.

    python -m experiments.mnist_flips [--rates 0.1 0.2] [--seeds 0 1 2] [--models logistic mlp]
           [--again]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import jax
import numpy as np
import pyarrow as pa

import rainpp
from experiments import commands, data, models, results, train
from experiments.corrupt import Corruption, flip_classes
from experiments.rain import run_rain
from rainpp.bound_complaint import BoundComplaint

QUERIES = {
    "Q3": "SELECT count(*) AS n FROM digits WHERE predict(image) = 1",
    "Q1": 'SELECT count(*) AS n FROM "LEFT" L, "RIGHT" R WHERE predict(L.image) = predict(R.image)',
}
SHOULD = {"Q3": "increase", "Q1": "decrease"}
RATES = (0.1, 0.2, 0.3, 0.4)
RAIN_ITERATIONS = 12
LATENCY_REPEATS = 200


@dataclass(frozen=True)
class Case:
    """One trained model on one corrupted training set."""

    name: str
    rate: float
    seed: int
    rows: int


def main() -> None:
    arguments = _arguments()
    results.check_place()
    for name, rate, seed in itertools.product(arguments.models, arguments.rates, arguments.seeds):
        case = Case(name, rate, seed, 60_000 if name == "logistic" else arguments.mlp_rows)
        file = "mnist_flips" if name == "logistic" else f"mnist_flips_{name}"
        command = f"python -m experiments.mnist_flips --models {name}"
        cases = [(rate, seed, query) for query in QUERIES]
        if not arguments.again and results.merged(file, cases, case.rows):
            print(f"{name} {rate:.0%} seed {seed}: saved before", flush=True)
            continue
        results.merge(file, list(run_case(case)), command=command, l2=train.L2)


def run_case(case: Case) -> Iterator[dict[str, Any]]:
    """Train, build the index, ask both queries, complain, rank; one record per query."""
    digits = data.mnist()
    rows = np.random.default_rng(case.seed).permutation(60_000)[: case.rows]
    inputs, clean = digits.train_inputs[np.sort(rows)], digits.train_labels[np.sort(rows)]
    planted = flip_classes(clean, [(1, 7)], rate=case.rate, seed=case.seed)
    model, fit_seconds = fit(case, inputs, planted.labels)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        index = rainpp.precompute(model, inputs, planted.labels, path=Path(folder) / "mnist.rain")
        built = time.perf_counter() - began
        database = open_database(digits, model, index)
        for query in QUERIES:
            record = ask(database, query, planted, clean)
            record |= {
                "model": case.name,
                "rate": case.rate,
                "seed": case.seed,
                "train_rows": case.rows,
                "parameters": model.num_params,
                "test_accuracy": accuracy(model, digits),
                "gradient_norm": index.manifest["checks"]["gradient_norm"],
                "k": index.k,
                "fit_seconds": round(fit_seconds, 2),
                "index_seconds": round(built, 2),
            }
            print(_line(record), flush=True)
            yield record


def fit(case: Case, inputs: np.ndarray, labels: np.ndarray) -> tuple[rainpp.Model, float]:
    """A model at the optimum of its objective on the corrupted labels, and the seconds it took."""
    began = time.perf_counter()
    key = jax.random.key(case.seed)
    if case.name == "logistic":
        network = models.softmax_regression()
        params, _ = train.fit_convex(network.apply, network.init(key), inputs, labels)
    else:
        network = models.mlp()
        params, _ = train.fit_sgd(
            network.apply, network.init(key), inputs, labels, epochs=30, seed=case.seed
        )
    model = rainpp.Model(network.apply, params, loss="cross_entropy", l2=train.L2)
    return model, time.perf_counter() - began


def open_database(
    digits: data.Dataset, model: rainpp.Model, index: rainpp.Index
) -> rainpp.Database:
    """The 10 000 test images as `digits`, and as "LEFT" (0-4) and "RIGHT" (5-9), materialised."""
    connection = duckdb.connect()
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(digits.test_inputs.ravel()), 784)
    connection.register("pixels", pa.table({"image": pixels, "label": digits.test_labels}))
    connection.execute("CREATE TABLE digits AS SELECT image FROM pixels")
    connection.execute('CREATE TABLE "LEFT" AS SELECT image FROM pixels WHERE label < 5')
    connection.execute('CREATE TABLE "RIGHT" AS SELECT image FROM pixels WHERE label >= 5')
    connection.unregister("pixels")
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    for table in ("digits", "LEFT", "RIGHT"):
        database.materialize("predict", table=table, args=["image"])
    return database


def ask(
    database: rainpp.Database, query: str, planted: Corruption, clean: np.ndarray
) -> dict[str, Any]:
    """Quality and latency of one complaint, and of Rain on the same."""
    result = database.sql(QUERIES[query])
    complaint = result.complain("n", should=SHOULD[query])
    ranking = complaint.rank()
    deletions = ranking.scores[: ranking.interventions.num_rows]
    rain = run_rain(complaint, planted.corrupted, iterations=RAIN_ITERATIONS)
    seconds = [time_complaint(result, query) for _ in range(LATENCY_REPEATS)]
    return {
        "query": query,
        "hard": complaint.complaint.hard,
        "relaxed": round(complaint.complaint.relaxed, 2),
        "corrupted": planted.count,
        "auc_r": round(rainpp.metrics.auc_r(deletions, planted.corrupted), 4),
        "auc_r_with_relabels": round(
            rainpp.metrics.auc_r(ranking.row_scores(), planted.corrupted), 4
        ),
        "relabel_right": round(relabel_precision(ranking, planted, clean), 4),
        "coverage": round(ranking.coverage, 4),
        "rain_auc_r": [round(value, 4) for value in rain.auc],
        "rain_seconds": round(rain.seconds_two, 4),
        "deletions": int(deletions.size),
        "interventions": len(ranking),
    } | results.milliseconds(seconds)


def relabel_precision(ranking: rainpp.Ranking, planted: Corruption, clean: np.ndarray) -> float:
    """Of the flipped rows among the top N, the share whose best relabel is the true class."""
    table = ranking.interventions
    top = np.argsort(-ranking.row_scores(), kind="stable")[: planted.count]
    hits = top[planted.corrupted[top]]
    relabels = ranking.scores[table.num_deletions :].reshape(table.num_rows, -1)
    best = table.num_deletions + hits * relabels.shape[1] + relabels[hits].argmax(axis=1)
    return float(np.mean(table.new_labels(best) == clean[hits]))


def time_complaint(result: Any, query: str) -> float:
    """Seconds from `complain` to the frame of the top 100 a user holds."""
    began = time.perf_counter()
    complaint: BoundComplaint = result.complain("n", should=SHOULD[query])
    complaint.rank().top(100)
    return time.perf_counter() - began


def accuracy(model: rainpp.Model, digits: data.Dataset) -> float:
    predicted = model.probabilities(digits.test_inputs).argmax(axis=1)
    return round(float(np.mean(predicted == digits.test_labels)), 4)


def _line(record: dict[str, Any]) -> str:
    return (
        f"{record['model']} {record['query']} {record['rate']:.0%} seed {record['seed']}: "
        f"AUC_R {record['auc_r']:.3f} (with relabels {record['auc_r_with_relabels']:.3f}), "
        f"right relabels {record['relabel_right']:.3f}, k {record['k']}, "
        f"Rain best {max(record['rain_auc_r']):.3f}, index {record['index_seconds']} s, "
        f"complaint p50 {record['p50_ms']} ms p95 {record['p95_ms']} ms"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp"])
    parser.add_argument("--mlp-rows", type=int, default=20_000)
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    return parser.parse_args()


if __name__ == "__main__":
    commands.run(main)
