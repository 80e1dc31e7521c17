"""A monitor that follows a stream of Spark's."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import pyarrow as pa

from rainpp.errors import DataError, SettingsError, one_line
from rainpp.monitoring.counted import Counted, Limits
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.rules import is_name
from rainpp.monitoring.tables import TableSchema
from rainpp.spark.task import RESULT, Task, check_worker, count_partition, read_results

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter


def follow(
    stream: DataFrame,
    monitor: Monitor,
    *,
    model: str | Callable[[], Any],
    checkpoint: str | Path,
    source: str = "spark",
    trigger: Mapping[str, Any] | None = None,
) -> Following:
    """Feed a monitor from a stream of Spark's: rows are counted on Spark's workers.

    Each micro-batch becomes one batch of the monitor. A worker turns a partition into sums with the
    monitor's own code; the sums are added here, in one transaction with the number of the
    micro-batch, so one that Spark runs again, after a crash or a restart, counts once.

    Parameters
    ----------
    stream : of rows, with the columns the monitor reads.
    monitor : of one table, with keep="nothing", tumbling, sliding or everlasting windows, and
        neither ids nor labels: the rows do not come here.
    model : "module:function", or a function of no arguments, which the workers call once. It
        returns (model, index), the same as the monitor's, or (model, index, encode).
    checkpoint : Spark's directory for this stream. It and the monitor's state file belong together.
    source : the name under which the monitor keeps the number of the micro-batch, with the id that
        Spark gives the stream.
    trigger : as for `DataStreamWriter.trigger`, such as {"processingTime": "5 seconds"}.

    Raises
    ------
    SettingsError, UnsupportedQueryError : an option is wrong, or the monitor needs the rows.
    DataError : the stream lacks a column, or one has another type.
    ArtifactError, ModelError : the workers have another model, or fail to load it.
    """
    spark = _classic_session(stream)
    _check_options(monitor, model, checkpoint, source)
    request = monitor.counting_request(_arrow_schema(stream))
    known = TableSchema(request.table, pa.ipc.read_schema(pa.py_buffer(request.schema)))
    chosen = stream.select(*(_quoted(name) for name in _there(stream, known, request.columns)))
    key = f"{model if isinstance(model, str) else ''} {uuid.uuid4()}"
    task = Task(key, request, model, bool(jax.config.read("jax_enable_x64")))
    _check_worker(spark, task)
    following = Following(monitor, source, task)
    writer = chosen.writeStream.foreachBatch(following.take)
    writer = writer.option("checkpointLocation", os.fspath(checkpoint))
    following.begin(_started(writer, trigger))
    return following


class Following:
    """A stream that is being followed.

    Attributes
    ----------
    query : Spark's handle, with its progress.
    """

    def __init__(self, monitor: Monitor, source: str, task: Task) -> None:
        self._monitor, self._source, self._task = monitor, source, task
        self._query: Future[StreamingQuery] = Future()
        self._problem: Exception | None = None

    @property
    def query(self) -> StreamingQuery:
        """Spark's handle of the stream."""
        return self._query.result()

    def begin(self, query: StreamingQuery) -> None:
        """Spark has started it."""
        self._query.set_result(query)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it ends, at most so many seconds; whether it has.

        Raises
        ------
        RainError, or what a handler of the monitor raised : what ended it.
        """
        seconds: Any = timeout  # its annotation says int, and it takes parts of seconds
        return bool(self._asked(lambda: self.query.awaitTermination(seconds)))

    def catch_up(self) -> None:
        """Wait until all rows that are there now have been counted.

        Raises
        ------
        RainError, or what a handler of the monitor raised : what ended it.
        """
        self._asked(self.query.processAllAvailable)

    def stop(self) -> None:
        """End it; follow again with the same checkpoint to go on."""
        self.query.stop()

    def take(self, frame: DataFrame, number: int) -> None:
        """Count a micro-batch; Spark calls it."""
        try:
            self._take(frame, number)
        except Exception as problem:
            self._problem = problem
            raise

    def _take(self, frame: DataFrame, number: int) -> None:
        monitor, source = self._monitor, self._source
        stream = str(self.query.id)  # Spark keeps it in the checkpoint
        while True:
            limits = monitor.counting_limits(source, stream, number)
            if limits is None:  # written down before Spark could do so
                return
            taken = monitor.take_counted(
                _counted(frame, self._task, limits),
                source=source,
                stream=stream,
                upto=number,
                fingerprint=self._task.request.fingerprint,
            )
            if taken is not None:
                return

    def _asked(self, ask: Callable[[], Any]) -> Any:
        from pyspark.errors import StreamingQueryException

        try:
            return ask()
        except StreamingQueryException:
            if self._problem is None:
                raise
            raise self._problem from None


def _counted(frame: DataFrame, task: Task, limits: Limits) -> list[Counted]:
    work: Any = partial(count_partition, task, limits)
    return read_results(frame.mapInArrow(work, RESULT).toArrow())


def _started(writer: DataStreamWriter, trigger: Any) -> StreamingQuery:
    from pyspark.errors import PySparkException

    try:
        return (writer if trigger is None else writer.trigger(**trigger)).start()
    except (PySparkException, TypeError, ValueError) as problem:
        raise SettingsError(
            f"Spark cannot start the stream with trigger={trigger!r}: {one_line(problem)[:500]}."
        ) from problem


def _check_worker(spark: Any, task: Task) -> None:
    """Load the model on one worker now, where the caller sees what is wrong with it."""
    from pyspark.errors import PySparkException

    work: Any = partial(check_worker, task)
    try:
        read_results(spark.range(0, 1, 1, 1).mapInArrow(work, RESULT).toArrow())
    except PySparkException as problem:
        # The last line of a traceback that Spark wraps in its own.
        lines = [line for line in str(problem).splitlines() if "Error:" in line]
        raise SettingsError(
            f"a worker of Spark's cannot count: {(lines or [one_line(problem)])[-1].strip()}. "
            "Workers need rainpp and your module where they can import them: installed, in "
            "PYTHONPATH, or sent with SparkContext.addPyFile."
        ) from problem


def _classic_session(stream: Any) -> Any:
    try:
        from pyspark.sql import DataFrame
        from pyspark.sql.classic.dataframe import DataFrame as Classic
    except ImportError:
        raise SettingsError(
            "PySpark is not installed; pip install 'rainpp[spark]', and Java 17 or later."
        ) from None
    if not isinstance(stream, DataFrame) or not stream.isStreaming:
        what = "that does not stream" if isinstance(stream, DataFrame) else ""
        raise SettingsError(
            f"`stream` is a {type(stream).__name__} {what}".rstrip() + "; give what "
            "spark.readStream makes."
        )
    if not isinstance(stream, Classic):
        raise SettingsError(
            "`stream` comes from Spark Connect, where micro-batches are handed out in another "
            "process than this one, which has the monitor; use a session of this process."
        )
    return stream.sparkSession


def _check_options(monitor: Any, model: Any, checkpoint: Any, source: Any) -> None:
    if not isinstance(monitor, Monitor):
        raise SettingsError(
            f"`monitor` is a {type(monitor).__name__}; give what rainpp.monitor returns."
        )
    parts = model.split(":") if isinstance(model, str) else []
    if not callable(model) and not (len(parts) == 2 and all(parts)):
        raise SettingsError(
            f"`model` is {model!r:.200}; give 'module:function', or a function of no arguments, "
            "that returns (model, index) on a worker."
        )
    if not isinstance(checkpoint, str | Path) or not str(checkpoint):
        raise SettingsError(f"`checkpoint` is {checkpoint!r}; give a directory for Spark.")
    if not is_name(source):
        raise SettingsError(f"`source` is {source!r}; give the source a name.")


def _arrow_schema(stream: DataFrame) -> pa.Schema:
    """Types as workers get them; times in UTC, whatever the zone of the session."""
    from pyspark.errors import PySparkException

    try:
        found = stream.sparkSession.createDataFrame([], stream.schema).toArrow().schema
    except PySparkException as problem:
        raise DataError(
            f"`stream` has a column that Arrow cannot hold: {one_line(problem)}. Select the others."
        ) from None
    return pa.schema([pa.field(field.name, _in_utc(field.type)) for field in found])


def _in_utc(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp(kind.unit, "UTC") if pa.types.is_timestamp(kind) and kind.tz else kind


def _there(stream: DataFrame, known: TableSchema, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns, if the stream has them in types that fit."""
    found = _arrow_schema(stream)
    known.fitted(found.empty_table(), columns)
    return columns


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
