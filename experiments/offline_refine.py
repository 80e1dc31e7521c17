"""Whether refinement may take its products from a sample of the rows, as the index does.

    python -m experiments.offline_refine

MNIST logistic regression with 10 % of the 1s labelled 7. The oracle is the dense Hessian of all
rows in double precision, solved directly: effects of deleting each of 2 000 rows on 16 complaints
of four sizes. Refinement starts from the same eigenpairs each time and takes its products from all
rows or from a sample. *Correlation* is with the exact effects; *size* the ratio of their norms.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

import rainpp
from experiments import data, results, train
from experiments.corrupt import flip_classes
from experiments.mnist_flips import Case, fit
from rainpp.lanczos.conjugate_gradient import deflation, iterate
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import Eigenpairs
from rainpp.lanczos.projection import gradient_of_probabilities, project_training
from rainpp.lanczos.sample import Strata
from rainpp.lanczos.subsample import Request, sampled_eigenpairs
from rainpp.training_set import TrainingSet

STEPS = (0, 2, 4, 8)
SHARES = (0.1, 0.25, 0.5)
COMPLAINT_ROWS = (10_000, 500, 20, 1)


def main() -> None:
    rows = _arguments().rows
    digits = data.mnist()
    chosen = np.sort(np.random.default_rng(0).permutation(60_000)[:rows])
    inputs = digits.train_inputs[chosen]
    planted = flip_classes(digits.train_labels[chosen], [(1, 7)], rate=0.1, seed=0)
    model, _ = fit(Case("logistic", 0.1, 0, rows), inputs, planted.labels)
    training = TrainingSet.checked(model, inputs, planted.labels)
    pairs = sampled_eigenpairs(Request(model, training, 20, 10)).pairs
    runs = list(_runs(model, training, pairs, digits.test_inputs))
    for run in runs:
        print(run)
    settings = {"rows": rows, "rate": 0.1, "seeds": [0], "k": 20}
    command = "python -m experiments.offline_refine"
    print(results.save("offline_refine", command=command, settings=settings, runs=runs))


def _runs(
    model: rainpp.Model, training: TrainingSet, pairs: Eigenpairs, asked: np.ndarray
) -> Iterator[dict[str, Any]]:
    judged = training.take(np.sort(np.random.default_rng(0).permutation(training.num_rows)[:2000]))
    gradients = {size: list(_gradients(model, asked, size)) for size in COMPLAINT_ROWS}
    exact = _solved(model, training, np.stack([g for group in gradients.values() for g in group]))
    truths = iter(_effects(model, judged, solution) for solution in exact)
    true = {size: [next(truths) for _ in group] for size, group in gradients.items()}
    for name, operator in _operators(model, training).items():
        for size, group in gradients.items():
            found = [_refined(model, operator, pairs, g, judged) for g in group]
            for place, steps in enumerate(STEPS):
                close = [_closeness(f[place], t) for f, t in zip(found, true[size], strict=True)]
                correlation, ratio = np.mean(close, axis=0)
                yield {
                    "products_from": name,
                    "complaint_rows": size,
                    "steps": steps,
                    "correlation": round(float(correlation), 3),
                    "size": round(float(ratio), 3),
                }


def _operators(model: rainpp.Model, training: TrainingSet) -> dict[str, Curvature]:
    strata = Strata(training.labels, seed=5)
    sampled = {
        f"{share:.0%} of the rows": Curvature.of(
            model, training, sample=strata.half(int(share * training.num_rows), 0)
        )
        for share in SHARES
    }
    return {"all rows": Curvature.of(model, training), **sampled}


def _gradients(model: rainpp.Model, asked: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """∇θ of the count of a random class over random rows, four times."""
    generator = np.random.default_rng(size)
    for _ in range(4):
        weights = np.zeros((len(asked), 10))
        weights[generator.choice(len(asked), size, replace=False), generator.integers(10)] = 1
        yield np.asarray(gradient_of_probabilities(model, asked, weights))


def _refined(
    model: rainpp.Model,
    operator: Curvature,
    pairs: Eigenpairs,
    gradient: np.ndarray,
    judged: TrainingSet,
) -> list[np.ndarray]:
    known = deflation(jnp.asarray(pairs.values, jnp.float32), jnp.asarray(pairs.vectors))
    found: list[np.ndarray] = []
    for step, state in enumerate(iterate(operator.hvp, jnp.asarray(gradient), known)):
        if step in STEPS:
            found.append(_effects(model, judged, np.asarray(state.solution)))
        if step == STEPS[-1]:
            break
    return found


def _effects(model: rainpp.Model, judged: TrainingSet, solution: np.ndarray) -> np.ndarray:
    vector = np.asarray(solution, np.float32)[None]
    return project_training(model, judged, vector).gradients[:, 0]


def _closeness(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    ratio = np.linalg.norm(found) / np.linalg.norm(true)
    return float(np.corrcoef(found, true)[0, 1]), float(ratio)


def _solved(model: rainpp.Model, training: TrainingSet, gradients: np.ndarray) -> np.ndarray:
    """H⁻¹ gradients (m, d) by a dense solve; parameters lie as bias, then weights row by row."""
    rows = np.c_[np.ones(training.num_rows), np.asarray(training.inputs, np.float64)]
    predicted = model.probabilities(training.inputs).astype(np.float64)
    classes, n = predicted.shape[1], training.num_rows
    hessian = np.zeros((rows.shape[1] * classes,) * 2)
    for a in range(classes):
        for b in range(a, classes):
            weight = predicted[:, a] * ((a == b) - predicted[:, b]) / n
            block = (rows * weight[:, None]).T @ rows
            hessian[a::classes, b::classes] = hessian[b::classes, a::classes] = block
    hessian[np.diag_indices_from(hessian)] += train.L2
    return np.linalg.solve(hessian, gradients.T).T


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
