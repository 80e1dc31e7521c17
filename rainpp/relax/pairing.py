"""Which rows of two sides meet, as a linear map that is applied and never written out.

With S[i, j] = 1 where left row i meets right row j, every sum over a join needs only S X and Sᵀ Y.
Equal keys cost one segment sum and one gather; other conditions are in `inequality` and `stream`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from rainpp.relax.capture import Index, matching_codes
from rainpp.relax.codes import key_codes

Array = NDArray[np.float64]


class Pairing(Protocol):
    """Sums over the rows each row meets."""

    def to_left(self, right: Array) -> Array:
        """S right: (left rows, w) from (right rows, w)."""
        ...

    def to_right(self, left: Array) -> Array:
        """Sᵀ left: (right rows, w) from (left rows, w)."""
        ...

    def among(self, left: Index, right: Index) -> tuple[Index, Index]:
        """Those of the given row pairs that meet."""
        ...


@dataclass(eq=False, slots=True)
class EveryPair:
    """All rows of one side meet all rows of the other."""

    left: int
    right: int

    def to_left(self, right: Array) -> Array:
        """The column sums, once per left row, without a copy."""
        return np.broadcast_to(right.sum(axis=0), (self.left, right.shape[1]))

    def to_right(self, left: Array) -> Array:
        """The column sums, once per right row, without a copy."""
        return np.broadcast_to(left.sum(axis=0), (self.right, left.shape[1]))

    def among(self, left: Index, right: Index) -> tuple[Index, Index]:
        """All of them."""
        return left, right


@dataclass(eq=False, slots=True)
class EqualKeys:
    """Rows meet where their keys do; row i of a side has key `codes[i]`.

    `met (left keys, right keys)` says which keys DuckDB calls equal; `rows` sum rows into keys.
    """

    codes: tuple[Index, Index]
    met: sparse.csr_array
    rows: tuple[sparse.csr_array, sparse.csr_array]

    @classmethod
    def of(cls, left: Index, right: Index, pairs: tuple[Index, Index]) -> EqualKeys:
        """From key codes of the rows, and the pairs of codes that are equal."""
        sizes = [int(codes.max(initial=-1)) + 1 for codes in (left, right)]
        met = sparse.coo_array((np.ones(len(pairs[0])), pairs), shape=sizes).tocsr()
        return cls((left, right), met, (_indicator(left, sizes[0]), _indicator(right, sizes[1])))

    def to_left(self, right: Array) -> Array:
        """Sums by key, then a gather."""
        return np.asarray(self.met @ (self.rows[1] @ right))[self.codes[0]]

    def to_right(self, left: Array) -> Array:
        """Sums by key, then a gather."""
        return np.asarray(self.met.T @ (self.rows[0] @ left))[self.codes[1]]

    def among(self, left: Index, right: Index) -> tuple[Index, Index]:
        """Pairs with equal keys."""
        wide = int(self.codes[1].max(initial=0)) + 1
        i, j = self.met.nonzero()
        met = np.isin(self.codes[0][left] * wide + self.codes[1][right], i * wide + j)
        return left[met], right[met]


def _indicator(codes: Index, size: int) -> sparse.csr_array:
    """(keys, rows) with a one where a row has a key; rows stay in order, so sums are repeatable."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(size + 1))
    return sparse.csr_array((np.ones(len(codes)), order, starts), shape=(size, len(codes)))


def equal_keys(
    con: duckdb.DuckDBPyConnection,
    left: Sequence[pa.ChunkedArray],
    right: Sequence[pa.ChunkedArray],
) -> EqualKeys:
    """Match rows on all columns at once, by DuckDB's idea of `=`, in which NULL equals nothing."""
    codes, distinct = [], []
    for columns in (left, right):
        code, first = key_codes(columns)
        taken = {f"key_{i}": column.take(pa.array(first)) for i, column in enumerate(columns)}
        codes.append(code)
        distinct.append(pa.table({**taken, "code": np.arange(len(first))}))
    return EqualKeys.of(codes[0], codes[1], matching_codes(con, distinct[0], distinct[1]))
