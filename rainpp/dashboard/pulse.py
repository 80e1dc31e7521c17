"""How a monitor is: when it was last heard of, how often batches come, whose numbers they are."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rainpp.dashboard.shown import milliseconds
from rainpp.monitoring.overview import Overview

# A stream is quiet after so many times the usual time between batches, and not before.
_TIMES, _AT_LEAST = 5.0, 30.0
_REMEMBERED = 20


@dataclass(eq=False)
class Pulse:
    """What is known of a monitor beside its numbers.

    Attributes
    ----------
    problem : why it cannot be asked; "" if it can.
    seen : when the last batch was noticed, in seconds since 1970; None if none since the start.
    swapped : when another model began to answer.
    """

    overview: Overview | None = None
    problem: str = ""
    seen: float | None = None
    swapped: float | None = None
    quiet_after: float | None = None
    _gaps: deque[float] = field(default_factory=lambda: deque[float](maxlen=_REMEMBERED))
    _batches: int = 0

    @property
    def seq(self) -> int:
        """Of the last line of the outbox, when it was last asked."""
        return -1 if self.overview is None else self.overview.seq

    @property
    def stored(self) -> bool:
        """Whether sequence numbers outlive the process."""
        return self.overview is not None and self.overview.stored

    def take(self, overview: Overview) -> bool:
        """Note how it is; whether the page should be told."""
        before, self.overview, problem, self.problem = self.overview, overview, self.problem, ""
        if before is None:
            self._batches = overview.batches
            return True
        if overview.batches > self._batches:
            self._note(overview.batches - self._batches)
            self._batches = overview.batches
        if before.model and overview.model != before.model:
            self.swapped = time.time()
        return before != overview or bool(problem)

    def batch_seen(self) -> bool:
        """A batch was heard of; whether the page should be told before the next beat."""
        first = self.seen is None
        self.seen = time.time()
        return first

    def fail(self, problem: str) -> bool:
        """It cannot be asked; whether that is news."""
        news, self.problem = problem != self.problem, problem
        return news

    def _note(self, batches: int) -> None:
        now = time.time()
        if self.seen is not None:
            self._gaps.append(max(now - self.seen, 0.0) / batches)
        self.seen = now

    def body(self, name: str) -> dict[str, Any]:
        """As JSON values."""
        usual = sorted(self._gaps)[len(self._gaps) // 2] if self._gaps else 0.0
        quiet = self.quiet_after or max(_AT_LEAST, _TIMES * usual)
        seen, swapped = (None if at is None else int(at * 1000) for at in (self.seen, self.swapped))
        found: dict[str, Any] = {
            "monitor": name,
            "problem": self.problem,
            "seen": seen,
            "swapped": swapped,
            "quiet_after": quiet,
            "now": int(time.time() * 1000),
        }
        one = self.overview
        if one is not None:
            found |= {
                "sql": one.sql,
                "window": one.window,
                "groups": one.groups,
                "columns": one.columns,
                "batches": one.batches,
                "watermark": milliseconds(one.watermark),
                "model": one.model,
            }
        return found
