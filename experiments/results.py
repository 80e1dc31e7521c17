"""Results as JSON: what was measured, on what, with which versions and seeds."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.writing import check_folder, write
from rainpp.errors import DataError

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
    """Write one experiment's runs to ``results/<name>.json``, in one step, and return the path.

    Raises
    ------
    SettingsError : the folder cannot be written to.
    """
    body = {
        "experiment": name,
        "command": command,
        "environment": environment(),
        "settings": settings,
        "runs": runs,
    }
    return write(_path(name), (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())


def check_place() -> None:
    """Whether results can be saved: before they are measured.

    Raises
    ------
    SettingsError : they cannot.
    """
    check_folder(FOLDER)


def load(name: str) -> dict[str, Any]:
    """One experiment's results.

    Raises
    ------
    DataError : the file is damaged, or holds something else.
    """
    path = _path(name)
    try:
        body = json.loads(path.read_bytes())
    except (ValueError, OSError) as problem:
        raise _unusable(path, str(problem)) from problem
    found = body.get("runs") if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(isinstance(run, dict) for run in found):
        raise _unusable(path, "a list of `runs` is needed")
    return body


def _path(name: str) -> Path:
    return FOLDER / f"{name}.json"


def _unusable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} does not hold results: {why}. Bring it back (`git checkout -- {path}`), or move "
        "it away, and everything in it is measured anew."
    )


def runs(name: str) -> list[dict[str, Any]]:
    """The runs of one experiment; none where it has no results yet."""
    return load(name)["runs"] if _path(name).exists() else []


def known(name: str, by: str) -> dict[str, dict[str, Any]]:
    """The runs of one experiment by the value that tells them apart.

    Raises
    ------
    DataError : a run has none, as in results of another version.
    """
    found = runs(name)
    if not all(by in run for run in found):
        raise _unusable(_path(name), f"runs with a `{by}` are needed, another version wrote these")
    return {run[by]: run for run in found}


@contextmanager
def joined(name: str, run: dict[str, Any], *, by: str) -> Generator[list[dict[str, Any]]]:
    """All runs to save: `run` in the place of the one with the same `by`, or behind the others.

    Nobody else saves meanwhile, so that of two commands at the same time none undoes the other's.
    """
    with _alone():
        yield list((known(name, by) | {run[by]: run}).values())


def merge(name: str, measured: list[dict[str, Any]], *, command: str, l2: float) -> Path:
    """Save runs in the places of those with the same rate, seed and query, or behind the others.

    Those of another number of training rows go: a page shows them as one case.
    """
    with _alone():
        alike = [run for run in runs(name) if run.get("train_rows") == measured[0]["train_rows"]]
        together = {case(run): run for run in [*alike, *measured]}
        found = list(together.values())
        settings = {f"{key}s": sorted({run[key] for run in found}) for key in ("rate", "seed")}
        return save(name, command=command, settings=settings | {"l2": l2}, runs=found)


def case(run: dict[str, Any]) -> tuple[Any, ...]:
    """What tells runs apart that `merge` saves."""
    return run["rate"], run["seed"], run["query"]


def merged(name: str, cases: Iterable[tuple[Any, ...]], rows: int) -> bool:
    """Whether `merge` has saved all of some cases, of that number of training rows."""
    there = {case(run) for run in runs(name) if run.get("train_rows") == rows}
    return there.issuperset(cases)


@contextmanager
def _alone() -> Generator[None]:
    """Nobody else saves meanwhile."""
    check_place()
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile of timings, in milliseconds."""
    values = np.array(seconds) * 1e3
    return {
        "p50_ms": round(float(np.median(values)), 3),
        "p95_ms": round(float(np.quantile(values, 0.95)), 3),
    }
