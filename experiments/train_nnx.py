"""Training of Flax NNX networks to near a minimum of J(θ) = mean loss + ½·l2·‖θ‖²."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data import Labels
from experiments.train import L2
from rainpp.types import PyTree


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes
    ----------
    epochs : passes over the rows with batch normalisation by the batch.
    settling : passes after that with the running statistics fixed. Only then the gradient that is
        followed is that of the J whose curvature the index is made of.
    learning_rate : of Adam at the start; it falls along half a cosine to zero over all passes.
    """

    epochs: int
    settling: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-3
    l2: float = L2
    seed: int = 0


def fit(network: nnx.Module, inputs: PyTree, labels: Labels, schedule: Schedule) -> float:
    """Train `network` in place with mean cross-entropy; the mean loss of the last pass.

    One compiled step per batch: inside a compiled loop, XLA's CPU backend computes gradients of
    convolutions naively (WRN-10 at width 1, batch 16, 32×32: 4.6 ms of processor time a row in a
    step of its own, 54 in a loop). What does not fill the last batch waits for the next pass.
    """
    size = min(schedule.batch_size, len(labels))
    steps = len(labels) // size
    total = steps * (schedule.epochs + schedule.settling)
    rate = optax.cosine_decay_schedule(schedule.learning_rate, total)
    adam = optax.adam(rate)
    generator = np.random.default_rng(schedule.seed)
    moments: Any = None
    mean = math.nan
    for passes, mode in ((schedule.epochs, nnx.Module.train), (schedule.settling, nnx.Module.eval)):
        mode(network)
        graph, params, rest = nnx.split(network, nnx.Param, ...)
        # Optax raises floats to int32 powers, and its rates have JAX's default type.
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            moments = adam.init(params) if moments is None else moments
            step = _step(graph, adam, schedule.l2)
            for _ in range(passes):
                losses: list[jax.Array] = []
                for rows in _batches(generator, len(labels), size):
                    batch = jax.tree.map(lambda leaf, at=rows: jnp.asarray(leaf[at]), inputs)
                    params, rest, moments, loss = step(
                        params, rest, moments, (batch, jnp.asarray(labels[rows]))
                    )
                    losses.append(loss)
                mean = float(jnp.stack(losses).mean())
        nnx.update(network, params, rest)
    return mean


def _batches(
    generator: np.random.Generator, num_rows: int, size: int
) -> Iterator[np.ndarray[Any, Any]]:
    order = generator.permutation(num_rows)
    for start in range(0, num_rows - size + 1, size):
        yield order[start : start + size]


def _step(graph: Any, adam: optax.GradientTransformation, l2: float) -> Callable[..., Any]:
    def objective(params: PyTree, rest: PyTree, batch: tuple[Any, jax.Array]) -> Any:
        inputs, labels = batch
        network = nnx.merge(graph, params, rest, copy=True)  # it writes its statistics
        outputs = network(inputs)
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()
        squares = sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(params))
        return loss + 0.5 * l2 * squares, (loss, nnx.split(network, nnx.Param, ...)[2])

    @jax.jit
    def step(params: PyTree, rest: PyTree, moments: Any, batch: Any) -> Any:
        slope = jax.grad(objective, has_aux=True)
        gradient, (loss, rest) = slope(params, rest, batch)
        update, moments = adam.update(gradient, moments, params)
        return optax.apply_updates(params, update), rest, moments, loss

    return step
