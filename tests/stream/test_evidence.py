"""Evidence watched all the time: exactly fair while nothing moves, quick when something does."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from rainpp.errors import ArtifactError, DataError, SettingsError
from rainpp.stream import evidence
from rainpp.stream.evidence import ExchangeabilityTest, MeanSequence

WIDTH = 50
NAMES = [f"x{number}" for number in range(WIDTH)]


def normal(rng, rows, width=WIDTH):
    return rng.normal(size=(rows, width))


def counted(rng, rows, width=WIDTH):
    return rng.poisson(0.7, size=(rows, width)).astype(float)


def gapped(rng, rows, width=WIDTH):
    values = rng.normal(size=(rows, width))
    values[rng.random((rows, width)) < 0.3] = np.nan
    return values.astype(np.float32)


STREAMS = [normal, counted, gapped]


def started(draw=normal, *, rows=5000, width=WIDTH, seed=0, **settings):
    """A test that has seen no live row, and what draws them."""
    rng = np.random.default_rng(seed)
    names = [f"x{number}" for number in range(width)]
    return ExchangeabilityTest.start(draw(rng, rows, width), names, seed=seed, **settings), rng


@pytest.mark.parametrize("known", [1, 2, 3, 4])
def test_over_all_orders_the_evidence_is_one_on_average(known, monkeypatch):
    """What a martingale under exchangeability means, without any sampling."""
    monkeypatch.setattr(evidence, "_BLOCK", 2)
    totals = np.zeros(6 - known)
    orders = list(itertools.permutations([0.3, 1.0, 1.7, 2.0, 5.0, 9.0]))
    for order in orders:
        rows = np.array(order)[:, None]
        test = ExchangeabilityTest.start(rows[:known], ["x"], seed=0)
        totals += [np.exp(test.update(row[None])[0]) for row in rows[known:]]
    np.testing.assert_allclose(totals / len(orders), 1.0, rtol=1e-9)


@pytest.mark.parametrize("draw", STREAMS)
def test_the_urn_says_where_the_next_row_falls(draw):
    """For 4000 features of a few rows each: their shares by the bin of the row before."""
    test, rng = started(draw, rows=7, width=4000, bins=4)
    test.update(draw(rng, 1, 4000))
    first = test._counts.argmax(axis=1)
    test.update(draw(rng, 1, 4000))
    second = (test._counts - np.eye(4, dtype=int)[first]).argmax(axis=1)
    assert test._urn.tolist() == [1, 3, 3, 1]
    assert np.bincount(first) / 4000 == pytest.approx(np.array([1, 3, 3, 1]) / 8, abs=0.03)
    # One more ball of nine where the first row fell: Σ a/8 · (a + 1)/9.
    assert (first == second).mean() == pytest.approx(28 / 72, abs=0.03)


def by_hand(known, live, bins):
    """Evidence against one feature without ties, row by row as the docstring says."""
    test = ExchangeabilityTest.start(known[:, None], ["x"], seed=0, bins=bins)
    edges, urn, count = test._edges[0], test._urn.astype(float), len(test._gains)
    null, recent, block_counts = urn / urn.sum(), np.zeros(len(urn)), np.zeros(len(urn))
    fixed, balls, wealth = list(test._gains[:-1, 0]), urn.copy(), np.zeros(count)
    for number, value in enumerate(live):
        block, within = divmod(number, 256)
        if within == 0:
            recent = 7 / 8 * recent + block_counts
            block_counts = np.zeros(len(urn))
            weight = recent + len(urn) * null
            gains = [*fixed, 0.5 + 0.5 * weight / weight.sum() / null]
            wealth += (1 / (1 + np.log1p(block)) - 1 / (1 + np.log1p(block + 1))) / count
        slot = int((edges < value).sum())
        chances = balls / balls.sum()
        wealth *= [gain[slot] / (chances @ gain) for gain in gains]
        balls[slot] += 1
        block_counts[slot] += 1
    return np.log(wealth.sum() + 1 / (1 + np.log1p(block + 1)))


@pytest.mark.parametrize(("shift", "bins"), [(0.0, 32), (0.2, 32), (0.2, 3), (-1.0, 2)])
def test_evidence_is_what_its_definition_says(shift, bins):
    rng = np.random.default_rng(3)
    known, live = rng.normal(size=400), rng.normal(shift, size=900)
    test = ExchangeabilityTest.start(known[:, None], ["x"], seed=0, bins=bins)
    found = test.update(live[:, None])[0]
    assert found == pytest.approx(by_hand(known, live, bins), rel=1e-9)


@pytest.mark.parametrize("draw", STREAMS)
@pytest.mark.parametrize("rows", [20, 2000])
def test_a_feature_that_has_not_moved_is_rarely_accused(draw, rows):
    """1500 features, each a stream of its own: at most α of them, whenever one looks."""
    test, rng = started(draw, rows=rows, width=1500)
    for _ in range(15):
        test.update(draw(rng, 100, 1500))
    accused = (test._peak >= np.log(1 / 0.05)).sum()
    assert accused <= binom.ppf(0.999, 1500, 0.05)
    assert test.alarms() == []


def moved_up(rows, _rng):
    rows[:, 3] += 0.3
    return rows


def moved_down(rows, _rng):
    rows[:, 3] -= 0.3
    return rows


def spread_out(rows, _rng):
    rows[:, 3] *= 1.3
    return rows


def drawn_in(rows, _rng):
    rows[:, 3] *= 0.7
    return rows


def lost(rows, rng):
    rows[rng.random(len(rows)) < 0.03, 3] = np.nan
    return rows


def stuck(rows, rng):
    rows[rng.random(len(rows)) < 0.15, 3] = 0.1
    return rows


def impossible(rows, rng):
    rows[rng.random(len(rows)) < 0.03, 3] = -np.inf
    return rows


@pytest.mark.parametrize(
    "change", [moved_up, moved_down, spread_out, drawn_in, lost, stuck, impossible]
)
@pytest.mark.parametrize("quiet", [0, 20_000])
def test_a_shift_in_one_of_fifty_features_is_found_within_1500_rows(change, quiet):
    test, rng = started(rows=10_000)
    for _ in range(quiet // 1000):
        test.update(normal(rng, 1000))
    assert test.alarms() == []
    for _ in range(15):
        test.update(change(normal(rng, 100), rng))
    (alarm,) = test.alarms()
    assert alarm.name == "x3"
    assert quiet < alarm.row <= quiet + 1500
    assert alarm.log_evidence >= test.threshold == pytest.approx(np.log(50 / 0.05))


def test_an_alarm_stays_and_counts():
    test, rng = started(counted)
    rows = counted(rng, 1200)
    rows[:, 7] = rng.poisson(1.1, size=1200)
    test.update(rows)
    (alarm,) = test.alarms()
    assert alarm.name == "x7"
    assert alarm.row % 256 == 0
    for _ in range(60):
        test.update(counted(rng, 1000))
    assert test.log_evidence[7] < test.threshold
    assert test.alarms() == [alarm] or test.alarms()[0].log_evidence > alarm.log_evidence
    assert test.alarms()[0].row == alarm.row


@given(cuts=st.lists(st.integers(1, 899), max_size=5))
def test_how_the_stream_is_cut_makes_no_difference(cuts):
    whole, rng = started(counted, rows=300, width=5)
    parts = ExchangeabilityTest.from_arrays(whole.to_arrays())
    rows = counted(rng, 900, 5)
    whole.update(rows)
    for start, end in itertools.pairwise(sorted({0, *cuts, 900})):
        parts.update(rows[start:end])
    np.testing.assert_array_equal(parts._counts, whole._counts)
    np.testing.assert_allclose(parts.log_evidence, whole.log_evidence, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_restart_goes_on_bit_for_bit(cut, tmp_path):
    whole, rng = started(gapped, rows=300)
    early, _ = started(gapped, rows=300)
    batches = [gapped(rng, rows) for rows in (10, 250, 300, 7, 400, 60)]
    expected = [whole.update(batch) for batch in batches]
    for batch in batches[:cut]:
        early.update(batch)
    np.savez(tmp_path / "test.npz", **early.to_arrays())
    with np.load(tmp_path / "test.npz", allow_pickle=False) as file:
        again = ExchangeabilityTest.from_arrays(file)
    found = [again.update(batch) for batch in batches[cut:]]
    assert all((a == b).all() for a, b in zip(expected[cut:], found, strict=True))
    assert again.alarms() == whole.alarms()
    assert (again.rows_seen, again.alpha, again.seed) == (1027, 0.05, 0)


def test_ties_are_broken_alike_only_for_the_same_seed():
    slots = []
    for seed in (0, 0, 1):
        test = ExchangeabilityTest.start(np.zeros((100, 1)), ["x"], seed=seed)
        slots.append(test._slots(np.zeros((500, 1))))
    assert (slots[0] == slots[1]).all()
    assert (slots[0] != slots[2]).any()
    assert len(np.unique(slots[0])) > 25


def test_no_overflow_when_everything_is_new():
    test, _ = started()
    for _ in range(5):
        found = test.update(np.full((1000, WIDTH), np.inf))
    assert np.isfinite(found).all()
    assert (found > 1000).all()
    assert len(test.alarms()) == WIDTH


def test_float32_rows_are_compared_as_float32():
    known = np.arange(1, 1001, dtype=np.float32)[:, None] / 10
    same = ExchangeabilityTest.start(known, ["x"], seed=0)
    other = ExchangeabilityTest.start(known, ["x"], seed=0)
    rows = (np.random.default_rng(0).integers(1, 1001, size=(500, 1)) / 10).astype(float)
    assert same.update(rows) == other.update(rows.astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, "`alpha` is 0.0"),
        ({"alpha": 1.0}, "`alpha` is 1.0"),
        ({"bins": 1}, "`bins` is 1; it must be at least 2"),
        ({"seed": -1}, "`seed` is -1"),
        ({"names": ["x"]}, "`names` are 1, 1 of them different, for 2 columns"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        ExchangeabilityTest.start(
            **{"reference_rows": np.eye(2), "names": "ab", "seed": 0} | settings
        )


def test_bad_rows():
    test, _ = started()
    with pytest.raises(DataError, match=r"`rows` are float64 of shape \(5, 49\)"):
        test.update(np.zeros((5, 49)))
    with pytest.raises(DataError, match="there must be at least one row"):
        test.update(np.zeros((0, 50)))
    with pytest.raises(DataError, match="`reference_rows` are not numbers"):
        ExchangeabilityTest.start([["a"]], ["x"], seed=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.pop("urn"),
        lambda arrays: arrays.update(names=arrays["names"][1:]),
        lambda arrays: arrays.update(edges=arrays["edges"][:, 1:]),
        lambda arrays: arrays.update(keys=arrays["keys"][:, 1:]),
        lambda arrays: arrays.update(counts=arrays["counts"].astype(float)),
        lambda arrays: arrays.update(log_wealth=arrays["log_wealth"][1:]),
    ],
)
def test_damaged_arrays(damage):
    arrays = started()[0].to_arrays()
    damage(arrays)
    with pytest.raises(ArtifactError, match="no test of exchangeability"):
        ExchangeabilityTest.from_arrays(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("draw", STREAMS)
def test_families_of_fifty_features_are_falsely_accused_at_most_one_time_in_twenty(draw):
    """200 families of 50 features, 20 000 rows, watched after each 1000; 2000 training rows."""
    families = 200
    wrong, rng = 0, np.random.default_rng(11)
    for family in range(0, families, 10):
        names = [f"x{number}" for number in range(10 * WIDTH)]
        known = draw(rng, 2000, 10 * WIDTH)
        test = ExchangeabilityTest.start(known, names, seed=family)
        for _ in range(20):
            test.update(draw(rng, 1000, 10 * WIDTH))
        peaks = test._peak.reshape(10, WIDTH).max(axis=1)
        wrong += int((peaks >= np.log(WIDTH / 0.05)).sum())
    assert wrong <= binom.ppf(0.999, families, 0.05)
    assert wrong / families <= 0.05


@pytest.mark.slow
def test_a_million_rows_of_fifty_features_without_a_false_alarm_and_then_a_shift():
    test, rng = started(rows=10_000)
    for _ in range(1000):
        test.update(normal(rng, 1000))
    assert test.alarms() == []
    for _ in range(20):
        test.update(moved_up(normal(rng, 100), rng))
    assert [alarm.name for alarm in test.alarms()] == ["x3"]


@pytest.mark.bench
def test_two_hundred_thousand_values_a_second():
    test, rng = started(rows=10_000)
    batch = normal(rng, 1000)
    test.update(batch)
    began = time.perf_counter()
    for _ in range(20):
        test.update(batch)
    assert 20 * batch.size / (time.perf_counter() - began) > 1e6


@pytest.mark.parametrize("mean", [0.02, 0.5, 0.9])
def test_of_all_intervals_of_a_stream_one_misses_rarely(mean):
    rng = np.random.default_rng(5)
    looks = np.unique(np.geomspace(1, 20_000, 200).astype(int))
    sequence, missed = MeanSequence(alpha=0.05), 0
    for _ in range(400):
        hits = np.cumsum(rng.random(20_000) < mean)[looks - 1]
        low, high = sequence.interval(looks, hits)
        missed += bool(((low > mean) | (high < mean)).any())
    assert missed <= 0.05 * 400
    assert missed > 0  # not vacuous


def test_values_in_between_are_covered_too():
    rng = np.random.default_rng(6)
    looks = np.unique(np.geomspace(1, 5000, 200).astype(int))
    missed = 0
    for _ in range(300):
        values = rng.choice([0.0, 0.5, 1.0], p=[0.05, 0.3, 0.65], size=5000)
        low, high = MeanSequence().interval(looks, np.cumsum(values)[looks - 1])
        missed += bool(((low > 0.8) | (high < 0.8)).any())
    assert missed <= 0.05 * 300


@pytest.mark.parametrize(("n", "hits"), [(20, 7.0), (20, 0.5), (50, 49.0), (3, 1.5)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_at_its_ends_the_mixture_reaches_one_over_alpha(n, hits, alpha):
    for end in MeanSequence(alpha).interval(n, hits):

        def likelihood(q, end=end):
            return (q / end) ** hits * ((1 - q) / (1 - end)) ** (n - hits)

        mixture, _ = quad(lambda q: likelihood(q) * beta.pdf(q, 0.5, 0.5), 0, 1, limit=200)
        assert mixture == pytest.approx(1 / alpha, rel=1e-5)


def test_intervals_shrink_and_hold_their_mean():
    n = np.array([0, 1, 10, 100, 10_000, 10**9])
    low, high = MeanSequence().interval(n, 0.9 * n)
    assert (low[0], high[0]) == (0.0, 1.0)
    assert (np.diff(high - low) < 0).all()
    assert ((low < 0.9) & (high > 0.9)).all()
    assert high[4] - low[4] == pytest.approx(0.0237, abs=1e-4)
    assert high[5] - low[5] < 1e-4
    low, high = MeanSequence().interval([30, 30], [0, 30])
    assert (low[0], high[1]) == (0.0, 1.0)
    assert high[0] == pytest.approx(1 - low[1])
    assert 0.1 < high[0] < 0.25


@pytest.mark.parametrize(("n", "total"), [(10, 11), (10, -1), (-1, -1), (10, np.nan), (np.inf, 1)])
def test_sums_that_cannot_be(n, total):
    with pytest.raises(DataError, match="from 0 to n"):
        MeanSequence().interval(n, total)


def test_an_alpha_that_cannot_be():
    with pytest.raises(SettingsError, match="`alpha` is 5; it is the chance"):
        MeanSequence(alpha=5)


def test_one_bet_is_on_values_beyond_all_training_rows():
    test, _ = started(rows=999)
    gains = test._gains[-2, 0]
    assert (test._urn[0], test._urn[-1]) == (1, 1)
    assert gains[[0, -1]] == pytest.approx(0.98 + 0.01 * 1000)
    assert gains[1:-1] == pytest.approx(0.98)
