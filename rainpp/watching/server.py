"""A web server in a thread of its own, which is told to stop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rainpp.errors import SettingsError
from rainpp.watching.config import ServerConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette

_SECONDS = 10.0


class Server:
    """Serves an application until it is stopped.

    Raises
    ------
    SettingsError : it would be reachable from other machines without a token, or the address
        cannot be bound.
    """

    def __init__(self, app: Starlette, where: ServerConfig) -> None:
        from rainpp.dashboard import make_server

        if not where.loopback and where.token is None:
            raise SettingsError(
                f"[server] host is {where.host!r}, which other machines may reach: write token or "
                'token_env, or host = "127.0.0.1".'
            )
        app.state.locked = where.token is not None
        try:
            self._server = make_server(app, host=where.host.strip("[]"), port=where.port)
        except SettingsError as problem:
            raise SettingsError(f"[server] {problem}") from None
        self.url = self._server.url.rstrip("/")
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self.problem: BaseException | None = None

    @property
    def port(self) -> int:
        """Where it listens; one that is free if the file says 0."""
        return int(self._server.bound.getsockname()[1])

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
        self._server.stop()
        if self._thread.ident is not None:
            self._thread.join(2 * _SECONDS)
        self._server.bound.close()

    def _serve(self) -> None:
        try:
            self._server.run_until_stopped()
        except BaseException as problem:  # noqa: BLE001 - told by `start`
            self.problem = problem
