"""What users hand to a monitor, as Arrow tables with the columns it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import DataError, one_line
from rainpp.relax.catalog import suggest

Times = NDArray[np.int64]
_FIRST, _LAST = (
    int(np.datetime64(text, "us").astype(np.int64))
    for text in ("0001-01-01", "9999-12-31T23:59:59.999999")
)


def as_arrow(source: Any, what: str) -> pa.Table:
    """An Arrow table, a record batch, a pandas frame, or a mapping of columns.

    Raises
    ------
    DataError : it is something else, or its columns are of different lengths.
    """
    try:
        found = _as_table(source)
        if found is not None:
            return found.cast(plain_schema(found.schema))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
        raise DataError(f"`{what}` cannot be read as a table: {one_line(problem)}.") from None
    raise DataError(
        f"`{what}` is a {type(source).__name__}; give an Arrow table, a pandas frame, or a mapping "
        "from column names to values."
    )


def _as_table(source: Any) -> pa.Table | None:
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    if isinstance(source, pd.DataFrame):
        return pa.Table.from_pandas(source, preserve_index=False)
    if isinstance(source, Mapping):
        return pa.table({str(name): _column(column) for name, column in source.items()})
    return None


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema without encodings that hold the same values: dictionaries and views."""
    fields = [field.with_type(_plain(field.type)) for field in schema]
    return pa.schema([pa.field(field.name, field.type) for field in fields])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if kind == pa.string_view():
        return pa.string()
    return pa.binary() if kind == pa.binary_view() else kind


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
                hint = "." if found else suggest(name, table.column_names, "columns")
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
            _check_cast(column.type, kind)
            return column.cast(kind)
        except (pa.ArrowException, NotImplementedError) as problem:
            said = one_line(problem)
            raise DataError(
                f"`{self.name}.{name}` was {kind} and is {column.type} in this batch: {said}. "
                "Nothing of it was taken; send the type it began with, or begin another monitor."
            ) from None


def as_instant(window: Any) -> pd.Timestamp:
    """The first instant of a window, as a user names it; UTC.

    Raises
    ------
    DataError : it is no time.
    """
    try:
        found = pd.Timestamp(window)
        if isinstance(found, pd.Timestamp):  # pyright: ignore[reportUnnecessaryIsInstance]
            return found if found.tzinfo is None else found.tz_convert("UTC").tz_localize(None)
    except (ValueError, TypeError, OverflowError):
        pass
    raise DataError(f"`window` is {window!r}; give the first instant of a window, as it is read.")


def _check_cast(found: pa.DataType, wanted: pa.DataType) -> None:
    """Refuse what Arrow would turn into something else: true into 1, a number into an instant."""
    types = pa.types
    if types.is_null(found):
        return
    texts = {pa.string(), pa.large_string()}
    told = types.is_boolean(found) != types.is_boolean(wanted)
    timed = types.is_temporal(found) != types.is_temporal(wanted) and found not in texts
    if told or timed:
        raise pa.ArrowTypeError(f"{found} says something else than {wanted}")


def event_times(column: pa.ChunkedArray, name: str) -> Times:
    """Event times in microseconds since 1970; times without a zone are UTC.

    Raises
    ------
    DataError : NULL, a column that is no time, or instants before the year 1 or after 9999.
    """
    if column.null_count:
        raise DataError(f"`{name}` is NULL in {column.null_count} rows; every row needs a time.")
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise DataError(f"`{name}` has the type {column.type}; event times are timestamps.")
    try:
        times = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy()
    except pa.ArrowException as problem:
        raise DataError(f"`{name}` cannot be read as times: {one_line(problem)}.") from None
    beyond = (times < _FIRST) | (times > _LAST)
    if beyond.any():
        raise DataError(
            f"`{name}` is {times[beyond][0]} microseconds since 1970 in a row; event times lie in "
            "the years 1 to 9999."
        )
    return times
