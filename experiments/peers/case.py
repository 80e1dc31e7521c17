"""What every peer's script reads, times and writes.

CASE.npz, written by `experiments.offline_peers` and `experiments.twenty_complaints`: training rows
and labels, the rows the query counts, the class or classes that each complaint counts, l2, and the
weights and biases of the layers. OUT.npz: the scores of the training rows for the first complaint,
the seconds of every stage that ended, versions, memory at the start and at its peak, and how many
cores worked on it (fewer than its threads on a busy machine).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """One method of a library on one trained model.

    Attributes
    ----------
    data : the arrays of CASE.npz.
    out : where OUT.npz goes.
    method : which of the library's methods.
    settings : its arguments by name.
    """

    data: dict[str, np.ndarray]
    out: Path
    method: str
    settings: dict[str, Any]


def read(arguments: Sequence[str]) -> Call:
    """The call that `CASE.npz OUT.npz METHOD [name=value ...]` describes; values are JSON."""
    case, out, method, *pairs = arguments
    split = [pair.split("=", 1) for pair in pairs]
    with np.load(case) as archive:
        data = {name: archive[name] for name in archive.files}
    return Call(data, Path(out), method, {name: json.loads(value) for name, value in split})


def run(
    call: Call,
    offline: Callable[[Call], Callable[[list[int]], np.ndarray]],
    *,
    libraries: Sequence[str],
) -> None:
    """Time a library on one call and write what it found.

    Every complaint is about the count of other classes: it finds what the library kept from those
    before. It writes over them, so that they are kept if it takes too long.

    Parameters
    ----------
    offline : does what the library does once, and returns the function that answers a complaint
        about the count of some classes: the scores (n,) of the training rows.
    libraries : the distributions whose versions belong to the result.
    """
    versions = np.array([f"{name} {version(name)}" for name in libraries])
    found: dict[str, Any] = {"start_gb": _peak_gb(), "versions": versions}
    start = _clocks()
    answer = offline(call)
    found["offline_seconds"], found["offline_processor"] = _clocks() - start
    spent: list[np.ndarray] = []
    for counted in call.data["counted"]:
        began = _clocks()
        scores = answer(sorted({int(label) for label in np.atleast_1d(counted)}))
        spent.append(_clocks() - began)
        found["complaint_seconds"], found["complaint_processor"] = np.transpose(spent)
        found |= dict(zip(("first_seconds", "second_seconds"), np.array(spent)[:, 0], strict=False))
        found.setdefault("scores", scores)
        found["peak_gb"] = _peak_gb()
        wall, processor = _clocks() - start
        found["cores"] = processor / wall
        unfinished = call.out.with_suffix(".part.npz")
        np.savez(unfinished, **found)
        unfinished.replace(call.out)  # a process that is ended while it writes leaves the old file


def _clocks() -> np.ndarray:
    """Wall and processor time; the second of all threads together."""
    return np.array([time.perf_counter(), time.process_time()])


def _peak_gb() -> float:
    """The most memory this process has held; getrusage would count its parent's before the exec."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 2**20 if found else float("nan")
