"""Buckets: support, bounds, words, what is unseen; the paper's example to the digit."""

from __future__ import annotations

import json
import timeit

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from rainpp.errors import DataError, SettingsError
from rainpp.stream.buckets import Buckets, Weighted, combine

HOODS = np.repeat(["FiDi", "Midtown"], 1000)
RIGHT = np.repeat([True, False, True, False], [800, 200, 500, 500])


def table(seed=0, n=6000):
    """Accuracy depends on x, on the place and on whether z is there; `noise` tells nothing."""
    draw = np.random.default_rng(seed)
    columns = {
        "x": draw.normal(size=n),
        "z": np.where(draw.random(n) < 0.1, np.nan, draw.normal(size=n)),
        "place": draw.choice(["a", "b", "c", "d"], n),
        "noise": draw.normal(size=n),
    }
    rate = np.where(columns["x"] > 0.5, 0.95, 0.7)
    rate -= 0.3 * (columns["place"] == "b") + 0.2 * np.isnan(columns["z"])
    return columns, draw.random(n) < rate, rate


def test_the_example_of_the_paper():
    """80 % and 50 %, 100 and 500 live rows: 55 % (§3.2.2)."""
    for buckets in (
        Buckets.by({"hood": HOODS}, "hood", RIGHT),
        Buckets.fit({"hood": HOODS}, RIGHT),
    ):
        live = buckets.assign({"hood": np.repeat(["FiDi", "Midtown"], [100, 500])})
        estimate = buckets.estimate(buckets.count(live))
        assert estimate.value == pytest.approx(0.55, abs=1e-15)
        assert estimate.unseen == 0
        # √((1/6)² · 0.16/1000 + (5/6)² · 0.25/1000), two pseudo-rows aside.
        assert estimate.standard_error == pytest.approx(0.01334, rel=0.01)


def test_what_tells_is_found_and_what_does_not_is_left():
    columns, right, _ = table()
    buckets = Buckets.fit(columns, right)
    words = [buckets.words(b) for b in range(len(buckets))]
    assert all("noise" not in text for text in words)
    assert any("place = 'b'" in text for text in words)
    assert any("z IS NULL" in text for text in words)
    assert any("x > 0.4" in text or "x > 0.5" in text for text in words)


def test_pure_noise_is_one_bucket():
    draw = np.random.default_rng(1)
    alone = sum(
        len(Buckets.fit({"a": draw.normal(size=500)}, draw.random(500) < 0.8)) == 1
        for _ in range(100)
    )
    assert alone >= 90


@given(seed=st.integers(0, 10_000), max_buckets=st.integers(1, 12), min_support=st.integers(1, 200))
def test_support_bound_and_reference_counts_hold(seed, max_buckets, min_support):
    columns, right, _ = table(seed, 800)
    buckets = Buckets.fit(columns, right, max_buckets=max_buckets, min_support=min_support)
    assert len(buckets) <= max_buckets
    assert len(buckets) == 1 or buckets.counts.min() >= min_support
    numbers = buckets.assign(columns)
    count = buckets.count(numbers)
    assert count[:-1].tolist() == buckets.counts.tolist()
    assert count[-1] < min_support * len(columns) * max_buckets
    for b in range(len(buckets)):
        assert right[numbers == b].sum() == buckets.sums[b]


@given(seed=st.integers(0, 1000))
def test_words_select_the_rows_of_the_bucket(seed):
    columns, right, _ = table(seed, 1500)
    columns["x"] = columns["x"].round(2)  # ties, beside columns without
    buckets = Buckets.fit(columns, right, min_support=20)
    numbers = buckets.assign(columns)
    for b in range(len(buckets)):
        chosen = np.ones(1500, bool)
        for term in buckets.words(b).split(" AND "):
            chosen &= holds(term, columns)
        assert (chosen == (numbers == b)).all(), buckets.words(b)


def test_thresholds_are_as_short_as_the_data_allow():
    x = np.concatenate([np.linspace(0, 1.23456, 200), np.linspace(2.34567, 3, 200)])
    buckets = Buckets.fit({"x": x}, x > 2)
    assert {buckets.words(b) for b in range(2)} == {"x <= 2", "x > 2"}


def test_a_threshold_parts_the_rows_it_was_chosen_on():
    x = np.repeat([1.234, 1.2345], 100)
    buckets = Buckets.fit({"x": x}, x > 1.2342)
    assert {buckets.words(b) for b in range(2)} == {"x <= 1.234", "x > 1.234"}
    assert sorted(buckets.rates.tolist()) == [0, 1]
    assert (buckets.rates[buckets.assign({"x": x})] == (x > 1.2342)).all()


def test_words_name_the_tightest_bounds_of_a_path():
    x = np.arange(400) / 100
    buckets = Buckets.fit({"x": x}, np.array([0, 0.3, 0.6, 1])[x.astype(int)])
    assert {buckets.words(b) for b in range(4)} == {
        "x <= 0.99",
        "x > 0.99 AND x <= 1.99",
        "x > 1.99 AND x <= 2.99",
        "x > 2.99",
    }


def holds(term, columns):
    """One term of a predicate, evaluated by hand; NULL makes a comparison false."""
    if term == "TRUE":
        return True
    name, operator, value = term.split(" ", 2)
    column = columns[name]
    if operator == "IS":
        return np.isnan(column) == (value == "NULL")
    if operator in ("IN", "="):
        return np.isin(column, [text.strip("'") for text in value.strip("()").split(", ")])
    return column > float(value) if operator == ">" else column <= float(value)


def test_what_is_unlike_the_reference_is_in_no_bucket():
    columns = {"x": np.arange(100.0), "kind": np.repeat(["a", "b"], 50)}
    buckets = Buckets.fit(columns, np.repeat([True, False], 50))
    live = {
        "x": [5.0, 1e6, -1e6, np.nan, np.inf, 104.0],
        "kind": ["a", "a", "a", "a", "a", "z"],
    }
    numbers = buckets.assign(live)
    assert numbers[0] == buckets.assign(columns)[0] >= 0
    assert numbers[1:].tolist() == [-1] * 5
    assert buckets.assign({"x": [104.0], "kind": ["b"]}) == buckets.assign(columns)[-1]


def test_null_of_a_category_is_a_value():
    kind = np.array(["a", None, float("nan"), "b"] * 50, object)
    buckets = Buckets.by({"kind": kind}, "kind", kind == "a")
    assert [buckets.words(b) for b in range(3)] == ["kind = 'a'", "kind = 'b'", "kind IS NULL"]
    assert buckets.assign({"kind": np.array([None, "b", "new"], object)}).tolist() == [2, 1, -1]
    assert buckets.rates.tolist() == [1, 0, 0]


def test_few_nulls_are_in_no_bucket_many_have_their_own():
    draw = np.random.default_rng(0)
    x = draw.normal(size=1000)
    right = x > 0
    for nulls, expected in ((5, {-1}), (100, None)):
        holed = np.where(np.arange(1000) < nulls, np.nan, x)
        buckets = Buckets.fit({"x": holed}, right)
        numbers = set(buckets.assign({"x": holed[:nulls]}).tolist())
        assert numbers == expected if expected else len(numbers) == 1
        if not expected:
            assert buckets.words(numbers.pop()) == "x IS NULL"


def test_null_or_not_can_be_the_only_split():
    x = np.where(np.arange(400) < 200, np.nan, 1.0)
    buckets = Buckets.fit({"x": x}, np.arange(400) < 200)
    assert {buckets.words(b) for b in range(2)} == {"x IS NULL", "x IS NOT NULL"}


def test_quotes_and_several_values_are_written_as_sql():
    place = np.repeat(["O'Hare", "b", "c"], 100)
    right = np.repeat([True, False, True], 100)
    buckets = Buckets.fit({"place": place}, right)
    words = {buckets.words(b) for b in range(len(buckets))}
    assert words == {"place = 'b'", "place IN ('O''Hare', 'c')"}
    assert buckets.words(-1) == "unlike the reference"


def test_unseen_mass_is_reported_and_widens():
    buckets = Buckets.by({"hood": HOODS}, "hood", RIGHT)
    seen, some = buckets.estimate([100, 500, 0]), buckets.estimate([100, 500, 200])
    assert some.unseen == 0.25
    assert some.value == seen.value
    assert some.low == pytest.approx(0.75 * seen.low)
    assert some.high == pytest.approx(0.75 * seen.high + 0.25)
    nothing = buckets.estimate([0, 0, 9])
    assert (nothing.low, nothing.high, nothing.unseen) == (0, 1, 1)


def test_a_short_bucket_borrows_from_all():
    place = np.repeat(["big", "small"], [990, 10])
    right = np.concatenate([np.arange(990) % 2 == 0, np.ones(10, bool)])
    buckets = Buckets.by({"place": place}, "place", right, min_support=40)
    assert buckets.rates[0] == 0.5
    assert buckets.rates[1] == pytest.approx((10 + 30 * 0.505) / 40)


def test_the_interval_covers_under_covariate_shift():
    """Rates measured on other rows than the splits were chosen on: 95 % of 300 references."""
    inside = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        place, live = draw.integers(0, 6, 1200), draw.choice(6, 5000, p=[0.5, 0.3, 0.1, 0.1, 0, 0])
        rates = np.linspace(0.5, 0.98, 6)
        buckets = Buckets.by({"p": place}, "p", draw.random(1200) < rates[place])
        estimate = buckets.estimate(buckets.count(buckets.assign({"p": live})))
        inside += estimate.low <= rates[live].mean() <= estimate.high
    assert 0.92 <= inside / 300 <= 0.98


def test_measured_keeps_the_buckets_and_takes_the_rates():
    columns, right, _ = table(0)
    buckets = Buckets.fit(columns, right)
    fresh, outcome, _ = table(1)
    other = buckets.measured(fresh, outcome)
    numbers = buckets.assign(fresh)
    assert [other.words(b) for b in range(len(other))] == [
        buckets.words(b) for b in range(len(buckets))
    ]
    assert other.sums[0] == outcome[numbers == 0].sum()


def test_a_metric_that_is_no_rate():
    x = np.arange(200.0)
    loss = np.where(x < 100, 2.0, 7.0)
    buckets = Buckets.fit({"x": x}, loss)
    assert buckets.rates.tolist() == [2.0, 7.0]
    half = buckets.estimate([0, 0, 1])
    assert (half.low, half.high) == (2.0, 7.0)


def test_buckets_survive_json():
    columns, right, _ = table()
    columns["flag"] = columns["x"] > 1
    buckets = Buckets.fit(columns, right)
    again = Buckets.from_dict(json.loads(json.dumps(buckets.to_dict())))
    assert (again.assign(columns) == buckets.assign(columns)).all()
    assert again.to_dict() == buckets.to_dict()
    assert again.estimate([*buckets.counts.tolist(), 3]) == buckets.estimate([*buckets.counts, 3])


def test_several_bucketings_make_one_estimate():
    sharp, blunt = Weighted(0.8, 0.01, 0.78, 0.82, 0.0), Weighted(0.7, 0.03, 0.64, 0.76, 0.1)
    both = combine([sharp, blunt])
    assert both.value == pytest.approx(0.79)
    assert both.standard_error == pytest.approx(0.012)
    assert both.low <= 0.7
    assert both.high >= 0.8
    assert combine([sharp]) == sharp


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Buckets.fit({}, [True]), "at least one column"),
        (lambda: Buckets.fit({"x": [1.0]}, [True, False]), "must be"),
        (lambda: Buckets.fit({"x": [1.0]}, [np.nan]), "NaN"),
        (lambda: Buckets.fit({"x": []}, []), "n > 0"),
        (lambda: Buckets.fit({"x": [np.inf]}, [1]), "infinity"),
        (lambda: Buckets.fit({"x": np.array([(1,)], object)}, [1]), "shape"),
        (lambda: Buckets.fit({"x": np.array([b"a", None], object)}, [1, 0]), "holds a bytes"),
        (lambda: Buckets.by({"x": ["a"]}, "y", [1]), "columns are"),
        (lambda: Buckets.by({"x": np.arange(9)}, "x", np.ones(9), max_buckets=8), "raise it"),
        (lambda: Buckets.by({"x": ["a"]}, "x", [1]).assign({"y": ["a"]}), "lacks 'x'"),
        (lambda: Buckets.by({"x": ["a"]}, "x", [1]).estimate([1]), "`live`"),
        (lambda: Buckets.by({"x": ["a"]}, "x", [1]).estimate([0, 0]), "`live`"),
        (lambda: Buckets.by({"x": ["a"]}, "x", [1]).count([1]), "`numbers`"),
        (lambda: Buckets.from_dict({"counts": []}), "lack"),
        (lambda: combine([]), "at least one"),
        (lambda: Buckets.fit({"x": [1.0]}, [1]).assign({"x": ["a"]}), "numbers"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(DataError, match=words):
        call()


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="`max_buckets`"):
        Buckets.fit({"x": [1.0]}, [1], max_buckets=0)
    with pytest.raises(SettingsError, match="`bucket`"):
        Buckets.fit({"x": [1.0]}, [1]).words(1)


@pytest.mark.bench
def test_a_thousand_rows_are_assigned_in_a_few_milliseconds():
    columns, right, _ = table(0, 50_000)
    buckets = Buckets.fit(columns, right)
    live = {name: column[:1000] for name, column in columns.items()}
    assert min(timeit.repeat(lambda: buckets.assign(live), number=10, repeat=3)) / 10 < 0.005
