"""The sample of waiting predictions: known chances, no bias from bursts, flat memory."""

from __future__ import annotations

import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.stats import chi2

from rainpp.errors import DataError, SettingsError
from rainpp.stream.reservoir import Reservoir, hash64


def bursty(seed, capacity=6):
    """Twenty rows, labels for twelve of them at once, ten more rows, then a new pane."""
    reservoir = Reservoir(capacity, seed=seed)
    reservoir.offer(np.arange(10))
    reservoir.offer(np.arange(10, 20))
    joined = reservoir.label(np.arange(12))
    reservoir.offer(np.arange(20, 25))
    reservoir.offer(np.arange(25, 32), panes=1)
    return reservoir, joined


def weights_of(reservoir, joined, rows=32):
    """1/probability of every row in the sample or joined from it, 0 of the others."""
    weights = np.zeros(rows)
    weights[reservoir.ids] = 1 / reservoir.probabilities
    weights[joined.rows] = 1 / joined.probabilities
    return weights


def test_inclusion_is_unbiased_under_a_burst_of_labels():
    """Weighted inclusion counts of 10 000 seeds against their expectation, by chi-squared.

    Any two weights are uncorrelated, and (1 - t)/t² over the sample estimates their variance.
    """
    weights = np.array([weights_of(*bursty(seed)) for seed in range(10_000)])
    variance = np.where(weights > 0, weights**2 - weights, 0).sum(0)
    statistic = float(((weights.sum(0) - 10_000) ** 2 / variance).sum())
    assert chi2.ppf(0.0005, 32) < statistic < chi2.ppf(0.9995, 32)
    first, second = np.triu_indices(32, 1)
    products = (weights[:, first] - 1) * (weights[:, second] - 1)
    z = products.mean(0) / (products.std(0) / 100)
    assert abs(z).max() < 4.5  # 496 pairs


def test_rows_of_one_pane_wait_with_one_probability_that_only_falls():
    reservoir, before = Reservoir(50), 1.0
    for start in range(0, 5000, 100):
        reservoir.offer(np.arange(start, start + 100))
        now = np.unique(reservoir.probabilities)
        assert now.size == 1
        assert now[0] <= before
        before = now[0]
        reservoir.label(np.arange(start - 500, start + 50))
        assert len(reservoir) <= 50


def test_a_new_pane_opens_wide_again():
    reservoir = Reservoir(40)
    reservoir.offer(np.arange(4000))
    reservoir.label(np.arange(4000))
    reservoir.offer(np.arange(4000, 4020), panes=1)
    assert reservoir.probabilities.tolist() == [1.0] * 20


def test_the_sample_is_every_waiting_row_below_the_limit():
    reservoir = Reservoir(100, seed=3)
    for start in range(0, 3000, 70):
        reservoir.offer(np.arange(start, min(start + 70, 3000)))
    limit = reservoir.probabilities[0] * 2.0**64
    below = np.flatnonzero(hash64(np.arange(3000), 3).astype(float) < limit)
    assert sorted(reservoir.ids.tolist()) == below.tolist()


def test_the_estimate_and_its_variance_are_unbiased():
    values = np.arange(300) % 7 + 1.0
    totals = []
    for seed in range(1500):
        reservoir = Reservoir(40, seed=seed)
        reservoir.offer(np.arange(300), {"y": values}, panes=np.arange(300) // 150)
        totals.append(reservoir.estimate("y"))
    found = np.array([(total.value, total.variance) for total in totals])
    error = found[:, 0].std() / np.sqrt(len(found))
    assert abs(found[:, 0].mean() - values.sum()) < 4 * error
    assert found[:, 1].mean() == pytest.approx(found[:, 0].var(), rel=0.15)


def test_nothing_is_estimated_while_everything_fits():
    reservoir = Reservoir(10)
    reservoir.offer(["a", "b", "c"], {"y": [1.0, 2.0, 4.0]})
    total = reservoir.estimate("y")
    assert (total.value, total.variance) == (7.0, 0.0)


@given(
    cuts=st.lists(st.integers(0, 400), max_size=6),
    labelled=st.lists(st.integers(0, 399), max_size=30),
)
def test_merged_halves_weigh_as_one(cuts, labelled):
    parts = [Reservoir(64), Reservoir(64)]
    for turn, ids in enumerate(np.split(np.arange(400), sorted(cuts))):
        parts[turn % 2].offer(ids, {"y": ids * 2}, panes=ids // 200)
    for part in parts:
        part.label(labelled)
    merged, other = parts[0].merge(parts[1]), parts[1].merge(parts[0])
    assert merged.ids.tolist() == other.ids.tolist()
    assert merged.probabilities.tolist() == other.probabilities.tolist()
    assert len(merged) <= 64
    assert not set(labelled) & set(merged.ids.tolist())
    assert (merged.payload["y"] == merged.ids * 2).all()
    top = merged.probabilities * 2.0**64
    assert (hash64(merged.ids).astype(float) <= top).all()


def test_a_merge_remembers_the_lower_limit():
    """One half had many rows, most of them labelled since; the other never had to drop one."""
    sums = []
    for seed in range(1500):
        left, right = Reservoir(20, seed=seed), Reservoir(20, seed=seed)
        left.offer(np.arange(100))
        left.label(np.arange(80))
        right.offer(np.arange(100, 110))
        merged = left.merge(right)
        sums.append(merged.estimate(np.ones(len(merged))).value)
    assert np.mean(sums) == pytest.approx(30, abs=4 * np.std(sums) / np.sqrt(len(sums)))


def test_a_merge_is_unbiased():
    sums = []
    for seed in range(1500):
        left, right = Reservoir(20, seed=seed), Reservoir(20, seed=seed)
        left.offer(np.arange(30))
        right.offer(np.arange(30, 130))
        merged = left.merge(right)
        sums.append(merged.estimate(np.ones(len(merged))).value)
    assert np.mean(sums) == pytest.approx(130, abs=4 * np.std(sums) / np.sqrt(len(sums)))


def test_label_says_which_rows_were_there_and_takes_them_once():
    reservoir = Reservoir(10)
    reservoir.offer(["x", "y", "z"], {"p": np.array([[1.0, 2], [3, 4], [5, 6]])})
    joined = reservoir.label(["no", "z", "x", "z"])
    assert joined.rows.tolist() == [1, 2]
    assert joined.payload["p"].tolist() == [[5, 6], [1, 2]]
    assert reservoir.label(["z"]).rows.size == 0
    assert reservoir.ids.tolist() == ["y"]


def test_joined_rows_come_in_the_order_of_the_labels():
    reservoir = Reservoir(100)
    reservoir.offer(np.arange(40), {"y": np.arange(40)})
    joined = reservoir.label(np.arange(60)[::-1])
    assert joined.rows.tolist() == list(range(20, 60))
    assert joined.payload["y"].tolist() == list(range(39, -1, -1))


def test_an_id_offered_twice_waits_once():
    reservoir = Reservoir(10)
    assert reservoir.offer([1, 1, 2]) == 2
    assert reservoir.offer([2, 3]) == 1
    assert sorted(reservoir.ids.tolist()) == [1, 2, 3]


def test_expired_panes_leave_and_stay_away():
    reservoir = Reservoir(10)
    reservoir.offer(np.arange(6), panes=[0, 0, 1, 1, 2, 2])
    reservoir.expire(2)
    assert sorted(reservoir.ids.tolist()) == [4, 5]
    assert reservoir.offer([7, 8], panes=[1, 2]) == 1
    assert sorted(reservoir.ids.tolist()) == [4, 5, 8]


def test_hashes_are_the_same_in_another_process():
    code = (
        "from rainpp.stream.reservoir import hash64; "
        "print(*hash64(['a', 'été', ''], 5), *hash64([1, -1], 5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [*hash64(["a", "été", ""], 5), *hash64([1, -1], 5)]
    assert done.stdout.split() == [str(h) for h in here]


def test_hashes_of_strings_do_not_depend_on_their_neighbours():
    assert hash64(["a", "b"]).tolist() == hash64(np.array(["a", "b", "longer"]))[:2].tolist()
    assert len(set(hash64([f"id-{i}" for i in range(20_000)]).tolist())) == 20_000


@pytest.mark.parametrize("ids", [np.arange(200_000), [f"row {i}" for i in range(50_000)]])
def test_hashes_are_uniform(ids):
    bits = hash64(ids, 1)
    for part in (bits >> np.uint64(58), bits & np.uint64(63)):
        counts = np.bincount(part.astype(int), minlength=64)
        statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert chi2.ppf(0.0005, 63) < statistic < chi2.ppf(0.9995, 63)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: r.offer([1.5]), "dtype"),
        (lambda r: r.offer([[1]]), "shape"),
        (lambda r: r.offer(["a"], {"y": [1]}), "mixes"),
        (lambda r: r.offer([1, 2], {"y": [1]}), "length"),
        (lambda r: r.offer([1]), "same names"),
        (lambda r: r.offer([1], {"y": [1]}, panes=[1, 2]), "`panes`"),
        (lambda r: r.offer([1], {"y": [1]}, panes=0.5), "whole numbers"),
        (lambda r: r.estimate("z"), "payloads are"),
        (lambda r: r.estimate([1, 2, 3]), "shape"),
    ],
)
def test_bad_rows_are_named(call, words):
    reservoir = Reservoir(10)
    reservoir.offer([9], {"y": [1]})
    with pytest.raises(DataError, match=words):
        call(reservoir)


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="`capacity`"):
        Reservoir(0)
    with pytest.raises(SettingsError, match="alike"):
        Reservoir(5).merge(Reservoir(5, seed=1))


def memory_over(rows):
    reservoir, sizes = Reservoir(1000), []
    for start in range(0, rows, 10_000):
        ids = np.arange(start, start + 10_000)
        reservoir.offer(ids, {"y": ids % 2})
        reservoir.label(ids[::100])
        sizes.append(reservoir.nbytes)
    return sizes


def test_memory_does_not_grow():
    sizes = memory_over(300_000)
    assert max(sizes) <= 1000 * 8 * 4
    assert sizes[-1] <= sizes[0] * 1.2


@pytest.mark.bench
def test_memory_is_flat_over_ten_million_rows():
    assert max(memory_over(10_000_000)) <= 1000 * 8 * 4
