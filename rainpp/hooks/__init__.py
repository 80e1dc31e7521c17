"""Hooks: how what a monitor says leaves the process. Names are loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainpp.hooks.alertmanager import Alertmanager
    from rainpp.hooks.callback import Callback
    from rainpp.hooks.file import File
    from rainpp.hooks.hook import Ack, Drop, Hook, Outcome, Retry, Trial
    from rainpp.hooks.prometheus import exposition
    from rainpp.hooks.schedule import Schedule
    from rainpp.hooks.signing import make_secret, sign, verify
    from rainpp.hooks.telemetry import Telemetry
    from rainpp.hooks.webhook import Webhook

_HOMES = {
    "Ack": "hook",
    "Alertmanager": "alertmanager",
    "Callback": "callback",
    "Drop": "hook",
    "File": "file",
    "Hook": "hook",
    "Outcome": "hook",
    "Retry": "hook",
    "Schedule": "schedule",
    "Telemetry": "telemetry",
    "Trial": "hook",
    "Webhook": "webhook",
    "exposition": "prometheus",
    "make_secret": "signing",
    "sign": "signing",
    "verify": "signing",
}

__all__ = [
    "Ack",
    "Alertmanager",
    "Callback",
    "Drop",
    "File",
    "Hook",
    "Outcome",
    "Retry",
    "Schedule",
    "Telemetry",
    "Trial",
    "Webhook",
    "exposition",
    "make_secret",
    "sign",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rainpp.hooks' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rainpp.hooks.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
