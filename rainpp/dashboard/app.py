"""The dashboard as a Starlette application: addresses, and one library call behind each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from rainpp.dashboard.bodies import read_body, read_json
from rainpp.dashboard.desk import Desk
from rainpp.dashboard.events import EventStream
from rainpp.dashboard.feed import Feed
from rainpp.dashboard.guard import LOOPBACK, Guard, Lock, admitted, refusal
from rainpp.dashboard.keyring import Keyring
from rainpp.dashboard.pages import front_page, login_page, static_file
from rainpp.dashboard.pictures import Shape
from rainpp.dashboard.shown import alarm_body, change_body
from rainpp.dashboard.workers import Workers
from rainpp.errors import RainError, SettingsError, one_line
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.monitor import Monitor

_log = logging.getLogger("rainpp.dashboard")
_MOST_PAGES, _MOST_LINES = 200, 5_000
# A wrong token is answered this much later.
_PENALTY = 0.5
_BUSY = 30.0


def create_app(
    monitors: Sequence[Monitor],
    *,
    token: str | None = None,
    routes: Sequence[BaseRoute] = (),
    allowed_hosts: Sequence[str] | None = None,
    stale_after: float | None = None,
    pictures: Mapping[str, Shape] | None = None,
    about: str = "",
    heartbeat: float = 15.0,
    patience: float = 10.0,
) -> Starlette:
    """The live page over monitors, as an ASGI application; run it with `serve`.

    Parameters
    ----------
    token : what opens it; without one it answers for this machine only.
    routes : more addresses, such as those rows are pushed to. They are not behind `token`.
    allowed_hosts : names it may be asked by; those of this machine where there is no token, any
        where there is one.
    stale_after : seconds without a batch after which a query is called stale; by default five times
        what is usual, at least 30.
    pictures : (height, width) or (height, width, channels) of a training row, by monitor, where
        that cannot be seen from the array.
    about : a sentence above the charts.
    heartbeat : seconds of silence after which a stream shows that it is alive.
    patience : seconds that a page may take to read; then it is cut off, and may come back.

    Raises
    ------
    SettingsError : two monitors have one name, or an option is wrong.
    """
    keyring = None if token is None else Keyring(token)
    hosts = allowed_hosts if allowed_hosts is not None else (LOOPBACK if token is None else None)
    workers = Workers()
    feed = Feed(_checked(monitors), workers)
    for pulse in feed.pulses.values():
        pulse.quiet_after = stale_after
    desk = Desk(feed, pictures or {})
    handlers = _Handlers(
        feed, desk, workers, keyring, about=about, beat=heartbeat, patience=patience
    )

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncGenerator[None]:
        del app
        await feed.start()
        try:
            yield
        finally:
            await feed.stop()

    own = Mount("/", routes=handlers.routes(), middleware=[Middleware(Lock, keyring=keyring)])
    app = Starlette(
        routes=[*routes, own],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={
            RainError: _rain_error,
            HTTPException: _http_error,
            Exception: _any_error,
        },
        lifespan=life,
    )
    app.state.feed, app.state.locked = feed, keyring is not None
    return app


class _Handlers:
    """What each address does; anything that may wait runs in a thread."""

    def __init__(
        self,
        feed: Feed,
        desk: Desk,
        workers: Workers,
        keyring: Keyring | None,
        *,
        about: str,
        beat: float,
        patience: float,
    ) -> None:
        self.feed, self.desk, self.workers, self.keyring = feed, desk, workers, keyring
        self.about, self.beat, self.patience = about, beat, patience

    def routes(self) -> list[Route]:
        """Addresses of the page and of its JSON."""
        return [
            Route("/", self.page),
            Route("/static/{name:path}", self.static),
            Route("/login", self.sign_in, methods=["GET", "POST"]),
            Route("/logout", self.sign_out, methods=["POST"]),
            Route("/stream", self.stream),
            Route("/metrics", self.metrics),
            Route("/api/monitors", self.monitors),
            Route("/api/monitors/{monitor}", self.monitor),
            Route("/api/monitors/{monitor}/changes", self.changes),
            Route("/api/complaints", self.complain, methods=["POST"]),
            Route("/api/complaints/{id}/coverage", self.coverage),
            Route("/api/complaints/{id}/rules", self.rules),
            Route("/api/complaints/{id}/fix", self.fix),
            Route("/api/complaints/{id}/patch", self.patch),
        ]

    async def page(self, request: Request) -> Response:
        """The page; a token that is no longer needed is taken out of the address."""
        if "token" in request.query_params:
            return RedirectResponse("/", 303)
        return front_page(self.about, request)

    async def static(self, request: Request) -> Response:
        """A file of the page."""
        return static_file(request.path_params["name"], request)

    async def sign_in(self, request: Request) -> Response:
        """A form for the token, and its answer."""
        if self.keyring is None:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return login_page(wrong="wrong" in request.query_params)
        form = parse_qs((await read_body(request, 4096)).decode("ascii", "replace"))
        if self.keyring.opens(form.get("token", [""])[0]):
            return admitted(self.keyring, request)
        await asyncio.sleep(_PENALTY)
        return login_page(wrong=True)

    async def sign_out(self, request: Request) -> Response:
        """The cookie is taken back."""
        del request
        found = RedirectResponse("/", 303)
        if self.keyring is not None:
            found.delete_cookie(self.keyring.cookie)
        return found

    async def stream(self, request: Request) -> Response:
        """Server-sent events: a snapshot or what was missed, then changes as they are committed."""
        if not self.feed.open:
            return refusal(503, "the server is shutting down.")
        if len(self.feed.mailboxes) >= _MOST_PAGES:
            return refusal(503, f"{_MOST_PAGES} pages are open already.")
        last = request.headers.get("last-event-id")
        return EventStream(self.feed, last, beat=self.beat, patience=self.patience)

    async def metrics(self, request: Request) -> Response:
        """Gauges for Prometheus."""
        del request
        try:
            from rainpp.hooks import exposition
        except ImportError:
            return refusal(501, "this server has no metrics: the hooks are not installed.")
        text = await self._run(exposition, list(self.feed.monitors.values()))
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def monitors(self, request: Request) -> Response:
        """How each monitor is."""
        del request
        bodies = [pulse.body(name) for name, pulse in self.feed.pulses.items()]
        return JSONResponse({"monitors": bodies})

    async def monitor(self, request: Request) -> Response:
        """How one monitor is, and how its query is kept up to date."""
        name, monitor = self._named(request)
        plan = await self._run(monitor.plan)
        return JSONResponse({**self.feed.pulses[name].body(name), "plan": plan})

    async def changes(self, request: Request) -> Response:
        """Lines of the outbox after a sequence number."""
        _, monitor = self._named(request)
        after = _number(request, "after", -1, least=-1)
        most = _number(request, "most", 1000, least=1, largest=_MOST_LINES)
        found = await self._run(monitor.changes, after, most=most)
        return JSONResponse(
            {
                "changes": [change_body(what) for what in found if not isinstance(what, Alarm)],
                "alarms": [alarm_body(what) for what in found if isinstance(what, Alarm)],
                "upto": found[-1].seq if found else after,
            }
        )

    async def complain(self, request: Request) -> Response:
        """A complaint, ranked."""
        return JSONResponse(await self._run(self.desk.complain, await read_json(request)))

    async def coverage(self, request: Request) -> Response:
        """How much of the complaint the index captures."""
        return JSONResponse(await self._run(self.desk.coverage, request.path_params["id"]))

    async def rules(self, request: Request) -> Response:
        """What the top rows have in common."""
        return JSONResponse(await self._run(self.desk.rules, request.path_params["id"]))

    async def fix(self, request: Request) -> Response:
        """How many rows of the ranking are predicted to do."""
        return JSONResponse(await self._run(self.desk.fix, request.path_params["id"]))

    async def patch(self, request: Request) -> Response:
        """The top rows, of one kind or of all, as a file to review."""
        rows = _number(request, "rows", 20, least=1)
        form = request.query_params.get("form", "parquet")
        kind = request.query_params.get("kind", "all")
        body, name = await self._run(
            self.desk.patch, request.path_params["id"], rows, form, kind=kind
        )
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type="application/octet-stream", headers=headers)

    def _named(self, request: Request) -> tuple[str, Monitor]:
        name = request.path_params["monitor"]
        if name not in self.feed.monitors:
            known = ", ".join(self.feed.monitors)
            raise HTTPException(404, f"there is no monitor {name[:100]!r}; known: {known}.")
        return name, self.feed.monitors[name]

    async def _run(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            async with asyncio.timeout(_BUSY):
                return await self.workers.run(call, *args, **options)
        except TimeoutError:
            why = f"the monitor did not answer in {_BUSY:g} s; it is busy. Try again."
            raise HTTPException(503, why) from None


def _checked(monitors: Any) -> list[Monitor]:
    found: list[Any] = [monitors] if isinstance(monitors, Monitor) else list(monitors)
    for item in found:
        if not isinstance(item, Monitor):
            raise SettingsError(
                f"`monitors` holds a {type(item).__name__}; give what rainpp.monitor returns."
            )
    if not found:
        raise SettingsError("`monitors` is empty; give at least one rainpp.monitor(...).")
    return found


def _number(
    request: Request, name: str, default: int, *, least: int, largest: int = 2**63 - 1
) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        found = int(text) if len(text) < 20 else largest + 1
    except ValueError:
        found = least - 1
    if not least <= found <= largest:
        raise HTTPException(
            400, f"`{name}` is {text[:100]!r}; give a whole number from {least} to {largest}."
        )
    return found


async def _rain_error(request: Request, problem: Exception) -> Response:
    del request
    return refusal(400, one_line(problem))


async def _http_error(request: Request, problem: Exception) -> Response:
    del request
    assert isinstance(problem, HTTPException)
    found = refusal(problem.status_code, problem.detail)
    found.headers.update(problem.headers or {})
    return found


async def _any_error(request: Request, problem: Exception) -> Response:
    """The cause goes to the server's log, not to whoever asked."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=problem)
    return refusal(500, "something went wrong in the server; its log says what.")
