"""The training objective over batches: its value, gradient, and curvature along a vector.

J(θ) = (1/n) Σᵢ wᵢ ℓ(θ, zᵢ) + ½·l2·‖θ‖², all wᵢ = 1 unless rows were trained with weights. The sum
over all rows is divided by n once, at the end; padding rows carry weight 0 and cannot change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.lanczos.batches import (
    RESIDENT_BYTES,
    Batches,
    BatchesApart,
    StreamedBatches,
    make_batches,
)
from rainpp.lanczos.devices import sum_over_rows
from rainpp.lanczos.sample import Sample
from rainpp.model import Model, Network
from rainpp.training_set import TrainingSet

Matvec = Callable[[jax.Array], jax.Array]

KINDS = ("hessian", "gauss_newton")


@dataclass(frozen=True, eq=False)
class Curvature:
    """The curvature of J at θ*, as products with vectors; the matrix is never formed.

    Cost of one product: two forward and two backward passes over the rows (Gauss-Newton: one
    forward with a tangent and one backward pass). Memory: one batch.

    Attributes
    ----------
    num_rows : n, whatever sample of the rows the batches hold.
    kind : "hessian" of J, or its "gauss_newton" part Jᵀ ∇²ℓ J, which has no negative eigenvalue
        for a convex loss and equals the Hessian for a linear model.
    """

    model: Model
    batches: Batches | BatchesApart | StreamedBatches
    num_rows: int
    kind: str = "hessian"

    @staticmethod
    def of(
        model: Model,
        training: TrainingSet,
        *,
        batch_size: int = 1024,
        sample: Sample | None = None,
        kind: str = "hessian",
        resident_bytes: int = RESIDENT_BYTES,
        apart: bool = False,
    ) -> Curvature:
        """Curvature of the mean loss, plus l2, from every row of `training` or from a sample.

        Parameters
        ----------
        apart : run every batch by itself, so that any number of them share one compiled product.
        """
        batches = make_batches(
            training, batch_size, sample=sample, resident_bytes=resident_bytes, apart=apart
        )
        return Curvature(model, batches, training.num_rows, kind)

    @property
    def dimension(self) -> int:
        """d."""
        return self.model.num_params

    @property
    def dtype(self) -> np.dtype:
        """Of θ*."""
        return np.dtype(self.model.theta.dtype)

    @property
    def rows(self) -> int:
        """How many rows a product looks at."""
        return self.batches.rows

    def value(self) -> float:
        """J(θ*)."""
        total = float(self._sum(_value))
        squares = float(jnp.sum(self.model.theta**2))
        return total / self.num_rows + 0.5 * self.model.l2 * squares

    def gradient(self) -> jax.Array:
        """∇J(θ*) (d,): zero at an optimum."""
        return self._sum(_gradient) / self.num_rows + self.model.l2 * self.model.theta

    def hvp(self, vector: jax.Array) -> jax.Array:
        """H v (d,)."""
        return _averaged(
            self._sum(_PRODUCTS[self.kind], vector), vector, (self.num_rows, self.model.l2)
        )

    def products(self, vectors: jax.Array) -> jax.Array:
        """H v for every row of `vectors` (m, d); all share each pass over the rows.

        Cost: the primal part once, the tangents m times; memory m times that of one product.
        """
        if len(vectors) == 1:
            return self.hvp(vectors[0])[None]
        total = self._sum(_SEVERAL_PRODUCTS[self.kind], vectors)
        return _averaged(total, vectors, (self.num_rows, self.model.l2))

    def _sum(self, function: Callable[..., jax.Array], *along: jax.Array) -> jax.Array:
        """Σ over the chunks of `function`, a weighted sum over the rows of one."""
        network, theta = self.model.network, self.model.theta
        parts = (
            sum_over_rows(network, function, theta, chunk, *along)
            for chunk in self.batches.chunks()
        )
        total = next(parts)
        for part in parts:
            total = total + part
        return total


@jax.jit
def _averaged(total: jax.Array, vector: jax.Array, scale: tuple[Any, Any]) -> jax.Array:
    num_rows, l2 = scale
    return total / num_rows + l2 * vector


def _batch_loss(network: Network, theta: jax.Array, batch: Batches) -> jax.Array:
    losses = network.losses(theta, batch.inputs, batch.labels)
    return jnp.sum(losses * batch.weights.astype(losses.dtype))


def _sum_over(batches: Batches, of: Callable[[Batches], jax.Array], like: jax.Array) -> jax.Array:
    def add(total: jax.Array, batch: Batches) -> tuple[jax.Array, None]:
        return total + of(batch), None

    return jax.lax.scan(add, jnp.zeros_like(like), batches)[0]


def _value(network: Network, theta: jax.Array, batches: Batches) -> jax.Array:
    return _sum_over(batches, partial(_batch_loss, network, theta), theta[0])


def _gradient(network: Network, theta: jax.Array, batches: Batches) -> jax.Array:
    slope = jax.grad(_batch_loss, argnums=1)
    return _sum_over(batches, partial(slope, network, theta), theta)


def _hvp(network: Network, theta: jax.Array, batches: Batches, vector: jax.Array) -> jax.Array:
    def product(batch: Batches) -> jax.Array:
        slope = jax.grad(lambda t: _batch_loss(network, t, batch))
        return jax.jvp(slope, (theta,), (vector,))[1]

    return _sum_over(batches, product, theta)


def _gauss_newton(
    network: Network, theta: jax.Array, batches: Batches, vector: jax.Array
) -> jax.Array:
    slope = jax.vmap(jax.grad(network.loss.of_row))

    def product(batch: Batches) -> jax.Array:
        def outputs_at(t: jax.Array) -> jax.Array:
            return network.outputs(t, batch.inputs)

        outputs, pull = jax.vjp(outputs_at, theta)
        along = jax.jvp(outputs_at, (theta,), (vector,))[1]
        bent = jax.jvp(lambda o: slope(o, batch.labels), (outputs,), (along,))[1]
        return pull(bent * batch.weights.astype(bent.dtype)[:, None])[0]

    return _sum_over(batches, product, theta)


def _hvps(network: Network, theta: jax.Array, batches: Batches, vectors: jax.Array) -> jax.Array:
    return jax.vmap(partial(_hvp, network, theta, batches))(vectors)


def _gauss_newtons(
    network: Network, theta: jax.Array, batches: Batches, vectors: jax.Array
) -> jax.Array:
    return jax.vmap(partial(_gauss_newton, network, theta, batches))(vectors)


_PRODUCTS = {"hessian": _hvp, "gauss_newton": _gauss_newton}
_SEVERAL_PRODUCTS = {"hessian": _hvps, "gauss_newton": _gauss_newtons}


def product_kernel(network: Network, kind: str) -> Callable[..., Any]:
    """The compiled product of `kind`: (θ, batches, v) -> its sum over rows (d,)."""
    return network.jit(_PRODUCTS[kind])
