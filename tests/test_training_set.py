"""Training rows are checked once, aligned, and known by their content."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from rainpp.errors import DataError, ModelError, RainError, ShapeError
from rainpp.model import Model
from rainpp.training_set import TrainingSet

ROWS = np.random.default_rng(0).normal(size=(6, 2))
LABELS = [0, 1, 2, 0, 1, 2]
MODEL = Model(lambda w, x: x @ w, np.ones((2, 3)))
BINARY = Model(lambda w, x: x @ w, np.ones(2), loss="binary_cross_entropy")
REGRESSION = Model(lambda w, x: x @ w, np.ones((2, 3)), loss="squared_error")
ONE_NUMBER = Model(lambda w, x: x @ w, np.ones(2), loss="squared_error")


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        np.array(LABELS, np.int64),
        np.array(LABELS, np.uint8),
        np.array(LABELS, np.float32),
        jnp.array(LABELS),
        pd.Series(LABELS, index=list("abcdef")),
    ],
    ids=["list", "int64", "uint8", "float32", "jax", "pandas"],
)
def test_whole_numbers_of_any_kind_are_labels(labels):
    training = TrainingSet.checked(MODEL, ROWS, labels)
    assert training.labels.dtype == np.int32
    assert training.labels.tolist() == LABELS
    assert training.num_rows == 6
    assert training.fingerprint == TrainingSet.checked(MODEL, ROWS, LABELS).fingerprint


def test_booleans_are_binary_labels():
    training = TrainingSet.checked(BINARY, ROWS, np.array(LABELS) == 1)
    assert training.labels.tolist() == [0, 1, 0, 0, 1, 0]


def test_regression_targets_are_one_row_of_numbers_each():
    targets = np.arange(18.0).reshape(6, 3)
    assert_array_equal(TrainingSet.checked(REGRESSION, ROWS, targets).labels, targets)
    single = TrainingSet.checked(ONE_NUMBER, ROWS, targets[:, 0])
    assert_array_equal(single.labels, targets[:, :1])
    column = TrainingSet.checked(ONE_NUMBER, ROWS, targets[:, :1])
    assert single.fingerprint == column.fingerprint
    whole = TrainingSet.checked(ONE_NUMBER, ROWS, np.arange(6))
    assert whole.labels.dtype.kind == "f"


REFUSED = {
    "too large": (MODEL, [0, 1, 3, 0, 4, 2], DataError, r"`labels\[2\]` is 3.*0 to 2 \(2 such"),
    "negative": (MODEL, [0, 1, 2, 0, -1, 2], DataError, r"`labels\[4\]` is -1.*0 to 2 \(1 such"),
    "1-based binary": (BINARY, [1, 2, 1, 2, 1, 2], DataError, r"`labels\[1\]` is 2.*0 to 1"),
    "fraction": (MODEL, [0, 1, 1.5, 0, 1, 2], DataError, r"1\.5.*0 to 2"),
    "NaN": (MODEL, [0, 1, np.nan, 0, 1, 2], DataError, "nan.*whole numbers"),
    "text": (MODEL, list("abcabc"), DataError, "Encode them"),
    "one-hot": (MODEL, np.eye(3)[LABELS], ShapeError, r"\(6, 3\).*\(n,\)"),
    "a column": (MODEL, np.array(LABELS)[:, None], ShapeError, r"\(6, 1\).*\(n,\)"),
    "too few": (MODEL, LABELS[:5], ShapeError, r"\(5,\).*6 rows"),
    "none": (MODEL, [], ShapeError, r"\(0,\).*6 rows"),
    "a number": (MODEL, 3, ShapeError, r"\(\).*6 rows"),
    "targets too narrow": (REGRESSION, np.ones((6, 2)), ShapeError, r"\(6, 2\).*3 outputs"),
    "targets too deep": (REGRESSION, np.ones((6, 3, 1)), ShapeError, r"\(6, 3, 1\).*3 outputs"),
    "targets NaN": (
        ONE_NUMBER,
        [0, 0, 0, np.nan, 0, np.inf],
        DataError,
        r"`labels\[3\]`.*\(2 such",
    ),
    "targets text": (ONE_NUMBER, list("abcabc"), DataError, "needs numbers"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_labels_that_cannot_be_used_are_refused(case):
    model, labels, error, words = REFUSED[case]
    with pytest.raises(error, match=words) as caught:
        TrainingSet.checked(model, ROWS, labels)
    assert isinstance(caught.value, RainError)
    assert "\n" not in str(caught.value)


def test_inputs_and_model_are_checked_too():
    spoiled = ROWS.copy()
    spoiled[3, 0] = np.nan
    with pytest.raises(DataError, match="row 3 holds a NaN"):
        TrainingSet.checked(MODEL, spoiled, LABELS)
    with pytest.raises(ModelError, match="`apply`"):
        TrainingSet.checked(MODEL, ROWS[:, :1], LABELS)


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([1, 2, 3], ShapeError, r"\(3,\).*\(6,\)"),
        (np.arange(6)[:, None], ShapeError, r"\(6, 1\).*\(6,\)"),
        ([1, 2, 3, 2, 5, 6], DataError, "2.* more than once"),
        (list("abcabd"), DataError, "'a'.* more than once"),
        ([0.5, 1, 2, 3, 4, 5], DataError, "float64"),
        ([None] * 6, DataError, "object"),
        ([True, False] * 3, DataError, "bool"),
    ],
)
def test_ids_that_cannot_be_used_are_refused(ids, error, words):
    with pytest.raises(error, match=words):
        TrainingSet.checked(MODEL, ROWS, LABELS, ids=ids)


def test_ids_are_positions_unless_given():
    assert TrainingSet.checked(MODEL, ROWS, LABELS).ids.tolist() == list(range(6))
    for ids in ([9, 7, 5, 3, 1, -1], list("zyxwvu")):
        assert TrainingSet.checked(MODEL, ROWS, LABELS, ids=ids).ids.tolist() == ids


def test_take_moves_inputs_labels_and_ids_together():
    training = TrainingSet.checked(MODEL, ROWS, LABELS, ids=list("abcdef"))
    some = training.take(np.array([4, 0, 2]))
    assert_array_equal(some.inputs, ROWS[[4, 0, 2]])
    assert some.labels.tolist() == [1, 0, 2]
    assert some.ids.tolist() == ["e", "a", "c"]


def test_the_fingerprint_is_of_inputs_and_labels_in_order():
    def of(rows, labels, **options):
        return TrainingSet.checked(MODEL, rows, labels, **options).fingerprint

    base = of(ROWS, LABELS)
    assert of(np.asfortranarray(ROWS), LABELS) == base
    assert of(jnp.asarray(ROWS), LABELS) == base
    assert of(ROWS, LABELS, ids=list("abcdef")) == base
    changed = ROWS.copy()
    changed[5, 1] = np.nextafter(changed[5, 1], 9)
    others = [
        of(changed, LABELS),
        of(ROWS, LABELS[::-1]),
        of(ROWS[::-1], LABELS),
        of(ROWS[:5], LABELS[:5]),
    ]
    assert len({base, *others}) == 5


def test_an_infinite_label_is_refused_without_a_warning():
    model = Model(lambda w, x: x @ w, np.ones((2, 3)))
    with pytest.raises(DataError, match=r"inf.*whole numbers"):
        TrainingSet.checked(model, np.ones((6, 2)), [0, 1, np.inf, 0, 1, 2])
