"""Where a hook may send to: an address outside this network, unless private ones are allowed."""

from __future__ import annotations

import ipaddress
import socket
import threading
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from rainpp.errors import RainError, SettingsError

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unsent(RainError):
    """A message was not delivered, and why."""


@dataclass(frozen=True)
class Target:
    """A URL that was looked at once, when the hook was made.

    Attributes
    ----------
    path : with the query; it may hold a token, so it is not shown.
    """

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    allow_private: bool

    @staticmethod
    def of(url: str, *, allow_private: bool) -> Target:
        """What a URL says, if a hook may send there.

        Raises
        ------
        SettingsError : it is no http or https URL, has a user in it, or leads to a private address.
        """
        parts, port = _split(url)
        host = _host(parts)
        target = Target(parts.scheme, host, port, _path(parts), allow_private)
        if not allow_private and _names_this_machine(host):
            raise SettingsError(
                f"`url` leads to {host}, which is private; pass allow_private=True to send there."
            )
        return target

    def addresses(self, timeout: float) -> list[str]:
        """What its host is called by now; every one of them may be sent to.

        Raises
        ------
        Unsent : the name is not known, does not answer in time, or one of them is private.
        """
        found = [self.host] if _is_address(self.host) else _looked_up(self, timeout)
        if not self.allow_private:
            for address in found:
                if is_private(address):
                    raise Unsent(
                        f"{self.host} is {address}, a private address; allow_private=True lets the "
                        "hook send there."
                    )
        return found


def is_private(address: str) -> bool:
    """Whether it leads into this machine, this network, or nowhere."""
    return not all(map(_is_public, _meant(ipaddress.ip_address(address.partition("%")[0]))))


def _is_public(address: Address) -> bool:
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _meant(address: Address) -> list[Address]:
    """The address, or the one it carries within it: mapped, translated or tunnelled."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _split(url: str) -> tuple[SplitResult, int]:
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`url` is a {type(url).__name__}; give text, 'https://...'.")
    if not url.isascii() or "\\" in url or any(sign <= " " or sign == "\x7f" for sign in url):
        raise SettingsError(
            "`url` has a sign that no URL has: a space, a backslash, or none of ASCII. Write it as "
            "%20 and the like."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise SettingsError(f"`url` is no URL: {problem}.") from None
    if parts.scheme not in _PORTS:
        raise SettingsError(
            f"`url` begins with {parts.scheme or url[:20]!r}; hooks send to http:// and https://."
        )
    if parts.username is not None or parts.password is not None:
        raise SettingsError("`url` has a user or a password in it; leave them out.")
    if parts.fragment:
        raise SettingsError("`url` has a fragment, '#...', which is never sent; leave it out.")
    if port == 0:
        raise SettingsError("`url` has the port 0; leave it out, or give one from 1 to 65535.")
    return parts, port or _PORTS[parts.scheme]


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    if not host or host.startswith(".") or ".." in host or len(host) > 253:
        raise SettingsError(f"`url` names no host; give one, as in {parts.scheme}://example.com/.")
    return host


def _path(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _names_this_machine(host: str) -> bool:
    """Known without asking anybody; other names are looked up when something is sent."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return is_private(host)
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _looked_up(target: Target, timeout: float) -> list[str]:
    """Addresses of a host; the system's resolver knows no timeout, so it is asked in a thread."""
    host, port = target.host, target.port
    found: list[str] = []
    problems: list[str] = []

    def ask() -> None:
        try:
            for _, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append(str(where[0]))
        except (OSError, UnicodeError) as problem:
            problems.append(getattr(problem, "strerror", None) or str(problem))

    asking = threading.Thread(target=ask, daemon=True, name=f"rainpp looks up {host}")
    asking.start()
    asking.join(timeout)
    if asking.is_alive():
        raise Unsent(f"{host} was not found within {timeout:.3g} s.")
    if problems or not found:
        raise Unsent(f"{host} was not found: {', '.join(problems) or 'it has no address'}.")
    return list(dict.fromkeys(found))
