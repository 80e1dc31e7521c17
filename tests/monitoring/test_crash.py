"""A monitor that is killed at any moment goes on as if it had not been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.monitoring import crash

SCRIPT = [sys.executable, "-m", "tests.monitoring.crash"]
ROOT = Path(crash.__file__).parents[2]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Paths of a monitor that is left alone and of one that is killed."""
    monkeypatch.setattr(crash.room, "_SUMMARY_EVERY", crash.SUMMARY_EVERY)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for path in (whole, killed):
        crash.prepare(path)
    return whole, killed


def same(whole, killed, batches):
    """Feed the first without a break, and compare."""
    with crash.opened(whole) as monitor:
        crash.feed(monitor, batches)
    found = []
    for path in (whole, killed):
        with crash.opened(path) as monitor:
            found.append(crash.state(monitor))
    expected, after = found
    assert set(expected) == set(after)
    for name, part in expected.items():
        assert after[name] == part, name


@pytest.mark.parametrize(
    ("batches", "kills", "least"),
    [(48, 6, 3), pytest.param(700, 200, 150, marks=pytest.mark.slow)],
)
def test_killed_again_and_again_it_loses_and_doubles_nothing(places, batches, kills, least):
    whole, killed = places
    command = [*SCRIPT, str(killed), *map(str, (batches, kills, 1))]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(said) >= least  # more, if the machine is slow
    same(whole, killed, batches)


@pytest.mark.slow
def test_killed_processes_lose_and_double_nothing(places):
    """Each attempt a process of its own, with nothing imported or compiled before."""
    whole, killed = places
    batches, running = 24, []

    def start():
        command = [*SCRIPT, str(killed), str(batches)]
        read, write = os.pipe()
        running.append(subprocess.Popen(command, stdout=write, cwd=ROOT))
        os.close(write)
        return running[-1].pid, read

    rng = np.random.default_rng(0)
    kills = crash.until_done(start, rng, most=5, opening=4.0, working=1.3)
    for process in running:
        process.returncode = 0  # waited for already
    assert kills >= 3
    same(whole, killed, batches)
