"""A live page over monitors: standing queries, alarms, and complaints made by brushing.

`serve(create_app([monitor]))` is all there is to it. The web server is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainpp.dashboard.app import create_app
    from rainpp.dashboard.serving import make_server, serve

_HOMES = {
    "create_app": "rainpp.dashboard.app",
    "make_server": "rainpp.dashboard.serving",
    "serve": "rainpp.dashboard.serving",
}

__all__ = ["create_app", "make_server", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rainpp.dashboard' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as problem:
        missing = (problem.name or "").partition(".")[0]
        if missing not in ("starlette", "uvicorn"):
            raise
        from rainpp.errors import RainError

        raise RainError(
            f'the dashboard needs {missing}, which is not installed: pip install "rainpp[serve]"'
        ) from None
