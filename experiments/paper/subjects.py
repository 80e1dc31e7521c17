"""The trained networks whose times are taken, each with a complaint about a join (Q1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from experiments.cases import join_of
from experiments.paper.cells import Cell, Size
from experiments.paper.tasks import Task, task
from experiments.paper.timing import Record
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.projection import gradient_of_probabilities, project_training
from rainpp.training_set import TrainingSet

# §6.5: what "typically achieves close to peak" quality.
RAIN_STEPS = {"mnist": 2, "cifar10": 4}
# On two cores the WRN-10 alone takes longer than all others together.
_SMALL = (("mnist", "logistic"), ("mnist", "mlp"), ("mnist", "cnn"))
_FEW_ROWS = 512
_FULL = (*_SMALL, *(("cifar10", network) for network in ("wrn10", "wrn18", "wrn26")))


@dataclass(frozen=True)
class Batches:
    """Rows at a time: of a curvature product, of a projection on k vectors, of a query gradient."""

    product: int
    projection: int
    gradient: int


def timed_cells(size: Size) -> list[Cell]:
    """One for each network: errors do not change what anything takes (§6.5)."""
    return [Cell(*names, "flip", 0.4, 0, size) for names in (_FULL if size == "full" else _SMALL)]


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network."""

    task: Task

    @property
    def batches(self) -> Batches:
        """Full networks are for a GPU, which many rows at a time keep busy."""
        made = self.task
        if made.cell.size == "full" and made.batch < 1024:
            return Batches(512, 256, 1024)
        return Batches(made.batch, made.batch, 2 * made.batch)

    @property
    def curvature_rows(self) -> int | str:
        """Rows that eigenpairs are found from: what the library takes.

        Of a small network for images that is all rows, and takes minutes; some do there.
        """
        made = self.task
        return "auto" if made.cell.size == "full" or not made.deep else _FEW_ROWS

    @property
    def rain_steps(self) -> int:
        """Conjugate-gradient steps of Rain in Table 4."""
        return RAIN_STEPS[self.task.cell.data]

    @cached_property
    def curvature(self) -> Curvature:
        """The Hessian of all rows, as Rain has it."""
        made = self.task
        size = self.batches.product
        return Curvature.of(made.model, made.training, batch_size=size)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """∂q/∂P (V, R) of the complaint that a join on equal predictions gives too many rows."""
        made = self.task
        found = made.model.probabilities(made.pool.inference, batch_size=self.batches.gradient)
        return join_of(found, made.pool.groups["left"])

    def query_gradient(self) -> jax.Array:
        """∇q (d,) by backpropagation through the inference rows."""
        made, size = self.task, self.batches.gradient
        return gradient_of_probabilities(
            made.model, made.pool.inference, self.weights, batch_size=size
        )

    def training_projections(
        self, vectors: jax.Array, training: TrainingSet | None = None
    ) -> NDArray[np.floating]:
        """⟨∇ℓ(z), v⟩ (n, k) of all training rows, or of other ones."""
        made, size = self.task, self.batches.projection
        found = project_training(made.model, training or made.training, vectors, batch_size=size)
        return found.gradients

    def vectors(self, count: int) -> jax.Array:
        """Random unit vectors (k, d): projecting on them takes as long as on eigenvectors."""
        dtype = self.task.model.theta.dtype
        drawn = jax.random.normal(jax.random.key(0), (count, self.task.model.num_params), dtype)
        return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)

    def first_rows(self, count: int) -> TrainingSet:
        """Training rows that compile what takes the others `count` at a time."""
        return self.task.training.take(np.arange(min(count, self.task.training.num_rows)))

    @property
    def about(self) -> Record:
        """What stands in every record."""
        made = self.task
        return {
            "data": made.cell.data,
            "network": made.cell.network,
            "size": made.cell.size,
            "parameters": made.model.num_params,
            "train_rows": made.training.num_rows,
            "inference_rows": len(made.pool.truth),
            "classes": self.weights.shape[1],
            "form": made.pool.form,
            "batches": [self.batches.product, self.batches.projection, self.batches.gradient],
        }


@cache
def subject_of(cell: Cell) -> Subject:
    """Trained now or found trained, once for all figures; a DataError where data are missing."""
    return Subject(task(cell))


def subjects(size: Size) -> Iterator[tuple[str, Cell]]:
    """Names of parts and what they are about."""
    for cell in timed_cells(size):
        yield f"{cell.data} {cell.network}", cell
