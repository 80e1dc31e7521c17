"""Two monitors of one state file that sources feed, and what must be the same in the end."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta

import numpy as np

import rainpp
from rainpp.sources import feeding
from rainpp.sources.feeding import Feeding
from rainpp.windows import Tumbling
from tests.monitoring.world import arrow, make_rows, trained

PREDICTED = "predict(a, b, c, d)"
# Without ids, a row that is taken twice counts twice.
NO_IDS = {"id": None, "label": None}
QUERIES = {
    "by_region": f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} IN (0, 1) "
    "GROUP BY region",
    "money": f"SELECT sum(amount) AS s, count(*) AS n FROM people WHERE {PREDICTED} = 2",
}


class Crash(BaseException):
    """The process dies here."""


def rows(count=8, seed=0, first=None):
    """Rows in the order of their ids, a minute of event time, no NULL."""
    found = make_rows(count, seed, seconds=60)
    ids = found["id"] + (1000 * seed if first is None else first)
    times = found["t"] + timedelta(seconds=20 * seed)
    return arrow(found.assign(id=ids, t=times, amount=found["amount"].fillna(1.0)))


def records(table):
    """Rows as a client writes them in JSON."""
    found = table.to_pylist()
    return [{**row, "t": row["t"].isoformat() + "Z"} for row in found]


def lines(table):
    return [json.dumps(row).encode() for row in records(table)]


@contextmanager
def opened(path=":memory:", names=tuple(QUERIES), **options):
    """The monitors of a state file, in the order of their names."""
    settings = {
        "time": "t",
        "id": "id",
        "label": "label",
        "schema": arrow(make_rows(1)).schema,
        "window": Tumbling("1m"),
        "retention": "7d",
        "keep": "gradients",
        "store": path,
        **options,
    }
    monitors = [
        rainpp.monitor(
            name, QUERIES[name], model=trained().model, index=trained().index, **settings
        )
        for name in names
    ]
    try:
        yield monitors
    finally:
        for monitor in monitors:
            monitor.close()


def image(monitor):
    """Answer, gradients, rows and offsets, as text: to the last bit."""
    kept = monitor._kept
    gradients = sorted(
        (number, repr(row.key), name, cell.gradient.tobytes().hex())
        for number in kept.numbers()
        for row in kept.rows(number, None)
        for name, cell in row.cells.items()
    )
    stored = monitor.sql('SELECT * EXCLUDE ("__row") FROM rows_0 ORDER BY ALL')
    labelled = monitor.spec.columns.label is not None
    return {
        "read": monitor.read().to_csv(),
        "gradients": json.dumps(gradients),
        "rows": stored.to_csv(),
        "accuracy": monitor.accuracy().to_csv() if labelled else "",
        "offsets": json.dumps(monitor.offsets, sort_keys=True),
        "late": str(len(monitor.late())),
    }


def images(monitors):
    return {monitor.spec.name: image(monitor) for monitor in monitors}


def drain(source, monitors, asides=None, *, polls=200):
    """Feed what a source has."""
    feed = Feeding(monitors, asides=asides)
    source.start(feed.offsets(), feed.times())
    try:
        for _ in range(polls):
            for parcel in source.poll(0.2):
                feed.give(parcel)
            if source.caught_up:
                return
        raise AssertionError("the source does not come to an end")
    finally:
        source.close()


def drain_with_crashes(make_source, path, monkeypatch, seed, crashes=8, **options):
    """Feed what a source has, dying again and again before or after a monitor's batch."""
    rng, died = np.random.default_rng(seed), 0
    real = feeding.take
    for _ in range(crashes):
        monkeypatch.setattr(feeding, "take", dying(real, rng))
        with opened(path, **options) as monitors:
            try:
                drain(make_source(), monitors)
            except Crash:
                died += 1
    monkeypatch.setattr(feeding, "take", real)
    with opened(path, **options) as monitors:
        drain(make_source(), monitors)
        return images(monitors), died


def dying(take, rng):
    """`take`, until it dies at one of the next few batches: before it is written, or after."""
    left, after = int(rng.integers(1, 5)), bool(rng.integers(2))

    def taking(*args):
        nonlocal left
        left -= 1
        if not left and not after:
            raise Crash
        taken = take(*args)
        if not left:
            raise Crash
        return taken

    return taking
