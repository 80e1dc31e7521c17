"""Live rows against training rows, beside a standing query."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from rainpp.errors import ComplaintError, DataError, SettingsError
from rainpp.windows import Tumbling
from tests.monitoring.world import arrow, make_rows, watch

COUNT = "SELECT count(*) AS n FROM people WHERE predict(a, b, c, d) = 1"
REFERENCE = make_rows(3000, 77)[list("abcd")]


def minute(number, *, count=300, by=0.0):
    rows = make_rows(count, 100 + number, seconds=60)
    return rows.assign(
        id=rows["id"] + count * number, t=rows["t"] + timedelta(minutes=number), a=rows["a"] + by
    )


def open_monitor(**options):
    return watch(COUNT, window=Tumbling("1m"), reference=REFERENCE, keep="inputs", **options)


def test_distances_are_those_of_the_window():
    with open_monitor() as monitor:
        for number in range(3):
            with monitor.batch() as b:
                b.predictions(arrow(minute(number, by=0.5 * number)))
        found = monitor.drift().set_index("feature")["distance"]
        first = monitor.drift("2026-01-01 00:00:00").set_index("feature")["distance"]
    for name in "abcd":
        for frame, number in ((found, 2), (first, 0)):
            live = minute(number, by=0.5 * number)[name]
            assert frame[name] == pytest.approx(
                ks_2samp(REFERENCE[name], live).statistic, abs=0.005
            )


def test_the_alarm_goes_off_once_and_names_the_feature():
    with open_monitor() as monitor:
        told = []
        monitor.on("drift", lambda alarm, ctx: told.append((alarm, ctx)))
        for number in range(8):
            with monitor.batch() as b:
                b.predictions(arrow(minute(number, by=0.0 if number < 4 else 1.5)))
            assert bool(told) == (number >= 4)
        (alarm, ctx), *rest = told
        frame = monitor.drift()
        assert rest == []
        assert alarm.column == "a"
        assert frame["accused"].tolist() == [True, False, False, False]
        assert frame["feature"][0] == "a"
        assert frame.attrs["auc"] > 0.6
        with pytest.raises(ComplaintError, match="no training row is behind it"):
            ctx.explain()


def test_a_restart_goes_on_bit_for_bit(tmp_path):
    def feed(monitor, numbers):
        for number in numbers:
            with monitor.batch(upto=number) as b:
                b.predictions(arrow(minute(number, by=0.1 * number)))

    with open_monitor() as monitor:
        feed(monitor, range(6))
        whole = monitor.drift()
    path = tmp_path / "m.duckdb"
    with open_monitor(store=path) as monitor:
        feed(monitor, range(3))  # closed with a summary
    monitor = open_monitor(store=path)
    feed(monitor, range(3, 4))
    monitor._store.close()  # and without: the rows since are compared again
    with open_monitor(store=path) as monitor:
        feed(monitor, range(4, 6))
        again = monitor.drift()
    pd.testing.assert_frame_equal(again, whole)
    assert again.attrs == whole.attrs


def test_a_refused_batch_is_not_compared():
    with open_monitor() as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(minute(0)))
        before = monitor.drift()
        bad = arrow(minute(1)).set_column(5, "a", [np.full(300, np.nan)])

        def send():
            with monitor.batch() as b:
                b.predictions(arrow(minute(1)))
                b.predictions(bad.set_column(0, "id", [np.arange(900, 1200)]))

        with pytest.raises(DataError):
            send()
        pd.testing.assert_frame_equal(monitor.drift(), before)


def test_a_reference_must_be_numbers():
    for bad, message in (
        ({"region": np.array(["a", "b"])}, "no numbers"),
        ([1, 2], "by name"),
        ({}, "by name"),
    ):
        with pytest.raises(SettingsError, match=message):
            watch(COUNT, reference=bad)
    with watch(COUNT) as monitor, pytest.raises(SettingsError, match="reference="):
        monitor.drift()
