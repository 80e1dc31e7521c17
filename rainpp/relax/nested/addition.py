"""Segments whose one aggregate is a sum of small integers: `counting` instead of tables of totals.

A count over n independent members has n + 1 results, and a table of them has n² / 2 entries;
as a convolution it takes as many steps but no formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainpp.relax.nested.algebra import Members
from rainpp.relax.nested.arrays import Index, numbered, run_lengths, run_starts, spans
from rainpp.relax.nested.counting import Counting, Terms
from rainpp.relax.nested.fold import States
from rainpp.relax.nested.gates import Flags
from rainpp.relax.nested.heads import Heads
from rainpp.relax.nested.support import Supports
from rainpp.relax.nested.tally import Tally, Values

MAX_WIDTH = 50_000
MAX_PRODUCTS = 10_000_000_000


@dataclass(frozen=True, eq=False, slots=True)
class Addition:
    """States of parts as terms of a sum; `least` and `step` turn an index into total `add`.

    Everything is per segment: those of `segments`, ascending, have numbers 0, 1, ... in `terms`.
    """

    terms: Terms
    segments: Index
    least: Index
    step: Index
    add: int

    @classmethod
    def of(cls, tally: Tally, parts: States, segment: Index) -> Addition | None:
        """The segments of which a sum is worth it; None if there is none."""
        places = tally.additive()
        if places is None or not len(parts.owner):
            return None
        flag, add = places
        used = parts.totals[flag] > 0
        level = np.where(used, 2, np.where(parts.totals[0] > 0, 1, 0))
        found = _Bounds.of(parts.owner, parts.totals[add], segment)
        worth = found.worth()
        if not worth.any():
            return None
        keep = np.flatnonzero(worth[found.number])
        number = (np.cumsum(worth) - 1)[found.number[keep]]
        part = np.cumsum(np.diff(parts.owner[keep], prepend=-1) != 0) - 1
        at = np.flatnonzero(worth)
        zero = _zero(number, part, level[keep], found.least[at], found.step[at])
        terms = Terms(
            number, part, found.index[keep], level[keep], parts.events[keep], found.width[at], zero
        )
        return cls(terms, found.segments[at], found.least[at], found.step[at], add)

    def outcomes(
        self, tally: Tally, counting: Counting, heads: Heads, supports: Supports, members: Members
    ) -> States:
        """Results of the segments, by segment, and their events."""
        owner, slots = reachable(self.terms)
        starts = run_starts(owner)
        sizes = run_lengths(starts, len(owner))
        hashes = self.terms.hashes()
        first, fresh = heads.known(hashes)
        if fresh.any():
            new = np.flatnonzero(fresh)
            made = counting.add(self.terms.take(new))
            classes = np.flatnonzero(fresh[owner])
            events = heads.classes(made, owner[classes], slots[classes])
            ends = np.cumsum(sizes[new])
            heads.remember(hashes[new], events[ends - sizes[new]] >> 1)
            behind = np.isin(members.segment, self.segments[new])
            supports.note(members.ids[behind], members.segment[behind])
            first, _ = heads.known(hashes)
        ids = 2 * (first[owner] + np.arange(len(owner)) - starts[owner])
        level = np.where(slots < self.terms.width[owner], 2, slots - self.terms.width[owner])
        total = np.where(level == 2, self.least[owner] + self.step[owner] * slots, 0)
        there, used = (level > 0).astype(np.int64), (level == 2).astype(np.int64)
        totals: list[Values] = [used] * len(tally.totals)
        totals[0], totals[self.add] = there, total
        return States(self.segments[owner], totals, ids)


@dataclass(frozen=True, eq=False, slots=True)
class _Bounds:
    """States' segments by number, indices above the least, and bounds of every segment's sum."""

    segments: Index
    number: Index
    index: Index
    least: Index
    step: Index
    width: Index
    wide: Flags

    @classmethod
    def of(cls, owner: Index, values: Index, segment: Index) -> _Bounds:
        """From the values of the states of ascending parts."""
        starts = run_starts(owner)
        lengths = run_lengths(starts, len(owner))
        least = np.minimum.reduceat(values, starts)
        above = values - np.repeat(least, lengths)
        whose = segment[owner[starts]]
        heads = run_starts(whose)
        number = np.repeat(np.cumsum(np.diff(whose, prepend=-1) != 0) - 1, lengths)
        step = np.maximum(np.gcd.reduceat(above, starts[heads]), 1)
        index = above // step[number]
        most = np.add.reduceat(np.maximum.reduceat(index, starts).astype(float), heads)
        fits = most < MAX_WIDTH
        open_ = np.add.reduceat((lengths > 1).astype(np.int64), heads)
        results = np.add.reduceat(np.log2(lengths), heads)
        wide = fits & (open_ > 1) & (most > 0) & (results + 2 >= np.log2(np.maximum(most, 1)))
        width = np.where(fits, most, 0).astype(np.int64) + 1
        return cls(whose[heads], number, index, np.add.reduceat(least, heads), step, width, wide)

    def worth(self) -> Flags:
        """Segments with fewer totals than joint states of their parts, if not too many."""
        if (self.width[self.wide].astype(float) ** 2).sum() > MAX_PRODUCTS:
            return np.zeros_like(self.wide)
        return self.wide


def _zero(head: Index, part: Index, level: Index, least: Index, step: Index) -> Index:
    """Index of the total to which nobody adds; -1 where some part always adds."""
    starts = run_starts(part)
    lowest = np.minimum.reduceat(level, starts)
    never = np.zeros(len(least), bool)
    never[head[starts[lowest == 2]]] = True
    return np.where(never, -1, -least // step)


def reachable(terms: Terms) -> tuple[Index, Index]:
    """Slots that some combination of states gives: their head, ascending, and slot."""
    count = len(terms.width)
    base = np.cumsum(terms.width + 2) - (terms.width + 2)
    found = np.zeros(int((terms.width + 2).sum()), bool)
    found[spans(base, terms.width)] = True
    starts = run_starts(terms.part)
    gaps, silent = _gaps(terms, starts), np.ones(count, bool)
    silent[terms.head[(terms.level == 2) & (terms.index == 0)]] = False
    found[base[(terms.zero == 0) & silent]] = False
    for head in np.flatnonzero(gaps | (terms.zero > 0)).tolist():
        bits = _reached(terms, head)
        found[base[head] : base[head] + terms.width[head]] = bits
    lower = [_possible(terms, starts, terms.level <= level, count) for level in (0, 1)]
    unused = np.zeros(count, bool)
    unused[terms.head[terms.level == 1]] = True
    found[base + terms.width] = lower[0]
    found[base + terms.width + 1] = lower[1] & unused
    hit = np.flatnonzero(found)
    owner = np.searchsorted(base, hit, side="right") - 1
    return owner, hit - base[owner]


def _gaps(terms: Terms, starts: Index) -> Flags:
    """Heads with a part that skips an index."""
    keys, _, _ = numbered((terms.part << 32) | terms.index)
    different = np.bincount(keys >> 32, minlength=len(starts))
    out = np.zeros(len(terms.width), bool)
    skips = different <= np.maximum.reduceat(terms.index, starts)
    out[terms.head[starts[skips]]] = True
    return out


def _possible(terms: Terms, starts: Index, fits: Flags, count: int) -> Flags:
    """Heads of which every part has a state that fits."""
    out = np.ones(count, bool)
    out[terms.head[starts[~np.logical_or.reduceat(fits, starts)]]] = False
    return out


def _reached(terms: Terms, head: int) -> Flags:
    """Which indices a head can have at level 2: sets of totals as bits of long integers."""
    rows = np.flatnonzero(terms.head == head)
    quiet, loud = 1, 0
    for part in np.split(rows, run_starts(terms.part[rows])[1:]):
        still, made = 0, 0
        for row in part.tolist():
            shift = int(terms.index[row])
            made |= loud << shift
            if terms.level[row] == 2:
                made |= quiet << shift
            else:
                still |= quiet << shift
        quiet, loud = still, made
    width = int(terms.width[head])
    octets = np.frombuffer(loud.to_bytes((width + 7) // 8, "little"), np.uint8)
    return np.unpackbits(octets, bitorder="little", count=width).astype(bool)
