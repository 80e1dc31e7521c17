"""The body of a pushed request: read within bounds, then made rows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

import pyarrow as pa
from starlette.requests import ClientDisconnect, Request

from rainpp.errors import DataError, RainError
from rainpp.monitoring.batch import Doing
from rainpp.sources.arrow_stream import read_stream
from rainpp.sources.decoding import read_json, read_object, rows_of, table_of

ARROW = "application/vnd.apache.arrow.stream"
LINES = "application/x-ndjson"
JSON = "application/json"
TYPES = (ARROW, LINES, JSON)
# A body of this many bytes may be so many times larger once it is decompressed.
_UNFOLDED = 8


class Refused(RainError):
    """A request that is answered with an error.

    Attributes
    ----------
    status : of the answer.
    more : further keys of the answer.
    """

    def __init__(self, status: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.status, self.more = status, more


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """The body.

    Raises
    ------
    Refused : it is longer than `most` bytes, or has not come within `seconds`.
    """
    too_long = f"the body is longer than {most:,} bytes; send smaller batches."
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise Refused(413, too_long)
    found = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                found += part
                if len(found) > most:
                    raise Refused(413, too_long)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds:g} seconds.") from None
    except ClientDisconnect:
        raise Refused(400, "the client went away.") from None
    return bytes(found)


def media_type(request: Request) -> str:
    """What the body is.

    Raises
    ------
    Refused : it is nothing that is taken.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in TYPES:
        raise Refused(415, f"`Content-Type` is {found!r}; it must be one of {', '.join(TYPES)}.")
    packed = request.headers.get("content-encoding", "identity")
    if packed.lower() != "identity":
        raise Refused(415, f"`Content-Encoding` is {packed!r}; send the body as it is.")
    return found


def rows_in(
    body: bytes, media: str, kind: Doing, *, times: Collection[str], most: int, most_rows: int
) -> pa.Table:
    """The rows of a body.

    Raises
    ------
    DataError : it cannot be read, or has too many rows.
    """
    if media == ARROW:
        return read_stream(body, most_bytes=_UNFOLDED * most, most_rows=most_rows)
    found = _lines(body, times) if media == LINES else _values(read_json(body), kind, times)
    if found.num_rows > most_rows:
        raise DataError(f"it has {found.num_rows:,} rows; at most {most_rows:,} are taken at once.")
    return found


def _lines(body: bytes, times: Collection[str]) -> pa.Table:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(read_object(line))
        except DataError as problem:
            raise DataError(f"line {number}: {problem}") from None
    return rows_of(records, times)


def _values(found: Any, kind: Doing, times: Collection[str]) -> pa.Table:
    """A list of objects, one object of columns, or a list of ids."""
    if isinstance(found, list):
        listed = cast("list[Any]", found)
        if all(isinstance(record, dict) for record in listed):
            return rows_of(cast("list[dict[str, Any]]", listed), times)
        if kind == "retract" and not any(isinstance(item, dict | list) for item in listed):
            return table_of({"id": listed})
    if isinstance(found, dict):
        columns = cast("dict[str, Any]", found)
        if columns and all(isinstance(column, list) for column in columns.values()):
            return table_of(columns, times)
    ids = ", or a list of ids" if kind == "retract" else ""
    raise DataError(f"give a list of objects, or an object with a list for each column{ids}.")
