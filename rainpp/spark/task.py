"""What runs on Spark's workers: one partition of a micro-batch into one record of sums.

A worker is a process of Spark's that takes one partition after another; the model is loaded by the
first of them and stays. Problems that the caller can mend come back as data, because an exception
would come back as Spark's: a page of Java, retried four times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from rainpp import errors
from rainpp.errors import ModelError, RainError, SettingsError, named
from rainpp.monitoring.counted import Counted, Limits, Request

# Of what `count_partition` and `check_worker` yield.
RESULT = "problem string, body binary"
# Models a worker holds: those of as many queries.
_HELD = 4


@dataclass(frozen=True)
class Task:
    """What a worker is told once.

    Attributes
    ----------
    key : what tells it from others; a worker knows again by it what it has loaded.
    model : "module:function", or a function; it returns (model, index) or (model, index, encode).
    double : compute in double precision, as whoever asks does.
    """

    key: str
    request: Request = field(compare=False)
    model: str | Callable[[], Any] = field(compare=False)
    double: bool = field(compare=False)


def count_partition(
    task: Task, limits: Limits, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What the rows of a partition add, or the problem with them; nothing if there are none."""
    try:
        parts = [
            _counter(task).count(pa.Table.from_batches([batch]), limits)
            for batch in batches
            if batch.num_rows
        ]
        if parts:
            yield _result(None, _counter(task).together(parts).packed())
    except RainError as problem:
        yield _result(problem, None)


def check_worker(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The problem with loading the model here, if there is one."""
    for _ in batches:  # Spark counts on it that they are read
        pass
    try:
        _counter(task)
    except RainError as problem:
        yield _result(problem, None)


def read_results(table: pa.Table) -> list[Counted]:
    """What the partitions say.

    Raises
    ------
    RainError : what one of them met, as the class it was.
    """
    for text in table.column("problem").to_pylist():
        if text is not None:
            raise _problem(text)
    return [Counted.unpacked(body) for body in table.column("body").to_pylist()]


def _result(problem: RainError | None, body: bytes | None) -> pa.RecordBatch:
    text = None if problem is None else json.dumps([type(problem).__name__, str(problem)])
    kinds = (pa.string(), pa.binary())
    columns = [pa.array([value], kind) for value, kind in zip((text, body), kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, ["problem", "body"])


def _problem(text: str) -> RainError:
    name, said = json.loads(text)
    kind = getattr(errors, name, errors.DataError)
    if kind is errors.UnsupportedQueryError:  # made of parts that have become one line
        kind = errors.QueryError
    return kind(said)


@lru_cache(_HELD)
def _counter(task: Task) -> Any:
    # This process is Spark's and computes for us: its precision is whoever asks's to set.
    import jax

    jax.config.update("jax_enable_x64", task.double)
    from rainpp.inference import RegisteredModel
    from rainpp.monitoring.elsewhere import Counter
    from rainpp.registration import check_kinds

    model, index, encode = _loaded(task.model)
    check_kinds(model, index, encode)
    if index is None:
        raise SettingsError("`model` gives no index; return (model, index).")
    index.check_model(model)
    request = task.request
    registered = RegisteredModel(request.spec.function, request.classes, model, index, encode)
    return Counter.of(request, registered)


def _loaded(model: str | Callable[[], Any]) -> tuple[Any, Any, Any]:
    from rainpp.adapters.import_path import load_function

    make = load_function(model, key="model", arguments=()) if isinstance(model, str) else model
    try:
        found = make()
    except RainError:
        raise
    except Exception as problem:
        raise ModelError(f"`model` fails on a worker of Spark's: {named(problem)}.") from problem
    if not isinstance(found, tuple) or len(found) not in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
        raise SettingsError(
            f"`model` gives a {type(found).__name__} on a worker of Spark's; return (model, index)"
            ", or (model, index, encode) where the monitor has an `encode`."
        )
    model_, index, *rest = found
    return model_, index, rest[0] if rest else None
