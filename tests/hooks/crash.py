"""A monitor with a webhook that is killed again and again, as in tests/monitoring/crash.py.

Run as a script, ``PATH URL BATCHES KILLS SEED``, it forks a child for every attempt and kills it
itself: imports are paid once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax
import numpy as np

from rainpp.hooks import Schedule, Webhook
from tests.hooks.world import SECRET
from tests.monitoring import crash


def work(path: Path, url: str, batches: int, say) -> None:
    """What a child does until it is killed."""
    hook = Webhook(url, secret=SECRET, allow_private=True, name="hook", timeout=5)
    schedule = Schedule([0] + [0.01] * 100, jitter=0)
    with crash.opened(path) as monitor:
        monitor.on("*", hook, schedule=schedule)
        monitor.on("change", hook)
        say("open")
        crash.feed(monitor, batches)
        if monitor.drain(60):
            say("done")


def forks(path: Path, url: str, batches: int, kills: int, seed: int) -> None:
    """Fork a child for every attempt."""

    def start() -> tuple[int, int]:
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write)
            return pid, read
        work(path, url, batches, lambda word: os.write(write, word.encode()))
        os._exit(0)

    rng = np.random.default_rng(seed)
    found = crash.until_done(start, rng, most=kills, opening=0.5, working=4.0)
    sys.stdout.write(f"{found}\n")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    where, there, *numbers = sys.argv[1:]
    forks(Path(where), there, *map(int, numbers))
