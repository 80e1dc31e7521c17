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
    halfway : (m, d), after half of the steps asked for: how far the second half moved them.
    residuals : (steps + 1, m), ‖g − H x‖/‖g‖ after each step; the first is the index's own.
    stopped : (m,), whether a direction without positive curvature ended the iteration early.
    """

    solutions: jax.Array
    halfway: jax.Array
    residuals: FloatArray
    stopped: np.ndarray


def solve_together(
    products: Products,
    rights: jax.Array,
    eigenpairs: tuple[jax.Array, jax.Array],
    steps: int,
    *,
    enough: float = 0.0,
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
    enough : a relative residual at which all may end before.
    step_done : told the step and the residuals (m,) so far; may raise to end it all.
    """
    answers = _answers_of_index(rights, eigenpairs)
    state = _first_state(rights, answers, products(answers), eigenpairs)
    history, halfway = [np.asarray(state.relative, np.float64)], state.solutions
    if step_done:
        step_done(0, history[0])
    for step in range(1, steps + 1):
        if (history[-1] <= enough).all():
            break
        state = _next_state(state, products(state.directions), eigenpairs)
        history.append(np.asarray(state.relative, np.float64))
        if step <= steps // 2:
            halfway = state.solutions
        if step_done:
            step_done(step, history[-1])
        if not np.asarray(state.alive).any():
            break
    stopped = ~np.asarray(state.alive) & (history[-1] > _SOLVED)
    return Solutions(state.solutions, halfway, np.stack(history), stopped)


# A relative residual of rounding: what remains is no reason to complain of lost curvature.
_SOLVED = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    """Conjugate gradients of m systems between two steps; rows belong together."""

    solutions: jax.Array  # (m, d)
    residuals: jax.Array  # (m, d)
    directions: jax.Array  # (m, d)
    energy: jax.Array  # (m,)
    alive: jax.Array  # (m,)
    norms: jax.Array  # (m,)

    @property
    def relative(self) -> jax.Array:
        """‖g − H x‖/‖g‖ (m,), 0 where g is."""
        return _ratio(jnp.linalg.norm(self.residuals, axis=1), self.norms)


@jax.jit
def _answers_of_index(rights: jax.Array, pairs: tuple[jax.Array, jax.Array]) -> jax.Array:
    values, vectors = pairs
    return (rights @ vectors.T / values[None]) @ vectors


@jax.jit
def _first_state(
    rights: jax.Array, answers: jax.Array, images: jax.Array, pairs: tuple[jax.Array, jax.Array]
) -> _State:
    residuals = rights - images
    solved = _deflated(residuals, pairs)
    norms = jnp.linalg.norm(rights, axis=1)
    return _State(answers, residuals, solved, _dots(residuals, solved), norms > 0, norms)


@jax.jit
def _next_state(state: _State, images: jax.Array, pairs: tuple[jax.Array, jax.Array]) -> _State:
    """One step for every system that is alive; the others stay where they are."""
    curvature = _dots(state.directions, images)
    alive = state.alive & (curvature > 0) & (state.energy > 0)
    length = jnp.where(alive, _ratio(state.energy, curvature), 0)[:, None]
    residuals = state.residuals - length * images
    solved = _deflated(residuals, pairs)
    energy = _dots(residuals, solved)
    turn = jnp.where(alive, _ratio(energy, state.energy), 0)[:, None]
    return _State(
        state.solutions + length * state.directions,
        residuals,
        solved + turn * state.directions,
        energy,
        alive,
        state.norms,
    )


def _deflated(residuals: jax.Array, pairs: tuple[jax.Array, jax.Array]) -> jax.Array:
    """`deflation` for every row of (m, d)."""
    values, vectors = pairs
    inside = residuals @ vectors.T
    return (inside / values[None]) @ vectors + (residuals - inside @ vectors) / values[-1]


def _ratio(above: jax.Array, below: jax.Array) -> jax.Array:
    return jnp.where(below != 0, above / jnp.where(below != 0, below, 1), 0)


def _dots(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.sum(first * second, axis=1)
