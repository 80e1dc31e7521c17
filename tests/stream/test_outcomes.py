"""Additive counts of labelled rows equal a recount of the rows that are there."""

from __future__ import annotations

import math
import timeit
from collections import deque

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import f1_score, precision_score, recall_score

from rainpp.errors import DataError, SettingsError
from rainpp.stream.outcomes import Outcomes

R, B, K = 3, 2, 4
ROW = st.tuples(st.integers(-2, 3), st.integers(-1, B - 1), st.integers(0, R - 1))
LABEL = st.integers(0, R - 1)
STEP = st.one_of(
    st.tuples(st.just("predicted"), st.lists(ROW, max_size=4)),
    st.tuples(st.just("labelled"), st.lists(st.tuples(ROW, LABEL), max_size=6)),
    st.tuples(st.just("corrected"), st.integers(0, 99), LABEL),
    st.tuples(st.just("unlabelled"), st.lists(st.integers(0, 99), max_size=3)),
    st.tuples(st.just("retracted"), st.integers(0, 99)),
    st.tuples(st.just("expire"), st.integers(-2, 4)),
)


class Recount:
    """Keeps every row; slow and obvious."""

    def __init__(self):
        self.predictions, self.labels, self.horizon = [], [], -100
        self.arrivals = deque([None] * K, maxlen=K)
        self.expired_predictions, self.expired_labels = [], []

    def expire(self, pane):
        self.horizon = max(self.horizon, pane)

    def push(self, row):
        self.labels.append(row)
        self.arrivals.append(row)

    def pull(self, row):
        self.labels.remove(row)
        for place in range(K - 1, -1, -1):
            if self.arrivals[place] == row:
                self.arrivals[place] = None
                return

    def tally(self, keep):
        predicted = np.zeros((B + 1, R), int)
        confusion = np.zeros((B + 1, R, R), int)
        for pane, bucket, c in self.predictions:
            predicted[bucket, c] += keep(pane)
        for (pane, bucket, c), label in self.labels:
            confusion[bucket, c, label] += keep(pane)
        return predicted, confusion

    def recent(self):
        confusion = np.zeros((B + 1, R, R), int)
        for row in self.arrivals:
            if row is not None:
                (_, bucket, c), label = row
                confusion[bucket, c, label] += 1
        return confusion


def columns(rows):
    return [np.array(column, int) for column in zip(*rows, strict=True)]


def flat(labelled):
    return [(*row, label) for row, label in labelled]


def apply(step, outcomes, recount, one_by_one):
    kind, *rest = step
    if kind == "predicted" and rest[0]:
        recount.predictions += rest[0]
        if one_by_one:
            for row in rest[0]:
                outcomes.predicted(*row)
        else:
            outcomes.predicted(*columns(rest[0]))
    elif kind == "labelled" and rest[0]:
        for row in rest[0]:
            recount.push(row)
        if one_by_one:
            for row in flat(rest[0]):
                outcomes.labelled(*row)
        else:
            outcomes.labelled(*columns(flat(rest[0])))
    elif kind == "unlabelled" and recount.labels and rest[0]:
        turns = {turn % len(recount.labels) for turn in rest[0]}
        rows = [recount.labels[turn] for turn in turns]
        for row in rows:
            recount.pull(row)
        if one_by_one:
            for row in flat(rows):
                outcomes.unlabelled(*row)
        else:
            outcomes.unlabelled(*columns(flat(rows)))
    elif kind == "corrected" and recount.labels:
        row, old = recount.labels[rest[0] % len(recount.labels)]
        recount.pull((row, old))
        recount.push((row, rest[1]))
        outcomes.unlabelled(*row, old)
        outcomes.labelled(*row, rest[1])
    elif kind == "retracted" and recount.predictions:
        row = recount.predictions.pop(rest[0] % len(recount.predictions))
        outcomes.retracted(*row)
    elif kind == "expire":
        recount.expire(rest[0])
        outcomes.expire(rest[0])


def equal(tally, expected):
    np.testing.assert_array_equal(tally.predicted, expected[0])
    np.testing.assert_array_equal(tally.confusion, expected[1])


@settings(max_examples=150)
@given(steps=st.lists(STEP, min_size=3, max_size=25), one_by_one=st.booleans())
def test_every_window_equals_a_recount_at_every_step(steps, one_by_one):
    outcomes, recount = Outcomes(R, buckets=B, recent=K), Recount()
    for step in steps:
        apply(step, outcomes, recount, one_by_one)
        horizon = recount.horizon
        equal(outcomes.ever(), recount.tally(lambda _: True))
        equal(outcomes.over([0, 2, 7]), recount.tally(lambda p, h=horizon: p in (0, 2) and p >= h))
        newest = max(outcomes.panes, default=0)
        equal(outcomes.last(2), recount.tally(lambda p, n=newest, h=horizon: p > n - 2 and p >= h))
        np.testing.assert_array_equal(outcomes.recent().confusion, recount.recent())


@given(rows=st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=30), c=LABEL)
def test_metrics_are_those_of_scikit_learn(rows, c):
    predicted, labels = columns(rows)
    outcomes = Outcomes(R)
    outcomes.labelled(0, 0, predicted, labels)
    tally = outcomes.ever()
    assert tally.accuracy() == (predicted == labels).mean()
    assert tally.error_rate() == pytest.approx((predicted != labels).mean())
    for ours, theirs in ((tally.precision, precision_score), (tally.recall, recall_score)):
        expected = theirs(labels, predicted, labels=[c], average=None, zero_division=np.nan)[0]
        assert ours(c) == pytest.approx(expected, nan_ok=True)
    expected = f1_score(labels, predicted, labels=[c], average=None, zero_division=np.nan)[0]
    assert tally.f1(c) == pytest.approx(expected, nan_ok=True)
    assert tally.metric(lambda matrix: matrix[1].sum()) == (predicted == 1).sum()


def test_last_is_counted_back_from_the_newest_pane():
    outcomes = Outcomes(2)
    for pane in (1, 2, 9):
        outcomes.predicted(pane, 0, 1)
    assert outcomes.last(1).live.sum() == 1
    assert outcomes.last(8).live.sum() == 2
    assert outcomes.last(9).live.sum() == 3


def test_a_batch_larger_than_the_ring_leaves_its_last_labels():
    outcomes = Outcomes(2, recent=3)
    outcomes.labelled(0, 0, [0] * 7, [0, 0, 0, 0, 1, 1, 0])
    assert outcomes.recent().confusion[0].tolist() == [[1, 2], [0, 0]]
    assert outcomes.recent().live.sum() == 3


@pytest.mark.parametrize("cuts", [[], [2], [2, 3], [1, 2, 3, 4]])
def test_the_last_labels_do_not_depend_on_batches(cuts):
    outcomes = Outcomes(2, recent=3)
    for labels in np.split(np.array([0, 0, 1, 1, 0]), cuts):
        outcomes.labelled(0, 0, np.zeros_like(labels), labels)
    assert outcomes.recent().confusion[0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("as_given", [int, lambda label: np.array([label])])
def test_the_newest_of_equal_labels_is_taken_back(as_given):
    """A B A, less the second A, then B, which takes the place of the first A: B B."""
    outcomes = Outcomes(2, recent=3)
    for label in (0, 1, 0):
        outcomes.labelled(0, 0, 0, label)
    outcomes.unlabelled(0, 0, as_given(0), as_given(0))
    outcomes.labelled(0, 0, 0, 1)
    assert outcomes.recent().confusion[0, 0].tolist() == [0, 2]


@pytest.mark.parametrize("as_given", [int, lambda label: np.array([label])])
def test_a_late_row_of_an_expired_pane_is_in_no_window(as_given):
    outcomes = Outcomes(2)
    outcomes.expire(5)
    outcomes.labelled(4, 0, as_given(0), as_given(1))
    assert outcomes.panes == []
    assert outcomes.over([4]).confusion.sum() == 0
    assert outcomes.ever().confusion.sum() == outcomes.recent().confusion.sum() == 1


def test_no_label_gives_nan():
    assert math.isnan(Outcomes(2).ever().accuracy())


def test_by_bucket_counts_feed_an_estimate():
    outcomes = Outcomes(2, buckets=2)
    outcomes.predicted(0, [0, 0, 1, -1], [1, 0, 1, 1])
    outcomes.labelled(0, [0, -1], [1, 1], [1, 0])
    tally = outcomes.ever()
    assert tally.live.tolist() == [2, 1, 1]
    assert tally.labelled.tolist() == [1, 0, 1]
    assert tally.correct.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.labelled(0, 0, 0, 2),
        lambda o: o.labelled(0, 0, [0], [-1]),
        lambda o: o.predicted(0, 1, 0),
        lambda o: o.predicted(0, [-2], [0]),
        lambda o: o.predicted(0, [0], [0.5]),
        lambda o: o.predicted([0, 1, 2], [0, 0], [0, 0]),
        lambda o: o.predicted(0, [[0]], [[0]]),
        lambda o: o.unlabelled(0, 0, 1, 1),
        lambda o: o.unlabelled([0, 0], [0, 0], [0, 0], [0, 0]),
        lambda o: o.unlabelled([0, 1], [0, 0], [0, 0], [0, 0]),
        lambda o: o.retracted(1, 0, 0),
    ],
)
def test_bad_rows_change_nothing(call):
    outcomes = Outcomes(2)
    outcomes.predicted(0, 0, 0)
    outcomes.labelled(0, 0, 0, 0)
    with pytest.raises(DataError):
        call(outcomes)
    assert outcomes.ever().predicted.sum() == outcomes.ever().confusion.sum() == 1
    assert outcomes.over([0]).confusion.sum() == outcomes.recent().confusion.sum() == 1


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"classes": 2, "recent": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(SettingsError, match="whole number"):
        Outcomes(**wrong)


def test_windows_and_classes_are_checked():
    with pytest.raises(SettingsError, match="`t`"):
        Outcomes(2).last(0)
    with pytest.raises(SettingsError, match="`c`"):
        Outcomes(2).ever().recall(2)


@pytest.mark.bench
def test_a_label_costs_the_same_after_ten_million():
    outcomes, draw = Outcomes(10, buckets=64), np.random.default_rng(0)

    def rows(n):
        return [draw.integers(0, top, n) for top in (200, 64, 10, 10)]

    def micros(call, number):
        return min(timeit.repeat(call, number=number, repeat=7)) / number * 1e6

    batch = [np.full(1000, 5), *rows(1000)[1:]]
    outcomes.labelled(*rows(10_000))
    early = micros(lambda: outcomes.labelled(5, 3, 2, 2), 2000)
    for _ in range(100):
        outcomes.labelled(*rows(100_000))
    late = micros(lambda: outcomes.labelled(5, 3, 2, 2), 2000)
    assert late <= 30
    assert late <= 1.5 * early + 1
    assert micros(lambda: outcomes.labelled(*batch), 200) <= 1000
    assert micros(lambda: outcomes.unlabelled(5, 3, 2, 2), 200) <= 100
