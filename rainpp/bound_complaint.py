"""Complaints about an answer that is at hand: projected, ranked, refined and combined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from rainpp.complaint import Cell, Complaint, Want
from rainpp.errors import ComplaintError, RainError, ShapeError
from rainpp.index.artifact import Index
from rainpp.inference import InferenceTable, RegisteredModel
from rainpp.lanczos.conjugate_gradient import deflation, iterate
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.influence import query_change
from rainpp.lanczos.projection import gradient_of_probabilities, project_training
from rainpp.model import Model
from rainpp.ranking import Ranking
from rainpp.training_set import TrainingSet

if TYPE_CHECKING:
    from rainpp.result import Result

Gradient = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True, eq=False)
class BoundComplaint:
    """A complaint together with the result it is about: it can be ranked."""

    complaint: Complaint
    result: Result = field(repr=False)

    @property
    def cell(self) -> Cell:
        """Where."""
        return self.complaint.cell

    @property
    def want(self) -> Want:
        """What should change."""
        return self.complaint.want

    @cached_property
    def gradient(self) -> Gradient:
        """Derivative of the cell by every probability it depends on."""
        return self.result.answer.gradient(self.cell.row, self.cell.column)

    @cached_property
    def registered(self) -> RegisteredModel:
        """The one model this complaint can be traced to.

        Raises
        ------
        RainError : the cell depends on no model, on two, or the model has no index.
        """
        names = sorted({name for name, _ in self.gradient})
        if len(names) != 1:
            raise RainError(
                f"{self.cell} depends on the models {names}; a ranking is over the training rows "
                "of one model. Complain about a query with one of them."
            )
        registered = self.result.setting.models[names[0]]
        if registered.index is None or registered.model is None:
            raise RainError(
                f"`{registered.name}` was registered with probabilities only: there are gradients "
                "but nothing to rank. Use register_model with an index."
            )
        return registered

    @property
    def index(self) -> Index:
        """The index of that model."""
        index = self.registered.index
        assert index is not None  # checked by `registered`
        return index

    def query_projection(self) -> np.ndarray:
        """⟨∇θ cell, vⱼ⟩ (k,), from stored projections where the table is materialised."""
        total = np.zeros(self.index.k)
        for table, weights in self._weighted_tables():
            total += self._project(table, weights)
        return total

    def vector(self) -> np.ndarray:
        """The complaint as k numbers: all a model's owner needs for `index.rank(vector)`."""
        return self.complaint.direction * self.query_projection()

    def rank(self) -> Ranking:
        """Rank the training rows' interventions by how much they should help."""
        return rank_together([self])

    def parameter_gradient(self) -> jnp.ndarray:
        """∇θ of the cell (d,): one backward pass over the inference rows it depends on."""
        model = self._model
        total = jnp.zeros_like(model.theta)
        for table, weights in self._weighted_tables():
            if table.inputs is not None:
                total = total + gradient_of_probabilities(model, table.inputs, weights)
        return total

    @property
    def _model(self) -> Model:
        model = self.registered.model
        assert model is not None  # checked by `registered`
        return model

    def _weighted_tables(self) -> list[tuple[InferenceTable, np.ndarray]]:
        by_key = {(s.model, s.table): t for s, t in self.result.setting.tables.items()}
        return [(by_key[key], weights) for key, weights in self.gradient.items()]

    def _project(self, table: InferenceTable, weights: np.ndarray) -> np.ndarray:
        if table.projections is not None:
            flat = table.projections.reshape(-1, self.index.k)
            return weights.reshape(-1).astype(flat.dtype) @ flat
        assert table.inputs is not None  # only bare probabilities have none, refused earlier
        gradient = gradient_of_probabilities(self._model, table.inputs, weights)
        return self.index.eigenvectors @ np.asarray(gradient)

    def __repr__(self) -> str:
        return f"Complaint: {self.complaint}"


def rank_together(
    complaints: Sequence[BoundComplaint], weights: Sequence[float] | None = None
) -> Ranking:
    """One ranking for several complaints about the same model.

    Parameters
    ----------
    weights : of each complaint's improvement. By default all weigh the same: each is scaled by
        the mean norm of the projected gradients over its own, and divided by their number.

    Raises
    ------
    ComplaintError : none, something else, or they belong to different models or indexes.
    ShapeError : not one finite weight >= 0 per complaint, or only zeros.
    """
    complaints = _listed(complaints)
    first = complaints[0]
    _check_same_model(complaints)
    vectors = np.stack([complaint.vector() for complaint in complaints])
    factors = _balance(vectors) if weights is None else _check_weights(weights, len(complaints))
    return first.index.rank(
        factors @ vectors,
        complaints=tuple(item.complaint for item in complaints),
        classes=first.registered.classes,
        backing=RetrainableBacking(tuple(complaints), factors),
    )


def _listed(complaints: Any) -> list[BoundComplaint]:
    if not isinstance(complaints, Iterable):
        raise ComplaintError(f"`complaints` is {complaints!r}; give a list of complaints.")
    listed: list[Any] = list(complaints)
    if not listed:
        raise ComplaintError("`complaints` is empty; there is nothing to rank for.")
    for item in listed:
        if not isinstance(item, BoundComplaint):
            raise ComplaintError(
                f"`complaints` holds a {type(item).__name__}; give a list of what "
                "result.complain(...) returns."
            )
    return listed


def _check_same_model(complaints: Sequence[BoundComplaint]) -> None:
    """Vectors add up only if every k-vector is along the same eigenvectors."""
    first = complaints[0]
    if len({item.index.manifest["model_fingerprint"] for item in complaints}) > 1:
        names = sorted({item.registered.name for item in complaints})
        raise ComplaintError(
            f"the complaints belong to different models ({', '.join(names)}); rank each by itself."
        )
    if not all(_same_index(first.index, item.index) for item in complaints):
        raise ComplaintError(
            "the complaints belong to different indexes of one model; register the same index for "
            "both, then ask and complain again."
        )


def _same_index(one: Index, other: Index) -> bool:
    if one is other:
        return True
    keys = ("data_fingerprint", "interventions")
    return all(one.manifest[key] == other.manifest[key] for key in keys) and np.array_equal(
        one.eigenvectors, other.eigenvectors
    )


def _balance(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1)
    if len(norms) == 1:
        return np.ones(1)
    alive = norms > 0
    scaled = np.divide(norms[alive].mean() if alive.any() else 1.0, norms, where=alive, out=norms)
    return scaled / len(norms)


def _check_weights(weights: Sequence[float], count: int) -> np.ndarray:
    values = np.asarray(weights, dtype=object)
    numbers = all(isinstance(item, int | float | np.number) for item in values.flat)
    try:
        values = values.astype(np.float64) if numbers else np.full(count, np.nan)
    except (TypeError, OverflowError):  # complex, or beyond 64 bits
        values = np.full(count, np.nan)
    if values.shape != (count,) or not (np.isfinite(values) & (values >= 0)).all():
        raise ShapeError(
            f"`weights` is {weights}; give one finite number for each of {count} complaints, >= 0."
        )
    if not values.any():
        raise ShapeError(f"`weights` is {weights}; at least one complaint must count.")
    return values


@dataclass(frozen=True, eq=False)
class RetrainableBacking:
    """Model, training set and query behind a ranking: coverage, refinement, retraining."""

    complaints: tuple[BoundComplaint, ...]
    factors: np.ndarray

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
        assert self.registered.model is not None  # checked by `BoundComplaint.registered`
        return self.registered.model

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
        gradient = np.asarray(self._gradient(), np.float64)
        captured = self.index.eigenvectors.astype(np.float64) @ gradient
        total = float(gradient @ gradient)
        return min(float(captured @ captured) / total, 1.0) if total else 0.0

    def refined_effects(self, steps: int) -> np.ndarray:
        """Effects (N,) from H⁻¹∇q after `steps` of conjugate gradients deflated by the index."""
        curvature = Curvature.of(self.model, self.training)
        values = jnp.asarray(self.index.eigenvalues, self.model.theta.dtype)
        vectors = jnp.asarray(self.index.eigenvectors)
        solution = None
        steps_taken = iterate(curvature.hvp, self._gradient(), deflation(values, vectors))
        for step, state in enumerate(steps_taken):
            solution = state.solution
            if step == steps:
                break
        assert solution is not None  # `iterate` always gives the starting point
        return self._effects_along(solution)

    def changes(self, positions: np.ndarray) -> list[float]:
        """Predicted change of each complaint's cell if all of `positions` are applied."""
        return [
            float(
                item.complaint.direction * item.index.rank(item.vector()).effects[positions].sum()
            )
            for item in self.complaints
        ]

    def _gradient(self) -> jnp.ndarray:
        signed = [
            float(factor) * item.complaint.direction * item.parameter_gradient()
            for factor, item in zip(self.factors, self.complaints, strict=True)
        ]
        return jnp.sum(jnp.stack(signed), axis=0)

    def _effects_along(self, solution: jnp.ndarray) -> np.ndarray:
        kinds = self.index.manifest["interventions"]
        found = project_training(
            self.model, self.training, solution[None, :], relabel="relabel" in kinds
        )
        blocks = [found.gradients] if "delete" in kinds else []
        if found.relabels is not None:
            blocks.append(found.relabels.reshape(-1, 1))
        one = np.ones(1)
        rows = self.index.num_train
        return query_change(np.concatenate(blocks), one, one, num_rows=rows)
