"""How parcels reach monitors: each takes every record once, whatever was interrupted before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import numpy as np

from rainpp.errors import (
    ArtifactError,
    DataError,
    ModelError,
    QueryError,
    RainError,
    ShapeError,
    named,
    one_line,
)
from rainpp.monitoring.batch import Batch, Taken
from rainpp.monitoring.monitor import Monitor
from rainpp.sources.asides import Aside, Asides, shown
from rainpp.sources.parcel import Chunk, Parcel

_log = logging.getLogger(__name__)
# Where the state cannot be written, seconds until it is tried again.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


class Stopped(RainError):
    """A parcel was not taken in because everything is to end."""


class Feeding:
    """Hands parcels to monitors.

    Offsets commit with each monitor's state. Monitors may be at different offsets after a crash:
    each is given the records after its own.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        *,
        asides: Asides | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.monitors = tuple(monitors)
        self.asides = Asides() if asides is None else asides
        self._stop = threading.Event() if stop is None else stop
        # What is wrong with the first rows of all is more likely wrong with the query or the model.
        self._worked = {monitor.spec.name for monitor in monitors if monitor.offsets}

    def offsets(self) -> dict[str, int]:
        """How far all of the monitors have taken each source."""
        return least_offsets(self.monitors)

    def times(self) -> frozenset[str]:
        """Columns that some monitor reads instants from."""
        found = (monitor.spec.columns.time for monitor in self.monitors)
        return frozenset(name for name in found if name is not None)

    def give(self, parcel: Parcel) -> None:
        """Every monitor takes the parcel in; what one refuses is set aside, record by record.

        Raises
        ------
        RainError : a monitor cannot go on, whatever the rows are: its query does not fit them.
        Stopped : it waited for the state to be writable, and is to end.
        """
        for aside in parcel.aside:
            self._set_aside(aside)
        for monitor in self.monitors:
            after = monitor.offsets.get(parcel.source)
            if after is not None and after >= parcel.upto:
                continue
            chunks = [chunk.after(after) for chunk in parcel.chunks]
            wanted = [chunk for chunk in chunks if chunk.rows.num_rows]
            with _blaming(monitor, parcel):
                self._hand(monitor, parcel.source, wanted, parcel.upto)

    def _hand(self, monitor: Monitor, source: str, chunks: Sequence[Chunk], upto: int) -> None:
        try:
            self._commit(monitor, source, chunks, upto)
            self._worked.add(monitor.spec.name)
        except (DataError, ShapeError, ModelError, QueryError) as problem:
            if not isinstance(problem, DataError) and monitor.spec.name not in self._worked:
                raise
            _ = monitor.offsets  # raises where the monitor is closed: no record is to blame
            halves = _halves(chunks)
            if halves is None:
                if not chunks:
                    raise
                record = shown(str([chunk.rows.slice(0, 20).to_pylist() for chunk in chunks]))
                offset, said = int(chunks[-1].offsets[-1]), one_line(problem)
                self._set_aside(Aside(source, offset, said, record, monitor.spec.name))
                self._commit(monitor, source, [], upto)
                return
            first, second = halves
            self._hand(monitor, source, first, int(first[-1].offsets[-1]))
            self._hand(monitor, source, second, upto)

    def _commit(self, monitor: Monitor, source: str, chunks: Sequence[Chunk], upto: int) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                take(monitor, source, chunks, upto)
                return
            except ArtifactError as problem:
                _log.warning("%s; trying again in %g s", one_line(problem), wait)
            if self._stop.wait(wait):
                raise Stopped(f"`{source}` waited for the state of `{monitor.spec.name}`.")
            wait = min(2 * wait, _LONGEST_WAIT)

    def _set_aside(self, aside: Aside) -> None:
        if self.asides.add(aside):
            by = f" by {aside.monitor}" if aside.monitor else ""
            where = f" ({self.asides.path})" if self.asides.path else ""
            place = f"{aside.source} {aside.offset}"
            _log.warning("%s set aside%s%s: %s", place, by, where, aside.reason)


@contextmanager
def _blaming(monitor: Monitor, parcel: Parcel) -> Generator[None]:
    """Say which monitor cannot go on with rows from where; the model may raise anything.

    Raises
    ------
    ModelError, ShapeError, QueryError : that.
    """
    try:
        yield
    except (ModelError, QueryError, ShapeError) as problem:
        raise type(problem)(f"{_cannot(monitor, parcel)}: {one_line(problem)}") from problem
    except RainError:
        raise
    except Exception as problem:
        raise ModelError(
            f"{_cannot(monitor, parcel)}: {named(problem).rstrip('.')}. See whether the types of "
            "its schema fit the model."
        ) from problem


def _cannot(monitor: Monitor, parcel: Parcel) -> str:
    rows = f"the rows of {parcel.place}" if parcel.place else "the rows"
    return f"the monitor `{monitor.spec.name}` cannot take in {rows} (source `{parcel.source}`)"


def take(monitor: Monitor, source: str, chunks: Iterable[Chunk], upto: int | None) -> Taken:
    """One batch of a monitor; what its handlers raise is logged, as the batch stays committed.

    Raises
    ------
    RainError : nothing of it was taken in.
    """
    batch = monitor.batch(source, upto)
    try:
        with batch:
            for chunk in chunks:
                say(batch, chunk, monitor)
    except Exception as problem:
        if batch.taken is None:
            raise
        parts = problem.exceptions if isinstance(problem, ExceptionGroup) else (problem,)
        for part in parts:
            _log.error("a handler of %s failed: %s", monitor.spec.name, one_line(part))
    assert batch.taken is not None
    return batch.taken


def say(batch: Batch, chunk: Chunk, monitor: Monitor) -> None:
    """Rows, labels or retractions of a chunk, said to a batch."""
    if chunk.kind == "predictions":
        batch.predictions(chunk.rows, table=chunk.table)
    elif chunk.kind == "feedback":
        batch.feedback(chunk.rows, table=chunk.table)
    else:
        batch.retract(ids_of(chunk, monitor), table=chunk.table)


def ids_of(chunk: Chunk, monitor: Monitor) -> list[object]:
    """The ids that are taken back: the only column, or that of the monitor's ids.

    Raises
    ------
    DataError : there is no such column.
    """
    names, wanted = chunk.rows.column_names, monitor.spec.columns.id
    name = names[0] if len(names) == 1 else wanted
    if name is None or name not in names:
        raise DataError(
            f"a retraction has the columns {', '.join(names)}; give only the ids, or a column "
            f"`{wanted}`."
        )
    return chunk.rows.column(name).to_pylist()


def least_offsets(monitors: Iterable[Monitor]) -> dict[str, int]:
    """For each source the least offset of the monitors; none where one has taken nothing of it."""
    known = [monitor.offsets for monitor in monitors]
    names = set(known[0]).intersection(*known[1:]) if known else set[str]()
    return {name: min(offsets[name] for offsets in known) for name in names}


def _halves(chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[Chunk]] | None:
    """The records of chunks in two parts; None if there is but one."""
    known = [np.unique(chunk.offsets) for chunk in chunks]
    offsets = np.unique(np.concatenate(known)) if known else np.empty(0, np.int64)
    if len(offsets) < 2:
        return None
    middle = int(offsets[len(offsets) // 2 - 1])
    first, second = [c.upto(middle) for c in chunks], [c.after(middle) for c in chunks]
    return [c for c in first if c.rows.num_rows], [c for c in second if c.rows.num_rows]
