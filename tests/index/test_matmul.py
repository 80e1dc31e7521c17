"""An index whose products were rounded to bfloat16: near the other, and it says so."""

from __future__ import annotations

import inspect
from dataclasses import fields

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr

import rainpp
from rainpp.errors import SettingsError
from rainpp.index.prepare import Options
from rainpp.metrics import auc_r
from rainpp.model import Model
from rainpp.settings import Settings, read_settings

RNG = np.random.default_rng(5)
CENTRES = RNG.normal(size=(3, 10))
TRUE = RNG.integers(0, 3, 1000)
ROWS = (CENTRES[TRUE] + RNG.normal(size=(1000, 10))).astype(np.float32)
WRONG = (TRUE == 1) & (RNG.random(1000) < 0.3)
LABELS = np.where(WRONG, 2, TRUE)


def linear(params, inputs):
    return inputs @ params


@pytest.fixture(scope="module")
def model():
    """Softmax regression at its optimum, in float32."""
    from scipy.optimize import minimize

    fitted = Model(linear, np.zeros((10, 3)), l2=1e-2)

    def objective(flat):
        losses = fitted.example_losses(flat, ROWS.astype(np.float64), LABELS)
        return losses.mean() + 0.5e-2 * (flat**2).sum()

    slope = jax.jit(jax.value_and_grad(objective))
    found = minimize(slope, np.zeros(30), jac=True, method="L-BFGS-B", options={"gtol": 1e-8})
    return Model(linear, found.x.reshape(10, 3).astype(np.float32), l2=1e-2)


@pytest.fixture(scope="module")
def indexes(model):
    """As usual, as usual in words, and in bfloat16."""
    return [
        rainpp.precompute(model, ROWS, LABELS, k=4, curvature_rows="all", **options)
        for options in ({}, {"matmul": "float32"}, {"matmul": "bfloat16"})
    ]


def scores(model, index):
    """Of deleting each row, for the count of class 1, which is too low."""
    sample = ROWS[:200]
    values = index.eigenvectors.reshape(index.k, 10, 3)
    logits = sample @ np.asarray(model.params)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tangents = np.einsum("nf,kfr->knr", sample, values)
    slope = chances[:, 1] * (tangents[:, :, 1] - (chances * tangents).sum(axis=2))
    return index.rank(slope.sum(axis=1)).effects[:1000]


def test_float32_is_what_nobody_has_to_ask_for(indexes):
    usual, told, _ = indexes
    assert usual.manifest["matmul"] == told.manifest["matmul"] == "float32"
    for name, array in usual.arrays.items():
        assert_array_equal(told.arrays[name], array, strict=True)


def test_bfloat16_changes_the_numbers_a_little_and_the_ranking_hardly(model, indexes):
    usual, _, other = indexes
    assert other.manifest["matmul"] == "bfloat16"
    signs = np.sign(np.sum(usual.eigenvectors * other.eigenvectors, axis=1))
    change = other.arrays["projections"] * signs - usual.arrays["projections"]
    size = np.linalg.norm(change) / np.linalg.norm(usual.arrays["projections"])
    assert 5e-4 < size < 2e-2
    assert_allclose(other.eigenvalues, usual.eigenvalues, rtol=1e-2)
    found = [scores(model, index) for index in (usual, other)]
    assert not np.array_equal(*found)
    assert spearmanr(*found).statistic > 0.999
    areas = [auc_r(each, WRONG) for each in found]
    assert areas[0] > 0.7
    assert abs(areas[0] - areas[1]) < 0.01


def test_eigenvectors_stay_orthogonal_as_in_float32(indexes):
    vectors = indexes[2].eigenvectors
    assert_allclose(vectors @ vectors.T, np.eye(4), atol=3e-6)


def test_losses_do_not_change(indexes):
    assert_array_equal(indexes[2].arrays["losses"], indexes[0].arrays["losses"])
    assert indexes[2].manifest["checks"]["gradient_norm"] < 1e-4


def float64_check(index):
    (found,) = [item for item in index.manifest["self_checks"] if item["name"] == "float64"]
    return found


def test_the_self_check_says_how_far_off_products_are(indexes):
    usual, other = float64_check(indexes[0]), float64_check(indexes[2])
    assert usual["value"] < 1e-5
    assert 5e-4 < other["value"] < other["limit"]
    assert "bfloat16" in other["note"]
    assert other["passed"]


def test_the_self_check_advises_float32_where_bfloat16_is_too_coarse(model):
    def cancelling(params, inputs):  # products of 100 and more, which all but cancel
        return inputs @ (params + 100) - inputs @ (100 + 0 * params)

    coarse = Model(cancelling, model.params, l2=1e-2)
    index = rainpp.precompute(coarse, ROWS, LABELS, k=2, curvature_rows="all", matmul="bfloat16")
    check = float64_check(index)
    assert not check["passed"]
    assert "matmul='float32'" in check["advice"]


def test_it_is_part_of_the_request(model, tmp_path):
    path = tmp_path / "x.rain"
    options = {"k": 2, "curvature_rows": "all", "path": path, "again": False}
    first = rainpp.precompute(model, ROWS, LABELS, **options)
    other = rainpp.precompute(model, ROWS, LABELS, matmul="bfloat16", **options)
    assert other.manifest["request"] != first.manifest["request"]
    assert rainpp.load(path).manifest["matmul"] == "bfloat16"


def test_words_that_are_not_known_and_weights_in_float64_are_refused(model):
    wide = Model(linear, np.asarray(model.params, np.float64), l2=1e-2)
    for call in (rainpp.precompute, rainpp.estimate):
        with pytest.raises(SettingsError, match="`matmul` is 'half'"):
            call(model, ROWS, LABELS, matmul="half")
        with pytest.raises(SettingsError, match="weights are float64"):
            call(wide, ROWS, LABELS, matmul="bfloat16")


def test_a_file_and_a_flag_can_ask_for_it(tmp_path):
    assert Settings().index.matmul == "float32"
    file = tmp_path / "rainpp.toml"
    file.write_text('[index]\nmatmul = "bfloat16"\n')
    assert read_settings(file).index.matmul == "bfloat16"
    with pytest.raises(SettingsError, match=r"matmul.*'half'.*float32.*bfloat16"):
        Settings().override("index", matmul="half")


def test_what_can_be_told_is_told_with_the_same_defaults():
    """`estimate` takes its options from the same object as `precompute`."""
    parameters = inspect.signature(rainpp.precompute).parameters.values()
    told = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    del told["again"], told["progress"]
    assert told == {field.name: field.default for field in fields(Options)}
