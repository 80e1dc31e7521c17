"""Derivatives of a batch of predictions along the eigenvectors: k forward passes or a few backward.

Forward mode gives the derivatives of every row, which a later deletion can take away again.
Backward mode gives them summed for each group a batch touches, with one pass a group.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from rainpp.errors import DataError, ModelError, named
from rainpp.lanczos.devices import padded_rows
from rainpp.model import Model, Network
from rainpp.types import PyTree

Array = NDArray[np.floating[Any]]

# Rows are padded to a power of two between these, so that batches of any size share few kernels.
_FEWEST, _MOST = 64, 2048
# Backward passes are padded likewise, more finely as each costs something.
_GROUPS = (1, 2, 3, 4, 6, *(8 * 2**power for power in range(24)))
# A backward pass costs as much as this many forward passes: measured 1.9 to 2.4 for logistic
# regression and small networks, where a tangent costs 0.5 to 1.
_BACKWARD = 2.0


@dataclass(frozen=True, eq=False)
class Passes:
    """A model and the directions (k, d) along which its predictions are differentiated."""

    model: Model
    vectors: jax.Array

    @staticmethod
    def of(model: Model, vectors: Array) -> Passes:
        """With the vectors where the parameters are, in their type."""
        return Passes(model, jnp.asarray(vectors, model.theta.dtype))

    @property
    def k(self) -> int:
        """Number of directions."""
        return int(self.vectors.shape[0])

    def backward_is_cheaper(self, groups: int) -> bool:
        """Whether one backward pass a group costs less than k forward passes.

        A rule and no clock: a batch that is replayed must take the same way, as the two differ in
        the last bits of single precision.
        """
        return groups * _BACKWARD < self.k

    def forward(self, inputs: PyTree) -> tuple[Array, Array]:
        """Probabilities (b, R) and their derivatives (b, R, k).

        Raises
        ------
        DataError : the model gives NaN for a row.
        ModelError : it cannot read the rows.
        """
        kernel = self.model.network.jit(_forward)
        with _named_failures():
            parts = [kernel(self.model.theta, self.vectors, rows) for rows, _ in _padded(inputs)]
        return _checked(_joined(parts, 0, inputs)), _joined(parts, 1, inputs)

    def backward(self, inputs: PyTree, weights: Array) -> tuple[Array, NDArray[np.float64]]:
        """Probabilities (b, R) and Σ weight · derivative (C, k) for weights (C, b, R).

        Raises
        ------
        DataError : the model gives NaN for a row.
        ModelError : it cannot read the rows.
        """
        kernel = self.model.network.jit(_backward)
        groups = next(size for size in _GROUPS if size >= len(weights))
        parts: list[tuple[Any, Any]] = []
        for rows, where in _padded(inputs):
            size = jax.tree.leaves(rows)[0].shape[0]
            padded = np.zeros((groups, size, weights.shape[2]), weights.dtype)
            padded[: len(weights), : where.stop - where.start] = weights[:, where]
            with _named_failures():
                parts.append(kernel(self.model.theta, self.vectors, rows, padded))
        found = [np.asarray(part[1], np.float64) for part in parts]
        total: NDArray[np.float64] = np.sum(found, axis=0)
        return _checked(_joined(parts, 0, inputs)), total[: len(weights)]

    def probabilities(self, inputs: PyTree) -> Array:
        """Probabilities (b, R).

        Raises
        ------
        DataError : the model gives NaN for a row.
        ModelError : it cannot read the rows.
        """
        kernel = self.model.network.jit(Network.probabilities)
        with _named_failures():
            parts = [(kernel(self.model.theta, rows),) for rows, _ in _padded(inputs)]
        return _checked(_joined(parts, 0, inputs))


@contextmanager
def _named_failures() -> Generator[None]:
    """Rows that the model cannot read: JAX says so in the terms of its own operations."""
    try:
        yield
    except (TypeError, ValueError) as problem:
        raise ModelError(
            f"the model cannot read these rows: {named(problem)}. Call it with the columns it was "
            "trained on, in their order."
        ) from problem


def _forward(network: Network, theta: jax.Array, vectors: jax.Array, rows: PyTree) -> Any:
    probabilities, along = jax.linearize(lambda t: network.probabilities(t, rows), theta)
    return probabilities, jnp.moveaxis(jax.vmap(along)(vectors), 0, -1)


def _backward(
    network: Network, theta: jax.Array, vectors: jax.Array, rows: PyTree, weights: jax.Array
) -> Any:
    probabilities, pull = jax.vjp(lambda t: network.probabilities(t, rows), theta)
    gradients = jax.vmap(lambda w: pull(w.astype(probabilities.dtype))[0])(weights)
    return probabilities, gradients @ vectors.T


def _padded(inputs: PyTree) -> Iterator[tuple[PyTree, slice]]:
    total = int(jax.tree.leaves(inputs)[0].shape[0])
    for start in range(0, total, _MOST):
        stop = min(start + _MOST, total)
        size = _power_of_two(stop - start, _FEWEST)
        where = slice(start, start + size)
        rows = jax.tree.map(lambda leaf, at=where, end=stop: padded_rows(leaf, at, end), inputs)
        yield rows, slice(start, stop)


def _power_of_two(count: int, least: int) -> int:
    return max(least, 1 << max(0, count - 1).bit_length())


def _joined(parts: list[Any], place: int, inputs: PyTree) -> Array:
    """Results of all chunks, without padding: only the last can have any."""
    total = int(jax.tree.leaves(inputs)[0].shape[0])
    found = [np.asarray(part[place]) for part in parts]
    return (found[0] if len(found) == 1 else np.concatenate(found))[:total]


def _checked(probabilities: Array) -> Array:
    bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if bad.size:
        raise DataError(
            f"the model's output for row {bad[0]} of the batch is not finite ({bad.size} such "
            "rows). Look for NaN among the features, and leave such rows out or fill them."
        )
    return probabilities
