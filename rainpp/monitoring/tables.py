"""What users hand to a monitor, as Arrow tables with the columns it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import DataError
from rainpp.relax.catalog import suggest

Times = NDArray[np.int64]


def as_arrow(source: Any, what: str) -> pa.Table:
    """An Arrow table, a record batch, a pandas frame, or a mapping of columns.

    Raises
    ------
    DataError : it is something else, or its columns are of different lengths.
    """
    try:
        if isinstance(source, pa.Table):
            return source
        if isinstance(source, pa.RecordBatch):
            return pa.Table.from_batches([source])
        if isinstance(source, pd.DataFrame):
            return pa.Table.from_pandas(source, preserve_index=False)
        if isinstance(source, Mapping):
            return pa.table({str(name): _column(column) for name, column in source.items()})
    except (pa.ArrowException, TypeError, ValueError) as problem:
        raise DataError(f"`{what}` cannot be read as a table: {problem}.") from None
    raise DataError(
        f"`{what}` is a {type(source).__name__}; give an Arrow table, a pandas frame, or a mapping "
        "from column names to values."
    )


def _column(values: Any) -> Any:
    """An array of several dimensions as a column of lists of fixed length."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        for size in values.shape[:0:-1]:
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
        return flat
    return values


@dataclass(frozen=True)
class TableSchema:
    """The columns of one streamed table, as its first batch or the user gave them."""

    name: str
    schema: pa.Schema

    def fitted(self, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Some columns of a batch, in the types of the first one.

        Raises
        ------
        DataError : one is missing, there twice, or holds other values than before.
        """
        chosen: list[Any] = []
        for name in columns:
            found = table.schema.get_all_field_indices(name)
            if len(found) != 1:
                what = "has no column" if not found else "has twice the column"
                hint = suggest(name, table.column_names, "columns")
                raise DataError(
                    f"a batch of `{self.name}` {what} `{name}`{hint} Nothing of it was taken."
                )
            chosen.append(self._cast(table.column(found[0]), name))
        return pa.table(dict(zip(columns, chosen, strict=True)))

    def _cast(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        kind = self.schema.field(name).type
        if column.type == kind:
            return column
        try:
            return column.cast(kind)
        except (pa.ArrowException, NotImplementedError) as problem:
            said = " ".join(str(problem).split())
            raise DataError(
                f"`{self.name}.{name}` was {kind} and is {column.type} in this batch: {said}. "
                "Nothing of it was taken; send the type it began with, or begin another monitor."
            ) from None


def event_times(column: pa.ChunkedArray, name: str) -> Times:
    """Event times in microseconds since 1970; times without a zone are UTC.

    Raises
    ------
    DataError : NULL, or a column that is no time.
    """
    if column.null_count:
        raise DataError(f"`{name}` is NULL in {column.null_count} rows; every row needs a time.")
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise DataError(f"`{name}` has the type {column.type}; event times are timestamps.")
    try:
        return column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy()
    except pa.ArrowException as problem:
        raise DataError(f"`{name}` cannot be read as times: {problem}.") from None
