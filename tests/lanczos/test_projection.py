import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.lanczos import projection
from rainpp.lanczos.projection import (
    gradient_of_probabilities,
    project_inference,
    project_training,
)
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from tests import oracles


def vectors_for(problem, count=4):
    rng = np.random.default_rng(5)
    return jnp.asarray(rng.normal(size=(count, problem.model.num_params)))


@pytest.mark.parametrize("make", [oracles.solved_regression, oracles.random_mlp])
@pytest.mark.parametrize("batch_size", [7, 512])
def test_projections_are_inner_products_of_explicit_gradients(make, batch_size):
    problem = make()
    vectors = vectors_for(problem)
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    found = project_training(problem.model, training, vectors, relabel=True, batch_size=batch_size)
    explicit = oracles.row_gradients(problem.model, problem.inputs, problem.labels)
    assert_allclose(found.gradients, explicit @ np.asarray(vectors).T, atol=1e-12)
    assert found.relabels is not None
    assert found.posteriors is not None
    for shift in range(1, 3):
        others = (problem.labels + shift) % 3
        changed = oracles.row_gradients(problem.model, problem.inputs, others)
        expected = (explicit - changed) @ np.asarray(vectors).T
        assert_allclose(found.relabels[:, shift - 1], expected, atol=1e-12)
        posterior = problem.model.probabilities(problem.inputs)[np.arange(len(others)), others]
        assert_allclose(found.posteriors[:, shift - 1], posterior, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_projections_of_a_convolutional_network_are_those_of_explicit_gradients(count):
    problem = oracles.random_convolution()
    vectors = vectors_for(problem, count)
    explicit = oracles.row_gradients(problem.model, problem.inputs, problem.labels)
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    found = project_training(problem.model, training, vectors)
    assert_allclose(found.gradients, explicit @ np.asarray(vectors).T, atol=1e-12)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reverse mode is for the CPU")
def test_many_vectors_on_a_convolutional_network_take_reverse_mode(monkeypatch):
    def watched(kernel, *rest):
        taken.append((kernel[1], rest[-1]))
        return map_rows(kernel, *rest)

    taken, map_rows = [], projection.map_rows
    monkeypatch.setattr(projection, "map_rows", watched)
    problem = oracles.random_convolution()
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    for count in (2, 3, 40):
        project_training(problem.model, training, vectors_for(problem, count))
    forward, backward = projection._project_batch, projection._project_gradients
    assert taken == [(forward, 512), (backward, 32), (backward, 40)]


def test_relabelling_a_binary_logit_is_the_difference_of_its_two_losses():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(9, 3)), rng.integers(0, 2, 9)
    model = Model(lambda p, x: x @ p, jnp.asarray(rng.normal(size=3)), loss="binary_cross_entropy")
    vectors = jnp.asarray(rng.normal(size=(2, 3)))
    training = TrainingSet.checked(model, inputs, labels)
    found = project_training(model, training, vectors, relabel=True)
    own = oracles.row_gradients(model, inputs, labels)
    flipped = oracles.row_gradients(model, inputs, 1 - labels)
    assert found.relabels is not None
    assert_allclose(found.relabels[:, 0], (own - flipped) @ np.asarray(vectors).T, atol=1e-12)


@pytest.mark.parametrize("batch_size", [7, 512])
def test_inference_projections_are_directional_derivatives(batch_size):
    problem = oracles.random_mlp()
    vectors = vectors_for(problem)
    probabilities, tangents = project_inference(
        problem.model, problem.inputs, vectors, batch_size=batch_size
    )
    step = 1e-6
    for j, vector in enumerate(vectors):
        ahead, behind = (
            problem.model.with_params(
                problem.model.network.unravel(problem.model.theta + sign * step * vector)
            ).probabilities(problem.inputs)
            for sign in (1, -1)
        )
        assert_allclose(tangents[:, :, j], (ahead - behind) / (2 * step), atol=1e-8)
    assert_allclose(probabilities, problem.model.probabilities(problem.inputs), atol=1e-14)


def test_backward_and_forward_mode_agree():
    problem = oracles.random_mlp()
    vectors = vectors_for(problem)
    weights = np.random.default_rng(2).normal(size=(40, 3))
    weights[::3] = 0  # rows a query does not touch are skipped
    gradient = gradient_of_probabilities(problem.model, problem.inputs, weights, batch_size=8)
    _, tangents = project_inference(problem.model, problem.inputs, vectors)
    assert_allclose(
        np.asarray(vectors @ gradient), np.einsum("vr,vrk->k", weights, tangents), atol=1e-11
    )


def test_no_weight_gives_no_gradient():
    problem = oracles.random_mlp()
    gradient = gradient_of_probabilities(problem.model, problem.inputs, np.zeros((40, 3)))
    assert not np.asarray(gradient).any()
