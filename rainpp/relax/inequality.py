"""Rows that meet where left.a < right.b (or <=, >, >=), within equal keys: sort, then prefix sums.

Sorted by key and value, the rows that one row meets are one range of the other side, so S X is a
difference of two cumulative sums: O(n log n) once, then O(n w) per product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.relax.capture import registered
from rainpp.relax.codes import Index, integers
from rainpp.relax.pairing import EqualKeys

Array = NDArray[np.float64]
# Rows per range up to which adding them beats extended precision, which has no vector units.
_SHORT = 16


@dataclass(frozen=True, eq=False, slots=True)
class Ranges:
    """For every row of one side, the rows ``order[low:high]`` of the other that it meets."""

    order: Index
    low: Index
    high: Index

    def sums(self, values: Array) -> Array:
        """Σ values over each range.

        Ranges that all end with the rows, or start with them, need one cumulative sum from that
        end; short ones are added up. Others are differences, in extended precision: the sums before
        a range can be larger than the range by the number of keys.
        """
        n, sorted_values = len(self.order), values[self.order]
        if (self.high == n).all():
            return _cumulated(sorted_values[::-1])[n - self.low]
        if not self.low.any():
            return _cumulated(sorted_values)[self.high]
        if int((self.high - self.low).sum()) <= _SHORT * len(self.low):
            return _short_sums(sorted_values, self.low, self.high)
        total = _cumulated(sorted_values.astype(np.longdouble))
        return (total[self.high] - total[self.low]).astype(np.float64)


def _short_sums(values: Array, low: Index, high: Index) -> Array:
    """Each range added up by itself; in order, since `reduceat` also adds up the gaps between."""
    padded = np.concatenate([values, np.zeros((1, values.shape[1]))])
    order = np.argsort(low, kind="stable")
    ends = np.stack([low[order], high[order]], axis=1).reshape(-1)
    out = np.empty((len(low), values.shape[1]))
    out[order] = np.add.reduceat(padded, ends, axis=0)[::2]
    out[low == high] = 0.0
    return out


def _cumulated(values: NDArray[Any]) -> NDArray[Any]:
    """(n + 1, w): sums of the first 0, 1, ..., n rows."""
    out = np.zeros((len(values) + 1, values.shape[1]), values.dtype)
    np.cumsum(values, axis=0, out=out[1:])
    return out


@dataclass(eq=False, slots=True)
class OrderedPairs:
    """Rows meet where their keys are equal and their values are in order."""

    left: Ranges
    right: Ranges

    def to_left(self, right: Array) -> Array:
        """One range of right rows per left row."""
        return self.left.sums(right)

    def to_right(self, left: Array) -> Array:
        """One range of left rows per right row."""
        return self.right.sums(left)

    def among(self, left: Index, right: Index) -> tuple[Index, Index]:
        """Pairs whose right row lies in the left row's range."""
        place = np.full(len(self.right.low), -1, np.int64)
        place[self.left.order] = np.arange(len(self.left.order))
        at = place[right]
        met = (at >= self.left.low[left]) & (at < self.left.high[left])
        return left[met], right[met]


def ordered_pairs(
    values: tuple[Index, Index], keys: EqualKeys | None, operator: str
) -> OrderedPairs | None:
    """The pairs with `left operator right` within equal keys.

    Parameters
    ----------
    values : ranks of both sides on one scale; negative where NULL, which meets nothing.
    operator : <, <=, > or >=.

    Returns
    -------
    None if a key equals several keys of the other side, so that rows have no common order.
    """
    codes = _common_codes(keys, values)
    if codes is None:
        return None
    scale = 1 + max(int(values[0].max(initial=0)), int(values[1].max(initial=0)))
    left, right = (_Line.of(code, value, scale) for code, value in zip(codes, values, strict=True))
    strict, rising = len(operator) == 1, operator[0] == "<"
    return OrderedPairs(
        left.ranges(right, above=rising, strict=strict),
        right.ranges(left, above=not rising, strict=strict),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Line:
    """Rows of a side on one line, key after key, each key `scale` long.

    Row i lies at `spot[i]`, -1 if it meets nothing, and its key starts at `base[i]`; `order` are
    the rows that can meet some, by spot.
    """

    spot: Index
    base: Index
    order: Index
    scale: int

    @classmethod
    def of(cls, code: Index, value: Index, scale: int) -> _Line:
        spot = np.where((value < 0) | (code < 0), -1, code * scale + value)
        order = np.argsort(spot, kind="stable")
        return cls(spot, code * scale, order[np.searchsorted(spot[order], 0) :], scale)

    def ranges(self, other: _Line, *, above: bool, strict: bool) -> Ranges:
        """For every row, the rows of the other side above it or below it inside its key."""
        ordered = other.spot[other.order]
        at = np.searchsorted(ordered, self.spot, side="right" if above == strict else "left")
        low = at if above else np.searchsorted(ordered, self.base, side="left")
        high = np.searchsorted(ordered, self.base + self.scale, side="left") if above else at
        return Ranges(other.order, np.where(self.spot < 0, high, low), high)


def _common_codes(keys: EqualKeys | None, values: tuple[Index, Index]) -> list[Index] | None:
    """Key codes on one scale; -1 for right keys without a partner."""
    if keys is None:
        return [np.zeros(len(value), np.int64) for value in values]
    left, right = keys.met.nonzero()
    if len(np.unique(left)) < len(left) or len(np.unique(right)) < len(right):
        return None
    partner = np.full(int(keys.codes[1].max(initial=-1)) + 1, -1, np.int64)
    partner[right] = left
    return [keys.codes[0], partner[keys.codes[1]]]


def ranks(
    con: duckdb.DuckDBPyConnection, left: pa.ChunkedArray, right: pa.ChunkedArray
) -> tuple[Index, Index] | None:
    """Both columns as ranks on one scale, -1 for NULL; None if their types have no common order.

    NaN and types that NumPy does not order are ranked by DuckDB, which puts NaN last.
    """
    kinds = (left.type, right.type)
    numeric = [pa.types.is_integer(k) or pa.types.is_floating(k) for k in kinds]
    if not all(numeric) and kinds[0] != kinds[1]:
        return None
    if not all(numeric):
        return _ranked_by_duckdb(con, left, right)
    whole = all(pa.types.is_integer(kind) for kind in kinds)
    # FLOAT against an integer is compared as FLOAT, and UBIGINT does not fit: DuckDB knows.
    odd = pa.uint64() in kinds or (pa.float32() in kinds and kinds[0] != kinds[1])
    plain = (
        [column.cast(pa.int64() if whole else pa.float64(), safe=False) for column in (left, right)]
        if not odd
        else []
    )
    filled = [np.asarray(column.fill_null(0).to_numpy()) for column in plain]
    if odd or not all(np.isfinite(values).all() for values in filled):
        return _ranked_by_duckdb(con, left, right)
    return _ranked(filled, [column.is_null().to_numpy() for column in plain])


def _ranked(values: list[NDArray[Any]], absent: list[NDArray[Any]]) -> tuple[Index, Index]:
    _, codes = np.unique(np.concatenate(values), return_inverse=True)
    codes = np.where(np.concatenate(absent), -1, codes.astype(np.int64))
    return codes[: len(values[0])], codes[len(values[0]) :]


def _ranked_by_duckdb(
    con: duckdb.DuckDBPyConnection, left: pa.ChunkedArray, right: pa.ChunkedArray
) -> tuple[Index, Index]:
    count = len(left)
    tables = [
        pa.table({"place": np.arange(start, start + len(column)), "value": column})
        for start, column in ((0, left), (count, right))
    ]
    with registered(con, tables[0]) as a, registered(con, tables[1]) as b:
        found = con.sql(
            "SELECT place, CASE WHEN value IS NULL THEN -1 ELSE dense_rank() OVER (ORDER BY value "
            f"NULLS FIRST) END AS code FROM (FROM {a} UNION ALL FROM {b}) ORDER BY place"
        ).to_arrow_table()
    codes = integers(found, "code")
    return codes[:count], codes[count:]
