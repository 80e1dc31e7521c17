"""Complaint-driven debugging of training data: from a wrong number in SQL to the rows behind it.

Names are loaded on first use, so that ``import rainpp`` and ``rainpp --help`` do not pay for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainpp import (
        buckets,
        dashboard,
        errors,
        hooks,
        metrics,
        report,
        sources,
        spark,
        windows,
    )
    from rainpp.adapters.checkpoint import load_checkpoint, save_checkpoint
    from rainpp.additions import Additions
    from rainpp.complaint import Complaint
    from rainpp.database import Database, connect
    from rainpp.errors import RainError, RainWarning
    from rainpp.fix import Fix
    from rainpp.handoff import SavedComplaint, read_complaint, users_half
    from rainpp.index.artifact import Index, load
    from rainpp.index.build import precompute
    from rainpp.index.estimate import estimate
    from rainpp.intervention import Delete, Relabel, Replace
    from rainpp.label_noise import label_probabilities
    from rainpp.model import Model
    from rainpp.monitoring.alarm import Alarm
    from rainpp.monitoring.delta import Delta
    from rainpp.monitoring.monitor import Monitor
    from rainpp.monitoring.opening import monitor
    from rainpp.patch import Patch, read_patch
    from rainpp.ranking import Ranking
    from rainpp.repair import RepairInterrupted, RepairLoop, repair_loop
    from rainpp.verification import Verification, verify

__version__ = "0.1.0"

_HOMES = {
    "Additions": "rainpp.additions",
    "Alarm": "rainpp.monitoring.alarm",
    "Complaint": "rainpp.complaint",
    "Database": "rainpp.database",
    "Delete": "rainpp.intervention",
    "Delta": "rainpp.monitoring.delta",
    "Fix": "rainpp.fix",
    "Index": "rainpp.index.artifact",
    "Model": "rainpp.model",
    "Monitor": "rainpp.monitoring.monitor",
    "Patch": "rainpp.patch",
    "RainError": "rainpp.errors",
    "RainWarning": "rainpp.errors",
    "Ranking": "rainpp.ranking",
    "Relabel": "rainpp.intervention",
    "RepairInterrupted": "rainpp.repair",
    "RepairLoop": "rainpp.repair",
    "Replace": "rainpp.intervention",
    "SavedComplaint": "rainpp.handoff",
    "Verification": "rainpp.verification",
    "connect": "rainpp.database",
    "estimate": "rainpp.index.estimate",
    "label_probabilities": "rainpp.label_noise",
    "load": "rainpp.index.artifact",
    "load_checkpoint": "rainpp.adapters.checkpoint",
    "monitor": "rainpp.monitoring.opening",
    "precompute": "rainpp.index.build",
    "read_complaint": "rainpp.handoff",
    "read_patch": "rainpp.patch",
    "repair_loop": "rainpp.repair",
    "save_checkpoint": "rainpp.adapters.checkpoint",
    "users_half": "rainpp.handoff",
    "verify": "rainpp.verification",
}
_ROOMS = (
    "buckets",
    "dashboard",
    "errors",
    "hooks",
    "metrics",
    "report",
    "sources",
    "spark",
    "windows",
)

__all__ = [
    "Additions",
    "Alarm",
    "Complaint",
    "Database",
    "Delete",
    "Delta",
    "Fix",
    "Index",
    "Model",
    "Monitor",
    "Patch",
    "RainError",
    "RainWarning",
    "Ranking",
    "Relabel",
    "RepairInterrupted",
    "RepairLoop",
    "Replace",
    "SavedComplaint",
    "Verification",
    "buckets",
    "connect",
    "dashboard",
    "errors",
    "estimate",
    "hooks",
    "label_probabilities",
    "load",
    "load_checkpoint",
    "metrics",
    "monitor",
    "precompute",
    "read_complaint",
    "read_patch",
    "repair_loop",
    "report",
    "save_checkpoint",
    "sources",
    "spark",
    "users_half",
    "verify",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"rainpp.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'rainpp' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
