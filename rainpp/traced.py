"""A quantity of an answer traced back to the one model that decides it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from rainpp.complaint import Cell, Gradient, Quantity
from rainpp.errors import RainError
from rainpp.index.artifact import Index
from rainpp.index.score import contracted
from rainpp.inference import InferenceTable, RegisteredModel
from rainpp.lanczos.projection import gradient_of_probabilities
from rainpp.model import Model
from rainpp.relax.ask import AnyAnswer
from rainpp.relax.rowsums import column_sums
from rainpp.setting import Setting

if TYPE_CHECKING:
    from rainpp.result import Result

# Of gradients kept for later complaints about the same cells.
_KEPT_BYTES = 64 << 20


class Weighted(NamedTuple):
    """A table of predictions, as a complaint sees it.

    Attributes
    ----------
    table : the predictions.
    weights : (V, R), derivatives of the complaint by the probabilities.
    by_class : (R,), the sum of their absolute values for each class.
    """

    table: InferenceTable
    weights: np.ndarray
    by_class: np.ndarray


@dataclass(frozen=True, eq=False)
class Trace:
    """How a quantity moves with the predictions of one model, and with its parameters.

    Whatever complaints about one cell share: made once, see `Traces`.
    """

    about: Quantity
    answer: AnyAnswer
    setting: Setting
    model_name: str | None

    @cached_property
    def gradient(self) -> Gradient:
        """Derivative of the quantity by every probability it depends on."""
        return self.about.gradient(self.answer)

    @cached_property
    def registered(self) -> RegisteredModel:
        """The one model the quantity can be traced to.

        Raises
        ------
        RainError : it depends on no model, on two, or the model has no index.
        """
        names = sorted({name for name, _ in self.gradient})
        if self.model_name is None and len(names) != 1:
            raise RainError(
                f"{self.about} depends on the models {names}; a ranking is over the training rows "
                "of one model: choose it with complaint.through(name)."
            )
        registered = self.setting.models[self.model_name or names[0]]
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

    @property
    def model(self) -> Model:
        """The trained model itself."""
        model = self.registered.model
        assert model is not None  # checked by `registered`
        return model

    @cached_property
    def query_projection(self) -> np.ndarray:
        """⟨∇θ quantity, vⱼ⟩ (k,), from stored projections where the table is materialised."""
        total = np.zeros(self.index.k)
        for weighted in self.weighted_tables:
            total += self._project(weighted)
        return total

    def parameter_gradient(self) -> jnp.ndarray:
        """∇θ of the quantity (d,): one backward pass over the inference rows it depends on."""
        model = self.model
        total = jnp.zeros_like(model.theta)
        for table, weights, _ in self.weighted_tables:
            if table.inputs is not None:
                total = total + gradient_of_probabilities(model, table.inputs, weights)
        return total

    @cached_property
    def weighted_tables(self) -> list[Weighted]:
        """Tables of the model with the derivatives of the quantity by their probabilities."""
        by_key = {(s.model, s.table): t for s, t in self.setting.tables.items()}
        name = self.registered.name
        return [
            Weighted(by_key[key], weights, column_sums(np.abs(weights))[0])
            for key, weights in self.gradient.items()
            if key[0] == name
        ]

    def _project(self, weighted: Weighted) -> np.ndarray:
        table, weights, by_class = weighted
        if table.projections is not None:
            return contracted(table.projections, weights, np.flatnonzero(by_class))
        assert table.inputs is not None  # only bare probabilities have none, refused earlier
        gradient = gradient_of_probabilities(self.model, table.inputs, weights)
        return self.index.eigenvectors @ np.asarray(gradient)


class Traces:
    """The traces of the cells complained about last: a second complaint about one finds its own."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str, str | None], Trace] = OrderedDict()

    def of(self, cell: Cell, model_name: str | None, make: Callable[[], Trace]) -> Trace:
        """The trace of a cell, made if it is not there."""
        key = (cell.row, cell.column, model_name)
        found = self._kept.pop(key, None) or make()
        self._kept[key] = found
        held = sum(part.nbytes for trace in self._kept.values() for part in trace.gradient.values())
        while len(self._kept) > 1 and held > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            held -= sum(part.nbytes for part in oldest.gradient.values())
        return found


class Traced(ABC):
    """A quantity, the result it was read from, and its gradient by the model's parameters."""

    result: Result
    model_name: str | None

    @property
    @abstractmethod
    def about(self) -> Quantity:
        """The quantity."""

    @cached_property
    def trace(self) -> Trace:
        """How it moves; errors of its properties are those of `Trace`."""
        return self.result.trace(self.about, self.model_name)

    @property
    def gradient(self) -> Gradient:
        """Derivative of the quantity by every probability it depends on."""
        return self.trace.gradient

    @property
    def registered(self) -> RegisteredModel:
        """The one model the quantity can be traced to."""
        return self.trace.registered

    @property
    def index(self) -> Index:
        """The index of that model."""
        return self.trace.index

    @property
    def model(self) -> Model:
        """The trained model itself."""
        return self.trace.model

    def query_projection(self) -> np.ndarray:
        """⟨∇θ quantity, vⱼ⟩ (k,)."""
        return self.trace.query_projection

    def parameter_gradient(self) -> jnp.ndarray:
        """∇θ of the quantity (d,)."""
        return self.trace.parameter_gradient()
