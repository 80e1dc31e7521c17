"""Figure 6 and Table 4: the time of a complaint, part by part, of Rain and of Rain++ (§6.5).

The query gradient is backpropagated by both; nothing of the inference database is known before. Of
Rain: conjugate gradients with the Hessian of all rows, then the solution on the gradient of every
training row. Of Rain++: the query gradient on k vectors, then the projections of every row. The
vectors are random: what they hold changes no time.

    python -m experiments.paper.fig6 [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments import commands
from experiments.paper.cells import Cell, Size
from experiments.paper.subjects import Subject, subject_of, subjects
from experiments.paper.timing import Parts, Record, median_of, rounded, run, seconds_of
from rainpp.lanczos.conjugate_gradient import iterate

KS = (1, 5, 10, 20, 30, 40)
STEPS = {"small": 4, "full": 10}


def main() -> None:
    run("fig6", __doc__ or "", parts, {"ks": KS, "steps": STEPS})


def parts(size: Size) -> Parts:
    """A network each."""
    return {name: partial(measure, cell) for name, cell in subjects(size)}


def measure(cell: Cell) -> Record:
    """Seconds of every part, compiled before."""
    subject = subject_of(cell)
    about = subject.about  # one forward pass, which is not part of what is timed
    gradient = _compiled(subject)
    steps, stopped = _steps(subject, gradient, STEPS[cell.size])
    solution = jnp.asarray(gradient)[None]
    return about | {
        "query_gradient_s": median_of(subject.query_gradient),
        "cg_step_s": rounded(statistics.median(steps)),
        "cg_steps_s": [rounded(value) for value in steps],
        "stopped_early": stopped,
        "rain_score_s": median_of(lambda: subject.training_projections(solution)),
        "rain_steps": subject.rain_steps,
        "rainpp_score_s": {str(k): score_seconds(subject, gradient, k) for k in KS},
    }


def _compiled(subject: Subject) -> jax.Array:
    """The query gradient, once everything has been called."""
    gradient = subject.query_gradient()
    _steps(subject, gradient, 2)
    few = subject.first_rows(subject.batches.projection)
    subject.training_projections(gradient[None], few)
    return gradient


def _steps(subject: Subject, gradient: jax.Array, count: int) -> tuple[list[float], bool]:
    """Seconds of each step, and whether a direction of negative curvature ended them early.

    A step is one product with the Hessian, and the few products of vectors around it; the one that
    ends them is a product too, and counts.
    """
    states = iterate(subject.curvature.hvp, gradient)
    next(states)  # zero
    found: list[float] = []
    while len(found) < count:
        began = time.perf_counter()
        state = next(states, None)
        jax.block_until_ready(None if state is None else state.solution)
        found.append(time.perf_counter() - began)
        if state is None:
            return found, True
    return found, False


def score_seconds(subject: Subject, gradient: jax.Array, k: int) -> float:
    """Of the scores of all training rows from their projections on k vectors."""
    vectors = subject.vectors(k)
    projections = np.ones((subject.task.training.num_rows, k), np.float32)
    values = np.ones(k)

    def score() -> np.ndarray:
        along = np.asarray(vectors @ gradient, np.float64)
        return projections @ (along / values).astype(np.float32)

    seconds_of(score)
    return median_of(score, seconds=0.2)


if __name__ == "__main__":
    commands.run(main)
