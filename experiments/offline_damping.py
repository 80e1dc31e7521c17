"""Retraining correlation (LDS) of undamped and damped scores, by the number of eigenpairs.

MNIST logistic regression, 5 000 rows, l2 = 1e-3: complaints about every class over all, 5 % and
0.2 % of the test rows against retraining without random 2 % of the training rows. Damped scores
divide by λ + λ₁ instead of λ; rescaling them to the undamped size changes no correlation.

    python -m experiments.offline damping [--subsets 20]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rainpp
from experiments import models, results, train
from experiments.cases import Case, mnist_case
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import Eigenpairs, find_eigenpairs
from rainpp.lanczos.projection import project_training

ROWS = 5_000
REMOVED = 100
L2 = 1e-3
KS = (5, 8, 10, 20, 30)
SHARES = (1.0, 0.05, 0.002)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Projected:
    """Eigenpairs, removed groups (S, k) and complaints (Q, k) projected on them."""

    pairs: Eigenpairs
    groups: Floats
    queries: Floats

    def predicted(self, k: int, damping: float) -> Floats:
        """Change of every complaint without every group (S, Q)."""
        weights = 1 / (self.pairs.values[:k] + damping)
        return (self.groups[:, :k] * weights) @ self.queries[:, :k].T / ROWS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subsets", type=int, default=20)
    count = parser.parse_args().subsets
    generator = np.random.default_rng(0)
    case = _with_complaints(_trained(), generator)
    subsets = [generator.choice(ROWS, REMOVED, replace=False) for _ in range(count)]
    actual = np.array([_retrained(case, rows) for rows in subsets])
    runs = list(_correlations(_projected(case, subsets), actual))
    settings = {"rows": ROWS, "removed": REMOVED, "subsets": count, "l2": L2}
    command = "python -m experiments.offline damping"
    for run in runs:
        print(run)
    print(results.save("offline_damping", command=command, settings=settings, runs=runs))


def _trained() -> Case:
    """All labels but one as they are, at the optimum."""
    case = mnist_case("logistic", 0.0001, rows=ROWS)
    return replace(case, model=_fit(case, np.arange(ROWS)))


def _fit(case: Case, rows: NDArray[np.intp]) -> rainpp.Model:
    training = case.training.take(rows)
    params, _ = train.fit_convex(
        models.apply_linear,
        case.model.params,
        training.inputs,
        training.labels,
        l2=L2,
        tolerance=1e-5,
    )
    return rainpp.Model(models.apply_linear, params, loss="cross_entropy", l2=L2)


def _with_complaints(case: Case, generator: np.random.Generator) -> Case:
    """The same, with complaints named by the share of rows they are about and the class."""
    num_rows = len(case.inference)
    complaints: dict[str, Floats] = {}
    for share in SHARES:
        for label in range(case.num_classes):
            weights = np.zeros((num_rows, case.num_classes))
            weights[generator.choice(num_rows, int(share * num_rows), replace=False), label] = 1.0
            complaints[f"{share} {label}"] = weights
    return replace(case, complaints=complaints)


def _retrained(case: Case, removed: NDArray[np.intp]) -> list[float]:
    """True change of every complaint without the rows `removed`."""
    model = _fit(case, np.setdiff1d(np.arange(ROWS), removed))
    change = model.probabilities(case.inference) - case.model.probabilities(case.inference)
    return [float(np.sum(change * weights)) for weights in case.complaints.values()]


def _projected(case: Case, subsets: list[NDArray[np.intp]]) -> Projected:
    curvature = Curvature.of(case.model, case.training)
    pairs = find_eigenpairs(curvature, max(KS), num_classes=case.num_classes)
    rows = project_training(case.model, case.training, pairs.vectors).gradients.astype(np.float64)
    gradients = np.stack([np.asarray(gradient) for gradient in case.gradients().values()])
    groups = np.array([rows[subset].sum(axis=0) for subset in subsets])
    return Projected(pairs, groups, gradients.astype(np.float64) @ pairs.vectors.T)


def _correlations(projected: Projected, actual: Floats) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    for k in KS:
        for name, damping in (("none", 0.0), ("largest", float(projected.pairs.values[0]))):
            found = projected.predicted(k, damping)
            each = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, actual.T, strict=True)]
            by_share = np.array(each).reshape(len(SHARES), -1).mean(axis=1)
            lds = {
                str(share): round(float(v), 3) for share, v in zip(SHARES, by_share, strict=True)
            }
            runs.append({"k": k, "damping": name, "lds": lds})
    return runs


if __name__ == "__main__":
    main()
