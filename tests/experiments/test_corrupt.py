"""Planted errors hit what they should, as many as they should, and the same rows every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from experiments.corrupt import flip_classes, flip_private_men
from experiments.data import INCOMES, adult
from rainpp.errors import DataError, SettingsError
from tests.experiments import files

LABELS = np.random.default_rng(0).integers(0, 10, size=500).astype(np.int32)


@given(rate=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_the_share_of_the_source_class_that_flips_is_the_rate(rate, seed):
    flips = flip_classes(LABELS, [(1, 7)], rate=rate, seed=seed)
    assert flips.count == round(rate * (LABELS == 1).sum())
    assert_array_equal(flips.corrupted, flips.labels != LABELS)
    assert set(LABELS[flips.corrupted]) <= {1}
    assert set(flips.labels[flips.corrupted]) <= {7}
    assert flips.labels.dtype == LABELS.dtype


def test_a_seed_repeats_and_another_differs():
    first, again, other = (
        flip_classes(LABELS, [(1, 7)], rate=0.4, seed=seed).corrupted for seed in (3, 3, 4)
    )
    assert_array_equal(first, again)
    assert (first != other).any()


def test_a_higher_rate_hits_the_same_rows_and_more():
    low, high = (flip_classes(LABELS, [(1, 7)], rate=r, seed=0).corrupted for r in (0.1, 0.4))
    assert (high | ~low).all()
    assert high.sum() > low.sum()


def test_pairs_flip_independently_and_from_the_clean_labels():
    both = flip_classes(LABELS, [(1, 7), (7, 1)], rate=0.5, seed=0)
    alone = flip_classes(LABELS, [(1, 7)], rate=0.5, seed=0)
    assert_array_equal(both.corrupted[LABELS == 1], alone.corrupted[LABELS == 1])
    assert (both.labels[(LABELS == 7) & both.corrupted] == 1).all()
    assert both.count == round(0.5 * (LABELS == 1).sum()) + round(0.5 * (LABELS == 7).sum())


def test_the_clean_labels_are_untouched():
    clean = LABELS.copy()
    flip_classes(clean, [(1, 7)], rate=1, seed=0)
    assert_array_equal(clean, LABELS)


def test_a_class_flipped_to_itself_is_not_corrupted():
    assert flip_classes(LABELS, [(1, 1)], rate=1, seed=0).count == 0


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan"), 40])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(SettingsError, match="rate"):
        flip_classes(LABELS, [(1, 7)], rate=rate, seed=0)


def test_two_targets_for_one_class_are_refused():
    with pytest.raises(SettingsError, match="pairs"):
        flip_classes(LABELS, [(1, 7), (1, 4)], rate=0.1, seed=0)


def test_an_absent_class_is_refused():
    with pytest.raises(DataError, match="class 12"):
        flip_classes(LABELS, [(12, 7)], rate=0.1, seed=0)


@pytest.fixture
def census(tmp_path, monkeypatch):
    monkeypatch.setenv("RAINPP_DATA", str(tmp_path))
    people = files.people(200, seed=0)
    files.write_adult(tmp_path, train=people, test=people[:5], header=True)
    return adult()


def test_only_low_earning_men_in_private_firms_flip(census):
    frame = census.train_frame
    affected = (
        (frame["sex"] == "Male")
        & (frame["workclass"] == "Private")
        & (frame["income"] == INCOMES[0])
    ).to_numpy()
    flips = flip_private_men(census, rate=0.6, seed=0)
    assert flips.count == round(0.6 * affected.sum()) > 0
    assert not flips.corrupted[~affected].any()
    assert_array_equal(flips.corrupted, flips.labels != census.train_labels)
    assert (flips.labels[flips.corrupted] == 1).all()
    again = flip_private_men(census, rate=0.6, seed=0)
    assert_array_equal(flips.labels, again.labels)
    assert (flip_private_men(census, rate=1, seed=0).corrupted == affected).all()


def test_a_census_without_such_men_is_refused(census):
    census.train_frame["sex"] = "Female"
    with pytest.raises(DataError, match="male, private"):
        flip_private_men(census, rate=0.5, seed=0)
