"""How many rows before a row are there, when rows fall into independent parts of alternatives.

At most one row of a part is there. Before row i a part is there with the probability of its rows
before i; the parts are joined in a balanced tree, in which a node has one version for each of its
rows, so that all rows are followed at once: 2 log₂(parts) rounds of truncated convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.arrays import Index, numbered, run_lengths, run_starts

Array = NDArray[np.float64]

# log 1e-40
_NEGLIGIBLE = -92.0


@dataclass(eq=False, slots=True)
class Window:
    """Row i is there, and of the other parts' rows before it as many as `wanted` weighs.

    Rows are in order; `part` numbers their parts from 0. The weight of a number c of rows before is
    `always` + wanted[c], and `always` alone beyond the end. Slots are the rows, then for every part
    the rest of its probability.
    """

    part: Index
    wanted: Array
    always: float
    _inputs: Array = field(init=False)
    _counts: _Before = field(init=False)
    _weights: Array = field(init=False)

    def forward(self, inputs: Array) -> Array:
        """Probabilities of all slots from those of the rows."""
        self._inputs, kept = inputs, self._kept(inputs)
        self._counts = _Before(numbered(self.part[:kept])[2], len(self.wanted))
        self._weights = np.full(len(inputs), self.always)
        self._weights[:kept] += self.wanted @ self._counts.forward(inputs[:kept])
        there = inputs * self._weights
        rest = 1.0 - np.bincount(self.part, there)
        return np.concatenate([there, np.maximum(rest, 0.0)])

    def _kept(self, inputs: Array) -> int:
        """Behind how many rows fewer than len(wanted) others come with a chance below 1e-40.

        By Chernoff's bound P(N <= k) <= exp(-m) (e m / k)^k for a mean m > k; the part of the row
        itself counts for at most one.
        """
        mean, most = np.cumsum(inputs) - inputs - 1.0, len(self.wanted) - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = -mean + (most * (1.0 + np.log(mean / most)) if most else 0.0)
        late = (mean > most) & (bound < _NEGLIGIBLE)
        return int(late.argmax()) if late.any() else len(inputs)

    def backward(self, slopes: Array) -> Array:
        """Slopes along the rows last seen."""
        n = len(self._inputs)
        along = slopes[:n] - slopes[n:][self.part]
        out = along * self._weights
        kept = len(self._counts.part)
        above = self.wanted[:, None] * (along * self._inputs)[:kept]
        out[:kept] += self._counts.backward(above)
        return out


@dataclass(eq=False, slots=True)
class _Before:
    """For every row how many rows of other parts are there before it: chances of 0 .. size - 1."""

    part: Index
    size: int
    _before: list[Index] = field(init=False, default_factory=lambda: list[Index]())
    _order: Index = field(init=False)
    _inside: list[Array] = field(init=False, default_factory=lambda: list[Array]())
    _outside: list[Array] = field(init=False, default_factory=lambda: list[Array]())

    def __post_init__(self) -> None:
        self._order = np.argsort(self.part, kind="stable")
        for level in range(int(self.part.max(initial=0)).bit_length()):
            self._before.append(_last_of_sibling(self.part >> level))

    def forward(self, inputs: Array) -> Array:
        """(size, n) chances from those of the rows."""
        inside = np.zeros((self.size, len(inputs) + 1))
        so_far = self._sums(inputs)
        inside[0, :-1], inside[0, -1] = 1.0 - so_far, 1.0
        inside[1:2, :-1] = so_far
        self._inside = [inside]
        for before in self._before[:-1]:
            joined = np.zeros_like(inside)
            joined[:, :-1], joined[0, -1] = _product(inside[:, :-1], inside[:, before]), 1.0
            self._inside.append(joined)
            inside = joined
        outside = np.zeros((self.size, len(inputs)))
        outside[0] = 1.0
        self._outside = [outside]
        for inside, before in zip(self._inside[::-1], self._before[::-1], strict=False):
            outside = _product(outside, inside[:, before])
            self._outside.append(outside)
        return outside

    def _sums(self, inputs: Array) -> Array:
        """Of every row and those of its part before it."""
        running = np.cumsum(inputs[self._order])
        starts = run_starts(self.part[self._order])
        offset = np.r_[0.0, running][starts]
        out = np.empty(len(inputs))
        lengths = run_lengths(starts, len(inputs))
        out[self._order] = running - np.repeat(offset, lengths)
        return np.clip(out, 0.0, 1.0)

    def backward(self, above: Array) -> Array:
        """Slopes along the rows last seen, from those along the chances."""
        inner = [np.zeros_like(inside) for inside in self._inside]
        for level, before in enumerate(self._before):
            inside, outside = self._inside[level][:, before], self._outside[-2 - level]
            _scatter(inner[level], before, _correlation(above, outside))
            above = _correlation(above, inside)
        for level in range(len(self._before) - 1, 0, -1):
            before, below = self._before[level - 1], self._inside[level - 1]
            given = inner[level][:, :-1]
            inner[level - 1][:, :-1] += _correlation(given, below[:, before])
            _scatter(inner[level - 1], before, _correlation(given, below[:, :-1]))
        return self._later(inner[0][1:2, :-1].sum(axis=0) - inner[0][0, :-1])

    def _later(self, slopes: Array) -> Array:
        """Of every row and those of its part after it."""
        ordered = slopes[self._order]
        running = np.cumsum(ordered[::-1])[::-1]
        starts = run_starts(self.part[self._order])
        lengths = run_lengths(starts, len(slopes))
        offset = np.r_[running, 0.0][starts + lengths]
        out = np.empty(len(slopes))
        out[self._order] = running - np.repeat(offset, lengths)
        return out


def _last_of_sibling(node: Index) -> Index:
    """For every row the last one before it whose node is the sibling of its own; -1 for none."""
    order = np.argsort(node >> 1, kind="stable")
    ordered = node[order]
    starts = run_starts(ordered >> 1)
    begin = np.repeat(starts, run_lengths(starts, len(order)))
    place = np.arange(len(order))
    last = [np.maximum.accumulate(np.where(ordered & 1 == side, place, -1)) for side in (0, 1)]
    other = np.where(ordered & 1 == 0, last[1], last[0])
    out = np.empty(len(order), np.int64)
    out[order] = np.where(other >= begin, order[other], -1)
    return out


def _product(left: Array, right: Array) -> Array:
    """Columns convolved, cut off at their length."""
    out = np.zeros_like(left)
    for shift in range(len(left)):
        out[shift:] += left[: len(left) - shift] * right[shift]
    return out


def _correlation(above: Array, other: Array) -> Array:
    """Slopes along one factor of `_product`."""
    out = np.zeros_like(above)
    for shift in range(len(above)):
        out[: len(above) - shift] += above[shift:] * other[shift]
    return out


def _scatter(into: Array, at: Index, amounts: Array) -> None:
    """Add columns at places that may repeat."""
    for row, amount in zip(into, amounts, strict=True):
        row += np.bincount(at % into.shape[1], amount, into.shape[1])
