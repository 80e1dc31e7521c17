"""Group keys and additive records as text and bytes, to be written into the state file."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rainpp.errors import ArtifactError
from rainpp.stream.cells import Sums
from rainpp.stream.exact import LIMBS
from rainpp.stream.pairs import NAN

_KINDS: dict[str, tuple[Any, Any, Any]] = {
    # With nanoseconds, which a `datetime` has not.
    "timestamp": (pd.Timestamp, pd.Timestamp.isoformat, pd.Timestamp),
    "datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "time": (dt.time, dt.time.isoformat, dt.time.fromisoformat),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "bytes": (
        bytes,
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text),
    ),
    "interval": (
        dt.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: dt.timedelta(parts[0], parts[1], parts[2]),
    ),
}


def as_json(value: Any) -> Any:
    """A value of a group key as JSON knows it; `from_json` gives it back."""
    if isinstance(value, float) and value != value:
        return {"nan": ""}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"inf": 1 if value > 0 else -1}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple | list):
        return {"list": [as_json(item) for item in value]}
    for name, (kind, write, _) in _KINDS.items():
        if isinstance(value, kind):
            return {name: write(value)}
    if isinstance(value, dict):
        return {"struct": [[as_json(name), as_json(item)] for name, item in value.items()]}
    raise ArtifactError(
        f"a group key of type {type(value).__name__} cannot be kept; group by text, numbers or "
        "dates."
    )


def from_json(value: Any) -> Any:
    """The inverse of `as_json`; lists come back as tuples."""
    if not isinstance(value, dict):
        return value
    ((name, inner),) = value.items()
    if name == "nan":
        return NAN
    if name == "inf":
        return float("inf") * inner
    if name == "list":
        return tuple(from_json(item) for item in inner)
    if name == "struct":
        return {from_json(key): from_json(item) for key, item in inner}
    return _KINDS[name][2](inner)


def key_text(key: Sequence[Any]) -> str:
    """A group key as one line of JSON."""
    return json.dumps([as_json(value) for value in key], ensure_ascii=False)


def read_key(text: str) -> tuple[Any, ...]:
    """The inverse of `key_text`."""
    return tuple(from_json(value) for value in json.loads(text))


def pack(sums: Sequence[Sums]) -> bytes:
    """Records of every side as bytes: a line of JSON with the places, then the doubles."""
    header = [[[pane, key_text(key)] for pane, key in part.places] for part in sums]
    widths = [part.values.shape[1] for part in sums]
    line = json.dumps({"places": header, "widths": widths}).encode()
    blocks = [np.ascontiguousarray(part.values, "<f8").tobytes() for part in sums]
    return len(line).to_bytes(8, "little") + line + b"".join(blocks)


def unpack(data: bytes) -> list[Sums]:
    """The inverse of `pack`.

    Raises
    ------
    ArtifactError : the bytes are cut short.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        start, found = 8 + length, list[Sums]()
        for places, width in zip(header["places"], header["widths"], strict=True):
            stop = start + 8 * len(places) * width * LIMBS
            values = np.frombuffer(data[start:stop], "<f8").reshape(len(places), width, LIMBS)
            found.append(Sums([(pane, read_key(key)) for pane, key in places], values.copy()))
            start = stop
    except (ValueError, KeyError, TypeError) as problem:
        raise ArtifactError(f"a record of the state file is damaged: {problem}.") from None
    return found
