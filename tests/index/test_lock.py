"""One writer at a time: the second is told who the first is; nobody is locked out by the dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import rainpp
from rainpp.errors import ArtifactError
from rainpp.index import lock, store
from rainpp.index.artifact import save
from rainpp.index.lock import NAME, locked
from tests.index.conftest import make_problem

HOLD = """
import sys, time
from pathlib import Path
from rainpp.index.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of x.rain."""
    folder = Path(rainpp.__file__).parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "x.rain")],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def build(path, **options):
    problem = make_problem("logistic regression")
    return rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=2, path=path, **options
    )


def test_the_second_writer_is_told_who_the_first_is(holder, tmp_path):
    path = tmp_path / "x.rain"
    before = sorted(path.rglob("*"))
    index = build(None)
    for write in (lambda: build(path), lambda: save(index, path)):
        with pytest.raises(ArtifactError) as caught:
            write()
        message = str(caught.value)
        assert "\n" not in message
        for word in (f"`{path}`", f"process {holder.pid}", socket.gethostname(), "Wait"):
            assert word in message
    assert sorted(path.rglob("*")) == before


def test_a_reader_needs_no_lock(tmp_path):
    path = tmp_path / "x.rain"
    index = build(path)
    with locked(path):
        assert rainpp.load(path).k == index.k
        os.chmod(path, 0o500)
        assert rainpp.load(path).k == index.k
    os.chmod(path, 0o700)


def test_a_killed_holder_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    path = tmp_path / "x.rain"
    assert (path / NAME).exists()
    build(path)
    assert sorted(item.name for item in path.iterdir()) == ["arrays", "manifest.json"]


def test_a_writer_can_wait_for_the_other(holder, tmp_path):
    threading.Timer(0.5, holder.kill).start()
    begun = time.monotonic()
    with locked(tmp_path / "x.rain", wait_seconds=20):
        assert 0.3 < time.monotonic() - begun < 15


def test_waiting_ends(holder, tmp_path):
    begun = time.monotonic()
    with (
        pytest.raises(ArtifactError, match=str(holder.pid)),
        locked(tmp_path / "x.rain", wait_seconds=0.3),
    ):
        pass
    assert 0.3 <= time.monotonic() - begun < 10


def test_a_build_in_another_thread_is_another_writer(tmp_path):
    path, messages = tmp_path / "x.rain", []

    def second(stage, *_):
        if stage == "projections" and not messages:
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

    def attempt():
        try:
            with locked(path):
                messages.append("entered")
        except ArtifactError as problem:
            messages.append(str(problem))

    build(path, progress=second)
    assert len(messages) == 1
    assert f"process {os.getpid()}" in messages[0]


def test_many_writers_enter_one_at_a_time(tmp_path):
    inside, entered, failures = [0], [0], []

    def enter():
        for _ in range(20):
            with locked(tmp_path / "x.rain", wait_seconds=30):
                inside[0] += 1
                if inside[0] != 1:
                    failures.append(inside[0])
                entered[0] += 1
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (entered, failures) == ([80], [])
    assert not (tmp_path / "x.rain" / NAME).exists()


def test_a_lock_file_that_was_removed_while_we_opened_it_locks_nothing(monkeypatch, tmp_path):
    path = tmp_path / "x.rain"
    first, take = locked(path), lock._take
    first.__enter__()

    def late(handle):
        monkeypatch.setattr(lock, "_take", take)
        first.__exit__(None, None, None)  # the file that has just been opened is removed
        return take(handle)

    monkeypatch.setattr(lock, "_take", late)
    with locked(path):
        assert (path / NAME).exists()
        with pytest.raises(ArtifactError, match="being written"), locked(path):
            pass


def test_a_lock_that_says_nonsense_still_locks(tmp_path):
    path = tmp_path / "x.rain"
    with locked(path):
        (path / NAME).write_bytes(b"\xff{")
        with pytest.raises(ArtifactError, match="written by another process"), locked(path):
            pass


def test_a_directory_with_only_a_dead_lock_or_begun_work_is_ours(tmp_path):
    for name in (NAME, f"{store.BUILDING}/0123456789abcdef/all.rows"):
        path = tmp_path / str(len(name))
        (path / name).parent.mkdir(parents=True)
        (path / name).write_bytes(b"")
        store.write(path, {}, {"a": np.ones(3)})
        assert store.read(path)[1]["a"].tolist() == [1, 1, 1]
    foreign = tmp_path / "foreign"
    (foreign / store.BUILDING / "house").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="other things"):
        store.write(foreign, {}, {"a": np.ones(3)})
