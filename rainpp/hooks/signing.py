"""Signatures of Standard Webhooks 1.0.0: made by whoever sends, checked by whoever receives."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets as randomness
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rainpp.errors import SettingsError, SignatureError

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_ID, _TIME, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


def make_secret() -> str:
    """A new secret of 32 random bytes, as both sides write it down."""
    return _PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def read_secrets(secret: str | Sequence[str]) -> tuple[bytes, ...]:
    """The keys behind one secret, or behind several while one replaces another.

    Raises
    ------
    SettingsError : there is none, or one is no base64 of 24 to 64 bytes. It is not shown.
    """
    given = list(secret) if isinstance(secret, list | tuple) else [secret]
    if not given:
        raise SettingsError(f"`secret` is empty; give 'whsec_...'. {_HOW}")
    return tuple(map(_read_secret, given))


_HOW = "rainpp.hooks.make_secret() makes one."


def _read_secret(secret: object) -> bytes:
    if not isinstance(secret, str):
        raise SettingsError(f"`secret` is a {type(secret).__name__}; give text, 'whsec_...'.")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"`secret` is no base64 after 'whsec_'. {_HOW}") from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise SettingsError(
            f"`secret` has {len(key)} bytes; Standard Webhooks wants {_SHORTEST} to {_LONGEST}. "
            f"{_HOW}"
        )
    return key


def sign(
    body: bytes, secret: str | Sequence[str], *, key: str, timestamp: int | None = None
) -> dict[str, str]:
    """The three headers of a message.

    Parameters
    ----------
    secret : or several: any one of them verifies the message.
    key : the same for every attempt to deliver the message.
    timestamp : of the attempt, in seconds since 1970; now by default.
    """
    return signed(body, read_secrets(secret), key, timestamp)


def signed(
    body: bytes, keys: Sequence[bytes], key: str, timestamp: int | None = None
) -> dict[str, str]:
    """As `sign`, with secrets that were read before."""
    at = int(time.time() if timestamp is None else timestamp)
    texts = [_signature(secret, key, at, body) for secret in keys]
    return {_ID: key, _TIME: str(at), _SIGNATURE: " ".join(texts)}


def verify(
    headers: Mapping[str, str],
    body: bytes | str,
    secrets: str | Sequence[str],
    *,
    tolerance: float = 300,
    now: float | None = None,
) -> dict[str, Any]:
    """The message, once it is known who sent it and that it is not an old one.

    Parameters
    ----------
    headers : of the request, in whatever case.
    body : as it came, not as JSON that was parsed and written again.
    tolerance : seconds by which the two clocks may differ, the time on the way included.

    Raises
    ------
    SignatureError : a header is missing, no signature fits, it is too old or from the future, or it
        is no JSON object.
    SettingsError : a secret is none.
    """
    keys, raw = read_secrets(secrets), body.encode() if isinstance(body, str) else body
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (_ID, _TIME, _SIGNATURE) if not given.get(name)]
    if missing:
        raise SignatureError(f"the message has no header `{missing[0]}`; it is refused.")
    at = _timestamp(given[_TIME], tolerance, time.time() if now is None else now)
    expected = [_signature(key, given[_ID], at, raw).encode() for key in keys]
    found = [part.encode() for part in given[_SIGNATURE].split()]
    # No `any` that stops early: the time must not tell which of them fits.
    fits = [hmac.compare_digest(one, other) for one in expected for other in found]
    if not sum(fits):
        raise SignatureError(
            "no signature of the message fits `secrets`: it was changed on the way, or signed with "
            "another secret."
        )
    return _message(raw)


def _signature(secret: bytes, key: str, at: int, body: bytes) -> str:
    text = f"{key}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, text, hashlib.sha256)).decode()


def _timestamp(text: str, tolerance: float, now: float) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise SignatureError(f"`{_TIME}` is {text[:40]!r}; it must be seconds since 1970.")
    off = now - int(text)
    if abs(off) > tolerance:
        where = f"{off:.0f} s old" if off > 0 else f"{-off:.0f} s ahead of this clock"
        raise SignatureError(
            f"the message is {where}; at most {tolerance:g} s are accepted. It is an old one sent "
            "again, or one of the two clocks is wrong."
        )
    return int(text)


def _message(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        raise SignatureError("the message is signed, but it is no JSON.") from None
    if not isinstance(found, dict):
        raise SignatureError("the message is signed, but it is no JSON object.")
    return found
