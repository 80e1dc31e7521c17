"""Rows over HTTP: all of a request or nothing of it, and the right status."""

from __future__ import annotations

import io
import json
import socket
import threading
import time

import httpx
import numpy as np
import pyarrow as pa
import pytest
from starlette.applications import Starlette

from rainpp.errors import ArtifactError, SettingsError
from rainpp.monitoring.taking import Taking
from rainpp.sources import push, push_routes
from rainpp.watching.config import ServerConfig
from rainpp.watching.server import Server
from tests.sources.world import images, lines, opened, records, rows

TOKEN = "a token of 24 characters"
ARROW = "application/vnd.apache.arrow.stream"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
MOST = 50_000


def stream(table, compression=None):
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


class Client:
    """Sends requests to the routes of some monitors over a real socket."""

    def __init__(self, monitors, **options):
        options = {"token": TOKEN, "max_bytes": MOST, "timeout": 0.5, **options}
        self.server = Server(
            Starlette(routes=push_routes(monitors, **options)), ServerConfig(port=0)
        )
        self.server.start()
        self.http = httpx.Client(base_url=self.server.url, timeout=60)

    def push(self, body, media=ARROW, headers=SHOWN, source="shop", **query):
        if isinstance(body, pa.Table):
            body = stream(body)
        kind = {} if media is None else {"Content-Type": media}
        return self.http.post(
            f"/push/{source}", content=body, headers={**kind, **headers}, params=query
        )

    def close(self):
        self.http.close()
        self.server.stop()


@pytest.fixture(scope="module")
def world():
    with opened() as monitors:
        client = Client(monitors)
        assert client.push(rows(8, 1), source="first", offset=0).status_code == 200
        yield client, monitors
        client.close()


def test_every_form_of_body_gives_the_same():
    table = rows(9, 3)
    bodies = {
        "arrow": (stream(table), ARROW),
        "zstd": (stream(table, "zstd"), ARROW),
        "lines": (b"\n".join(lines(table)), "application/x-ndjson; charset=utf-8"),
        "json": (json.dumps(records(table)).encode(), "application/json"),
        "columns": (
            json.dumps(
                {name: [row[name] for row in records(table)] for name in table.column_names}
            ).encode(),
            "application/json",
        ),
    }
    found = {}
    for name, (body, media) in bodies.items():
        with opened(names=["money"]) as monitors:
            client = Client(monitors)
            answer = client.push(body, media, offset=7)
            client.close()
            assert answer.json() == {
                "source": "shop",
                "offset": 7,
                "rows": 9,
                "replayed": False,
                "monitors": {
                    "money": {
                        "rows": 9,
                        "labels": 0,
                        "retracted": 0,
                        "repeated": 0,
                        "late": 0,
                        "replayed": False,
                    }
                },
            }
            found[name] = images(monitors)
    assert all(part == found["arrow"] for part in found.values())


def test_labels_and_retractions(world):
    client, monitors = world
    assert client.push(rows(4, 40), source="kinds", offset=0).status_code == 200
    labels = json.dumps([{"id": 40_000, "label": 1}, {"id": 5, "label": 1}]).encode()
    said = client.push(labels, "application/json", source="kinds", offset=1, kind="feedback")
    assert said.json()["monitors"]["money"]["late"] == 1  # of an id nobody knows
    before = int(monitors[0].sql("SELECT count(*) AS n FROM rows_0")["n"].iloc[0])
    for offset, body in enumerate([b"[40000]", b'{"id": [40001]}', b'[{"id": 40002}]'], 2):
        said = client.push(body, "application/json", source="kinds", offset=offset, kind="retract")
        assert said.status_code == 200, said.text
    after = int(monitors[0].sql("SELECT count(*) AS n FROM rows_0")["n"].iloc[0])
    assert after == before - 3


def test_a_request_that_is_sent_again_does_nothing(world):
    client, monitors = world
    table = rows(6, 5)
    assert client.push(table, source="again", offset=3).json()["replayed"] is False
    before = images(monitors)
    again = client.push(table, source="again", offset=3)
    assert again.status_code == 200
    assert again.json()["replayed"] is True
    other = client.push(rows(6, 6), source="again", offset=3)
    assert other.status_code == 409
    assert "other content" in other.json()["error"]
    assert other.json()["taken"] == 3
    assert client.push(rows(6, 6), source="again", offset=9).status_code == 200
    before = images(monitors)
    passed = client.push(rows(6, 7), source="again", offset=5)
    assert passed.status_code == 409
    assert "never taken" in passed.json()["error"]
    assert images(monitors) == before


def test_one_monitor_by_name(world):
    client, monitors = world
    before = [monitor.offsets for monitor in monitors]
    assert client.push(rows(3, 8), source="one", offset=0, monitor="money").status_code == 200
    assert monitors[0].offsets == before[0]
    assert monitors[1].offsets == {**before[1], "one": 0}


def huge(compression=None, size=10**6):
    return stream(pa.table({"a": np.zeros(size)}), compression)


def with_column(name, values):
    table = rows(4, 9)
    return table.set_column(table.column_names.index(name), name, pa.array(values))


STREAM = stream(rows(4, 9))
VIEWS = pa.table({"a": pa.array(["x"] * 4, pa.string_view())})
DICTIONARY = pa.DictionaryArray.from_arrays(
    pa.array(np.zeros(2000, np.int8)), pa.array(["x" * 10_000])
)
BAD = {
    "no token": (401, "show the token", {"headers": {}}),
    "wrong token": (401, "show the token", {"headers": {"Authorization": "Bearer x"}}),
    "token elsewhere": (401, "show the token", {"headers": {"Authorization": TOKEN}}),
    "other scheme": (401, "show the token", {"headers": {"Authorization": f"Basic {TOKEN}"}}),
    "too long": (413, "longer than 50,000 bytes", {"body": b"x" * (MOST + 1)}),
    "unfolds": (400, "1,000,000 rows and 8,000,000 bytes", {"body": huge("zstd")}),
    "long dictionary": (400, "without its dictionary", {"body": pa.table({"a": DICTIONARY})}),
    "views": (400, "type string_view, which is not taken", {"body": VIEWS}),
    "empty": (400, "it is empty", {"body": b""}),
    "no arrow": (400, "no message begins", {"body": b"hello, world"}),
    "cut off": (400, "cut off", {"body": STREAM[:-300]}),
    "no media type": (415, "`Content-Type` is ''", {"media": None}),
    "csv": (415, "`Content-Type` is 'text/csv'", {"media": "text/csv"}),
    "pickle": (415, "octet-stream", {"media": "application/octet-stream"}),
    "gzip": (415, "`Content-Encoding`", {"headers": {**SHOWN, "Content-Encoding": "gzip"}}),
    "no json": (400, "not JSON", {"body": b"{", "media": "application/json"}),
    "deep": (400, "nested too deeply", {"body": b"[" * 40_000, "media": "application/json"}),
    "nan": (400, "NaN is no number", {"body": b'[{"a": NaN}]', "media": "application/json"}),
    "a number": (400, "a list of objects", {"body": b"3", "media": "application/json"}),
    "ragged": (400, "do not go together", {"body": b'{"a": [1], "b": []}',
                                           "media": "application/json"}),
    "mixed": (400, "`a` do not go", {"body": b'[{"a": 1}, {"a": "x"}]',
                                     "media": "application/json"}),
    "line": (400, "line 2: it is not JSON", {"body": b'{"a": 1}\nx', "media":
                                             "application/x-ndjson"}),
    "bytes": (400, "not JSON", {"body": b"\xff\xfe\x00", "media": "application/x-ndjson"}),
    "id NULL": (400, "NULL in 1 rows", {"body": with_column("id", [1, None, 2, 3])}),
    "feature NaN": (400, "NaN or infinity", {"body": with_column("a", [0.0, np.nan, 1.0, 2.0])}),
    "column missing": (400, "no column `a`", {"body": rows(3, 9).drop_columns(["a"])}),
    "source": (404, "Not Found", {"source": "a/b"}),
    "long source": (404, "at most 200", {"source": "x" * 300}),
    "monitor": (404, "no monitor 'mony'; there are by_region, money", {"monitor": "mony"}),
    "table": (404, "no table 'persons'", {"table": "persons"}),
    "kind": (400, "`kind` is 'rows'", {"kind": "rows"}),
    "offset": (400, "whole number", {"offset": "-1"}),
    "long offset": (400, "whole number", {"offset": "9" * 5000}),
    "two offsets": (400, "`offset` is given twice", {"offset": ["1", "2"]}),
    "parameter": (400, "`ofset` is no parameter", {"ofset": "1"}),
    "retraction": (400, "give only the ids", {"body": b'[{"x": 1, "y": 2}]', "kind": "retract",
                                              "media": "application/json"}),
    "labels": (400, "no column `label`", {"body": b'[{"id": 1}]', "kind": "feedback",
                                          "media": "application/json"}),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_change_nothing(world, case):
    client, monitors = world
    status, text, options = BAD[case]
    before = images(monitors)
    answer = client.push(**{"body": STREAM, "source": "bad", **options})
    assert answer.status_code == status, answer.text
    assert text in answer.text
    assert images(monitors) == before


def raw(client, head, *parts, pause=0.0):
    """What is answered to a request written by hand, its parts sent with pauses."""
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=10) as line:
        line.sendall(f"POST /push/raw HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # it has answered already
        return line.recv(100).decode()


def test_a_body_that_never_ends_is_refused_while_it_is_read(world):
    client, monitors = world
    before = images(monitors)
    head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: {ARROW}\r\nTransfer-Encoding: chunked"
    part = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    assert " 413 " in raw(client, head, *[part] * 6)
    assert images(monitors) == before


def test_a_slow_body_is_given_up(world):
    client, monitors = world
    before = images(monitors)
    head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: {ARROW}\r\nContent-Length: 100"
    started = time.monotonic()
    # A byte every 0.1 s: no single wait is long.
    assert " 408 " in raw(client, head, *[b"x"] * 10, pause=0.1)
    assert time.monotonic() - started < 3
    assert images(monitors) == before


def test_a_client_that_goes_away_changes_nothing(world):
    client, monitors = world
    before = images(monitors)
    head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: {ARROW}\r\nContent-Length: 100"
    with socket.create_connection(("127.0.0.1", client.server.port)) as line:
        line.sendall(f"POST /push/raw HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\nabc".encode())
    assert client.push(b"", headers={}).status_code == 401  # it goes on answering
    assert images(monitors) == before


def test_what_the_second_monitor_refuses_the_first_has_not_taken():
    with (
        opened(keep="inputs") as (first, _),
        opened(names=["money"], id=None, label=None) as (second,),
    ):
        client = Client([first, second])
        client.push(rows(4, 1), offset=0)
        before = images([first]), second.offsets
        answer = client.push(b"[1000]", "application/json", kind="retract", offset=1)
        client.close()
        assert answer.status_code == 400
        assert "name the column of ids" in answer.json()["error"]
        assert (images([first]), second.offsets) == before


def test_a_monitor_that_was_behind_after_a_crash_catches_up():
    with opened() as monitors:
        with monitors[0].batch("shop", 0) as batch:  # the process died before the second
            batch.predictions(rows(6, 1))
        client = Client(monitors)
        said = client.push(rows(6, 1), offset=0).json()
        client.close()
        assert said["replayed"] is False
        assert said["monitors"]["by_region"]["replayed"] is True
        assert said["monitors"]["money"]["rows"] == 6


def test_where_the_state_cannot_be_written(monkeypatch):
    with opened() as monitors:
        client = Client(monitors)
        client.push(rows(6, 1), offset=0)
        before = images(monitors)

        def full(*_):
            raise ArtifactError("cannot write the state: no space left on device.")

        monkeypatch.setattr(Taking, "_take", full)
        answer = client.push(rows(6, 2), offset=1)
        monkeypatch.undo()
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert images(monitors) == before
        assert client.push(rows(6, 2), offset=1).status_code == 200
        client.close()


def test_other_requests_are_answered_while_one_is_taken_in(monkeypatch):
    there, real = threading.Event(), push._has

    def has(*args):
        there.set()
        return real(*args)

    monkeypatch.setattr(push, "_has", has)
    with opened(names=["money"]) as (monitor,):
        client = Client([monitor])
        answers = []
        with monitor._lock:
            waiting = threading.Thread(target=lambda: answers.append(client.push(rows(3, 1))))
            waiting.start()
            assert there.wait(10)
            assert client.http.post("/push/x", timeout=10).status_code == 401
            assert not answers
        waiting.join(10)
        client.close()
        assert answers[0].status_code == 200


@pytest.mark.parametrize("token", ["", "short", None, "é" * 20])
def test_a_token_that_protects_nothing(token):
    with opened(names=["money"]) as monitors, pytest.raises(SettingsError, match="`token`"):
        push_routes(monitors, token=token)


def test_wrong_options():
    with opened(names=["money"]) as monitors:
        with pytest.raises(SettingsError, match="all are positive"):
            push_routes(monitors, token=TOKEN, max_bytes=0)
        with pytest.raises(SettingsError, match="part of an address"):
            push_routes(monitors, token=TOKEN, source="a/{b}")


def test_what_was_taken_before_a_restart_is_a_replay_and_what_was_not_is_refused():
    with opened(names=["money"]) as monitors:
        before = Client(monitors)
        for number in range(4):
            assert before.push(rows(4, number), offset=number).status_code == 200
        before.close()
        after = Client(monitors)
        answers = [after.push(rows(4, number), offset=number) for number in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all(answer.json()["replayed"] for answer in answers)
        assert after.push(rows(4, 9), offset=9).status_code == 200
        late = after.push(rows(4, 6), offset=6)
        assert late.status_code == 409
        assert "never taken" in late.json()["error"]
        after.close()


def test_an_offset_below_the_first_one_was_never_taken():
    with opened(names=["money"]) as monitors:
        client = Client(monitors)
        assert client.push(rows(4, 1), offset=10).status_code == 200
        late = client.push(rows(4, 2), offset=5)
        assert (late.status_code, late.json()["taken"]) == (409, 10)
        client.close()


def test_nothing_but_loopback_without_a_token():
    with pytest.raises(SettingsError, match="other machines may reach"):
        Server(Starlette(), ServerConfig(host="0.0.0.0", port=0))


def test_a_port_that_is_taken():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        with pytest.raises(SettingsError, match="cannot serve on"):
            Server(Starlette(), ServerConfig(port=held.getsockname()[1]))
