"""Deletions against statsmodels: exact leave-one-out of a linear model, one step of a logistic one.

The numbers are kept as data, with the script that made them, in `tests/lanczos/statsmodels`.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp

FOLDER = Path(__file__).parent / "statsmodels"


def load(name):
    body = json.loads((FOLDER / f"{name}.json").read_text())
    return [np.array(body[key]) for key in ("inputs", "labels", "params", "changes")]


def changes_of_params(loss, inputs, labels, params):
    """Predicted change of every parameter when each row is deleted (n, d), from all pairs."""
    model = rainpp.Model(lambda p, x: x @ p, jnp.asarray(params), loss=loss)
    index = rainpp.precompute(
        model, inputs, labels, k=len(params), interventions=[rainpp.Delete()], curvature_rows="all"
    )
    columns = [index.rank(index.eigenvectors @ axis).effects for axis in np.eye(len(params))]
    return np.stack(columns, axis=1)


def leverage(inputs, weights):
    hessian = (inputs * weights[:, None]).T @ inputs
    return weights * np.einsum("nd,dn->n", inputs, np.linalg.solve(hessian, inputs.T))


@pytest.mark.parametrize("name", ["linear", "logistic"])
def test_deletions_are_those_of_statsmodels(name):
    """statsmodels says what a row adds, and divides by 1 - leverage: the second step of a deletion.

    Influence is the first step; the rest is exact algebra.
    """
    inputs, labels, params, changes = load(name)
    chance = 1 / (1 + np.exp(-inputs @ params))
    weights = np.ones(len(labels)) if name == "linear" else chance * (1 - chance)
    loss = "squared_error" if name == "linear" else "binary_cross_entropy"
    found = changes_of_params(loss, inputs, labels, params)
    share = 1 - leverage(inputs, weights)
    tolerance = 1e-6 * np.abs(changes).max()  # labels of a regression are kept in single precision
    assert_allclose(-found / share[:, None], changes, atol=tolerance)


def test_what_a_leverage_leaves_out_is_small():
    """Bare influence, as a ranking of rows, is the exact deletion's: correlation above 0.99."""
    inputs, labels, params, changes = load("linear")
    found = changes_of_params("squared_error", inputs, labels, params)
    for mine, exact in zip(-found.T, changes.T, strict=True):
        assert np.corrcoef(mine, exact)[0, 1] > 0.99
