"""What changes and alarms have in common when they are written down, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rainpp.stream.packing import as_json, from_json

Span = tuple[datetime | None, datetime | None]


def instant_body(at: datetime | None) -> str | None:
    """An instant as a JSON value."""
    return None if at is None else at.isoformat()


def read_instant(text: str | None) -> datetime | None:
    """The inverse of `instant_body`."""
    return None if text is None else datetime.fromisoformat(text)


def place_body(group: Mapping[str, Any], window: Span) -> dict[str, Any]:
    """A row of the answer and its window as JSON values."""
    return {
        "group": [[name, as_json(value)] for name, value in group.items()],
        "window": [instant_body(at) for at in window],
    }


def read_place(body: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `place_body`: `group` and `window`."""
    start, end = map(read_instant, body["window"])
    return {
        "group": {name: from_json(value) for name, value in body["group"]},
        "window": (start, end),
    }


def read_numbers(body: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Numbers that were written with `as_json`, as floats."""
    return {name: float(from_json(body[name])) for name in names}


def place_words(group: Mapping[str, Any], window: Span) -> str:
    """As in " where region='EU' from 2026-01-01 00:00:00"."""
    named = ", ".join(f"{name}={value!r}" for name, value in group.items())
    start = f" from {window[0]:%Y-%m-%d %H:%M:%S}" if window[0] else ""
    return f"{f' where {named}' if named else ''}{start}"
