"""Eigenpairs from a subsample against those of all rows: time, AUC_R, correlation of scores.

Every case is measured with `curvature_rows` "auto", 2 000 and "all" and k = 10, in one run. Cases
where it may break: a rare class, 40 % of all labels wrong, and complaints about single rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rainpp
from experiments import results, train
from experiments.cases import Case, count_of, fit_digits, mnist_case
from rainpp.lanczos.projection import project_training
from rainpp.lanczos.subsample import Found, Request, sampled_eigenpairs
from rainpp.training_set import TrainingSet

K = 10
NARROW = (20, 1)  # inference rows of a narrow complaint


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--k", type=int, default=K)
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for name in arguments.cases:
        case = CASES[name](arguments.rows)
        runs += measure(case, arguments.k)
        settings = {"cases": arguments.cases, "rows": arguments.rows, "k": arguments.k}
        command = "python -m experiments.offline subsample"
        results.save("offline_subsample", command=command, settings=settings, runs=runs)


def measure(case: Case, k: int) -> list[dict[str, Any]]:
    """One record per choice of rows; the last, of all rows, is what the others are held against."""
    narrow = _with_narrow(case)
    gradients = {query: np.asarray(along) for query, along in narrow.gradients().items()}
    everything, whole = _scored(narrow, gradients, k, "all")
    records: list[dict[str, Any]] = []
    for rows in ("auto", 2000):
        record, scores = _scored(narrow, gradients, k, rows)
        record["time_ratio"] = round(everything["seconds"] / record["seconds"], 2)
        record["correlation"] = {
            query: round(float(np.corrcoef(scores[query], whole[query])[0, 1]), 4)
            for query in scores
        }
        records.append(record)
    records.append(everything)
    for record in records:
        print(record, flush=True)
    return records


def _scored(
    case: Case, gradients: dict[str, np.ndarray], k: int, rows: int | str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers about eigenpairs from `rows`, and scores (n,) by query."""
    request = Request(case.model, case.training, k, case.num_classes, rows=rows)
    busy = os.getloadavg()[0]
    began = time.perf_counter()
    found = sampled_eigenpairs(request)
    seconds = time.perf_counter() - began
    projections = project_training(case.model, case.training, found.pairs.vectors).gradients
    scores = {
        query: projections @ ((found.pairs.vectors @ along) / found.pairs.values)
        for query, along in gradients.items()
    }
    record = _about(case, found) | {
        "asked": rows,
        "seconds": round(seconds, 2),
        "load": round(busy, 1),
        "auc_r": {
            query: round(rainpp.metrics.auc_r(values, case.corrupted), 4)
            for query, values in scores.items()
            if query in case.complaints and not query.startswith("narrow")
        },
    }
    return record, scores


def _about(case: Case, found: Found) -> dict[str, Any]:
    return {
        "case": case.name,
        "parameters": case.model.num_params,
        "train_rows": case.training.num_rows,
        "rows": found.rows,
        "products": found.pairs.num_products,
        "trials": [dataclasses.asdict(trial) for trial in found.trials],
    }


def _with_narrow(case: Case) -> Case:
    """The same with complaints about the first query's own class over a few rows only."""
    first = next(iter(case.complaints.values()))
    touched = np.flatnonzero(np.abs(first).sum(axis=1) > 0)
    complaints = dict(case.complaints)
    for count in NARROW:
        weights = np.zeros_like(first)
        weights[touched[:count]] = first[touched[:count]]
        complaints[f"narrow {count}"] = weights
    return dataclasses.replace(case, complaints=complaints)


def rare_case(rows: int) -> Case:
    """MNIST where the 1s are 1 % of the rows and 40 % of them are labelled 7."""
    case = mnist_case("logistic", 0.0001, rows=rows)
    digits, labels = case.training.inputs, case.training.labels
    ones = np.flatnonzero(labels == 1)
    kept = np.sort(np.r_[np.flatnonzero(labels != 1), ones[: rows // 100]])
    inputs, clean = digits[kept], labels[kept]
    wrong = np.flatnonzero(clean == 1)[::5][: rows // 250]
    return _refitted(case, "MNIST logistic, 1s rare", (inputs, clean), wrong, [7] * len(wrong))


def noisy_case(rows: int) -> Case:
    """MNIST with 40 % of all labels replaced by another class."""
    case = mnist_case("logistic", 0.0001, rows=rows)
    generator = np.random.default_rng(0)
    clean = case.training.labels
    wrong = generator.permutation(rows)[: round(0.4 * rows)]
    other = (clean[wrong] + generator.integers(1, 10, wrong.size)) % 10
    name = "MNIST logistic, 40 % of labels random"
    return _refitted(case, name, (case.training.inputs, clean), wrong, other)


def _refitted(case: Case, name: str, rows: tuple[Any, Any], wrong: np.ndarray, become: Any) -> Case:
    inputs, clean = rows
    labels = clean.copy()
    labels[wrong] = become
    model = fit_digits("logistic", inputs, labels)
    corrupted = np.isin(np.arange(len(labels)), wrong)
    training = TrainingSet.checked(model, inputs, labels)
    complaints = {"Q3": count_of(1, (len(case.inference), 10))}
    return Case(name, model, training, corrupted, case.inference, complaints)


def cnn_case(rows: int) -> Case:
    """MNIST with 30 % of the 1s labelled 7, two convolutions of stride two and a linear layer."""
    base = mnist_case("logistic", 0.3, rows=rows)
    params, _ = train.fit_sgd(
        apply_cnn, _cnn_params(), base.training.inputs, base.training.labels, epochs=6
    )
    model = rainpp.Model(apply_cnn, params, loss="cross_entropy", l2=train.L2)
    training = TrainingSet.checked(model, base.training.inputs, base.training.labels)
    complaints = {"Q3": count_of(1, (len(base.inference), 10))}
    return Case("MNIST CNN 30%", model, training, base.corrupted, base.inference, complaints)


def apply_cnn(params: dict[str, Any], inputs: Any) -> jax.Array:
    """Logits (batch, 10) of flat images (batch, 784)."""
    values = inputs.reshape(-1, 28, 28, 1)
    for layer in ("first", "second"):
        values = jax.lax.conv_general_dilated(
            values, params[layer], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        values = jax.nn.relu(values)
    return values.reshape(values.shape[0], -1) @ params["last"] + params["bias"][None, :]


def _cnn_params() -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"first": (3, 3, 1, 8), "second": (3, 3, 8, 16), "last": (7 * 7 * 16, 10)}
    params = {
        name: jax.random.normal(key, shape, jnp.float32)
        * jnp.float32((2 / np.prod(shape[:-1])) ** 0.5)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return params | {"bias": jnp.zeros(10, jnp.float32)}


CASES: dict[str, Callable[[int], Case]] = {
    "mlp": lambda rows: mnist_case("mlp", 0.3, rows=rows),
    "cnn": cnn_case,
    "rare": rare_case,
    "noise": noisy_case,
}


if __name__ == "__main__":
    main()
