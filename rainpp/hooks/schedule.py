"""When an event that did not arrive is sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Seconds before each attempt: the example of Standard Webhooks 1.0.0, a little over three days.
WAITS = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
# A receiver that asks for more does not get it.
LONGEST = 24 * 3600.0


@dataclass(frozen=True)
class Schedule:
    """How long to wait before each attempt.

    Attributes
    ----------
    waits : seconds before the first attempt (which is made at once), the second, and so on; after
        the last the event is a dead letter.
    jitter : a wait is longer or shorter by up to this share, so that many do not come at once.
    clock : seconds since 1970.
    """

    waits: Sequence[float] = WAITS
    jitter: float = 0.1
    clock: Callable[[], float] = time.time

    def wait(self, attempts: int, asked: float | None = None) -> float | None:
        """Seconds until the next attempt after so many; None if there is none.

        Parameters
        ----------
        asked : what the receiver asked for; it is not sent anything sooner.
        """
        if attempts >= len(self.waits):
            return None
        spread = 1 + self.jitter * random.uniform(-1, 1)
        return max(self.waits[attempts] * spread, min(asked or 0.0, LONGEST))
