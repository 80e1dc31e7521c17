"""Columns and windows as watch.toml names them: "DOUBLE[64]", "1h every 5m"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rainpp.errors import SettingsError
from rainpp.stream.window import Everything, Last, Session, Sliding, Tumbling, Window
from rainpp.watching.rules import nearest

_TYPES = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "ubigint": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "blob": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
# Numbers of a row; Arrow's lists of a fixed length count in 32 bits.
_LONGEST = 2**31 - 1
_COLUMN = re.compile(r"\s*([A-Za-z]+)\s*((?:\[\d*\]\s*)*)")
_WINDOWS = '"1h", "1h every 5m", "session 10m", "last 1000" or "everything"'


def read_schema(content: Mapping[str, Any], where: str) -> pa.Schema | dict[str, pa.Schema]:
    """The columns of a table, or of each of several tables.

    Raises
    ------
    SettingsError : a type is none.
    """
    if all(isinstance(value, dict) for value in content.values()):
        return {name: _schema(part, f"{where}.{name}") for name, part in content.items()}
    return _schema(content, where)


def _schema(content: Mapping[str, Any], where: str) -> pa.Schema:
    return pa.schema(
        [pa.field(name, _type(text, f"{where}.{name}")) for name, text in content.items()]
    )


def _type(text: Any, where: str) -> pa.DataType:
    parts = _COLUMN.fullmatch(text) if isinstance(text, str) else None
    known = None if parts is None else _TYPES.get(parts[1].lower())
    if parts is None or known is None:
        hint = nearest(str(text).lower(), _TYPES)
        raise SettingsError(f"{where} is {text!r}, which is no type{hint} [n] and [] make lists.")
    # As in DuckDB, DOUBLE[2][3] is three pairs.
    for size in re.findall(r"\[(\d*)\]", parts[2]):
        if size and not (len(size) <= 10 and 1 <= int(size) <= _LONGEST):
            raise SettingsError(
                f"{where} is {text[:60]!r}; a list has 1 to {_LONGEST:,} values, or [] for any "
                "number."
            )
        known = pa.list_(known, int(size)) if size else pa.list_(known)
    return known


def read_window(text: str) -> Window:
    """A window from its words.

    Raises
    ------
    SettingsError : it is none.
    """
    words = text.split()
    if words == ["everything"]:
        return Everything()
    if len(words) == 2 and words[0] == "session":
        return Session(words[1])
    if len(words) == 2 and words[0] == "last" and words[1].isdecimal() and len(words[1]) < 19:
        return Last(int(words[1]))
    if len(words) == 3 and words[1] == "every":
        return Sliding(words[0], words[2])
    if len(words) == 1:
        return Tumbling(words[0])
    raise SettingsError(f"`window` is {text[:60]!r}; write {_WINDOWS}.")
