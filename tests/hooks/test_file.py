"""Events as lines of a file."""

from __future__ import annotations

import errno
import json
import os

import pytest

from rainpp.errors import SettingsError
from rainpp.hooks import Ack, File, Retry
from tests.hooks.world import alarms, opened, send


@pytest.fixture(scope="module")
def told():
    with opened() as monitor:
        send(monitor, 0, {"EU": 5, "US": 5})
        yield monitor, alarms(monitor)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_every_event(told, tmp_path):
    monitor, (first, second) = told
    path = tmp_path / "events.jsonl"
    hook = File(path)
    for event in (first, second, monitor.changes()[0]):
        assert hook(event, monitor.context(event)) == Ack()
    found = lines(path)
    assert [line["key"] for line in found[:2]] == [first.key, second.key]
    assert [line["type"] for line in found] == ["alarm.firing", "alarm.firing", "change"]
    assert found[0]["data"]["suspects"]
    assert os.stat(path).st_mode & 0o077 == 0


def test_the_last_event_is_not_written_twice_and_a_torn_line_is_taken_away(told, tmp_path):
    monitor, (first, second) = told
    path = tmp_path / "events.jsonl"
    File(path)(first, monitor.context(first))
    File(path)(first, monitor.context(first))  # as after a restart
    assert len(lines(path)) == 1
    whole = path.read_bytes()
    for cut in (1, 5, 200, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        File(path)(second, monitor.context(second))
        assert [line["key"] for line in lines(path)] == [first.key, second.key]
    path.write_bytes(whole[:300])
    File(path)(second, monitor.context(second))
    assert [line["key"] for line in lines(path)] == [second.key]


def test_long_lines_are_told_apart_too(told, tmp_path, monkeypatch):
    monkeypatch.setattr("rainpp.hooks.file._TAIL", 64)
    monitor, (first, second) = told
    path = tmp_path / "events.jsonl"
    for event in (first, first, second, second, first):
        File(path)(event, monitor.context(event))
    assert [line["key"] for line in lines(path)] == [first.key, second.key, first.key]


def test_somebody_elses_last_line_stays(told, tmp_path):
    monitor, (first, _) = told
    path = tmp_path / "notes.txt"
    path.write_text("no end")
    File(path)(first, monitor.context(first))
    assert path.read_text().splitlines()[0] == "no end"
    assert len(path.read_text().splitlines()) == 2


def test_a_full_disk_leaves_no_half_line(told, tmp_path, monkeypatch):
    monitor, (first, second) = told
    path = tmp_path / "events.jsonl"
    hook = File(path)
    hook(first, monitor.context(first))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        found = hook(second, monitor.context(second))
    assert isinstance(found, Retry)
    assert "No space left" in found.why
    assert len(lines(path)) == 1
    assert hook(second, monitor.context(second)) == Ack()
    assert len(lines(path)) == 2


def test_paths_that_cannot_be_written_to(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "x", "", 5, "a\0b"):
        with pytest.raises(SettingsError, match="path"):
            File(path)


def test_through_a_monitor(tmp_path):
    path = tmp_path / "events.jsonl"
    with opened() as monitor:
        monitor.on("many", File(path))
        monitor.on("change", File(path, name="changes"))
        send(monitor, 0, {"EU": 5, "US": 5})
        assert monitor.drain(5)
        assert sorted(line["key"] for line in lines(path)) == sorted(
            event.key for event in monitor.changes()
        )
