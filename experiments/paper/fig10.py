"""Figure 10: what the offline stage takes, by the number of eigenpairs (§6.7).

The gradient of every training row, and every probability of the inference database, projected on
k vectors. The vectors are random: what they hold changes no time. Beside it, once, the search for
20 eigenpairs from a sample of the rows. Both as `rainpp.precompute` does it.

    python -m experiments.paper.fig10 [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from experiments import commands
from experiments.paper.cells import Cell, Size
from experiments.paper.subjects import Subject, subject_of, subjects
from experiments.paper.timing import Parts, Record, median_of, rounded, run, seconds_of
from experiments.timed_products import Clock, TimedRequest, timed
from rainpp.lanczos.projection import project_inference
from rainpp.lanczos.subsample import sampled_eigenpairs

KS = {"small": (5, 10, 20), "full": (5, 10, 20, 30, 40)}
K_FOUND = 20


def main() -> None:
    run("fig10", __doc__ or "", parts, {"ks": KS, "k_found": K_FOUND})


def parts(size: Size) -> Parts:
    """A network each."""
    return {name: partial(measure, cell) for name, cell in subjects(size)}


def measure(cell: Cell) -> Record:
    """Seconds by k, compiled before."""
    subject = subject_of(cell)
    found = subject.about
    projected = {str(k): _projected(subject, k) for k in KS[cell.size]}
    for name in ("training_s", "inference_s", "first_call_s"):
        found[name] = {k: times[name] for k, times in projected.items()}
    return found | _eigenpairs(subject)


def _projected(subject: Subject, k: int) -> dict[str, float]:
    made, size = subject.task, subject.batches.projection
    vectors, few = subject.vectors(k), subject.first_rows(size)
    part = jax.tree.map(lambda leaf: leaf[:size], made.pool.inference)

    def inference(rows: object) -> tuple[np.ndarray, np.ndarray]:
        return project_inference(made.model, rows, vectors, batch_size=size)

    compiling = seconds_of(lambda: subject.training_projections(vectors, few))
    compiling += seconds_of(lambda: inference(part))
    return {
        "training_s": median_of(lambda: subject.training_projections(vectors)),
        "inference_s": median_of(lambda: inference(made.pool.inference)),
        "first_call_s": rounded(compiling),
    }


def _eigenpairs(subject: Subject) -> Record:
    """The search, without what compiling took."""
    made, clock = subject.task, Clock()
    request = TimedRequest(
        made.model,
        made.training,
        K_FOUND,
        subject.weights.shape[1],
        rows=subject.curvature_rows,
        batch_size=subject.batches.product,
        clock=clock,
    )
    found, seconds = timed(lambda: sampled_eigenpairs(request))
    return {
        "k_found": K_FOUND,
        "eigenpairs_s": rounded(seconds - clock.compiling),
        "curvature_rows": found.rows,
    }


if __name__ == "__main__":
    commands.run(main)
