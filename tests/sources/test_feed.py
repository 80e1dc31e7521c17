"""Rows pushed from Python."""

from __future__ import annotations

import threading

import pytest

from rainpp.errors import DataError, QueryError, SettingsError
from rainpp.sources import Feed, feeding
from tests.sources.world import Crash, images, opened, rows


def push_all(feed, first=0):
    """Pushes 0 to 11, from one on: the fifth takes rows back, the ninth labels some."""
    for number in range(first, 12):
        if number == 5:
            feed.retract([0, 1001])
        elif number == 9:
            feed.feedback({"id": [2, 1002, 2003], "label": [1, 0, 2]})
        else:
            feed.push(rows(5, number))


def test_after_a_crash_it_goes_on_where_all_monitors_were(tmp_path, monkeypatch):
    with opened(tmp_path / "whole.duckdb") as monitors:
        with Feed(monitors) as feed:
            push_all(feed)
            assert feed.flush() == feed.taken == 11
        expected = images(monitors)
    real, left, resumed = feeding.take, [0], []

    def dying(*args):
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return real(*args)

    monkeypatch.setattr(feeding, "take", dying)
    monkeypatch.setattr("rainpp.sources.feed._TOGETHER", 2)
    for left[0] in (1, 2, 3, 5, 99):
        with opened(tmp_path / "torn.duckdb") as monitors:
            feed = Feed(monitors)
            resumed.append(feed.taken)
            try:
                push_all(feed, feed.taken + 1)
                feed.flush()
            except Crash:
                continue
            feed.close()
            found = images(monitors)
    assert resumed == sorted(resumed)
    assert len(set(resumed)) >= 4
    assert found == expected


def test_a_full_queue_refuses_or_waits():
    with opened(names=["money"]) as (monitor,):
        feed = Feed([monitor], most=2)
        monitor._lock.acquire()
        try:
            pushed = [feed.push(rows(2, number)) for number in range(2)]
            assert pushed == [0, 1]
            with pytest.raises(DataError, match="is full: 2 pushes wait"):
                feed.push(rows(2, 2), timeout=0)
            waiting = threading.Thread(target=lambda: pushed.append(feed.push(rows(2, 2))))
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
        finally:
            monitor._lock.release()
        waiting.join(10)
        assert pushed == [0, 1, 2]
        feed.close()
        assert monitor.offsets == {"feed": 2}
        with pytest.raises(DataError, match="is closed"):
            feed.push(rows(2, 3))


def test_what_a_monitor_refuses_is_set_aside_and_the_rest_taken():
    with opened(names=["money"]) as (monitor,), Feed([monitor]) as feed:
        feed.push(rows(3, 0))
        feed.push(rows(3, 1).drop_columns(["a"]))
        feed.push(rows(3, 2))
        assert feed.flush() == 2
        assert monitor.read()["rows"].sum() <= 6
        (aside,) = feed.asides.read()
        assert (aside.offset, aside.monitor) == (1, "money")
        assert "no column `a`" in aside.reason
        assert monitor.offsets == {"feed": 2}


def test_a_query_that_does_not_fit_the_first_rows_ends_it():
    with opened(names=["money"], schema=None) as (monitor,):
        feed = Feed([monitor])
        feed.push(rows(3, 0).drop_columns(["amount"]))
        with pytest.raises(QueryError, match="amount"):
            feed.flush()
        with pytest.raises(QueryError, match="amount"):
            feed.push(rows(3, 1))
        assert monitor.offsets == {}
        assert feed.asides.read() == []


def test_what_is_no_table_is_refused_at_once():
    with opened(names=["money"]) as (monitor,), Feed([monitor]) as feed:
        with pytest.raises(DataError, match="give an Arrow table"):
            feed.push(3)
        with pytest.raises(DataError, match="list of ids"):
            feed.retract(object())
        assert feed.taken == -1


def test_wrong_options():
    with opened(names=["money"]) as monitors:
        with pytest.raises(SettingsError, match="at least 1"):
            Feed(monitors, most=0)
        with pytest.raises(SettingsError, match="at least 1"):
            Feed([])
        with pytest.raises(SettingsError, match="a name"):
            Feed(monitors, "")
