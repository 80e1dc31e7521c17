"""One POST: to an address that was checked, in bounded time, and to nowhere else."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from rainpp.errors import SettingsError, named
from rainpp.hooks.address import Target, Unsent
from rainpp.hooks.hook import Ack, Drop, Outcome, Retry

# Of an answer; more is not read.
_MOST_READ = 4096
_LONGEST_TIMEOUT = 60.0
# Standard Webhooks: these say that it is too much, and may say for how long.
_THROTTLED = (429, 502, 503, 504)
_GONE = 410


@dataclass(frozen=True)
class Answer:
    """What a receiver said."""

    status: int
    retry_after: str | None
    text: str


def check_timeout(timeout: float) -> float:
    """The same, if it is one.

    Raises
    ------
    SettingsError : it is no number of seconds that a hook may wait for.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`timeout` is {timeout!r}; give seconds.")
    if not 0 < timeout <= _LONGEST_TIMEOUT:
        raise SettingsError(f"`timeout` is {timeout!r}; give more than 0 and at most 60 seconds.")
    return float(timeout)


def deliver(target: Target, body: bytes, headers: Mapping[str, str], timeout: float) -> Outcome:
    """Send it once; what came of it.

    Only 2xx is a success. A redirect is none and is not followed: where it leads was not checked.
    """
    try:
        answer = post(target, body, headers, timeout)
    except Unsent as problem:
        return Retry(why=str(problem))
    return outcome_of(answer, target.host)


def outcome_of(answer: Answer, host: str) -> Outcome:
    """What an answer means."""
    if 200 <= answer.status < 300:
        return Ack()
    why = f"{host} answered {answer.status}"
    if answer.status == _GONE:
        return Drop(f"{why}: it wants no event any more", disable=True)
    if 300 <= answer.status < 400:
        return Retry(why=f"{why}: a redirect, which is not followed")
    if answer.text:
        why += f": {answer.text}"
    after = retry_after(answer.retry_after)
    return Retry(after, why, whole=after is not None and answer.status in _THROTTLED)


def retry_after(text: str | None) -> float | None:
    """Seconds that a header asks to wait; None if it says nothing that can be read."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def post(target: Target, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
    """The answer to a POST.

    Raises
    ------
    Unsent : nobody is there, the address is private, or there was no whole answer in time.
    """
    deadline = time.monotonic() + timeout
    addresses = target.addresses(timeout)
    connection = _Connection(target, addresses, deadline)
    # Every read has a timeout, but a receiver may send a byte a second: the watch ends that.
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), connection.cut)
    watch.daemon = True
    watch.start()
    try:
        connection.request("POST", target.path, body, {"User-Agent": "rainpp", **headers})
        return _read(connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        late = connection.was_cut or isinstance(problem, TimeoutError)
        why = f"no whole answer within {timeout:g} s" if late else named(problem)
        raise Unsent(f"{target.host}: {why}.") from None
    finally:
        watch.cancel()
        connection.close()


def _read(response: http.client.HTTPResponse) -> Answer:
    text = response.read(_MOST_READ)
    if len(text) < _MOST_READ and response.length:
        raise http.client.IncompleteRead(text, response.length)
    said = " ".join(text[:200].decode(errors="replace").split())
    return Answer(response.status, response.getheader("retry-after"), said)


class _Connection(http.client.HTTPConnection):
    """A connection to addresses found before, under the name of the host.

    With TLS the certificate must be the host's. Proxies of the environment are not asked.
    """

    def __init__(self, target: Target, addresses: Sequence[str], deadline: float) -> None:
        super().__init__(target.host, target.port)
        self.default_port = {"http": 80, "https": 443}[target.scheme]
        self._secure, self._addresses = target.scheme == "https", addresses
        self._deadline, self.was_cut = deadline, False
        # `sock` is forgotten while the last answer of a connection is still being read.
        self._held: socket.socket | None = None

    def connect(self) -> None:
        """Connect to the first address that answers."""
        self.sock = self._held = self._opened()
        if self._secure:
            secured = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock = self._held = secured
            secured.do_handshake()

    def cut(self) -> None:
        """End whatever is waited for, from another thread."""
        self.was_cut = True
        if self._held is not None:
            with suppress(OSError):
                # Not the method of SSLSocket, which forgets TLS while the other thread reads.
                socket.socket.shutdown(self._held, socket.SHUT_RDWR)

    def _opened(self) -> socket.socket:
        problems: list[OSError] = []
        for address in self._addresses:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                opened = socket.create_connection((address, self.port), timeout=left)
            except OSError as problem:
                problems.append(problem)
                continue
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        raise problems[0]
