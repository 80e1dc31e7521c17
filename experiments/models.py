"""The paper's smaller models as plain functions of a dictionary of arrays (§6.1.1).

`apply` is one function per kind of model, not a closure, so that JAX compiles a training step once
for all fits of that kind and size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rainpp.types import ApplyFunction

Params = dict[str, jax.Array]

# 270 310 parameters on MNIST: our default, the size of a model for a 2-core machine.
SMALL_HIDDEN = (340,)
# 1 799 890 parameters: one hidden layer of the size the paper gives for its feed-forward network.
PAPER_HIDDEN = (2264,)


@dataclass(frozen=True)
class Architecture:
    """How to start a model and how to run it.

    Attributes
    ----------
    init : (key) -> parameters, float32.
    apply : (parameters, inputs (batch, features)) -> logits (batch, R).
    loss : the name of the loss the logits are meant for.
    """

    init: Callable[[jax.Array], Params]
    apply: ApplyFunction
    loss: str


def softmax_regression(*, num_inputs: int = 784, num_classes: int = 10) -> Architecture:
    """Logistic regression with one logit per class; 7850 parameters on MNIST. Starts at zero."""

    def init(key: jax.Array) -> Params:
        del key  # convex: every start leads to the same optimum
        return _zeros(num_inputs, num_classes)

    return Architecture(init, apply_linear, "cross_entropy")


def binary_regression(*, num_inputs: int = 49) -> Architecture:
    """Logistic regression with a single logit; 50 parameters on ADULT. Starts at zero."""

    def init(key: jax.Array) -> Params:
        del key
        return _zeros(num_inputs, 1)

    return Architecture(init, apply_linear, "binary_cross_entropy")


def mlp(
    *, num_inputs: int = 784, hidden: Sequence[int] = SMALL_HIDDEN, num_classes: int = 10
) -> Architecture:
    """Feed-forward network with ReLU: 0.27M parameters by default, 1.8M with `PAPER_HIDDEN`.

    The paper says "two layer feed-forward network with 1.8M parameters" and gives no widths;
    `hidden=(1000, 1000)` has 1.8M as well.
    """
    widths = (num_inputs, *hidden, num_classes)

    def init(key: jax.Array) -> Params:
        """He's initialisation: weights of variance 2 / fan-in, biases zero."""
        params: Params = {}
        keys = jax.random.split(key, len(widths) - 1)
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            normal = jax.random.normal(keys[layer], (fan_in, fan_out), jnp.float32)
            params[f"weights{layer}"] = normal * jnp.float32((2 / fan_in) ** 0.5)
            params[f"bias{layer}"] = jnp.zeros(fan_out, jnp.float32)
        return params

    return Architecture(init, apply_mlp, "cross_entropy")


def apply_linear(params: Params, inputs: Any) -> jax.Array:
    """Logits (batch, R) of a linear model."""
    return inputs @ params["weights"] + params["bias"][None, :]


def apply_mlp(params: Params, inputs: Any) -> jax.Array:
    """Logits (batch, R) of a feed-forward network; the parameters say how deep it is."""
    last = len(params) // 2 - 1
    values = inputs
    for layer in range(last):
        values = jax.nn.relu(_dense(params, layer, values))
    return _dense(params, last, values)


def count_params(params: Any) -> int:
    """d."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _dense(params: Params, layer: int, values: Any) -> jax.Array:
    return values @ params[f"weights{layer}"] + params[f"bias{layer}"][None, :]


def _zeros(num_inputs: int, num_outputs: int) -> Params:
    return {
        "weights": jnp.zeros((num_inputs, num_outputs), jnp.float32),
        "bias": jnp.zeros(num_outputs, jnp.float32),
    }
