"""Records as rows: JSON objects and Arrow streams that nobody vouches for."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rainpp.errors import DataError, one_line
from rainpp.monitoring.batch import Doing
from rainpp.sources.arrow_stream import read_stream
from rainpp.sources.asides import Aside, shown
from rainpp.sources.parcel import Chunk, Parcel

Format = Literal["json", "arrow"]
Record = tuple[int, bytes]
# Of one record in Arrow.
_MOST_BYTES, _MOST_ROWS = 256 * 2**20, 1_000_000


def read_object(text: bytes | str) -> dict[str, Any]:
    """One JSON object.

    Raises
    ------
    DataError : it is none, or has no keys.
    """
    found = read_json(text)
    if not isinstance(found, dict) or not found:
        what = "an object without keys" if found == {} else f"a JSON {type(found).__name__}"
        raise DataError(f"it is {what}; give an object with a value for each column.")
    return found


def read_json(text: bytes | str) -> Any:
    """A JSON value; NaN and Infinity are none.

    Raises
    ------
    DataError : it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise DataError("it is no JSON that can be read: nested too deeply.") from None
    except ValueError as problem:
        raise DataError(f"it is not JSON: {one_line(problem)}.") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def rows_of(records: Sequence[Mapping[str, Any]], times: Collection[str] = ()) -> pa.Table:
    """JSON objects as a table; a key that some lack is NULL there.

    Parameters
    ----------
    times : columns whose texts are instants: ISO 8601, UTC without a zone.

    Raises
    ------
    DataError : the values of a column do not go together.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    return table_of({name: [record.get(name) for record in records] for name in names}, times)


def table_of(columns: Mapping[str, Sequence[Any]], times: Collection[str] = ()) -> pa.Table:
    """Columns of JSON values as a table.

    Raises
    ------
    DataError : as `rows_of`; columns of different lengths.
    """
    made: dict[str, Any] = {}
    for name, values in columns.items():
        try:
            made[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as problem:
            said = one_line(problem)
            raise DataError(f"the values of `{name}` do not go together: {said}.") from None
        if name in times:
            made[name] = _instants(made[name])
    try:
        return pa.table(made)
    except (pa.ArrowException, ValueError) as problem:
        raise DataError(f"the columns do not go together: {one_line(problem)}.") from None


def _instants(values: pa.Array) -> pa.Array:
    """Texts as UTC times; as they are where they cannot be read so, for the monitor to refuse."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return values
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return pc.cast(values, kind).cast(pa.timestamp("us"))
        except pa.ArrowException:
            continue
    return values


def parcel_of(
    source: str,
    records: Sequence[Record],
    *,
    kind: Doing = "predictions",
    table: str | None = None,
    form: Format = "json",
    times: Collection[str] = (),
) -> Parcel:
    """Records with their offsets as rows; those that cannot be read stand aside.

    Parameters
    ----------
    records : at least one, by ascending offset.
    """
    good: list[tuple[int, Any]] = []
    bad: list[Aside] = []
    for offset, text in records:
        try:
            read = read_object if form == "json" else _read_arrow
            good.append((offset, read(text)))
        except DataError as problem:
            bad.append(Aside(source, offset, one_line(problem), shown(text)))
    chunks: list[Chunk] = []
    make = _from_objects if form == "json" else _from_tables
    if good:
        chunks = make(source, good, bad, kind, table, times)
    return Parcel(source, tuple(chunks), records[-1][0], tuple(bad))


def _read_arrow(body: bytes) -> pa.Table:
    return read_stream(body, most_bytes=_MOST_BYTES, most_rows=_MOST_ROWS)


def _from_objects(
    source: str,
    good: Sequence[tuple[int, dict[str, Any]]],
    bad: list[Aside],
    kind: Doing,
    table: str | None,
    times: Collection[str],
) -> list[Chunk]:
    """As few tables as there can be; an object that is none by itself stands aside."""
    offsets = np.array([offset for offset, _ in good], np.int64)
    try:
        return [Chunk(kind, rows_of([record for _, record in good], times), offsets, table)]
    except DataError as problem:
        if len(good) == 1:
            (offset, record) = good[0]
            bad.append(Aside(source, offset, one_line(problem), shown(str(record))))
            return []
    half = len(good) // 2
    return [
        chunk
        for part in (good[:half], good[half:])
        for chunk in _from_objects(source, part, bad, kind, table, times)
    ]


def _from_tables(
    source: str,
    good: Sequence[tuple[int, pa.Table]],
    bad: list[Aside],
    kind: Doing,
    table: str | None,
    times: Collection[str],
) -> list[Chunk]:
    """Neighbours of one schema are joined."""
    del source, bad, times
    found: list[Chunk] = []
    run: list[tuple[int, pa.Table]] = []
    for offset, rows in good:
        if run and not run[-1][1].schema.equals(rows.schema):
            found.append(_joined(run, kind, table))
            run = []
        run.append((offset, rows))
    return [*found, _joined(run, kind, table)]


def _joined(run: Sequence[tuple[int, pa.Table]], kind: Doing, table: str | None) -> Chunk:
    offsets = np.repeat([offset for offset, _ in run], [rows.num_rows for _, rows in run])
    rows = pa.concat_tables([rows for _, rows in run])
    return Chunk(kind, rows, offsets.astype(np.int64), table)
