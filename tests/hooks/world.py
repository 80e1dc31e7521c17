"""A small monitor with alarms, and batches that set them off."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import numpy as np

from rainpp.hooks import Schedule
from rainpp.windows import Tumbling
from tests.monitoring.world import START, arrow, make_rows, trained, watch

SQL = "SELECT region, count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 GROUP BY region"
SECRET = "whsec_" + "QUFB" * 8
# As many attempts as by default, without the hours between them.
QUICK = Schedule(waits=(0.0, *[0.02] * 9), jitter=0.0)


@cache
def ones():
    """Rows that are predicted to be of class 1."""
    rows = make_rows(400, 8)
    chosen = trained().model.probabilities(rows[list("abcd")].to_numpy(float)).argmax(1) == 1
    return rows[chosen]


def opened(**options):
    """A monitor with one alarm, "many": more than two rows of a region within a minute."""
    monitor = watch(SQL, window=Tumbling("1m"), **options)
    monitor.alert("many", "n > 2", target=1)
    return monitor


def send(monitor, minute, counts, *, source="s"):
    """A minute with so many rows of each region that count."""
    regions = [name for name, count in counts.items() for _ in range(count)]
    first = 1000 * minute
    rows = (
        ones()
        .iloc[np.arange(len(regions)) % len(ones())]
        .assign(
            id=np.arange(first, first + len(regions)),
            region=regions,
            t=START + timedelta(minutes=minute, seconds=1),
        )
    )
    with monitor.batch(source, upto=minute) as batch:
        batch.predictions(arrow(rows))
    return batch.taken


def alarms(monitor):
    """The alarms in the outbox."""
    return [event for event in monitor.changes() if hasattr(event, "because")]
