"""The models have the paper's sizes and compute what they say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments.models import (
    PAPER_HIDDEN,
    apply_mlp,
    binary_regression,
    count_params,
    mlp,
    softmax_regression,
)
from rainpp.model import Model

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        (softmax_regression(), 7850),
        (binary_regression(), 50),
        (mlp(), 270_310),
        (mlp(hidden=PAPER_HIDDEN), 1_799_890),
        (mlp(hidden=(1000, 1000)), 1_796_010),
    ],
)
def test_parameter_counts(architecture, count):
    params = architecture.init(KEY)
    assert count_params(params) == count
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("architecture", "features", "classes"),
    [
        (softmax_regression(num_inputs=5, num_classes=3), 5, 3),
        (binary_regression(num_inputs=5), 5, 2),
        (mlp(num_inputs=5, hidden=(4, 6), num_classes=3), 5, 3),
    ],
)
def test_rainpp_takes_them_as_models(architecture, features, classes):
    rows = np.random.default_rng(0).normal(size=(6, features)).astype(np.float32)
    model = Model(architecture.apply, architecture.init(KEY), loss=architecture.loss)
    probabilities = model.probabilities(rows)
    assert probabilities.shape == (6, classes)
    assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_the_network_is_relu_layers():
    params = mlp(num_inputs=3, hidden=(4,), num_classes=2).init(KEY)
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    hidden = np.maximum(rows @ np.asarray(params["weights0"]), 0)
    expected = hidden @ np.asarray(params["weights1"])
    assert_allclose(apply_mlp(params, rows), expected, rtol=1e-5, atol=1e-6)


def test_a_key_repeats_and_another_differs():
    network = mlp(num_inputs=3, hidden=(4,), num_classes=2)
    first, again, other = (network.init(jax.random.key(seed))["weights0"] for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()


def test_the_kinds_share_one_function_to_compile():
    assert mlp().apply is mlp(hidden=PAPER_HIDDEN).apply
    assert softmax_regression().apply is softmax_regression().apply
