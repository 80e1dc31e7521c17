"""Killed between commit and delivery, between delivery and its note, and anywhere else."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from rainpp.hooks import Ack
from tests.hooks import world
from tests.hooks.receiver import Receiver, dies, fine, says
from tests.monitoring import crash

ROOT = Path(crash.__file__).parents[2]
KILLED = """
import os, signal, sys
import jax
jax.config.update("jax_enable_x64", True)
from rainpp.hooks import File
from tests.hooks.world import opened, send

file = File(sys.argv[2], name="mine")

class Kills:
    name, replay = "mine", "latest"
    def __call__(self, event, context):
        if sys.argv[3] == "after":
            file(event, context)
        os.kill(os.getpid(), signal.SIGKILL)

monitor = opened(store=sys.argv[1])
monitor.on("many", Kills())
send(monitor, 0, {"EU": 5})
monitor.drain(30)
"""


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_an_event_that_was_committed_is_delivered_after_a_kill(tmp_path, when):
    store, lines = tmp_path / "m.duckdb", tmp_path / "lines"
    command = [sys.executable, "-c", KILLED, str(store), str(lines), when]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert done.returncode == -9, done.stderr
    before = lines.read_text().splitlines() if lines.exists() else []
    assert len(before) == (when == "after")
    told = []

    class Hook:
        name, replay = "mine", "latest"

        def __call__(self, event, _):
            told.append(event.key)
            return Ack()

    with world.opened(store=store) as monitor:
        monitor.on("many", Hook())
        assert monitor.drain(5)
        assert told == [event.key for event in world.alarms(monitor)]
        assert all(told[0] in line for line in before)


LEAVES = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
from rainpp.hooks import Callback
from tests.hooks.world import opened, send

monitor = opened(store=sys.argv[1])
monitor.on("change", Callback(lambda event, context: context.explain("lower"), name="mine"))
for minute in range(5):
    send(monitor, minute, {f"r{number}": 1 for number in range(20)})
"""


@pytest.mark.slow
def test_a_process_that_ends_without_closing_ends_well(tmp_path):
    """Threads within DuckDB or JAX at the end of the interpreter aborted one process in three."""
    for number in range(4):
        command = [sys.executable, "-c", LEAVES, str(tmp_path / f"{number}.duckdb")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, b"")


def killed_again_and_again(tmp_path, batches, kills, seed):
    """How many kills there were; everything has arrived, in order."""
    path, rng = tmp_path / "killed", random.Random(seed)
    crash.prepare(path)

    def flaky(handler, found, number):
        bad = rng.choice([says(500), says(429, retry_after="0"), dies])
        (fine if rng.random() < 0.9 else bad)(handler, found, number)

    with Receiver(flaky) as receiver:
        command = [sys.executable, "-m", "tests.hooks.crash", str(path), receiver.url]
        numbers = [str(number) for number in (batches, kills, seed)]
        done = subprocess.run(
            [*command, *numbers], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        came = [found.key for found in receiver.accepted]
    with crash.opened(path) as monitor:
        said = {event.key: event for event in monitor.changes()}
        assert monitor.dead_letters().empty
    assert set(came) == set(said)
    lanes = defaultdict(list)
    for key in dict.fromkeys(came):
        event = said[key]
        name = getattr(event, "name", event.column)
        lanes[hasattr(event, "name"), name, str(event.group)].append(event.seq)
    assert all(seqs == sorted(seqs) for seqs in lanes.values())
    return int(done.stdout), len(came) - len(said)


@pytest.mark.slow
def test_forty_kills_lose_nothing(tmp_path):
    kills, twice = killed_again_and_again(tmp_path, 300, 40, 1)
    assert kills >= 20
    assert twice > 0  # some were killed between delivering and noting it
