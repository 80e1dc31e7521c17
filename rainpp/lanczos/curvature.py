"""The training objective over batches: its value, gradient, and curvature along a vector.

J(θ) = (1/n) Σᵢ ℓ(θ, zᵢ) + ½·l2·‖θ‖². The mean is over all n rows, so a sum over batches is divided
once at the end; padding rows carry weight 0 and cannot change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.model import Model
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
        return float(self._compiled.value(self.model.theta, self.batches))

    def gradient(self) -> jax.Array:
        """∇J(θ*) (d,): zero at an optimum."""
        return self._compiled.gradient(self.model.theta, self.batches)

    def hvp(self, vector: jax.Array) -> jax.Array:
        """H v (d,) for the Hessian of J at θ*."""
        return self._compiled.hvp(self.model.theta, self.batches, vector)

    @cached_property
    def _compiled(self) -> _Compiled:
        return _compile(self.model, self.num_rows)


@dataclass(frozen=True)
class _Compiled:
    value: Any
    gradient: Any
    hvp: Any


def _compile(model: Model, num_rows: int) -> _Compiled:
    def batch_loss(theta: jax.Array, batch: Batches) -> jax.Array:
        losses = model.example_losses(theta, batch.inputs, batch.labels)
        return jnp.sum(losses * batch.weights.astype(losses.dtype))

    def mean_over(per_batch: Callable[[Batches], jax.Array], batches: Batches, like: Any) -> Any:
        def add(total: jax.Array, batch: Batches) -> tuple[jax.Array, None]:
            return total + per_batch(batch), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(like), batches)
        return total / num_rows

    def value(theta: jax.Array, batches: Batches) -> jax.Array:
        data = mean_over(lambda batch: batch_loss(theta, batch), batches, theta[0])
        return data + 0.5 * model.l2 * jnp.sum(theta**2)

    def gradient(theta: jax.Array, batches: Batches) -> jax.Array:
        slope = jax.grad(batch_loss)
        return mean_over(lambda batch: slope(theta, batch), batches, theta) + model.l2 * theta

    def hvp(theta: jax.Array, batches: Batches, vector: jax.Array) -> jax.Array:
        def product(batch: Batches) -> jax.Array:
            return jax.jvp(lambda t: jax.grad(batch_loss)(t, batch), (theta,), (vector,))[1]

        return mean_over(product, batches, theta) + model.l2 * vector

    return _Compiled(jax.jit(value), jax.jit(gradient), jax.jit(hvp))
