"""The token that opens the dashboard, and the cookie a browser gets in exchange for it."""

from __future__ import annotations

import hashlib
import hmac
import time

from rainpp.errors import SettingsError

_SHORTEST = 16
# A browser is asked for the token again after so many seconds.
_LIFETIME = 7 * 86_400


class Keyring:
    """Checks tokens and cookies in constant time; nothing is stored, so restarts lock nobody out.

    A cookie is its end of life and an HMAC of that under the token: the token is not in it.
    """

    def __init__(self, token: str) -> None:
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError("`token` must be printable ASCII text, without line breaks.")
        if len(token) < _SHORTEST:
            raise SettingsError(
                f"`token` has {len(token)} characters; at least {_SHORTEST} are needed. "
                "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self._token = token.encode()
        # Cookies belong to a host, not to a port: two dashboards of one machine need two names.
        self.cookie = f"rainpp_{hashlib.sha256(b'name' + self._token).hexdigest()[:8]}"
        self.lifetime = _LIFETIME

    def opens(self, token: str | None) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest((token or "").encode(errors="replace"), self._token)

    def bearer(self, header: str | None) -> bool:
        """Whether an Authorization header carries the token."""
        kind, _, token = (header or "").partition(" ")
        return kind.lower() == "bearer" and self.opens(token.strip())

    def issue(self) -> str:
        """A cookie that `admits`."""
        until = str(int(time.time()) + _LIFETIME)
        return f"{until}.{self._sign(until)}"

    def admits(self, cookie: str | None) -> bool:
        """Whether a cookie was issued for this token, and still holds."""
        until, _, signature = (cookie or "").partition(".")
        genuine = hmac.compare_digest(
            signature.encode(errors="replace"), self._sign(until).encode()
        )
        return genuine and until.isdigit() and int(until) > time.time()

    def _sign(self, until: str) -> str:
        text = f"rainpp dashboard {until}".encode(errors="replace")
        return hmac.new(self._token, text, hashlib.sha256).hexdigest()
