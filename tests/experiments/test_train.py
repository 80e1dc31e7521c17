"""Fits end at the optimum of J, and say how they got there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from experiments.data import adult, mnist
from experiments.models import binary_regression, mlp, softmax_regression
from experiments.train import fit_convex, fit_sgd, retrainer
from rainpp.errors import DataError, NotConverged
from rainpp.lanczos.curvature import Curvature
from rainpp.model import Model
from rainpp.training_set import TrainingSet

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(300, 6)).astype(np.float32)
CLASSES = (ROWS[:, :3] + GENERATOR.normal(size=(300, 3))).argmax(axis=1).astype(np.int32)
L2 = 0.01

SOFTMAX = softmax_regression(num_inputs=6, num_classes=3)
BINARY = binary_regression(num_inputs=6)
NETWORK = mlp(num_inputs=6, hidden=(8,), num_classes=3)


def gradient_norm(architecture, params, labels):
    model = Model(architecture.apply, params, loss=architecture.loss, l2=L2)
    training = TrainingSet.checked(model, ROWS, labels)
    return float(jnp.linalg.norm(Curvature.of(model, training).gradient()))


@pytest.mark.parametrize(
    ("architecture", "labels"), [(SOFTMAX, CLASSES), (BINARY, (CLASSES == 0).astype(np.int32))]
)
def test_a_convex_fit_reaches_its_tolerance_by_the_curvatures_own_gradient(architecture, labels):
    params, record = fit_convex(
        architecture.apply, architecture.init(KEY), ROWS, labels, loss=architecture.loss, l2=L2
    )
    assert record.gradient_norm <= 1e-4
    # Single precision: another order of summation moves the gradient by some 1e-7.
    assert gradient_norm(architecture, params, labels) == pytest.approx(
        record.gradient_norm, abs=2e-6
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert record.steps > 0
    assert record.seconds > 0


@pytest.mark.parametrize(
    ("architecture", "labels"), [(SOFTMAX, CLASSES), (BINARY, (CLASSES == 0).astype(np.int32))]
)
def test_a_convex_fit_agrees_with_scikit_learn(architecture, labels):
    start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), architecture.init(KEY))
    params, _ = fit_convex(
        architecture.apply,
        start,
        ROWS.astype(np.float64),
        labels,
        loss=architecture.loss,
        l2=L2,
        tolerance=1e-9,
    )
    # J penalises the bias as well, so scikit-learn gets a column of ones instead of an intercept.
    # Its objective is C · sum of losses + ½‖θ‖².
    reference = LogisticRegression(C=1 / (L2 * 300), fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(np.column_stack([ROWS, np.ones(300)]).astype(np.float64), labels)
    assert_allclose(params["weights"], reference.coef_[:, :-1].T, atol=1e-6)
    assert_allclose(params["bias"], reference.coef_[:, -1], atol=1e-6)


def test_a_warm_start_takes_fewer_steps_to_the_same_place():
    fit = {"l2": L2, "tolerance": 1e-5}
    cold, record = fit_convex(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS[5:], CLASSES[5:], **fit)
    near, _ = fit_convex(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS, CLASSES, **fit)
    warm, shorter = fit_convex(SOFTMAX.apply, near, ROWS[5:], CLASSES[5:], **fit)
    assert shorter.steps < record.steps
    # Both gradients are at most 1e-5 and the curvature at least l2, so 2e-5 / 0.01 bounds this.
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=2e-3), warm, cold)
    _, none = fit_convex(SOFTMAX.apply, warm, ROWS[5:], CLASSES[5:], **fit)
    assert none.steps == 0


def test_a_fit_that_runs_out_of_steps_says_so():
    with pytest.raises(NotConverged, match="after 2 L-BFGS steps"):
        fit_convex(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS, CLASSES, max_steps=2)


def test_a_tolerance_below_single_precision_says_so():
    with pytest.raises(NotConverged, match="tolerance"):
        fit_convex(
            SOFTMAX.apply, SOFTMAX.init(KEY), ROWS, CLASSES, l2=L2, tolerance=0, max_steps=50
        )


@pytest.mark.parametrize("fit", [fit_convex, fit_sgd])
def test_unusable_rows_are_refused_before_any_work(fit):
    with pytest.raises(DataError, match="labels"):
        fit(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS, CLASSES + 1)


def test_sgd_ends_near_a_stationary_point_of_the_penalised_loss():
    start = NETWORK.init(KEY)
    params, record = fit_sgd(
        NETWORK.apply, start, ROWS, CLASSES, l2=L2, epochs=600, batch_size=300, learning_rate=1e-2
    )
    assert record.steps == 600
    assert record.gradient_norm == pytest.approx(gradient_norm(NETWORK, params, CLASSES), rel=1e-4)
    assert record.gradient_norm < 0.02 * gradient_norm(NETWORK, start, CLASSES)


def test_sgd_finds_the_convex_optimum():
    settings = {"l2": L2, "epochs": 200, "batch_size": 100, "learning_rate": 0.05}
    params, _ = fit_sgd(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS, CLASSES, **settings)
    exact, _ = fit_convex(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS, CLASSES, l2=L2)
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=0.02), params, exact)


def test_a_seed_repeats_an_sgd_fit_and_leaves_the_start_alone():
    start = NETWORK.init(KEY)
    before = jax.tree.map(np.array, start)

    def fitted(seed):
        return fit_sgd(NETWORK.apply, start, ROWS, CLASSES, epochs=2, seed=seed)[0]["weights0"]

    assert_array_equal(fitted(0), fitted(0))
    assert (np.asarray(fitted(0)) != np.asarray(fitted(1))).any()
    jax.tree.map(assert_array_equal, start, before)


@pytest.mark.parametrize("fit", [fit_convex, fit_sgd])
def test_a_retrainer_takes_rows_and_gives_parameters(fit):
    retrain = retrainer(fit, SOFTMAX.apply, SOFTMAX.init(KEY), l2=L2)
    params = retrain(ROWS[:200], CLASSES[:200])
    assert params["weights"].shape == (6, 3)
    direct, _ = fit(SOFTMAX.apply, SOFTMAX.init(KEY), ROWS[:200], CLASSES[:200], l2=L2)
    assert_array_equal(params["weights"], direct["weights"])


def real(load):
    try:
        return load()
    except DataError as absent:
        pytest.skip(str(absent))


def accuracy(architecture, params, data):
    model = Model(architecture.apply, params, loss=architecture.loss)
    predicted = model.probabilities(data.test_inputs).argmax(axis=1)
    return (predicted == data.test_labels).mean()


@pytest.mark.slow
def test_adult_is_predicted_as_well_as_published():
    data, model = real(adult), binary_regression()
    params, _ = fit_convex(
        model.apply, model.init(KEY), data.train_inputs, data.train_labels, loss=model.loss
    )
    assert accuracy(model, params, data) > 0.84


@pytest.mark.slow
def test_mnist_is_predicted_as_well_as_published():
    data, model = real(mnist), softmax_regression()
    params, _ = fit_convex(model.apply, model.init(KEY), data.train_inputs, data.train_labels)
    assert accuracy(model, params, data) > 0.92


@pytest.mark.slow
def test_mnist_is_predicted_better_by_a_network():
    data, model = real(mnist), mlp()
    params, _ = fit_sgd(model.apply, model.init(KEY), data.train_inputs, data.train_labels)
    assert accuracy(model, params, data) > 0.975
