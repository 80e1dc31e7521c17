"""Dense codes for the values of captured columns, computed where the rows arrive.

A window function that ranks keys inside DuckDB sorts every row: 600 000 rows with two short text
keys took 167 ms, fetching the keys 34 ms and coding them here 15 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

Index = NDArray[np.int64]


def integers(table: pa.Table, name: str) -> Index:
    """An integer column without NULLs as int64."""
    return np.asarray(table.column(name).to_numpy(), np.int64)


def key_codes(columns: Sequence[pa.ChunkedArray]) -> tuple[Index, Index]:
    """A code per row, equal codes meaning identical values, and the first row of each code.

    Codes are 0, 1, ... in order of first appearance. Values that DuckDB calls equal may still get
    several codes (0.0 and -0.0, say).
    """
    code, size = _column_codes(columns[0])
    for column in columns[1:]:
        other, wide = _column_codes(column)
        code, size = _compact(code * wide + other)
    first = np.empty(size, np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return code, first


def _compact(code: Index) -> tuple[Index, int]:
    """The same distinctions with codes in order of first appearance, all of them used."""
    found, distinct = pd.factorize(code)
    return np.asarray(found, np.int64), len(distinct)


def _column_codes(column: pa.ChunkedArray) -> tuple[Index, int]:
    """Codes of one column, in order of first appearance, and how many there are.

    Every row has its own where Arrow cannot tell values apart.
    """
    whole: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    if pa.types.is_dictionary(whole.type):  # an ENUM
        whole = whole.dictionary_decode()
    if pa.types.is_integer(whole.type) and not whole.null_count:
        codes, distinct = pd.factorize(whole.to_numpy())
        return np.asarray(codes, np.int64), len(distinct)
    try:
        encoded = whole.dictionary_encode(null_encoding="encode")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return np.arange(len(whole)), len(whole)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return np.asarray(codes, np.int64), len(encoded.dictionary)
