"""Eigenpairs from a subsample against those of all rows: time, AUC_R, correlation of scores.

Every case is measured with `curvature_rows` "auto", fixed numbers and "all" at one k, in one run.
Cases where it may break: a rare class, 40 % of all labels wrong, complaints about single rows, and
networks that are far from an optimum.

    python -m experiments.offline subsample [--cases mlp rare] [--rows 20000]

Cases that are not named keep the results they have.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rainpp
from experiments import deep_cases, results, train
from experiments.cases import Case, count_of, fit_digits, mnist_case
from experiments.deep_cases import Made
from experiments.timed_products import Clock, TimedRequest, timed
from rainpp.lanczos.agreement import random_complaints
from rainpp.lanczos.projection import project_inference, project_training
from rainpp.lanczos.subsample import Found, sampled_eigenpairs
from rainpp.training_set import TrainingSet

NAME = "offline_subsample"
NARROW = (20, 1)  # inference rows of a narrow complaint
# Random complaints: as many for every class, each over a fiftieth to all of the first rows.
RANDOM, RANDOM_ROWS = 60, 500
# How many times less than all rows took: by the clock, when all is compiled, and rows multiplied.
TIMES = {
    "time_ratio": "seconds",
    "again_ratio": "seconds_again",
    "work_ratio": "rows_multiplied",
}


@dataclass(frozen=True)
class Study:
    """A case at about so many rows, and what is measured on it.

    Attributes
    ----------
    sizes : fixed numbers of curvature rows beside "auto" and "all".
    """

    make: Callable[[int], Made]
    k: int = 10
    sizes: tuple[int, ...] = (2000,)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--rows", type=int, default=20_000)
    asked = parser.parse_args()
    for name in asked.cases:
        study = STUDIES[name]
        save(measure(*study.make(asked.rows), study), asked.rows)


def save(records: list[dict[str, Any]], rows: int) -> None:
    """Put the records of one case in the place of those it had."""
    path = results.FOLDER / f"{NAME}.json"
    before = results.load(NAME)["runs"] if path.exists() else []
    others = [run for run in before if run["case"] != records[0]["case"]]
    command = "python -m experiments.offline subsample"
    results.save(NAME, command=command, settings={"rows": rows}, runs=[*others, *records])


def measure(case: Case, about: dict[str, Any], study: Study) -> list[dict[str, Any]]:
    """One record per choice of rows; the last, of all rows, is what the others are held against."""
    narrow = _with_narrow(case)
    gradients = {query: np.asarray(along) for query, along in narrow.gradients().items()}
    scored = {rows: _scored(narrow, gradients, study.k, rows) for rows in _choices(study)}
    whole, reference = scored["all"]
    for rows, (record, scores) in scored.items():
        if rows != "all":
            for name, key in TIMES.items():
                record[name] = round(whole[key] / record[key], 2)
            record |= _correlations(scores, reference)
        record |= about
        print(record, flush=True)
    return [record for record, _ in scored.values()]


def _choices(study: Study) -> list[int | str]:
    return ["auto", *study.sizes, "all"]


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores of every training row: (n,) by query, and (n, complaints) of random ones."""

    of_queries: dict[str, np.ndarray]
    random: np.ndarray


def _correlations(scores: _Scores, reference: _Scores) -> dict[str, Any]:
    """Of the scores from some rows with those from all."""
    by_query = {
        query: round(_correlation(values, reference.of_queries[query]), 4)
        for query, values in scores.of_queries.items()
    }
    found = [_correlation(*both) for both in zip(scores.random.T, reference.random.T, strict=True)]
    return {
        "correlation": by_query,
        "random": {
            "median": round(float(np.median(found)), 4),
            "tenth": round(float(np.quantile(found, 0.1)), 4),
            "worst": round(min(found), 4),
        },
    }


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def _scored(
    case: Case, gradients: dict[str, np.ndarray], k: int, rows: int | str
) -> tuple[dict[str, Any], _Scores]:
    """Numbers about eigenpairs from `rows`, and the scores they give."""
    clock = Clock()
    request = TimedRequest(
        case.model,
        case.training,
        k,
        case.num_classes,
        rows=rows,
        batch_size=case.batch,
        clock=clock,
    )
    busy = os.getloadavg()[0]
    again_clock = Clock(compiled=clock.compiled)
    found, seconds = timed(lambda: sampled_eigenpairs(request))
    again = timed(lambda: sampled_eigenpairs(dataclasses.replace(request, clock=again_clock)))[1]
    pairs, batch = found.pairs, case.batch
    projections = project_training(case.model, case.training, pairs.vectors, batch_size=batch)
    along = {query: pairs.vectors @ gradient for query, gradient in gradients.items()}
    weighed = {query: each / pairs.values for query, each in along.items()}
    scores = _Scores(
        {query: projections.gradients @ each for query, each in weighed.items()},
        projections.gradients @ (_random_queries(case, pairs.vectors) / pairs.values).T,
    )
    record = _about(case, found) | {
        "asked": rows,
        "k": k,
        "seconds": round(seconds - clock.compiling, 2),
        "seconds_again": round(again - again_clock.compiling, 2),
        "rows_multiplied": clock.rows,
        "load": round(busy, 1),
        "auc_r": {
            query: round(rainpp.metrics.auc_r(values, case.corrupted), 4)
            for query, values in scores.of_queries.items()
            if query in case.complaints and not query.startswith("narrow")
        },
    }
    return record, scores


def _random_queries(case: Case, vectors: np.ndarray) -> np.ndarray:
    """Projections (complaints, k) of random complaints about the first inference rows."""
    some = jax.tree.map(lambda leaf: leaf[:RANDOM_ROWS], case.inference)
    tangents = project_inference(case.model, some, vectors, batch_size=case.batch)[1]
    weights = random_complaints(tangents.shape[:2], count=RANDOM, seed=0)
    return np.einsum("cvr,vrk->ck", weights, tangents.astype(np.float64))


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


STUDIES: dict[str, Study] = {
    "mlp": Study(lambda rows: (mnist_case("mlp", 0.3, rows=rows), {})),
    "cnn": Study(lambda rows: (cnn_case(rows), {})),
    "rare": Study(lambda rows: (rare_case(rows), {})),
    "noise": Study(lambda rows: (noisy_case(rows), {})),
    "digits-cnn": Study(lambda _: deep_cases.SMALL["digits-cnn"](), sizes=(1000,)),
    "photos-cnn": Study(lambda _: deep_cases.SMALL["photos-cnn"](), sizes=(1000,)),
    # Fewer rows than for the choice of k: the curvature of all of them is computed twice.
    "photos-wrn": Study(lambda _: deep_cases.small_wrn(1500), sizes=(750,)),
    "reviews-lstm": Study(lambda _: deep_cases.SMALL["reviews-lstm"](), k=4, sizes=(1000,)),
}


if __name__ == "__main__":
    main()
