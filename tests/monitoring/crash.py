"""A monitor that is killed again and again: what feeds it, and what is compared in the end.

Run as a script it feeds the state file of its first argument until it is killed or done. With
``forks KILLS SEED`` after it, it forks a child for every attempt and kills it itself: imports are
paid once.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import jax
import numpy as np

import rainpp
from rainpp.index.artifact import save
from rainpp.monitoring import state as room
from rainpp.stream.packing import key_text
from rainpp.windows import Sliding
from tests import oracles
from tests.monitoring.world import START, arrow, make_rows

PREDICTED = "predict(a, b, c, d)"
SQL = (
    f"SELECT region, count(*) AS n, sum(CASE WHEN {PREDICTED} = label THEN amount END) AS s "
    f"FROM people WHERE {PREDICTED} IN (1, 2) GROUP BY region"
)
ROWS = 6  # in a batch
SUMMARY_EVERY = 5


def prepare(path: Path) -> None:
    """Write down the model and its index, so that nobody has to train them again."""
    from tests.monitoring.world import trained

    save(trained().index, path.with_suffix(".index"))
    np.savez(path.with_suffix(".npz"), **trained().model.params)


def opened(path: Path) -> rainpp.Monitor:
    """The monitor of a state file, with its alarms."""
    room._SUMMARY_EVERY = SUMMARY_EVERY
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as weights:
        params = dict(weights)
    monitor = rainpp.monitor(
        "people",
        SQL,
        model=rainpp.Model(oracles.linear, params, l2=1e-2),
        index=rainpp.load(path.with_suffix(".index")),
        schema=arrow(make_rows(1)).schema,
        time="t",
        id="id",
        label="label",
        window=Sliding("60s", "20s"),
        lateness="10s",
        retention="90s",
        keep="gradients",
        store=path.with_suffix(".duckdb"),
    )
    monitor.alert("many", "n > 40", clear="n > 36", hold=2)
    monitor.alert("few", "n < 34", hold=2)
    monitor.alert("wrong", "accuracy < 0.9")
    return monitor


def feed(monitor: rainpp.Monitor, batches: int) -> None:
    """Send what is missing, from two sources with their own offsets."""
    for at in range(batches):
        source = ("even", "odd")[at % 2]
        if at > monitor.offsets.get(source, -1):
            with monitor.batch(source, upto=at) as b:
                send(b, at)


def send(b, at: int) -> None:
    """One batch: rows in time, late, twice, too late; rows taken back, labelled, relabelled."""
    rng = np.random.default_rng(at)
    rows = make_rows(ROWS, at, seconds=8)
    rows = rows.assign(id=rows["id"] + ROWS * at, t=rows["t"] + timedelta(seconds=2 * at))
    if at % 7 == 3:
        rows.loc[0, "t"] = START + timedelta(seconds=max(0, 2 * at - 60))
    if at % 11 == 10:
        rows.loc[1, "t"] = START - timedelta(days=3)
    b.predictions(arrow(rows))
    if at % 5 == 4:
        b.predictions(arrow(rows.iloc[:2]))
    known = ROWS * at + ROWS
    ids = rng.integers(max(0, known - 60), known, 4)
    b.retract(ids[:1].tolist() + ([known - 2] if at % 3 == 0 else []))
    b.feedback({"id": ids[1:], "label": rng.integers(0, 4, 3)})
    if at % 9 == 8:
        b.feedback({"id": [known - 400], "label": [1]})


def state(monitor: rainpp.Monitor) -> dict[str, str]:
    """All that must be the same after kills as without; as text, so that bits are compared."""
    kept = monitor._kept
    cells = sorted(
        (pane, key_text(key), values.tobytes().hex())
        for sums in (cells.everything() for cells in kept.windows.cells)
        for (pane, key), values in zip(sums.places, sums.values, strict=True)
    )
    columns = list(monitor.sql("SELECT * FROM rows_0 LIMIT 0").columns)
    rows = monitor.sql('SELECT * FROM rows_0 ORDER BY "__row"')
    gradients = [
        (number, key_text(row.key), name, cell.gradient.tobytes().hex())
        for number in kept.numbers()
        for row in kept.rows(number, None)
        for name, cell in row.cells.items()
    ]
    found = {
        "read": monitor.read().to_csv(),
        "changes": [[item.seq, item.body()] for item in monitor.changes()],
        "late": monitor.late().to_csv(),
        "accuracy": monitor.accuracy().to_csv(),
        "confusion": monitor.confusion().to_csv(),
        "alarms": {
            name: sorted(map(json.dumps, watch.body()["groups"]))
            for name, watch in monitor._watches.items()
        },
        "offsets": monitor.offsets,
        "watermark": monitor.watermark,
        "cells": cells,
        "gradients": gradients,
        "said": sorted(map(json.dumps, kept.emission.body())),
        "rows": [columns, rows.to_csv()],
        "position": vars(monitor._at),
        "ids": len(kept.intake._directories[0]),
    }
    return {name: json.dumps(part, sort_keys=True, default=str) for name, part in found.items()}


def work(path: Path, batches: int, say) -> None:
    """What a child does until it is killed."""
    with opened(path) as monitor:
        say("open")
        feed(monitor, batches)
    say("done")


def until_done(start, rng, *, most: int, opening: float, working: float) -> int:
    """Kill what `start` starts until one is done; the number of kills.

    Some are killed before they have opened the file, which takes `opening` seconds; the others
    within `working` seconds, while they send batches. `start` returns a process id and the reading
    end of a pipe.
    """
    kills = 0
    while True:
        pid, pipe = start()
        if kills < most:
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, opening))
                os.kill(pid, signal.SIGKILL)
            elif waited(pipe, "open"):
                time.sleep(rng.uniform(0, working))
                os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        said = rest(pipe)
        kills += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        if "done" in said:
            return kills


def waited(pipe: int, word: str) -> bool:
    """Whether a child says a word before its pipe ends."""
    assert select.select([pipe], [], [], 60)[0], "the child hangs"
    return word in os.read(pipe, 100).decode()


def rest(pipe: int) -> str:
    """What is left in a pipe, which is closed."""
    found = b""
    while part := os.read(pipe, 100):
        found += part
    os.close(pipe)
    return found.decode()


def forks(path: Path, batches: int, kills: int, seed: int) -> None:
    """Fork a child for every attempt."""

    def start() -> tuple[int, int]:
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write)
            return pid, read
        work(path, batches, lambda word: os.write(write, word.encode()))
        os._exit(0)

    rng = np.random.default_rng(seed)
    kills = until_done(start, rng, most=kills, opening=0.5, working=0.6)
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    where, count, *more = sys.argv[1:]
    if more:
        forks(Path(where), int(count), int(more[0]), int(more[1]))
    else:
        work(Path(where), int(count), lambda word: os.write(1, word.encode()))
