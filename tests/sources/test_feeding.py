"""Parcels and monitors: each takes every record once, wherever it was."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rainpp.errors import ArtifactError, DataError, ModelError
from rainpp.monitoring.taking import Taking
from rainpp.sources.feeding import Feeding, Stopped
from rainpp.sources.parcel import Chunk, Parcel
from tests.sources.world import NO_IDS, images, opened, rows


def parcel(first, last, table=None):
    """Records of one row each, at offsets `first` to `last`."""
    table = rows(20, 1, 0).slice(first, last - first + 1) if table is None else table
    return Parcel("s", (Chunk("predictions", table, np.arange(first, last + 1)),), last)


def test_monitors_at_different_offsets_take_what_is_after_their_own():
    with opened(**NO_IDS) as monitors:
        Feeding(monitors).give(parcel(0, 19))
        expected = images(monitors)
    with opened(**NO_IDS) as monitors:
        Feeding(monitors).give(parcel(0, 3))
        Feeding(monitors[:1]).give(parcel(4, 9))
        feeding = Feeding(monitors)
        assert feeding.offsets() == {"s": 3}
        # Cut otherwise than before: the first monitor has a part of it.
        for part in (parcel(4, 6), parcel(7, 15), parcel(12, 19)):
            feeding.give(part)
        assert images(monitors) == expected


def test_a_source_that_one_monitor_never_heard_begins_anew():
    with opened() as monitors:
        Feeding(monitors[:1]).give(parcel(0, 5))
        assert Feeding(monitors).offsets() == {}


def test_only_the_bad_records_of_a_parcel_are_set_aside():
    table = rows(20, 1, 0)
    values = table.column("a").to_numpy().copy()
    values[[3, 4, 17]] = np.nan
    bad = table.set_column(table.column_names.index("a"), "a", [values])
    with opened(**NO_IDS) as monitors:
        feeding = Feeding(monitors)
        feeding.give(parcel(0, 19, bad))
        found = [(aside.offset, aside.monitor) for aside in feeding.asides.read()]
        assert found == [(at, name) for name in ("by_region", "money") for at in (3, 4, 17)]
        assert all("NaN" in aside.reason for aside in feeding.asides.read())
        assert len(monitors[0].sql("SELECT * FROM rows_0")) == 17
        assert feeding.offsets() == {"s": 19}


def test_rows_of_one_record_stand_and_fall_together():
    table = rows(4, 1, 0)
    bad = table.set_column(table.column_names.index("a"), "a", [[0.0, np.nan, 1.0, 2.0]])
    offsets = np.array([0, 0, 1, 1])
    with opened(names=["money"], **NO_IDS) as monitors:
        feeding = Feeding(monitors)
        feeding.give(Parcel("s", (Chunk("predictions", bad, offsets),), 1))
        assert [aside.offset for aside in feeding.asides.read()] == [0]
        assert len(monitors[0].sql("SELECT * FROM rows_0")) == 2


def test_a_state_that_cannot_be_written_is_waited_for(monkeypatch, caplog):
    real, failures = Taking._take, [2]

    def full(*args):
        failures[0] -= 1
        if failures[0] >= 0:
            raise ArtifactError("no space left on device.")
        return real(*args)

    monkeypatch.setattr("rainpp.sources.feeding._FIRST_WAIT", 0.01)
    with opened(names=["money"]) as monitors:
        stop = threading.Event()
        feeding = Feeding(monitors, stop=stop)
        monkeypatch.setattr(Taking, "_take", full)
        feeding.give(parcel(0, 5))
        assert feeding.offsets() == {"s": 5}
        assert sum("no space left" in line for line in caplog.messages) == 2
        failures[0] = 99
        stop.set()
        with pytest.raises(Stopped):
            feeding.give(parcel(6, 9))
        monkeypatch.undo()
        assert feeding.offsets() == {"s": 5}
        assert feeding.asides.read() == []


def test_a_closed_monitor_sets_nothing_aside():
    with opened(names=["money"]) as monitors:
        feeding = Feeding(monitors)
        monitors[0].close()
        with pytest.raises(DataError, match="is closed"):
            feeding.give(parcel(0, 5))
        assert feeding.asides.read() == []


def test_whatever_a_model_raises_is_said_with_where_the_rows_are(monkeypatch):
    def fails(*_):
        raise RuntimeError("no more\nmemory")

    monkeypatch.setattr("rainpp.sources.feeding.take", fails)
    chunk = Chunk("predictions", rows(2), np.arange(2))
    with opened(names=["money"]) as monitors:
        words = r"`money` cannot take in the rows of a/b \(source `in`\): RuntimeError: no more"
        with pytest.raises(ModelError, match=f"{words} memory"):
            Feeding(monitors).give(Parcel("in", (chunk,), 1, place="a/b"))
        assert monitors[0].offsets == {}
