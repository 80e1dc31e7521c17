"""What pages are sent: everything once, in order, from where they were, however slow they are."""

from __future__ import annotations

import socket
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainpp.dashboard.board import Board, line_of
from rainpp.dashboard.feed import Feed
from rainpp.dashboard.mailbox import Mailbox, News, changes_frame
from rainpp.dashboard.resume import ident_of, read_ident
from rainpp.dashboard.workers import Workers
from rainpp.errors import SettingsError
from tests.dashboard.world import LONG, events, listening, next_of, send, serving, watched


def cells_of(data):
    """{(window, group): value} of changes as a page gets them."""
    return {(one["window"][0], one["key"]): one["value"] for one in data}


def truth(monitor):
    """The same, as the monitor reads."""
    frame = monitor.read()
    return {
        (int(line.window_start.timestamp() * 1000), f'["{line.region}"]'): line.n
        for line in frame.itertuples()
    }


def test_a_new_page_gets_everything_and_then_what_is_committed():
    with watched() as monitor:
        monitor.alert("many", "n > 1")
        send(monitor)
        with serving([monitor]) as server, listening(server) as stream:
            _, data = next_of(stream, "snapshot")
            (one,) = data["monitors"]
            assert cells_of(one["changes"]) == truth(monitor)
            assert one["status"]["columns"] == ["n"]
            firing = [alarm for alarm in one["alarms"] if alarm["status"] == "firing"]
            assert firing
            assert firing[0]["because"] == "n > 1"
            taken = send(monitor, seed=1, first=100)
            seqs = []
            while len(seqs) < len(taken.deltas):
                _, data = next_of(stream, "changes")
                seqs += [change["seq"] for change in data["changes"]]
            assert seqs == [delta.seq for delta in taken.deltas]


def test_a_page_that_comes_back_is_sent_what_it_missed_and_nothing_else(tmp_path):
    with watched(store=tmp_path / "state.duckdb") as monitor:
        send(monitor)
        with serving([monitor]) as server:
            with listening(server) as stream:
                ident, _ = next_of(stream, "snapshot")
            taken = send(monitor, seed=1, first=100)
            time.sleep(0.2)
            with listening(server, **{"Last-Event-ID": ident}) as stream:
                again, data = next_of(stream, "changes")
        assert [c["seq"] for c in data["changes"]] == [delta.seq for delta in taken.deltas]
        assert again == f"people:{taken.deltas[-1].seq}"
        # Another process with the same state goes on as well.
        more = send(monitor, seed=2, first=200)
        with serving([monitor]) as server, listening(server, **{"Last-Event-ID": again}) as stream:
            _, data = next_of(stream, "changes")
            assert [c["seq"] for c in data["changes"]] == [delta.seq for delta in more.deltas]


@pytest.mark.parametrize(
    "ident",
    [
        "garbage",
        "people:999999",
        "people:-7",
        "people:1,people:2",
        "other:1",
        "people@0:0",
        ":::::::::",
        "people:" + "9" * 400,
        "x" * 5000,
        b"people:\xc3\xa9",
    ],
)
def test_an_id_that_is_none_of_ours_begins_anew(tmp_path, ident):
    with watched(store=tmp_path / "state.duckdb") as monitor:
        send(monitor)
        with serving([monitor]) as server, listening(server, **{"Last-Event-ID": ident}) as stream:
            event, _, data = next(stream)
            assert event == "reset"
            assert data["why"]
            _, data = next_of(stream, "snapshot")
            assert data["monitors"][0]["changes"]


def test_a_monitor_in_memory_is_not_resumed_in_another_process():
    with watched() as monitor:
        send(monitor)
        with serving([monitor]) as server, listening(server) as stream:
            ident, _ = next_of(stream, "snapshot")
        with serving([monitor]) as server, listening(server, **{"Last-Event-ID": ident}) as stream:
            assert next(stream)[0] == "reset"


def test_an_outbox_that_does_not_reach_back_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.feed._REPLAYED", 3)
    with watched(store=tmp_path / "state.duckdb") as monitor:
        send(monitor)
        with (
            serving([monitor]) as server,
            listening(server, **{"Last-Event-ID": "people:0"}) as stream,
        ):
            event, _, data = next(stream)
            assert (event, "people" in data["why"]) == ("reset", True)


def test_fifty_pages_get_the_same_bytes_and_leave():
    with watched() as monitor:
        send(monitor)
        with serving([monitor]) as server:
            feed = server.app.state.feed
            found = []
            for _ in range(50):
                one = socket.create_connection(server.bound.getsockname())
                one.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                found.append(one)
            wait_for(lambda: len(feed.mailboxes) == 50)
            send(monitor, seed=1, first=100)
            for one in found:
                one.settimeout(LONG)
                heard = b""
                while b"event: changes" not in heard:
                    heard += one.recv(1 << 16)
                one.close()
            wait_for(lambda: not feed.mailboxes)


def wait_for(what):
    until = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_page_that_never_reads_is_cut_off_and_others_are_not():
    with watched() as monitor, serving([monitor], patience=0.5) as server:
        feed = server.app.state.feed
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(server.bound.getsockname())
        deaf.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: len(feed.mailboxes) == 1)
        with listening(server) as stream:
            next_of(stream, "snapshot")
            wait_for(lambda: len(feed.mailboxes) == 2)
            first, wide = 0, [f"{place} {'x' * 150}" for place in range(8)]
            until = time.monotonic() + LONG
            while len(feed.mailboxes) > 1:
                assert time.monotonic() < until
                send(monitor, 200, seed=first, first=first, region=wide * 25)
                first += 200
            send(monitor, seed=1, first=first)
            last = monitor.changes()[-1].seq
            while True:
                _, data = next_of(stream, "changes")
                if any(change["seq"] == last for change in data["changes"]):
                    break
        deaf.close()


def test_too_many_pages_are_sent_away(monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.app._MOST_PAGES", 1)
    with watched() as monitor, serving([monitor]) as server, listening(server) as stream:
        next_of(stream, "snapshot")
        answer = httpx.get(f"{server.url}stream")
        assert answer.status_code == 503
        assert "1 pages are open" in answer.json()["error"]


def test_a_silent_stream_shows_that_it_is_alive():
    with watched() as monitor, serving([monitor], heartbeat=0.2) as server:
        one = socket.create_connection(server.bound.getsockname())
        one.settimeout(LONG)
        one.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b""
        while heard.count(b": still here\n\n") < 2:
            heard += one.recv(1 << 16)
        assert b"retry: 2000\n\n" in heard
        one.close()


def test_a_batch_that_changes_nothing_is_a_sign_of_life(monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.feed._PULSE", 0.1)
    with watched() as monitor:
        send(monitor)
        with serving([monitor]) as server, listening(server) as stream:
            _, data = next_of(stream, "snapshot")
            assert data["monitors"][0]["status"]["seen"] is None
            with monitor.batch(source="other", upto=1):
                pass
            _, status = next_of(stream, "status")
            assert status["batches"] == 2
            assert status["seen"] is not None


def test_a_closed_monitor_is_said_to_be_closed(monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.feed._PULSE", 0.1)
    monitor = watched()
    send(monitor)
    with serving([monitor]) as server, listening(server) as stream:
        next_of(stream, "snapshot")
        monitor.close()
        status = {"problem": ""}
        while not status["problem"]:
            _, status = next_of(stream, "status")
        assert "closed" in status["problem"]


def test_what_was_not_heard_is_read_from_the_outbox():
    """Handlers are not called where a process was interrupted between commit and call."""
    with watched() as monitor:
        send(monitor)
        with serving([monitor]) as server, listening(server) as stream:
            next_of(stream, "snapshot")
            feed = server.app.state.feed
            loop, feed._loop = feed._loop, None  # deaf for a while
            first = send(monitor, seed=1, first=100)
            feed._loop = loop
            second = send(monitor, seed=2, first=200)
            seqs = set()
            while second.deltas[-1].seq not in seqs:
                _, data = next_of(stream, "changes")
                seqs |= {change["seq"] for change in data["changes"]}
            assert seqs >= latest_of(first, second)


def latest_of(*batches):
    """Sequence numbers of the last change of each number."""
    lines = [line_of(delta) for batch in batches for delta in batch.deltas]
    return {line.what.seq for line in {line.place: line for line in lines}.values()}


names = st.text("abcxyz_", min_size=1, max_size=6)


@given(places=st.dictionaries(names, st.integers(-1, 2**63 - 1), min_size=1, max_size=5))
def test_ids_are_read_back(places):
    assert read_ident(ident_of(places), list(places)) == places


@given(text=st.text(max_size=40), known=st.lists(names, min_size=1, max_size=3, unique=True))
def test_any_text_is_an_id_or_none(text, known):
    found = read_ident(text, known)
    assert found is None or set(found) == set(known)


def lines_of(count, *, seed=0):
    """Lines of a monitor, some of which replace others."""
    with watched() as monitor:
        for number in range(count):
            send(monitor, 40, seed=seed + number, first=40 * number)
        return [line_of(delta) for delta in monitor.changes()]


def news(lines):
    latest = {line.place: line for line in lines}
    return News(changes_frame(list(latest.values()), "here"), latest, "here")


def test_one_frame_is_shared_and_a_slow_page_gets_the_latest_of_each_number():
    lines = lines_of(3)
    third = len(lines) // 3
    parts = [news(lines[at : at + third]) for at in range(0, len(lines), third)]
    box = Mailbox()
    box.put(parts[0])
    assert box.take() is parts[0].frame
    for part in parts:
        box.put(part)
    ((event, _, data),) = events(box.take().decode().split("\n"))
    assert event == "changes"
    latest = {line.place: line.what.seq for line in lines}
    assert len(latest) < len(lines)
    assert [change["seq"] for change in data["changes"]] == list(latest.values())
    assert box.take() == b""


def test_a_page_for_which_too_much_waits_is_told_everything_anew(monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.mailbox._MOST_WAITING", 10)
    lines = lines_of(1)
    assert len(lines) > 12
    box = Mailbox()
    for line in lines:
        box.put(news([line]))
    assert box.overrun
    assert box.take() == b""


def test_a_board_keeps_the_latest_windows_and_the_latest_of_each_number(monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.board._MOST_WINDOWS", 4)
    lines = lines_of(3)
    board = Board()
    for line in lines:
        board.take(line)
    windows = sorted({line.what.window for line in lines})
    latest = {line.place: line for line in lines if line.what.window in windows[-4:]}
    assert {line.place: line for line in board.lines()} == latest
    assert board.seq == lines[-1].what.seq
    for line in lines:
        if line.place in latest:
            assert board.now(line.what) == latest[line.place].what


def test_a_snapshot_is_of_whole_windows_and_bounded(monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.board._SENT_CELLS", 7)
    board = Board()
    for line in lines_of(2):
        board.take(line)
    found = board.lines()
    windows = [line.what.window for line in found]
    assert 0 < len(found) <= 7
    assert windows == sorted(windows, reverse=True)


def test_two_monitors_of_one_name_cannot_be_told_apart():
    with watched() as one, watched() as other, pytest.raises(SettingsError, match="same name"):
        Feed([one, other], Workers())
