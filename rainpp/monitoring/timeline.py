"""How far event time has come: the watermark, and rows that are too late or from the future."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Clock = Callable[[], float]


@dataclass(eq=False)
class Timeline:
    """Watermark = the least over the sources of (latest event time - lateness).

    A source that has sent nothing for `idle` microseconds of the machine's clock is left out, so
    that it does not hold the others back.

    Attributes
    ----------
    lateness, retention, ahead, idle : microseconds.
    latest : per source, the latest event time.
    """

    lateness: int
    retention: int
    ahead: int
    idle: int
    clock: Clock = time.time
    latest: dict[str, int] = field(default_factory=dict[str, int])
    _seen: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def watermark(self) -> int | None:
        """No row older than this is expected; None before the first row."""
        now = self.clock()
        active = [
            at
            for source, at in self.latest.items()
            if (now - self._seen.get(source, now)) * 1e6 <= self.idle
        ]
        known = active or list(self.latest.values())
        return min(known) - self.lateness if known else None

    @property
    def horizon(self) -> int | None:
        """Rows older than this are not counted any more, and are forgotten."""
        mark = self.watermark
        return None if mark is None else mark - self.retention

    def too_old(self, times: Times) -> NDArray[np.bool_]:
        """Rows beyond retention."""
        horizon = self.horizon
        return np.zeros(len(times), bool) if horizon is None else times < horizon

    def from_the_future(self, times: Times) -> NDArray[np.bool_]:
        """Rows further ahead of the machine's clock than allowed: one would close every window."""
        return times > self.clock() * 1e6 + self.ahead

    def advance(self, source: str, latest: int | None) -> None:
        """A source has sent rows up to `latest`, or nothing with a time."""
        self._seen[source] = self.clock()
        if latest is not None:
            self.latest[source] = max(latest, self.latest.get(source, latest))
