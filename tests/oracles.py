"""Slow, dense, float64 and obviously right: what the library is compared with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.model import Model


def linear(params, inputs):
    """Softmax regression: inputs (batch, features) -> logits (batch, classes)."""
    return inputs @ params["w"] + params["b"][None, :]


def mlp(params, inputs):
    """One hidden tanh layer: smooth, so that its Hessian exists everywhere."""
    hidden = jnp.tanh(inputs @ params["w1"] + params["b1"][None, :])
    return hidden @ params["w2"] + params["b2"][None, :]


def linear_params(features: int, classes: int, rng: np.random.Generator):
    return {
        "w": jnp.asarray(rng.normal(size=(features, classes)) * 0.3),
        "b": jnp.asarray(rng.normal(size=classes) * 0.1),
    }


def mlp_params(features: int, hidden: int, classes: int, rng: np.random.Generator):
    return {
        "w1": jnp.asarray(rng.normal(size=(features, hidden)) * 0.5),
        "b1": jnp.asarray(rng.normal(size=hidden) * 0.1),
        "w2": jnp.asarray(rng.normal(size=(hidden, classes)) * 0.5),
        "b2": jnp.asarray(rng.normal(size=classes) * 0.1),
    }


def objective_value(model: Model, inputs, labels) -> float:
    """J(θ*) written out: mean over rows of the loss, one at a time, plus ½·l2·‖θ‖²."""
    loss = jax.jit(lambda x, y: model.example_losses(model.theta, x[None], y[None])[0])
    rows = zip(jnp.asarray(inputs), jnp.asarray(labels), strict=True)
    total = sum(float(loss(x, y)) for x, y in rows)
    return total / len(labels) + 0.5 * model.l2 * float(jnp.sum(model.theta**2))


def objective(model: Model, inputs, labels):
    """J as a function of θ, over all rows at once."""
    rows, targets = jnp.asarray(inputs), jnp.asarray(labels)

    def value(theta):
        losses = model.example_losses(theta, rows, targets)
        return jnp.mean(losses) + 0.5 * model.l2 * jnp.sum(theta**2)

    return value


def dense_hessian(model: Model, inputs, labels) -> np.ndarray:
    """The whole Hessian of J at θ* (d, d)."""
    return np.asarray(jax.jit(jax.hessian(objective(model, inputs, labels)))(model.theta))


def row_gradients(model: Model, inputs, labels) -> np.ndarray:
    """∇ℓ of every row, one at a time (n, d)."""

    def loss(theta, x, y):
        return model.example_losses(theta, x[None], y[None])[0]

    gradient = jax.jit(jax.grad(loss))
    rows = zip(jnp.asarray(inputs), jnp.asarray(labels), strict=True)
    return np.stack([np.asarray(gradient(model.theta, x, y)) for x, y in rows])


def solve(model: Model, inputs, labels, *, steps: int = 60) -> Model:
    """θ* by Newton's method with step halving, to a gradient of about 1e-13."""
    value, gradient, hessian = _derivatives(model, len(labels))
    rows, targets = jnp.asarray(inputs), jnp.asarray(labels)
    theta = model.theta
    for _ in range(steps):
        slope = gradient(theta, rows, targets)
        if float(jnp.linalg.norm(slope)) < 1e-13:
            break
        step = jnp.linalg.solve(hessian(theta, rows, targets), slope)
        here = value(theta, rows, targets)
        while value(theta - step, rows, targets) > here + 1e-15:
            step = step / 2
        theta = theta - step
    return model.with_params(model.network.unravel(theta))


@functools.lru_cache(maxsize=8)
def _derivatives(model: Model, num_rows: int):
    """Compiled once per model and number of rows: leave-one-out tests solve many of them."""
    del num_rows

    def value(theta, rows, targets):
        losses = model.example_losses(theta, rows, targets)
        return jnp.mean(losses) + 0.5 * model.l2 * jnp.sum(theta**2)

    return jax.jit(value), jax.jit(jax.grad(value)), jax.jit(jax.hessian(value))


@dataclass(frozen=True)
class Problem:
    """A small classification problem and a model trained on it."""

    model: Model
    inputs: np.ndarray
    labels: np.ndarray


# Problems are made once: they are never changed, and a model keeps what was compiled for it.
@functools.cache
def solved_regression(*, rows=60, features=4, classes=3, l2=1e-2, seed=0) -> Problem:
    """Softmax regression on overlapping clusters, solved to rounding."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, features))
    labels = rng.integers(0, classes, rows).astype(np.int32)
    inputs = centres[labels] + rng.normal(size=(rows, features))
    start = Model(linear, linear_params(features, classes, rng), l2=l2)
    return Problem(solve(start, inputs, labels), inputs, labels)


@functools.cache
def random_convolution() -> Problem:
    """A convolution and a logit at random weights."""
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 3, 2, 4)), "head": rng.normal(size=(4, 1))}

    def apply(params, images):
        found = jax.lax.conv_general_dilated(
            images, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.tanh(found).mean(axis=(1, 2)) @ params["head"]

    model = Model(apply, jax.tree.map(jnp.asarray, params), loss="binary_cross_entropy")
    labels = rng.integers(0, 2, 50).astype(np.int32)
    return Problem(model, rng.normal(size=(50, 6, 6, 2)), labels)


@functools.cache
def random_mlp(*, rows=40, features=5, hidden=6, classes=3, l2=1e-2, seed=0) -> Problem:
    """A small net at random weights: its Hessian is indefinite."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, features))
    labels = rng.integers(0, classes, rows).astype(np.int32)
    return Problem(Model(mlp, mlp_params(features, hidden, classes, rng), l2=l2), inputs, labels)
