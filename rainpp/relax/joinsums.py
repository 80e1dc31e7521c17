"""Sums over a join without visiting its row pairs.

For sides joined on equal keys and on a relation M[c, d] between one prediction of each,

    Σ_{l ~ r} Σ_{c, d} u_l[c] M[c, d] v_r[d] = Σ_{segments i ~ j} A_i M B_jᵀ ,

with A_i the sum of u_l over the rows of one (group, key) segment. Both value and gradient cost
O((|L| + |R|) R). In a self-join a pair may be one row with itself, whose two predictions are one
variable; those pairs, at most min(|L|, |R|) of them, are recomputed and the difference added.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rainpp.relax.capture import Index, Relation, joined, matching_keys, same_rows
from rainpp.relax.rowsums import (
    Diagonal,
    Gradient,
    KeyAxis,
    RowTerm,
    by_value,
    indicator,
    log_absence,
    num_values,
    segment_sums,
)

Array = NDArray[np.float64]


@dataclass(eq=False, slots=True)
class Segments:
    """Rows of one side with the same group and join key; row t lies in segment `of_row[t]`."""

    starts: Index
    of_row: Index
    group: Index
    key: Index

    @classmethod
    def of(cls, relation: Relation) -> Segments:
        """The segments of a relation, whose rows are sorted by group and key."""
        n = len(relation)
        if not n:
            empty = np.zeros(0, np.int64)
            return cls(np.zeros(1, np.int64), empty, empty, empty)
        changes = (np.diff(relation.group) != 0) | (np.diff(relation.key) != 0)
        first = np.r_[0, np.flatnonzero(changes) + 1]
        of_row = np.repeat(np.arange(len(first)), np.diff(np.r_[first, n]))
        return cls(np.r_[first, n], of_row, relation.group[first], relation.key[first])


@dataclass(eq=False, slots=True)
class JoinFrame:
    """Which segments meet, sorted by output group; shared by every aggregate of a query.

    Pair p joins segments `left_of[p]` and `right_of[p]`; group g holds pairs
    ``starts[g]:starts[g + 1]`` and comes from `groups[g]`, a (left group, right group).
    """

    left: Relation
    right: Relation
    left_segments: Segments
    right_segments: Segments
    left_of: Index
    right_of: Index
    starts: Index
    groups: list[tuple[int, int]]

    @property
    def num_groups(self) -> int:
        """How many groups the certain columns make."""
        return len(self.groups)

    def joined_rows(self) -> float:
        """Pairs of rows in meeting segments."""
        left, right = np.diff(self.left_segments.starts), np.diff(self.right_segments.starts)
        return float(left[self.left_of] @ right[self.right_of].astype(float))

    def diagonal(self, twin: tuple[int, int] | None) -> Relation | None:
        """Row pairs that are one row with itself: `twin` names the source on each side."""
        if twin is None:
            return None
        i, j = same_rows(self.left.rids[twin[0]], self.right.rids[twin[1]])
        wide = max(1, len(self.right_segments.key))
        met = self.left_of * wide + self.right_of
        order = np.argsort(met, kind="stable")
        wanted = self.left_segments.of_row[i] * wide + self.right_segments.of_row[j]
        place = np.searchsorted(met[order], wanted)
        found = np.zeros(len(wanted), bool)
        inside = place < len(met)
        found[inside] = met[order][place[inside]] == wanted[inside]
        pair = order[place[found]]
        group = np.searchsorted(self.starts, pair, side="right") - 1
        by_group = np.lexsort([j[found], i[found], group])
        chosen = (i[found][by_group], j[found][by_group])
        return joined(self.left, self.right, chosen, group[by_group])


def join_frame(con: duckdb.DuckDBPyConnection, left: Relation, right: Relation) -> JoinFrame:
    """Match the segments of two sides on their join keys, as DuckDB compares them."""
    a, b = Segments.of(left), Segments.of(right)
    keys = matching_keys(con, left, right)
    i, j = _meeting(a.key, b.key, keys)
    order = np.lexsort([j, i, b.group[j], a.group[i]])
    i, j = i[order], j[order]
    if left.groups == [()] and right.groups == [()]:
        return JoinFrame(left, right, a, b, i, j, np.array([0, len(i)]), [(0, 0)])
    first = np.flatnonzero(
        np.r_[True, (np.diff(a.group[i]) != 0) | (np.diff(b.group[j]) != 0)][: len(i)]
    )
    named = list(zip(a.group[i[first]].tolist(), b.group[j[first]].tolist(), strict=True))
    return JoinFrame(left, right, a, b, i, j, np.r_[first, len(i)].astype(np.int64), named)


def _meeting(left: Index, right: Index, keys: tuple[Index, Index]) -> tuple[Index, Index]:
    """Places i, j with (left[i], right[j]) among the pairs of `keys`, sorted."""
    sizes = [
        1 + int(max(codes.max(initial=0), met.max(initial=0)))
        for codes, met in ((left, keys[0]), (right, keys[1]))
    ]
    of_left = sparse.csr_array(
        (np.ones(len(left)), left, np.arange(len(left) + 1)), shape=(len(left), sizes[0])
    )
    met = sparse.coo_array((np.ones(len(keys[0])), keys), shape=sizes).tocsr()
    of_right = sparse.coo_array(
        (np.ones(len(right)), (right, np.arange(len(right)))), shape=(sizes[1], len(right))
    ).tocsr()
    found = (of_left @ met @ of_right).tocoo()
    order = np.lexsort([found.col, found.row])
    return found.row[order].astype(np.int64), found.col[order].astype(np.int64)


@dataclass(eq=False)
class JoinSums:
    """One measure over a join, summed by group and by the predicted key of each side.

    `matrix (R_left, R_right)` relates the opened predictions; a side without one has width 1.
    `diagonal` is for self-joins.
    """

    frame: JoinFrame
    left: RowTerm
    right: RowTerm
    matrix: Array
    left_key: KeyAxis | None
    right_key: KeyAxis | None
    diagonal: Diagonal | None = None
    _sums: dict[bool, tuple[Array, Array]] = field(
        default_factory=dict[bool, tuple[Array, Array]], init=False
    )

    def totals(self, *, possible: bool = False) -> Array:
        """(groups, values of the left key, values of the right key)."""
        a, b = self._segments(possible=possible)
        columns: list[Array] = []
        for code in range(num_values(self.right_key)):
            met = (b * indicator(self.right_key, code)) @ self.matrix.T
            products = a[self.frame.left_of] * met[self.frame.right_of]
            columns.append(by_value(segment_sums(products, self.frame.starts), self.left_key))
        out = np.stack(columns, axis=2)
        if self.diagonal and not possible:
            out = out + self.diagonal.totals().reshape(out.shape)
        return out

    def push(self, group: int, code: tuple[int, int], scale: float, gradient: Gradient) -> None:
        """Add scale · ∂totals[group, code]/∂P to `gradient`."""
        a, b = self._segments(possible=False)
        frame = self.frame
        pairs = slice(int(frame.starts[group]), int(frame.starts[group + 1]))
        i, j = frame.left_of[pairs], frame.right_of[pairs]
        mask_l, mask_r = indicator(self.left_key, code[0]), indicator(self.right_key, code[1])
        to_left, to_right = np.zeros_like(a), np.zeros_like(b)
        np.add.at(to_left, i, scale * mask_l * ((b[j] * mask_r) @ self.matrix.T))
        np.add.at(to_right, j, scale * mask_r * ((a[i] * mask_l) @ self.matrix))
        which = frame.groups[group]
        _push_side(self.left, frame.left_segments, which[0], to_left, gradient)
        _push_side(self.right, frame.right_segments, which[1], to_right, gradient)
        if self.diagonal:
            at = code if self.left_key else (code[1], 0)
            self.diagonal.push(group, at, scale, gradient)

    def existence(self, group: int, code: tuple[int, int]) -> float:
        """1 - Π(1 - a_i[c] b_j[d]) over meeting segments and related classes."""
        a, b = self._presence
        pairs = slice(int(self.frame.starts[group]), int(self.frame.starts[group + 1]))
        i, j = self.frame.left_of[pairs], self.frame.right_of[pairs]
        allowed = self.matrix > 0.0
        allowed = allowed & (indicator(self.left_key, code[0]) > 0.0)[:, None]
        allowed = allowed & (indicator(self.right_key, code[1]) > 0.0)[None, :]
        absent = 0.0
        for c, d in itertools.compress(np.ndindex(*allowed.shape), allowed.ravel()):
            absent += float(log_absence(a[i, c] * b[j, d]).sum())
        return float(-np.expm1(absent))

    @cached_property
    def _presence(self) -> tuple[Array, Array]:
        """Per segment and class, the probability that some row of the segment has that class."""
        out: list[Array] = []
        for side, segments in (
            (self.left, self.frame.left_segments),
            (self.right, self.frame.right_segments),
        ):
            logs = log_absence(side.wide_message())
            out.append(-np.expm1(segment_sums(logs, segments.starts)))
        return out[0], out[1]

    def _segments(self, *, possible: bool) -> tuple[Array, Array]:
        if possible not in self._sums:
            left, right = (
                segment_sums(side.wide_message(possible=possible), segments.starts)
                for side, segments in (
                    (self.left, self.frame.left_segments),
                    (self.right, self.frame.right_segments),
                )
            )
            self._sums[possible] = (left, right)
        return self._sums[possible]


def _push_side(
    side: RowTerm, segments: Segments, group: int, adjoint: Array, gradient: Gradient
) -> None:
    low, high = np.searchsorted(side.relation.group, [group, group + 1])
    rows = slice(int(low), int(high))
    shape = (rows.stop - rows.start, adjoint.shape[1])
    slope = np.broadcast_to(adjoint, shape) if len(adjoint) == 1 else adjoint[segments.of_row[rows]]
    side.push(rows, slope if side.term.opened else slope[:, 0], gradient)
