"""Killed at any moment, `rainpp watch` goes on as if it had not been: no row lost, none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from rainpp.sources.bodies import rows_in
from rainpp.sources.feeding import take
from rainpp.sources.parcel import Chunk
from rainpp.watching.config import read_config
from rainpp.watching.opening import open_monitors, open_sources
from tests.sources.world import drain, images
from tests.watching import crash
from tests.watching.world import ROOT, TOKEN, Watch, environment, prepare

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
from tests.sources.broker import Broker


@pytest.fixture
def broker():
    return Broker()


def settle(tmp_path, broker, messages, files):
    """watch.toml of the monitor that is killed and of the one that is not, and the port."""
    port = crash.free_port()
    crash.produce(broker, messages)
    found = []
    for name in ("killed", "whole"):
        part = crash.SOURCES.format(servers=broker.servers, port=port, token=TOKEN)
        # Rows without ids would count twice if they were taken twice.
        found.append(prepare(tmp_path / name, part, without_ids=["by_region"]))
        crash.write_files(tmp_path / name / "in", files)
    return *found, port


@contextmanager
def monitors_of(config):
    found = open_monitors(config)
    try:
        yield found
    finally:
        for monitor in found:
            monitor.close()


def finished(file, requests=0):
    """What the monitors are like once they have taken, in this process, what is left to take."""
    config = read_config(file)
    with monitors_of(config) as monitors:
        for source, _ in open_sources(config):
            drain(source, monitors)
        for offset, (kind, body) in enumerate(crash.requests(requests)):
            media = crash.media(kind)
            rows = rows_in(body, media, kind, times={"t"}, most=10**7, most_rows=10**6)
            chunk = Chunk(kind, rows, np.zeros(rows.num_rows, np.int64))
            for monitor in monitors if kind == "predictions" else monitors[1:]:
                take(monitor, "shop", [chunk], offset)
    with monitors_of(config) as monitors:  # labels are written into the rows when it is closed
        return images(monitors), monitors[-1].offsets


def compare(killed, whole, messages, requests, files):
    found, offsets = finished(killed)
    expected, _ = finished(whole, requests)
    for name, parts in expected.items():
        for part, value in parts.items():
            assert found[name][part] == value, (name, part)
    # Nothing is lost: the last offset of every source, and as many rows as were sent.
    assert offsets["shop"] == requests - 1
    each = [crash.ROWS * len(range(at, messages, 4)) - 1 for at in range(4)]
    assert [offsets[f"shots[{at}]"] for at in range(4)] == each
    assert offsets["in"] >> 40 == files - 1


@pytest.mark.slow
def test_three_kills_of_processes_of_their_own(tmp_path, broker):
    messages, requests, files = 24, 40, 5
    killed, whole, port = settle(tmp_path, broker, messages, files)
    rng = np.random.default_rng(0)
    client = crash.Client(port, requests, pause=0.05)
    client.start()
    for early in (False, True, False):
        running = Watch(killed)
        if not early:
            assert running.wait_for("watching")
        time.sleep(rng.uniform(0, 3.0 if early else 0.8))
        assert running.end(signal.SIGKILL)[0] == -signal.SIGKILL
    running = Watch(killed)
    client.join(60)
    assert not client.is_alive(), running.log
    assert running.end(signal.SIGTERM)[0] == 0
    assert set(client.answers) == {200}
    assert client.unanswered > 0
    compare(killed, whole, messages, requests, files)


@pytest.mark.parametrize(
    ("sent", "most", "unanswered"),
    [((24, 60, 5), 4, 1), pytest.param((400, 2000, 60), 200, 50, marks=pytest.mark.slow)],
)
def test_killed_again_and_again_it_goes_on(tmp_path, broker, sent, most, unanswered):
    messages, requests, files = sent
    killed, whole, port = settle(tmp_path, broker, messages, files)
    rng, kills = np.random.default_rng(1), 0
    client = crash.Client(port, requests, pause=0.02)
    client.start()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.watching.crash", str(killed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as zygote:
        while kills < most:
            zygote.stdin.write("go\n")
            zygote.stdin.flush()
            pid = int(zygote.stdout.readline())
            # Some before the state is open, most while requests are answered.
            if rng.random() > 0.25:
                wait_for_an_answer(client)
            time.sleep(rng.uniform(0, 0.6))
            os.kill(pid, signal.SIGKILL)
            assert int(zygote.stdout.readline()) == signal.SIGKILL
            kills += 1
        zygote.stdin.close()
    running = Watch(killed)
    while client.is_alive():
        wait_for_an_answer(client)
    assert running.end(signal.SIGTERM)[0] == 0
    assert set(client.answers) == {200}
    assert client.unanswered >= unanswered
    compare(killed, whole, messages, requests, files)


def wait_for_an_answer(client, seconds=60):
    end, answered = time.monotonic() + seconds, len(client.answers)
    while client.is_alive() and len(client.answers) == answered:
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.01)
