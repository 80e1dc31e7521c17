"""A small monitor on a page, a server of this machine around it, and what comes through it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import httpx

from rainpp.dashboard import create_app, make_server
from rainpp.windows import Tumbling
from tests.monitoring import world

SQL = "SELECT region, count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 GROUP BY region"
TOKEN = "a token of these tests"
# Longer than anything here takes on a busy machine; nothing waits so long unless it fails.
LONG = 30.0


def watched(**options):
    """A monitor of counts by region, in windows of ten seconds."""
    settings = {"window": Tumbling("10s"), "keep": "inputs", **options}
    return world.watch(SQL, **settings)


def send(monitor, count=60, seed=0, *, first=0, **changes):
    """A batch of rows with ids from `first` on."""
    rows = world.make_rows(count, seed=seed).assign(**changes)
    rows["id"] = rows["id"] + first
    with monitor.batch() as batch:
        batch.predictions(world.arrow(rows))
    return batch.taken


@contextmanager
def serving(monitors, **options):
    """A running server; yields it. Its `url` ends in a slash."""
    server = make_server(create_app(monitors, **options), port=0)
    thread = threading.Thread(target=server.run_until_stopped)
    thread.start()
    try:
        until = time.monotonic() + LONG
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield server
    finally:
        server.stop()
        thread.join(LONG)
        server.bound.close()
        assert not thread.is_alive()


@contextmanager
def asking(monitors, **options):
    """A client of a running server; its `feed` is the server's."""
    with (
        serving(monitors, **options) as server,
        httpx.Client(base_url=server.url, timeout=LONG) as client,
    ):
        client.feed = server.app.state.feed
        yield client


@contextmanager
def listening(server, **headers):
    """The events of a stream, as (event, id, data) one after the other."""
    with (
        httpx.Client(timeout=LONG) as client,
        client.stream("GET", f"{server.url}stream", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        yield events(answer.iter_lines())


def events(lines):
    """Events from the lines of a stream; comments and `retry` are left out."""
    found = {}
    for line in lines:
        if not line:
            if "event" in found:
                data = json.loads(found["data"])
                yield found["event"], found.get("id"), data
            found = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value


def next_of(stream, wanted):
    """The next event of a kind."""
    for event, ident, data in stream:
        if event == wanted:
            return ident, data
    raise AssertionError(f"the stream ended without {wanted}")
