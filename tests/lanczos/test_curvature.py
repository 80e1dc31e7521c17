import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.sample import Sample
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


def gauss_newton_of(problem, weights=None):
    """Jᵀ diag(w) ∇²ℓ J / n + l2, row by row, from dense derivatives (d, d)."""
    model = problem.model
    total = np.zeros((model.num_params, model.num_params))
    factors = np.ones(len(problem.labels)) if weights is None else weights
    jacobian = jax.jit(jax.jacobian(lambda t, x: model.outputs(t, x[None])[0]))
    bend = jax.jit(jax.hessian(model.criterion.of_row))
    for x, y, weight in zip(problem.inputs, problem.labels, factors, strict=True):
        rows = np.asarray(jacobian(model.theta, jnp.asarray(x)))
        outputs = model.outputs(model.theta, jnp.asarray(x)[None])[0]
        total += weight * rows.T @ np.asarray(bend(outputs, jnp.asarray(y))) @ rows
    return total / len(problem.labels) + model.l2 * np.eye(model.num_params)


def columns_of(problem, *, weights=None, **settings):
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels, weights=weights)
    curvature = Curvature.of(problem.model, training, **settings)
    return np.stack([np.asarray(curvature.hvp(row)) for row in jnp.eye(curvature.dimension)])


def weights_of(problem):
    drawn = np.random.default_rng(5).uniform(0, 3, len(problem.labels))
    return np.where(np.arange(len(problem.labels)) % 7 == 0, 0.0, drawn)  # some rows do not count


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [oracles.solved_regression, oracles.random_mlp])
def test_gauss_newton_is_the_dense_one(make, weighted):
    problem = make()
    weights = weights_of(problem) if weighted else None
    found = columns_of(problem, weights=weights, kind="gauss_newton", batch_size=7)
    # Row weights are kept in single precision.
    assert_allclose(found, gauss_newton_of(problem, weights), atol=1e-7 if weighted else 1e-12)
    assert np.linalg.eigvalsh(found).min() > 0.99 * problem.model.l2  # convex losses


def test_gauss_newton_of_a_linear_model_is_its_hessian():
    problem = oracles.solved_regression()
    hessian, gauss_newton = (columns_of(problem, kind=kind) for kind in ("hessian", "gauss_newton"))
    assert_allclose(hessian, gauss_newton, atol=1e-12)


def test_gauss_newton_of_a_net_is_not_its_hessian():
    problem = oracles.random_mlp(l2=0.0)
    hessian, gauss_newton = (columns_of(problem, kind=kind) for kind in ("hessian", "gauss_newton"))
    assert np.linalg.eigvalsh(hessian).min() < -1e-3
    assert np.linalg.eigvalsh(gauss_newton).min() > -1e-12
    assert np.abs(hessian - gauss_newton).max() > 1e-3


def test_weights_multiply_the_losses_and_the_mean_stays_over_all_rows():
    problem = oracles.random_mlp()
    weights, model = weights_of(problem), problem.model

    def value(theta):
        losses = model.example_losses(theta, jnp.asarray(problem.inputs), problem.labels)
        return jnp.mean(jnp.asarray(weights) * losses) + 0.5 * model.l2 * jnp.sum(theta**2)

    training = TrainingSet.checked(model, problem.inputs, problem.labels, weights=weights)
    curvature = Curvature.of(model, training, batch_size=9)
    # Row weights are kept in single precision.
    assert curvature.value() == pytest.approx(float(value(model.theta)), rel=1e-7)
    assert_allclose(curvature.gradient(), jax.jit(jax.grad(value))(model.theta), atol=1e-7)
    dense = np.asarray(jax.jit(jax.hessian(value))(model.theta))
    assert_allclose(columns_of(problem, weights=weights), dense, atol=1e-7)


def test_a_sample_is_the_weighted_mean_of_its_rows():
    """Every row drawn twice as heavy and half of them: the dense Hessian of those rows."""
    problem = oracles.random_mlp()
    chosen = np.arange(0, 40, 2)
    half = oracles.Problem(problem.model, problem.inputs[chosen], problem.labels[chosen])
    sample = Sample(chosen, np.full(20, 2.0))
    dense = oracles.dense_hessian(half.model, half.inputs, half.labels)
    assert_allclose(columns_of(problem, sample=sample, batch_size=7), dense, atol=1e-12)
