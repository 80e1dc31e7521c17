"""What stands behind a ranking: coverage, refinement and predicted changes of complaints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from rainpp.bound_complaint import BoundComplaint, KeptCell
from rainpp.errors import RainError
from rainpp.index.artifact import Index
from rainpp.inference import RegisteredModel
from rainpp.lanczos.conjugate_gradient import deflation, iterate
from rainpp.lanczos.constraint import multipliers, shares
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.influence import query_change
from rainpp.lanczos.projection import project_training
from rainpp.model import Model
from rainpp.training_set import TrainingSet


@dataclass(frozen=True, eq=False)
class RetrainableBacking:
    """Model, training set and query behind a ranking: coverage, refinement, retraining."""

    complaints: tuple[BoundComplaint, ...]
    factors: np.ndarray
    kept: tuple[KeptCell, ...] = ()

    @property
    def index(self) -> Index:
        """The index the ranking came from."""
        return self.complaints[0].index

    @property
    def registered(self) -> RegisteredModel:
        """The model the complaints are about."""
        return self.complaints[0].registered

    @property
    def model(self) -> Model:
        """The trained model itself."""
        return self.complaints[0].model

    @property
    def training(self) -> TrainingSet:
        """The training rows.

        Raises
        ------
        RainError : the index came from disk and the rows were not given.
        """
        if self.index.training is None:
            raise RainError(
                "the training rows are not at hand: the index was loaded from disk. Pass "
                f"data=(inputs, labels) to register_model('{self.registered.name}', ...)."
            )
        return self.index.training

    def coverage(self) -> float:
        """‖V g‖²/‖g‖² for the combined gradient g; 0 when the gradient itself is zero."""
        vectors = self.index.eigenvectors.astype(np.float64)
        gradient, moves = self._gradients()
        if len(moves):
            values = self.index.eigenvalues
            gradient = gradient - shares(moves @ vectors.T, vectors @ gradient, values) @ moves
        captured, total = vectors @ gradient, float(gradient @ gradient)
        return min(float(captured @ captured) / total, 1.0) if total else 0.0

    def refined_effects(self, steps: int) -> np.ndarray:
        """Effects (N,) from H⁻¹∇q after `steps` of conjugate gradients deflated by the index.

        With kept cells their H⁻¹∇a are solved for as well, and held with these.
        """
        gradient, moves = self._gradients()
        curvature = Curvature.of(self.model, self.training)
        solution = self._solve(curvature, gradient, steps)
        if len(moves):
            solutions = np.stack([self._solve(curvature, move, steps) for move in moves])
            solution = solution - multipliers(moves @ solutions.T, moves @ solution) @ solutions
        return self._effects_along(jnp.asarray(solution, self.model.theta.dtype))

    def changes(self, positions: np.ndarray) -> list[float]:
        """Predicted change of each complaint's quantity if all of `positions` are applied."""
        return [
            float(
                item.complaint.direction * item.index.rank(item.vector()).effects[positions].sum()
            )
            for item in self.complaints
        ]

    def _gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """∇θ of the combined complaint (d,), and of every kept cell (m, d)."""
        signed = [
            float(factor) * item.complaint.direction * _parameter_gradient(item)
            for factor, item in zip(self.factors, self.complaints, strict=True)
        ]
        kept = [_parameter_gradient(item) for item in self.kept]
        width = signed[0].size
        return np.sum(signed, axis=0), np.stack(kept) if kept else np.zeros((0, width))

    def _solve(self, curvature: Curvature, gradient: np.ndarray, steps: int) -> np.ndarray:
        """H⁻¹ gradient (d,)."""
        kind = self.model.theta.dtype
        values = jnp.asarray(self.index.eigenvalues, kind)
        vectors = jnp.asarray(self.index.eigenvectors)
        solution = None
        taken = iterate(curvature.hvp, jnp.asarray(gradient, kind), deflation(values, vectors))
        for step, state in enumerate(taken):
            solution = state.solution
            if step == steps:
                break
        assert solution is not None  # `iterate` always gives the starting point
        return np.asarray(solution, np.float64)

    def _effects_along(self, solution: jnp.ndarray) -> np.ndarray:
        kinds: Sequence[str] = self.index.manifest["interventions"]
        found = project_training(
            self.model, self.training, solution[None, :], relabel="relabel" in kinds
        )
        blocks = [found.gradients] if "delete" in kinds else []
        if found.relabels is not None:
            blocks.append(found.relabels.reshape(-1, 1))
        one = np.ones(1)
        rows = self.index.num_train
        return query_change(np.concatenate(blocks), one, one, num_rows=rows)


def _parameter_gradient(item: BoundComplaint | KeptCell) -> np.ndarray:
    return np.asarray(item.parameter_gradient(), np.float64)
