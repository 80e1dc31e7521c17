"""Files of the page, from a table: no path that comes with a request is ever opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}
FILES = (
    "index.html",
    "login.html",
    "style.css",
    "app.js",
    "alarms.js",
    "card.js",
    "chart.js",
    "complaint.js",
    "element.js",
    "rows.js",
    "series.js",
    "icon.svg",
    "vendor/uPlot.esm.js",
    "vendor/uPlot.min.css",
    "vendor/uPlot.LICENSE",
)
_MESSAGE, _ABOUT = b"<!-- message -->", b"<!-- about -->"
_WRONG = b'<p role="alert">That is not the token.</p>'


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    body: bytes
    kind: str
    tag: str


@cache
def load(name: str) -> File:
    """A file of the table, read once."""
    body = files("rainpp.dashboard").joinpath("static", *name.split("/")).read_bytes()
    return File(body, _KINDS[name.rpartition(".")[2]], _tag(body))


def static_file(name: str, request: Request) -> Response:
    """A file of the page; 304 where the browser has it.

    Raises
    ------
    HTTPException : it is not in the table (404).
    """
    if name not in FILES:
        raise HTTPException(404, "there is no such page.")
    return _answer(load(name), request)


def front_page(about: str, request: Request) -> Response:
    """The page itself, with a sentence above the charts if there is one."""
    found = load("index.html")
    said = f'<p class="about">{escape(about)}</p>' if about else ""
    body = found.body.replace(_ABOUT, said.encode())
    return _answer(File(body, found.kind, _tag(body)), request)


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def _answer(found: File, request: Request) -> Response:
    headers = {"ETag": found.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers={**headers, "Content-Type": found.kind})


def login_page(*, wrong: bool) -> Response:
    """The form that asks for the token."""
    found = load("login.html")
    body = found.body.replace(_MESSAGE, _WRONG if wrong else b"")
    return Response(body, 401 if wrong else 200, headers={"Content-Type": found.kind})
