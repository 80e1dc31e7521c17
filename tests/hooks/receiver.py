"""A receiver of webhooks on this machine, which does as a test says."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Received:
    """One attempt: when it came, its headers and its JSON."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answering = Callable[["Handler", Received, int], None]


def says(status: int, **headers: str) -> Answering:
    """Answer with a status."""

    def answer(handler: Handler, found: Received, _: int) -> None:
        if 200 <= status < 300:
            handler.accept(found)
        handler.reply(status, {name.replace("_", "-"): text for name, text in headers.items()})

    return answer


def dies(handler: Handler, *_: Any) -> None:
    """Promise more than is sent."""
    handler.reply(200, {"content-length": "1000"}, b"and th")


def drips(handler: Handler, *_: Any) -> None:
    """A byte now and then, of a header without an end."""
    for sign in b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1000:
        if handler.server.over.wait(0.05):
            break
        try:
            handler.wfile.write(bytes([sign]))
        except OSError:
            break


def hangs(handler: Handler, *_: Any) -> None:
    """Nothing at all."""
    handler.server.over.wait(30)


fine = says(204)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        length = int(self.headers["content-length"])
        headers = {name.lower(): value for name, value in self.headers.items()}
        found = Received(time.monotonic(), self.path, headers, self.rfile.read(length))
        with self.server.lock:
            self.server.attempts.append(found)
            number = len(self.server.attempts)
        self.server.answer(self, found, number)

    def accept(self, found):
        """Before it is answered: whoever has the answer finds it."""
        with self.server.lock:
            self.server.accepted.append(found)

    def do_GET(self):
        self.server.gets.append(self.path)
        self.reply(200)

    def reply(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Receiver(http.server.ThreadingHTTPServer):
    """Serves while the block lasts."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answering = fine, *, handler=Handler) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.answer, self.lock, self.over = answer, threading.Lock(), threading.Event()
        self.attempts: list[Received] = []
        self.accepted: list[Received] = []
        self.gets: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"

    def handle_error(self, request, client_address) -> None:
        """A client that went away is what these tests are about."""

    def __enter__(self):
        self.serving = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.serving.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self.serving.join()
        self.server_close()

    def wait(self, count: int, seconds: float = 10) -> None:
        """Until so many attempts have come."""
        until = time.monotonic() + seconds
        while len(self.attempts) < count:
            assert time.monotonic() < until, f"{len(self.attempts)} of {count} came"
            time.sleep(0.005)
