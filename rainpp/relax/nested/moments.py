"""Expected averages of uncertain members, where all their results would be too many.

Parts of a segment are independent; under alternative a, of probability pₐ, part b adds nₐ values of
sum sₐ. With f_b(t) = Σₐ pₐ t^nₐ and h_b(t) = Σₐ pₐ sₐ t^(nₐ - 1), as 1/N = ∫₀¹ t^(N-1) dt,

    E[S/N ; N > 0] = ∫₀¹ Σ_b h_b(t) Π_{c≠b} f_c(t) dt ,    P(N > 0) = 1 - Π_b f_b(0) .

See `extremes` for the greatest and least value.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.arrays import Index, run_lengths, run_starts
from rainpp.relax.nested.gates import Flags
from rainpp.relax.rowsums import Gradient, segment_sums

Array = NDArray[np.float64]
_NODES = 32
_CHUNK = 1 << 13
_SHORT = 16
_points, _point_weights = np.polynomial.legendre.leggauss(_NODES)


class Pushes(Protocol):
    """What slopes along alternatives are handed to."""

    def push(self, ids: Index, adjoint: Array, gradient: Gradient) -> None:
        """Add Σᵢ adjoint[i] · ∂probability(ids)[i]/∂P to `gradient`."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Alternatives:
    """Exclusive, exhaustive events of independent parts of segments.

    Alternative i has event `ids[i]`, probability `chance[i]` and belongs to `part[i]`, ascending
    from 0; part b belongs to `segment[b]` < `count`, ascending.
    """

    ids: Index
    chance: Array
    part: Index
    segment: Index
    count: int

    def by_part(self, values: Array) -> Array:
        """Sums of rows of `values` over the alternatives of every part."""
        return np.add.reduceat(values, run_starts(self.part), axis=0)

    def by_segment(self, values: Array) -> Array:
        """(count, ...) sums of parts' rows over every segment."""
        return segment_sums(values, np.searchsorted(self.segment, np.arange(self.count + 1)))


@dataclass(frozen=True, eq=False, slots=True)
class Moment:
    """(count,) conditional expectations, NaN where nothing can be; slopes along alternatives."""

    value: Array
    alternatives: Alternatives
    slopes: Array
    algebra: Pushes

    def push(self, adjoint: Array, gradient: Gradient) -> None:
        """Add Σ_g adjoint[g] · ∂value[g]/∂P to `gradient`; segments without a value add nothing."""
        owner = self.alternatives.segment[self.alternatives.part]
        scale = np.where(np.isnan(self.value), 0.0, adjoint)[owner]
        self.algebra.push(self.alternatives.ids, scale * self.slopes, gradient)


@dataclass(eq=False, slots=True)
class AverageParts:
    """E[S/N | N > 0] per segment; alternative i adds `number[i]` values of sum `total[i]`."""

    parts: Alternatives
    number: Array
    total: Array
    value: Array = field(init=False)
    slopes: Array = field(init=False)

    def __post_init__(self) -> None:
        parts = self.parts
        self.value = np.zeros(parts.count)
        self.slopes = np.zeros(len(parts.ids))
        for low, high in self._intervals():
            self._integrate(low, high)
        self.value, self.slopes = conditioned(parts, self.number == 0, self.value, self.slopes)

    def _intervals(self) -> list[tuple[Array, Array]]:
        """Pieces of [0, 1] per segment on which the integrand is smooth.

        It decays like exp(-E[N] (1 - t)) where parts add at most one value; otherwise pieces halve
        towards 1 until t^n is smooth for the largest n.
        """
        parts = self.parts
        if self.number.max(initial=0.0) <= 1.0:
            mean = parts.by_segment(parts.by_part(parts.chance * self.number))
            low = np.where(mean > 1.0, np.maximum(0.0, 1.0 - 40.0 / np.maximum(mean - 1.0, 1)), 0.0)
            return [(low, np.ones(parts.count))]
        largest = np.maximum.reduceat(self.number, run_starts(parts.part))
        most = parts.by_segment(largest).max()
        pieces = int(np.ceil(np.log2(max(2.0, most))))
        cuts = np.r_[1.0 - 0.5 ** np.arange(pieces), 1.0]
        ones = np.ones(parts.count)
        return [(a * ones, b * ones) for a, b in itertools.pairwise(cuts)]

    def _integrate(self, low: Array, high: Array) -> None:
        """Add the integral over one piece, and its slopes."""
        parts = self.parts
        t = low[:, None] + (high - low)[:, None] * (_points + 1.0) / 2.0
        logs, inner = np.zeros_like(t), np.zeros_like(t)
        for chunk in self._chunks(t):
            segment = parts.segment[chunk.parts]
            starts = run_starts(segment)
            logs[segment[starts]] += np.add.reduceat(np.log(chunk.f), starts)
            inner[segment[starts]] += np.add.reduceat(chunk.ratio, starts)
        product = np.exp(logs) * (high - low)[:, None] * _point_weights / 2.0
        self.value += (product * inner).sum(axis=1)
        for chunk in self._chunks(t):
            owner = parts.segment[parts.part[chunk.rows]]
            local = parts.part[chunk.rows] - chunk.parts.start
            moved = chunk.power * (inner[owner] - chunk.ratio[local]) + chunk.gain
            self.slopes[chunk.rows] += (product[owner] / chunk.f[local] * moved).sum(axis=1)

    def _chunks(self, t: Array) -> Iterator[_Chunk]:
        """Some parts at a time, which keeps (rows, nodes) arrays in cache."""
        parts = self.parts
        starts = np.r_[run_starts(parts.part), len(parts.part)]
        begin = 0
        while begin < len(starts) - 1:
            end = int(np.searchsorted(starts, starts[begin] + _CHUNK, side="right")) - 1
            end = min(max(end, begin + 1), len(starts) - 1)
            rows = slice(int(starts[begin]), int(starts[end]))
            local = starts[begin:end] - starts[begin]
            yield self._chunk(t, rows, slice(begin, end), local)
            begin = end

    def _chunk(self, t: Array, rows: slice, parts: slice, local: Index) -> _Chunk:
        here = t[self.parts.segment[self.parts.part[rows]]]
        number, total = self.number[rows, None], self.total[rows, None]
        if number.max() <= 1.0:
            power, gain = 1.0 - number * (1.0 - here), np.broadcast_to(number * total, here.shape)
        else:
            power = here**number
            gain = np.where(number > 0, total * here ** np.maximum(number - 1.0, 0.0), 0.0)
        chance = self.parts.chance[rows, None]
        f = _row_sums(chance * power, local)
        return _Chunk(rows, parts, f, _row_sums(chance * gain, local) / f, power, gain)


@dataclass(frozen=True, eq=False, slots=True)
class _Chunk:
    """Rows and parts, with f and h / f (parts, nodes), t^n and s t^(n - 1) (rows, nodes)."""

    rows: slice
    parts: slice
    f: Array
    ratio: Array
    power: Array
    gain: Array


def _row_sums(values: Array, starts: Index) -> Array:
    """Sums of rows from each start to the next; `reduceat` is slow where these are few rows each.

    Adding the second rows of all, then the third ones, took a fifth of its time for pairs.
    """
    lengths = run_lengths(starts, len(values))
    if lengths.max() > _SHORT:
        return np.add.reduceat(values, starts, axis=0)
    out = values[starts]
    for place in range(1, int(lengths.max())):
        longer = lengths > place
        out[longer] += values[starts[longer] + place]
    return out


def conditioned(
    parts: Alternatives, absent: Flags, value: Array, slopes: Array
) -> tuple[Array, Array]:
    """Value and slopes given that something is there; NaN and zero where nothing can be."""
    present, slope = _presence(parts, absent)
    owner = parts.segment[parts.part]
    divisor = np.where(present > 0, present, 1.0)
    mean = value / divisor
    moved = np.where(present[owner] > 0, (slopes - mean[owner] * slope) / divisor[owner], 0.0)
    return np.where(present > 0, mean, np.nan), moved


def _presence(parts: Alternatives, absent: Flags) -> tuple[Array, Array]:
    """(count,) probability that some part is not absent, and its slope along alternatives."""
    none = parts.by_part(np.where(absent, parts.chance, 0.0))
    zero = none <= 0.0
    logs = np.log(np.where(zero, 1.0, none))
    total, zeros = parts.by_segment(logs), parts.by_segment(zero.astype(float))
    present = np.where(zeros > 0, 1.0, -np.expm1(np.minimum(total, 0.0)))
    others = np.where(zeros[parts.segment] - zero > 0, 0.0, np.exp(total[parts.segment] - logs))
    return present, np.where(absent, -others[parts.part], 0.0)
