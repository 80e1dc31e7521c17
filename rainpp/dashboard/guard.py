"""What stands before every request: whom it may come from, and what an answer may do."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rainpp.dashboard.keyring import Keyring

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Scripts, styles and data come from here alone, none of them inline; nothing may frame the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer" a browser hides from us that a form came from our own page.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_READS = ("GET", "HEAD")


def refusal(status: int, why: str) -> JSONResponse:
    """An error in one clear line."""
    return JSONResponse({"error": why}, status)


class Guard:
    """Refuses foreign hosts and foreign pages, and sets the headers of every answer.

    A page of another site can make a browser send requests here: by a name that resolves to this
    machine (so the Host header must be one of `hosts`; None allows any), or straight across (so
    whatever changes something must come from our own page, or from no browser).
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self.app, self.hosts = app, None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            refused = self._refused(scope)
            await (refused or self.app)(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        if len(named) != 1:
            return refusal(400, "the request must have one Host header.")
        if self.hosts is not None and _hostname(named[0]) not in self.hosts:
            return refusal(
                421,
                f"this server does not answer for the host {named[0][:100]!r}; it answers for "
                f"{', '.join(sorted(self.hosts))}. Name others with allowed_hosts=[...].",
            )
        if scope["method"] not in _READS and not _from_here(headers, named[0]):
            return refusal(403, "the request comes from a page of another site.")
        return None


class Lock:
    """Lets in whoever has the token or its cookie; everybody where there is no token."""

    # Without these nobody could sign in.
    OPEN = ("/login", "/static/style.css", "/static/icon.svg")

    def __init__(self, app: ASGIApp, keyring: Keyring | None) -> None:
        self.app, self.keyring = app, keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or show it the door."""
        if scope["type"] != "http" or self.keyring is None or scope["path"] in self.OPEN:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if self._admits(self.keyring, request):
            await self.app(scope, receive, send)
            return
        await self._away(self.keyring, request)(scope, receive, send)

    @staticmethod
    def _admits(keyring: Keyring, request: Request) -> bool:
        header = request.headers.get("authorization")
        if header is not None:
            return keyring.bearer(header)
        return keyring.admits(request.cookies.get(keyring.cookie))

    @staticmethod
    def _away(keyring: Keyring, request: Request) -> Response:
        token = request.query_params.get("token")
        if request.url.path == "/" and request.method in _READS and token is not None:
            if keyring.opens(token):
                return admitted(keyring, request)
            return RedirectResponse("/login?wrong", 303)
        if request.url.path == "/":
            return RedirectResponse("/login", 303)
        found = refusal(
            401,
            "a token is needed: the header `Authorization: Bearer TOKEN`, or sign in at /login.",
        )
        found.headers["WWW-Authenticate"] = "Bearer"
        return found


def admitted(keyring: Keyring, request: Request) -> Response:
    """To the page, with a cookie that scripts cannot read and other sites cannot use."""
    found = RedirectResponse("/", 303)
    found.set_cookie(
        keyring.cookie,
        keyring.issue(),
        max_age=keyring.lifetime,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return found


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _from_here(headers: Headers, host: str) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:  # no browser leaves it out of what changes something
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
