"""Micro-batches through Spark and in one process: MNIST, k = 20, a count by source.

Spark reads files as a stream, in local mode on all cores. Beside what `rainpp.spark` takes for a
micro-batch stands what Spark alone does, with the same rows and a function that only counts them.

    python -m experiments.spark_batches [--sizes 1000 20000] [--batches 10]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import rainpp
from experiments import models, results, train
from experiments.streams import COUNT, TRAINING, K, scans, trained, watch
from rainpp.index.artifact import save

FOLDER = "RAINPP_SPARK_MODEL"
# Micro-batches before those that are timed: workers start, import and compile.
WARM = 4
# Rows that are timed, of one size of micro-batch.
MOST = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 20_000])
    parser.add_argument("--batches", type=int, default=10)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        spark = session(Path(folder) / "model")
        try:
            for size in options.sizes:
                place = Path(folder) / str(size)
                timed = min(options.batches, MOST // size)
                for run in measured(spark, place, size, timed + WARM):
                    runs.append(run)
                    print(run, flush=True)
        finally:
            spark.stop()
    settings = {
        "k": K,
        "training_rows": TRAINING,
        "l2": train.L2,
        "load": os.getloadavg()[1],
        "pyspark": version("pyspark"),
    }
    command = "python -m experiments.spark_batches"
    print(results.save("spark_batches", command=command, settings=settings, runs=runs))


def load() -> tuple[rainpp.Model, rainpp.Index]:
    """The model and the index, as a worker finds them."""
    folder = Path(os.environ[FOLDER])
    network = models.softmax_regression()
    params = dict(np.load(folder / "params.npz"))
    model = rainpp.Model(network.apply, params, loss="cross_entropy", l2=train.L2)
    return model, rainpp.load(folder / "index")


def session(folder: Path) -> Any:
    """Spark in this process and its children; the model is written where they find it."""
    from pyspark.sql import SparkSession

    model, index, _ = trained(0.3, 0)
    folder.mkdir(parents=True)
    params: Any = model.params
    named: dict[str, Any] = {name: np.asarray(part) for name, part in params.items()}
    np.savez(folder / "params.npz", **named)
    save(index, folder / "index")
    os.environ |= {
        FOLDER: str(folder),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    builder: Any = SparkSession.builder
    made = (
        builder.master("local[*]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    made.sparkContext.setLogLevel("ERROR")
    return made


def measured(spark: Any, place: Path, size: int, count: int) -> Iterator[dict[str, Any]]:
    """The same micro-batches in every way; through Spark twice."""
    (place / "rows").mkdir(parents=True)
    cores = os.cpu_count() or 1
    for number in range(count):
        table = _rows(number, size)
        for part in range(cores):  # as many partitions
            rows = table.slice(
                part * size // cores, (part + 1) * size // cores - part * size // cores
            )
            pq.write_table(rows, place / "rows" / f"{number:04}-{part}.parquet")
    about = {"rows": size, "batches": count - WARM}
    yield {"way": "in one process", **about, **_summed([_in_process(place, size, count)], size)}
    ways = {"Spark alone": _alone, "rainpp.spark": _followed}
    took: dict[str, list[list[float]]] = {name: [] for name in ways}
    # There and back, as the load of a machine changes.
    for attempt, name in enumerate([*ways, *reversed(ways)]):
        took[name].append(ways[name](spark, place, cores, attempt))
    for name, rounds in took.items():
        yield {"way": name, **about, "batches": 2 * (count - WARM), **_summed(rounds, size)}


def _summed(rounds: list[list[float]], size: int) -> dict[str, float]:
    timed = [seconds for found in rounds for seconds in found[WARM:]]
    return {
        **results.milliseconds(timed),
        "rows_a_second": round(size / float(np.median(timed))),
        "first_ms": round(rounds[0][0] * 1e3),
    }


def _watch(place: Path, name: str) -> rainpp.Monitor:
    return watch(COUNT, place / f"{name}.duckdb", id=None, keep="nothing")


def _rows(number: int, size: int) -> pa.Table:
    return scans(number * size, size).drop_columns(["id"])


def _in_process(place: Path, size: int, count: int) -> list[float]:
    took: list[float] = []
    with _watch(place, "here") as monitor:
        for number in range(count):
            table = _rows(number, size)
            began = time.perf_counter()
            with monitor.batch(upto=number) as batch:
                batch.predictions(table)
            took.append(time.perf_counter() - began)
    return took


def _stream(spark: Any, place: Path, cores: int) -> Any:
    rows = str(place / "rows")
    stream = spark.readStream.schema(spark.read.parquet(rows).schema)
    # Files in the order they were written, those of one micro-batch at a time.
    return stream.option("maxFilesPerTrigger", cores).parquet(rows)


def _alone(spark: Any, place: Path, cores: int, attempt: int) -> list[float]:
    def count(frame: Any, number: int) -> None:
        del number
        frame.mapInArrow(_only_counted, "rows bigint").toArrow()

    writer = _stream(spark, place, cores).writeStream.foreachBatch(count)
    query = writer.option("checkpointLocation", str(place / f"alone {attempt}")).start()
    query.processAllAvailable()
    return _ended(query)


def _only_counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = sum(batch.num_rows for batch in batches)
    yield pa.RecordBatch.from_arrays([pa.array([rows])], ["rows"])


def _followed(spark: Any, place: Path, cores: int, attempt: int) -> list[float]:
    from rainpp.spark import follow

    checkpoint = place / f"ours {attempt}"
    with _watch(place, f"spark {attempt}") as monitor:
        stream = _stream(spark, place, cores)
        following = follow(
            stream, monitor, model="experiments.spark_batches:load", checkpoint=checkpoint
        )
        following.catch_up()
        return _ended(following.query)


def _ended(query: Any) -> list[float]:
    """Seconds from one micro-batch to the next, as Spark says."""
    progress = [item for item in query.recentProgress if item["numInputRows"]]
    query.stop()
    return [item["durationMs"]["triggerExecution"] / 1e3 for item in progress]


if __name__ == "__main__":
    main()
