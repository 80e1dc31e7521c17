"""Something alive to look at: the digits of the demo as a stream that does not end.

Half of the training 1s were labelled 7. Scans of two scanners come, a minute of event time in a few
batches; every five minutes one scanner slips by a pixel for two. Two standing queries count the 1s
and the 7s of each minute and scanner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rainpp.demo.digits import Digits, load_images, plant_errors
from rainpp.demo.training import L2, apply, make_fit
from rainpp.errors import RainError
from rainpp.index.build import precompute
from rainpp.intervention import Delete, Relabel
from rainpp.model import Model
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.opening import monitor
from rainpp.windows import Tumbling

ABOUT = (
    "Half of the training 1s are labelled 7, and every few minutes the scanner south slips: drag "
    "over low numbers of ones, say that they are too low, and see which training rows are behind "
    "them."
)
SCANS, PARTS = 160, 4  # scans of each scanner in a minute, and batches they come in
_START = datetime(2026, 1, 1, 9)
_SLIPPED, _PERIOD, _WHILE = "south", 5, 2
_QUERY = """SELECT source, count(*) AS {name}
FROM scans
WHERE predict(image) = {digit}
GROUP BY source"""


def demo_monitors(store: str | Path = ":memory:", *, seed: int = 0) -> list[Monitor]:
    """Two standing queries over digits, with an alarm each.

    Raises
    ------
    RainError : scikit-learn is not installed.
    """
    data = plant_errors(*load_images(), seed=seed)
    model = Model(apply, make_fit()(data.inputs, data.labels), loss="cross_entropy", l2=L2)
    index = precompute(
        model, data.inputs, data.labels, interventions=[Delete(), Relabel()], seed=seed
    )
    found = [
        monitor(
            name,
            _QUERY.format(name=name, digit=digit),
            model=model,
            index=index,
            time="at",
            id="id",
            window=Tumbling("1m"),
            lateness="0s",
            keep="inputs",
            ahead="5200w",
            store=store,
        )
        for name, digit in (("ones", 1), ("sevens", 7))
    ]
    # One scan in ten shows a 1, so 16 of a minute do, give or take 4; and so for 7.
    found[0].alert("too few 1s", "ones < 11", target=16)
    found[1].alert("too many 7s", "sevens > 26", target=16)
    return found


def serve_demo(*, port: int, ready: Callable[[str], None]) -> None:
    """Show the demo's monitors until SIGINT or SIGTERM.

    Raises
    ------
    RainError : scikit-learn or the web server is not installed, or the port is taken.
    """
    from rainpp.dashboard import create_app, serve

    monitors = demo_monitors()
    feeder = Feeder(monitors)
    feeder.start()
    try:
        serve(create_app(monitors, about=ABOUT), port=port, ready=ready)
    finally:
        feeder.stop()
        for watched in monitors:
            watched.close()


class Feeder(threading.Thread):
    """Sends scans to the demo's monitors until it is stopped.

    A monitor that stands in a file goes on where it was.
    """

    def __init__(self, monitors: Sequence[Monitor], *, every: float = 0.5, seed: int = 0) -> None:
        """`every`: seconds between batches."""
        super().__init__(name="rainpp-demo", daemon=True)
        self._monitors, self._every, self._seed = list(monitors), every, seed
        self._data = plant_errors(*load_images(), seed=seed)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Send batches."""
        number = 0
        while not self._stopped.is_set():
            rows = scans(self._data, number, self._seed)
            try:
                for watched in self._monitors:
                    with watched.batch(source="scanners", upto=number) as batch:
                        batch.predictions(rows)
            except RainError:  # a monitor was closed: the demo is over
                return
            behind = min(watched.offsets.get("scanners", -1) for watched in self._monitors)
            number += 1
            if number > behind:
                self._stopped.wait(self._every)
            else:  # sent in an earlier run
                number = behind + 1

    def stop(self) -> None:
        """Send no more; returns once the last batch is in."""
        self._stopped.set()
        if self.is_alive():
            self.join()


def scans(data: Digits, number: int, seed: int = 0) -> pa.Table:
    """The scans of one batch, the same whenever they are asked for."""
    rng = np.random.default_rng([seed, number])
    minute, part = divmod(number, PARTS)
    each = SCANS // PARTS
    half = len(data.table_truth) // 2
    images = data.table_inputs[half + rng.integers(0, half, 2 * each)].copy()
    sources = np.repeat(["north", "south"], each)
    if minute % _PERIOD >= _PERIOD - _WHILE:
        slipped = images[sources == _SLIPPED].reshape(-1, 8, 8)
        images[sources == _SLIPPED] = np.roll(slipped, 1, axis=2).reshape(-1, 64)
    seconds = rng.uniform(0, 60 / PARTS, 2 * each) + part * 60 / PARTS
    times = [_START + timedelta(minutes=minute, seconds=float(s)) for s in seconds]
    columns: dict[str, Any] = {
        "id": pa.array(np.arange(2 * each) + 2 * each * number),
        "at": pa.array(times, pa.timestamp("us")),
        "source": pa.array(sources),
        "image": pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), 64),
    }
    return pa.table(columns)
