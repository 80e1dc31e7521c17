"""Arrow IPC streams that nobody vouches for: how large they would be is known before they are read.

A stream of a few kilobytes may claim gigabytes: compressed buffers, dictionaries and views that
name one value many times, columns without buffers. The lengths are read from the messages' own
headers (flatbuffers; Arrow's Message.fbs) and types that can unfold are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rainpp.errors import DataError, one_line

# Message.header_type.
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_CONTINUED = b"\xff\xff\xff\xff"
_MOST_COLUMNS = 10_000
_TEXTS = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def read_stream(data: bytes, *, most_bytes: int, most_rows: int) -> pa.Table:
    """The rows of an Arrow IPC stream, every value of them checked.

    Parameters
    ----------
    most_bytes, most_rows : it may have, decompressed.

    Raises
    ------
    DataError : it is no whole stream, too large, inconsistent, or has columns of a type that is
        not taken: views, run-end encoded, unions, maps, extensions.
    """
    try:
        rows, size = _measured(data)
    except (struct.error, IndexError, OverflowError):
        raise DataError("it is no Arrow IPC stream: a header is damaged.") from None
    if rows > most_rows or size > most_bytes:
        raise DataError(
            f"it has {rows:,} rows and {size:,} bytes; at most {most_rows:,} rows and "
            f"{most_bytes:,} bytes are taken at once."
        )
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            _check_types(reader.schema)
            found = reader.read_all()
        found.validate(full=True)
        _check_unfolded(found, most_bytes)
    except (pa.ArrowException, ValueError, OSError, MemoryError, OverflowError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(f"it is no Arrow IPC stream: {one_line(problem)}.") from None
    return found


def _measured(data: bytes) -> tuple[int, int]:
    """Rows and decompressed bytes of all messages.

    Raises
    ------
    DataError, struct.error, IndexError : it is no stream, or not whole.
    """
    at = rows = size = 0
    first = True
    while at < len(data):
        if data[at : at + 4] != _CONTINUED:
            raise DataError("it is no Arrow IPC stream: no message begins where one should.")
        (length,) = struct.unpack_from("<i", data, at + 4)
        if length == 0:
            break
        start = at + 8
        if length < 0 or start + length > len(data):
            raise DataError("it is no whole Arrow IPC stream: a header is cut off.")
        message = _Table.root(data[start : start + length])
        kind, body = message.number(1, "<B"), message.number(3, "<q")
        end = start + length + body
        if body < 0 or end > len(data):
            raise DataError("it is no whole Arrow IPC stream: a message is cut off.")
        if first != (kind == _SCHEMA):
            raise DataError("it is no Arrow IPC stream: the schema comes first, and once.")
        if kind in (_DICTIONARY, _BATCH):
            header = message.table(2)
            batch = header.table(1) if kind == _DICTIONARY else header
            size += _decompressed(batch, data[start + length : end])
            rows += batch.number(0, "<q") if kind == _BATCH else 0
        elif kind != _SCHEMA:
            raise DataError(f"it has an Arrow message of kind {kind}; only tables are taken.")
        at, first = end, False
    if first:
        raise DataError("it is empty; an Arrow IPC stream begins with a schema.")
    return rows, size


def _decompressed(batch: _Table, body: bytes) -> int:
    """Bytes of a record batch in memory: compressed buffers begin with their length."""
    if batch.number(0, "<q") < 0:
        raise DataError("it is no Arrow IPC stream: a batch has a negative length.")
    packed, total = batch.place(3) is not None, 0
    for offset, length in batch.pairs(2):
        if offset < 0 or length < 0 or offset + length > len(body):
            raise DataError("it is no Arrow IPC stream: a buffer lies outside its message.")
        claimed = length
        if packed and length:
            (claimed,) = struct.unpack_from("<q", body, offset)
            claimed = length if claimed == -1 else claimed  # -1: this one is not compressed
            if claimed < 0:
                raise DataError("it is no Arrow IPC stream: a buffer has a negative length.")
        total += claimed
    return total


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer: fields by number, through its vtable."""

    data: bytes
    at: int

    @staticmethod
    def root(data: bytes) -> _Table:
        return _Table(data, _checked(struct.unpack_from("<I", data, 0)[0]))

    def place(self, field: int) -> int | None:
        """Where a field is; None where it is left out."""
        vtable = _checked(self.at - struct.unpack_from("<i", self.data, self.at)[0])
        (size,) = struct.unpack_from("<H", self.data, vtable)
        slot = 4 + 2 * field
        if slot + 2 > size:
            return None
        (offset,) = struct.unpack_from("<H", self.data, vtable + slot)
        return self.at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        place = self.place(field)
        return 0 if place is None else int(struct.unpack_from(form, self.data, place)[0])

    def table(self, field: int) -> _Table:
        place = self.place(field)
        if place is None:
            raise IndexError("a message has no header")
        return _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0])

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        place = self.place(field)
        if place is None:
            return []
        start = place + struct.unpack_from("<I", self.data, place)[0]
        (count,) = struct.unpack_from("<I", self.data, start)
        if start + 4 + 16 * count > len(self.data):
            raise IndexError("a vector is longer than its message")
        return [struct.unpack_from("<qq", self.data, start + 4 + 16 * i) for i in range(count)]


def _checked(place: int) -> int:
    if place < 0:
        raise IndexError("before the beginning")
    return place


def _check_types(schema: pa.Schema) -> None:
    """Refuse types of which a few bytes can stand for many values.

    Raises
    ------
    DataError : there is one, or too many columns.
    """
    if len(schema) > _MOST_COLUMNS:
        raise DataError(f"it has {len(schema):,} columns; at most {_MOST_COLUMNS:,} are taken.")
    for field in schema:
        if not _is_plain(field.type, nested=False):
            raise DataError(
                f"`{field.name}` has the type {field.type}, which is not taken; send numbers, "
                "texts, bytes, times, lists or structs."
            )


def _is_plain(kind: Any, *, nested: bool) -> bool:
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if types.is_dictionary(kind):
        return not nested and _is_flat(kind.value_type)
    if types.is_struct(kind):
        parts = [kind.field(i).type for i in range(kind.num_fields)]
        return bool(parts) and all(_is_plain(part, nested=True) for part in parts)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type, nested=True)
    if types.is_null(kind):
        return not nested
    return _is_flat(kind)


def _is_flat(kind: Any) -> bool:
    types = pa.types
    fixed = types.is_primitive(kind) or types.is_fixed_size_binary(kind) or types.is_decimal(kind)
    return fixed or kind in _TEXTS


def _check_unfolded(table: pa.Table, most: int) -> None:
    """Refuse dictionaries that would be too large as plain columns, which a monitor makes of them.

    Raises
    ------
    DataError : one is.
    """
    total = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_dictionary(column.type):
            continue
        for chunk in column.chunks:
            values = chunk.dictionary
            if values.type in _TEXTS:
                sizes = pc.call_function("binary_length", [values]).cast(pa.int64())
                total += pc.call_function("sum", [sizes.take(chunk.indices)]).as_py() or 0
            else:
                total += max(1, values.nbytes // max(1, len(values))) * len(chunk)
            if total > most:
                raise DataError(
                    f"`{name}` is too large without its dictionary; at most {most:,} bytes are "
                    "taken at once."
                )
