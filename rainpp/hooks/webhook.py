"""Webhooks as Standard Webhooks 1.0.0 wants them: signed, with an id that retries keep."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rainpp.hooks.address import Target
from rainpp.hooks.hook import Event, Outcome, Replay, check_name, check_replay
from rainpp.hooks.payload import message
from rainpp.hooks.post import check_timeout, deliver
from rainpp.hooks.signing import read_secrets, signed
from rainpp.monitoring.context import Context


class Webhook:
    """POSTs every event as signed JSON.

    Parameters
    ----------
    url : http or https. Its host is looked up for each attempt, checked, and connected to.
    secret : "whsec_..." of 24 to 64 bytes in base64; several while one replaces another.
    name : under which its progress is written down; by default made of the URL.
    rows : send inputs and labels of the training rows that are named, too.
    allow_private : send into this machine and this network.
    timeout : seconds for an attempt, all of it.
    replay : "latest" begins with what is said from now on, "all" with everything kept.

    Raises
    ------
    SettingsError : the URL, the secret or an option cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str],
        name: str | None = None,
        rows: bool = False,
        allow_private: bool = False,
        timeout: float = 15.0,
        replay: Replay = "latest",
    ) -> None:
        self.target = Target.of(url, allow_private=allow_private)
        self._keys = read_secrets(secret)
        self.name = check_name(name, default_name("webhook", url, self.target))
        self.rows, self.timeout = bool(rows), check_timeout(timeout)
        self.replay = check_replay(replay)

    def __call__(self, event: Event, context: Context) -> Outcome:
        """Send it once."""
        body = message(event, context, rows=self.rows)
        headers = {
            "Content-Type": "application/json",
            **signed(body, self._keys, event.key),
        }
        return deliver(self.target, body, headers, self.timeout)

    def __repr__(self) -> str:
        return f"Webhook({self.name!r}, {self.target.scheme}://{self.target.host})"


def default_name(kind: str, url: str, target: Target) -> str:
    """A name that is the same after a restart, and does not give a token in the path away."""
    return f"{kind} {target.host} {hashlib.sha256(url.encode()).hexdigest()[:8]}"
