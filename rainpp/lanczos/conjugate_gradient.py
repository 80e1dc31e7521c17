"""Solving H x = g by conjugate gradients, plain (Rain's way) or deflated by known eigenpairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.lanczos.curvature import Matvec
from rainpp.types import FloatArray

Products = Callable[[jax.Array], jax.Array]

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


@dataclass(frozen=True, eq=False)
class Solutions:
    """Solutions of H x = g for several g, after the same number of steps.

    Attributes
    ----------
    solutions : (m, d).
    residuals : (steps + 1, m), ‖g − H x‖/‖g‖ after each step; the first is the index's own.
    stopped : (m,), whether a direction without positive curvature ended the iteration early.
    """

    solutions: jax.Array
    residuals: FloatArray
    stopped: np.ndarray


def solve_together(
    products: Products,
    rights: jax.Array,
    eigenpairs: tuple[jax.Array, jax.Array],
    steps: int,
    *,
    step_done: Callable[[int, np.ndarray], None] | None = None,
) -> Solutions:
    """H⁻¹ g for every row g of `rights`, by conjugate gradients preconditioned by eigenpairs of H.

    Starts from what the index itself answers, Σ vᵢ⟨vᵢ, g⟩/λᵢ. All g share the passes over the
    training rows, not their directions: a block Krylov space would hold m·steps vectors of d
    numbers.

    Parameters
    ----------
    products : (m, d) -> H v for every row.
    rights : (m, d).
    eigenpairs : values (k,) descending and vectors (k, d) of H or of a sample's curvature.
    steps : of each; one product a step, and one before the first.
    step_done : told the step and the residuals (m,) so far; may raise to end it all.
    """
    values, vectors = eigenpairs
    norms = _norms(rights)
    safe = jnp.where(norms > 0, norms, 1)
    solutions = (rights @ vectors.T / values[None]) @ vectors
    residuals = rights - products(solutions)
    precondition = deflation_of_rows(values, vectors)
    solved = precondition(residuals)
    directions, energy = solved, _dots(residuals, solved)
    history = [np.asarray(_norms(residuals) / safe, np.float64)]
    alive = np.asarray(norms > 0)
    if step_done:
        step_done(0, history[0])
    for step in range(1, steps + 1):
        images = products(directions)
        curvature = _dots(directions, images)
        alive = alive & np.asarray((curvature > 0) & (energy > 0))
        length = jnp.where(alive, energy / jnp.where(alive, curvature, 1), 0)
        solutions = solutions + length[:, None] * directions
        residuals = residuals - length[:, None] * images
        solved = precondition(residuals)
        before, energy = energy, _dots(residuals, solved)
        turn = jnp.where(alive, energy / jnp.where(alive, before, 1), 0)
        directions = solved + turn[:, None] * directions
        history.append(np.asarray(_norms(residuals) / safe, np.float64))
        if step_done:
            step_done(step, history[-1])
        if not alive.any():
            break
    zero = np.asarray(norms == 0)
    return Solutions(solutions, np.stack(history), ~alive & ~zero & (history[-1] > 1e-6))


def deflation_of_rows(values: jax.Array, vectors: jax.Array) -> Products:
    """`deflation` for every row of (m, d)."""

    def apply(residuals: jax.Array) -> jax.Array:
        inside = residuals @ vectors.T
        return (inside / values[None]) @ vectors + (residuals - inside @ vectors) / values[-1]

    return apply


def _dots(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.sum(first * second, axis=1)


def _norms(rows: jax.Array) -> jax.Array:
    return jnp.linalg.norm(rows, axis=1)
