"""/metrics for Prometheus beside the rows that are pushed, where there is no page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rainpp.errors import RainError, one_line
from rainpp.monitoring.monitor import Monitor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


def metrics_route(monitors: Sequence[Monitor], token: str) -> Route:
    """The address, behind the token: `Authorization: Bearer ...`.

    Raises
    ------
    SettingsError : the token is too short.
    """
    from starlette.responses import JSONResponse
    from starlette.responses import Response as Answer
    from starlette.routing import Route as Address

    from rainpp.dashboard.keyring import Keyring
    from rainpp.hooks import exposition

    keyring, watched = Keyring(token), tuple(monitors)

    def metrics(request: Request) -> Response:  # no coroutine: it is called in a thread
        if not keyring.bearer(request.headers.get("authorization")):
            said = {"error": "show the token: `Authorization: Bearer ...`."}
            return JSONResponse(said, 401, headers={"WWW-Authenticate": "Bearer"})
        try:
            text = exposition(watched)
        except RainError as problem:
            return JSONResponse({"error": one_line(problem)}, 501)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Answer(text, media_type=kind, headers={"Cache-Control": "no-store"})

    return Address("/metrics", metrics)
