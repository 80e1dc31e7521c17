"""Lanczos with full reorthogonalisation: an orthonormal Krylov basis and its tridiagonal matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh_tridiagonal

from rainpp.lanczos.curvature import Matvec

# Rows added to the basis at a time: the buffer never holds more than this many unused vectors, and
# each new size compiles once.
_GROWTH = 16


@dataclass
class Krylov:
    """A growing Lanczos factorisation H Q = Q T + β q eᵀ of a symmetric operator.

    One `step()` costs one product with H and two passes over the basis. When the Krylov space is
    exhausted (β = 0) the next vector is random and orthogonal to all others, so that repeated
    eigenvalues and null directions are found too and d steps give the whole spectrum.

    Attributes
    ----------
    matvec : v -> H v, on vectors (dimension,).
    dimension : d.
    key : seeds the start vector and any restart.
    dtype : of the basis.
    """

    matvec: Matvec
    dimension: int
    key: jax.Array
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    _basis: jax.Array = field(init=False, repr=False)
    _alpha: list[float] = field(init=False, repr=False, default_factory=list[float])
    _beta: list[float] = field(init=False, repr=False, default_factory=list[float])
    _next: jax.Array = field(init=False, repr=False)
    _starts: list[int] = field(init=False, repr=False, default_factory=lambda: [0])

    def __post_init__(self) -> None:
        self._basis = jnp.zeros((min(_GROWTH, self.dimension), self.dimension), self.dtype)
        self._next = self._random_vector()

    @property
    def size(self) -> int:
        """m: products made, and vectors in the basis."""
        return len(self._alpha)

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space."""
        return self.size == self.dimension

    def step(self) -> None:
        """Add one vector to the basis."""
        self._make_room()
        self._basis = self._basis.at[self.size].set(self._next)
        image = self.matvec(self._next)
        alpha = float(jnp.vdot(self._next, image))
        rest = _orthogonalise(image, self._basis)
        beta = float(jnp.linalg.norm(rest))
        self._alpha.append(alpha)
        scale = max(map(abs, [*self._alpha, *self._beta, np.finfo(self.dtype).tiny]))
        if self.exhausted:
            self._beta.append(0.0)
        elif beta <= 10 * np.finfo(self.dtype).eps * scale:
            # What is left is rounding: the space is invariant. Start a new one beside it.
            self._beta.append(0.0)
            self._next = self._random_vector()
            self._starts.append(self.size)
        else:
            self._beta.append(beta)
            self._next = rest / beta

    def may_hide_above(self, value: float) -> bool:
        """Whether more copies of an eigenvalue above `value` may still be unseen.

        One invariant space holds one copy of each eigenvalue. Once a space has ended, copies are
        found only by the next ones, until a whole space holds nothing larger than `value`.
        """
        if len(self._starts) == 1 or self.exhausted:
            return False
        first, last = self._starts[-2:]
        block = eigh_tridiagonal(self._alpha[first:last], self._beta[first : last - 1])[0]
        return len(self._starts) == 2 or bool(block.max() > value)

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values descending (m,), their residuals ‖H y − θ y‖ (m,), coordinates (m, m)."""
        values, coordinates = eigh_tridiagonal(self._alpha, self._beta[:-1])
        order = np.argsort(-values, kind="stable")
        coordinates = coordinates[:, order]
        return values[order], np.abs(self._beta[-1] * coordinates[-1]), coordinates

    def vectors(self, coordinates: np.ndarray) -> jax.Array:
        """Vectors (k, d) of unit norm with the given coordinates (m, k) in the basis."""
        weights = jnp.asarray(coordinates.T, self.dtype)
        return weights @ self._basis[: self.size]

    def _make_room(self) -> None:
        capacity = self._basis.shape[0]
        if self.size == capacity:
            extra = min(_GROWTH, self.dimension - capacity)
            zeros = jnp.zeros((extra, self.dimension), self.dtype)
            self._basis = jnp.concatenate([self._basis, zeros])

    def _random_vector(self) -> jax.Array:
        key = jax.random.fold_in(self.key, self.size)
        vector = jax.random.normal(key, (self.dimension,), self.dtype)
        rest = _orthogonalise(vector, self._basis)
        return rest / jnp.linalg.norm(rest)


@jax.jit
def _orthogonalise(vector: jax.Array, basis: jax.Array) -> jax.Array:
    """`vector` without its components along the rows of `basis` (rows of zeros do nothing).

    One Gram-Schmidt pass leaves rounding as large as what remains; a second removes it.
    """
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector
