"""What waits for one page: a frame that all share, or the latest of each number if it is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rainpp.dashboard.board import Line
from rainpp.dashboard.shown import as_text

# Numbers that wait for a page that does not read; with more it is sent everything anew.
_MOST_WAITING = 5_000


def frame(event: str, data: str, ident: str | None = None) -> bytes:
    """One event of a stream as bytes; `data` is one line."""
    head = "" if ident is None else f"id: {ident}\n"
    return f"{head}event: {event}\ndata: {data}\n\n".encode()


def changes_frame(lines: Sequence[Line], ident: str) -> bytes:
    """Changes and alarms as one event; their JSON is there already."""
    parts = [",".join(line.text for line in lines if line.is_alarm == kind) for kind in (0, 1)]
    return frame("changes", f'{{"changes":[{parts[0]}],"alarms":[{parts[1]}]}}', ident)


@dataclass(frozen=True)
class News:
    """What all pages are told: the event, encoded once, and its lines by what they replace."""

    frame: bytes
    lines: Mapping[str, Line]
    ident: str


class Mailbox:
    """Bounded: however long nobody reads, the latest of each number is all that waits."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.closed = self.overrun = False
        self._news: News | None = None
        self._waiting: dict[str, Line] | None = None
        self._status: dict[str, str] = {}
        self._ident = ""

    def put(self, news: News) -> None:
        """Changes and alarms; where some wait already, only the latest of each number stays."""
        if self._news is None and self._waiting is None:
            self._news = news
        elif not self.overrun:
            if self._waiting is None:
                self._waiting = {} if self._news is None else dict(self._news.lines)
                self._news = None
            self._waiting.update(news.lines)
            if len(self._waiting) > _MOST_WAITING:
                self.overrun, self._waiting = True, {}
        self._ident = news.ident
        self.ready.set()

    def tell(self, monitor: str, status: str) -> None:
        """How a monitor is, as JSON; the latest is enough."""
        self._status[monitor] = status
        self.ready.set()

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True
        self.ready.set()

    def take(self) -> bytes:
        """Everything that waits, as bytes to send."""
        self.ready.clear()
        found = b""
        if self._news is not None:
            found = self._news.frame
        elif self._waiting and not self.overrun:
            found = changes_frame(list(self._waiting.values()), self._ident)
        self._news = self._waiting = None
        for status in self._status.values():
            found += frame("status", status)
        self._status.clear()
        return found


def reset_frame(why: str) -> bytes:
    """Says that what the page has is no longer what there is; a snapshot follows."""
    return frame("reset", as_text({"why": why}))
