"""Online adversarial validation: a classifier that learns to tell live rows from training rows.

As long as it cannot, the two look alike; where it can, its weights name the features that moved
(Shankar and Parameswaran 2021, §3.3.3). They fine-tune F(d) on one row from either side at a time;
here every live row is paired with a training row, which is the same half and half with less noise,
and every row is scored before F learns from it, so the loss and the AUC are honest in one pass.

    adversary = Adversary.start(training_rows, names, seed=0)
    losses = adversary.update(batch)      # of each live row, before F has seen it
    pane = adversary.take()               # Tally since the last take: pane.auc, pane.log_loss
    window = window + pane - expired      # tallies add up and leave again, exactly
    adversary.suspects()[0]               # Suspect(name='fare', weight=1.3, change='larger')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rainpp.errors import ArtifactError, SettingsError
from rainpp.stream.rows import Rows, as_rows, check_names, like

# Standardised inputs beyond this many standard deviations count as this many: no row rules alone.
_CLIP = 4.0
# Live rows learned from at once, and the step. On 50 features of which one moves by half a standard
# deviation, the AUC of the first 1000 rows is 0.57, later 0.61 (retrained: 0.62). A step of 0.05
# gives 0.55 and then 0.61; 0.8 gives 0.58 and then 0.60, noise of the weights drowns the rest.
_STEP_ROWS = 50
_RATE = 0.2
# Rows turned into inputs at once, in whole steps: 1.9 µs a row, and 2.8 for 10 000 in one piece.
_CACHED = 20 * _STEP_ROWS
# Added to the curvature, of standardised inputs: a direction without any variance among the
# training rows is worth no more than one with a tenth of the usual.
_DAMPING = 0.1
# Pull of the weights to zero, so that they forget a shift that is over.
_L2 = 0.01
# Weights that name suspects are averaged over about 1/_SLOW steps: 1000 live rows.
_SLOW = 0.05
_LOGIT = 30.0
_BINS = 128
# Losses are summed in units of 2⁻²⁴ nats as whole numbers, so that what was added can be taken out.
_UNIT = 2.0**24
_CHANGES = (("larger", "smaller"), ("more extreme", "less extreme"), ("missing", "present"))


@dataclass(frozen=True, eq=False)
class Tally:
    """How well live rows were told apart over some rows; tallies add and subtract exactly.

    `sums (258,)` int64: pairs of a live and a training row; their losses in 2⁻²⁴ nats; histograms
    of the score, the probability of being live, of live rows and of training rows.
    """

    sums: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Tally:
        """Of no row: where a window starts."""
        return cls(np.zeros(2 + 2 * _BINS, np.int64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.sums + other.sums)

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.sums - other.sums)

    @property
    def rows(self) -> int:
        """Live rows."""
        return int(self.sums[0])

    @property
    def log_loss(self) -> float:
        """Mean loss in nats over live and training rows; NaN over none.

        About ln 2 = 0.693 where nothing can be told apart, plus what the weights' noise costs: for
        50 features 0.706. It falls as the live rows move away.
        """
        return float(self.sums[1]) / _UNIT / (2 * self.rows) if self.rows else float("nan")

    @property
    def auc(self) -> float:
        """Chance that a live row scores above a training row, ties half; NaN over none.

        From histograms of the score: rows in one of the 128 bins count as ties.
        """
        live, train = self.sums[2:].reshape(2, _BINS)
        below = np.cumsum(train) - train / 2
        return float(live @ below) / self.rows**2 if self.rows else float("nan")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A feature by which live rows are told apart.

    `weight` is per standard deviation of the training rows, ≥ 0; `change` says how live values
    differ: larger, smaller, more extreme, less extreme, missing, present (more rarely missing).
    """

    name: str
    weight: float
    change: str


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Rows to what F is linear in: per feature z, z² and whether it is missing; and a constant."""

    mean: NDArray[np.float64]  # (m,) of the training rows, as is
    sd: NDArray[np.float64]
    centre: NDArray[np.float64]  # (2m,) of z² and of the missing, as is
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows) -> _Inputs:
        mean, sd = _mean_and_sd(rows)
        more = _squares_and_gaps(rows, mean, sd)
        # An indicator that never varied, or nearly: a tenth is as far as one row in a hundred.
        return cls(mean, sd, more.mean(axis=0), np.maximum(more.std(axis=0), 0.1))

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        """(b, m) to (b, 3m + 1), standardised and clipped."""
        count, m = rows.shape
        inputs = np.ones((count, 3 * m + 1), np.float32)
        more = _squares_and_gaps(rows, self.mean, self.sd)
        inputs[:, :m] = _standard(rows, self.mean, self.sd)
        inputs[:, m:-1] = ((more - self.centre) / self.scale).clip(-_CLIP, _CLIP)
        return inputs


class Adversary:
    """A logistic classifier F of live against training rows, trained in one pass.

    Linear in the standardised features, their squares and their gaps (NaN), so it sees shifts of
    the mean, of the spread and of missing values; not of a dependence between features alone. The
    gradient is preconditioned by the training rows' covariance, the curvature while nothing has
    moved: correlated features are learned as fast as others.

    What it learns depends on the seed, the rows and how they are cut into batches, and on nothing
    else: training rows are drawn by a generator that counts live rows.
    """

    def __init__(
        self, names: Sequence[str], seed: int, reference: Rows, metric: NDArray[np.float32]
    ) -> None:
        self.names = tuple(names)
        self.rows_seen = 0
        self._seed, self._reference, self._metric = seed, reference, metric
        self._inputs = _Inputs.of(reference)
        self._train = self._inputs(reference)
        self._weights = np.zeros(len(metric), np.float32)
        self._slow = np.zeros(len(metric), np.float32)
        self._tally = Tally.empty()

    @classmethod
    def start(cls, reference_rows: ArrayLike, names: Sequence[str], *, seed: int) -> Adversary:
        """An adversary that has seen no live row.

        Parameters
        ----------
        reference_rows : (n, m) training rows or a sample of them, numbers, NaN where missing. They
            are kept, with (n, 3m + 1) float32 of inputs. A sample that favours rows (by their loss,
            say) makes F see a shift that is none, and so does a small one, whose own mean is off:
            with 10 000 rows of 50 features the AUC is 0.51 while nothing has moved.
        names : of the m features.
        seed : chooses the training rows that live rows are paired with.

        Raises
        ------
        SettingsError : a negative seed, or names that are not m different ones.
        DataError : no row, no feature, or not numbers.
        """
        rows = as_rows(reference_rows, argument="reference_rows")
        check_names(names, rows.shape[1])
        if seed < 0:
            raise SettingsError(f"`seed` is {seed}; it must be 0 or more")
        return cls(names, seed, rows, _metric(_Inputs.of(rows)(rows)))

    def update(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Score live rows, then learn from them: the loss of each in nats, (b,).

        The loss is -ln F(row) of the classifier as it was before it saw the row, or one of the up
        to 49 rows before it: it learns from 50 at once. Low means unlike the training rows.

        Raises
        ------
        DataError : no row, not numbers, or not m columns.

        Cost: 2 to 3 µs a row at 1000 rows of 50 features.
        """
        live = as_rows(rows, argument="rows", width=len(self.names))
        parts = [live[start : start + _CACHED] for start in range(0, len(live), _CACHED)]
        return np.concatenate([self._update(self._inputs(part)) for part in parts])

    def take(self) -> Tally:
        """The tally of all rows since the last call: a pane."""
        taken, self._tally = self._tally, Tally.empty()
        return taken

    def suspects(self) -> list[Suspect]:
        """All features, those by which live rows are told apart most first.

        Weights are averaged over about the last 1000 live rows. While the AUC is near ½ they are
        noise: about 0.1 each.
        """
        by_feature = self._slow[:-1].reshape(3, -1)
        found = [
            Suspect(name, float(np.linalg.norm(weights)), _change(weights))
            for name, weights in zip(self.names, by_feature.T, strict=True)
        ]
        return sorted(found, key=lambda suspect: -suspect.weight)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All it knows, as plain arrays: `from_arrays` goes on bit for bit where this one was."""
        return {
            "names": np.array(self.names),
            "seed": np.array(str(self._seed)),
            "rows_seen": np.array(self.rows_seen),
            "reference": self._reference,
            "metric": self._metric,
            "weights": self._weights.copy(),
            "slow": self._slow.copy(),
            "sums": self._tally.sums.copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Adversary:
        """The adversary that `to_arrays` wrote.

        Raises
        ------
        ArtifactError : an array is missing, or they do not fit together.
        """
        try:
            names, seed = arrays["names"].tolist(), int(arrays["seed"].item())
            found = cls(names, seed, arrays["reference"], arrays["metric"])
            found.rows_seen = int(arrays["rows_seen"])
            found._weights = like(found._weights, arrays["weights"])
            found._slow = like(found._slow, arrays["slow"])
            found._tally = Tally(like(found._tally.sums, arrays["sums"]))
            if (
                found._train.shape != (len(arrays["reference"]), 3 * len(names) + 1)
                or len(found._metric) != 3 * len(names) + 1
            ):
                raise ValueError("names, rows and weights are of different features")
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as problem:
            raise ArtifactError(
                f"these arrays are no adversary ({problem}); start again from the training rows"
            ) from problem
        return found

    def _update(self, live: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score, then learn from so many inputs of live rows as fit into the cache."""
        train = self._train[self._partners(len(live))]
        logits = np.empty((2, len(live)), np.float32)
        for start in range(0, len(live), _STEP_ROWS):
            step = slice(start, start + _STEP_ROWS)
            logits[0, step] = live[step] @ self._weights
            logits[1, step] = train[step] @ self._weights
            self._learn(live[step], train[step], logits[:, step])
        self.rows_seen += len(live)
        return self._record(logits.clip(-_LOGIT, _LOGIT).astype(np.float64))

    def _partners(self, count: int) -> NDArray[np.intp]:
        """The training rows that the next live rows are paired with."""
        block, skip = divmod(self.rows_seen, 4)  # Philox makes four words a count
        generator = np.random.Philox(key=self._seed, counter=block)
        words = generator.random_raw(skip + count)[skip:]
        return (words % np.uint64(len(self._train))).astype(np.intp)

    def _learn(
        self, live: NDArray[np.float32], train: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> None:
        """One step down the mean loss of these pairs, shorter where they are few."""
        share = len(live) / _STEP_ROWS
        chances = 0.5 + 0.5 * np.tanh(0.5 * logits)
        slope = (chances[1] @ train - (1 - chances[0]) @ live) / (2 * len(live))
        self._weights -= np.float32(_RATE * share) * (self._metric @ (slope + _L2 * self._weights))
        self._slow += np.float32(_SLOW * share) * (self._weights - self._slow)

    def _record(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add the scored pairs to the tally; the losses of the live rows."""
        losses = np.logaddexp(0.0, [-logits[0], logits[1]])
        bins = ((0.5 + 0.5 * np.tanh(0.5 * logits)) * _BINS).astype(np.intp).clip(0, _BINS - 1)
        bins[1] += _BINS
        histograms = np.bincount(bins.ravel(), minlength=2 * _BINS)
        self._tally.sums[0] += logits.shape[1]
        self._tally.sums[1] += round(float(losses.sum()) * _UNIT)
        self._tally.sums[2:] += histograms
        return losses[0]


def _metric(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse of the damped second moments of the inputs, which are 4 times the curvature at 0."""
    moments = inputs.T.astype(np.float64) @ inputs / len(inputs)
    return np.linalg.inv(moments + _DAMPING * np.eye(len(moments))).astype(np.float32)


def _mean_and_sd(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each column's finite values, those beyond the outermost half percent pulled in."""
    means, sds = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    for j, column in enumerate(rows.T):
        values = column[np.isfinite(column)].astype(np.float64)
        if len(values):
            size = max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
            scaled = values / size  # whose squares do not overflow
            inner = scaled.clip(*np.quantile(scaled, [0.005, 0.995]))
            means[j] = inner.mean() * size
            sds[j] = (inner.std() or scaled.std()) * size or 1.0
    return means, sds


def _standard(
    rows: Rows, mean: NDArray[np.float64], sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """z of every value, clipped, 0 where missing."""
    with np.errstate(over="ignore"):  # infinite is far, and clipped
        return np.nan_to_num(((rows - mean) / sd).clip(-_CLIP, _CLIP), copy=False, nan=0.0)


def _squares_and_gaps(
    rows: Rows, mean: NDArray[np.float64], sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(b, 2m): z², and 1 where the value is missing."""
    return np.concatenate([np.square(_standard(rows, mean, sd)), np.isnan(rows)], axis=1)


def _change(weights: NDArray[np.float32]) -> str:
    strongest = int(np.abs(weights).argmax())
    return _CHANGES[strongest][int(weights[strongest] < 0)]
