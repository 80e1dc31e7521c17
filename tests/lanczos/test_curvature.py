import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.lanczos.curvature import Curvature
from rainpp.training_set import TrainingSet
from tests import oracles


def curvature_of(problem, batch_size=1024):
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    return Curvature.of(problem.model, training, batch_size=batch_size)


@pytest.mark.parametrize("make", [oracles.solved_regression, oracles.random_mlp])
def test_products_are_the_dense_hessian(make):
    problem = make()
    curvature = curvature_of(problem)
    identity = jnp.eye(curvature.dimension)
    columns = np.stack([np.asarray(curvature.hvp(row)) for row in identity])
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    assert_allclose(columns, dense, atol=1e-12)
    assert_allclose(columns, columns.T, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 39, 40, 1000])
def test_batch_size_and_padding_change_nothing(batch_size):
    # 40 rows: 7 leaves a padded batch of 5, 39 a padded batch of one real row.
    problem = oracles.random_mlp()
    value = oracles.objective_value(problem.model, problem.inputs, problem.labels)
    rows = oracles.row_gradients(problem.model, problem.inputs, problem.labels)
    gradient = rows.mean(axis=0) + problem.model.l2 * np.asarray(problem.model.theta)
    curvature = curvature_of(problem, batch_size)
    vector = jax.random.normal(jax.random.key(1), (curvature.dimension,))
    dense = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    assert curvature.value() == pytest.approx(value, rel=1e-13)
    assert_allclose(curvature.gradient(), gradient, atol=1e-13)
    assert_allclose(curvature.hvp(vector), dense @ np.asarray(vector), atol=1e-11)


def test_row_order_changes_only_rounding():
    problem = oracles.random_mlp()
    order = np.random.default_rng(3).permutation(len(problem.labels))
    shuffled = oracles.Problem(problem.model, problem.inputs[order], problem.labels[order])
    vector = jnp.ones(problem.model.num_params)
    assert_allclose(
        curvature_of(problem, 9).hvp(vector), curvature_of(shuffled, 9).hvp(vector), atol=1e-12
    )


def test_l2_is_on_the_diagonal():
    light, heavy = oracles.random_mlp(l2=0.0), oracles.random_mlp(l2=0.5)
    vector = jax.random.normal(jax.random.key(2), (light.model.num_params,))
    difference = curvature_of(heavy).hvp(vector) - curvature_of(light).hvp(vector)
    assert_allclose(difference, 0.5 * vector, atol=1e-12)
