"""Rows in batches, on the device or streamed: the same sums whatever the cut."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.lanczos.batches import Batches, StreamedBatches, make_batches, row_bytes
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.sample import Sample
from rainpp.training_set import TrainingSet
from tests import oracles

ROW = 5 * 8  # bytes of a row of random_mlp's inputs, float64


def training_of(problem, weights=None):
    return TrainingSet.checked(problem.model, problem.inputs, problem.labels, weights=weights)


def unfolded(batches):
    """Rows, labels and weights in the order of the batches, padding included."""
    parts = [
        (
            np.asarray(chunk.inputs).reshape(-1, 5),
            np.asarray(chunk.labels).ravel(),
            np.asarray(chunk.weights).ravel(),
        )
        for chunk in batches.chunks()
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 7, 13, 39, 40, 41, 1000])
@pytest.mark.parametrize("resident_bytes", [1, 500, 4 * 14 * ROW, 1 << 20])
def test_every_row_counts_once_in_order_and_padding_never(batch_size, resident_bytes):
    problem = oracles.random_mlp()
    batches = make_batches(training_of(problem), batch_size, resident_bytes=resident_bytes)
    rows, labels, weights = unfolded(batches)
    real = weights > 0
    assert_allclose(rows[real], problem.inputs)
    assert np.array_equal(labels[real], problem.labels)
    assert weights[real].tolist() == [1.0] * 40
    assert np.isfinite(rows[~real]).all()


@pytest.mark.parametrize("batch_size", [7, 40, 64])
def test_batches_apart_are_alike_and_give_the_same_sums(batch_size):
    problem = oracles.random_mlp()
    training = training_of(problem, weights=np.linspace(0.5, 2, 40))
    apart = make_batches(training, batch_size, apart=True)
    assert {chunk.weights.shape for chunk in apart.chunks()} == {(1, batch_size)}
    _, labels, weights = unfolded(apart)
    assert labels[weights > 0].tolist() == problem.labels.tolist()
    vector = np.linspace(-1, 1, problem.model.num_params)
    products = [
        Curvature.of(problem.model, training, batch_size=batch_size, apart=apart).hvp(vector)
        for apart in (True, False)
    ]
    assert_allclose(*products, rtol=1e-12)


def test_rows_are_resident_when_they_fit_and_streamed_when_not():
    training = training_of(oracles.random_mlp())
    assert row_bytes(training) == ROW
    assert isinstance(make_batches(training, 8, resident_bytes=40 * ROW), Batches)
    assert isinstance(make_batches(training, 8, resident_bytes=40 * ROW - 1), StreamedBatches)


def test_streamed_chunks_are_whole_batches_of_a_quarter_of_the_budget():
    training = training_of(oracles.random_mlp())
    batches = make_batches(training, 4, resident_bytes=4 * 8 * ROW)  # two batches of four rows
    shapes = [chunk.weights.shape for chunk in batches.chunks()]
    assert shapes == [(2, 4)] * 5


def test_a_row_of_several_arrays_is_measured_whole():
    problem = oracles.random_mlp()
    training = training_of(problem)
    wide = TrainingSet(
        {"a": problem.inputs, "b": np.zeros((40, 3), np.float32)},
        training.labels,
        training.ids,
        training.weights,
    )
    assert row_bytes(wide) == ROW + 12


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("batch_size", [3, 16, 40])
def test_streamed_products_are_the_resident_ones(kind, batch_size):
    problem = oracles.random_mlp()
    weights = np.random.default_rng(0).uniform(0, 2, 40)
    training = training_of(problem, weights)
    vector = jax.random.normal(jax.random.key(0), (problem.model.num_params,))
    resident, streamed = (
        Curvature.of(
            problem.model, training, batch_size=batch_size, kind=kind, resident_bytes=budget
        )
        for budget in (1 << 30, 39 * ROW)
    )
    assert isinstance(streamed.batches, StreamedBatches)
    assert_allclose(streamed.hvp(vector), resident.hvp(vector), rtol=1e-10, atol=1e-12)
    assert_allclose(streamed.gradient(), resident.gradient(), rtol=1e-10, atol=1e-12)
    assert streamed.value() == pytest.approx(resident.value(), rel=1e-12)


def test_a_sample_multiplies_the_weights_of_its_rows():
    problem = oracles.random_mlp()
    weights = np.arange(40) / 8.0
    sample = Sample(np.array([2, 5, 30]), np.array([10.0, 20.0, 10.0]))
    batches = make_batches(training_of(problem, weights), 2, sample=sample)
    rows, _, counts = unfolded(batches)
    assert counts.tolist() == [2.5, 12.5, 37.5, 0.0]
    assert_allclose(rows[:3], problem.inputs[[2, 5, 30]])
