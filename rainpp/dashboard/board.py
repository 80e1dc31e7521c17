"""The latest of every number and alarm of one monitor, as a new page needs it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from rainpp.dashboard.shown import alarm_body, as_text, change_body, milliseconds
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.delta import Delta

# Windows and numbers that are remembered; a page is sent fewer where there are many groups.
_MOST_WINDOWS, _MOST_CELLS = 240, 12_000
_SENT_CELLS = 3_000
# Alarms that are over are marked in the charts, which show at most so many windows.
_MOST_FIRING, _MOST_RESOLVED = 500, 240

Place = tuple[str, str]


@dataclass(frozen=True)
class Line:
    """One change or alarm: what it is, what it replaces, and its JSON, written once for all."""

    what: Delta | Alarm
    place: str
    text: str

    @property
    def is_alarm(self) -> bool:
        """Whether it is an alarm."""
        return isinstance(self.what, Alarm)


def line_of(what: Delta | Alarm) -> Line:
    """A change or alarm, encoded."""
    if isinstance(what, Alarm):
        return Line(what, f"alarm {what.fingerprint}", as_text(alarm_body(what)))
    body = change_body(what)
    slot = _slot(what)
    return Line(what, f"{what.monitor} {slot} {what.column} {body['key']}", as_text(body))


def _slot(delta: Delta) -> int:
    """Where a change stands in a chart: its window, or its own place if windows have no start."""
    start = milliseconds(delta.window[0])
    return delta.seq if start is None else start


@dataclass(eq=False)
class Board:
    """Numbers by window, and alarms.

    Attributes
    ----------
    seq : the last line of the outbox that is here.
    """

    seq: int = -1
    _windows: dict[int, dict[str, Line]] = field(default_factory=dict[int, dict[str, Line]])
    _alarms: OrderedDict[str, Line] = field(default_factory=OrderedDict[str, Line])
    _cells: int = 0

    def take(self, line: Line) -> None:
        """Remember a line; the oldest are forgotten."""
        self.seq = max(self.seq, line.what.seq)
        if isinstance(line.what, Alarm):
            self._alarms[line.place] = line
            self._alarms.move_to_end(line.place)
            self._forget_alarms()
            return
        window = self._windows.setdefault(_slot(line.what), {})
        self._cells += line.place not in window
        window[line.place] = line
        while len(self._windows) > 1 and (
            len(self._windows) > _MOST_WINDOWS or self._cells > _MOST_CELLS
        ):
            self._cells -= len(self._windows.pop(min(self._windows)))

    def lines(self) -> list[Line]:
        """What a new page is sent: whole windows, the latest first, then alarms."""
        found: list[Line] = []
        for slot in sorted(self._windows, reverse=True):
            if found and len(found) + len(self._windows[slot]) > _SENT_CELLS:
                break
            found += self._windows[slot].values()
        return found[: 2 * _SENT_CELLS] + list(self._alarms.values())

    def now(self, delta: Delta) -> Delta:
        """What is last known of the number a change was about."""
        line = self._windows.get(_slot(delta), {}).get(line_of(delta).place)
        return line.what if line is not None and isinstance(line.what, Delta) else delta

    def _forget_alarms(self) -> None:
        for status, most in (("firing", _MOST_FIRING), ("resolved", _MOST_RESOLVED)):
            there = [
                place
                for place, line in self._alarms.items()
                if isinstance(line.what, Alarm) and line.what.status == status
            ]
            for place in there[: max(0, len(there) - most)]:
                del self._alarms[place]
