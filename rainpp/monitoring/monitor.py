"""A monitor: one standing query over a growing table, its windows, its alarms, its state file."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from rainpp.errors import ArtifactError, DataError, QueryError, RainError, SettingsError
from rainpp.fingerprint import fingerprint
from rainpp.index.artifact import Index
from rainpp.inference import Encode, RegisteredModel
from rainpp.model import Model
from rainpp.monitoring.alarm import Alarm, Rule, Watch
from rainpp.monitoring.batch import Batch, Operation, Taken
from rainpp.monitoring.condition import Condition
from rainpp.monitoring.context import Context, check_same
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.emission import INTERVAL, Bounds, Emission, Spoken, as_times
from rainpp.monitoring.intake import EPOCH, ROW, TIME, Intake, Pending
from rainpp.monitoring.recomputed import (
    chosen_rows,
    recomputed_rows,
    value_columns,
    window_result,
)
from rainpp.monitoring.setup import (
    Columns,
    Keep,
    Setup,
    selected_names,
    table_names,
    understand,
)
from rainpp.monitoring.tables import as_arrow
from rainpp.monitoring.timeline import Timeline
from rainpp.registration import check_kinds, class_values
from rainpp.result import Result
from rainpp.stream.cells import Key, Sums, added
from rainpp.stream.contributions import nothing
from rainpp.stream.reading import Reading, Row, absent_row, read_rows
from rainpp.stream.store import Entry, Store, Written
from rainpp.stream.window import (
    Everything,
    Last,
    Session,
    Window,
    microseconds,
    shown_duration,
)
from rainpp.stream.windowed import LastWindows, Windowed, windowed
from rainpp.types import ClassValue

_MEMORY = ":memory:"
# Batches between summaries: opening the file adds up at most so many changes.
_SUMMARY_EVERY = 256
# Lines of the outbox that stay behind.
_KEPT_CHANGES = 100_000
_TAKEN = ("information_schema", "main", "pg_catalog", "temp")
Handler = Callable[[Alarm | Delta, Context], Any]


@dataclass(frozen=True)
class Spec:
    """What a monitor was asked for, as it is written into its state file."""

    name: str
    sql: str
    function: str
    columns: Columns
    window: Window
    lateness: int
    retention: int
    ahead: int
    idle: int
    keep: Keep

    def about(self) -> dict[str, str]:
        """What must agree when the state file is opened again."""
        return {
            "sql": self.sql.strip(),
            "function": self.function,
            "window": repr(self.window),
            **{name: str(value) for name, value in vars(self.columns).items()},
            "retention": str(self.retention),
        }


def monitor(
    name: str,
    sql: str,
    *,
    model: Model,
    index: Index,
    function: str = "predict",
    encode: Encode | None = None,
    classes: Sequence[ClassValue] | None = None,
    schema: Any = None,
    time: str | None = None,
    id: str | None = None,
    label: str | None = None,
    window: Window | None = None,
    lateness: Any = "0s",
    retention: Any = None,
    ahead: Any = "1d",
    idle: Any = "5m",
    keep: Keep = "auto",
    store: str | Path = _MEMORY,
) -> Monitor:
    """Watch a query over a growing table of predictions.

    Parameters
    ----------
    name : of the monitor, and of its schema in the state file.
    sql : one SELECT that calls the model; see `Monitor.plan` for how it is kept up to date.
    model, index, encode, classes : as for `Database.register_model`; `function` is the name SQL
        calls the model by.
    schema : an Arrow schema or an empty frame of the table, or one of these for each table by name.
        By default the first batch says; a query over two tables needs it.
    time : column of event times. Without one a row's time is when it comes.
    id : column of ids, by which rows are recognised, taken back and labelled.
    label : column of true classes, which come later by `Batch.feedback`; the query may read it.
    window : Tumbling, Sliding, Session, Last or Everything (the default).
    lateness : how long after the latest row another may still come in time.
    retention : how long rows and windows are kept after that; by default twice the window, at
        least a day. Rows that come later are not counted: see `Monitor.late`.
    ahead : rows further ahead of the machine's clock are not counted.
    idle : a source that sends nothing for so long does not hold the watermark back.
    keep : what of a row stays so that it can be taken back: "inputs" of the model, "gradients"
        (k numbers for each class that can count), "nothing", or whichever of the first two is
        smaller.
    store : path of the state file; in memory by default.

    Raises
    ------
    SettingsError : an option is wrong, or the state file belongs to another query.
    QueryError, UnsupportedQueryError : the query cannot be understood.
    ArtifactError : the state file cannot be used, or the index belongs to another model.
    """
    check_kinds(model, index, encode)
    index.check_model(model)
    span = Everything() if window is None else window
    if not isinstance(span, Window):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`window` is {window!r}; give Tumbling(...), Sliding(...), Session(...), Last(...) or "
            "Everything() of rainpp.windows."
        )
    spec = Spec(
        _checked_name(name),
        _checked_sql(sql),
        function,
        Columns(time, id, label),
        span,
        microseconds(lateness, "lateness", least=0),
        _retention(retention, span),
        microseconds(ahead, "ahead", least=0),
        microseconds(idle, "idle"),
        keep,
    )
    registered = RegisteredModel(
        function, class_values(function, model, index, classes), model, index, encode
    )
    if registered.is_regression:
        raise SettingsError("monitors count predicted classes; a regression is not watched yet.")
    return Monitor(spec, registered, _schemas(schema, sql, function), store)


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
        self._offsets: dict[str, int] = {}
        self._watches: dict[str, Watch] = {}
        self._handlers: list[tuple[str, Handler]] = []
        self._setup: Setup | None = None
        self._names = selected_names(spec.sql, spec.function)
        self._pending: Pending | None = None
        self._asked: dict[int, list[Row]] = {}
        self._delta: list[Sums] = []
        self._batch, self._seq, self._since_summary = -1, -1, 0
        try:
            self._check_about()
            known = self._known_schemas() or schemas
            if known is not None:
                self._prepare(known)
        except BaseException:
            self._store.close()
            raise

    # What it answers.

    def read(self, window: Any = None) -> pd.DataFrame:
        """The answer for every window that is kept, or for one, as a frame.

        Columns: `window_start` and `window_end`, those of the query, then for every number `x` also
        `x_relaxed`, `x_low` and `x_high`; `rows`; `final`.
        """
        with self._lock:
            setup = self._ready()
            names = self._names
            lines: list[dict[str, Any]] = []
            for number in self._windowed_numbers():
                for row in self._rows(number, None):
                    bounds = self._bounds(number, row.key)
                    line = self._line(row, bounds)
                    if window is None or line["window_start"] == pd.Timestamp(window):
                        lines.append(line)
            frame = pd.DataFrame(lines)
            if not len(frame):
                order = ["window_start", "window_end", *names[0], *names[1]]
                return pd.DataFrame(columns=pd.Index(order))
            del setup
            return frame

    def plan(self) -> str:
        """How the query is kept up to date, in words."""
        with self._lock:
            lines = [f"{self.spec.name}: {self.spec.sql.strip()}"]
            if self._setup is None:
                return "\n".join([*lines, "  The first batch will say what the table looks like."])
            return "\n".join([*lines, *(f"  {line}" for line in self._plan_lines(self._setup))])

    def late(self) -> pd.DataFrame:
        """Rows, labels and retractions that were not counted, and why."""
        with self._lock:
            return self._store.late().to_pandas()

    def changes(self, after: int = -1, *, most: int | None = None) -> list[Delta | Alarm]:
        """What the outbox says after a sequence number, in order."""
        with self._lock:
            return [self._spoken(entry) for entry in self._store.entries(after, most)]

    def sql(self, query: str) -> pd.DataFrame:
        """A query over the tables of the state file; `rainpp.stream.store` names their columns."""
        with self._lock:
            return self._store.ask(query).to_pandas()

    @property
    def watermark(self) -> Any:
        """Rows older than this may come late; None before the first row."""
        mark = self._timeline.watermark
        return None if mark is None else as_times((mark, mark))[0]

    @property
    def offsets(self) -> dict[str, int]:
        """How far each source has been taken in: what to resume from."""
        return dict(self._offsets)

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
        if not isinstance(source, str) or not source:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`source` is {source!r}; give the source a name.")
        whole = isinstance(upto, int | np.integer) and not isinstance(upto, bool)
        if upto is not None and not whole:
            raise SettingsError(f"`upto` is {upto!r}; offsets are whole numbers.")
        offset = None if upto is None else int(upto)
        return Batch(lambda operations: self._take(operations, source, offset))

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
        when : comparisons of columns with numbers, such as "n > 500 AND rows >= 100".
        clear : what must no longer hold for the alarm to be over; `when` by default.
        where : the group it is about, by column; every group by default.
        hold : consecutive windows in which `when` must hold.
        min_rows : windows with fewer rows that could count are not looked at.
        target : what the number should be; by default the number it is compared with.
        whole_windows : look only at windows the watermark has passed. By default so where a number
            is too low, which it can be only because rows are still missing.

        Raises
        ------
        SettingsError : the condition or an option is wrong, or the name is taken.
        """
        with self._lock:
            rule = self._rule(name, when, clear, where, hold, min_rows, target, whole_windows)
            watch = Watch(rule)
            stored = self._store.alarms().get(name)
            if stored is not None:
                watch.restore(stored)
            self._watches[name] = watch

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler(alarm, context)` when an alarm goes off or is over; "*" for all of them.

        For "change" it is called with every `Delta`. It is called after the batch has been
        committed, in the thread that sent the batch; what it raises, raises there.
        """
        if not callable(handler):
            raise SettingsError(f"`handler` is {handler!r}; give a function of (alarm, context).")
        known = {"*", "change", *self._watches}
        if name not in known:
            raise SettingsError(f"there is no alarm {name!r}; known: {', '.join(sorted(known))}.")
        self._handlers.append((name, handler))

    def context(self, about: Alarm | Delta, cell: Reading | None = None) -> Context:
        """What stands behind an alarm or a change; of a change, `cell` as it was then."""
        setup = self._ready()
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

        Windows begin anew: numbers and gradients of two models are never added up.

        Raises
        ------
        ArtifactError : the index belongs to another model, or the state cannot be written.
        """
        check_kinds(model, index, self._registered.encode)
        index.check_model(model)
        with self._lock:
            schemas = self._known_schemas()
            self._summarise()
            self._registered = replace(self._registered, model=model, index=index)
            if schemas is not None:
                self._prepare(schemas)

    def close(self) -> None:
        """Write a summary and close the state file."""
        with self._lock:
            if self._setup is not None and self._since_summary:
                self._summarise()
            self._store.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Monitor({self.spec.name!r}, {self.spec.window}, {self._batch + 1} batches)"

    # How a batch is taken in.

    def _take(self, operations: Sequence[Operation], source: str, upto: int | None) -> Taken:
        with self._lock:
            seen = self._offsets.get(source)
            if upto is not None and seen is not None and upto <= seen:
                return Taken(self._batch, 0, 0, 0, replayed=True)
            if self._setup is None:
                self._prepare_from(operations)
            pending, spoken, alarms = Pending(), list[Spoken](), list[Alarm]()
            if self._setup is None:  # nothing but an offset was said so far
                return self._written(pending, source, upto, spoken, alarms)
            watches = {name: watch.body() for name, watch in self._watches.items()}
            self._pending, self._asked = pending, {}
            latest = dict(self._timeline.latest)
            try:
                for operation in operations:
                    self._operate(pending, operation)
                self._timeline.advance(source, pending.latest)
                spoken = self._speak(pending)
                alarms = self._alarms(spoken)
                taken = self._written(pending, source, upto, spoken, alarms)
            except BaseException:
                self._pending = None
                pending.take_back()
                self._timeline.latest = latest
                for name, body in watches.items():
                    self._watches[name].restore(body)
                raise
        self._tell(spoken, alarms)
        return taken

    def _operate(self, pending: Pending, operation: Operation) -> None:
        setup = self._ready()
        side = setup.table(operation.table)
        if operation.doing == "predictions":
            self._intake.predictions(pending, side, operation.what)
        elif operation.doing == "retract":
            self._intake.retract(pending, side, operation.what)
        else:
            self._intake.feedback(pending, side, operation.what)

    def _speak(self, pending: Pending) -> list[Spoken]:
        """Apply the changes to the windows, and say what is new about them."""
        setup = self._ready()
        pending.undo.append(self._emission.begin())
        mark = self._timeline.watermark
        places: dict[tuple[int, Key], None] = {}
        if setup.query is None:
            places.update(self._recomputed_places(pending))
        else:
            layouts = [side.layout for side in setup.sides]
            changes = [
                added(pending.changes[side], layout.width)
                if side in pending.changes
                else nothing(layout)
                for side, layout in enumerate(layouts)
            ]
            if isinstance(self._windows, LastWindows):
                self._windows.move(*self._moves(pending))
            changed = self._windows.apply(changes)
            pending.undo.append(changed.undo)
            self._delta = changes
            places.update(self._places(changed.touched))
            for place in changed.gone:
                self._emission.drop(place)
        places.update(dict.fromkeys(self._emission.due(mark, self._bounds)))
        return self._said(list(places), mark)

    def _moves(self, pending: Pending) -> tuple[dict[int, int], list[int]]:
        """Numbers and times of the rows that come, and numbers of those that go."""
        coming: dict[int, int] = {}
        for rows in pending.arrived.values():
            numbers, times = rows.column(ROW).to_pylist(), rows.column(TIME).to_pylist()
            coming |= dict(zip(numbers, times, strict=True))
        return coming, [number for gone in pending.removed.values() for number in gone]

    def _places(self, touched: Sequence[Sequence[tuple[int, Key]]]) -> dict[tuple[int, Key], None]:
        """Rows of the answer that changed records belong to."""
        setup = self._ready()
        assert setup.query is not None
        if len(setup.sides) == 1:
            return dict.fromkeys(touched[0])
        windows = dict.fromkeys(window for side in touched for window, _ in side)
        return {
            (window, key): None
            for window in windows
            for key in [
                *(row.key for row in self._rows(window, None)),
                *self._emission.known(window),
            ]
        }

    def _said(self, places: Sequence[tuple[int, Key]], mark: int | None) -> list[Spoken]:
        by_window: dict[int, list[Key]] = {}
        for window, key in places:
            by_window.setdefault(window, []).append(key)
        found: list[Spoken] = []
        seq = self._seq + 1
        for window, keys in sorted(by_window.items()):
            for row in self._rows(window, keys):
                spoken = self._emission.say(
                    window,
                    row,
                    bounds=self._bounds(window, row.key),
                    mark=mark,
                    model=self._fingerprint,
                    seq=seq,
                )
                if spoken is not None:
                    found.append(spoken)
                    seq += len(spoken.deltas)
        return found

    def _alarms(self, spoken: Sequence[Spoken]) -> list[Alarm]:
        found: list[Alarm] = []
        seq = self._seq + 1 + sum(len(item.deltas) for item in spoken)
        for item in spoken:
            for watch in self._watches.values():
                alarm = watch.look(item.seen, self.spec.name, self._fingerprint, seq + len(found))
                if alarm is not None:
                    found.append(alarm)
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
        what = Written(
            batch=self._batch + 1,
            source=source,
            upto=upto,
            latest=self._timeline.latest.get(source),
            change=self._delta if pending.changes else [],
            entries=entries,
            late=pending.late,
            removed=pending.removed,
            arrived=pending.arrived,
            relabelled=pending.relabelled,
            label=self.spec.columns.label,
            alarms=moved,
            said=[self._emission.line(item.seen.window, item.row.key) for item in spoken],
        )
        self._store.write(what)
        self._pending = None
        for watch in self._watches.values():
            watch.moved = False
        self._batch += 1
        self._seq += len(entries)
        if upto is not None:
            self._offsets[source] = upto
        self._since_summary += 1
        if self._setup is not None and self._since_summary >= _SUMMARY_EVERY:
            # The batch is written; where a summary cannot be, the next one is tried again.
            with suppress(ArtifactError):
                self._summarise()
        return Taken(
            what.batch,
            pending.counted,
            pending.repeated,
            len(pending.late),
            replayed=False,
            deltas=deltas,
            alarms=list(alarms),
        )

    def _tell(self, spoken: Sequence[Spoken], alarms: Sequence[Alarm]) -> None:
        if not self._handlers:
            return
        for name, handler in self._handlers:
            if name == "change":
                for item in spoken:
                    for delta in item.deltas:
                        handler(delta, self.context(delta, item.row.cells[delta.column]))
                continue
            for alarm in alarms:
                if name in ("*", alarm.name):
                    handler(alarm, self.context(alarm))

    # How the state is found again, and bounded.

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

    def _prepare(self, schemas: Mapping[str, pa.Schema]) -> None:
        spec = self.spec
        setup = understand(
            spec.sql,
            self._registered,
            schemas,
            spec.columns,
            window=spec.window,
            keep=spec.keep,
            con=duckdb.connect(),
        )
        self._names = value_columns(setup)
        together = not isinstance(spec.window, Session)
        self._emission = Emission(spec.name, self._names[0], together=together)
        layouts = [side.layout for side in setup.sides]
        self._windows: Windowed = windowed(spec.window, layouts)
        intake = Intake(setup, spec.columns, spec.window, self._timeline, self._store)
        if "sql" not in self._store.about():
            written = {
                name: base64.b64encode(schema.serialize().to_pybytes()).decode()
                for name, schema in schemas.items()
            }
            about = {**spec.about(), "schemas": json.dumps(written)}
            sides = range(len(setup.tables))
            self._store.describe(about, [intake.stored_schema(side) for side in sides])
        self._intake = intake
        self._restore(setup)
        self._setup = setup

    def _restore(self, setup: Setup) -> None:
        index = setup.registered.index
        assert index is not None
        vectors = fingerprint([np.asarray(index.eigenvalues), np.asarray(index.eigenvectors)])
        answering = (str(index.manifest["model_fingerprint"]), vectors)
        self._fingerprint = f"{answering[0][:12]}-{vectors[:12]}"
        self._batch, self._seq = self._store.last_batch(), self._store.last_entry()
        for source, (upto, latest) in self._store.sources().items():
            if upto is not None:
                self._offsets[source] = upto
            if latest is not None:
                self._timeline.latest[source] = max(
                    latest, self._timeline.latest.get(source, latest)
                )
        for side in range(len(setup.tables)):
            self._intake.restore(side)
        epochs = self._store.epochs()
        if not epochs or epochs[-1][1:3] != answering:
            self._intake.epoch = len(epochs)
            self._store.begin_epoch(len(epochs), *answering, self._batch + 1)
            return
        self._intake.epoch = epochs[-1][0]
        self._read_back(begin=epochs[-1][3])

    def _read_back(self, begin: int) -> None:
        """Records and revisions of this epoch, which began with a batch."""
        self._placed: set[int] = set()
        at, records, said = self._store.summary()
        if at >= begin and at >= 0:
            self._windows.restore(self._with_times(records))
            self._emission.restore(said)
        for _, changes, lines in self._store.later(max(at, begin - 1)):
            if changes:
                self._windows.apply(self._with_times(changes))
            self._emission.restore(lines)

    def _with_times(self, records: list[Sums]) -> list[Sums]:
        """For windows made of rows: their times, and only rows that are still there."""
        if not isinstance(self._windows, LastWindows):
            return records
        rows = self._store.rows(0, f'"{ROW}", "{TIME}"')
        times = dict(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))
        self._windows.move({row: at for row, at in times.items() if row not in self._placed})
        self._placed |= set(times)
        found: list[Sums] = []
        for part in records:
            there = [place[0] in times for place in part.places]
            places = [place for place, known in zip(part.places, there, strict=True) if known]
            found.append(Sums(places, part.values[np.asarray(there, bool)]))
        return found

    def _summarise(self) -> None:
        """Replace what single batches added by its sum; forget what has expired."""
        setup = self._setup
        if setup is None:
            return
        horizon = self._timeline.horizon
        forget: dict[int, int] = {}
        if horizon is not None and not isinstance(self.spec.window, Everything):
            # Rows this old are refused, so forgetting them before the file does is safe.
            self._emission.forget(self._windows.expire(horizon))
            before = self._windows.oldest(horizon)
            forget = dict.fromkeys(range(len(setup.tables)), before)
            for side in forget:
                self._intake.forget(side, before)
        self._store.summarise(
            self._batch,
            [cells.everything() for cells in self._windows.cells],
            sources={
                name: (self._offsets.get(name), self._timeline.latest.get(name))
                for name in {*self._offsets, *self._timeline.latest}
            },
            windows=self._emission.body(),
            forget=forget,
            keep_from=self._seq - _KEPT_CHANGES,
        )
        self._since_summary = 0

    # Reading.

    def _ready(self) -> Setup:
        if self._setup is None:
            raise DataError(
                f"the monitor `{self.spec.name}` has seen no rows yet; send a batch, or give "
                "schema= when it is made."
            )
        return self._setup

    def _windowed_numbers(self) -> list[int]:
        if self._ready().query is None:
            return self._emission.windows()
        if isinstance(self.spec.window, Everything):
            return [0]
        return self._windows.windows()

    def _rows(self, window: int, keys: Sequence[Key] | None) -> list[Row]:
        """The answer for a window, or some rows of it; those that are no more have no rows."""
        setup = self._ready()
        if setup.query is None:
            return chosen_rows(self._recomputed(window), keys, setup)
        layouts = [side.layout for side in setup.sides]
        if len(layouts) == 1:
            records = [self._windows.records(0, window, keys)]
            return read_rows(setup.query, layouts, records)
        sides = [self._windows.records(side, window) for side in range(len(layouts))]
        rows = read_rows(setup.query, layouts, sides)
        if keys is None:
            return rows
        found = {row.key: row for row in rows}
        k = setup.passes.k
        return [found.get(key) or absent_row(setup.query, key, k) for key in keys]

    def _recomputed(self, window: int) -> list[Row]:
        if window not in self._asked:
            self._asked[window] = recomputed_rows(self._ready(), self._rows_of(window, None))
        return self._asked[window]

    def _recomputed_places(self, pending: Pending) -> dict[tuple[int, Key], None]:
        """Rows of the answer of every window in which a row came or went."""
        span, windows = self.spec.window, {0}
        if span.fixed:
            panes = span.panes(np.fromiter(pending.times.values(), np.int64))
            windows = {number for pane in panes.tolist() for number in span.covering(pane)}
        if not pending.times:
            return {}
        return {
            (number, key): None
            for number in sorted(windows)
            for key in [
                *(row.key for row in self._recomputed(number)),
                *self._emission.known(number),
            ]
        }

    def _rows_of(self, window: int, key: Key | None) -> list[pa.Table]:
        """Rows of every table in a window: those stored, and those of the batch being taken in."""
        setup, span = self._ready(), self.spec.window
        condition = f'"{EPOCH}" = {self._intake.epoch}'
        bounds = None if isinstance(span, Everything | Last) else self._bounds(window, key or ())
        if bounds is not None:
            condition += f' AND "{TIME}" >= {bounds[0]} AND "{TIME}" < {bounds[1]}'
        found = [
            self._intake.with_pending(
                self._pending, side, self._store.rows(side, "*", condition), bounds
            )
            for side in range(len(setup.tables))
        ]
        if isinstance(span, Last):
            return [
                rows.sort_by([(TIME, "ascending"), (ROW, "ascending")]).slice(
                    max(0, rows.num_rows - span.count)
                )
                for rows in found
            ]
        return found

    def _bounds(self, window: int, key: Key) -> Bounds:
        if self._ready().query is None:
            return None if isinstance(self.spec.window, Last) else self.spec.window.bounds(window)
        return self._windows.bounds(window, key)

    def _line(self, row: Row, bounds: Bounds) -> dict[str, Any]:
        start, end = as_times(bounds)
        line: dict[str, Any] = {"window_start": pd.Timestamp(start) if start else pd.NaT}
        line["window_end"] = pd.Timestamp(end) if end else pd.NaT
        line.update(zip(self._names[0], row.key, strict=True))
        for name, cell in row.cells.items():
            line[name] = cell.plain
            line[f"{name}_relaxed"] = cell.relaxed
            line[f"{name}_low"] = cell.relaxed - INTERVAL * cell.spread
            line[f"{name}_high"] = cell.relaxed + INTERVAL * cell.spread
        mark = self._timeline.watermark
        line["rows"] = row.rows
        line["final"] = bounds is not None and mark is not None and bounds[1] <= mark
        return line

    def _spoken(self, entry: Entry) -> Delta | Alarm:
        kind = Alarm if entry.kind == "alarm" else Delta
        return kind.read(self.spec.name, entry.seq, entry.body)

    def _gradient(self, about: Alarm | Delta, cell: Reading | None) -> np.ndarray:
        check_same(about.model, self._fingerprint)
        if isinstance(about, Alarm):
            return about.vector * (1.0 if about.should == "increase" else -1.0)
        if cell is not None:
            return cell.gradient
        with self._lock:
            key = tuple(about.group.values())
            found = self._rows(self._window_of(about), [key])
            if not found:
                raise DataError(f"the window of this change is not kept any more: {about}.")
            return found[0].cells[about.column].gradient

    def _window_of(self, about: Alarm | Delta) -> int:
        start = about.window[0]
        if start is None or isinstance(self.spec.window, Last | Everything):
            return 0
        at = int(np.datetime64(start, "us").astype(np.int64))
        return int(self.spec.window.panes(np.asarray([at]))[0])

    def _result(self, about: Alarm | Delta) -> Result:
        setup = self._ready()
        check_same(about.model, self._fingerprint)
        if setup.keep != "inputs":
            raise RainError(
                f"the inputs of the rows are not kept (keep={setup.keep!r}), so the query cannot "
                "be run again; make the monitor with keep='inputs'."
            )
        with self._lock:
            rows = self._rows_of(self._window_of(about), tuple(about.group.values()))
        return window_result(setup, rows)

    def _rule(
        self,
        name: str,
        when: str,
        clear: str | None,
        where: Mapping[str, Any] | None,
        hold: int,
        min_rows: float,
        target: float | None,
        whole_windows: bool | None,
    ) -> Rule:
        if not isinstance(name, str) or name in ("", "*", "change"):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`name` is {name!r}; give the alarm a name of its own.")
        if name in self._watches:
            raise SettingsError(f"there is an alarm {name!r} already; choose another name.")
        groups, values = self._names
        found = Condition.read(when, [*values, "rows"])
        over = found if clear is None else Condition.read(clear, [*values, "rows"], "clear")
        if found.first.column not in values:
            raise SettingsError(
                f"`when` is {when!r}; its first comparison must be of one of {', '.join(values)}."
            )
        chosen = dict(where or {})
        for column in chosen:
            if column not in groups:
                raise SettingsError(
                    f"`where` names {column!r}; the query groups by "
                    f"{', '.join(groups) or 'nothing'}."
                )
        if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`hold` is {hold!r}; it must be a whole number of windows >= 1.")
        whole = found.needs_whole_windows if whole_windows is None else whole_windows
        fixed = not isinstance(self.spec.window, Everything | Last)
        return Rule(
            name=name,
            when=found,
            clear=over,
            where=chosen,
            hold=hold,
            whole_windows=whole and fixed,
            min_rows=min_rows,
            target=target,
        )

    def _plan_lines(self, setup: Setup) -> list[str]:
        spec, query = self.spec, setup.query
        lines: list[str] = []
        if query is None:
            lines.append(
                "recomputed from the rows of a window whenever one comes or goes: " + setup.reason
            )
        elif len(query.sides) == 2:
            names = " and ".join(table.name for table in setup.tables)
            lines.append(f"kept by additions: sums for each join key of {names}, multiplied")
        else:
            lines.append("kept by additions: a batch costs the same however much came before")
        if query is not None and any(term.kind == "AVG" for term in query.terms):
            lines.append("AVG relaxed is the expected sum over the expected count")
        lines.append(
            f"{spec.window}; rows up to {shown_duration(spec.lateness)} late are in time, and are "
            f"counted up to {shown_duration(spec.retention)} after that"
        )
        kept = {
            "inputs": "the model's inputs of every row, so that it can be taken back",
            "gradients": f"{setup.passes.k} numbers for each class that can count, of every row, "
            "so that it can be taken back",
            "nothing": "nothing of a row: it cannot be taken back",
        }
        lines.append(f"keeps {kept[setup.keep]}")
        if query is not None:
            backward = [g for g in range(1, setup.passes.k) if setup.passes.backward_is_cheaper(g)]
            lines.append(
                "gradients: k forward passes"
                if setup.keep == "gradients" or not backward
                else f"gradients: a backward pass for each group a batch touches, up to "
                f"{backward[-1]} groups; k = {setup.passes.k} forward passes beyond"
            )
        return lines


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier() or name.lower() in _TAKEN:
        raise SettingsError(
            f"`name` is {name!r}; a monitor is called by letters, digits and underscores, and not "
            f"{', '.join(_TAKEN)}."
        )
    return name


def _checked_sql(sql: Any) -> str:
    if not isinstance(sql, str):
        raise QueryError(f"`sql` is {sql!r}; it must be a string with one SELECT.")
    return sql


def _retention(asked: Any, window: Window) -> int:
    if asked is None:
        return max(2 * window.span, microseconds("1d", "retention"))
    found = microseconds(asked, "retention")
    if found < window.span:
        raise SettingsError(
            f"`retention` is {asked!r}, shorter than the window ({window}); rows would be "
            "forgotten while their window is open. Keep them at least as long."
        )
    return found


def _schemas(schema: Any, sql: str, function: str) -> dict[str, pa.Schema] | None:
    names = table_names(sql, function)
    if schema is None:
        if len(names) != 1:
            raise SettingsError(
                f"the query reads {', '.join(names) or 'no table'}; give schema={{name: schema}} "
                "for each of its tables."
            )
        return None
    given = schema if isinstance(schema, Mapping) else {names[0]: schema} if names else {}
    found = {str(name): _schema(item, str(name)) for name, item in given.items()}
    missing = [name for name in names if name.lower() not in {known.lower() for known in found}]
    if missing:
        raise SettingsError(f"`schema` has no entry for the table {missing[0]!r} of the query.")
    return found


def _schema(item: Any, name: str) -> pa.Schema:
    return item if isinstance(item, pa.Schema) else as_arrow(item, f"schema of {name}").schema
