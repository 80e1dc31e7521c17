"""The baseline: Rain (Wu et al. 2020) answers every complaint by conjugate gradients."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rainpp.bound_complaint import BoundComplaint
from rainpp.lanczos.conjugate_gradient import iterate
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.projection import project_training
from rainpp.metrics import auc_r
from rainpp.model import Model
from rainpp.training_set import TrainingSet


@dataclass(frozen=True)
class RainRun:
    """AUC_R after each iteration, and the time a complaint takes.

    Attributes
    ----------
    auc : (iterations,), for 1, 2, ... conjugate-gradient iterations.
    seconds_two : query gradient, two iterations and the scores of all rows: the paper's setting
        for MNIST (§6.5), compilation excluded.
    """

    auc: list[float]
    seconds_two: float


def run_rain(complaint: BoundComplaint, corrupted: np.ndarray, *, iterations: int) -> RainRun:
    """Rank deletions by ⟨H⁻¹∇q, ∇ℓ(z)⟩ with H⁻¹∇q from 1 .. `iterations` of plain CG."""
    solver = _Solver.of(complaint)
    auc = [auc_r(scores, corrupted) for scores in solver.scores(iterations)]
    began = time.perf_counter()  # everything is compiled by now
    for _ in solver.scores(2, only_last=True):
        pass
    return RainRun(auc, time.perf_counter() - began)


@dataclass(frozen=True)
class _Solver:
    complaint: BoundComplaint
    model: Model
    training: TrainingSet
    curvature: Curvature

    @staticmethod
    def of(complaint: BoundComplaint) -> _Solver:
        training, model = complaint.index.training, complaint.registered.model
        assert training is not None
        assert model is not None
        return _Solver(complaint, model, training, Curvature.of(model, training))

    def scores(self, iterations: int, *, only_last: bool = False) -> Iterator[np.ndarray]:
        """Score of every training row after each iteration (n,)."""
        wanted = self.complaint.complaint.direction * self.complaint.parameter_gradient()
        states = itertools.islice(iterate(self.curvature.hvp, wanted), 1, iterations + 1)
        for step, state in enumerate(states, start=1):
            if step == iterations or not only_last:
                along = project_training(self.model, self.training, state.solution[None, :])
                yield along.gradients[:, 0]
