"""Results as JSON: what was measured, on what, with which versions and seeds."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

FOLDER = Path(__file__).parent / "results"
_PACKAGES = ("jax", "jaxlib", "numpy", "duckdb", "sqlglot", "flax", "optax", "rainpp")


def environment() -> dict[str, Any]:
    """Device, cores and versions a result depends on."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def save(name: str, *, command: str, settings: dict[str, Any], runs: list[dict[str, Any]]) -> Path:
    """Write one experiment's runs to ``results/<name>.json`` and return the path."""
    FOLDER.mkdir(exist_ok=True)
    body = {
        "experiment": name,
        "command": command,
        "environment": environment(),
        "settings": settings,
        "runs": runs,
    }
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """One experiment's results."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def runs(name: str) -> list[dict[str, Any]]:
    """The runs of one experiment; none where it has no results yet."""
    return load(name)["runs"] if (FOLDER / f"{name}.json").exists() else []


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile of timings, in milliseconds."""
    values = np.array(seconds) * 1e3
    return {
        "p50_ms": round(float(np.median(values)), 3),
        "p95_ms": round(float(np.quantile(values, 0.95)), 3),
    }
