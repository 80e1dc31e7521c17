"""Rows that stand for the whole training set, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainpp.types import FloatArray, IntArray

# Rows of every class that a half holds at least, if it has them: a class of 1 % would otherwise
# give 2 of 256.
LEAST_PER_CLASS = 16
_BINS = 10


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """Some of n rows, each with the number of rows it stands for.

    Attributes
    ----------
    rows : (m,) positions, ascending.
    weights : (m,), summing to n: the weighted sum over the sample of anything estimates without
        bias its sum over all rows.
    """

    rows: IntArray
    weights: FloatArray

    @property
    def size(self) -> int:
        """m."""
        return int(self.rows.size)

    def joined(self, other: Sample) -> Sample:
        """Both samples as one: each counts for its share of the rows drawn."""
        share = self.size / (self.size + other.size)
        rows = np.concatenate([self.rows, other.rows])
        weights = np.concatenate([share * self.weights, (1 - share) * other.weights])
        order = np.argsort(rows, kind="stable")
        return Sample(rows[order], weights[order])


class Strata:
    """Draws disjoint samples in which every class has its share, and small classes more.

    Parameters
    ----------
    labels : (n,) classes; of a regression (n, width), then ten bins of the first column.
    seed : decides every draw; a larger sample of one half contains the smaller ones.
    """

    def __init__(self, labels: np.ndarray, *, seed: int) -> None:
        generator = np.random.default_rng((seed, 0x5A3))
        self.num_rows = int(labels.shape[0])
        self._members = [
            generator.permutation(np.flatnonzero(stratum)) for stratum in _strata(labels)
        ]

    @property
    def largest_half(self) -> int:
        """Rows that two disjoint halves of the training set have each."""
        return sum(members.size // 2 for members in self._members)

    def half(self, size: int, which: int) -> Sample:
        """About `size` rows of one half of the training set; `which` is 0 or 1.

        A class of a single row is in both halves: nothing else stands for it.
        """
        rows: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for members in self._members:
            mine = members[which::2] if members.size > 1 else members
            wanted = max(round(size * members.size / self.num_rows), LEAST_PER_CLASS)
            chosen = mine[: min(wanted, mine.size)]
            rows.append(chosen)
            weights.append(np.full(chosen.size, members.size / chosen.size))
        together = np.concatenate(rows)
        order = np.argsort(together, kind="stable")
        return Sample(together[order], np.concatenate(weights)[order])

    def balanced(self, size: int) -> IntArray:
        """About `size` rows, as many of every class as there are of any, if it has them."""
        each = max(size // len(self._members), 1)
        return np.sort(np.concatenate([members[-each:] for members in self._members]))

    def everything(self) -> Sample:
        """All rows, each standing for itself."""
        return Sample(np.arange(self.num_rows), np.ones(self.num_rows))


def _strata(labels: np.ndarray) -> list[np.ndarray]:
    """Masks (n,) of rows that belong together; none is empty."""
    column = labels if labels.ndim == 1 else labels[:, 0]
    if labels.ndim == 1 and labels.dtype.kind in "iub":
        return [column == value for value in np.unique(column)]
    edges = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, column, side="right")
    return [bins == value for value in np.unique(bins)]
