"""Is the model at an optimum of J? Influence estimates assume ∇J(θ*) = 0."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.errors import NotAtOptimumWarning
from rainpp.lanczos.curvature import Curvature
from rainpp.model import Network
from rainpp.training_set import TrainingSet

# ‖∇J‖ relative to the size of one row's gradient. Measured on MNIST logistic regression: 0.9 at
# zero weights, 0.03 after one epoch of SGD, 1e-4 after L-BFGS to ‖∇J‖ = 1e-4.
_LARGE = 0.05
_SAMPLE = 64


@dataclass(frozen=True)
class Optimality:
    """How far θ* is from an optimum.

    Attributes
    ----------
    gradient_norm : ‖∇J(θ*)‖.
    row_gradient_norm : root mean square of ‖∇ℓ(θ*, z)‖ over a sample of rows.
    """

    gradient_norm: float
    row_gradient_norm: float

    @property
    def relative(self) -> float:
        """The ratio of the two; rows that do not cancel give about 1, an optimum gives 0.

        Infinite where the sampled rows have no gradient and yet the objective has one.
        """
        if self.gradient_norm == 0:
            return 0.0
        return self.gradient_norm / self.row_gradient_norm if self.row_gradient_norm else np.inf

    @property
    def at_optimum(self) -> bool:
        """Whether the ratio is at most 0.05, or the gradient vanishes altogether."""
        return self.relative <= _LARGE

    @property
    def size(self) -> str:
        """How large the gradient is, in words."""
        if self.row_gradient_norm == 0:
            return "and none of it from single rows: those that were looked at have no gradient"
        return f"{self.relative:.0%} of a single row's gradient (at most {_LARGE:.0%} expected)"


def measure_optimality(curvature: Curvature, training: TrainingSet, *, seed: int) -> Optimality:
    """‖∇J‖ over all rows beside the size of single gradients; warns when it is not small."""
    norm = float(jnp.linalg.norm(curvature.gradient()))
    result = Optimality(norm, _row_gradient_norm(curvature, training, seed=seed))
    if not result.at_optimum:
        warnings.warn(
            f"the model is not at an optimum: |grad J| is {norm:.3g}, {result.size}. "
            "Influence estimates assume zero: train longer, or check that loss and l2 are the "
            "ones it was trained with.",
            NotAtOptimumWarning,
            stacklevel=5,  # the call of precompute
        )
    return result


def _row_gradient_norm(curvature: Curvature, training: TrainingSet, *, seed: int) -> float:
    model = curvature.model
    count = min(_SAMPLE, training.num_rows)
    rows = np.sort(np.random.default_rng(seed).choice(training.num_rows, count, replace=False))
    sample = training.take(rows)
    leaves = jax.tree.map(jnp.asarray, (sample.inputs, sample.labels))
    squares = model.network.jit(_squared_gradient_norms)(model.theta, leaves)
    return float(jnp.sqrt(jnp.mean(squares)))


def _squared_gradient_norms(network: Network, theta: jax.Array, rows: Any) -> jax.Array:
    def squared(row: tuple[Any, Any]) -> jax.Array:
        def loss(t: jax.Array) -> jax.Array:
            inputs = jax.tree.map(lambda leaf: leaf[None], row[0])
            return network.losses(t, inputs, row[1][None])[0]

        return jnp.sum(jax.grad(loss)(theta) ** 2)

    # One row at a time: a vmap would hold a gradient (d,) for every row of the sample.
    return jax.lax.map(squared, rows)
