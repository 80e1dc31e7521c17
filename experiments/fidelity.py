"""Predicted against retrained effects of removing training rows: the table behind `refine`.

    python -m experiments.fidelity [--models logistic mlp cnn] [--subsets 40]

MNIST. Random 2 % of the training rows are removed and the model is trained again in double
precision, from the weights it had, until no derivative is above 1e-7. A complaint is the relaxed
count of a class over all test rows, over 5 % of them, over 20, or one prediction. *LDS* (Park et
al. 2023) is the rank correlation over the subsets of the sum of single effects with what
retraining gave, mean over the complaints; *size* the ratio of their norms. The solutions compared:
the exact inverse, the leading eigenpairs alone, and conjugate gradients from there
(`ranking.refine`); also an index whose basis holds H⁻¹∇ of every class's count beside the
eigenvectors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

import rainpp
from experiments import data, models, results
from rainpp.convolution import with_matrix_products
from rainpp.lanczos.conjugate_gradient import solve_together
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import find_eigenpairs
from rainpp.lanczos.projection import gradient_of_probabilities, project_training
from rainpp.training_set import TrainingSet

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
# Test rows that a complaint is about; a single row is one prediction.
WIDTHS = {"whole class": 10_000, "5 % of the rows": 500, "20 rows": 20, "one prediction": 1}
STEPS = (1, 2, 4, 8)
REMOVED = 0.02
EXACT_STEPS = 60
MANY = 200
GRADIENT = 1e-7


@dataclass(frozen=True)
class Size:
    """Rows, l2 and how many complaints of each width."""

    rows: int
    l2: float
    complaints: int


SIZES = {
    "logistic": Size(5000, 1e-3, 15),
    "mlp": Size(2000, 1e-2, 15),
    "cnn": Size(1000, 1e-2, 15),
}


def main() -> None:
    arguments = _arguments()
    jax.config.update("jax_enable_x64", True)
    runs: list[dict[str, Any]] = []
    for name in arguments.models:
        runs += measure(name, arguments.subsets)
        settings = {
            "subsets": arguments.subsets,
            "removed": REMOVED,
            "seeds": [0],
            "complaints": {kind: SIZES[kind].complaints for kind in arguments.models},
        }
        command = "python -m experiments.fidelity"
        if not arguments.quick:
            results.save("fidelity", command=command, settings=settings, runs=runs)


def measure(name: str, subsets: int) -> list[dict[str, Any]]:
    """One record per way of solving, for one model."""
    size = SIZES[name]
    digits = data.mnist()
    rows = np.sort(np.random.default_rng(0).permutation(60_000)[: size.rows])
    inputs = digits.train_inputs[rows].astype(np.float64)
    labels = digits.train_labels[rows].astype(np.int64)
    trainer = Trainer.of(name, inputs, labels, size.l2)
    model = trainer.model(trainer.fit(np.ones(size.rows), trainer.start))
    training = TrainingSet.checked(model, inputs, labels)
    asked = digits.test_inputs.astype(np.float64)
    complaints = dict(_complaints(asked, size.complaints))
    weights = np.stack([each for group in complaints.values() for each in group])
    gradients = np.stack(
        [np.asarray(gradient_of_probabilities(model, asked, each)) for each in weights]
    )
    removed = list(_subsets(size.rows, subsets))
    began = time.perf_counter()
    actual = _retrained(trainer, model, (asked, weights), removed)
    print(f"{name}: retraining {(time.perf_counter() - began) / subsets:.1f} s each", flush=True)
    records: list[dict[str, Any]] = []
    for solved, solution, seconds in _solutions(model, training, gradients):
        effects = project_training(model, training, solution).gradients / size.rows
        predicted = np.stack([effects[gone].sum(axis=0) for gone in removed])
        records.append(
            {
                "model": name,
                "parameters": model.num_params,
                "train_rows": size.rows,
                "l2": size.l2,
                "solution": solved,
                "seconds_all_complaints": round(seconds, 2),
                "by_width": _agreement(complaints, predicted, actual),
            }
        )
        print(records[-1], flush=True)
    return records


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains to an optimum in double precision, on weighted rows."""

    apply: Callable[[Any, Any], jax.Array]
    start: Floats
    unravel: Callable[[Any], Any]
    l2: float
    objective: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
    num_rows: int

    @staticmethod
    def of(name: str, inputs: Floats, labels: Any, l2: float) -> Trainer:
        """For the model `name` on these rows."""
        apply, params = NETWORKS[name]()
        theta, unravel = jax.flatten_util.ravel_pytree(params)
        rows, classes = jnp.asarray(inputs), jnp.asarray(labels)

        def objective(theta: jax.Array, weights: jax.Array) -> jax.Array:
            logits = jax.nn.log_softmax(apply(unravel(theta), rows))
            losses = -jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]
            mean = jnp.sum(losses * weights) / jnp.sum(weights)
            return mean + 0.5 * l2 * jnp.sum(theta**2)

        compiled = jax.jit(jax.value_and_grad(objective))
        start = np.asarray(theta)
        return Trainer(apply, start, unravel, l2, compiled, len(inputs))

    def fit(self, weights: Floats, start: Floats) -> Floats:
        """θ (d,) at the optimum of the weighted rows that is reached from `start`.

        Measured on the network: a largest derivative of 1e-7 is 1e-3 of the way from the optimum of
        Newton steps, after half their time; 1e-6 is 0.23 of it.
        """
        counted = jnp.asarray(weights)

        def step(theta: Floats) -> tuple[float, Floats]:
            value, slope = self.objective(jnp.asarray(theta), counted)
            return float(value), np.asarray(slope)

        options = {"maxiter": 20_000, "maxfun": 30_000, "gtol": GRADIENT, "ftol": 0, "maxcor": 50}
        return minimize(step, start, jac=True, method="L-BFGS-B", options=options).x

    def model(self, theta: Floats) -> rainpp.Model:
        """The model with these weights."""
        return rainpp.Model(self.apply, self.unravel(jnp.asarray(theta)), l2=self.l2)


def _retrained(
    trainer: Trainer, model: rainpp.Model, about: tuple[Floats, Floats], removed: list[Rows]
) -> Floats:
    """Change of every complaint's quantity for every subset (subsets, complaints)."""
    asked, weights = about
    before = _quantities(model, asked, weights)
    changes: list[Floats] = []
    for gone in removed:
        counted = np.ones(trainer.num_rows)
        counted[gone] = 0
        again = trainer.model(trainer.fit(counted, np.asarray(model.theta)))
        changes.append(_quantities(again, asked, weights) - before)
    return np.stack(changes)


def _quantities(model: rainpp.Model, asked: Floats, weights: Floats) -> Floats:
    return np.einsum("cvr,vr->c", weights, model.probabilities(asked).astype(np.float64))


def _subsets(num_rows: int, count: int) -> Iterator[Rows]:
    generator = np.random.default_rng(1)
    for _ in range(count):
        yield generator.choice(num_rows, round(REMOVED * num_rows), replace=False)


def _complaints(asked: Floats, count: int) -> Iterator[tuple[str, list[Floats]]]:
    """(V, R) weights of `count` complaints of each width; all classes take turns."""
    for width, size in WIDTHS.items():
        generator = np.random.default_rng(size)
        group: list[Floats] = []
        for number in range(count):
            weights = np.zeros((len(asked), 10))
            chosen = generator.choice(len(asked), min(size, len(asked)), replace=False)
            weights[chosen, number % 10] = 1
            group.append(weights)
        yield width, group


def _solutions(
    model: rainpp.Model, training: TrainingSet, gradients: Floats
) -> Iterator[tuple[str, Floats, float]]:
    """Ways to H⁻¹∇q for every complaint (m, d): name, solution, seconds for all of them."""
    curvature = Curvature.of(model, training)
    rights = jnp.asarray(gradients)
    many = find_eigenpairs(curvature, MANY, num_classes=10, tolerance=1e-2)

    def leading(k: int) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(many.values[:k], rights.dtype), jnp.asarray(many.vectors[:k])

    def index_alone(pairs: tuple[jax.Array, jax.Array]) -> Floats:
        return np.asarray((rights @ pairs[1].T / pairs[0][None]) @ pairs[1])

    began = time.perf_counter()
    exact = solve_together(curvature.products, rights, leading(MANY), EXACT_STEPS)
    print(f"exact: residual {exact.residuals[-1].max():.1e}", flush=True)
    yield "exact inverse", np.asarray(exact.solutions), time.perf_counter() - began
    for k in (10, 20, MANY):
        yield f"top {k} eigenpairs", index_alone(leading(k)), 0.0
    for steps in STEPS:
        began = time.perf_counter()
        found = solve_together(curvature.products, rights, leading(20), steps)
        seconds = time.perf_counter() - began
        yield f"top 20, then {steps} step{'s' * (steps > 1)}", np.asarray(found.solutions), seconds
    basis = _with_solved_counts(curvature, model, leading(20))
    yield "top 20 and the 10 class counts", index_alone(basis), 0.0


def _with_solved_counts(
    curvature: Curvature, model: rainpp.Model, pairs: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """A basis B of V and H⁻¹∇(count of class c), scaled so that BᵀHB is diagonal (Galerkin)."""
    asked = data.mnist().test_inputs.astype(np.float64)
    counts = [np.eye(10)[label][None].repeat(len(asked), axis=0) for label in range(10)]
    rights = jnp.stack([gradient_of_probabilities(model, asked, each) for each in counts])
    solved = solve_together(curvature.products, rights, pairs, 8).solutions
    spanned = jnp.linalg.qr(jnp.concatenate([pairs[1], solved]).T)[0].T
    # The counts of all classes sum to a constant: one direction is rounding.
    seen = spanned @ curvature.products(spanned).T
    values, turns = jnp.linalg.eigh((seen + seen.T) / 2)
    kept = values > 1e-8 * values[-1]
    return values[kept][::-1], (turns.T @ spanned)[kept][::-1]


def _agreement(
    complaints: dict[str, list[Floats]], predicted: Floats, actual: Floats
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    start = 0
    for width, group in complaints.items():
        columns = range(start, start + len(group))
        start += len(group)
        pairs = [(predicted[:, c], actual[:, c]) for c in columns]
        ranks = [np.corrcoef(rankdata(one), rankdata(other))[0, 1] for one, other in pairs]
        straight = [np.corrcoef(one, other)[0, 1] for one, other in pairs]
        sizes = [np.linalg.norm(one) / np.linalg.norm(other) for one, other in pairs]
        found[width] = {
            "lds": round(float(np.mean(ranks)), 3),
            "correlation": round(float(np.mean(straight)), 3),
            "size": round(float(np.mean(sizes)), 3),
        }
    return found


def _linear() -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    return models.apply_linear, {"weights": jnp.zeros((784, 10)), "bias": jnp.zeros(10)}


def _mlp() -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """784-32-10 with tanh: smooth, so that an optimum can be reached."""
    first, last = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate(MLP_SHAPES))
    params = {
        "first": first / 28,
        "shift": jnp.zeros(32),
        "last": last / 6,
        "bias": jnp.zeros(10),
    }

    def apply(params: dict[str, Any], inputs: Any) -> jax.Array:
        hidden = jnp.tanh(inputs @ params["first"] + params["shift"][None])
        return hidden @ params["last"] + params["bias"][None]

    return apply, params


def _cnn() -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """Convolutions of 4 x 4 with stride 4 and 3 x 3 with stride 2, 8 channels, tanh; linear."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"first": (4, 4, 1, 8), "second": (3, 3, 8, 8), "last": (4 * 4 * 8, 10)}
    params = {
        name: jax.random.normal(key, shape) / np.sqrt(np.prod(shape[:-1]))
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }

    def apply(params: dict[str, Any], inputs: Any) -> jax.Array:
        values = inputs.reshape(-1, 28, 28, 1)
        for layer, stride in (("first", 4), ("second", 2)):
            values = jnp.tanh(
                jax.lax.conv_general_dilated(
                    values,
                    params[layer],
                    (stride, stride),
                    "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
            )
        return values.reshape(values.shape[0], -1) @ params["last"] + params["bias"][None]

    return with_matrix_products(apply), params | {"bias": jnp.zeros(10)}


MLP_SHAPES = ((784, 32), (32, 10))
NETWORKS = {"logistic": _linear, "mlp": _mlp, "cnn": _cnn}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--subsets", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="Few complaints; nothing is saved.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
