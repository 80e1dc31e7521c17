"""Does a deletion move the query as predicted? Retraining on ADULT, solved to a gradient of 1e-10.

5 000 rows of ADULT, logistic regression in float64, all eigenpairs (k = d). The 20 top rows for
`SELECT count(*) ... WHERE predict(features) = 1` should decrease are deleted one at a time and the
model is solved again: does the relaxed count fall, and by how much of what was predicted?

    python -m experiments.sign [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
from typing import Any

import duckdb
import jax
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import rainpp
from experiments import data, models, results

L2 = 1e-3
ROWS = 5_000
TOP = 20
QUERY = "SELECT count(*) AS n FROM people WHERE predict(features) = 1"

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    jax.config.update("jax_enable_x64", True)
    runs = [run_seed(seed) for seed in seeds]
    settings = {"seeds": seeds, "l2": L2, "rows": ROWS, "top": TOP}
    print(results.save("sign", command="python -m experiments.sign", settings=settings, runs=runs))


def run_seed(seed: int) -> dict[str, Any]:
    """Predicted and retrained change of the count for the top rows of one subset."""
    people = data.adult()
    rows = np.random.default_rng(seed).choice(len(people.train_labels), ROWS, replace=False)
    inputs = people.train_inputs[rows].astype(np.float64)
    labels = people.train_labels[rows]
    theta = solve(inputs, labels, np.zeros(inputs.shape[1] + 1))
    model = rainpp.Model(models.apply_linear, as_params(theta), loss="binary_cross_entropy", l2=L2)
    index = rainpp.precompute(
        model, inputs, labels, k=model.num_params, interventions=[rainpp.Delete()]
    )
    tested = people.test_inputs.astype(np.float64)
    ranking = ask(model, index, tested)
    before = count(theta, tested)
    predicted, retrained = [], []
    for position in ranking.positions(TOP):
        keep = np.arange(ROWS) != position
        after = count(solve(inputs[keep], labels[keep], theta), tested)
        predicted.append(float(ranking.effects[position]))
        retrained.append(float(before - after))
    record = {
        "seed": seed,
        "parameters": model.num_params,
        "gradient_norm": index.manifest["checks"]["gradient_norm"],
        "same_direction": int(np.sum(np.array(retrained) > 0)),
        "correlation": round(float(np.corrcoef(predicted, retrained)[0, 1]), 5),
        "size": round(float(np.sum(predicted) / np.sum(retrained)), 4),
    }
    print(record, flush=True)
    return record


def ask(model: rainpp.Model, index: rainpp.Index, tested: Floats) -> rainpp.Ranking:
    """The ranking for the complaint that the count is too high."""
    connection = duckdb.connect()
    features = pa.FixedSizeListArray.from_arrays(pa.array(tested.ravel()), tested.shape[1])
    connection.register("rows", pa.table({"features": features}))
    connection.execute("CREATE TABLE people AS SELECT * FROM rows")
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    return database.sql(QUERY).complain("n", should="decrease").rank()


def solve(inputs: Floats, labels: NDArray[np.int32], start: Floats) -> Floats:
    """Weights and bias (d,) by Newton's method with step halving, to |∇J| <= 1e-10."""
    rows = np.column_stack([inputs, np.ones(len(inputs))])
    theta, gradient = start, slope(rows, labels, start)
    for _ in range(100):
        if np.linalg.norm(gradient) <= 1e-10:
            return theta
        spread = sigmoid(rows @ theta) * (1 - sigmoid(rows @ theta))
        hessian = (rows * spread[:, None]).T @ rows / len(rows) + L2 * np.eye(theta.size)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while objective(rows, labels, theta - size * step) > objective(rows, labels, theta) + 1e-15:
            size /= 2
        theta = theta - size * step
        gradient = slope(rows, labels, theta)
    raise rainpp.errors.NotConverged(f"|grad J| is {np.linalg.norm(gradient):.2g} after 100 steps")


def objective(rows: Floats, labels: NDArray[np.int32], theta: Floats) -> float:
    logits = rows @ theta
    losses = np.logaddexp(0, logits) - logits * labels
    return float(losses.mean() + 0.5 * L2 * theta @ theta)


def slope(rows: Floats, labels: NDArray[np.int32], theta: Floats) -> Floats:
    return rows.T @ (sigmoid(rows @ theta) - labels) / len(rows) + L2 * theta


def sigmoid(logits: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * logits))


def count(theta: Floats, tested: Floats) -> float:
    """Relaxed number of people predicted to earn more."""
    return float(sigmoid(tested @ theta[:-1] + theta[-1]).sum())


def as_params(theta: Floats) -> dict[str, Any]:
    """The parameters of `models.apply_linear`."""
    return {"weights": theta[:-1, None], "bias": theta[-1:]}


if __name__ == "__main__":
    main()
