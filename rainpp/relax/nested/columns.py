"""Arrow columns as numbers that add up exactly or as ranks, and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import Intractable
from rainpp.relax.nested.arrays import Index, numbered
from rainpp.relax.nested.gates import Flags

_LIMIT = 1 << 62
_names = itertools.count()


@dataclass(frozen=True, eq=False, slots=True)
class Ranks:
    """A column's values in DuckDB's order: `rank (n,)` from 0, `first[r]` a row of rank r."""

    column: pa.Array
    rank: Index
    first: Index

    @classmethod
    def of(cls, column: pa.Array, connection: duckdb.DuckDBPyConnection) -> Ranks:
        """Rank a column; NULL comes last."""
        name = f"rainpp_column_{next(_names)}"
        connection.register(name, pa.table({"i": np.arange(len(column)), "a": column}))
        try:
            sql = f"SELECT i, dense_rank() OVER (ORDER BY a) - 1 AS r FROM {name}"
            found = connection.sql(sql).fetchnumpy()
        finally:
            connection.unregister(name)
        rank = np.zeros(len(column), np.int64)
        rank[np.asarray(found["i"])] = found["r"]
        return cls(column, rank, numbered(rank)[1])

    def values_at(self, ranks: Index, missing: Flags) -> pa.Array:
        """The values of ranks, NULL where `missing`."""
        rows = self.first[np.where(missing, 0, ranks)] if len(self.first) else ranks
        return self.column.take(pa.array(rows, mask=missing))


def numbers(column: pa.Array, used: Flags, sql: str) -> tuple[NDArray[Any], int]:
    """The column's numbers, zero where not used, and the power of ten they are multiplied by.

    Integers and decimals come as int64, others as float64.

    Raises
    ------
    Intractable : the column is not numeric, or its sum does not fit in 62 bits.
    """
    kind = column.type
    if pa.types.is_floating(kind):
        values = np.asarray(column.cast(pa.float64()).fill_null(0.0), np.float64)
        return np.where(used, values, 0.0), 0
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise Intractable(f"`{sql}` adds values of type {kind}")
    scale = kind.scale if pa.types.is_decimal(kind) else 0
    wide = column.cast(pa.decimal128(38, scale)).fill_null(0)
    words = np.frombuffer(wide.buffers()[1], np.int64).reshape(-1, 2)[wide.offset :][: len(wide)]
    values = np.where(used, words[:, 0], 0)
    fits = (words[:, 1] == words[:, 0] >> 63) | ~used
    largest = max(abs(int(values.max(initial=0))), abs(int(values.min(initial=0))))
    if not fits.all() or largest * max(1, len(values)) >= _LIMIT:
        raise Intractable(f"`{sql}` adds numbers too large for 62 bits")
    return values, scale


def decimals(values: Index, scale: int, missing: Flags) -> pa.Array:
    """Integers over 10^scale as DECIMAL(38, scale), NULL where `missing`."""
    words = np.ascontiguousarray(np.stack([values, values >> 63], axis=1))
    valid = pa.array(~missing).buffers()[1]
    kind = pa.decimal128(38, scale)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(words)])
