"""What stands behind a ranking: coverage, refinement and predicted changes of complaints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from rainpp.bound_complaint import BoundComplaint, KeptCell
from rainpp.errors import DataError, RainError
from rainpp.index.append import joined
from rainpp.index.artifact import Index
from rainpp.index.projecting import Work
from rainpp.inference import RegisteredModel
from rainpp.intervention import InterventionTable
from rainpp.lanczos.conjugate_gradient import solve_together
from rainpp.lanczos.constraint import multipliers, shares
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.influence import query_change
from rainpp.lanczos.projection import project_training
from rainpp.model import Model
from rainpp.refinement import GroupEffect, Refined, Refinement, StepDone
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree

if TYPE_CHECKING:
    from rainpp.additions import Additions
    from rainpp.fix import Fix
    from rainpp.ranking import Ranking


# Newton steps behind what is set beside a retraining, which costs more than they do: at 5 % of the
# change the demo promised 61.0 where retraining gave 62.5.
_STEPS_OF_A_PROMISE = 6


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
        gradient, moves = self.gradients()
        if len(moves):
            values = self.index.eigenvalues
            gradient = gradient - shares(moves @ vectors.T, vectors @ gradient, values) @ moves
        captured, total = vectors @ gradient, float(gradient @ gradient)
        return min(float(captured @ captured) / total, 1.0) if total else 0.0

    def refined(self, steps: int, step_done: StepDone) -> Refined:
        """Effects (N,) from H⁻¹∇q after `steps` of conjugate gradients, started from the index.

        With kept cells their H⁻¹∇a are solved for as well, in the same passes.
        """
        return refine_backings([self], steps, step_done)[0]

    def group_effect(
        self, positions: np.ndarray, *, singles: float, newton_steps: int | None
    ) -> GroupEffect:
        """What all of `positions` do together; see `rainpp.group_effect`."""
        # `group_effect` steps back to this backing.
        from rainpp.group_effect import predict_group

        return predict_group(self, positions, singles=singles, newton_steps=newton_steps)[0]

    def fix(
        self, ranking: Ranking, *, by: float | None, most: int, kinds: Sequence[str] | None
    ) -> Fix:
        """The smallest prefix that resolves the complaints; see `rainpp.fix`."""
        from rainpp.fix import find_fix

        return find_fix(ranking, by=by, most=most, kinds=kinds)

    def families(self, ranking: Ranking, count: int) -> pd.DataFrame:
        """What the best of each family do together; see `rainpp.families`."""
        from rainpp.families import compare_families

        return compare_families(ranking, count)

    def after(self, positions: np.ndarray) -> Model:
        """The model that all of `positions` are predicted to lead to: Newton steps, no training."""
        from rainpp.group_effect import predict_group

        return predict_group(self, positions, singles=0.0, newton_steps=_STEPS_OF_A_PROMISE)[1]

    def additions(self, ranking: Ranking, inputs: PyTree, labels: Any, ids: Any) -> Additions:
        """What adding other rows does, each alone; see `rainpp.adding`."""
        from rainpp.adding import find_additions

        return find_additions(ranking, inputs, labels, ids)

    def together_with(
        self, new: TrainingSet, *, singles: float, newton_steps: int | None
    ) -> GroupEffect:
        """What adding all of `new` does: Newton steps of the mean loss over all rows."""
        from rainpp.group_effect import predict_rows

        edited = self.training_with(new)
        return predict_rows(
            self,
            edited,
            edited.num_rows,
            changes=new.num_rows,
            singles=singles,
            newton_steps=newton_steps,
        )[0]

    def training_with(self, new: TrainingSet) -> TrainingSet:
        """The training rows, then `new`; those at hand are not touched.

        Raises
        ------
        RainError : they are not at hand, or lie in files.
        """
        found = joined(self.training, new)
        if found is None:
            raise DataError(
                "the training rows lie in files, to which rows are not appended: give them as "
                "arrays, data=(inputs, labels) of register_model."
            )
        return found

    def direction(self) -> np.ndarray:
        """H⁻¹ of the part of ∇q that moves no kept cell (d,), as the index knows it."""
        index = self.index
        vector = self.factors @ np.stack([item.vector() for item in self.complaints])
        if self.kept:
            moves = np.stack([item.query_projection() for item in self.kept])
            vector = vector - shares(moves, vector, index.eigenvalues) @ moves
        return (vector / index.eigenvalues) @ index.eigenvectors.astype(np.float64)

    def check_refinable(self) -> None:
        """Refuse where the training rows are not at hand.

        Raises
        ------
        RainError : they are not.
        """
        _ = self.training

    @property
    def interventions(self) -> InterventionTable:
        """What can be done to the training rows, in the order of the index."""
        return self.index.interventions

    def check_unchanged(self) -> None:
        """Refuse to compare a predicted or retrained answer with one the database no longer gives.

        Raises
        ------
        DataError : the database has changed since the complaints.
        """
        settings = dict.fromkeys(item.result.setting for item in self.complaints)
        for setting in settings:
            setting.check_unchanged()
        answers = {setting: setting.evaluate() for setting in settings}
        for item in self.complaints:
            complaint = item.complaint
            hard, _ = complaint.about.read(answers[item.result.setting])
            if not np.isclose(hard, complaint.hard, rtol=1e-9):
                raise DataError(
                    f"the database has changed since the complaint: {complaint.about} was "
                    f"{complaint.hard:g} and is {hard:g} now. Ask again and complain about the new "
                    "answer."
                )

    def improvement(self, model: Model) -> float:
        """Σ of the complaints' weighted relaxed quantities under `model`, larger is better."""
        settings = dict.fromkeys(item.result.setting for item in self.complaints)
        name = self.registered.name
        answers = {found: found.with_model(name, model).evaluate() for found in settings}
        return sum(
            float(factor)
            * item.complaint.direction
            * item.complaint.about.read(answers[item.result.setting])[1]
            for factor, item in zip(self.factors, self.complaints, strict=True)
        )

    def reached(self, found: GroupEffect, model: Model) -> float:
        """By how much the complaint's plain number improves under `model`; -inf where it is gone.

        For several complaints the relaxed effect that was found: theirs is a weighted sum.
        """
        if len(self.complaints) != 1:
            return found.effect
        (item,) = self.complaints
        setting = item.result.setting.with_model(self.registered.name, model)
        complaint = item.complaint
        hard = complaint.about.read(setting.evaluate())[0]
        return complaint.direction * (hard - complaint.hard) if np.isfinite(hard) else -np.inf

    def changes(self, positions: np.ndarray) -> list[float]:
        """Predicted change of each complaint's quantity if all of `positions` are applied."""
        return [
            float(
                item.complaint.direction * item.index.rank(item.vector()).effects[positions].sum()
            )
            for item in self.complaints
        ]

    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """∇θ of the combined complaint (d,), and of every kept cell (m, d)."""
        signed = [
            float(factor) * item.complaint.direction * _parameter_gradient(item)
            for factor, item in zip(self.factors, self.complaints, strict=True)
        ]
        kept = [_parameter_gradient(item) for item in self.kept]
        width = signed[0].size
        return np.sum(signed, axis=0), np.stack(kept) if kept else np.zeros((0, width))


def refine_backings(
    backings: Sequence[RetrainableBacking], steps: int, step_done: StepDone
) -> list[Refined]:
    """Refined effects of rankings over one index, in shared passes over the training rows."""
    began = time.perf_counter()
    first = backings[0]
    model, index, training = first.model, first.index, first.training
    systems = [backing.gradients() for backing in backings]
    rights = np.concatenate([np.vstack([gradient, moves]) for gradient, moves in systems])
    kind = model.theta.dtype
    starts = np.cumsum([0, *(1 + len(moves) for _, moves in systems)])
    found = solve_together(
        Curvature.of(model, training).products,
        jnp.asarray(rights, kind),
        (jnp.asarray(index.eigenvalues, kind), jnp.asarray(index.eigenvectors, kind)),
        steps,
        enough=float(np.finfo(kind).eps),  # beyond, residuals are a recursion without meaning
        step_done=lambda step, residuals: step_done(step, float(residuals[starts[:-1]].max())),
    )
    combined = [
        _held(solutions[start:stop], system)
        for solutions in np.asarray([found.solutions, found.halfway], np.float64)
        for start, stop, system in zip(starts, starts[1:], systems, strict=False)
    ]
    effects, before = np.split(_effects_along(first, np.stack(combined)), 2, axis=1)
    seconds = time.perf_counter() - began
    return [
        Refined(
            effects[:, place],
            Refinement(
                len(found.residuals) - 1,
                tuple(float(value) for value in found.residuals[:, start]),
                seconds,
                _moved(effects[:, place], before[:, place]),
                bool(found.stopped[start]),
            ),
            combined[place].astype(kind),
        )
        for place, start in enumerate(starts[:-1])
    ]


def _moved(effects: np.ndarray, before: np.ndarray) -> float:
    size = float(np.linalg.norm(effects))
    return float(np.linalg.norm(effects - before)) / size if size else 0.0


def _held(solutions: np.ndarray, system: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """H⁻¹ of the part of a gradient (d,) that moves no kept cell, from all solutions (1 + m, d)."""
    _, moves = system
    solution, of_moves = solutions[0], solutions[1:]
    if not len(moves):
        return solution
    return solution - multipliers(moves @ of_moves.T, moves @ solution) @ of_moves


def _effects_along(backing: RetrainableBacking, solutions: np.ndarray) -> np.ndarray:
    """Effects (N, m) of every intervention for m solutions (m, d), from one pass over the rows."""
    index = backing.index
    kinds = tuple(index.manifest["interventions"])
    vectors = jnp.asarray(solutions, backing.model.theta.dtype)
    found = project_training(backing.model, backing.training, vectors, relabel="relabel" in kinds)
    work = Work(
        backing.model,
        backing.training,
        solutions,
        kinds,
        index.interventions.num_classes,
        repairs=index.repairs_in_order(),
    )
    everything = slice(0, backing.training.num_rows)
    pieces = [*work.pieces(everything, found), *work.replaced(everything, found, vectors)]
    return np.stack(
        [
            query_change(
                np.concatenate([block[:, [column]] for _, block, _ in pieces]),
                np.ones(1),
                np.ones(1),
                num_rows=index.num_train,
            )
            for column in range(len(solutions))
        ],
        axis=1,
    )


def _parameter_gradient(item: BoundComplaint | KeptCell) -> np.ndarray:
    return np.asarray(item.parameter_gradient(), np.float64)
