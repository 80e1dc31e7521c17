"""Rows that meet under a condition only DuckDB can decide: pairs arrive in pieces and are dropped.

The left side is cut into tiles so that no piece holds more than `PIECE` pairs. A tile's pairs are
sorted before they are added up, so results do not depend on the order in which threads finish.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from rainpp.errors import QueryError
from rainpp.relax.capture import Index, registered
from rainpp.relax.catalog import clean

Array = NDArray[np.float64]
Piece = tuple[NDArray[np.int32], NDArray[np.int32]]

# 2 M pairs are 16 MB as they arrive and about 60 MB as a sparse matrix while they are added up.
PIECE = 2_000_000
# Pairs kept for the next product instead of asking again: 8 bytes each, 256 MB.
KEPT = 32_000_000


@dataclass(eq=False)
class StreamedPairs:
    """Rows of `left` and `right` (tables with the columns `condition` names) that satisfy it.

    `condition` is SQL over the aliases ``l`` and ``r``; row numbers stand in the column ``place``.
    """

    con: duckdb.DuckDBPyConnection
    left: pa.Table
    right: pa.Table
    condition: str
    piece: int = PIECE
    kept: int = KEPT
    _pieces: list[Piece] | None = field(default=None, init=False)

    def to_left(self, right: Array) -> Array:
        """S right, one pass over the pairs."""
        return self._product(right, self.left.num_rows, transposed=False)

    def to_right(self, left: Array) -> Array:
        """Sᵀ left, one pass over the pairs."""
        return self._product(left, self.right.num_rows, transposed=True)

    def among(self, left: Index, right: Index) -> tuple[Index, Index]:
        """Those pairs that satisfy the condition, asked of DuckDB in one query."""
        places = np.arange(len(left))
        chosen = [
            side.take(pa.array(rows)).append_column("pair", pa.array(places))
            for side, rows in ((self.left, left), (self.right, right))
        ]
        with registered(self.con, chosen[0]) as a, registered(self.con, chosen[1]) as b:
            sql = f"SELECT l.pair FROM {a} AS l JOIN {b} AS r ON l.pair = r.pair"
            met = np.sort(_ask(self.con, f"{sql} AND ({self.condition})").column(0).to_numpy())
        return left[met], right[met]

    def _product(self, values: Array, rows: int, *, transposed: bool) -> Array:
        out = np.zeros((rows, values.shape[1]))
        for i, j in self.pieces():
            low, high = int(i[0]), int(i[-1]) + 1
            shape = (high - low, self.right.num_rows)
            starts = np.searchsorted(i, np.arange(low, high + 1))
            part = sparse.csr_array((np.ones(len(j)), j, starts), shape=shape)
            if transposed:
                out += part.T @ values[low:high]
            else:
                out[low:high] += part @ values
        return out

    def pieces(self) -> Iterator[Piece]:
        """Pairs of row numbers, sorted; from memory if few enough were found the last time."""
        if self._pieces is not None:
            yield from self._pieces
            return
        kept: list[Piece] | None = []
        count = 0
        for piece in self._asked():
            count += len(piece[0])
            kept = [*kept, piece] if kept is not None and count <= self.kept else None
            yield piece
        self._pieces = kept

    def _asked(self) -> Iterator[Piece]:
        """Tiles grow while they find few pairs and shrink when they find more than a piece."""
        rows, low = self.left.num_rows, 0
        tile = max(1, self.piece // max(1, self.right.num_rows))
        with registered(self.con, self.right) as right:
            while low < rows:
                found = self._tile(right, low, tile)
                if len(found) > self.piece and tile > 1:
                    tile = max(1, tile // 2)
                    continue
                low += tile
                if len(found) < self.piece // 4:
                    tile *= 2
                if len(found):
                    wide = self.right.num_rows
                    yield (found // wide).astype(np.int32), (found % wide).astype(np.int32)

    def _tile(self, right: str, low: int, tile: int) -> NDArray[np.int64]:
        """Pair numbers (left row · right rows + right row), sorted; some if more than a piece."""
        limit = f" LIMIT {self.piece + 1}" if tile > 1 else ""
        with registered(self.con, self.left.slice(low, tile)) as left:
            sql = (
                f"SELECT l.place * {self.right.num_rows}::BIGINT + r.place AS pair "
                f"FROM {left} AS l JOIN {right} AS r ON {self.condition}{limit}"
            )
            return np.sort(_ask(self.con, sql).column(0).to_numpy())


def _ask(con: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    try:
        return con.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise QueryError(f"DuckDB refuses the join: {clean(error)}.") from None
