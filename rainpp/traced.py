"""A quantity of an answer traced back to the one model that decides it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from rainpp.complaint import Gradient, Quantity
from rainpp.errors import RainError
from rainpp.index.artifact import Index
from rainpp.inference import InferenceTable, RegisteredModel
from rainpp.lanczos.projection import gradient_of_probabilities
from rainpp.model import Model

if TYPE_CHECKING:
    from rainpp.result import Result


class Traced(ABC):
    """A quantity, the result it was read from, and its gradient by the model's parameters."""

    result: Result
    model_name: str | None

    @property
    @abstractmethod
    def about(self) -> Quantity:
        """The quantity."""

    @cached_property
    def gradient(self) -> Gradient:
        """Derivative of the quantity by every probability it depends on."""
        return self.about.gradient(self.result.answer)

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
        registered = self.result.setting.models[self.model_name or names[0]]
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

    def query_projection(self) -> np.ndarray:
        """⟨∇θ quantity, vⱼ⟩ (k,), from stored projections where the table is materialised."""
        total = np.zeros(self.index.k)
        for table, weights in self.weighted_tables():
            total += self._project(table, weights)
        return total

    def parameter_gradient(self) -> jnp.ndarray:
        """∇θ of the quantity (d,): one backward pass over the inference rows it depends on."""
        model = self.model
        total = jnp.zeros_like(model.theta)
        for table, weights in self.weighted_tables():
            if table.inputs is not None:
                total = total + gradient_of_probabilities(model, table.inputs, weights)
        return total

    def weighted_tables(self) -> list[tuple[InferenceTable, np.ndarray]]:
        """Tables of the model with the derivatives of the quantity by their probabilities."""
        by_key = {(s.model, s.table): t for s, t in self.result.setting.tables.items()}
        name = self.registered.name
        return [(by_key[key], w) for key, w in self.gradient.items() if key[0] == name]

    def _project(self, table: InferenceTable, weights: np.ndarray) -> np.ndarray:
        if table.projections is not None:
            flat = table.projections.reshape(-1, self.index.k)
            return weights.reshape(-1).astype(flat.dtype) @ flat
        assert table.inputs is not None  # only bare probabilities have none, refused earlier
        gradient = gradient_of_probabilities(self.model, table.inputs, weights)
        return self.index.eigenvectors @ np.asarray(gradient)
