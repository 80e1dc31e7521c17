"""Running the dashboard: uvicorn, on this machine unless a token is set, ended cleanly."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from rainpp.errors import SettingsError

# Connections, pages among them; and seconds in which open requests may end.
_MOST_CONNECTIONS, _GRACE = 512, 5
# Ticks of uvicorn, ten a second, between looks at connections that will not close.
_EVERY = 50


class Server(uvicorn.Server):
    """A uvicorn server that ends its streams first, and leaves signals as it found them."""

    def __init__(self, app: Starlette, config: uvicorn.Config, bound: socket.socket) -> None:
        super().__init__(config)
        self.app, self.bound = app, bound
        self._closing: set[Any] = set()

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.bound.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def run_until_stopped(self) -> None:
        """Serve until `stop`, SIGINT or SIGTERM."""
        self.run(sockets=[self.bound])

    def stop(self) -> None:
        """End soon; may be called in any thread."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams never end by themselves: they are closed before connections are waited for."""
        feed = getattr(self.app.state, "feed", None)
        if feed is not None:
            feed.close()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Also drop connections whose other side reads nothing: closing waits for it for ever."""
        if counter % _EVERY == 0:
            there = {
                connection.transport
                for connection in self.server_state.connections
                if getattr(connection, "transport", None) is not None
                and connection.transport.is_closing()
            }
            for transport in there & self._closing:
                transport.abort()
            self._closing = there
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """SIGINT and SIGTERM end the server, and it returns; uvicorn would raise them again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._signalled)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.force_exit = self.should_exit
        self.should_exit = True


def make_server(app: Starlette, *, host: str = "127.0.0.1", port: int = 8765) -> Server:
    """A server that is bound, and not yet running: `run_until_stopped()`.

    Raises
    ------
    SettingsError : as `serve`.
    """
    if not _is_loopback(host) and not getattr(app.state, "locked", False):
        raise SettingsError(
            f"`host` is {host!r}, which others can reach: give create_app a token, or serve on "
            "127.0.0.1."
        )
    return Server(app, configuration(app), _bound(host, port))


def configuration(app: Starlette, *, grace: int = _GRACE) -> uvicorn.Config:
    """How uvicorn is run: bounded, silent, believing no header that names another sender."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=grace,
        lifespan="on",
        ws="none",
        proxy_headers=False,
    )


def serve(
    app: Starlette,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until SIGINT or SIGTERM, then return.

    Parameters
    ----------
    host : by default only this machine can reach it; anything else needs a token.
    port : 0 for any that is free.
    ready : called with the address once it is bound.

    Raises
    ------
    SettingsError : the host needs a token, or the address cannot be used.
    """
    server = make_server(app, host=host, port=port)
    if ready is not None:
        ready(server.url)
    try:
        server.run_until_stopped()
    finally:
        server.bound.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: Any) -> socket.socket:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536:
        raise SettingsError(f"`port` is {port!r}; it must be a number from 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise SettingsError(f"`host` is {host!r}, which is no address: {problem}.") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as problem:
        found.close()
        raise SettingsError(
            f"cannot serve on {host} port {port}: {problem.strerror or problem}. Choose another "
            "port."
        ) from None
    return found
