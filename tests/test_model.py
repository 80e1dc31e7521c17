"""Losses against NumPy formulas, probabilities in batches, and models that cannot be used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.errors import DataError, ModelError, RainError, ShapeError
from rainpp.loss import find_loss
from rainpp.model import Model, check_inputs

RNG = np.random.default_rng(1)
ROWS = RNG.normal(size=(7, 4))
WEIGHTS = {"w": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}


def apply(params, inputs):
    return inputs @ params["w"] + params["b"][None]


MODEL = Model(apply, WEIGHTS, l2=0.1)
OUTPUTS = ROWS @ WEIGHTS["w"] + WEIGHTS["b"]


def softmax(outputs):
    weights = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


# --- losses

LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=6).map(np.array)


@given(outputs=LOGITS, data=st.data())
def test_cross_entropy_and_its_gradient(outputs, data):
    label = data.draw(st.integers(0, len(outputs) - 1))
    value, slope = jax.value_and_grad(find_loss("cross_entropy").of_row)(outputs, label)
    assert_allclose(value, -np.log(softmax(outputs)[label]), rtol=1e-9, atol=1e-12)
    assert_allclose(slope, softmax(outputs) - np.eye(len(outputs))[label], atol=1e-12)


@given(logit=st.floats(-30, 30), label=st.integers(0, 1))
def test_binary_cross_entropy_and_its_gradient(logit, label):
    of_row = find_loss("binary_cross_entropy").of_row
    value, slope = jax.value_and_grad(of_row)(np.array([logit]), label)
    p = sigmoid(logit)
    # log(1 - p) written as log sigmoid(-x), where 1 - p would round to nothing.
    expected = -np.log(p) if label else -np.log(sigmoid(-logit))
    assert_allclose(value, expected, rtol=1e-9, atol=1e-12)
    assert_allclose(slope, [p - label], atol=1e-12)


@given(outputs=LOGITS, shift=st.floats(-5, 5))
def test_squared_error_is_half_the_squared_distance(outputs, shift):
    label = outputs[::-1] + shift
    value, slope = jax.value_and_grad(find_loss("squared_error").of_row)(outputs, label)
    half = 0.5 * sum((o - y) ** 2 for o, y in zip(outputs, label, strict=True))
    assert_allclose(value, half, atol=np.finfo(float).tiny)  # XLA flushes subnormals to zero
    assert_allclose(slope, outputs - label, atol=np.finfo(float).tiny)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_extreme_logits_neither_overflow_nor_lose_the_gradient(name):
    outputs = np.array([1000.0, -1000.0])[: 2 if name == "cross_entropy" else 1]
    wrong = 1 if name == "cross_entropy" else 0
    value, slope = jax.value_and_grad(find_loss(name).of_row)(outputs, wrong)
    assert_allclose(value, 2000.0 if name == "cross_entropy" else 1000.0)
    assert_allclose(slope, [1, -1] if name == "cross_entropy" else [1])


def test_example_losses_are_one_per_row_without_l2():
    labels = np.array([0, 1, 2, 0, 1, 2, 0], np.int32)
    losses = MODEL.example_losses(MODEL.theta, ROWS, labels)
    expected = [-np.log(softmax(OUTPUTS)[row, label]) for row, label in enumerate(labels)]
    assert_allclose(losses, expected)


def test_one_logit_may_come_with_or_without_its_column():
    flat = Model(lambda p, x: x @ p, WEIGHTS["w"][:, 0], loss="binary_cross_entropy")
    column = Model(lambda p, x: (x @ p)[:, None], WEIGHTS["w"][:, 0], loss="binary_cross_entropy")
    labels = np.array([0, 1, 1, 0, 1, 0, 0], np.int32)
    logits = ROWS @ WEIGHTS["w"][:, 0]
    both = np.stack([1 - sigmoid(logits), sigmoid(logits)], axis=1)
    for model in (flat, column):
        assert model.outputs(model.theta, ROWS).shape == (7, 1)
        assert_allclose(model.probabilities(ROWS), both)
        losses = model.example_losses(model.theta, ROWS, labels)
        assert_allclose(losses, -np.log(both[np.arange(7), labels]))
        assert model.output_width(ROWS) == 1
        assert model.task == "binary"


def test_regression_gives_its_outputs_as_they_are():
    model = Model(apply, WEIGHTS, loss="squared_error")
    assert model.task == "regression"
    assert_allclose(model.probabilities(ROWS), OUTPUTS)


def test_a_function_is_a_loss_whose_outputs_are_logits():
    def hinge(outputs, label):
        return jnp.sum(jnp.maximum(0, outputs - outputs[label] + 1)) - 1

    model = Model(apply, WEIGHTS, loss=hinge)
    labels = np.arange(7, dtype=np.int32) % 3
    own = OUTPUTS[np.arange(7), labels]
    expected = np.maximum(0, OUTPUTS - own[:, None] + 1).sum(axis=1) - 1
    assert_allclose(model.example_losses(model.theta, ROWS, labels), expected)
    assert_allclose(model.probabilities(ROWS), softmax(OUTPUTS))
    assert "loss=custom" in repr(model)


# --- probabilities


@given(batch_size=st.integers(1, 10))
def test_probabilities_do_not_depend_on_the_batch(batch_size):
    found = MODEL.probabilities(ROWS, batch_size=batch_size)
    assert_allclose(found, softmax(OUTPUTS), rtol=1e-12)
    assert_allclose(found.sum(axis=1), np.ones(7), rtol=1e-12)


def test_inputs_may_be_a_pytree():
    def split(params, inputs):
        return apply(params, jnp.concatenate([inputs["left"], inputs["right"][0]], axis=1))

    inputs = {"left": ROWS[:, :1], "right": (ROWS[:, 1:],)}
    found = Model(split, WEIGHTS).probabilities(inputs, batch_size=3)
    assert_allclose(found, softmax(OUTPUTS))


def test_an_output_that_is_nan_is_refused_with_its_row():
    model = Model(lambda p, x: jnp.log(apply(p, x)), WEIGHTS)
    bad = np.flatnonzero((OUTPUTS < 0).any(axis=1))
    with pytest.raises(DataError, match=rf"row {bad[0]} is not finite \({bad.size} rows"):
        model.probabilities(ROWS, batch_size=2)


# --- the parameter vector


def test_theta_is_every_parameter_once_and_outputs_follow_it():
    assert MODEL.num_params == 15
    assert sorted(np.asarray(MODEL.theta)) == sorted([*WEIGHTS["w"].flat, *WEIGHTS["b"]])
    assert_allclose(MODEL.outputs(MODEL.theta, ROWS), OUTPUTS)
    assert_allclose(MODEL.outputs(2 * MODEL.theta, ROWS), 2 * OUTPUTS)


def test_other_weights_keep_the_function_the_loss_and_l2():
    doubled = jax.tree.map(lambda leaf: 2 * leaf, WEIGHTS)
    other = MODEL.with_params(doubled)
    assert (other.apply, other.loss, other.l2) == (MODEL.apply, MODEL.loss, MODEL.l2)
    assert_allclose(other.outputs(other.theta, ROWS), 2 * OUTPUTS)
    with pytest.raises(ModelError, match="structure"):
        MODEL.with_params({"w": WEIGHTS["w"]})


def test_the_fingerprint_changes_with_weights_loss_and_l2_only():
    same = Model(
        lambda p, x: apply(p, x), {name: jnp.asarray(a) for name, a in WEIGHTS.items()}, l2=0.1
    )
    assert same.fingerprint == MODEL.fingerprint
    others = [
        Model(apply, {**WEIGHTS, "b": np.nextafter(WEIGHTS["b"], 9)}, l2=0.1),
        Model(apply, {"w": WEIGHTS["w"], "c": WEIGHTS["b"]}, l2=0.1),
        Model(apply, {**WEIGHTS, "w": WEIGHTS["w"].reshape(3, 4)}, l2=0.1),
        Model(apply, WEIGHTS, l2=0.2),
        Model(apply, WEIGHTS, l2=0.1, loss="squared_error"),
    ]
    assert len({MODEL.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


def test_the_repr_is_short():
    assert repr(MODEL) == "Model(15 parameters, loss=cross_entropy, l2=0.1)"


# --- what cannot be used


def spoiled(row, value):
    rows = ROWS.copy()
    rows[row, 1] = value
    return rows


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Model(apply, {}), "`params` is empty"),
        (lambda: Model(apply, {"w": np.array([1, 2])}), r"`params\['w'\]` has type int64"),
        (lambda: Model(apply, {"w": np.array([True])}), r"`params\['w'\]` has type bool"),
        (lambda: Model(apply, {"w": ["a"]}), r"`params\['w'\]\[0\]`.*floating"),
        (lambda: Model(apply, {"w": np.array([1, np.nan])}), r"`params\['w'\]` holds NaN"),
        (lambda: Model(apply, {"w": np.array([1, -np.inf])}), r"`params\['w'\]` holds NaN or inf"),
        (lambda: Model(apply, WEIGHTS, loss="hinge"), "'hinge'.*cross_entropy.*squared_error"),
        (lambda: Model(apply, WEIGHTS, l2=-0.5), r"`l2` is -0\.5.*>= 0"),
        (lambda: Model(apply, WEIGHTS, l2=np.nan), "`l2` is nan"),
        (lambda: Model(apply, WEIGHTS, l2=np.inf), "`l2` is inf"),
    ],
)
def test_a_model_that_makes_no_sense_cannot_be_made(make, words):
    with pytest.raises(ModelError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "loss", "words"),
    [
        (lambda p, x: apply(p, x)[:, None], "cross_entropy", r"shape \(1, 1, 3\).*\(1, R\)"),
        (lambda p, x: apply(p, x)[0], "cross_entropy", r"shape \(3,\).*\(1, R\)"),
        (lambda p, x: apply(p, x)[:, :1], "cross_entropy", "single output.*binary_cross_entropy"),
        (apply, "binary_cross_entropy", "one logit per row; the model has 3"),
        (lambda p, x: apply(p, x[:, :2]), "cross_entropy", r"`apply` .*inputs.* \(7, 4\)"),
    ],
)
def test_a_model_that_does_not_fit_its_rows_or_loss_is_refused(function, loss, words):
    with pytest.raises(ModelError, match=words) as caught:
        Model(function, WEIGHTS, loss=loss).probabilities(ROWS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (3.0, ShapeError, "rows first"),
        ([], ShapeError, "`inputs`"),
        ([1.0, 2.0], ShapeError, "rows first"),
        ({"a": ROWS, "b": ROWS[:3]}, ShapeError, r"\[3, 7\]"),
        (ROWS[:0], DataError, "no rows"),
        (spoiled(5, np.nan), DataError, r"row 5 .*\(1 such rows"),
        (spoiled(5, np.inf), DataError, "row 5 "),
        ([ROWS, spoiled(2, -np.inf)], DataError, "row 2 "),
        (np.full((7, 2, 2), np.nan), DataError, r"row 0 .*\(7 such rows"),
        (np.array([["a"], [None]], dtype=object), DataError, "objects"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(inputs, error, words):
    with pytest.raises(error, match=words) as caught:
        check_inputs(inputs)
    assert isinstance(caught.value, RainError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i4", "u1", "?"])
def test_numbers_of_every_kind_are_rows(kind):
    assert check_inputs(np.ones((5, 2), kind)) == 5
    assert check_inputs({"a": np.ones(5, kind), "b": jnp.ones((5, 2, 3), kind)}) == 5


def test_what_is_given_is_not_changed():
    rows, weights = ROWS.copy(), jax.tree.map(np.copy, WEIGHTS)
    Model(apply, weights).probabilities(rows)
    assert_array_equal(rows, ROWS)
    assert_array_equal(weights["w"], WEIGHTS["w"])


def test_a_model_that_returns_one_number_is_told_its_shape():
    model = Model(lambda w, x: (x @ w).sum(), np.ones((2, 3)))
    with pytest.raises(ModelError, match=r"`apply` returns shape \(\)"):
        model.probabilities(np.ones((6, 2)))
