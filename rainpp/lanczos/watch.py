"""What somebody who waits for eigenpairs wants to read."""

from __future__ import annotations

import time

import numpy as np

from rainpp.types import Progress

# Ritz values in a remark.
_SHOWN = 6


def watched(progress: Progress, name: str, rows: int) -> Progress:
    """`progress` for the Lanczos run `name`, with the rows a second that its products look at."""
    began: list[tuple[float, int]] = []

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if not began:
            began.append((now, done))
        since, first = began[0]
        speed = f"{rows * (done - first) / (now - since):,.0f} rows/s; " if done > first else ""
        progress(f"{stage}, {name}", done, total, speed + note)

    return report


def ritz_note(values: np.ndarray, converged: int) -> str:
    """The leading Ritz values, a bar after those that have converged."""
    shown = [f"{value:.3g}" for value in values[:_SHOWN]]
    more = ["…"] if len(values) > _SHOWN else []
    cut = min(converged, len(shown))
    return " ".join([f"{converged} converged:", *shown[:cut], "|", *shown[cut:], *more])
