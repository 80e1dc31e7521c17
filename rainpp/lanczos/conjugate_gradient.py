"""Solving H x = g by conjugate gradients, plain (Rain's way) or deflated by known eigenpairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rainpp.lanczos.curvature import Matvec

Preconditioner = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Iterate:
    """One step of conjugate gradients: the solution so far and ‖g − H x‖/‖g‖."""

    solution: jax.Array
    relative_residual: float


def deflation(values: jax.Array, vectors: jax.Array) -> Preconditioner:
    """M⁻¹ r = Σ vᵢ⟨vᵢ, r⟩/λᵢ + (r − VᵀVr)/λₖ: exact on known pairs, λₖ stands in for the rest."""

    def apply(residual: jax.Array) -> jax.Array:
        inside = vectors @ residual
        return (inside / values) @ vectors + (residual - inside @ vectors) / values[-1]

    return apply


def iterate(
    matvec: Matvec, right: jax.Array, precondition: Preconditioner | None = None
) -> Iterator[Iterate]:
    """Successive solutions of H x = `right`; the zeroth is M⁻¹ `right` or, without M, zero.

    Ends when the residual is zero or when a direction of no or negative curvature appears (an
    indefinite H), where further steps would be meaningless; the last good solution has been given.
    """
    solve = precondition or (lambda residual: residual)
    norm = float(jnp.linalg.norm(right))
    solution = solve(right) if precondition else jnp.zeros_like(right)
    residual = right - matvec(solution) if precondition else right
    direction = solved = solve(residual)
    energy = float(jnp.vdot(residual, solved))
    yield Iterate(solution, float(jnp.linalg.norm(residual)) / norm if norm else 0.0)
    while energy > 0:
        image = matvec(direction)
        curvature = float(jnp.vdot(direction, image))
        if curvature <= 0:
            return
        step = energy / curvature
        solution, residual = solution + step * direction, residual - step * image
        yield Iterate(solution, float(jnp.linalg.norm(residual)) / norm)
        solved = solve(residual)
        before, energy = energy, float(jnp.vdot(residual, solved))
        direction = solved + (energy / before) * direction
