"""A monitor: one standing query over a growing table, its windows, its alarms, its state file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from rainpp.errors import (
    ArtifactError,
    DataError,
    SettingsError,
)
from rainpp.hooks.hook import Hook
from rainpp.hooks.schedule import Schedule
from rainpp.index.artifact import Index
from rainpp.model import Model
from rainpp.monitoring.alarm import Alarm, Watch
from rainpp.monitoring.batch import Batch
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.emission import as_times
from rainpp.monitoring.kept import Kept
from rainpp.monitoring.overview import Overview
from rainpp.monitoring.planning import plan_lines
from rainpp.monitoring.posting import Posting
from rainpp.monitoring.quality import Quality, as_frame
from rainpp.monitoring.rules import is_name, make_rule
from rainpp.monitoring.state import Handler
from rainpp.monitoring.tables import as_instant
from rainpp.registration import check_kinds, class_values

# What `Monitor.read` shows of a number.
_SHOWN = ("", "_relaxed", "_low", "_high")
# What handlers are named by that are no alarm of a user's.
_TAKEN = ("", "*", "change", "drift", "late")


class Monitor(Posting):
    """A standing query, kept up to date; make one with `rainpp.monitor`.

    Threads may share it: batches wait for each other.
    """

    def read(self, window: Any = None) -> pd.DataFrame:
        """The answer for every window that is kept, or for one, as a frame.

        Columns: `window_start` and `window_end`, those of the query, then for every number `x` also
        `x_relaxed`, `x_low` and `x_high`; `rows`; `final`.

        Raises
        ------
        DataError : `window` is no time, or no rows have come and no schema was given.
        """
        with self._lock:
            kept = self._ready()
            lines = [
                kept.line(row, kept.bounds(number, row.key))
                for number in kept.numbers()
                for row in kept.rows(number, None)
            ]
        if window is not None:
            at = as_instant(window)
            lines = [line for line in lines if line["window_start"] == at]
        of_values = [f"{name}{end}" for name in kept.names[1] for end in _SHOWN]
        names = ["window_start", "window_end", *kept.names[0], *of_values, "rows", "final"]
        return pd.DataFrame(lines, columns=pd.Index(names))

    def accuracy(self) -> pd.DataFrame:
        """Accuracy of every window, from its labels and, where they are missing, the reference.

        Columns: `window_start`, `window_end`, `accuracy`, `low`, `high` (95 %), `basis` ("labels",
        "blend", "iw" or "none"), `coverage` (share labelled), `unseen`, `drifted`, `rows`,
        `labelled`. Labels must not be chosen by whether the prediction is right: within a bucket,
        or without buckets in a window, labelled rows must be like those without. Where the labels
        of an earlier window contradicted the reference, or features have drifted, a window without
        labels is `drifted` and its interval says that nothing is known of it.

        Raises
        ------
        SettingsError : no labels were announced.
        """
        with self._lock:
            kept, _ = self._with_quality()
            return as_frame(
                {
                    as_times(kept.bounds(window, ())): kept.quality_of(window)
                    for window in kept.quality_windows()
                }
            )

    def confusion(self, window: Any = None) -> pd.DataFrame:
        """Labelled rows of a window: predicted classes down, labels across.

        Parameters
        ----------
        window : its first instant; by default the last one.

        Raises
        ------
        SettingsError : no labels were announced.
        DataError : no such window is kept.
        """
        with self._lock:
            kept, quality = self._with_quality()
            windows = kept.quality_windows()
            if window is not None:
                at = as_instant(window)
                windows = [w for w in windows if as_times(kept.bounds(w, ()))[0] == at]
            if not windows:
                raise DataError(f"there is no window {window} with rows.")
            return quality.confusion(windows[-1])

    def plan(self) -> str:
        """How the query is kept up to date, in words."""
        with self._lock:
            self._refresh()
            lines = [f"{self.spec.name}: {self.spec.sql.strip()}"]
            if self._kept is None:
                return "\n".join([*lines, "  The first batch will say what the table looks like."])
            found = plan_lines(self.spec, self._kept.setup)
            return "\n".join([*lines, *(f"  {line}" for line in found)])

    def late(self) -> pd.DataFrame:
        """Rows, labels and retractions that were not counted, and why."""
        with self._lock:
            self._refresh()
            return self._store.late().to_pandas()

    def changes(self, after: int = -1, *, most: int | None = None) -> list[Delta | Alarm]:
        """What the outbox says after a sequence number, in order.

        Parameters
        ----------
        most : lines to read; all by default.

        Raises
        ------
        SettingsError : one of them is no whole number.
        """
        for name, value in (("after", after), ("most", 0 if most is None else most)):
            if not _is_whole(value):
                raise SettingsError(f"`{name}` is {value!r}; it must be a whole number.")
        if most is not None and most < 0:
            raise SettingsError(f"`most` is {most!r}; it must be a number of lines >= 0.")
        after = min(max(int(after), -1), 2**63 - 1)
        with self._lock:
            self._refresh()
            found = self._store.entries(after, most)
            return [self._spoken(entry.seq, entry.kind, entry.body) for entry in found]

    @property
    def overview(self) -> Overview:
        """What is asked, and how far the stream has been taken in."""
        with self._lock:
            self._refresh()
            kept, mark = self._kept, self._timeline.watermark
            groups, values = self._names if kept is None else kept.names
            return Overview(
                name=self.spec.name,
                sql=self.spec.sql.strip(),
                window=str(self.spec.window),
                groups=groups,
                columns=values,
                batches=self._at.batch + 1,
                seq=self._at.seq,
                watermark=None if mark is None else as_times((mark, mark))[0],
                model="" if kept is None else kept.fingerprint,
                stored=str(self._path) != ":memory:",
            )

    @property
    def watermark(self) -> Any:
        """Rows older than this may come late; None before the first row."""
        with self._lock:
            self._refresh()
            mark = self._timeline.watermark
        return None if mark is None else as_times((mark, mark))[0]

    @property
    def offsets(self) -> dict[str, int]:
        """How far each source has been taken in: what to resume from."""
        with self._lock:
            self._refresh()
            return dict(self._at.offsets)

    def drift(self, window: Any = None) -> pd.DataFrame:
        """Features by how far they are from the training rows in a window, the furthest first.

        Columns: `feature`, `distance` (K-S), `missing`, `evidence` (log10 of the e-value of the
        whole stream), `accused`. `frame.attrs` has "auc" and "log_loss" of a classifier that tells
        live rows from training rows: 0.5 and 0.69 where it cannot.

        Parameters
        ----------
        window : its first instant; by default the last one.

        Raises
        ------
        SettingsError : the monitor has no `reference`.
        DataError : no such window is kept.
        """
        if self.spec.drift is None:
            raise SettingsError(
                "there is nothing to compare with; give the training columns, reference={...}, "
                "when the monitor is made."
            )
        with self._lock:
            return self._ready().drift(window)

    # What it is told.

    def batch(self, source: str = "default", upto: int | None = None) -> Batch:
        """Rows, labels and retractions that count together, as one transaction.

        Parameters
        ----------
        source : where they come from; each source has its own offsets and watermark.
        upto : offset of the last of them. A batch whose offset has been seen is not taken again.

        Raises (when the block ends)
        ------
        DataError : the rows cannot be used; nothing of the batch was taken.
        ArtifactError : the state file cannot be written; nothing of the batch was taken.
        """
        if not is_name(source):
            raise SettingsError(f"`source` is {source!r}; give the source a name.")
        if upto is not None and not _is_whole(upto):
            raise SettingsError(f"`upto` is {upto!r}; offsets are whole numbers.")
        offset = None if upto is None else int(upto)
        if offset is not None and not -(2**63) <= offset < 2**63:
            raise SettingsError(f"`upto` is {upto!r}; offsets are whole numbers of 64 bits.")
        self._check_open()
        return Batch(lambda batch: self._take(batch, source, offset))

    def alert(
        self,
        name: str,
        when: str,
        *,
        clear: str | None = None,
        where: Mapping[str, Any] | None = None,
        hold: int = 1,
        min_rows: float = 1,
        target: float | None = None,
        whole_windows: bool | None = None,
    ) -> None:
        """Say when something is wrong.

        Parameters
        ----------
        when : comparisons of columns with numbers, such as "n > 500 AND rows >= 100". Where labels
            come, also of "accuracy", with "coverage" and "labelled" of its window: it is below a
            number once its interval is, however often one has looked.
        clear : what must no longer hold for the alarm to be over; `when` by default.
        where : the group it is about, by column; every group by default.
        hold : consecutive windows in which `when` must hold.
        min_rows : a number; windows with fewer rows that could count are not looked at.
        target : what the number should be; by default the number it is compared with.
        whole_windows : look only at windows the watermark has passed. By default so where a number
            is too low, which it can be only because rows are still missing.

        Raises
        ------
        SettingsError : the condition or an option is wrong, or the name is taken.
        """
        with self._lock:
            self._refresh()
            if not is_name(name) or name in _TAKEN:
                raise SettingsError(f"`name` is {name!r}; give the alarm a name of its own.")
            if name in self._watches:
                raise SettingsError(f"there is an alarm {name!r} already; choose another name.")
            watch = Watch(
                make_rule(
                    name,
                    when,
                    names=self._names,
                    metrics=self.spec.columns.label is not None,
                    clear=clear,
                    where=where,
                    hold=hold,
                    min_rows=min_rows,
                    target=target,
                    whole_windows=whole_windows,
                    ends=self.spec.window.ends,
                )
            )
            stored = self._store.alarms().get(name)
            if stored is not None:
                watch.restore(stored)
            self._watches[name] = watch

    def on(self, name: str, handler: Handler | Hook, *, schedule: Schedule | None = None) -> None:
        """Call `handler(alarm, context)` when an alarm goes off or is over; "*" for all of them.

        For "change" it is called with every `Delta`; for "late" with a list of what a batch held
        that was not counted, see `Taken.set_aside`, and None. It is called after the batch has been
        committed, in the thread that sent the batch, while other threads wait: it may read the
        monitor and send batches, whose handlers are called once those of this batch have been.
        All handlers are called even if one fails; then what it raised is raised where the batch
        ends, which stays committed (`Batch.taken` says so).

        A hook of `rainpp.hooks` is told the same in a thread of its own, at least once, with
        `schedule` for what does not arrive: see `deliveries`, `drain` and `dead_letters`.

        Raises
        ------
        SettingsError : `handler` cannot be called, there is no such alarm, or another hook has the
            name of this one.
        """
        self._check_open()
        if not callable(handler):
            raise SettingsError(f"`handler` is {handler!r}; give a function of (alarm, context).")
        known = {*_TAKEN, *self._watches} - {""}
        if name not in known:
            raise SettingsError(f"there is no alarm {name!r}; known: {', '.join(sorted(known))}.")
        if isinstance(handler, Hook):
            self._attach(name, handler, schedule)
            return
        if schedule is not None:
            raise SettingsError("`schedule` is for hooks; a plain function is called once.")
        self._handlers.append((name, handler))

    def swap(self, model: Model, index: Index) -> None:
        """Answer with another model, or another index of the same, from here on.

        Windows begin anew: numbers and gradients of two models are never added up. What the last
        model said stays in the outbox.

        Raises
        ------
        ArtifactError : the index belongs to another model, or the state cannot be written.
        ModelError, SettingsError : the model predicts other classes, or none.
        """
        check_kinds(model, index, self._registered.encode)
        if index is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise ArtifactError("`index` is None; a monitor needs what rainpp.precompute returns.")
        index.check_model(model)
        made = replace(self._registered, model=model, index=index)
        if model.task == "regression":
            raise SettingsError("monitors count predicted classes; a regression is not watched.")
        class_values(made.name, model, index, made.classes)  # as many as before
        with self._lock:
            self._refresh()
            schemas, before = self._known_schemas(), self._registered
            if self._kept is not None:
                self._kept.summarise(self._at)
            self._registered = made
            try:
                if schemas is not None:
                    self._prepare(schemas)
            except BaseException:
                self._registered, self._stale = before, True
                raise

    def close(self) -> None:
        """Write a summary and close the state file; a monitor that is closed stays so.

        Hooks finish the attempt they are at, for at most five seconds; what they still owe is
        delivered when the monitor is opened again. `drain` first to wait for them.
        """
        self._stop_couriers()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._kept is not None and not self._stale and self._at.unsummarised:
                    self._kept.summarise(self._at)
            finally:
                self._store.close()

    def __enter__(self) -> Monitor:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Monitor({self.spec.name!r}, {self.spec.window}, {self._at.batch + 1} batches)"

    # Reading.

    def _with_quality(self) -> tuple[Kept, Quality]:
        kept = self._ready()
        if kept.intake.quality is None:
            raise SettingsError(
                "the monitor knows no labels of one table; name their column, label='...', and "
                "that of ids when it is made."
            )
        return kept, kept.intake.quality


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
