"""How many eigenpairs to keep: AUC_R for every k, and what the library could know of it beforehand.

For every case: AUC_R of deletions by k, the same with scores damped as 1/(λ + λ₁), the spectrum,
and how alike the leading subspaces of two small disjoint halves of the rows are for every k.

    python -m experiments.choose_k [--cases adult sst2 logistic mlp] [--halves 256 512]
    python -m experiments.choose_k --name choose_k_deep --rows 1024 --most 16 --halves
           --cases digits-cnn photos-cnn photos-wrn reviews-lstm

The second (one line) needs minutes for every network on two cores. Cases that are not named keep
the results they have.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import rainpp
from experiments import deep_cases, results
from experiments.cases import Case, adult_case, mnist_case, sst2_case
from experiments.deep_cases import Made
from rainpp.lanczos.agreement import overlaps
from rainpp.lanczos.choose_k import choose_k, inflection, is_determined
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import Eigenpairs, find_eigenpairs
from rainpp.lanczos.projection import project_training
from rainpp.lanczos.sample import Sample, Strata

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Effort:
    """How much is computed for a case.

    Attributes
    ----------
    rows : whose curvature the scores use.
    most : the largest k.
    halves : sizes of the halves that are compared.
    """

    rows: int = 4096
    most: int = 30
    halves: tuple[int, ...] = (256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), default=["adult", "sst2", "logistic", "mlp"]
    )
    parser.add_argument("--halves", type=int, nargs="*", default=Effort.halves)
    parser.add_argument("--rows", type=int, default=Effort.rows)
    parser.add_argument("--most", type=int, default=Effort.most)
    parser.add_argument("--name", default="choose_k")
    asked = parser.parse_args()
    effort = Effort(asked.rows, asked.most, tuple(asked.halves))
    command = shlex.join(["python", "-m", "experiments.choose_k", *sys.argv[1:]])
    for group in asked.cases:
        for make in CASES[group]:
            run = measure(*make(), effort)
            settings = {name: vars(asked)[name] for name in ("halves", "rows", "most")}
            runs = [*_others(asked.name, run["case"]), run]
            results.save(asked.name, command=command, settings=settings, runs=runs)


def _others(name: str, case: str) -> list[dict[str, Any]]:
    """The results there are, but for those of a case that has been measured again."""
    return [run for run in results.runs(name) if run["case"] != case]


def _plain(case: Case) -> Made:
    return case, {}


# A case with what else its record says.
CASES: dict[str, list[Callable[[], Made]]] = {
    "adult": [lambda: _plain(adult_case(0.5)), lambda: _plain(adult_case(0.7))],
    "sst2": [lambda: _plain(sst2_case())],
    "logistic": [
        lambda rate=rate: _plain(mnist_case("logistic", rate, rows=60_000))
        for rate in (0.1, 0.2, 0.3, 0.4)
    ],
    "small": [
        lambda rate=rate, seed=seed: _plain(mnist_case("logistic", rate, rows=20_000, seed=seed))
        for rate in (0.1, 0.3)
        for seed in (1, 2)
    ],
    "mlp": [
        lambda rate=rate: _plain(mnist_case("mlp", rate, rows=20_000)) for rate in (0.1, 0.3, 0.4)
    ],
    **{name: [make] for name, make in deep_cases.SMALL.items()},
}


def measure(case: Case, about: dict[str, Any], effort: Effort) -> dict[str, Any]:
    """Everything about one case, as plain numbers."""
    began = time.perf_counter()
    strata = Strata(case.training.labels, seed=0)
    sample = strata.half(effort.rows // 2, 0).joined(strata.half(effort.rows // 2, 1))
    pairs = _pairs(case, sample, effort.most)
    projections = project_training(
        case.model, case.training, pairs.vectors, batch_size=case.batch
    ).gradients
    determined = is_determined(case.training.num_rows, case.model.num_params)
    record: dict[str, Any] = about | {
        "case": case.name,
        "classes": case.num_classes,
        "parameters": case.model.num_params,
        "train_rows": case.training.num_rows,
        "curvature_rows": sample.size,
        "products": pairs.num_products,
        "corrupted": int(case.corrupted.sum()),
        "eigenvalues": [float(f"{value:.4g}") for value in pairs.values],
        "auc_r": dict(_by_k(case, pairs, projections, damping=0.0)),
        "auc_r_damped": dict(_by_k(case, pairs, projections, damping=float(pairs.values[0]))),
        "overlap": {
            str(half): [_overlap(case, half, seed, effort.most) for seed in SEEDS]
            for half in effort.halves
        },
        "k": choose_k(pairs.values, case.num_classes, many=determined),
        "k_inflection": inflection(pairs.values, case.num_classes),
        "seconds": round(time.perf_counter() - began, 1),
    }
    _print(record)
    return record


def _pairs(case: Case, sample: Sample, most: int, tolerance: float = 1e-3) -> Eigenpairs:
    curvature = Curvature.of(case.model, case.training, sample=sample, batch_size=case.batch)
    most = min(most, case.model.num_params)
    return find_eigenpairs(curvature, most, num_classes=case.num_classes, tolerance=tolerance)


def _overlap(case: Case, half: int, seed: int, most: int) -> list[float]:
    """Shared part of the k leading directions of two halves, for every k."""
    strata = Strata(case.training.labels, seed=seed)
    first, second = (_pairs(case, strata.half(half, which), most, 1e-2) for which in (0, 1))
    return [round(float(value), 3) for value in overlaps(first.vectors, second.vectors)]


def _by_k(
    case: Case, pairs: Eigenpairs, projections: np.ndarray, *, damping: float
) -> Iterator[tuple[str, list[float]]]:
    """AUC_R of deletions for k = 1, 2, ... by query."""
    for query, gradient in case.gradients().items():
        along = pairs.vectors.astype(np.float64) @ np.asarray(gradient)
        terms = projections.astype(np.float64) * (along / (pairs.values + damping))
        scores = np.cumsum(terms, axis=1).T
        yield query, [round(rainpp.metrics.auc_r(row, case.corrupted), 4) for row in scores]


def _print(record: dict[str, Any]) -> None:
    print(record["case"], f"{record['seconds']} s", flush=True)
    for query, found in record["auc_r"].items():
        best = int(np.argmax(found)) + 1
        enough = [k for k, value in enumerate(found, 1) if value >= 0.98 * max(found)]
        print(f"  {query}: best {max(found):.3f} at {best}; within 2 %: {enough}", flush=True)


if __name__ == "__main__":
    main()
