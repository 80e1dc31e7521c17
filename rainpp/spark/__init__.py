"""Monitors fed by PySpark Structured Streaming: rows are counted where they are.

Importing this loads neither Spark nor JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainpp.spark.following import Following, follow

__all__ = ["Following", "follow"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("rainpp.spark.following"), name)
    raise AttributeError(f"module 'rainpp.spark' has no attribute {name!r}")
