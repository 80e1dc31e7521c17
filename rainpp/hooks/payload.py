"""What leaves the machine: an event as JSON, with the training rows behind it, in less than 20 kB.

No row of the data is in it unless asked: ids of training rows, effects, and the k numbers by which
the owner of the index ranks for himself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, cast

import numpy as np

from rainpp.errors import RainError, one_line
from rainpp.hooks.hook import Event, Trial
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.context import Context
from rainpp.monitoring.delta import Delta

# Standard Webhooks: a body stays below 20 kB.
LARGEST = 20_000
SUSPECTS, _NAMED = 10, 20
_LONGEST_TEXT, _SHORT_TEXT = 2000, 100


def kind_of(event: Event) -> str:
    """The type of a message: "change", "alarm.firing", "alarm.resolved" or "test"."""
    if isinstance(event, Trial):
        return "test"
    return "change" if isinstance(event, Delta) else f"alarm.{event.status}"


def instant(at: datetime | None) -> str | None:
    """A time as in 2026-01-01T00:00:00Z; those of a monitor are UTC."""
    if at is None:
        return None
    aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def message(event: Event, context: Context, *, rows: bool = False) -> bytes:
    """{"type", "timestamp", "data"} in UTF-8, below 20 kB.

    Parameters
    ----------
    rows : also the inputs and labels of the training rows that are named.
    """
    # When it happened: the window's first instant, the same at every attempt.
    at = event.window[0] or datetime.now(UTC)
    data = described(event, context, rows=rows)
    whole = {"type": kind_of(event), "timestamp": instant(at), "data": data}
    for shorten in (_keep_all, *_SHORTER):
        shorten(data)
        text = _text(whole)
        if len(text) < LARGEST:
            return text
    least = {"monitor": event.monitor[:200], "seq": event.seq, "left_out": ["all"]}
    return _text(whole | {"data": least})


def described(event: Event, context: Context, *, rows: bool = False) -> dict[str, Any]:
    """An event as JSON values, with what is behind an alarm that goes off."""
    found: dict[str, Any] = {
        "monitor": event.monitor,
        "column": event.column,
        "group": plain(dict(event.group)),
        "window": [instant(at) for at in event.window],
        "value": plain(event.value),
        "relaxed": plain(event.relaxed),
        "rows": plain(event.rows),
        "model": event.model,
        "seq": event.seq,
        "text": str(event),
    }
    if isinstance(event, Delta):
        return found | {
            "revision": event.revision,
            "status": event.status,
            "low": plain(event.low),
            "high": plain(event.high),
            "basis": event.basis,
            "coverage": plain(event.coverage),
            "watermark": instant(event.watermark),
        }
    found |= {
        "name": event.name,
        "status": event.status,
        "target": plain(event.target),
        "should": event.should,
        "since": instant(event.since),
        "because": event.because,
        "fingerprint": event.fingerprint,
        # 9 digits: 1e-9 of its length, in half the bytes.
        "vector": [plain(float(f"{number:.9g}")) for number in event.vector],
    }
    return found | explained(event, context, rows=rows)


def explained(alarm: Alarm, context: Context, *, rows: bool = False) -> dict[str, Any]:
    """Training rows behind an alarm and what to do about them; or why there are none."""
    if isinstance(alarm, Trial):
        return {"suspects": [], "suggestions": [], "unexplained": "a test: nothing is wrong."}
    if alarm.status != "firing":
        return {"suspects": [], "suggestions": [], "unexplained": "the alarm is over."}
    try:
        top = context.explain().top(SUSPECTS).to_dict("records")
        suggested = [vars(reaction) for reaction in context.suggest()]
        if rows:
            for line in top:
                line["row"] = context.training_row(line["train_id"])
    except RainError as problem:
        return {"suspects": [], "suggestions": [], "unexplained": one_line(problem)}
    # Whatever else goes wrong there, the alarm goes out.
    except Exception as problem:  # noqa: BLE001
        why = f"the explanation failed: {type(problem).__name__}: {one_line(problem)}"
        return {"suspects": [], "suggestions": [], "unexplained": why}
    names = ("train_id", "intervention", "detail", "effect", "score", "row")
    return {
        "suspects": [{name: plain(line[name]) for name in names if name in line} for line in top],
        "suggestions": [_suggestion(item) for item in suggested],
        "unexplained": None,
    }


def plain(value: Any) -> Any:
    """A value as strict JSON knows it: NaN and infinities are null, dates are text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(name): plain(item) for name, item in pairs.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    return str(value)


def _suggestion(reaction: dict[str, Any]) -> dict[str, Any]:
    """The first of its rows by name; the rest can be asked of the monitor."""
    labels = reaction["labels"]
    return {
        "kind": reaction["kind"],
        "rows": reaction["rows"],
        "train_ids": plain(reaction["train_ids"][:_NAMED]),
        "labels": None if labels is None else plain(labels[:_NAMED]),
        "effect": plain(reaction["effect"]),
        "after": plain(reaction["after"]),
        "resolves": reaction["resolves"],
    }


def _text(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="replace")


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + "..."
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {_cut(name, longest): _cut(item, longest) for name, item in pairs.items()}
    if isinstance(value, list):
        return [_cut(item, longest) for item in cast("list[Any]", value)]
    return value


def _shorter(data: dict[str, Any], longest: int) -> None:
    found = _cut(data, longest)
    if found != data:
        data.update(found)
        _left_out(data, "ends of texts")


def _keep_all(data: dict[str, Any]) -> None:
    """All, but for texts that no message needs."""
    _shorter(data, _LONGEST_TEXT)


def _without_rows(data: dict[str, Any]) -> None:
    suspects = data.get("suspects", [])
    if any(line.pop("row", None) is not None for line in list(suspects)):
        for line in suspects:
            line.pop("row", None)
        _left_out(data, "rows")


def _shorter_texts(data: dict[str, Any]) -> None:
    _shorter(data, _SHORT_TEXT)


def _without_vector(data: dict[str, Any]) -> None:
    if data.get("vector"):
        data["vector"] = []
        _left_out(data, "vector")


def _fewer_groups(data: dict[str, Any]) -> None:
    if data["group"]:
        data["group"] = dict(list(data["group"].items())[:5])
        _left_out(data, "group columns")


def _left_out(data: dict[str, Any], what: str) -> None:
    known = data.get("left_out", [])
    data["left_out"] = known if what in known else [*known, what]


# What goes first when a message is too long, in this order.
_SHORTER: tuple[Callable[[dict[str, Any]], None], ...] = (
    _without_rows,
    _shorter_texts,
    _without_vector,
    _fewer_groups,
)
