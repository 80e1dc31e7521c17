"""From monitors to pages: one pump hears what was committed and hands it to every mailbox."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from rainpp.dashboard.board import Board, Line, line_of
from rainpp.dashboard.mailbox import Mailbox, News, changes_frame, frame, reset_frame
from rainpp.dashboard.pulse import Pulse
from rainpp.dashboard.resume import ident_of, read_ident
from rainpp.dashboard.shown import as_text
from rainpp.dashboard.workers import Workers
from rainpp.errors import RainError, SettingsError
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.monitor import Monitor

_log = logging.getLogger("rainpp.dashboard")
# Lines of the outbox that are read when a page comes back, and when the server starts.
_REPLAYED, _READ_BACK = 5_000, 20_000
# A batch tells its changes one by one: they are gathered this long, and sent at most so often.
_GATHER, _BETWEEN = 0.004, 0.025
# How often monitors are asked whether a batch came that changed nothing, or a model was swapped.
_PULSE = 2.0


class Feed:
    """The live state of monitors for all pages; its methods run on the server's event loop."""

    def __init__(self, monitors: Sequence[Monitor], workers: Workers) -> None:
        self.monitors = {monitor.spec.name: monitor for monitor in monitors}
        if len(self.monitors) < len(monitors):
            raise SettingsError(
                "two monitors have the same name; each needs one of its own on the page."
            )
        self._workers = workers
        self.boards = {name: Board() for name in self.monitors}
        self.pulses = {name: Pulse() for name in self.monitors}
        self.mailboxes: set[Mailbox] = set()
        self.boot = secrets.token_hex(4)
        # Where the loop is stuck for so long that some fall out, the outbox still has them.
        self._heard: deque[Delta | Alarm] = deque(maxlen=50_000)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._waking = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = False

    # Life.

    async def start(self) -> None:
        """Read back what is known, listen, and keep going until `stop`."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        if not self._listening:  # a monitor has no way to stop calling
            self._listening = True
            for monitor in self.monitors.values():
                monitor.on("change", self._hear)
                monitor.on("*", self._hear)
        for name, monitor in self.monitors.items():
            await self._beat(name)
            if not self.pulses[name].problem:
                first = max(self.pulses[name].seq - _READ_BACK, self.boards[name].seq)
                for what in await self._workers.run(monitor.changes, first):
                    self.boards[name].take(line_of(what))
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._watch())]

    def close(self) -> None:
        """End every stream; more pages are sent away."""
        self._loop = None
        for mailbox in self.mailboxes:
            mailbox.close()

    async def stop(self) -> None:
        """End streams and tasks."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def open(self) -> bool:
        """Whether pages are served."""
        return self._loop is not None

    # What monitors say; in whatever thread sent the batch, while others wait for it.

    def _hear(self, what: Delta | Alarm, context: Any) -> None:
        del context
        loop = self._loop
        if loop is None:
            return
        self._heard.append(what)
        if not self._waking.is_set():
            self._waking.set()
            try:
                loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:  # the loop was closed in between
                self._loop = None

    # The pump.

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER)
            self._wake.clear()
            self._waking.clear()
            try:
                await self._publish()
            except Exception:  # noqa: BLE001 - one failure must not silence all pages
                _log.exception("changes could not be sent to the pages")
            await asyncio.sleep(_BETWEEN)

    async def _publish(self) -> None:
        heard: dict[str, list[Delta | Alarm]] = {}
        while self._heard:
            what = self._heard.popleft()
            heard.setdefault(what.monitor, []).append(what)
        lines: list[Line] = []
        for name, found in heard.items():
            lines += [line_of(what) for what in await self._without_gaps(name, found)]
        for line in lines:
            self.boards[line.what.monitor].take(line)
        if lines:
            latest = {line.place: line for line in lines}
            ident = self.ident
            news = News(changes_frame(list(latest.values()), ident), latest, ident)
            for mailbox in self.mailboxes:
                mailbox.put(news)
        for name in heard:
            self._told(name)

    async def _without_gaps(self, name: str, found: list[Delta | Alarm]) -> list[Delta | Alarm]:
        """What was heard, in order; read from the outbox where something was not."""
        last = self.boards[name].seq
        fresh = sorted((what for what in found if what.seq > last), key=lambda what: what.seq)
        whole = [what.seq for what in fresh] == list(range(last + 1, last + 1 + len(fresh)))
        if whole:
            return fresh
        return await self._workers.run(self.monitors[name].changes, last, most=_READ_BACK)

    def _told(self, name: str) -> None:
        if self.pulses[name].batch_seen():
            self._send_status(name)

    # The pulse.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PULSE)
            for name in self.monitors:
                try:
                    if await self._beat(name):
                        self._send_status(name)
                except Exception:  # noqa: BLE001 - the other monitors are asked still
                    _log.exception("the monitor %s could not be asked how it is", name)

    async def _beat(self, name: str) -> bool:
        """Ask a monitor how far it is; whether that is news."""
        pulse = self.pulses[name]
        try:
            overview = await self._workers.run(lambda: self.monitors[name].overview)
        except RainError as problem:
            return pulse.fail(str(problem))
        changed = pulse.take(overview)
        if overview.seq > self.boards[name].seq and self._tasks and not self._heard:
            found = await self._workers.run(
                self.monitors[name].changes, self.boards[name].seq, most=_READ_BACK
            )
            self._heard.extend(found)
            self._wake.set()
        return changed

    def _send_status(self, name: str) -> None:
        status = as_text(self.pulses[name].body(name))
        for mailbox in self.mailboxes:
            mailbox.tell(name, status)

    # Pages.

    @property
    def ident(self) -> str:
        """The id of an event sent now."""
        return ident_of({self._mark(name): board.seq for name, board in self.boards.items()})

    def _mark(self, name: str) -> str:
        """What a monitor is called in an id: one in memory counts anew in the next process."""
        return name if self.pulses[name].stored else f"{name}@{self.boot}"

    def snapshot(self) -> bytes:
        """Everything a new page needs, as one event."""
        monitors = [
            f'{{"status":{as_text(self.pulses[name].body(name))},"changes":['
            + ",".join(line.text for line in board.lines() if not line.is_alarm)
            + '],"alarms":['
            + ",".join(line.text for line in board.lines() if line.is_alarm)
            + "]}"
            for name, board in self.boards.items()
        ]
        return frame("snapshot", f'{{"monitors":[{",".join(monitors)}]}}', self.ident)

    async def join(self, mailbox: Mailbox, last: str | None) -> bytes:
        """Let a page in: what it missed since the event `last`, or everything.

        The mailbox is filled from here on, so nothing falls between the two.
        """
        self.mailboxes.add(mailbox)
        if not last:
            return self.snapshot()
        asked = read_ident(last, [self._mark(name) for name in self.monitors])
        if asked is None:
            return reset_frame("the page comes from another run of the server") + self.snapshot()
        ident, missed = self.ident, list[Line]()
        upto = {name: board.seq for name, board in self.boards.items()}
        for name, seq in upto.items():
            found = await self._missed(name, asked[self._mark(name)], seq)
            if found is None:
                why = f"{name} has said too much since, or has begun anew"
                return reset_frame(why) + self.snapshot()
            missed += found
        status = b"".join(
            frame("status", as_text(pulse.body(name))) for name, pulse in self.pulses.items()
        )
        latest = {line.place: line for line in missed}
        return status + changes_frame(list(latest.values()), ident)

    async def _missed(self, name: str, after: int, upto: int) -> list[Line] | None:
        """Lines of the outbox that a page has not; None where it does not reach back to them."""
        if after > upto or upto - after > _REPLAYED:
            return None
        if after == upto:
            return []
        found = await self._workers.run(self.monitors[name].changes, after, most=upto - after)
        seqs = [what.seq for what in found]
        if seqs != list(range(after + 1, upto + 1)):
            return None
        return [line_of(what) for what in found]

    def leave(self, mailbox: Mailbox) -> None:
        """The page has gone."""
        self.mailboxes.discard(mailbox)
