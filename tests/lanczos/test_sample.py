"""Samples that stand for all rows: shares, sizes, disjoint halves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rainpp.lanczos.sample import LEAST_PER_CLASS, Strata

MANY, FEW = 900, 40
UNEVEN = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [MANY, FEW, 60]))


@pytest.mark.parametrize("size", [1, 50, 500, 5000])
@pytest.mark.parametrize("which", [0, 1])
def test_weights_sum_to_all_rows_in_every_class(size, which):
    sample = Strata(UNEVEN, seed=1).half(size, which)
    assert sample.weights.sum() == pytest.approx(UNEVEN.size)
    for label in (0, 1, 2):
        inside = UNEVEN[sample.rows] == label
        assert sample.weights[inside].sum() == pytest.approx(np.sum(label == UNEVEN))
    assert (np.diff(sample.rows) > 0).all()  # ascending, none twice


def test_halves_share_no_row_and_grow_by_nesting():
    strata = Strata(UNEVEN, seed=3)
    first, second = strata.half(200, 0), strata.half(200, 1)
    assert not np.isin(first.rows, second.rows).any()
    for which, small in ((0, first), (1, second)):
        assert np.isin(small.rows, strata.half(350, which).rows).all()


def test_a_rare_class_has_its_least_rows():
    sample = Strata(UNEVEN, seed=0).half(100, 0)
    counts = np.bincount(UNEVEN[sample.rows])
    assert counts.tolist() == [90, LEAST_PER_CLASS, LEAST_PER_CLASS]


def test_a_class_never_gives_more_rows_than_its_half_has():
    sample = Strata(UNEVEN, seed=0).half(10_000, 1)
    assert np.bincount(UNEVEN[sample.rows]).tolist() == [MANY // 2, FEW // 2, 30]


def test_a_class_of_one_row_is_in_both_halves_and_counts_once():
    labels = np.r_[np.zeros(99, int), 1]
    strata = Strata(labels, seed=0)
    for which in (0, 1):
        sample = strata.half(20, which)
        assert sample.weights[sample.rows == 99].tolist() == [1.0]
    both = strata.half(20, 0).joined(strata.half(20, 1))
    assert both.weights[both.rows == 99].sum() == pytest.approx(1.0)


def test_one_class_only_is_a_simple_sample():
    sample = Strata(np.zeros(100, np.int32), seed=0).half(30, 0)
    assert sample.size == 30
    assert_allclose(sample.weights, 100 / 30)


def test_the_largest_half_leaves_as_many_rows_for_the_other():
    assert Strata(np.r_[np.zeros(7, int), np.ones(4, int)], seed=0).largest_half == 5


def test_everything_is_every_row_once():
    sample = Strata(UNEVEN, seed=0).everything()
    assert np.array_equal(sample.rows, np.arange(UNEVEN.size))
    assert (sample.weights == 1).all()


def test_the_seed_decides_the_draw():
    rows = [Strata(UNEVEN, seed=seed).half(100, 0).rows for seed in (5, 5, 6)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize("least_and_more", [60, 200])
def test_weighted_sums_are_unbiased(least_and_more):
    """Means over 400 seeds against the sum over all rows, to four standard errors."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=UNEVEN.size) + 5 * (UNEVEN == 1)
    found = []
    for seed in range(400):
        strata = Strata(UNEVEN, seed=seed)
        both = strata.half(least_and_more, 0).joined(strata.half(least_and_more, 1))
        found.append(values[both.rows] @ both.weights)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - values.sum()) < 4 * error


def test_joined_halves_of_unequal_size_count_by_their_rows():
    strata = Strata(np.zeros(100, np.int32), seed=0)
    both = strata.half(20, 0).joined(strata.half(30, 1))
    assert both.size == 50
    assert_allclose(both.weights, 100 / 50)


@pytest.mark.parametrize(
    "labels",
    [
        np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32),
        np.random.default_rng(0).normal(size=500),
        np.zeros((500, 1), np.float32),  # one value: one bin
        np.r_[np.zeros(400), np.arange(100)].astype(np.float64),  # most edges coincide
    ],
    ids=["two columns", "one column", "constant", "mostly one value"],
)
def test_regression_labels_are_binned(labels):
    strata = Strata(labels, seed=0)
    first, second = strata.half(200, 0), strata.half(200, 1)
    column = labels if labels.ndim == 1 else labels[:, 0]
    assert first.weights.sum() == pytest.approx(500)
    assert not np.isin(first.rows, second.rows).any()
    # Bins hold the extremes together: a tenth of the rows gives its share of the sample.
    top = column >= np.quantile(column, 0.9)
    assert first.weights[top[first.rows]].sum() == pytest.approx(top.sum(), abs=25)


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    size=st.integers(1, 80),
    seed=st.integers(0, 1000),
)
def test_any_classes_give_two_halves_of_full_weight(counts, size, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    strata = Strata(labels, seed=seed)
    halves = [strata.half(size, which) for which in (0, 1)]
    alone = np.flatnonzero(np.isin(labels, np.flatnonzero(np.array(counts) == 1)))
    shared = np.intersect1d(halves[0].rows, halves[1].rows)
    assert np.array_equal(shared, alone)
    for half in halves:
        assert half.weights.sum() == pytest.approx(labels.size)
        assert set(labels[half.rows]) == set(labels)
