"""Accuracy from some labels: exact where it must be, covering elsewhere, honest about drift."""

from __future__ import annotations

import timeit

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.special import gammaln

from rainpp.errors import DataError
from rainpp.stream import blend as module
from rainpp.stream.blend import blend

BUCKETS = 20
# Chance that a row is labelled, per bucket, from a generator.
PATTERNS = {
    "none": lambda _: np.zeros(BUCKETS),
    "very few": lambda _: np.full(BUCKETS, 0.01),
    "at random": lambda _: np.full(BUCKETS, 0.2),
    "by bucket": lambda draw: np.where(draw.random(BUCKETS) < 0.4, 0, 0.3),
    "uneven": lambda draw: draw.random(BUCKETS) ** 2,
    "most": lambda _: np.full(BUCKETS, 0.9),
}


def window(draw, pattern, *, rows=2000, reference=300, drift=0.0, wobble=0.0):
    """One window and its true accuracy: rates r + drift + noise, labels missing by bucket."""
    base = draw.uniform(0.6, 0.98, BUCKETS)
    rates = np.clip(base + drift + wobble * draw.standard_normal(BUCKETS), 0.01, 0.99)
    counts = draw.multinomial(reference * BUCKETS, np.full(BUCKETS, 1 / BUCKETS))
    live = draw.multinomial(rows, draw.dirichlet(np.ones(BUCKETS)))
    right = draw.binomial(live, rates)
    labelled = draw.binomial(live, PATTERNS[pattern](draw))
    correct = draw.hypergeometric(right, live - right, labelled)
    reference_rates = draw.binomial(counts, base) / np.maximum(counts, 1)
    return (live, labelled, correct, reference_rates, counts), right.sum() / rows


def covered(pattern, *, times=400, seed=0, **settings):
    """Share of windows whose truth is in the interval, mean width, share called drifted."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(times):
        given_, truth = window(draw, pattern, **settings)
        e = blend(*given_)
        inside = e.low - 1e-12 <= truth <= e.high + 1e-12
        found.append((inside, e.high - e.low, e.drifted))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_interval_covers_while_the_reference_holds(pattern):
    """93 to 97 % and a sampling error of 2 %; with few labels drift cannot be excluded: wider."""
    inside, _, drifted = covered(pattern, rows=5000)
    assert 0.92 <= inside <= (1.0 if pattern in ("very few", "by bucket", "uneven") else 0.985)
    assert drifted <= 0.02


@pytest.mark.parametrize("pattern", ["at random", "by bucket", "most"])
@pytest.mark.parametrize("kind", [{"drift": -0.1}, {"wobble": 0.1}])
def test_the_interval_covers_under_drift(pattern, kind):
    inside, _, drifted = covered(pattern, rows=20_000, times=200, **kind)
    assert inside >= 0.88
    assert drifted >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["none", "at random", "most"])
@pytest.mark.parametrize("rows", [5000, 20_000])
def test_coverage_is_nominal(pattern, rows):
    inside, _, _ = covered(pattern, rows=rows, times=4000)
    assert 0.93 <= inside <= 0.975


def test_all_labels_give_the_exact_accuracy():
    e = blend([10, 5], [10, 5], [7, 5], [0.1, 0.1], [100, 100])
    assert e.value == e.low == e.high == 12 / 15
    assert (e.basis, e.coverage, e.unseen, e.drifted) == ("labels", 1.0, 0.0, False)


def test_no_labels_are_importance_weighting():
    e = blend([100, 500], [0, 0], [0, 0], [0.8, 0.5], [400, 400])
    assert e.value == pytest.approx(0.55, abs=1e-15)
    assert (e.basis, e.coverage, e.drifted) == ("iw", 0.0, False)
    assert not e.high - e.low < 4 * 0.02  # 600 rows alone have a standard deviation of 2 %


@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 60)] * 3, st.floats(0, 1), st.integers(0, 500)),
        min_size=1,
        max_size=8,
    )
)
def test_bounds_are_possible_and_hold_the_value(rows):
    live, labelled, correct, rates, counts = map(np.array, zip(*rows, strict=True))
    labelled = np.minimum(labelled, live)
    correct = np.minimum(correct, labelled)
    if live.sum() == 0:
        return
    e = blend(live, labelled, correct, rates, counts)
    total, right = live.sum(), correct.sum()
    assert right / total - 1e-12 <= e.low <= e.value <= e.high
    assert e.high <= (right + live.sum() - labelled.sum()) / total + 1e-12 or e.unseen > 0
    assert e.high <= 1 + 1e-12
    assert e.coverage == labelled.sum() / total
    assert e.basis == ("labels" if e.coverage == 1 else "blend" if labelled.sum() else "iw")


@given(seed=st.integers(0, 10_000))
def test_the_order_of_buckets_does_not_matter(seed):
    draw = np.random.default_rng(seed)
    given_, _ = window(draw, "by bucket")
    order = draw.permutation(BUCKETS)
    one, two = blend(*given_), blend(*(part[order] for part in given_))
    assert one.value == pytest.approx(two.value, abs=1e-12)
    assert one.low == pytest.approx(two.low, abs=2 / 2000)


def test_labels_win_under_concept_drift():
    live, labelled = np.full(8, 1000), np.full(8, 200)
    e = blend(live, labelled, labelled * 6 // 10, np.full(8, 0.9), np.full(8, 5000))
    assert e.value == pytest.approx(0.6, abs=0.01)
    assert e.drifted
    assert e.identified


def test_the_reference_counts_while_labels_agree():
    live, labelled = np.full(8, 1000), np.full(8, 10)
    rates, counts = np.full(8, 0.9), np.full(8, 5000)
    few = blend(live, labelled, np.full(8, 9), rates, counts)
    alone = blend(live, labelled, np.full(8, 9), rates, np.zeros(8))
    assert few.value == pytest.approx(0.9, abs=1e-3)
    assert few.high - few.low < 0.6 * (alone.high - alone.low)
    assert not few.drifted


def test_a_bucket_without_labels_falls_back_and_says_what_it_cannot_know():
    live, rates, counts = np.full(8, 1000), np.full(8, 0.9), np.full(8, 5000)
    labelled = np.array([300] * 4 + [0] * 4)
    agree = blend(live, labelled, labelled * 9 // 10, rates, counts)
    against = blend(live, labelled, labelled * 6 // 10, rates, counts)
    assert agree.identified
    assert agree.value == pytest.approx(0.9, abs=1e-3)
    assert against.drifted
    assert not against.identified
    assert against.unlabelled == 0.5
    assert against.value == pytest.approx((0.6 + 0.9) / 2, abs=0.02)
    assert against.low < 0.61  # the other half may have drifted alike
    assert against.high - against.low > 4 * (agree.high - agree.low)


def test_unseen_rows_are_reported_and_widen():
    seen = blend([900], [0], [0], [0.8], [1000])
    both = blend([900, 100], [0, 0], [0, 0], [0.8, np.nan], [1000, 0])
    assert both.unseen == 0.1
    assert both.value == pytest.approx(seen.value)
    assert both.low == pytest.approx(0.9 * seen.low)
    assert both.high == pytest.approx(0.9 * seen.high + 0.1)
    assert not both.identified


def test_only_unseen_rows_may_be_anything():
    e = blend([10], [0], [0], [0.3], [0])
    assert (e.low, e.high, e.unseen) == (0, 1, 1)


def test_labels_make_an_unseen_bucket_known():
    e = blend([100, 1000], [100, 200], [90, 100], [0.9, 0.0], [1000, 0])
    assert e.unseen == 0
    assert e.value == pytest.approx((90 + 500) / 1100, abs=0.01)


def test_a_reference_without_failures_does_not_make_sure():
    e = blend([1000], [0], [0], [1.0], [30])
    assert e.value == 1.0
    assert 0.85 < e.low < 0.97


def test_log_gamma_is_that_of_scipy():
    x = np.concatenate([np.geomspace(1e-3, 1e6, 500), [1.0, 2.0]])
    np.testing.assert_allclose(module._log_gamma(x), gammaln(x), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1], [2], [0], [0.5], [1]), "labelled <= live"),
        (([2], [1], [2], [0.5], [1]), "in bucket 0"),
        (([2], [1], [-1], [0.5], [1]), "counts must be"),
        (([2, 1], [1], [1], [0.5], [1]), "`labelled` has shape"),
        (([0], [0], [0], [0.5], [1]), "`live`"),
        (([1], [0], [0], [1.5], [1]), "`rates`"),
        (([1], [0], [0], [0.5], [-1]), "`counts`"),
        ((["a"], [0], [0], [0.5], [1]), "numbers"),
        ((1, 0, 0, 0.5, 1), "shape"),
    ],
)
def test_bad_counts_are_named(arguments, words):
    with pytest.raises(DataError, match=words):
        blend(*arguments)


@pytest.mark.bench
def test_reading_64_buckets_takes_less_than_a_millisecond():
    live, labelled = np.full(64, 1000), np.full(64, 300)
    given_ = live, labelled, labelled * 8 // 10, np.full(64, 0.85), np.full(64, 300)
    assert min(timeit.repeat(lambda: blend(*given_), number=100, repeat=5)) / 100 < 1e-3
