"""Inner products of gradients with eigenvectors, in forward mode: no gradient is ever formed.

⟨vⱼ, ∇θ f(θ*, x)⟩ = d/dh f(θ* + h vⱼ, x) at h = 0 (Flokas et al. 2022, §4.2). The k tangents share
one primal pass; memory is k times the activations of one batch.

One case is the other way round. A convolution uses a kernel at every place of an image, and each
tangent does so again, while the gradient of a row is small beside that work: on a CPU a few rows at
a time are differentiated in reverse mode and their gradients multiplied by the vectors. Measured
with k = 20 on 2 cores (`python -m experiments.offline modes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.convolution import has_convolution
from rainpp.errors import DataError
from rainpp.lanczos.devices import map_rows
from rainpp.model import Model, Network, batched, check_inputs
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree, silent

Mode = Literal["auto", "forward", "reverse"]


@dataclass(frozen=True)
class TrainingProjections:
    """Projections of every training gradient, and of every change of label.

    Attributes
    ----------
    gradients : (n, k), ⟨vⱼ, ∇ℓ(θ*, zᵢ)⟩.
    relabels : (n, R-1, k), ⟨vⱼ, ∇ℓ(θ*, zᵢ) - ∇ℓ(θ*, (xᵢ, c))⟩ for the class c = yᵢ + 1 + s mod R in
        column s, so that every other class appears once; None unless asked for.
    posteriors : (n, R-1), P(c | xᵢ) of the model for the same classes; None likewise.
    """

    gradients: np.ndarray
    relabels: np.ndarray | None
    posteriors: np.ndarray | None


def project_training(
    model: Model,
    training: TrainingSet,
    vectors: jax.Array | np.ndarray,
    *,
    relabel: bool = False,
    batch_size: int = 512,
    mode: Mode = "auto",
    progress: Any = silent,
) -> TrainingProjections:
    """Project the gradient of every training row, and of every relabelled row, on each vector.

    Cost: one pass over the rows with k tangents; all R labels of a row come from the same pass,
    because ℓ depends on the label only through the outputs. Rows that were trained with a weight
    have their gradients times it: that is what leaves the objective with them.

    Parameters
    ----------
    mode : "reverse" forms the gradients of max(k, 32) rows at a time, and knows no relabelling;
        "auto" takes it where it is faster.
    """
    fixed, rows = (model.theta, jnp.asarray(vectors)), (training.inputs, training.labels)
    kernel: Any = (model.network, _project_batch, {"relabel": relabel})
    if mode == "auto" and not relabel and _gradients_are_cheaper(model, training, len(fixed[1])):
        mode = "reverse"
    if mode == "reverse":
        kernel = (model.network, _project_gradients, {})
        batch_size = min(batch_size, max(len(fixed[1]), _FEWEST_ROWS))
    parts: list[tuple[np.ndarray, ...]] = []
    for part, where in map_rows(kernel, fixed, rows, training.num_rows, batch_size):
        parts.append(part)
        progress("projections", where.stop, training.num_rows)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if not training.unweighted:
        _weigh(columns[: 2 if relabel else 1], training.weights)
    relabels, posteriors = columns[1:] if relabel else (None, None)
    return TrainingProjections(columns[0], relabels, posteriors)


def training_kernel(network: Network, relabel: bool) -> Callable[..., Any]:
    """The compiled projection of a batch: (θ, vectors (k, d), inputs, labels) -> its columns."""
    return network.jit(_project_batch, relabel=relabel)


# Fewer vectors are faster in forward mode, or as fast.
_FEWEST_VECTORS = 3
# Gradients formed at a time, where k is less: below, products of matrices are too thin.
_FEWEST_ROWS = 32


def _gradients_are_cheaper(model: Model, training: TrainingSet, num_vectors: int) -> bool:
    """Whether reverse mode is faster: for convolutions on a CPU, the only device it is measured on.

    Memory: a gradient for each of k rows, as much as the vectors themselves.
    """
    if jax.default_backend() != "cpu" or num_vectors < _FEWEST_VECTORS:
        return False
    row = jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), training.inputs)
    return has_convolution(model.apply, model.params, row)


def _weigh(columns: list[np.ndarray], weights: np.ndarray) -> None:
    for column in columns:
        column *= weights.astype(column.dtype).reshape(-1, *[1] * (column.ndim - 1))


def example_losses(model: Model, training: TrainingSet, *, batch_size: int = 4096) -> np.ndarray:
    """Loss of every training row (n,), without the l2 term.

    Raises
    ------
    DataError : the loss of some row is not finite.
    """
    kernel, rows = (model.network, Network.losses, {}), (training.inputs, training.labels)
    found = map_rows(kernel, (model.theta,), rows, training.num_rows, batch_size)
    losses = np.concatenate([part for part, _ in found])
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise DataError(
            f"the model's loss on training row {bad[0]} is not finite ({bad.size} such rows). "
            "Check that row, or train in a way that keeps the outputs finite."
        )
    return losses


def _project_batch(
    network: Network,
    theta: jax.Array,
    vectors: jax.Array,
    inputs: PyTree,
    labels: Any,
    *,
    relabel: bool,
) -> tuple[Any, ...]:
    outputs, along = jax.linearize(lambda t: network.outputs(t, inputs), theta)
    tangents = jax.vmap(along)(vectors)  # (k, b, w)
    slope = jax.vmap(jax.grad(network.loss.of_row))
    own = slope(outputs, labels)  # (b, w)
    gradients = jnp.einsum("bw,kbw->bk", own, tangents)
    if not relabel:
        return (gradients,)
    num_classes = network.loss.num_classes(outputs.shape[1])
    shifts = jnp.arange(1, num_classes, dtype=labels.dtype)
    others = (labels[:, None] + shifts[None, :]) % num_classes  # (b, R-1)
    slopes = jax.vmap(slope, in_axes=(None, 1), out_axes=1)(outputs, others)  # (b, R-1, w)
    relabels = jnp.einsum("bcw,kbw->bck", own[:, None, :] - slopes, tangents)
    probabilities = network.loss.probabilities(outputs)
    posteriors = jnp.take_along_axis(probabilities, others, axis=1)
    return gradients, relabels, posteriors


def _project_gradients(
    network: Network, theta: jax.Array, vectors: jax.Array, inputs: PyTree, labels: Any
) -> tuple[jax.Array]:
    def loss(theta: jax.Array, row: PyTree, label: Any) -> jax.Array:
        alone = jax.tree.map(lambda leaf: leaf[None], row)
        return network.losses(theta, alone, label[None])[0]

    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(theta, inputs, labels)
    return (gradients @ vectors.T,)


def project_inference(
    model: Model,
    inputs: PyTree,
    vectors: jax.Array | np.ndarray,
    *,
    batch_size: int = 512,
    progress: Any = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (V, R) of inference rows and their derivatives along each vector (V, R, k)."""
    num_rows = check_inputs(inputs)
    kernel = (model.network, _probability_tangents, {})
    fixed = (model.theta, jnp.asarray(vectors))
    values: list[np.ndarray] = []
    tangents: list[np.ndarray] = []
    for part, where in map_rows(kernel, fixed, (inputs,), num_rows, batch_size):
        values.append(part[0])
        tangents.append(part[1])
        progress("inference projections", where.stop, num_rows)
    return np.concatenate(values), np.concatenate(tangents)


def gradient_of_probabilities(
    model: Model, inputs: PyTree, weights: np.ndarray, *, batch_size: int = 2048
) -> jax.Array:
    """Σᵢⱼ wᵢⱼ ∇θ pᵢⱼ(θ*) (d,) for weights (V, R): one backward pass over rows of nonzero weight.

    This is ∇θ q of Eq. 7 when `weights` is ∂f/∂P.
    """
    touched = np.flatnonzero(np.any(weights != 0, axis=1))
    size = max(1, min(batch_size, weights.shape[0]))
    # Whole batches, filled up with rows of weight zero: which rows a query touches then never makes
    # a shape that has to be compiled.
    places = np.zeros(-(-touched.size // size) * size, touched.dtype)
    places[: touched.size] = touched
    weighed = np.where(np.arange(places.size)[:, None] < touched.size, weights[places], 0)
    pull = model.network.jit(_pull_back)
    total = jnp.zeros_like(model.theta)
    chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[places], inputs)
    for rows, where in batched(chosen, places.size, size):
        total = total + pull(model.theta, rows, jnp.asarray(weighed[where], total.dtype))
    return total


def _probability_tangents(
    network: Network, theta: jax.Array, vectors: jax.Array, rows: PyTree
) -> tuple[Any, Any]:
    probabilities, along = jax.linearize(lambda t: network.probabilities(t, rows), theta)
    return probabilities, jnp.moveaxis(jax.vmap(along)(vectors), 0, -1)


def _pull_back(network: Network, theta: jax.Array, rows: PyTree, cotangent: jax.Array) -> jax.Array:
    probabilities, pull = jax.vjp(lambda t: network.probabilities(t, rows), theta)
    return pull(cotangent.astype(probabilities.dtype))[0]
