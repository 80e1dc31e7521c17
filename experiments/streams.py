"""What a monitor costs, and what it finds: MNIST logistic regression, 784 pixels, k = 20.

- Batches of 1000 scans through a windowed count by source, beside the model's own forward pass over
  the same rows in the same run, with a thousand to a million rows already seen; state in memory and
  in a file, where a commit is durable.
- Figure 9: the cost of an update by its size, for three sizes of what is there already.
- From an alarm to the top 50 of 50 000 training rows, and of 500 000 deletions and relabels of
  them, beside the gradient of the same count computed anew from all rows.
- Query 2 of Table 1 on a stream of test digits with planted 1 -> 7 errors: AUC_R of the ranking at
  the first alarm, beside that of the offline complaint about all test digits.
- Labels into the accuracy of a window, one by one and a thousand at a time, durable, with ten
  thousand to ten million rows seen; and reading it with its interval.

    python -m experiments.streams [--rows 1000000] [--labelled 10000000] [--parts breach labels]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

import rainpp
from experiments import data, results, train
from experiments.corrupt import flip_classes
from experiments.mnist_flips import Case, fit
from rainpp.lanczos.projection import gradient_of_probabilities
from rainpp.metrics import auc_r
from rainpp.stream.journal import TABLE, Journal
from rainpp.windows import Tumbling

K = 20
BATCH = 1000
TRAINING = 50_000
SOURCES = np.array(["north", "south", "west"])
COUNT = "SELECT source, count(*) AS n FROM scans WHERE predict(image) = 1 GROUP BY source"
ALL = "SELECT count(*) AS n FROM scans WHERE predict(image) = 1"
# Query 2 of Table 1: predictions in a list of classes, of which the errors leave one.
IN_LIST = "SELECT count(*) AS n FROM scans WHERE predict(image) IN (0, 1)"
START = np.datetime64("2026-01-01T00:00:00", "us")
SIZES = (1, 10, 100, 1_000, 10_000)
SEEN = (1_000, 100_000, 1_000_000)

Runs = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labelled", type=int, default=10_000_000)
    parser.add_argument("--parts", nargs="+", help="Only these; what else was measured stays.")
    options = parser.parse_args()
    steps: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "batches": lambda: batches(options.rows),
        "stages": stages,
        "update size": lambda: update_sizes(options.rows),
        "breach": lambda: breach(options.rows),
        "first alarm": found_at_first_alarm,
        "labels": lambda: labels(options.labelled),
    }
    runs: Runs = []
    for name, step in steps.items():
        if options.parts and name not in options.parts:
            runs += [run for run in results.load("streams")["runs"] if run["part"] == name]
            continue
        for run in step():
            runs.append(run)
            print(run, flush=True)
    settings = {"k": K, "batch": BATCH, "training_rows": TRAINING, "l2": train.L2}
    command = "python -m experiments.streams"
    print(results.save("streams", command=command, settings=settings, runs=runs))


@cache
def digits() -> data.Dataset:
    """MNIST."""
    return data.mnist()


@cache
def trained(rate: float, seed: int) -> tuple[rainpp.Model, rainpp.Index, np.ndarray]:
    """A model of 50 000 digits of which some 1s are labelled 7, its index, and which those are."""
    found = digits()
    inputs, truth = found.train_inputs[:TRAINING], found.train_labels[:TRAINING]
    planted = flip_classes(truth, [(1, 7)], rate=rate, seed=seed)
    model, _ = fit(Case("logistic", rate, seed, TRAINING), inputs, planted.labels)
    index = rainpp.precompute(model, inputs, planted.labels, k=K)
    return model, index, planted.labels != truth


def watch(sql: str, store: str | Path, **options: Any) -> rainpp.Monitor:
    """A monitor of the model with 30 % wrong labels."""
    model, index, _ = trained(0.3, 0)
    settings: dict[str, Any] = {"time": "at", "id": "id", "window": Tumbling("1h"), **options}
    return rainpp.monitor("scans", sql, model=model, index=index, store=store, **settings)


def scans(first: int, count: int, *, seconds: float = 0.01) -> pa.Table:
    """Test digits, again and again, one every hundredth of a second of event time."""
    numbers = np.arange(first, first + count)
    images = digits().test_inputs[numbers % len(digits().test_inputs)]
    times = START + (numbers * seconds * 1e6).astype("timedelta64[us]")
    return pa.table(
        {
            "id": numbers,
            "at": times,
            "source": SOURCES[numbers % 3],
            "image": pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), 784),
        }
    )


def batches(rows: int) -> Iterator[dict[str, Any]]:
    """Batches of 1000 with more and more rows seen."""
    for where in ("memory", "file"):
        for keep in ("nothing", "gradients"):
            with tempfile.TemporaryDirectory() as folder:
                store = ":memory:" if where == "memory" else Path(folder) / "state.duckdb"
                with watch(COUNT, store, keep=keep) as monitor:
                    yield from _batches(monitor, rows, {"state": where, "keep": keep})


def _batches(monitor: rainpp.Monitor, rows: int, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    model = trained(0.3, 0)[0]
    passes = monitor_passes(monitor)
    points = [point for point in (1_000, 10_000, 100_000, 1_000_000) if point <= rows]
    whole: list[float] = []
    alone: list[float] = []
    for number in range(rows // BATCH + 100):
        table = scans(number * BATCH, BATCH)
        inputs = digits().test_inputs[(np.arange(BATCH) + number * BATCH) % 10_000]
        if any(point <= (number + 1) * BATCH < point + 101 * BATCH for point in points):
            alone.append(_seconds(lambda inputs=inputs: passes.probabilities(inputs)))
        whole.append(_seconds(lambda table=table, number=number: _send(monitor, table, number)))
        for point in points:
            if (number + 1) * BATCH == point + 100 * BATCH:
                took, forward = whole[-100:], statistics.median(alone[-100:])
                yield {
                    "part": "batches",
                    **about,
                    "seen": point,
                    "forward_ms": round(forward * 1e3, 2),
                    "beyond_ms": round((statistics.median(took) - forward) * 1e3, 2),
                    **results.milliseconds(took),
                }
    assert model is not None


def stages() -> Iterator[dict[str, Any]]:
    """What a batch of 1000 costs in a file, by what it is spent on; medians of 200 batches."""
    with tempfile.TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "alone.duckdb"))
        con.execute("SET threads = 1")
        con.execute(TABLE)
        alone = Journal(con, durable=True)
        for keep in ("nothing", "gradients"):
            with watch(COUNT, Path(folder) / f"{keep}.duckdb", keep=keep) as monitor:
                yield {"part": "stages", "keep": keep, **_stages(monitor, alone, keep)}
        con.close()


def _stages(monitor: rainpp.Monitor, alone: Journal, keep: str) -> dict[str, float]:
    passes = monitor_passes(monitor)
    weights = np.zeros((len(SOURCES), BATCH, 10), np.float32)
    weights[np.arange(BATCH) % len(SOURCES), np.arange(BATCH), 1] = 1.0
    took: dict[str, list[float]] = {"whole": [], "forward": [], "gradient": [], "journal": []}
    for number in range(250):
        table = scans(number * BATCH, BATCH)
        inputs = digits().test_inputs[(np.arange(BATCH) + number * BATCH) % 10_000]
        steps: dict[str, Callable[[], Any]] = {
            "whole": lambda table=table, number=number: _send(monitor, table, number),
            "forward": lambda inputs=inputs: passes.probabilities(inputs),
            "gradient": lambda inputs=inputs: (
                passes.forward(inputs) if keep == "gradients" else passes.backward(inputs, weights)
            ),
        }
        for name, step in steps.items():
            took[name].append(_seconds(step))
        waiting = monitor._store._journal.batches  # pyright: ignore[reportPrivateUsage]
        if waiting:  # the same line once more, in a file of its own
            took["journal"].append(_seconds(lambda line=waiting[-1]: alone.add(line)))
            alone.batches.clear()
    return {f"{name}_ms": round(statistics.median(t[-200:]) * 1e3, 2) for name, t in took.items()}


def _send(monitor: rainpp.Monitor, table: pa.Table, number: int) -> None:
    with monitor.batch(upto=number) as batch:
        batch.predictions(table)


def monitor_passes(monitor: rainpp.Monitor) -> Any:
    """The compiled passes of a monitor, made by its first batch."""
    if monitor._kept is None:  # pyright: ignore[reportPrivateUsage]
        _send(monitor, scans(-BATCH, BATCH), -1)
    kept = monitor._kept  # pyright: ignore[reportPrivateUsage]
    assert kept is not None
    return kept.setup.passes


def update_sizes(rows: int) -> Iterator[dict[str, Any]]:
    """Figure 9: updates of every size, for what is there already."""
    for seen in (size for size in SEEN if size <= rows):
        with watch(COUNT, ":memory:", keep="nothing") as monitor:
            first = 0
            while first < seen:
                _send(monitor, scans(first, 10_000), first)
                first += 10_000
            for size in SIZES:
                took: list[float] = []
                for _ in range(20 if size < 10_000 else 8):
                    table = scans(first, size)
                    first += size
                    took.append(_seconds(lambda table=table, at=first: _send(monitor, table, at)))
                yield {
                    "part": "update size",
                    "seen": seen,
                    "update": size,
                    **results.milliseconds(took[3:]),
                }


def breach(rows: int) -> Iterator[dict[str, Any]]:
    """From an alarm to the top 50, and the gradient computed anew from all rows seen."""
    model, both, _ = trained(0.3, 0)
    labels = flip_classes(digits().train_labels[:TRAINING], [(1, 7)], rate=0.3, seed=0).labels
    inputs = digits().train_inputs[:TRAINING]
    deletions = rainpp.precompute(model, inputs, labels, k=K, interventions=[rainpp.Delete()])
    for index in (deletions, both):
        for seen in (size for size in SEEN if size <= rows):
            yield _breach(model, index, seen)


def _breach(model: rainpp.Model, index: rainpp.Index, seen: int) -> dict[str, Any]:
    with rainpp.monitor(
        "scans",
        ALL,
        model=model,
        index=index,
        time="at",
        id="id",
        window=Tumbling("365d"),
        keep="nothing",
    ) as monitor:
        for first in range(0, seen, 10_000):
            _send(monitor, scans(first, min(10_000, seen)), first)
        monitor.alert("too few", f"n < {seen}", whole_windows=False)
        _send(monitor, scans(seen, 10), seen)
        alarm = next(c for c in monitor.changes() if isinstance(c, rainpp.Alarm))
        context = monitor.context(alarm)
        took = [_seconds(lambda: context.explain().top(50)) for _ in range(500)]
    weights = np.zeros((min(seen, 10_000), 10))
    weights[:, 1] = 1.0
    inputs = digits().test_inputs[: len(weights)]

    def anew() -> None:
        gradient = jnp.zeros_like(model.theta)
        for _ in range(max(1, seen // 10_000)):
            gradient += gradient_of_probabilities(model, inputs, weights)
        vector = np.asarray(index.eigenvectors @ np.asarray(gradient), float)
        index.rank(vector).top(50)

    anew()
    again = statistics.median(_seconds(anew) for _ in range(3))
    return {
        "part": "breach",
        "interventions": len(index.interventions),
        "seen": seen,
        "anew_ms": round(again * 1e3, 1),
        "times_faster": round(again / statistics.median(took)),
        "p99_ms": round(float(np.quantile(took, 0.99)) * 1e3, 2),
        **results.milliseconds(took),
    }


def found_at_first_alarm() -> Iterator[dict[str, Any]]:
    """Query 2 on a stream of test digits; the offline complaint is about all of them."""
    for rate in (0.1, 0.2, 0.3, 0.4):
        for seed in (0, 1, 2):
            yield _found(rate, seed)


def _found(rate: float, seed: int) -> dict[str, Any]:
    model, index, planted = trained(rate, seed)
    order = np.random.default_rng(seed).permutation(10_000)
    images = digits().test_inputs[order]
    # Of 500 digits 0s and 1s are 106: what a person who counts would expect, less two deviations.
    with rainpp.monitor(
        "scans", IN_LIST, model=model, index=index, time="at", id="id", window=Tumbling("5s")
    ) as monitor:
        monitor.alert("too few", "n < 90", target=106)
        found: list[tuple[int, rainpp.Ranking]] = []
        monitor.on("too few", lambda alarm, ctx: found.append((alarm.seq, ctx.explain())))
        first = 0
        for first in range(0, 10_000, 100):
            table = scans(first, 100)
            chosen = pa.array(images[first : first + 100].reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(chosen, 784)
            _send(monitor, table.set_column(3, "image", column), first)
            if found:
                break
        seen = first + 100
    con = rainpp.connect()
    con.register_table("scans", pa.table({"image": column_of(digits().test_inputs)}))
    con.register_model("predict", model, index)
    offline = con.sql(IN_LIST).complain("n", should="increase").rank()
    online = round(float(auc_r(found[0][1].row_scores(), planted)), 4) if found else None
    whole = round(float(auc_r(offline.row_scores(), planted)), 4)
    return {
        "part": "first alarm",
        "rate": rate,
        "seed": seed,
        "scans_until_alarm": seen if found else None,
        "auc_r_at_first_alarm": online,
        "auc_r_offline": whole,
        "ratio": None if online is None else round(online / whole, 4),
    }


def column_of(images: np.ndarray) -> pa.Array:
    """Images as a column of arrays."""
    return pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images.shape[1])


def labels(rows: int) -> Iterator[dict[str, Any]]:
    """Labels into the accuracy of a window; a small model, as labels never meet it."""
    model, index = _small()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"time": "at", "id": "id", "label": "y", "keep": "nothing"}
        with rainpp.monitor(
            "small",
            "SELECT count(*) AS n FROM rows WHERE predict(a, b) = 1",
            model=model,
            index=index,
            window=Tumbling("365d"),
            store=Path(folder) / "state.duckdb",
            **settings,
        ) as monitor:
            seen = 0
            for point in (p for p in (10_000, 1_000_000, 10_000_000) if p <= rows):
                while seen < point:
                    count = min(50_000, point - seen)
                    _send(monitor, _small_rows(seen, count), seen)
                    seen += count
                yield from _labels(monitor, seen)


def _labels(monitor: rainpp.Monitor, seen: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(seen)
    ids = rng.choice(seen, 8_000, replace=False)

    def send(some: np.ndarray) -> None:
        with monitor.batch(source="labels") as batch:
            batch.feedback({"id": some, "y": (some % 2).astype(np.int64)})

    single = [_seconds(lambda at=at: send(ids[at : at + 1])) for at in range(300)]
    many = [_seconds(lambda at=at: send(ids[at : at + 1000])) for at in range(1000, 8_000, 1000)]
    fresh, again = list[float](), list[float]()
    for at in range(300, 500):
        send(ids[at : at + 1])
        fresh.append(_seconds(monitor.accuracy))
        again.append(_seconds(monitor.accuracy))
    yield {
        "part": "labels",
        "seen": seen,
        "single_ms": round(statistics.median(single) * 1e3, 2),
        "single_p95_ms": round(float(np.quantile(single, 0.95)) * 1e3, 2),
        "microseconds_each_of_1000": round(statistics.median(many) * 1e3, 2),
        "read_ms": round(statistics.median(fresh) * 1e3, 2),
        "read_again_ms": round(statistics.median(again) * 1e3, 2),
    }


def _small() -> tuple[rainpp.Model, rainpp.Index]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(500, 2)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    params = {"w": jnp.asarray([[-1.0, 1.0], [0.0, 0.0]], jnp.float32)}
    model = rainpp.Model(lambda p, x: x @ p["w"], params, loss="cross_entropy", l2=0.1)
    with jax.default_matmul_precision("float32"):
        return model, rainpp.precompute(model, inputs, labels, k=2)


def _small_rows(first: int, count: int) -> pa.Table:
    numbers = np.arange(first, first + count)
    values = np.random.default_rng(first).normal(size=(2, count)).astype(np.float32)
    times = START + (numbers * 1000).astype("timedelta64[us]")
    return pa.table({"id": numbers, "at": times, "a": values[0], "b": values[1]})


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
