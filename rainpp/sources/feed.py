"""Rows pushed from Python: a bounded queue in front of monitors."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from rainpp.errors import DataError, SettingsError
from rainpp.monitoring.batch import Doing
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.tables import as_arrow
from rainpp.sources.asides import Asides
from rainpp.sources.feeding import Feeding
from rainpp.sources.parcel import Chunk, Parcel, checked_source

# Pushes that are taken in as one batch: a transaction costs more than a thousand rows do.
_TOGETHER = 64


class Feed:
    """Pushes rows to monitors; a thread takes them in.

    Every push has an offset: the number after the last. `taken` is the last that all monitors have
    on disk. After a restart it says where to go on: pushes up to it do nothing, later ones that
    were in the queue must be made again, in the same order.

    Parameters
    ----------
    source : the name under which offsets are kept; of one feed only.
    most : pushes that may wait. When so many do, a push waits for room, or is refused.
    asides : where pushes are listed that a monitor refuses; in memory by default.

    Raises
    ------
    SettingsError : an option is wrong.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        source: str = "feed",
        *,
        most: int = 256,
        asides: Asides | None = None,
    ) -> None:
        if most < 1 or not monitors:
            raise SettingsError(
                f"`most` is {most!r} with {len(monitors)} monitors; both are at least 1."
            )
        self.source = checked_source(source)
        self._stop = threading.Event()
        self._feeding = Feeding(monitors, asides=asides, stop=self._stop)
        self.asides = self._feeding.asides
        self._most = most
        self._queue: deque[Chunk] = deque()
        self._moved = threading.Condition()
        self._taken = self._next = self._feeding.offsets().get(source, -1)
        self._problem: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=source, daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """Offset of the last push that every monitor has on disk; -1 before the first."""
        with self._moved:
            return self._taken

    def push(self, rows: Any, *, table: str | None = None, timeout: float | None = None) -> int:
        """The offset of these rows, which are taken in soon.

        Parameters
        ----------
        rows : an Arrow table, a pandas frame, or columns by name.
        timeout : seconds to wait for room; for ever by default, 0 not to wait.

        Raises
        ------
        DataError : it is no table; the queue stays full; the feed is closed.
        RainError : what ended the feed.
        """
        return self._put("predictions", as_arrow(rows, "rows"), table, timeout)

    def feedback(self, rows: Any, *, table: str | None = None, timeout: float | None = None) -> int:
        """The offset of these labels; the rest as `push`."""
        return self._put("feedback", as_arrow(rows, "rows"), table, timeout)

    def retract(self, ids: Any, *, table: str | None = None, timeout: float | None = None) -> int:
        """The offset of this retraction; the rest as `push`."""
        try:
            listed = pa.array(ids)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
            raise DataError(f"`ids` cannot be read as a list of ids: {problem}.") from None
        return self._put("retract", pa.table({"id": listed}), table, timeout)

    def flush(self, timeout: float | None = None) -> int:
        """Wait until all that was pushed has been taken in; the offset of the last push.

        Raises
        ------
        DataError : it was not within `timeout` seconds.
        RainError : what ended the feed.
        """
        with self._moved:
            upto = self._next
            if not self._moved.wait_for(lambda: self._taken >= upto or self._ended, timeout):
                raise DataError(f"`{self.source}` is at {self._taken} of {upto} after {timeout} s.")
            self._check()
            return upto

    def close(self) -> None:
        """Take in what was pushed, then end."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._thread.join()
        self._check()

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _ended(self) -> bool:
        return self._problem is not None

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _put(self, kind: Doing, rows: pa.Table, table: str | None, timeout: float | None) -> int:
        with self._moved:
            room = self._moved.wait_for(
                lambda: len(self._queue) < self._most or self._ended or self._closed, timeout
            )
            self._check()
            if self._closed:
                raise DataError(f"the feed `{self.source}` is closed.")
            if not room:
                raise DataError(
                    f"the feed `{self.source}` is full: {self._most} pushes wait. Push again later."
                )
            self._next += 1
            offsets = np.full(rows.num_rows, self._next, np.int64)
            self._queue.append(Chunk(kind, rows, offsets, table))
            self._moved.notify_all()
            return self._next

    def _work(self) -> None:
        try:
            while True:
                with self._moved:
                    self._moved.wait_for(lambda: self._queue or self._closed)
                    if not self._queue:
                        return
                    upto = self._next - len(self._queue)
                    chunks = list(self._queue)[:_TOGETHER]
                self._feeding.give(Parcel(self.source, tuple(chunks), upto + len(chunks)))
                with self._moved:
                    for _ in chunks:
                        self._queue.popleft()
                    self._taken = upto + len(chunks)
                    self._moved.notify_all()
        except BaseException as problem:  # noqa: BLE001 - raised by the next push
            with self._moved:
                self._problem = problem
                self._moved.notify_all()
