"""Lanczos with full reorthogonalisation: an orthonormal Krylov basis and its tridiagonal matrix.

Why not a library's: the iteration has to stop between any two products and look at its Ritz pairs,
go on from a file after a crash, find repeated eigenvalues by restarts, and take a product that runs
on several devices. SciPy's eigsh hides the iteration (and needs 2k + 1 vectors and restarts);
matfree's runs a fixed number of steps inside one trace; JAX's lobpcg needs a block and 5k products.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh_tridiagonal

from rainpp.lanczos.basis import Basis, make_basis
from rainpp.lanczos.curvature import Matvec


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
    _basis: Basis = field(init=False, repr=False)
    _alpha: list[float] = field(init=False, repr=False, default_factory=list[float])
    _beta: list[float] = field(init=False, repr=False, default_factory=list[float])
    _next: jax.Array = field(init=False, repr=False)
    _starts: list[int] = field(init=False, repr=False, default_factory=lambda: [0])

    def __post_init__(self) -> None:
        self._basis = make_basis(self.dimension, self.dtype)
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
        self._basis.append(self._next)
        image = self.matvec(self._next)
        self._alpha.append(float(jnp.vdot(self._next, image)))
        rest = self._basis.without(image)
        beta = float(jnp.linalg.norm(rest))
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

    def vectors(self, coordinates: np.ndarray) -> np.ndarray:
        """Vectors (k, d) of unit norm with the given coordinates (m, k) in the basis."""
        found = np.empty((coordinates.shape[1], self.dimension), self.dtype)
        self._basis.combined(coordinates, found)
        return found

    def state(self) -> dict[str, Any]:
        """What, with the rows of the basis and the next vector, is enough to go on."""
        return {"alpha": [*self._alpha], "beta": [*self._beta], "starts": [*self._starts]}

    def rows(self, start: int = 0) -> np.ndarray:
        """Rows of the basis from `start` on, then the next vector: (m + 1 - start, d)."""
        return np.concatenate([self._basis.rows(start), np.asarray(self._next)[None]])

    def restore(self, state: dict[str, Any], rows: np.ndarray) -> None:
        """Go on where `state` and `rows` (m + 1, d) were taken, to the last bit."""
        self._alpha, self._beta = list(state["alpha"]), list(state["beta"])
        self._starts = list(state["starts"])
        self._basis = make_basis(self.dimension, self.dtype)
        for row in rows[:-1]:
            self._basis.append(jnp.asarray(row))
        self._next = jnp.asarray(rows[-1])

    def _random_vector(self) -> jax.Array:
        key = jax.random.fold_in(self.key, self.size)
        vector = jax.random.normal(key, (self.dimension,), self.dtype)
        rest = self._basis.without(vector)
        return rest / jnp.linalg.norm(rest)
