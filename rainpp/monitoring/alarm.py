"""Alarms: a condition on a standing query, with hold and hysteresis, and what it said when."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np

from rainpp.monitoring.condition import Condition
from rainpp.monitoring.written import (
    instant_body,
    place_body,
    place_words,
    read_instant,
    read_numbers,
    read_place,
)
from rainpp.stream.packing import as_json, key_text, read_key
from rainpp.stream.reading import Reading

_NUMBERS = ("value", "relaxed", "target", "rows")


@dataclass(frozen=True)
class Rule:
    """What an alarm watches.

    Attributes
    ----------
    clear : once it has gone off, it is over when this does not hold any more; equal to `when`
        without hysteresis.
    where : values of group columns it is about; all groups if empty.
    hold : consecutive windows in which `when` must hold.
    whole_windows : only windows that the watermark has passed are looked at.
    target : what the number should be; None for a direction only.
    """

    name: str
    when: Condition
    clear: Condition
    where: Mapping[str, Any]
    hold: int
    whole_windows: bool
    min_rows: float
    target: float | None
    of_metric: bool = False


@dataclass(frozen=True)
class Alarm:
    """An alarm went off, or is over.

    Attributes
    ----------
    status : "firing" or "resolved".
    group : of the query's rows, by column; empty for accuracy and drift.
    window : first instant and the first after it of the window whose number set it off, UTC.
    column, value, relaxed, target : what is wrong, the number, its expectation, and what it should
        be; the number the condition names where no target was given.
    should : "increase" or "decrease".
    since : first instant of the window with which it went off.
    rows : how many rows could count. For drift, the row of the stream at which it was sure, and
        `value` is the K-S distance of `column`.
    vector : (k,), the complaint as its owner ranks it: gradient times direction.
    because : the condition that held, or no longer does, and what the number rests on.
    """

    monitor: str
    name: str
    status: Literal["firing", "resolved"]
    group: Mapping[str, Any]
    window: tuple[datetime | None, datetime | None]
    column: str
    value: float
    relaxed: float
    target: float
    should: Literal["increase", "decrease"]
    since: datetime | None
    rows: float
    vector: np.ndarray = field(repr=False, compare=False)
    model: str
    seq: int
    because: str

    @property
    def fingerprint(self) -> str:
        """The same for an alarm and its end, and for no other."""
        # Drift has no group and no window: it is told apart by the feature.
        named = [self.monitor, self.name, self.column]
        text = "\0".join([*named, key_text(tuple(self.group.values()))])
        return hashlib.sha256(f"{text}\0{self.since}".encode()).hexdigest()[:32]

    @property
    def key(self) -> str:
        """The same for every attempt to deliver it, and for no other."""
        # An alarm may go off twice with the same window, after a correction: `seq` tells which.
        text = f"{self.fingerprint}\0{self.status}\0{self.seq}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def body(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "status": self.status,
            **place_body(self.group, self.window),
            "column": self.column,
            **{name: as_json(float(getattr(self, name))) for name in _NUMBERS},
            "should": self.should,
            "since": instant_body(self.since),
            "vector": [float(number) for number in self.vector],
            "model": self.model,
            "because": self.because,
            "key": self.key,
        }

    @staticmethod
    def read(monitor: str, seq: int, body: Mapping[str, Any]) -> Alarm:
        """The inverse of `body`."""
        return Alarm(
            monitor=monitor,
            name=body["name"],
            status=body["status"],
            column=body["column"],
            should=body["should"],
            since=read_instant(body["since"]),
            vector=np.asarray(body["vector"], float),
            model=body["model"],
            seq=seq,
            because=body["because"],
            **read_place(body),
            **read_numbers(body, _NUMBERS),
        )

    def __str__(self) -> str:
        what = f"{self.column} is {self.value:.4g}"
        if self.name == "drift":
            what = f"{self.column} is {self.value:.2f} (K-S distance) from the training rows"
        return (
            f"{self.name} is {self.status}: {what}{place_words(self.group, self.window)}; "
            f"{self.because}"
        )


@dataclass(frozen=True, eq=False)
class Seen:
    """A row of the answer as an alarm sees it, or the accuracy of a window.

    `sure` are intervals of numbers that are estimated: they are beyond another number when the
    whole interval is. `note` says what they rest on.
    """

    group: Mapping[str, Any]
    window: int
    bounds: tuple[datetime | None, datetime | None]
    final: bool
    rows: float
    cells: Mapping[str, Reading]
    sure: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether no more rows are expected; always so where windows have no end."""
        return self.final or self.bounds[1] is None


@dataclass(eq=False)
class _Watched:
    """The state of one rule for one group: which windows were bad, and since when it fires."""

    bad: list[int] = field(default_factory=list[int])
    last: int | None = None
    since: str | None = None


class Watch:
    """The state machine of one rule over all groups."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.moved = rule, False
        self._groups: dict[tuple[Any, ...], _Watched] = {}

    @property
    def firing(self) -> list[tuple[Any, ...]]:
        """Groups for which it has gone off and is not over."""
        return [key for key, state in self._groups.items() if state.since is not None]

    def look(self, seen: Seen, monitor: str, model: str, seq: int) -> Alarm | None:
        """Take in a new value; an alarm if the rule goes off or is over."""
        rule = self.rule
        if any(seen.group.get(name) != value for name, value in rule.where.items()):
            return None
        if (rule.whole_windows and not seen.final) or seen.rows < rule.min_rows:
            return None
        key = tuple(seen.group.values())
        state = self._groups.setdefault(key, _Watched())
        values = {name: cell.plain for name, cell in seen.cells.items()}
        values["rows"] = seen.rows
        if state.since is not None:
            bad = rule.clear.holds(values)
            if bad and (seen.whole or rule.when.direction == "decrease"):
                # Too high is too high although rows may still come; too low may only be early.
                latest = seen.window if state.last is None else max(state.last, seen.window)
                self.moved |= latest != state.last
                state.last = latest
            # An older window that is corrected does not end an alarm about a newer one that was
            # bad, and one to which rows may still come is not known to be right.
            newest = seen.window if state.last is None else state.last
            if bad or not seen.whole or seen.window < newest:
                return None
            since, self._groups[key], self.moved = state.since, _Watched(), True
            return self._alarm("resolved", seen, monitor, model, seq, since)
        if not rule.when.holds(values, seen.sure):
            left = [window for window in state.bad if window > seen.window]
            self.moved |= left != state.bad
            state.bad = left
            return None
        if seen.window not in state.bad:
            self.moved = True
            state.bad = sorted([*state.bad, seen.window])[-rule.hold :]
        if len(state.bad) < rule.hold:
            return None
        start = seen.bounds[0]
        state.since, state.last = ("" if start is None else start.isoformat()), seen.window
        return self._alarm("firing", seen, monitor, model, seq, state.since)

    def body(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "groups": [
                [key_text(key), state.bad, state.last, state.since]
                for key, state in self._groups.items()
                if state.bad or state.since is not None
            ]
        }

    def restore(self, body: Mapping[str, Any]) -> None:
        """The inverse of `body`."""
        self._groups = {
            read_key(text): _Watched(list(bad), last, since)
            for text, bad, last, since in body["groups"]
        }

    def _alarm(
        self,
        status: Literal["firing", "resolved"],
        seen: Seen,
        monitor: str,
        model: str,
        seq: int,
        since: str,
    ) -> Alarm:
        rule, column = self.rule, self.rule.when.first.column
        sign = 1.0 if rule.when.direction == "increase" else -1.0
        held = f" in {rule.hold} windows" if rule.hold > 1 else ""
        return Alarm(
            monitor=monitor,
            name=rule.name,
            status=status,
            group=dict(seen.group),
            window=seen.bounds,
            column=column,
            value=seen.cells[column].plain,
            relaxed=seen.cells[column].relaxed,
            target=rule.when.first.number if rule.target is None else rule.target,
            should=rule.when.direction,
            since=datetime.fromisoformat(since) if since else None,
            rows=seen.rows,
            vector=sign * seen.cells[column].gradient,
            model=model,
            seq=seq,
            because=(f"{rule.when}{held}" if status == "firing" else f"no longer {rule.clear}")
            + seen.note,
        )
