"""What every peer's script reads, times and writes.

CASE.npz, written by `experiments.offline_peers`: training rows and labels, the rows the query
counts, the classes that are counted, l2, and the weights and biases of the layers. OUT.npz: the
scores of the training rows for the first complaint, the seconds of every stage that ended,
versions, the peak of memory, and how many cores worked on it (fewer than its threads on a busy
machine).
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
    offline: Callable[[Call], Callable[[int], np.ndarray]],
    *,
    libraries: Sequence[str],
) -> None:
    """Time a library on one call and write what it found.

    The second complaint is about the count of another class: it finds what the library kept from
    the first one. It writes over the first, so that the first is kept if the second takes too long.

    Parameters
    ----------
    offline : does what the library does once, and returns the function that answers a complaint
        about the count of one class: the scores (n,) of the training rows.
    libraries : the distributions whose versions belong to the result.
    """
    versions = np.array([f"{name} {version(name)}" for name in libraries])
    began, cpu = time.perf_counter(), time.process_time()
    start = began
    answer = offline(call)
    found: dict[str, Any] = {"offline_seconds": time.perf_counter() - began, "versions": versions}
    for stage, counted in zip(("first", "second"), call.data["counted"], strict=True):
        began = time.perf_counter()
        scores = answer(int(counted))
        found[f"{stage}_seconds"] = time.perf_counter() - began
        found.setdefault("scores", scores)
        found["peak_gb"] = _peak_gb()
        found["cores"] = (time.process_time() - cpu) / (time.perf_counter() - start)
        unfinished = call.out.with_suffix(".part.npz")
        np.savez(unfinished, **found)
        unfinished.replace(call.out)  # a process that is ended while it writes leaves the old file


def _peak_gb() -> float:
    """The most memory this process has held; getrusage would count its parent's before the exec."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 2**20 if found else float("nan")
