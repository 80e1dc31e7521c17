"""Influence in a small network against captum's, which forms the Hessian and inverts it.

The numbers are kept as data, with the script that made them, in `tests/lanczos/captum`.
"""

import json
from pathlib import Path

import duckdb
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import rainpp

FILE = Path(__file__).parent / "captum" / "network.json"
COLUMNS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def case():
    body = json.loads(FILE.read_text())
    arrays = {name: np.array(value) for name, value in body.items() if isinstance(value, list)}
    weights = {name: jnp.asarray(leaf) for name, leaf in body["weights"].items()}
    return rainpp.Model(apply, weights, loss="cross_entropy", l2=body["l2"]), arrays


@pytest.fixture(scope="module")
def index(case):
    """From all pairs."""
    return precompute(case, case[0].num_params)


def apply(weights, inputs):
    hidden = jnp.tanh(inputs @ weights["0.weight"].T + weights["0.bias"][None, :])
    return hidden @ weights["2.weight"].T + weights["2.bias"][None, :]


def precompute(case, k):
    model, arrays = case
    inputs, labels = arrays["inputs"], arrays["labels"]
    deletions = [rainpp.Delete()]
    return rainpp.precompute(
        model, inputs, labels, k=k, interventions=deletions, curvature_rows="all"
    )


def complaint(case, index):
    """The count of test rows of class 1 is too low."""
    model, arrays = case
    connection = duckdb.connect()
    connection.register("frame", pd.DataFrame(arrays["test_inputs"], columns=COLUMNS))
    connection.execute("CREATE TABLE rows AS SELECT * FROM frame")
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    result = database.sql(f"SELECT count(*) AS n FROM rows WHERE predict({', '.join(COLUMNS)}) = 1")
    return result.complain("n", should="increase")


def assert_same(effects, changes):
    """To 1e-11 of the largest; they differ by 2e-14 of it."""
    assert_allclose(effects, changes, rtol=0, atol=1e-11 * np.abs(changes).max())


def test_deletions_change_the_loss_of_a_test_row_as_captum_says(case, index):
    model, arrays = case
    rows, labels = jnp.asarray(arrays["test_inputs"]), arrays["test_labels"]

    def losses(theta):
        chances = jax.nn.log_softmax(model.outputs(theta, rows))
        return -chances[jnp.arange(len(labels)), jnp.asarray(labels)]

    gradients = np.asarray(jax.jit(jax.jacobian(losses))(model.theta))
    for gradient, changes in zip(gradients, arrays["on_loss"], strict=True):
        assert_same(index.rank(index.eigenvectors @ gradient).effects, changes)


def test_deletions_change_a_count_as_captum_says(case, index):
    """From SQL to effects: captum's, on the probabilities whose sum is the relaxed count."""
    effects = complaint(case, index).rank().effects
    assert_same(effects, case[1]["on_probability"].sum(axis=0))


def test_refinement_ends_where_captum_is(case):
    ranking = complaint(case, precompute(case, 5)).rank()
    changes = case[1]["on_probability"].sum(axis=0)
    assert np.abs(ranking.effects - changes).max() > 0.1 * np.abs(changes).max()
    ranking.refine(steps=60)
    assert_same(ranking.effects, changes)
