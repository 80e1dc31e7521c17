"""Changes and alarms as the page gets them: plain JSON values, short enough to send often."""

from __future__ import annotations

import calendar
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.delta import Delta
from rainpp.stream.packing import key_text

# A value of a group is shown up to here; it may be any text.
_LONGEST = 200


def number(value: float) -> float | None:
    """A number as JSON has it: None for NULL and what is not finite."""
    return float(value) if math.isfinite(value) else None


def milliseconds(at: datetime | None) -> int | None:
    """A UTC time as a browser counts it."""
    return None if at is None else calendar.timegm(at.timetuple()) * 1000 + at.microsecond // 1000


def words(value: Any) -> str:
    """A value in text, cut where it is long."""
    text = "NULL" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def change_body(delta: Delta) -> dict[str, Any]:
    """A change of one number."""
    return {
        "monitor": delta.monitor,
        "column": delta.column,
        **_place(delta.group, delta.window),
        **{name: number(getattr(delta, name)) for name in ("value", "relaxed", "low", "high")},
        "rows": number(delta.rows),
        "status": delta.status,
        "revision": delta.revision,
        "model": delta.model,
        "seq": delta.seq,
    }


def alarm_body(alarm: Alarm) -> dict[str, Any]:
    """An alarm with its evidence."""
    return {
        "monitor": alarm.monitor,
        "name": alarm.name,
        "alarm": alarm.fingerprint,
        "status": alarm.status,
        "column": alarm.column,
        **_place(alarm.group, alarm.window),
        **{name: number(getattr(alarm, name)) for name in ("value", "relaxed", "target")},
        "should": alarm.should,
        "since": milliseconds(alarm.since),
        "rows": number(alarm.rows),
        "because": alarm.because,
        "model": alarm.model,
        "traceable": bool(alarm.vector.size) and alarm.name != "drift",
        "seq": alarm.seq,
    }


def as_text(body: Any) -> str:
    """JSON in one line, as the stream needs it."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _place(
    group: Mapping[str, Any], window: tuple[datetime | None, datetime | None]
) -> dict[str, Any]:
    return {
        "group": [[name, words(value)] for name, value in group.items()],
        "key": key_text(tuple(group.values())),
        "window": [milliseconds(at) for at in window],
    }
