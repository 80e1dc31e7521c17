"""Two processes that build one index: what the first has on disk is what both go on from."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.index.test_crash import assert_same, contents
from tests.lanczos.test_devices import free_port

SCRIPT = Path(__file__).parent / "jointly.py"
ROOT = SCRIPT.parents[2]
LOST = "another process of this run has ended"


class Pair:
    """Two processes over loopback; leaving the block kills whoever is left."""

    def __init__(self, out, what, *when):
        self.out, port = out, free_port()
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
        self.logs = [out / f"log-{own}" for own in range(2)]
        self.processes = []
        for own, log in enumerate(self.logs):
            words = [sys.executable, str(SCRIPT), str(out), port, str(own), what, *when[own]]
            with log.open("w") as errors:
                self.processes.append(subprocess.Popen(words, env=environment, stderr=errors))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def until(self, done, seconds=240):
        ends = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < ends, [log.read_text() for log in self.logs]
            time.sleep(0.05)

    def over(self):
        """Whether both have ended."""
        return all(process.poll() is not None for process in self.processes)

    def said(self):
        """What both wrote down once they ended well."""
        self.until(self.over)
        assert [p.returncode for p in self.processes] == [0, 0], self.logs[0].read_text()
        return [json.loads((self.out / f"said-{own}.json").read_text()) for own in range(2)]

    def death_of(self, own):
        """Wait until one has killed itself and the other has said so, or has been ended by JAX."""
        dead, other = self.processes[own], self.processes[1 - own]
        self.until(lambda: dead.poll() is not None)
        if dead.returncode != -signal.SIGKILL:
            return False
        self.until(lambda: other.poll() is not None or LOST in self.logs[1 - own].read_text(), 60)
        return True


def run(out, what, *when):
    with Pair(out, what, *(when or ([], []))) as pair:
        return pair.said()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder where the first is killed, then both are led around; and what each saw."""
    out = tmp_path_factory.mktemp("together")
    with Pair(out, "build", ["40"], []) as pair:
        assert pair.death_of(0)
    assert_no_index_but_work(out / "x.rain")
    return out, run(out, "tour")


def test_after_the_first_is_killed_both_go_on(together, uninterrupted):
    out, (first, second) = together
    assert 0 < first["resumed"] < first["whole"]
    assert second["resumed"] == first["resumed"]
    assert_same(out / "x.rain", uninterrupted)


def test_only_the_first_touches_the_path_and_the_other_gets_the_index(together):
    out, (first, second) = together
    assert not first["nowhere"]
    assert sorted(item.name for item in (out / "x.rain").iterdir()) == ["arrays", "manifest.json"]
    assert first["found"].pop("path") == "x.rain"
    assert second["found"].pop("path") is None
    assert first["found"] == second["found"]
    assert first["found"]["products"] == 0
    assert first["found"]["rows"] == 2000
    assert first["compact"] == second["compact"]
    assert "projection_rows" in first["compact"]


def test_an_error_of_the_first_is_one_clear_error_of_both(together):
    _, (first, second) = together
    for case, words in (
        ("locked", ("ArtifactError", "x.rain", "is being written by process", "Wait")),
        ("full", ("ArtifactError", "full.rain", "No space left", "work so far is kept")),
        ("foreign", ("ArtifactError", "foreign.rain", "other things in it")),
        ("different", ("SettingsError", "process 1", "settings", "same command")),
    ):
        assert first[case] == second[case]
        for word in words:
            assert word in first[case]


def test_both_go_on_from_what_the_first_has_kept(together):
    _, (first, second) = together
    assert first["stopped"] == second["stopped"]
    assert first["stopped"]["stops"] >= 4
    assert first["stopped"]["arrays"] == first["found"]["arrays"]


@pytest.fixture(scope="module")
def uninterrupted(together):
    out, _ = together
    return contents(out / "whole.rain")


@pytest.fixture
def compiled(together):
    """Gives a folder what was compiled in that of the tour."""
    return lambda out: (out / "cache").symlink_to(together[0] / "cache", target_is_directory=True)


def killed_and_run_again(out, own, when):
    """Whether process `own` was killed at its step `when`; the next run ends well."""
    steps = [[], []]
    steps[own] = [str(when)]
    with Pair(out, "build", *steps) as pair:
        killed = pair.death_of(own)
    if killed:
        assert_no_index_but_work(out / "x.rain")
    run(out, "build")
    return killed


def assert_no_index_but_work(path):
    assert not (path / "manifest.json").exists() or (path / ".building").exists()


@pytest.mark.slow
@pytest.mark.parametrize("own", [0, 1])
def test_one_is_killed_anywhere_and_both_go_on(tmp_path, uninterrupted, compiled, own):
    chance, kills = random.Random(own), 0
    for number in range(8):
        out = tmp_path / str(number)
        out.mkdir()
        compiled(out)
        kills += killed_and_run_again(out, own, chance.randint(1, (25, 70)[own == 0]))
        assert_same(out / "x.rain", uninterrupted)
    assert kills >= 6


@pytest.mark.slow
def test_both_are_killed_again_and_again(tmp_path, uninterrupted, compiled):
    compiled(tmp_path)
    path, kept = tmp_path / "x.rain", [(0, 0)]
    for _ in range(10):
        with Pair(tmp_path, "build", [], []) as pair:
            pair.until(lambda: written(path) > kept[-1] or pair.over())
            if pair.over():
                break
        kept.append(written(path))
    assert len(kept) > 3
    assert kept == sorted(kept)  # nothing that was written is lost
    run(tmp_path, "build")
    assert_same(path, uninterrupted)


def written(path):
    """Bytes of Lanczos runs, and rows of projections, that are kept."""
    runs = sum(file.stat().st_size for file in path.rglob("*.rows"))
    rows = [json.loads(file.read_bytes())["rows"] for file in path.rglob("projections.json")]
    return runs, sum(rows)
