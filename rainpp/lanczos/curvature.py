"""The training objective over batches: its value, gradient, and curvature along a vector.

J(θ) = (1/n) Σᵢ ℓ(θ, zᵢ) + ½·l2·‖θ‖². The mean is over all n rows, so a sum over batches is divided
once at the end; padding rows carry weight 0 and cannot change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.model import Model, Network
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree

Matvec = Callable[[jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batches:
    """Training rows cut into equal batches; the last one is padded with rows of weight 0."""

    inputs: PyTree  # leaves (num_batches, batch, ...)
    labels: jax.Array  # (num_batches, batch)
    weights: jax.Array  # (num_batches, batch), 1 for a row and 0 for padding


def make_batches(training: TrainingSet, batch_size: int) -> Batches:
    """The rows of `training` on the device, in order, `batch_size` at a time."""
    size = min(batch_size, training.num_rows)
    padding = -training.num_rows % size
    # Padding repeats a real row: its loss is finite for every model, where zeros may not be.
    rows = jax.tree.map(lambda leaf: _fold(np.asarray(leaf), padding, size), training.inputs)
    weights = np.concatenate([np.ones(training.num_rows), np.zeros(padding)])
    return Batches(
        inputs=rows,
        labels=_fold(training.labels, padding, size),
        weights=jnp.asarray(weights.reshape(-1, size), jnp.float32),
    )


def _fold(rows: np.ndarray, padding: int, size: int) -> jax.Array:
    if padding:
        rows = np.concatenate([rows, np.repeat(rows[:1], padding, axis=0)])
    return jnp.asarray(rows.reshape(-1, size, *rows.shape[1:]))


@dataclass(frozen=True, eq=False)
class Curvature:
    """The Hessian of J at θ*, as products with vectors; the matrix is never formed.

    Cost of one product: two forward and two backward passes over the rows. Memory: one batch.
    """

    model: Model
    batches: Batches
    num_rows: int

    @staticmethod
    def of(model: Model, training: TrainingSet, *, batch_size: int = 1024) -> Curvature:
        """Curvature of the mean loss over every row of `training`, plus l2."""
        return Curvature(model, make_batches(training, batch_size), training.num_rows)

    @property
    def dimension(self) -> int:
        """d."""
        return self.model.num_params

    def value(self) -> float:
        """J(θ*)."""
        model = self.model
        return float(model.network.jit(_value)(model.theta, self.batches, self._scale))

    def gradient(self) -> jax.Array:
        """∇J(θ*) (d,): zero at an optimum."""
        model = self.model
        return model.network.jit(_gradient)(model.theta, self.batches, self._scale)

    def hvp(self, vector: jax.Array) -> jax.Array:
        """H v (d,) for the Hessian of J at θ*."""
        model = self.model
        return model.network.jit(_hvp)(model.theta, self.batches, self._scale, vector)

    @property
    def _scale(self) -> tuple[int, float]:
        return self.num_rows, self.model.l2


Scale = tuple[Any, Any]  # n and l2


def _batch_loss(network: Network, theta: jax.Array, batch: Batches) -> jax.Array:
    losses = network.losses(theta, batch.inputs, batch.labels)
    return jnp.sum(losses * batch.weights.astype(losses.dtype))


def _sum_over(batches: Batches, of: Callable[[Batches], jax.Array], like: jax.Array) -> jax.Array:
    def add(total: jax.Array, batch: Batches) -> tuple[jax.Array, None]:
        return total + of(batch), None

    return jax.lax.scan(add, jnp.zeros_like(like), batches)[0]


def _value(network: Network, theta: jax.Array, batches: Batches, scale: Scale) -> jax.Array:
    num_rows, l2 = scale
    total = _sum_over(batches, partial(_batch_loss, network, theta), theta[0])
    return total / num_rows + 0.5 * l2 * jnp.sum(theta**2)


def _gradient(network: Network, theta: jax.Array, batches: Batches, scale: Scale) -> jax.Array:
    num_rows, l2 = scale
    slope = jax.grad(_batch_loss, argnums=1)
    return _sum_over(batches, partial(slope, network, theta), theta) / num_rows + l2 * theta


def _hvp(
    network: Network, theta: jax.Array, batches: Batches, scale: Scale, vector: jax.Array
) -> jax.Array:
    num_rows, l2 = scale

    def product(batch: Batches) -> jax.Array:
        slope = jax.grad(lambda t: _batch_loss(network, t, batch))
        return jax.jvp(slope, (theta,), (vector,))[1]

    return _sum_over(batches, product, theta) / num_rows + l2 * vector
