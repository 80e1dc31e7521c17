"""A monitor: one standing query over a growing table, its windows, its alarms, its state file."""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from rainpp.errors import (
    ArtifactError,
    ComplaintError,
    DataError,
    QueryError,
    RainError,
    SettingsError,
    one_line,
)
from rainpp.index.artifact import Index
from rainpp.inference import RegisteredModel
from rainpp.model import Model
from rainpp.monitoring.alarm import Alarm, Watch
from rainpp.monitoring.answers import drift_alarm
from rainpp.monitoring.batch import Batch, Operation, Taken
from rainpp.monitoring.context import Context, check_same
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.emission import Spoken, as_times
from rainpp.monitoring.intake import Pending
from rainpp.monitoring.kept import Kept, Position, found_position
from rainpp.monitoring.planning import plan_lines
from rainpp.monitoring.quality import Quality, as_frame
from rainpp.monitoring.recomputed import window_result
from rainpp.monitoring.rules import is_name, make_rule
from rainpp.monitoring.setup import Keep, selected_names, table_names, understand
from rainpp.monitoring.spec import Spec
from rainpp.monitoring.tables import as_arrow, as_instant
from rainpp.monitoring.timeline import Timeline
from rainpp.registration import check_kinds, class_values
from rainpp.result import Result
from rainpp.stream.reading import Reading
from rainpp.stream.store import Entry, Store, Written

# Batches between summaries: opening the file adds up at most so many changes.
_SUMMARY_EVERY = 256
# What `Monitor.read` shows of a number.
_SHOWN = ("", "_relaxed", "_low", "_high")
# What handlers are named by that are no alarm of a user's.
_TAKEN = ("", "*", "change", "drift", "late")
Handler = Callable[[Any, Any], Any]


class Monitor:
    """A standing query, kept up to date; make one with `rainpp.monitor`.

    Threads may share it: batches wait for each other.
    """

    def __init__(
        self,
        spec: Spec,
        registered: RegisteredModel,
        schemas: Mapping[str, pa.Schema] | None,
        store: str | Path,
    ) -> None:
        self.spec = spec
        self._registered = registered
        self._lock = threading.RLock()
        self._path = store
        self._store = Store.open(store, spec.name)
        self._timeline = Timeline(spec.lateness, spec.retention, spec.ahead, spec.idle)
        self._watches: dict[str, Watch] = {}
        self._handlers: list[tuple[str, Handler]] = []
        self._kept: Kept | None = None
        self._names = selected_names(spec.sql, spec.function)
        self._schemas = schemas
        self._at = Position()
        self._stale = self._closed = self._telling = False
        self._untold: deque[Callable[[], Any]] = deque()
        try:
            self._check_about()
            self._restore()
        except BaseException:
            self._store.close()
            raise

    # What it answers.

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
        "blend" or "iw"), `coverage` (share labelled), `unseen`, `drifted`, `rows`, `labelled`.

        Raises
        ------
        SettingsError : no labels were announced.
        """
        with self._lock:
            kept, quality = self._with_quality()
            return as_frame(
                {
                    as_times(kept.bounds(window, ())): quality.read(window)
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
            return [self._spoken(entry) for entry in self._store.entries(after, most)]

    def sql(self, query: str) -> pd.DataFrame:
        """What one SELECT says of the state file; `rainpp.stream.store` names tables and columns.

        Raises
        ------
        QueryError : it is no SELECT, or DuckDB refuses it.
        DataError : pandas cannot hold what it answers.
        """
        if not is_name(query):
            raise QueryError(f"`query` is {query!r}; give one SELECT as text.")
        with self._lock:
            self._refresh()
            found = self._store.ask(query)
        try:
            return found.to_pandas()
        except (pa.ArrowException, ValueError, OverflowError) as problem:
            raise DataError(f"pandas cannot hold the answer: {one_line(problem)}.") from None

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

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler(alarm, context)` when an alarm goes off or is over; "*" for all of them.

        For "change" it is called with every `Delta`; for "late" with a list of what a batch held
        that was not counted, see `Taken.set_aside`, and None. It is called after the batch has been
        committed, in the thread that sent the batch, while other threads wait: it may read the
        monitor and send batches, whose handlers are called once those of this batch have been.
        All handlers are called even if one fails; then what it raised is raised where the batch
        ends, which stays committed (`Batch.taken` says so).

        Raises
        ------
        SettingsError : `handler` cannot be called, or there is no such alarm.
        """
        self._check_open()
        if not callable(handler):
            raise SettingsError(f"`handler` is {handler!r}; give a function of (alarm, context).")
        known = {*_TAKEN, *self._watches} - {""}
        if name not in known:
            raise SettingsError(f"there is no alarm {name!r}; known: {', '.join(sorted(known))}.")
        self._handlers.append((name, handler))

    def context(self, about: Alarm | Delta, cell: Reading | None = None) -> Context:
        """What stands behind an alarm or a change; of a change, `cell` as it was then.

        Raises
        ------
        SettingsError : `about` is neither.
        """
        if not isinstance(about, Alarm | Delta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`about` is {about!r}; give an alarm, or a change of `changes()`.")
        setup = self._ready().setup
        index = setup.registered.index
        assert index is not None
        return Context(
            about,
            sql=setup.sql,
            index=index,
            classes=setup.registered.classes,
            gradient=lambda: self._gradient(about, cell),
            result=lambda: self._result(about),
            ask=self.sql,
        )

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
        """Write a summary and close the state file; a monitor that is closed stays so."""
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

    # How a batch is taken in.

    def _take(self, batch: Batch, source: str, upto: int | None) -> None:
        with self._lock:
            self._refresh()
            seen = self._at.offsets.get(source)
            if upto is not None and seen is not None and upto <= seen:
                batch.taken = Taken(self._at.batch, 0, 0, 0, replayed=True)
                return
            spoken = list[Spoken]()
            try:
                batch.taken = self._first_or_next(batch.operations, source, upto, spoken)
                self._summarise_in_time()
            except RainError:
                raise
            except BaseException as problem:
                # Wherever it was interrupted: what counts is what the file says.
                self._stale = True
                if isinstance(problem, duckdb.Error | pa.ArrowException | OverflowError):
                    raise DataError(
                        f"the batch cannot be used: {one_line(problem)}. Nothing of it was taken."
                    ) from None
                raise
            self._tell(spoken, batch.taken)

    def _first_or_next(
        self, operations: Sequence[Operation], source: str, upto: int | None, spoken: list[Spoken]
    ) -> Taken:
        if self._kept is not None:
            return self._counted(operations, source, upto, spoken)
        names, at = self._names, self._at
        try:
            with self._store.together():  # a schema of rows that are refused is not written down
                self._prepare_from(operations)
                return self._counted(operations, source, upto, spoken)
        except RainError:
            self._kept, self._names, self._at = None, names, at
            raise

    def _counted(
        self, operations: Sequence[Operation], source: str, upto: int | None, spoken: list[Spoken]
    ) -> Taken:
        kept, pending = self._kept, Pending()
        if kept is None:  # nothing but an offset was said so far
            return self._written(pending, source, upto, spoken, [])
        watches = {name: watch.body() for name, watch in self._watches.items()}
        back = self._timeline.begin()
        kept.begin(pending)
        try:
            for operation in operations:
                self._operate(pending, operation)
            self._timeline.advance(source, pending.latest)
            spoken += kept.speak(pending, self._at.seq + 1)
            return self._written(pending, source, upto, spoken, self._alarms(pending, spoken))
        except RainError:
            pending.take_back()
            back()
            for name, body in watches.items():
                self._watches[name].restore(body)
            raise
        finally:
            kept.end()

    def _operate(self, pending: Pending, operation: Operation) -> None:
        kept = self._ready()
        side = kept.setup.table(operation.table)
        take = {
            "predictions": kept.intake.predictions,
            "feedback": kept.intake.feedback,
            "retract": kept.intake.retract,
        }[operation.doing]
        take(pending, side, operation.what)

    def _alarms(self, pending: Pending, spoken: Sequence[Spoken]) -> list[Alarm]:
        kept = self._ready()
        found: list[Alarm] = []
        seq = self._at.seq + 1 + sum(len(item.deltas) for item in spoken)
        metrics = [watch for watch in self._watches.values() if watch.rule.of_metric]
        seen = [(item.seen, watch) for item in spoken for watch in self._watches.values()]
        if metrics:
            seen += [(item, watch) for item in kept.quality_seen(pending) for watch in metrics]
        for item, watch in seen:
            if watch.rule.of_metric != ("accuracy" in item.sure):
                continue
            alarm = watch.look(item, self.spec.name, kept.fingerprint, seq + len(found))
            if alarm is not None:
                found.append(alarm)
        if pending.accused:
            found.append(drift_alarm(kept, pending, seq + len(found)))
        return found

    def _written(
        self,
        pending: Pending,
        source: str,
        upto: int | None,
        spoken: Sequence[Spoken],
        alarms: Sequence[Alarm],
    ) -> Taken:
        deltas = [delta for item in spoken for delta in item.deltas]
        entries = [Entry(delta.seq, "change", delta.body()) for delta in deltas]
        entries += [Entry(alarm.seq, "alarm", alarm.body()) for alarm in alarms]
        moved = {name: watch.body() for name, watch in self._watches.items() if watch.moved}
        kept = self._kept
        what = Written(
            batch=self._at.batch + 1,
            source=source,
            upto=upto,
            latest=self._timeline.latest.get(source),
            mark=self._timeline.mark,
            next_row=0 if kept is None else kept.intake.next_row,
            change=kept.delta if kept is not None and pending.changes else [],
            entries=entries,
            late=pending.late,
            removed=pending.removed,
            arrived=pending.arrived,
            labels=pending.relabelled,
            alarms=moved,
            said=[]
            if kept is None
            else [
                *(kept.emission.line(*place) for place in kept.gone),
                *(kept.emission.line(item.seen.window, item.row.key) for item in spoken),
            ],
        )
        self._store.write(what)
        if kept is not None:
            kept.intake.accept(pending)
        for watch in self._watches.values():
            watch.moved = False
        self._at.batch += 1
        self._at.seq += len(entries)
        if upto is not None:
            self._at.offsets[source] = upto
        return Taken(
            what.batch,
            pending.counted,
            pending.repeated,
            len(pending.late),
            replayed=False,
            deltas=deltas,
            alarms=list(alarms),
            set_aside=[{"reason": reason, **row} for reason, row in pending.late],
        )

    def _summarise_in_time(self) -> None:
        """Write a summary once enough batches have come, in this process or in earlier ones."""
        if self._kept is not None and self._at.unsummarised >= _SUMMARY_EVERY:
            # The batches are written; where a summary cannot be, the next batch tries again.
            with suppress(ArtifactError):
                self._kept.summarise(self._at)

    def _tell(self, spoken: Sequence[Spoken], taken: Taken) -> None:
        """Call the handlers; a batch that one of them sends waits until all have been called."""
        self._untold += self._calls(spoken, taken)
        if self._telling:
            return
        problems: list[Exception] = []
        self._telling = True
        try:
            while self._untold:
                try:
                    self._untold.popleft()()
                except Exception as problem:  # noqa: BLE001 - raised below, whatever it is
                    problems.append(problem)
        finally:
            self._telling = False
            self._untold.clear()
        if len(problems) > 1:
            raise ExceptionGroup("several handlers of a monitor failed", problems)
        for problem in problems:
            raise problem

    def _calls(self, spoken: Sequence[Spoken], taken: Taken) -> Iterator[Callable[[], Any]]:
        for name, handler in self._handlers:
            if name == "late":
                if taken.set_aside:
                    yield partial(handler, taken.set_aside, None)
                continue
            if name == "change":
                for item in spoken:
                    for delta in item.deltas:
                        cell = item.row.cells[delta.column]
                        yield partial(self._call, handler, delta, cell)
                continue
            for alarm in taken.alarms:
                if name in ("*", alarm.name):
                    yield partial(self._call, handler, alarm, None)

    def _call(self, handler: Handler, about: Alarm | Delta, cell: Reading | None) -> None:
        handler(about, self.context(about, cell))

    # How the state is found again, and bounded.

    def _restore(self) -> None:
        """Memory as the state file says."""
        self._kept = None
        self._timeline.clear()
        known = self._known_schemas() or self._schemas
        self._at = found_position(self._store, self._timeline)
        if known is not None:
            self._prepare(known)
            self._summarise_in_time()
        stored = self._store.alarms()
        for name, watch in self._watches.items():
            watch.restore(stored.get(name, {"groups": []}))

    def _refresh(self) -> None:
        """Read the state file again after a batch that was interrupted at an unknown place."""
        self._check_open()
        if self._stale:
            self._store.give_up()
            self._restore()
            self._stale = False

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(
                f"the monitor `{self.spec.name}` is closed; make it again with rainpp.monitor."
            )

    def _check_about(self) -> None:
        stored = self._store.about()
        for name, value in self.spec.about().items():
            if name in stored and stored[name] != value:
                raise SettingsError(
                    f"`{self._path}` holds the state of `{self.spec.name}` with {name} = "
                    f"{stored[name]!r}; asked is {value!r}. Use the same, another name, or a new "
                    "file."
                )

    def _known_schemas(self) -> dict[str, pa.Schema] | None:
        stored = self._store.about().get("schemas")
        if stored is None:
            return None
        return {
            name: pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
            for name, text in json.loads(stored).items()
        }

    def _prepare_from(self, operations: Sequence[Operation]) -> None:
        """Learn the schema from the first rows."""
        for operation in operations:
            if operation.doing == "predictions":
                rows = as_arrow(operation.what, "predictions")
                (name,) = table_names(self.spec.sql, self.spec.function)
                self._prepare({name: rows.schema})
                return
        if operations:
            raise DataError(
                "the monitor has seen no rows yet; send predictions before labels and retractions."
            )

    def _kept_so_far(self) -> Keep:
        """What of a row stays: what was chosen once is not chosen anew for another index."""
        asked, stored = self.spec.keep, self._store.about().get("keep")
        if stored is None or asked == stored:
            return asked
        if asked != "auto":
            raise SettingsError(
                f"`keep` is {asked!r}, but `{self._path}` holds rows of `{self.spec.name}` with "
                f"keep={stored!r}. Use the same, another name, or a new file."
            )
        return cast("Keep", stored)

    def _prepare(self, schemas: Mapping[str, pa.Schema]) -> None:
        spec = self.spec
        setup = understand(
            spec.sql,
            self._registered,
            schemas,
            spec.columns,
            window=spec.window,
            keep=self._kept_so_far(),
            also=spec.also,
            con=duckdb.connect(),
        )
        kept = Kept(spec, setup, self._timeline, self._store)
        if "sql" not in self._store.about():
            written = {
                name: base64.b64encode(schema.serialize().to_pybytes()).decode()
                for name, schema in schemas.items()
            }
            about = {**spec.about(), "schemas": json.dumps(written), "keep": setup.keep}
            sides = range(len(setup.tables))
            self._store.describe(about, [kept.intake.stored_schema(side) for side in sides])
        kept.restore(self._at)
        self._names, self._kept = kept.names, kept

    # Reading.

    def _ready(self) -> Kept:
        self._refresh()
        if self._kept is None:
            raise DataError(
                f"the monitor `{self.spec.name}` has seen no rows yet; send a batch, or give "
                "schema= when it is made."
            )
        return self._kept

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

    def _with_quality(self) -> tuple[Kept, Quality]:
        kept = self._ready()
        if kept.intake.quality is None:
            raise SettingsError(
                "the monitor knows no labels of one table; name their column, label='...', and "
                "that of ids when it is made."
            )
        return kept, kept.intake.quality

    def _spoken(self, entry: Entry) -> Delta | Alarm:
        kind = Alarm if entry.kind == "alarm" else Delta
        return kind.read(self.spec.name, entry.seq, entry.body)

    def _gradient(self, about: Alarm | Delta, cell: Reading | None) -> np.ndarray:
        kept = self._ready()
        check_same(about.model, kept.fingerprint)
        if isinstance(about, Alarm):
            if about.name == "drift":
                raise ComplaintError(
                    "drift is of the rows, not of an answer: no training row is behind it. See "
                    "monitor.drift()."
                )
            if not np.isfinite(about.vector).all():
                raise RainError(
                    "the inputs of the rows are not kept, so there is no gradient of their "
                    "accuracy; make the monitor with keep='inputs', or watch a query that averages "
                    "CASE WHEN the prediction equals the label."
                )
            return about.vector * (1.0 if about.should == "increase" else -1.0)
        if cell is not None:
            return cell.gradient
        with self._lock:
            found = kept.rows(kept.window_of(about), [tuple(about.group.values())])
        if not found:
            raise DataError(f"the window of this change is not kept any more: {about}.")
        return found[0].cells[about.column].gradient

    def _result(self, about: Alarm | Delta) -> Result:
        kept = self._ready()
        check_same(about.model, kept.fingerprint)
        if kept.setup.keep != "inputs":
            raise RainError(
                f"the inputs of the rows are not kept (keep={kept.setup.keep!r}), so the query "
                "cannot be run again; make the monitor with keep='inputs'."
            )
        with self._lock:
            rows = kept.rows_of(kept.window_of(about), tuple(about.group.values()))
        return window_result(kept.setup, rows)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
