"""Where rows come from: directories, Kafka, HTTP and Python, each taken in exactly once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainpp.sources.asides import Aside, Asides
    from rainpp.sources.directory import Directory
    from rainpp.sources.feed import Feed
    from rainpp.sources.kafka import Kafka
    from rainpp.sources.parcel import Chunk, Parcel, Source
    from rainpp.sources.push import push_routes
    from rainpp.sources.running import run

_HOMES = {
    "Aside": "rainpp.sources.asides",
    "Asides": "rainpp.sources.asides",
    "Chunk": "rainpp.sources.parcel",
    "Directory": "rainpp.sources.directory",
    "Feed": "rainpp.sources.feed",
    "Kafka": "rainpp.sources.kafka",
    "Parcel": "rainpp.sources.parcel",
    "Source": "rainpp.sources.parcel",
    "push_routes": "rainpp.sources.push",
    "run": "rainpp.sources.running",
}

__all__ = [
    "Aside",
    "Asides",
    "Chunk",
    "Directory",
    "Feed",
    "Kafka",
    "Parcel",
    "Source",
    "push_routes",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rainpp.sources' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
