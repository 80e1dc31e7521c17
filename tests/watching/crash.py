"""`rainpp watch` that is killed again and again while Kafka, HTTP and a directory feed it.

Run as a script, it forks a child for every line on stdin: the child runs `rainpp watch` with the
file of its first argument, and its process id is written on stdout. Imports are paid once.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from datetime import timedelta

import httpx

from tests.monitoring.world import arrow, make_rows
from tests.sources.world import lines
from tests.watching.world import TOKEN

SOURCES = """
[[source]]
type = "kafka"
topics = ["shots"]
brokers = "{servers}"
messages = 20

[[source]]
type = "directory"
path = "in"
pattern = "*.jsonl"
rows = 4
every = 0.1

[[source]]
type = "http"
name = "shop"

[server]
port = {port}
token = "{token}"
"""
ROWS = 6


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def batch(number, stream):
    """Rows of one batch of one of the streams: ids of their own, times within two hours."""
    found = make_rows(ROWS, 3 * number + stream, seconds=60)
    ids = found["id"] + 1_000_000 * stream + ROWS * number
    times = found["t"] + timedelta(seconds=number % 3600)
    return arrow(found.assign(id=ids, t=times, amount=found["amount"].fillna(1.0)))


def requests(count):
    """What the HTTP client sends: (kind, body), by offset."""
    for number in range(count):
        first = 1_000_000 + ROWS * max(0, number - 3)
        if number % 5 == 3:
            labels = [{"id": first + at, "label": (number + at) % 3} for at in range(4)]
            yield "feedback", json.dumps(labels).encode()
        elif number % 5 == 4:
            yield "retract", json.dumps([first, first + 1]).encode()
        else:
            yield "predictions", b"\n".join(lines(batch(number, 1)))


def about(kind):
    """Labels and retractions are for the monitor that knows ids."""
    return {} if kind == "predictions" else {"monitor": "money"}


def media(kind):
    return "application/x-ndjson" if kind == "predictions" else "application/json"


class Client(threading.Thread):
    """Sends each request until it is answered with 200; the next one after that."""

    def __init__(self, port, count, pause):
        super().__init__(daemon=True)
        self._port, self._count, self._pause = port, count, pause
        self.answers, self.replayed, self.unanswered, self.stopped = [], 0, 0, False

    def run(self):
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=30) as http:
            for offset, (kind, body) in enumerate(requests(self._count)):
                while not self.stopped and not self._sent(http, offset, kind, body):
                    time.sleep(0.05)
                time.sleep(self._pause)

    def _sent(self, http, offset, kind, body):
        try:
            answer = http.post(
                "/push/shop",
                content=body,
                params={"kind": kind, "offset": offset, **about(kind)},
                headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": media(kind)},
            )
        except httpx.HTTPError:
            self.unanswered += 1
            return False
        self.answers.append(answer.status_code)
        if answer.status_code == 200:
            self.replayed += answer.json()["replayed"]
        return answer.status_code == 200


def produce(broker, count, stream=0):
    """All messages of the topic, over its partitions."""
    for number in range(count):
        broker.send("shots", lines(batch(number, stream)), number % 4)


def write_files(folder, count, stream=2):
    """Files of lines; the last one has no end."""
    folder.mkdir()
    for number in range(count):
        ending = b"" if number == count - 2 else b"\n"
        text = b"\n".join(lines(batch(number, stream))) + ending
        (folder / f"{number:04}.jsonl").write_bytes(text)


def forks(file):
    """Fork a child for every line that comes."""
    from rainpp import cli
    from rainpp.watching import run  # noqa: F401 - imported once, for all children

    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            sys.stdin.close()
            os.chdir(os.path.dirname(file))
            cli.app(["watch", file])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    forks(sys.argv[1])
