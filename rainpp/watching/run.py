"""`rainpp watch` and `rainpp serve`: everything of watch.toml at work, until a signal ends it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rainpp.errors import RainError, SettingsError
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.monitor import Monitor
from rainpp.sources.asides import Asides
from rainpp.sources.running import Running
from rainpp.watching.config import WatchConfig
from rainpp.watching.opening import MakeHook, only, open_monitors, open_sources
from rainpp.watching.server import Server

_log = logging.getLogger(__name__)
_WAIT = 0.2
# Seconds for hooks to be reached before `once` ends.
_PATIENCE = 30.0

Say = Callable[[Alarm], None]


def watch(
    config: WatchConfig,
    say: Say,
    *,
    page: bool = False,
    once: bool = False,
    make_hook: MakeHook | None = None,
) -> None:
    """Watch until SIGTERM or SIGINT; `say` is called with every alarm.

    What is being taken in when the signal comes is finished, and the state closed. The next call
    goes on there.

    Parameters
    ----------
    page : serve the web page, too.
    once : take what the sources have, then end; HTTP is not served.
    make_hook : as for `open_monitors`.

    Raises
    ------
    RainError : something is wrong with the file, a source cannot go on, or (with `once`) stands at
        a file it cannot read.
    """
    if not page and not config.sources:
        raise SettingsError(f"`{config.file}` has no [[source]]: nothing would come.")
    with ExitStack() as opened:
        stop = opened.enter_context(_signals())
        asides = Asides(config.aside)
        monitors = open_monitors(config, make_hook=make_hook)
        for monitor in reversed(monitors):
            opened.callback(monitor.close)
        told = _Told(say, stop)
        for monitor in monitors:
            monitor.on("*", told)
            monitor.on("late", _Late(monitor.spec.name))
        groups = _groups(config, monitors, asides, stop, once=once)
        server = None if once else _server(config, monitors, page=page)
        if server is not None:
            server.start()
            opened.callback(server.stop)
            _log.info("listening at %s", server.url)
        for running in groups:
            running.start()
            opened.callback(running.end)
        _log.info("watching %s", ", ".join(monitor.spec.name for monitor in monitors))
        _wait(groups, server, stop)
        if told.problem is not None:
            raise told.problem
        if once:
            _check_whole(groups)
            _deliver(monitors)


def _groups(
    config: WatchConfig,
    monitors: Sequence[Monitor],
    asides: Asides,
    stop: threading.Event,
    *,
    once: bool,
) -> list[Running]:
    """Sources that feed the same monitors, together."""
    by_names: dict[tuple[str, ...], list[Any]] = {}
    for source, names in open_sources(config):
        by_names.setdefault(tuple(sorted(names)), []).append(source)
    return [
        Running(sources, only(monitors, names), asides=asides, stop=stop, once=once)
        for names, sources in by_names.items()
    ]


def _server(config: WatchConfig, monitors: Sequence[Monitor], *, page: bool) -> Server | None:
    pushed = [part for part in config.sources if part.type == "http"]
    routes: list[Any] = []
    for part in pushed:
        from rainpp.sources.push import push_routes

        options = dict(part.options)
        chosen = only(monitors, options.pop("monitors", [m.spec.name for m in monitors]))
        assert config.server.token is not None  # checked when the file was read
        routes += push_routes(chosen, token=config.server.token, source=part.name, **options)
    if page:
        from rainpp.dashboard import create_app

        return Server(create_app(monitors, token=config.server.token, routes=routes), config.server)
    if not routes:
        return None
    from starlette.applications import Starlette

    from rainpp.watching.metrics import metrics_route

    assert config.server.token is not None  # as above
    routes.append(metrics_route(monitors, config.server.token))
    return Server(Starlette(routes=routes), config.server)


def _wait(groups: Sequence[Running], server: Server | None, stop: threading.Event) -> None:
    """Until a signal, an error, or the end of what there is."""
    once = bool(groups) and all(running.once for running in groups)
    while not stop.wait(_WAIT):
        if once and not any(running.alive for running in groups):
            break
        if server is not None and not server.running:
            stop.set()
            raise RainError(f"the server at {server.url} ended: {server.problem}.")
    stop.set()
    for running in groups:
        running.end()
    for running in groups:
        running.check()


def _check_whole(groups: Sequence[Running]) -> None:
    for running in groups:
        if running.problems:
            raise RainError(f"not all was taken: {running.problems[0]}.")


def _deliver(monitors: Sequence[Monitor]) -> None:
    """Wait for the hooks, which are told in the background; what they miss is told next time."""
    for monitor in monitors:
        if not monitor.drain(_PATIENCE):
            _log.warning("%s: some hooks were not reached yet", monitor.spec.name)


class _Told:
    """Passes alarms on; whoever reads them going away is the end."""

    def __init__(self, say: Say, stop: threading.Event) -> None:
        self._say, self._stop = say, stop
        self._lock = threading.Lock()
        self.problem: BrokenPipeError | None = None

    def __call__(self, about: Alarm, context: Any) -> None:
        del context
        try:
            with self._lock:
                self._say(about)
        except BrokenPipeError as problem:
            self.problem = problem
            self._stop.set()


class _Late:
    """Says how much was not counted."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, set_aside: Sequence[dict[str, Any]], context: None) -> None:
        del context
        reasons = sorted({str(item["reason"]) for item in set_aside})
        _log.warning("%s: %d not counted: %s", self._name, len(set_aside), ", ".join(reasons))


@contextmanager
def _signals() -> Generator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def ask(number: int, frame: Any) -> None:
        del frame
        _log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
