"""One page's stream of server-sent events.

Not `sse-starlette`: importing it replaces a method of uvicorn's server for the whole process, and
it finds out about a shutdown by asking a signal handler twice a second, which sees nothing of a
server in a thread. What is needed here is one loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rainpp.dashboard.feed import Feed
from rainpp.dashboard.mailbox import Mailbox, reset_frame

_log = logging.getLogger("rainpp.dashboard")
_RETRY = b"retry: 2000\n\n"
_BEAT = b": still here\n\n"


class EventStream(Response):
    """Sends what comes to a mailbox until the page goes, reads too slowly, or the server ends."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, last: str | None, *, beat: float, patience: float) -> None:
        """`beat`: seconds of silence before a sign of life. `patience`: for one send."""
        self.feed, self.last, self.beat, self.patience = feed, last, beat, patience
        self.status_code, self.background = 200, None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until there is nobody to send them to."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        mailbox = Mailbox()
        gone = asyncio.create_task(_gone(receive, mailbox))
        try:
            first = await self.feed.join(mailbox, self.last)
            await self._send(send, _RETRY + first)
            while not mailbox.closed:
                await self._send(send, await self._next(mailbox))
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            _log.info("a page did not read for %g s and was cut off", self.patience)
        except OSError:
            pass  # it has gone
        finally:
            self.feed.leave(mailbox)
            gone.cancel()

    async def _next(self, mailbox: Mailbox) -> bytes:
        try:
            async with asyncio.timeout(self.beat):
                await mailbox.ready.wait()
        except TimeoutError:
            return _BEAT
        if mailbox.overrun:
            mailbox.take()
            mailbox.overrun = False
            return reset_frame("the page was too slow") + self.feed.snapshot()
        return mailbox.take()

    async def _send(self, send: Send, body: bytes) -> None:
        if body:
            async with asyncio.timeout(self.patience):
                await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive, mailbox: Mailbox) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    mailbox.close()
