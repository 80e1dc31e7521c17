"""An adversary in one pass: sees what a retrained one sees, and says which feature it was."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import cross_val_predict

from rainpp.errors import ArtifactError, DataError, SettingsError
from rainpp.stream.adversarial import Adversary, Tally

NAMES = [f"x{number}" for number in range(10)]
WINDOW = 1000


def larger(rows, _rng):
    rows[:, 3] += 0.6
    return rows


def smaller(rows, _rng):
    rows[:, 3] -= 0.6
    return rows


def more_extreme(rows, _rng):
    rows[:, 3] *= 1.6
    return rows


def less_extreme(rows, _rng):
    rows[:, 3] *= 0.5
    return rows


def missing(rows, rng):
    rows[rng.random(len(rows)) < 0.2, 3] = np.nan
    return rows


CHANGES = [larger, smaller, more_extreme, less_extreme, missing]


def started(seed=0, rows=5000, width=10):
    rng = np.random.default_rng(seed)
    names = [f"x{number}" for number in range(width)]
    return Adversary.start(rng.normal(size=(rows, width)), names, seed=seed), rng


def panes(adversary, rng, change, *, before, after, width=10):
    """Tallies of windows before and after a change."""
    found = []
    for window in range(before + after):
        rows = rng.normal(size=(WINDOW, width))
        adversary.update(change(rows, rng) if window >= before else rows)
        found.append(adversary.take())
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_a_shift_is_seen_in_its_first_window_and_named(change):
    adversary, rng = started()
    *quiet, first, second = panes(adversary, rng, change, before=10, after=2)
    assert all(pane.auc < 0.55 for pane in quiet[1:])
    assert first.auc > 0.56
    assert second.auc > 0.59
    assert second.log_loss < min(pane.log_loss for pane in quiet) - 0.01
    suspect, other = adversary.suspects()[:2]
    assert (suspect.name, suspect.change) == ("x3", change.__name__.replace("_", " "))
    assert suspect.weight > 2 * other.weight


def test_nothing_is_seen_where_nothing_has_moved():
    adversary, rng = started()
    quiet = panes(adversary, rng, larger, before=30, after=0)
    assert np.mean([pane.auc for pane in quiet]) == pytest.approx(0.5, abs=0.012)
    assert np.mean([pane.log_loss for pane in quiet]) == pytest.approx(np.log(2), abs=0.01)


def test_a_shift_that_is_over_is_forgotten():
    adversary, rng = started()
    panes(adversary, rng, larger, before=0, after=5)
    assert panes(adversary, rng, larger, before=5, after=0)[-1].auc < 0.55
    assert max(suspect.weight for suspect in adversary.suspects()) < 0.25


def test_correlated_features_do_not_hide_a_shift():
    rng = np.random.default_rng(0)
    mixing = np.linalg.cholesky(np.full((50, 50), 0.95) + 0.05 * np.eye(50)).T
    names = [f"x{number}" for number in range(50)]
    adversary = Adversary.start(rng.normal(size=(5000, 50)) @ mixing, names, seed=0)
    for _ in range(5):
        adversary.update(rng.normal(size=(WINDOW, 50)) @ mixing)
    assert adversary.take().log_loss == pytest.approx(np.log(2), abs=0.02)
    adversary.update(larger(rng.normal(size=(WINDOW, 50)) @ mixing, rng))
    assert adversary.take().auc > 0.75
    assert adversary.suspects()[0].name == "x3"


def scores(seed, rows):
    """Losses and tally of some rows, and the same from scores of an own reading of the weights."""
    adversary, rng = started(seed)
    adversary.update(larger(rng.normal(size=(500, 10)), rng))
    adversary.take()
    batch = larger(rng.normal(size=(rows, 10)), rng)
    live = adversary._inputs(batch) @ adversary._weights
    train = adversary._train[adversary._partners(rows)] @ adversary._weights
    return adversary.update(batch), adversary.take(), live, train


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_scored_before_they_are_learned_from(seed):
    losses, pane, live, train = scores(seed, 50)
    np.testing.assert_allclose(losses, np.log1p(np.exp(-live)), rtol=1e-5)
    chances = 1 / (1 + np.exp(-np.concatenate([live, train]).astype(float)))
    labels = np.repeat([1, 0], 50)
    assert pane.rows == 50
    assert pane.log_loss == pytest.approx(log_loss(labels, chances), rel=1e-5)
    assert pane.auc == pytest.approx(roc_auc_score(labels, chances), abs=0.02)


def test_auc_of_a_histogram_is_nearly_that_of_the_scores():
    rng = np.random.default_rng(0)
    adversary, _ = started()
    logits = rng.normal([[0.2], [0.0]], 0.5, size=(2, 5000))
    adversary._record(logits)
    expected = roc_auc_score(np.repeat([1, 0], 5000), logits.ravel())
    assert adversary.take().auc == pytest.approx(expected, abs=1e-3)


def test_tallies_add_and_leave_again():
    adversary, rng = started()
    first, second, third = panes(adversary, rng, larger, before=1, after=2)
    window = first + second + third - first
    np.testing.assert_array_equal(window.sums, (second + third).sums)
    assert window.log_loss == pytest.approx((second.log_loss + third.log_loss) / 2)
    assert np.isnan(Tally.empty().auc)
    assert np.isnan(Tally.empty().log_loss)
    np.testing.assert_array_equal(adversary.take().sums, Tally.empty().sums)


@given(cut=st.integers(1, 9))
def test_a_restart_goes_on_bit_for_bit(cut):
    rng = np.random.default_rng(7)
    batches = [larger(rng.normal(size=(size, 10)), rng) for size in (1, 7, 50, 130, 33) * 2]
    whole, early = started()[0], started()[0]
    expected = [whole.update(batch) for batch in batches]
    for batch in batches[:cut]:
        early.update(batch)
    again = Adversary.from_arrays(early.to_arrays())
    found = [again.update(batch) for batch in batches[cut:]]
    assert all((a == b).all() for a, b in zip(expected[cut:], found, strict=True))
    assert again.suspects() == whole.suspects()
    assert again.rows_seen == whole.rows_seen == 442
    np.testing.assert_array_equal(again.take().sums, whole.take().sums)


def test_arrays_need_no_pickle(tmp_path):
    adversary, rng = started()
    adversary.update(rng.normal(size=(60, 10)))
    np.savez(tmp_path / "adversary.npz", **adversary.to_arrays())
    with np.load(tmp_path / "adversary.npz", allow_pickle=False) as file:
        again = Adversary.from_arrays(file)
    batch = rng.normal(size=(60, 10))
    assert (again.update(batch) == adversary.update(batch)).all()


@given(first=st.integers(1, 30), second=st.integers(1, 30))
def test_training_rows_are_drawn_by_the_row_not_by_the_batch(first, second):
    adversary, _ = started()
    whole = adversary._partners(first + second)
    parts = [adversary._partners(first)]
    adversary.rows_seen += first
    parts.append(adversary._partners(second))
    assert (np.concatenate(parts) == whole).all()


def test_seeds_draw_other_rows_and_all_rows_are_drawn():
    adversary, _ = started(rows=100)
    counts = np.bincount(adversary._partners(100_000), minlength=100)
    assert ((counts > 850) & (counts < 1150)).all()
    other = Adversary.start(np.zeros((100, 10)), NAMES, seed=1)
    assert (other._partners(50) != adversary._partners(50)).any()


def test_small_batches_learn_like_large_ones():
    large, rng = started()
    small = Adversary.from_arrays(large.to_arrays())
    rows = larger(rng.normal(size=(2000, 10)), rng)
    large.update(rows)
    for row in rows:
        small.update(row[None])
    assert small.take().auc == pytest.approx(large.take().auc, abs=0.01)
    assert small.suspects()[0].weight == pytest.approx(large.suspects()[0].weight, rel=0.15)


def test_values_that_are_no_trouble():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 10))
    rows[:, 0] = 3.0
    rows[:, 1] = np.nan
    rows[::7, 2] = np.inf
    rows[:, 3] *= 1e200
    rows[:, 4] = 1e9 + rows[:, 4]
    adversary = Adversary.start(rows, NAMES, seed=0)
    live = rows.copy()
    live[:, 5] = -np.inf
    live[:, 6] = np.nan
    assert np.isfinite(adversary.update(live)).all()
    assert adversary.update(np.ma.masked_invalid(live)).shape == (500,)
    assert {suspect.name for suspect in adversary.suspects()[:2]} == {"x5", "x6"}
    assert np.isfinite(adversary.to_arrays()["weights"]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 10)), r"`rows` have shape \(0, 10\); there must be at least one row"),
        (np.zeros((5, 9)), r"`rows` are float64 of shape \(5, 9\); pass numbers"),
        (np.zeros(10), r"shape \(10,\)"),
        (np.full((5, 10), "a"), "`rows` are not numbers"),
        ([*np.full((5, 10), None).tolist(), ["a"] * 10], "`rows` are not numbers"),
        (np.zeros((5, 10), complex), "`rows` are complex128"),
    ],
)
def test_bad_rows(rows, message):
    adversary, _ = started()
    with pytest.raises(DataError, match=message):
        adversary.update(rows)


def test_bad_starts():
    with pytest.raises(DataError, match="`reference_rows` have shape"):
        Adversary.start(np.zeros((0, 10)), NAMES, seed=0)
    with pytest.raises(SettingsError, match="`names` are 9, 9 of them different, for 10 columns"):
        Adversary.start(np.zeros((5, 10)), NAMES[:9], seed=0)
    with pytest.raises(SettingsError, match="`names` are 10, 1 of them different"):
        Adversary.start(np.zeros((5, 10)), ["x"] * 10, seed=0)
    with pytest.raises(SettingsError, match="`seed` is -1"):
        Adversary.start(np.zeros((5, 10)), NAMES, seed=-1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.pop("metric"),
        lambda arrays: arrays.update(names=arrays["names"][:-1]),
        lambda arrays: arrays.update(weights=arrays["weights"][:-1]),
        lambda arrays: arrays.update(weights=arrays["weights"].astype(float)),
        lambda arrays: arrays.update(reference=arrays["reference"][:, 1:]),
        lambda arrays: arrays.update(metric=arrays["metric"][:-1]),
        lambda arrays: arrays.update(seed=np.array("zero")),
    ],
)
def test_damaged_arrays(damage):
    arrays = started()[0].to_arrays()
    damage(arrays)
    with pytest.raises(ArtifactError, match="no adversary"):
        Adversary.from_arrays(arrays)


def onset(aucs, before):
    """First window whose AUC leaves what the quiet ones after the first had, by 4 of their sd."""
    quiet = np.array(aucs[2:before])
    beyond = np.array(aucs[before:]) > quiet.mean() + 4 * max(quiet.std(), 0.013)
    return int(beyond.argmax()) if beyond.any() else len(aucs)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "oracle",
    [LogisticRegression(), HistGradientBoostingClassifier(max_iter=40, random_state=0)],
    ids=["logistic", "boosted"],
)
def test_onset_at_most_a_window_after_that_of_a_retrained_classifier(change, oracle):
    adversary, rng = started(width=50)
    before, after, train = 12, 4, np.random.default_rng(1).normal(size=(WINDOW, 50))
    online, retrained, labels = [], [], np.repeat([1, 0], WINDOW)
    for window in range(before + after):
        rows = rng.normal(size=(WINDOW, 50))
        rows = change(rows, rng) if window >= before else rows
        adversary.update(rows)
        online.append(adversary.take().auc)
        both = np.nan_to_num(np.concatenate([rows, train]), nan=9.0)
        chances = cross_val_predict(oracle, both, labels, cv=3, method="predict_proba")[:, 1]
        retrained.append(roc_auc_score(labels, chances))
    assert onset(online, before) <= onset(retrained, before) + 1
    assert onset(online, before) <= 1


@pytest.mark.bench
def test_at_most_five_microseconds_a_row():
    adversary, rng = started(width=50)
    batch = rng.normal(size=(1000, 50))
    adversary.update(batch)
    began = time.perf_counter()
    for _ in range(50):
        adversary.update(batch)
    assert (time.perf_counter() - began) / 50 / 1000 < 5e-6
