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
    that it does not hold the others back. The watermark never goes back: what a source sends that
    comes later, or wakes up, is late.

    Attributes
    ----------
    lateness, retention, ahead, idle : microseconds.
    latest : per source, the latest event time.
    mark : the watermark after the last batch.
    """

    lateness: int
    retention: int
    ahead: int
    idle: int
    clock: Clock = time.time
    latest: dict[str, int] = field(default_factory=dict[str, int])
    mark: int | None = None
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
        if not known:
            return self.mark
        found = min(known) - self.lateness
        return found if self.mark is None else max(found, self.mark)

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
        self.mark = self.watermark

    def begin(self) -> Callable[[], None]:
        """From here on things may change; the result takes them back."""
        before = dict(self.latest), dict(self._seen), self.mark

        def back() -> None:
            self.latest, self._seen, self.mark = before

        return back

    def clear(self) -> None:
        """Forget event times, but not when sources were heard of."""
        self.latest, self.mark = {}, None
