"""Evidence to be watched all the time: alarms and intervals that hold at every moment at once.

A p-value below 0.05 in some window is certain to come, if enough windows are looked at. Here the
chance of *ever* raising a false alarm, over all features and the whole stream, is at most alpha.

    test = ExchangeabilityTest.start(training_rows, names, seed=0, alpha=0.05)
    test.update(batch)                  # after every batch:
    test.alarms()                       # [Alarm(name='fare', row=41_256, log_evidence=7.3)]

    low, high = MeanSequence(alpha=0.05).interval(n, right)     # accuracy, after every label
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, logsumexp, ndtri, xlog1py, xlogy

from rainpp.errors import ArtifactError, DataError, SettingsError
from rainpp.stream.rows import Rows, as_rows, check_names, like

# Capital is laid out, and the learned bet renewed, every so many rows of the stream.
_BLOCK = 256
# Strength of the bets on a shift of normal scores, in standard deviations, and on their spread.
_SHIFTS = (0.05, 0.15, 0.45, 1.2)
_SPREADS = (0.15, 0.45, -0.15, -0.45)
# The learned bet: share of what earlier blocks count for, one block on; and share of the bet.
_MEMORY = 7 / 8
_LEARNED = 0.5
# Share of values below all training rows' that a bet is on, and of those above: usually 1/(n + 1).
_BEYOND = 0.01
# Independent streams of Philox words for breaking ties.
_OF_TRAINING, _OF_LIVE = 1, 2


@dataclass(frozen=True, slots=True)
class Alarm:
    """A feature whose live rows are not exchangeable with the training rows.

    `row` is the number of live rows seen when its evidence first reached the threshold, and
    `log_evidence` the largest value it has had since, in nats.
    """

    name: str
    row: int
    log_evidence: float


class ExchangeabilityTest:
    """Whether live rows could be training rows, tested after every row, once and for all.

    **Null hypothesis**: the training rows and all live rows are exchangeable, in any order equally
    likely, as they are if all are drawn from one distribution. The training rows must be all, or a
    random sample; not one that favours some rows.

    **Evidence.** Per feature the training rows' order statistics cut the line into K bins, of a_b
    gaps each; ties are broken by random numbers, so there are none. Given the bins of the t live
    rows so far, c_b of them in bin b, the next one falls there with probability (a_b + c_b)/(n + 1
    + t): Pólya's urn, exact for any finite n and any distribution (the binned form of the conformal
    test martingales of Vovk, Gammerman and Shafer 2022). A bet g ≥ 0 on the bins multiplies its
    stake by g(B) over its expectation under the urn. Bets are on larger and smaller values, on more
    and less spread, on values beyond all training rows' (missing ones are beyond the largest), and
    on what the last two thousand rows looked like. New capital is laid out at every 256th row, as
    much as 1/(k·ln²k) of the whole at the k-th, so a shift after a million rows costs 13 nats (300
    rows of a shift of 0.3 sd) and not the capital. The total is a martingale that starts at 1.

    **Alarm.** By Ville's inequality it ever reaches m/α with probability ≤ α/m, and for any of m
    features with probability ≤ α. The maximum is taken and not the mean over features: each one is
    a martingale of its own past, and their mean need not be one of everybody's.

    Categories are encoded by the caller, by an order that does not look at the data: a hash.
    """

    def __init__(
        self, names: Sequence[str], edges: Rows, keys: NDArray[np.float64], urn: NDArray[np.int64]
    ) -> None:
        m, bins = len(names), len(urn)
        self.names = tuple(names)
        self.seed, self.alpha, self.rows_seen = 0, 0.05, 0
        self._edges, self._keys, self._urn = edges, keys, urn
        bets = _bets(urn)
        self._gains = np.ones((len(bets) + 1, m, bins))
        self._gains[:-1] = bets[:, None]
        self._log_wealth = np.full((len(bets) + 1, m), -np.inf)
        self._counts = np.zeros((m, bins), np.int64)
        self._counts_before = self._counts.copy()  # at the start of the current block
        self._recent = np.zeros((m, bins))
        self._peak = np.zeros(m)
        self._alarm_row = np.full(m, -1, np.int64)

    @classmethod
    def start(
        cls,
        reference_rows: ArrayLike,
        names: Sequence[str],
        *,
        seed: int,
        alpha: float = 0.05,
        bins: int = 32,
    ) -> ExchangeabilityTest:
        """A test that has seen no live row.

        Parameters
        ----------
        reference_rows : (n, m) training rows, all or a random sample, NaN where missing (a value
            like others). Not kept: only bins - 1 order statistics of each feature are.
        names : of the m features.
        seed : of the random numbers that break ties.
        alpha : chance of ever raising a false alarm, in (0, 1).
        bins : at most this many bins for each feature, and at most n + 1.

        Raises
        ------
        SettingsError : alpha, bins, seed or names out of range.
        DataError : no row, no feature, or not numbers.
        """
        rows = as_rows(reference_rows, argument="reference_rows")
        check_names(names, rows.shape[1])
        _check_settings(seed, alpha, bins)
        ranks = _ranks(len(rows), min(bins, len(rows) + 1))
        ties = _uniforms(seed, _OF_TRAINING, 0, rows.size).reshape(rows.shape)
        order = np.lexsort((ties, rows), axis=0)[ranks[1:-1] - 1]
        edges = np.take_along_axis(rows, order, axis=0).T.copy()
        keys = _run_starts(edges) + np.take_along_axis(ties, order, axis=0).T
        found = cls(names, edges, keys, np.diff(ranks))
        found.seed, found.alpha = seed, alpha
        return found

    @property
    def threshold(self) -> float:
        """Evidence at which a feature raises an alarm: ln(m/α) nats."""
        return float(np.log(len(self.names) / self.alpha))

    @property
    def log_evidence(self) -> NDArray[np.float64]:
        """Evidence against each feature so far, in nats, (m,): 0 is none, below 0 speaks for it."""
        blocks = -(-self.rows_seen // _BLOCK)
        return np.logaddexp(np.log(_reserve(blocks)), logsumexp(self._log_wealth, axis=0))

    def alarms(self) -> list[Alarm]:
        """Features whose evidence has ever reached the threshold, the first ones first."""
        found = [
            Alarm(name, int(row), float(peak))
            for name, row, peak in zip(self.names, self._alarm_row, self._peak, strict=True)
            if row >= 0
        ]
        return sorted(found, key=lambda alarm: (alarm.row, -alarm.log_evidence))

    def update(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Bet on live rows, one after another; the evidence against each feature after them (m,).

        How the stream is cut into batches makes no difference, but for the rows after which the
        evidence is compared with the threshold: every 256th, and the last of each batch.

        Raises
        ------
        DataError : no row, not numbers, or not m columns.

        Cost: about 0.3 µs a value in batches of 1000 rows.
        """
        live = as_rows(rows, argument="rows", width=len(self.names))
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and so compared
            slots = self._slots(live.astype(self._edges.dtype, copy=False))
        while len(slots):
            if self.rows_seen % _BLOCK == 0:
                self._begin_block()
            room = _BLOCK - self.rows_seen % _BLOCK
            self._bet(slots[:room])
            self._compare()
            slots = slots[room:]
        return self.log_evidence

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All it knows, as plain arrays: `from_arrays` goes on bit for bit where this one was."""
        about = {
            "names": np.array(self.names),
            "seed": np.array(str(self.seed)),
            "alpha": np.array(self.alpha),
            "rows_seen": np.array(self.rows_seen),
            "edges": self._edges,
            "keys": self._keys,
            "urn": self._urn,
        }
        return about | {name: getattr(self, f"_{name}").copy() for name in _STATE}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ExchangeabilityTest:
        """The test that `to_arrays` wrote.

        Raises
        ------
        ArtifactError : an array is missing, or they do not fit together.
        """
        try:
            names, urn = arrays["names"].tolist(), arrays["urn"]
            found = cls(names, arrays["edges"], arrays["keys"], urn)
            like(np.zeros((len(names), len(urn) - 1)), found._keys)
            like(np.zeros(found._keys.shape, found._edges.dtype), found._edges)
            found.seed, found.alpha = int(arrays["seed"].item()), float(arrays["alpha"])
            found.rows_seen = int(arrays["rows_seen"])
            for name in _STATE:
                setattr(found, f"_{name}", like(getattr(found, f"_{name}"), arrays[name]))
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as problem:
            raise ArtifactError(
                f"these arrays are no test of exchangeability ({problem}); start again from the "
                "training rows"
            ) from problem
        found._learn()
        return found

    def _slots(self, live: Rows) -> NDArray[np.intp]:
        """Bins of live rows (b, m), those of feature j from j·K on."""
        slots = np.empty(live.shape, np.intp)
        ties: NDArray[np.float64] | None = None
        for j, (edges, keys) in enumerate(zip(self._edges, self._keys, strict=True)):
            column = np.ascontiguousarray(live[:, j])
            found = edges.searchsorted(column)
            tied = np.flatnonzero(edges.searchsorted(column, "right") != found)
            if len(tied):
                if ties is None:
                    first = self.rows_seen * live.shape[1]
                    ties = _uniforms(self.seed, _OF_LIVE, first, live.size).reshape(live.shape)
                found[tied] = keys.searchsorted(found[tied] + ties[tied, j])
            slots[:, j] = found + j * len(self._urn)
        return slots

    def _begin_block(self) -> None:
        """Renew the learned bet, and lay out more of the capital."""
        self._recent = _MEMORY * self._recent + (self._counts - self._counts_before)
        self._counts_before = self._counts.copy()
        self._learn()
        block = self.rows_seen // _BLOCK
        stake = (_reserve(block) - _reserve(block + 1)) / len(self._log_wealth)
        self._log_wealth = np.logaddexp(self._log_wealth, np.log(stake))

    def _learn(self) -> None:
        """The bet that coming rows fall where recent ones did."""
        null = self._urn / self._urn.sum()
        weight = self._recent + len(null) * null
        share = weight / weight.sum(axis=1, keepdims=True)
        self._gains[-1] = (1.0 - _LEARNED) + _LEARNED * share / null

    def _bet(self, slots: NDArray[np.intp]) -> None:
        """Every stake times what each of these rows brings it, its expectation before it being 1.

        The gain g(B_t) over Σ_b g(b)·(a_b + c_b)/(n + 1 + t): the sum grows by g(B) at every row.
        """
        count = len(slots)
        gained = self._gains.reshape(len(self._gains), -1).take(slots, axis=1)
        urn = self._urn + self._counts
        expected = np.cumsum(gained, axis=1)
        expected -= gained
        expected += np.einsum("jmk,mk->jm", self._gains, urn)[:, None]
        balls = float(self._urn.sum()) + self.rows_seen + np.arange(count)
        gained /= expected
        gained *= balls[:, None]
        # Logarithms of products of eight, each between 1e-4 and 1e5 even for a million rows.
        products = np.multiply.reduceat(gained, np.arange(0, count, 8), axis=1)
        self._log_wealth = self._log_wealth + np.log(products).sum(axis=1)
        added = np.bincount(slots.ravel(), minlength=self._counts.size)
        self._counts += added.reshape(self._counts.shape)
        self.rows_seen += count

    def _compare(self) -> None:
        """Keep the largest evidence, and when it first reached the threshold."""
        self._peak = np.maximum(self._peak, self.log_evidence)
        self._alarm_row[(self._alarm_row < 0) & (self._peak >= self.threshold)] = self.rows_seen


_STATE = ("log_wealth", "counts", "counts_before", "recent", "peak", "alarm_row")


@dataclass(frozen=True, slots=True)
class MeanSequence:
    """Intervals for the mean of values in [0, 1] that all hold at once, whenever looked at.

    With probability ≥ 1 - alpha the mean lies in *every* interval of a stream, from its first value
    on: accuracy, an error rate, any share. The values have the same mean given those before them
    (independent, say); for yes and no that is all, and values in between make it wider than needed.

    Robbins' mixture (1970): ∫ q^s (1-q)^(n-s) dBeta(q) / p^s (1-p)^(n-s) is a martingale if p is
    the mean, and a supermartingale for values between 0 and 1, as its factors are convex in the
    value; it reaches 1/α with probability ≤ α, and the interval is where it has not. The mixture is
    over Jeffreys' prior, Beta(½, ½). An interval is 1.7 times as wide as one for a fixed n would be
    at n = 100, twice at 10 000, 2.3 times at a million.

    `alpha` : chance that any of the intervals misses, in (0, 1).

    Examples
    --------
    >>> low, high = MeanSequence(alpha=0.05).interval([100, 10_000], [90, 9_000])
    >>> low.round(3), high.round(3)
    (array([0.772, 0.888]), array([0.971, 0.911]))
    """

    alpha: float = 0.05

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def interval(
        self, n: ArrayLike, total: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper ends, of the common shape of `n` and `total`.

        Parameters
        ----------
        n : how many values there were so far, from one fixed start: a window that slides is a new
            stream at every position, and its alpha a share of the whole.
        total : their sum; of yes and no the number of yes.

        Raises
        ------
        DataError : not 0 ≤ total ≤ n.
        """
        count, hits = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(total, np.float64))
        if not ((hits >= 0) & (hits <= count) & np.isfinite(count)).all():
            raise DataError(
                f"`n` is {n} and `total` {total}; a sum of values in [0, 1] is from 0 to n"
            )
        mean = np.divide(hits, count, out=np.full(count.shape, 0.5), where=count > 0)
        mixture = betaln(hits + 0.5, count - hits + 0.5) - betaln(0.5, 0.5)
        bound = mixture + np.log(self.alpha)  # the least ln p^s (1-p)^(n-s) of an end inside

        def outside(p: NDArray[np.float64]) -> NDArray[np.bool_]:
            return xlogy(hits, p) + xlog1py(count - hits, -p) <= bound

        return _last_outside(outside, mean, 0.0), _last_outside(outside, mean, 1.0)


def _last_outside(outside: Any, inside: NDArray[np.float64], end: float) -> NDArray[np.float64]:
    """Towards `end` from a point inside, the nearest point that is outside; `end` if there is none.

    Bisection: what is outside stays so beyond.
    """
    out = np.full(inside.shape, end)
    for _ in range(60):
        middle = (inside + out) / 2
        beyond = outside(middle)
        inside, out = np.where(beyond, inside, middle), np.where(beyond, middle, out)
    return out


def _reserve(blocks: int) -> float:
    """Share of the capital not yet laid out after so many blocks."""
    return 1.0 / (1.0 + float(np.log1p(blocks)))


def _ranks(n: int, bins: int) -> NDArray[np.int64]:
    """Where to cut the n + 1 gaps between n order statistics into bins, (bins + 1,).

    The first and the last gap are bins of their own where there are enough: what lies beyond all
    training rows is rare, and tells much.
    """
    inner = bins - 2
    if 2 <= inner < n:
        return np.concatenate([[0], 1 + np.arange(inner + 1) * (n - 1) // inner, [n + 1]])
    return np.arange(bins + 1) * (n + 1) // bins


def _bets(urn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Gains by bin (bets, K): exponential tilts of location and spread, and values beyond."""
    share = urn / urn.sum()
    location = _standardised(ndtri(np.cumsum(share) - share / 2), share)
    spread = _standardised(np.square(location), share)
    strengths = [sign * shift for shift in _SHIFTS for sign in (1, -1)]
    tilts = np.exp([b * location for b in strengths] + [b * spread for b in _SPREADS])
    beyond = np.full(len(urn), 1.0 - 2 * _BEYOND)
    beyond[[0, -1]] += _BEYOND / share[[0, -1]]
    return np.vstack([tilts, beyond])


def _standardised(scores: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = scores - share @ scores
    sd = float(np.sqrt(share @ np.square(centred)))
    return centred / sd if sd > 1e-9 else np.zeros(len(scores))


def _run_starts(edges: Rows) -> NDArray[np.intp]:
    """For every edge the first one of its feature that is equal to it: (m, K - 1)."""
    starts = [row.searchsorted(row) for row in edges]
    return np.array(starts, np.intp).reshape(edges.shape)


def _uniforms(seed: int, stream: int, first: int, count: int) -> NDArray[np.float64]:
    """Random numbers in [0, 1) number `first` to `first + count` of a stream."""
    block, skip = divmod(first, 4)  # Philox makes four words a count
    key = np.array([seed, stream], np.uint64)
    words = np.random.Philox(key=key, counter=block).random_raw(skip + count)[skip:]
    return np.ldexp((words >> np.uint64(11)).astype(np.float64), -53)


def _check_settings(seed: int, alpha: float, bins: int) -> None:
    _check_alpha(alpha)
    if bins < 2:
        raise SettingsError(f"`bins` is {bins}; it must be at least 2")
    if not 0 <= seed < 2**64:
        raise SettingsError(f"`seed` is {seed}; it must be from 0 to 2⁶⁴ - 1")


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise SettingsError(
            f"`alpha` is {alpha}; it is the chance of ever being wrong, between 0 and 1: 0.05"
        )
