"""Batches that fit a budget: what is measured, what is chosen, and when it was wrong."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.errors import MemoryBudgetError, SettingsError
from rainpp.index import stages
from rainpp.lanczos.memory import (
    Budget,
    fit_curvature,
    fit_projections,
    is_exhausted,
    read_memory,
    shrinking,
    size_text,
)
from rainpp.model import Model
from rainpp.training_set import TrainingSet

ROWS, FEATURES, WIDTH = 600, 16, 64
quiet = pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")


def network(params, inputs):
    return jnp.tanh(jnp.tanh(inputs @ params["in"]) @ params["mid"]) @ params["out"]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    shapes = {"in": (FEATURES, WIDTH), "mid": (WIDTH, WIDTH), "out": (WIDTH, 3)}
    params = {name: rng.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    inputs = rng.normal(size=(ROWS, FEATURES))
    return Model(network, params, l2=0.1), inputs, rng.integers(0, 3, ROWS)


@pytest.fixture(scope="module")
def training(problem):
    return TrainingSet.checked(*problem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GB", 8 * 10**9),
        ("8 gb", 8 * 10**9),
        ("1.5GiB", 3 << 29),
        ("500M", 500 * 10**6),
        ("2kib", 2048),
        ("12", 12),
        (4096, 4096),
        (1e9, 10**9),
    ],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    assert read_memory(text) == expected


@pytest.mark.parametrize("wrong", ["", "8 apples", "-1GB", "GB", 0, -5, True, [], float("nan")])
def test_other_sizes_are_refused_by_name(wrong):
    with pytest.raises(SettingsError, match="`memory` is") as caught:
        read_memory(wrong)
    assert repr(wrong) in str(caught.value)


def test_bytes_are_written_for_people():
    assert [size_text(n) for n in (12, 1500, 2_500_000_000)] == ["12 bytes", "1.5 kB", "2.5 GB"]


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_a_curvature_batch_fits_what_is_left_and_twice_as_much_does_not(training, problem, kind):
    rows = training.num_rows * FEATURES * 8
    for spare in (200_000, 500_000):
        budget = Budget(rows + 10 * problem[0].num_params * 8 + spare, given=True)
        resident = min(rows, budget.resident)
        fit = fit_curvature(problem[0], training, budget, kind=kind, vectors=10)
        allowed = spare + rows - resident
        assert fit.bytes <= allowed
        assert 1 <= fit.batch < ROWS
        # Four times as many rows would not fit: the choice is no smaller than it must be.
        assert fit.bytes * 4 > allowed / 2


def test_more_memory_never_means_smaller_batches(training, problem):
    found = [
        fit_projections(problem[0], training, Budget(size, given=True), k=4, relabel=True).batch
        for size in (500_000, 1_000_000, 2_000_000, 8_000_000)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1] == 512


def test_the_same_request_has_the_same_batches(training, problem):
    budgets = [Budget(1_000_000, given=True)] * 2
    first, second = (fit_projections(problem[0], training, b, k=4, relabel=True) for b in budgets)
    assert first == second


def test_one_row_that_does_not_fit_is_one_clear_error(training, problem):
    with pytest.raises(MemoryBudgetError, match=re.escape("10 kB (`memory`)")):
        fit_curvature(problem[0], training, Budget(10_000, given=True), kind="hessian", vectors=4)


@quiet
def test_batches_change_nothing_beyond_rounding(problem):
    # 8-byte rows and vectors: 77 kB of rows, 43 kB per vector.
    wide, narrow = (
        rainpp.precompute(*problem, k=3, curvature_rows="all", memory=memory)
        for memory in ("1GB", "1.5MB")
    )
    used = narrow.manifest["memory"]
    assert used["eigenpairs"]["batch"] < 512
    assert used["budget"] == 1_500_000
    assert_allclose(narrow.eigenvalues, wide.eigenvalues, rtol=1e-9)
    scale = np.abs(wide.arrays["projections"]).max()
    signs = np.sign(np.sum(wide.eigenvectors * narrow.eigenvectors, axis=1))
    found = narrow.arrays["projections"] * signs
    assert_allclose(found, wide.arrays["projections"], atol=1e-5 * scale)


def exhausted():
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes.")


def test_running_out_once_halves_the_batch():
    tried = []

    def run(size):
        tried.append(size)
        if len(tried) == 1:
            raise exhausted()
        return "done"

    assert shrinking(run, 100, Budget(10**9, given=True)) == ("done", 50)
    assert tried == [100, 50]


def test_running_out_twice_is_an_error_that_names_the_budget():
    def run(_size):
        raise exhausted()

    with pytest.raises(MemoryBudgetError, match=r"100 rows and again with 50.*1 GB"):
        shrinking(run, 100, Budget(10**9, given=True))


def test_other_failures_are_not_taken_for_a_lack_of_memory():
    def run(_size):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        shrinking(run, 100, Budget(10**9, given=True))
    assert not is_exhausted(ValueError("shape"))


@quiet
def test_an_injected_lack_of_memory_is_survived_and_recorded(problem, monkeypatch):
    real, sizes = stages.project_rows, []

    def failing(work, *rest):
        sizes.append(work.batch_size)
        if len(sizes) == 1:
            raise exhausted()
        return real(work, *rest)

    whole = rainpp.precompute(*problem, k=3, memory="1GB")
    monkeypatch.setattr(stages, "project_rows", failing)
    index = rainpp.precompute(*problem, k=3, memory="1GB")
    assert sizes == [512, 256]
    assert index.manifest["memory"]["projections"] | {"bytes": 0} == {
        "batch": 256,
        "fits": 512,
        "bytes": 0,
    }
    assert_allclose(index.arrays["projections"], whole.arrays["projections"], atol=1e-12)


@quiet
def test_gradients_that_are_all_zero_are_refused(problem):
    def stopped(params, inputs):
        return network(jax.lax.stop_gradient(params), inputs)

    model = Model(stopped, problem[0].params, l2=0.1)
    with pytest.raises(rainpp.errors.ModelError, match="exactly zero"):
        rainpp.precompute(model, *problem[1:], k=3)
