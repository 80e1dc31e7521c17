"""Small trained models of every kind, with their losses written out a second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from rainpp.model import Model

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 40, 3, 3


@dataclass(frozen=True)
class Problem:
    """A trained model, its rows, and the loss of one row as plain formulas."""

    model: Model
    inputs: np.ndarray
    labels: np.ndarray
    num_classes: int
    row_loss: Callable[[Any, Any, Any], Any]  # (flat parameters, x, label) -> scalar

    @cached_property
    def hessian(self):
        """Dense Hessian of mean loss + l2/2 |theta|^2 at the model's parameters."""
        objective = objective_of(self.row_loss, self.inputs, self.labels, self.model.l2)
        return np.asarray(jax.jit(jax.hessian(objective))(self.model.theta))

    @cached_property
    def losses(self):
        """Loss of every row under every label (n, R); under its own (n, 1) for regression."""
        return np.asarray(self._of_every_label(self.row_loss))

    @cached_property
    def gradients(self):
        """Gradient of every row's loss under every label, likewise (n, R, d) or (n, 1, d)."""
        return np.asarray(self._of_every_label(jax.grad(self.row_loss)))

    def own(self, row):
        """Column of `losses` and `gradients` for the label the row has."""
        return 0 if self.labels.ndim == 2 else int(self.labels[row])

    def _of_every_label(self, function):
        over_rows = jax.jit(jax.vmap(function, in_axes=(None, 0, 0)))
        if self.labels.ndim == 2:
            return over_rows(self.model.theta, self.inputs, self.labels)[:, None]
        columns = [
            over_rows(self.model.theta, self.inputs, np.full(len(self.labels), label))
            for label in range(self.num_classes)
        ]
        return jnp.stack(columns, axis=1)


def objective_of(row_loss, inputs, labels, l2):
    over_rows = jax.vmap(row_loss, in_axes=(None, 0, 0))
    return lambda theta: over_rows(theta, inputs, labels).mean() + 0.5 * l2 * jnp.sum(theta**2)


def linear(params, inputs):
    return inputs @ params["w"] + params["b"][None]


def one_logit(params, inputs):
    return inputs @ params["w"] + params["b"]


def network(params, inputs):
    return jnp.tanh(inputs @ params["first"] + params["b"][None]) @ params["last"]


def cross_entropy(outputs, label):
    return jnp.log(jnp.sum(jnp.exp(outputs))) - outputs[label]


def binary_cross_entropy(logit, label):
    probability = 1 / (1 + jnp.exp(-logit))
    return -jnp.log(jnp.where(label == 1, probability, 1 - probability))


def squared_error(outputs, label):
    return 0.5 * jnp.sum((outputs - label) ** 2)


_WIDE = {"w": (NUM_FEATURES, NUM_CLASSES), "b": (NUM_CLASSES,)}
_KINDS = {
    "logistic regression": (linear, "cross_entropy", cross_entropy, _WIDE, 1e-2),
    "network": (
        network,
        "cross_entropy",
        cross_entropy,
        {"first": (NUM_FEATURES, 3), "b": (3,), "last": (3, NUM_CLASSES)},
        5e-2,
    ),
    "one logit": (
        one_logit,
        "binary_cross_entropy",
        binary_cross_entropy,
        {"w": (NUM_FEATURES,), "b": ()},
        1e-2,
    ),
    "regression": (linear, "squared_error", squared_error, _WIDE, 1e-2),
}


@cache
def make_problem(kind):
    apply, loss, formula, shapes, l2 = _KINDS[kind]
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(NUM_ROWS, NUM_FEATURES))
    # Labels of a noisy linear rule: neither separable nor unrelated to the inputs.
    scores = inputs @ rng.normal(size=(NUM_FEATURES, NUM_CLASSES)) + rng.normal(
        size=(NUM_ROWS, NUM_CLASSES)
    )
    labels = {
        "cross_entropy": scores.argmax(axis=1),
        "binary_cross_entropy": (scores[:, 0] > 0).astype(int),
        "squared_error": scores,
    }[loss]
    start = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    flat, unflatten = ravel_pytree(start)

    def row_loss(theta, x, label):
        return formula(apply(unflatten(theta), x[None])[0], label)

    both = jax.jit(jax.value_and_grad(objective_of(row_loss, inputs, labels, l2)))
    options = {"maxiter": 1000, "ftol": 0, "gtol": 1e-10}
    found = minimize(both, np.asarray(flat), jac=True, method="L-BFGS-B", options=options)
    model = Model(apply, unflatten(jnp.asarray(found.x)), loss=loss, l2=l2)
    num_classes = 2 if loss == "binary_cross_entropy" else NUM_CLASSES
    return Problem(model, inputs, labels, num_classes, row_loss)


@pytest.fixture(params=sorted(_KINDS))
def problem(request):
    """One problem of each kind."""
    return make_problem(request.param)


@pytest.fixture(params=["logistic regression", "network", "one logit"])
def classifier(request):
    """The problems whose labels are classes."""
    return make_problem(request.param)


@pytest.fixture
def logistic():
    """Logistic regression over three classes."""
    return make_problem("logistic regression")


@pytest.fixture
def regression():
    """Linear regression of three numbers."""
    return make_problem("regression")
