"""Figure 7: the query gradient by backpropagation, and from stored projections (§6.6).

Stored are the projections ⟨∇p, v⟩ (V, R, k) of every probability of the inference database. They
are random here, of the right shape: what they hold changes no time. Beside it what §5.1 says of
storing them: tangents in forward mode on 20 vectors against the gradient of every probability by
backpropagation, on a few rows.

    python -m experiments.paper.fig7 [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments import commands
from experiments.paper.cells import Cell, Size
from experiments.paper.subjects import Subject, subject_of, subjects
from experiments.paper.timing import Parts, Record, median_of, run, seconds_of
from rainpp.index.score import contracted
from rainpp.lanczos.projection import project_inference
from rainpp.model import Network, batched
from rainpp.types import PyTree

KS = (5, 10, 20, 30, 40)
K_STORED = 20
# Of the comparison of the two modes: every one needs R gradients of all parameters.
ROWS = {"small": 128, "full": 1024}
_GRADIENTS_AT_ONCE = 16


def main() -> None:
    settings = {"ks": KS, "k_stored": K_STORED, "mode_rows": ROWS}
    run("fig7", __doc__ or "", parts, settings)


def parts(size: Size) -> Parts:
    """A network each."""
    return {name: partial(measure, cell) for name, cell in subjects(size)}


def measure(cell: Cell) -> Record:
    """Seconds of both ways, compiled before."""
    subject = subject_of(cell)
    record = subject.about  # one forward pass, which is not part of what is timed
    seconds_of(subject.query_gradient)
    return (
        record
        | {
            "unoptimised_s": median_of(subject.query_gradient),
            "stored_s": {str(k): _from_stored(subject, k) for k in KS},
        }
        | _modes(subject, ROWS[cell.size])
    )


def _from_stored(subject: Subject, k: int) -> float:
    generator = np.random.default_rng(0)
    weights = subject.weights
    projections = generator.standard_normal((*weights.shape, k), np.float32)
    classes = np.flatnonzero(np.any(weights != 0, axis=0))

    def contract() -> np.ndarray:
        return contracted(projections, weights, classes)

    seconds_of(contract)
    return median_of(contract, seconds=0.3)


def _modes(subject: Subject, count: int) -> Record:
    """Forward mode on 20 vectors and backpropagation of every probability, seconds of some rows."""
    made = subject.task
    count = min(count, len(made.pool.truth))
    rows = jax.tree.map(lambda leaf: leaf[:count], made.pool.inference)
    vectors, size = subject.vectors(K_STORED), subject.batches.projection

    def forward() -> Any:
        return project_inference(made.model, rows, vectors, batch_size=min(size, count))

    def backward() -> None:
        kernel = made.model.network.jit(every_gradient)
        for batch, _ in batched(rows, count, _GRADIENTS_AT_ONCE):
            # Not kept: R gradients of a row are as large as R models.
            jax.block_until_ready(kernel(made.model.theta, batch))

    seconds_of(forward)
    seconds_of(backward)
    return {
        "mode_rows": count,
        "forward_s": median_of(forward),
        "backward_s": median_of(backward),
    }


def every_gradient(network: Network, theta: jax.Array, rows: PyTree) -> jax.Array:
    """∇p of every row and class (b, R, d), a backward pass each."""

    def of_row(row: PyTree) -> jax.Array:
        alone = jax.tree.map(lambda leaf: leaf[None], row)
        return jax.jacrev(lambda t: network.probabilities(t, alone)[0])(theta)

    return jax.vmap(of_row)(rows)


if __name__ == "__main__":
    commands.run(main)
