"""How a monitor takes a batch in: checked, applied, written down, and then told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from rainpp.errors import (
    ComplaintError,
    DataError,
    QueryError,
    RainError,
    SettingsError,
    one_line,
)
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.answers import drift_alarm
from rainpp.monitoring.batch import Batch, Operation, Taken
from rainpp.monitoring.context import Context, check_same
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.emission import Spoken
from rainpp.monitoring.intake import Pending
from rainpp.monitoring.recomputed import accuracy_sql, group_sql, window_result
from rainpp.monitoring.rules import is_name
from rainpp.monitoring.state import Handler, State
from rainpp.result import Result
from rainpp.stream.journal import Entry, Written
from rainpp.stream.reading import Reading


class Taking(State):
    """A state that batches change, all or nothing."""

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
            "counted": kept.intake.counted,
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
            labels=sum(map(len, pending.relabelled.values())),
            retracted=sum(map(len, pending.removed.values())),
            deltas=deltas,
            alarms=list(alarms),
            set_aside=[{"reason": reason, **row} for reason, row in pending.late],
        )

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
            result=lambda alone: self._result(about, alone=alone),
            ask=self.sql,
        )

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

    def _result(self, about: Alarm | Delta, *, alone: bool) -> Result:
        """The query over the rows of a window; `alone` asks for the one group, without GROUP BY."""
        kept = self._ready()
        check_same(about.model, kept.fingerprint)
        if kept.setup.keep != "inputs":
            raise RainError(
                f"the inputs of the rows are not kept (keep={kept.setup.keep!r}), so the query "
                "cannot be run again; make the monitor with keep='inputs'."
            )
        with self._lock:
            rows = kept.rows_of(kept.window_of(about), tuple(about.group.values()))
        label, names = self.spec.columns.label, kept.names[1]
        of_labels = about.column == "accuracy" and "accuracy" not in names and label is not None
        sql = accuracy_sql(kept.setup, str(label)) if of_labels else None
        if alone:
            sql = group_sql(kept.setup, about.group)
        return window_result(kept.setup, rows, sql)

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
