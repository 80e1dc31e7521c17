"""Alarms for Prometheus' Alertmanager: pushed to it, or in the shape in which it calls webhooks."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from rainpp.errors import SettingsError
from rainpp.hooks.address import Target
from rainpp.hooks.hook import Drop, Event, Outcome, Replay, Trial, check_name, check_replay
from rainpp.hooks.payload import SUSPECTS, explained, instant
from rainpp.hooks.post import deliver
from rainpp.hooks.webhook import default_name
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.context import Context

Form = Literal["push", "webhook"]
_PUSHED_TO = "/api/v2/alerts"
_TIMEOUT = 15.0
# Alertmanager ends an alert without an end after five minutes, unless it is sent again and again.
# This one lasts until its own end is delivered, which it is at least once.
_LASTS = timedelta(days=365)
_NO_END = "0001-01-01T00:00:00Z"
_LONGEST = 1000
_RESERVED = ("alertname", "monitor", "column")


class Alertmanager:
    """Sends alarms, and when they are over; labels are the alarm, the monitor and the group.

    Parameters
    ----------
    url : of Alertmanager, such as "http://alertmanager:9093"; for `form="webhook"` of a receiver.
    name : under which its progress is written down; by default made of the URL.
    form : "push" speaks to Alertmanager's own API, version 2; "webhook" is what it sends itself,
        version 4, for receivers that were written for it.
    allow_private : send into this machine and this network, where an Alertmanager usually is.
    replay : "latest" begins with what is said from now on, "all" with everything kept.

    Raises
    ------
    SettingsError : the URL or an option cannot be used.
    """

    alarms_only = True

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        form: Form = "push",
        allow_private: bool = False,
        replay: Replay = "latest",
    ) -> None:
        if form not in ("push", "webhook"):
            raise SettingsError(f"`form` is {form!r}; give 'push' or 'webhook'.")
        self.form: Form = form
        self.target = Target.of(_whole(url, form), allow_private=allow_private)
        self.name = check_name(name, default_name("alertmanager", url, self.target))
        self.replay = check_replay(replay)

    def __call__(self, event: Event, context: Context) -> Outcome:
        """Send it once."""
        if not isinstance(event, Alarm):
            return Drop("Alertmanager knows alarms only, and this is a change.")
        alert = _alert(event, context)
        sent = [_pushed(alert, event)] if self.form == "push" else _called(alert, event, self.name)
        body = json.dumps(sent, ensure_ascii=False).encode(errors="replace")
        headers = {"Content-Type": "application/json"}
        return deliver(self.target, body, headers, _TIMEOUT)

    def __repr__(self) -> str:
        return f"Alertmanager({self.name!r}, {self.target.scheme}://{self.target.host})"


def labels_of(alarm: Alarm) -> dict[str, str]:
    """What an alert is known by: the same when it goes off and when it is over."""
    called = f"{alarm.name} (test)" if isinstance(alarm, Trial) else alarm.name
    named = zip(_RESERVED, (called, alarm.monitor, alarm.column), strict=True)
    found: dict[str, str] = dict(named)
    for name, value in alarm.group.items():
        found[_label(name, found)] = "NULL" if value is None else str(value)
    return {name: value[:_LONGEST] for name, value in found.items()}


def _label(name: str, taken: dict[str, str]) -> str:
    """A column as a label is called, and as no other is."""
    found = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    # Two underscores in front are for Prometheus itself.
    if not found or found[0].isdigit() or found.startswith("__") or found in _RESERVED:
        found = f"group_{found}"
    free, number = found, 2
    while free in taken:
        free, number = f"{found}_{number}", number + 1
    return free


def _alert(alarm: Alarm, context: Context) -> dict[str, Any]:
    behind = explained(alarm, context)
    rows = ", ".join(
        f"{line['train_id']} ({line['intervention']})" for line in behind["suspects"][:SUSPECTS]
    )
    notes = {
        "summary": str(alarm),
        "value": f"{alarm.value:.6g}",
        "because": alarm.because,
        "suspects": rows or behind["unexplained"] or "none",
        "suggestion": _suggestion(behind["suggestions"]),
        "key": alarm.key,
    }
    found = {name: text[:_LONGEST] for name, text in notes.items() if text}
    return {"labels": labels_of(alarm), "annotations": found}


def _suggestion(suggested: list[dict[str, Any]]) -> str:
    if not suggested:
        return ""
    best = suggested[0]
    return f"{best['kind']} {best['rows']} training rows: {best['after']:.4g} afterwards"


def _pushed(alert: dict[str, Any], alarm: Alarm) -> dict[str, Any]:
    now = datetime.now(UTC)
    over = alarm.status == "resolved"
    since = alarm.since or now
    start = since.replace(tzinfo=UTC) if since.tzinfo is None else since
    # An end before the start is refused, and event time may be ahead of the clock.
    return {
        **alert,
        "startsAt": instant(min(start, now)),
        "endsAt": instant(now if over else now + _LASTS),
    }


def _called(alert: dict[str, Any], alarm: Alarm, receiver: str) -> dict[str, Any]:
    """What Alertmanager sends to its own webhooks, version 4, with one alert in it."""
    over, labels = alarm.status == "resolved", alert["labels"]
    group = {name: labels[name] for name in ("alertname", "monitor")}
    one = {
        "status": alarm.status,
        **alert,
        "startsAt": instant(alarm.since) or instant(datetime.now(UTC)),
        "endsAt": instant(datetime.now(UTC)) if over else _NO_END,
        "generatorURL": "",
        "fingerprint": alarm.fingerprint,
    }
    named = ", ".join(f"{name}={json.dumps(value)}" for name, value in group.items())
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{named}}}",
        "truncatedAlerts": 0,
        "status": alarm.status,
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": alert["annotations"],
        "externalURL": "",
        "alerts": [one],
    }


def _whole(url: str, form: Form) -> str:
    if form != "push" or not isinstance(url, str) or "?" in url:  # pyright: ignore[reportUnnecessaryIsInstance]
        return url
    bare = url.rstrip("/")
    return bare if bare.endswith(_PUSHED_TO) else bare + _PUSHED_TO
