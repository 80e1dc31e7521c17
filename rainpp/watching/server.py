"""A web server in a thread of its own, which is told to stop."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from rainpp.errors import SettingsError
from rainpp.watching.config import ServerConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette

_SECONDS = 10.0
# Streams to browsers never end by themselves.
_GRACE = 3


class Server:
    """Serves an application until it is stopped.

    Raises
    ------
    SettingsError : it would be reachable from other machines without a token, or the address
        cannot be bound.
    """

    def __init__(self, app: Starlette, where: ServerConfig) -> None:
        import uvicorn

        if not where.loopback and where.token is None:
            raise SettingsError(
                f"[server] host is {where.host!r}, which other machines may reach: write token or "
                'token_env, or host = "127.0.0.1".'
            )
        self._socket = _bound(where)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{where.host}:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=_GRACE,
                server_header=False,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self.problem: BaseException | None = None

    def start(self) -> None:
        """Begin to answer.

        Raises
        ------
        SettingsError : the application does not start.
        """
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_SECONDS / 0.02)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.02)
        raise SettingsError(f"the server at {self.url} does not start: {self.problem}.")

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish what is being answered, then end."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_GRACE + _SECONDS)
        self._socket.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as problem:  # noqa: BLE001 - told by `start`
            self.problem = problem


def _bound(where: ServerConfig) -> Any:
    host = where.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, where.port))
    except OSError as problem:
        found.close()
        raise SettingsError(
            f"[server] cannot listen at {where.host}:{where.port}: {problem.strerror or problem}."
        ) from None
    return found
