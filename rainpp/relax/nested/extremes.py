"""Expected greatest values of uncertain members, where all their results would be too many.

Parts of a segment are independent, so its greatest value is at most v with probability Π_b F_b(v),
where F_b(v) sums the alternatives of part b that have no value above v.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.arrays import Index, run_lengths, run_starts
from rainpp.relax.nested.gates import Flags
from rainpp.relax.nested.moments import Alternatives, conditioned

Array = NDArray[np.float64]


@dataclass(eq=False, slots=True)
class GreatestParts:
    """E[greatest value | there is one] per segment; alternative i has `greatest[i]`, NaN for none.

    Alternatives are counted from the least value on, absent ones first. With G_j = Π_b F_b once j
    is counted and values v, zero for absent ones,

        E[greatest] = v_last - Σ_j (v_(j+1) - v_j) G_j .

    The slope along an alternative of part b is -Σ (v_(j+1) - v_j) G_j / F_b over the j from itself
    on; where F_b is zero, G_j / F_b is the product of the other factors.
    """

    parts: Alternatives
    greatest: Array
    value: Array = field(init=False)
    slopes: Array = field(init=False)

    def __post_init__(self) -> None:
        parts, absent = self.parts, np.isnan(self.greatest)
        self.value, self.slopes = np.zeros(parts.count), np.zeros(len(parts.ids))
        if len(parts.ids):
            self._sum(absent)
        self.value, self.slopes = conditioned(parts, absent, self.value, self.slopes)

    def _sum(self, absent: Flags) -> None:
        owner = self.parts.segment[self.parts.part]
        order = np.lexsort((np.where(absent, -np.inf, self.greatest), owner))
        owner = owner[order]
        starts = run_starts(owner)
        lengths = run_lengths(starts, len(owner))
        last = starts + lengths - 1
        value = np.where(absent, 0.0, self.greatest)[order]
        step = np.diff(value, append=0.0)
        step[last] = 0.0
        mine = np.argsort(self.parts.part[order], kind="stable")
        part = self.parts.part[order][mine]
        factor = _running_sums(self.parts.chance[order][mine], part)
        logs, zeros = self._products(mine, part, factor, owner)
        terms = [np.where(zeros == z, step * np.exp(logs), 0.0) for z in (0, 1)]
        self.value[owner[starts]] = value[last] - np.add.reduceat(terms[0], starts)
        end = np.repeat(last, lengths)[mine]
        self.slopes[order[mine]] = -_later(terms, mine, part, factor, end)

    def _products(
        self, mine: Index, part: Index, factor: Array, owner: Index
    ) -> tuple[Array, Index]:
        """Log of the product of non-zero F_b once j is counted, and how many are zero."""
        before = np.r_[0.0, factor[:-1]]
        before[run_starts(part)] = 0.0
        logs = np.log(np.where(factor > 0, factor, 1.0)) - np.log(np.where(before > 0, before, 1.0))
        moved, risen = np.empty(len(mine)), np.zeros(len(mine), np.int64)
        moved[mine] = logs
        risen[mine] = (factor > 0) & (before <= 0)
        # From the end, where the product is one: errors stay small where it is not tiny.
        later = np.r_[np.cumsum(moved[::-1])[::-1][1:], 0.0]
        fallen = np.r_[np.cumsum(risen[::-1])[::-1][1:], 0]
        last = np.cumsum(np.diff(owner, prepend=-1) != 0) - 1
        ends = np.r_[run_starts(owner)[1:], len(owner)] - 1
        return later[ends[last]] - later, fallen - fallen[ends[last]]


def _running_sums(values: Array, part: Index) -> Array:
    """Sums of the values of a part up to each one; parts are contiguous."""
    starts = run_starts(part)
    lengths = run_lengths(starts, len(part))
    out = values.copy()
    for place in range(1, int(lengths.max(initial=0))):
        at = starts[lengths > place] + place
        out[at] += out[at - 1]
    return out


def _later(terms: list[Array], mine: Index, part: Index, factor: Array, end: Index) -> Array:
    """Σ terms / F_b from every alternative (positions `mine`, by part) to the end of its segment.

    F_b changes only at the alternatives of b, so the sum is one of differences of running sums.
    """
    totals = [np.r_[0.0, np.cumsum(term)] for term in terms]
    until = np.r_[mine[1:], 0]
    final = np.r_[part[1:] != part[:-1], True]
    until[final] = end[final] + 1
    pieces = [total[until] - total[mine] for total in totals]
    zero = factor <= 0
    values = np.where(zero, pieces[1], pieces[0] / np.where(zero, 1.0, factor))
    return _running_sums(values[::-1], part[::-1])[::-1]
