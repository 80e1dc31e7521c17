"""Self-checks: good models pass all, and each check finds the fault it is there for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rainpp
from rainpp.index.checks import run_checks
from rainpp.index.prepare import Options, prepare
from rainpp.lanczos.optimum import Optimality
from rainpp.lanczos.subsample import Request, sampled_eigenpairs
from rainpp.model import Model

NAMES = ["eigenpair residuals", "adjoint", "gradient norm", "batch split", "float64", "coverage"]
GOOD = Optimality(1e-6, 1.0)
ROWS = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)
PARAMS = {"w": np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)}


def linear(params, inputs):
    return inputs @ params["w"]


def checks_of(apply, params=PARAMS, *, change=lambda found: found, optimality=GOOD, k=3):
    model = Model(apply, params, l2=0.1)
    prepared = prepare(model, ROWS, LABELS, Options(curvature_rows="all", memory="1GB"))
    found = change(sampled_eigenpairs(Request(model, prepared.training, k, 2, rows="all")))
    return {item["name"]: item for item in run_checks(prepared, found, optimality)}


def failed(checks):
    return {name for name, item in checks.items() if not item["passed"]}


def test_a_trained_model_passes_and_the_manifest_keeps_it(classifier, tmp_path):
    arguments = (classifier.model, classifier.inputs, classifier.labels)
    rainpp.precompute(*arguments, k=3, path=tmp_path / "x.rain")
    kept = rainpp.load(tmp_path / "x.rain").manifest["self_checks"]
    assert [check["name"] for check in kept] == NAMES
    assert all(check["passed"] for check in kept if check["name"] != "coverage")
    assert all(bool(check["advice"]) != check["passed"] for check in kept)


def test_float32_is_compared_with_float64():
    check = checks_of(linear)["float64"]
    assert check["passed"]
    assert 0 < check["value"] < 1e-5
    assert "float32" in check["note"]


def test_a_model_that_rounds_badly_is_found():
    def cancelling(params, inputs):
        big = 8e6 + 0 * inputs[:, :1]  # not a constant: XLA would add nothing and take it off
        return (inputs @ params["w"] + big) - big

    assert "float64" in failed(checks_of(cancelling))


def test_a_model_that_cannot_run_in_float64_says_so():
    def single(params, inputs):
        return (inputs @ params["w"]).astype(jnp.float32)

    check = checks_of(single)["float64"]
    assert check["passed"]
    assert check["value"] is None
    assert "does not run in float64" in check["note"]


def test_rows_that_influence_each_other_are_found():
    def batch_norm(params, inputs):
        return (inputs - inputs.mean(axis=0, keepdims=True)) @ params["w"]

    bad = checks_of(batch_norm)["batch split"]
    assert not bad["passed"]
    assert "evaluation mode" in bad["advice"]


def test_pairs_of_another_curvature_are_found():
    def swap(found):
        other = found.pairs.vectors[:, ::-1].copy()
        return replace(found, pairs=replace(found.pairs, vectors=other))

    assert "eigenpair residuals" in failed(checks_of(linear, change=swap))


def test_a_single_bad_pair_among_good_ones_is_found():
    def nudge(found):
        values = found.pairs.values * np.array([1.0, 1.0, 1.1])
        return replace(found, pairs=replace(found.pairs, values=values))

    assert failed(checks_of(linear, change=nudge)) == {"eigenpair residuals"}


def test_products_that_are_not_symmetric_are_found():
    class Crooked:
        dimension, dtype = 12, np.dtype(np.float32)

        def __init__(self, inner):
            self.inner = inner

        def hvp(self, vector):
            return self.inner.hvp(vector) + 0.5 * jnp.roll(vector, 1)

    bad = checks_of(linear, change=lambda found: replace(found, operator=Crooked(found.operator)))
    assert {"adjoint", "eigenpair residuals"} <= failed(bad)


def test_a_model_that_is_not_at_an_optimum_is_found():
    assert failed(checks_of(linear, optimality=Optimality(0.5, 1.0))) == {"gradient norm"}


def test_a_gradient_without_a_scale_has_no_number_but_words():
    check = checks_of(linear, optimality=Optimality(0.5, 0.0))["gradient norm"]
    assert (check["value"], check["passed"]) == (None, False)
    assert "none of it from single rows" in check["note"]


def test_coverage_is_the_share_of_a_complaints_gradient():
    found = [checks_of(linear, k=k)["coverage"]["value"] for k in (1, 3, 12)]
    assert all(small <= large for small, large in itertools.pairwise(found))
    assert found[-1] == pytest.approx(1.0, abs=1e-5)
    assert jax.config.read("jax_enable_x64")  # and the checks leave JAX as they found it
