"""Rows on their way into a monitor: checked, numbered, predicted, and turned into changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from rainpp.errors import DataError, SettingsError
from rainpp.inference import encoded_rows
from rainpp.monitoring.counted import Counted
from rainpp.monitoring.drift import Accused, Drift
from rainpp.monitoring.quality import NO_PANE, Quality
from rainpp.monitoring.setup import Columns, Setup, Streamed
from rainpp.monitoring.tables import as_arrow, event_times
from rainpp.monitoring.timeline import Timeline
from rainpp.relax.catalog import quote
from rainpp.stream.cells import Sums
from rainpp.stream.directory import Directory, Keys, id_keys
from rainpp.stream.packing import as_json
from rainpp.stream.store import Store
from rainpp.stream.view import Rows
from rainpp.stream.window import Last, Window

Index = NDArray[np.int64]
ROW, EPOCH, TIME, CHANCES, TANGENTS = "__row", "__epoch", "__time", "__p", "__t"
# Probabilities of a row that is sent again may differ in single precision from those kept.
_SAME = 1e-3


@dataclass(eq=False)
class Pending:
    """What one batch has done so far; nothing of it is written yet.

    Attributes
    ----------
    arrived : for each table the rows to insert.
    removed : for each table the numbers of stored rows to delete.
    relabelled : for each table, labels by row number.
    changes : for each table what is added to its records.
    late : (reason, row) of what is not counted.
    latest : the latest event time.
    times : of rows that came, went or changed.
    judged : panes whose accuracy may have changed.
    accused : features that no longer look like the training rows.
    undo : takes back what was changed in memory, the last first.
    """

    arrived: dict[int, pa.Table] = field(default_factory=dict[int, pa.Table])
    removed: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    relabelled: dict[int, dict[int, Any]] = field(default_factory=dict[int, dict[int, Any]])
    changes: dict[int, list[Sums]] = field(default_factory=dict[int, list[Sums]])
    times: list[Index] = field(default_factory=list[Index])
    late: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    latest: int | None = None
    judged: set[int] = field(default_factory=set[int])
    accused: list[Accused] = field(default_factory=list[Accused])
    counted: int = 0
    repeated: int = 0
    undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def take_back(self) -> None:
        """Leave memory as it was before the batch."""
        while self.undo:
            self.undo.pop()()


class Intake:
    """Turns what users hand in into changes of records and rows to store."""

    def __init__(
        self,
        setup: Setup,
        columns: Columns,
        window: Window,
        timeline: Timeline,
        store: Store,
        quality: Quality | None,
    ) -> None:
        self._setup, self._columns, self._window = setup, columns, window
        self._schemas: dict[int, pa.Schema] = {}
        self._timeline, self._store = timeline, store
        self._directories = [Directory() for _ in setup.tables]
        self.quality = quality
        self.drift: Drift | None = None
        # Labels that came since the last summary, by table and row number.
        self.unfolded: dict[int, dict[int, Any]] = {}
        self.epoch = 0
        self.next_row = 0

    def stored_schema(self, side: int) -> pa.Schema:
        """Columns of a stored row."""
        if side not in self._schemas:
            self._schemas[side] = self._made_schema(side)
        return self._schemas[side]

    def _made_schema(self, side: int) -> pa.Schema:
        table = self._setup.tables[side]
        number = pa.from_numpy_dtype(np.dtype(self._setup.passes.model.theta.dtype))
        fields = [
            pa.field(ROW, pa.int64()),
            pa.field(EPOCH, pa.int32()),
            pa.field(TIME, pa.int64()),
            pa.field(CHANCES, pa.list_(number)),
            pa.field(TANGENTS, pa.list_(number)),
        ]
        return pa.schema([*fields, *(table.schema.schema.field(n) for n in self._stored(table))])

    def restore(self, side: int) -> None:
        """Find the ids of stored rows again, and what their labels say."""
        columns = f'"{ROW}"' + ("" if self._columns.id is None else f", {quote(self._columns.id)}")
        rows = self._store.rows(side, columns)
        if self.quality is not None:
            ours = self._store.rows(side, "*", f'"{EPOCH}" = {self.epoch}')
            known = self._with_new_labels(None, side, ours.cast(self.stored_schema(side)))
            self._judge(known, _matrix(known.column(CHANCES)) if known.num_rows else None)
        numbers = rows.column(0).to_numpy()
        if self._columns.id is not None:
            keys = id_keys(rows.column(1), self._columns.id)
            self._directories[side].add(keys, numbers)

    @property
    def first_row(self) -> int:
        """The smallest number of a row that is kept."""
        found = [self._store.first_row(side) for side in range(len(self._setup.tables))]
        return min((number for number in found if number is not None), default=self.next_row)

    def forget(self, side: int, before: int) -> None:
        """Forget the ids of stored rows older than an instant."""
        if self._columns.id is None:
            return
        old = self._store.rows(side, quote(self._columns.id), f'"{TIME}" < {before}')
        if old.num_rows:
            self._directories[side].remove(id_keys(old.column(0), self._columns.id))

    def predictions(self, pending: Pending, side: int, source: Any) -> None:
        """Rows that came."""
        table = self._setup.tables[side]
        given = as_arrow(source, "predictions")
        if not given.num_rows:
            return
        rows = self._read(table, given)
        times = self._times(rows)
        keep, reasons = self._in_time(times)
        if not keep.all():
            self._set_aside(pending, rows, reasons)
            rows, times = rows.filter(pa.array(keep)), times[keep]
        rows, times, keys = self._new_ones(pending, side, rows, times)
        if not rows.num_rows:
            return
        numbers = np.arange(self.next_row, self.next_row + rows.num_rows)
        pending.undo.append(partial(setattr, self, "next_row", self.next_row))
        self.next_row += rows.num_rows
        made = self._rows(side, rows, times, numbers)
        stored = self._change(pending, side, made)
        arrived = self._stored_rows(side, rows, times, numbers, stored)
        self._arrive(pending, side, arrived)
        if keys is not None:
            self._register(pending, side, keys, numbers)
        if self.quality is not None:
            pending.undo.append(self._judge(arrived, stored[0]))
            pending.judged |= set(self._judged_panes(times).tolist())
        if self.drift is not None:
            accused, back = self.drift.take(rows, self._judged_panes(times))
            if len(accused) == len(self.drift.accused):  # nothing was accused before
                pending.accused += accused
            pending.undo.append(back)
        pending.latest = max(pending.latest or int(times.max()), int(times.max()))
        pending.counted += rows.num_rows

    def counted(self, pending: Pending, side: int, what: Counted) -> None:
        """Rows that were counted elsewhere; they are not kept."""
        pending.changes.setdefault(side, []).append(what.sums)
        pending.late += what.late
        if what.latest is not None:
            pending.latest = max(pending.latest or what.latest, what.latest)
        pending.counted += what.rows

    def retract(self, pending: Pending, side: int, ids: Any) -> None:
        """Rows that went, by their ids."""
        if self._setup.keep == "nothing":
            raise SettingsError(
                "rows cannot be taken back with keep='nothing'; use keep='gradients' or 'inputs'."
            )
        name, column = self._id_column(side, ids)
        keys = id_keys(column, name)
        numbers = self._directories[side].find(keys)
        for place in np.flatnonzero(numbers < 0).tolist():
            row = {name: as_json(column[place].as_py())}
            pending.late.append(("retraction of an unknown id", row))
        known = np.unique(numbers[numbers >= 0])
        if not len(known):
            return
        rows = self._of_this_model(pending, self._kept_rows(pending, side, known))
        if not rows.num_rows:
            return
        self._change(pending, side, self._from_stored(side, rows, sign=-1.0))
        self._leave(pending, side, rows.column(ROW).to_numpy())
        if self.quality is not None:
            pending.judged |= set(self._judged_panes(rows.column(TIME).to_numpy()).tolist())
            pending.undo.append(self.quality.left(rows.column(ROW).to_numpy()))
        gone = id_keys(rows.column(name), name)
        self._directories[side].remove(gone)
        found = rows.column(ROW).to_numpy()
        pending.undo.append(lambda: self._directories[side].add(gone, found))

    def feedback(self, pending: Pending, side: int, source: Any) -> None:
        """Labels of rows; of two labels of one row in a table the later one counts."""
        label, name = self._columns.label, self._columns.id
        if label is None or name is None:
            raise SettingsError(
                "labels find their rows by id; name both columns, id='...' and label='...', when "
                "the monitor is made."
            )
        table = self._setup.tables[side]
        read = table.schema.fitted(as_arrow(source, "feedback"), [name, label])
        keys = id_keys(read.column(0), name)
        numbers = self._directories[side].find(keys)
        labels = read.column(1).to_pylist()
        for place in np.flatnonzero(numbers < 0).tolist():
            row = {column: as_json(read.column(column)[place].as_py()) for column in (name, label)}
            pending.late.append(("label of an unknown id", row))
        wanted = {n: value for n, value in zip(numbers.tolist(), labels, strict=True) if n >= 0}
        if wanted and label in table.read:
            wanted = self._relabel(pending, side, wanted)
        if wanted and self.quality is not None:
            wanted = self._score(pending, self.quality, wanted)
        if wanted:
            pending.relabelled.setdefault(side, {}).update(wanted)

    def accept(self, pending: Pending) -> None:
        """A batch has been written."""
        for side, labels in pending.relabelled.items():
            self.unfolded.setdefault(side, {}).update(labels)

    def _relabel(self, pending: Pending, side: int, wanted: dict[int, Any]) -> dict[int, Any]:
        """Take labels into a query that reads them; those that are new."""
        label, table = str(self._columns.label), self._setup.tables[side]
        rows = self._kept_rows(pending, side, np.asarray(sorted(wanted), np.int64))
        rows = self._of_this_model(pending, rows)
        found = [wanted[number] for number in rows.column(ROW).to_pylist()]
        before = rows.column(label).to_pylist()
        differs = [new != old for new, old in zip(found, before, strict=True)]
        pending.repeated += len(differs) - sum(differs)
        rows = rows.filter(pa.array(differs, pa.bool_()))
        found = [value for value, changed in zip(found, differs, strict=True) if changed]
        if not rows.num_rows:
            return {}
        if self._setup.keep == "nothing" and table.slot is not None:
            raise SettingsError(
                f"the query reads the label `{label}`, so rows change when it comes; use "
                "keep='gradients' or 'inputs'."
            )
        kind = table.schema.schema.field(label).type
        after = rows.set_column(rows.column_names.index(label), label, pa.array(found, kind))
        signs = np.repeat([-1.0, 1.0], rows.num_rows)
        self._change(
            pending, side, self._from_stored(side, pa.concat_tables([rows, after]), sign=signs)
        )
        return dict(zip(rows.column(ROW).to_pylist(), found, strict=True))

    def _score(self, pending: Pending, quality: Quality, wanted: dict[int, Any]) -> dict[int, Any]:
        """Take labels into the accuracy; those that are new."""
        numbers = np.fromiter(wanted, np.int64, len(wanted))
        codes = quality.codes(list(wanted.values()))
        panes = quality.panes(numbers)
        other = (panes == NO_PANE).tolist()
        if any(other) and str(self._columns.label) not in self._setup.tables[0].read:
            for number, unknown in zip(numbers.tolist(), other, strict=True):
                if unknown:
                    row = {"label": as_json(wanted[number])}
                    pending.late.append(("a row of an earlier model", row))
        new = (panes != NO_PANE) & (codes != quality.labels(numbers))
        pending.undo.append(quality.labelled(numbers[new], codes[new]))
        pending.judged |= set(panes[new].tolist())
        if str(self._columns.label) in self._setup.tables[0].read:
            return wanted
        pending.repeated += int((~new & (panes != NO_PANE)).sum())
        return {number: wanted[number] for number in numbers[new].tolist()}

    def _judge(self, rows: pa.Table, chances: Any) -> Callable[[], None]:
        """Take stored rows into the accuracy."""
        assert self.quality is not None
        if not rows.num_rows:
            return lambda: None
        return self.quality.arrived(
            rows.column(ROW).to_numpy(),
            self._judged_panes(rows.column(TIME).to_numpy()),
            chances.argmax(axis=1),
            rows,
            rows.column(str(self._columns.label)).to_pylist(),
        )

    def compare_again(self, side: int, first: int) -> None:
        """Compare stored rows from a number on with the training rows, where they are all kept."""
        rows = self._store.rows(side, "*", f'"{ROW}" >= {first}')
        if self.drift is None or not rows.num_rows:
            return
        if set(self.drift.columns) <= set(rows.column_names):
            self.drift.take(rows, self._judged_panes(rows.column(TIME).to_numpy()))

    def _judged_panes(self, times: Index) -> Index:
        return self._window.panes(times) if self._window.fixed else np.zeros_like(times)

    def _of_this_model(self, pending: Pending, rows: pa.Table) -> pa.Table:
        """Rows that the present model answered for; those of an earlier one are set aside."""
        ours = rows.column(EPOCH).to_numpy() == self.epoch
        self._set_aside(pending, rows, [("a row of an earlier model", np.flatnonzero(~ours))])
        return rows.filter(pa.array(ours))

    def with_pending(
        self, pending: Pending | None, side: int, rows: pa.Table, bounds: tuple[int, int] | None
    ) -> pa.Table:
        """Stored rows of a window as they will be once a batch is written."""
        rows = rows.cast(self.stored_schema(side))
        if pending is None:
            return self._with_new_labels(None, side, rows)
        removed = pending.removed.get(side)
        if removed:
            rows = rows.filter(_among(rows, removed, there=False))
        rows = self._with_new_labels(pending, side, rows)
        new = pending.arrived.get(side)
        if new is None:
            return rows
        new = self._with_new_labels(pending, side, new)
        if bounds is not None:
            times = new.column(TIME).to_numpy()
            new = new.filter(pa.array((times >= bounds[0]) & (times < bounds[1])))
        return pa.concat_tables([rows, new])

    def _read(self, table: Streamed, given: pa.Table) -> pa.Table:
        """The columns a monitor reads, in the types of the first batch; labels may be missing."""
        label = self._columns.label
        compared = () if self.drift is None else self.drift.columns
        names = list(dict.fromkeys([*self._meaning(), *table.read, *table.arguments, *compared]))
        if label is not None and label not in given.column_names:
            names = [name for name in names if name != label]
            rows = table.schema.fitted(given, names)
            kind = table.schema.schema.field(label).type
            return rows.append_column(label, pa.nulls(rows.num_rows, kind))
        return table.schema.fitted(given, names)

    def _meaning(self) -> list[str]:
        known = (self._columns.time, self._columns.id, self._columns.label)
        return [name for name in known if name is not None]

    def _stored(self, table: Streamed) -> list[str]:
        arguments = table.arguments if self._setup.keep == "inputs" else ()
        return list(dict.fromkeys([*self._meaning(), *table.read, *arguments]))

    def _times(self, rows: pa.Table) -> Index:
        if self._columns.time is None:
            return np.full(rows.num_rows, int(self._timeline.clock() * 1e6), np.int64)
        return event_times(rows.column(self._columns.time), self._columns.time)

    def _in_time(self, times: Index) -> tuple[NDArray[np.bool_], list[tuple[str, Index]]]:
        late, early = self._timeline.too_old(times), self._timeline.from_the_future(times)
        reasons = [
            ("older than retention", np.flatnonzero(late)),
            ("ahead of the clock", np.flatnonzero(early)),
        ]
        return ~(late | early), reasons

    def _set_aside(
        self, pending: Pending, rows: pa.Table, reasons: Sequence[tuple[str, Index]]
    ) -> None:
        names = [
            name
            for name in dict.fromkeys([*self._meaning(), *self._small(rows)])
            if not name.startswith("__")
        ]
        for reason, places in reasons:
            if len(places):
                chosen = rows.select(names).take(pa.array(places)).to_pylist()
                pending.late += [(reason, _json_row(row)) for row in chosen]

    def _small(self, rows: pa.Table) -> list[str]:
        """Columns that are no arrays: what is noted of a row that is not counted."""
        return [f.name for f in rows.schema if not pa.types.is_nested(f.type)]

    def _new_ones(
        self, pending: Pending, side: int, rows: pa.Table, times: Index
    ) -> tuple[pa.Table, Index, Keys | None]:
        """Rows whose ids are new; the same row again is left out, another one is set aside."""
        name = self._columns.id
        if name is None or not rows.num_rows:
            return rows, times, None
        keys = id_keys(rows.column(name), name)
        numbers = self._directories[side].find(keys)
        first = np.unique(keys, return_index=True)[1]
        new = np.zeros(len(keys), bool)
        new[first] = True
        new &= numbers < 0
        if new.all():
            return rows, times, keys
        again = np.flatnonzero(~new)
        same = self._same(pending, side, rows, times, again, numbers, keys)
        pending.repeated += int(same.sum())
        self._set_aside(pending, rows, [("another row has this id", again[~same])])
        return rows.filter(pa.array(new)), times[new], keys[new]

    def _same(
        self,
        pending: Pending,
        side: int,
        rows: pa.Table,
        times: Index,
        again: Index,
        numbers: Index,
        keys: Keys,
    ) -> NDArray[np.bool_]:
        """Whether rows `again` are what is known under their ids already."""
        table, label = self._setup.tables[side], self._columns.label
        first = {int(key): place for place, key in reversed(list(enumerate(keys)))}
        stored = np.unique(numbers[again][numbers[again] >= 0])
        kept = self._kept_rows(pending, side, stored) if len(stored) else None
        at = {} if kept is None else {n: i for i, n in enumerate(kept.column(ROW).to_pylist())}
        names = [n for n in dict.fromkeys([*table.read, self._columns.id]) if n and n != label]
        if self._setup.keep == "inputs":
            names = list(dict.fromkeys([*names, *table.arguments]))
        ours = rows.select(names).take(pa.array(again)).to_pylist()
        chances = self._chances(side, rows.take(pa.array(again)))
        found = np.zeros(len(again), bool)
        for place, (row, number) in enumerate(zip(again, numbers[again], strict=True)):
            if number >= 0:
                assert kept is not None
                other, where = kept.select(names), at[int(number)]
                theirs = {name: other.column(name)[where].as_py() for name in names}
                time, chance = kept.column(TIME)[where].as_py(), kept.column(CHANCES)[where].as_py()
                near = np.allclose(chances[place], chance, atol=_SAME)
            else:
                where = first[int(keys[row])]
                theirs = rows.select(names).slice(where, 1).to_pylist()[0]
                time, near = int(times[where]), True
            found[place] = near and time == times[row] and repr(theirs) == repr(ours[place])
        return found

    def _chances(self, side: int, rows: pa.Table) -> NDArray[np.floating[Any]]:
        table = self._setup.tables[side]
        if table.slot is None:
            return np.ones((rows.num_rows, 1))
        return self._setup.passes.probabilities(self._inputs(table, rows))

    def _inputs(self, table: Streamed, rows: pa.Table) -> Any:
        return encoded_rows(
            self._setup.registered, rows, table=table.name, arguments=table.arguments
        )

    def _rows(self, side: int, rows: pa.Table, times: Index, numbers: Index) -> tuple[Rows, Index]:
        table = self._setup.tables[side]
        inputs = self._inputs(table, rows) if table.slot is not None else None
        signs = np.ones(rows.num_rows)
        return Rows(rows, self._panes(times, numbers), signs, inputs), np.stack([numbers, times])

    def _from_stored(self, side: int, rows: pa.Table, *, sign: Any) -> tuple[Rows, Index]:
        table = self._setup.tables[side]
        numbers, times = rows.column(ROW).to_numpy(), rows.column(TIME).to_numpy()
        signs = np.broadcast_to(np.asarray(sign, float), (rows.num_rows,)).copy()
        chances = tangents = inputs = None
        if table.slot is not None:
            chances = _matrix(rows.column(CHANCES))
            if self._setup.keep == "gradients":
                tangents = self._whole_tangents(side, rows.column(TANGENTS), chances.shape[1])
            elif self._setup.keep == "inputs":
                inputs = self._inputs(table, rows)
        made = Rows(rows, self._panes(times, numbers), signs, inputs, chances, tangents)
        return made, np.stack([numbers, times])

    def _panes(self, times: Index, numbers: Index) -> Index:
        return numbers if isinstance(self._window, Last) else self._window.panes(times)

    def _change(self, pending: Pending, side: int, made: tuple[Rows, Index]) -> Any:
        """Add what rows change to the batch; what was learned of them."""
        rows, where = made
        pending.times.append(where[1])
        if self._setup.query is None:
            chances = rows.probabilities
            if chances is None:
                chances = self._setup.passes.probabilities(rows.inputs)
            return chances, None
        forward = self._setup.keep == "gradients" and rows.tangents is None
        sums, batch = self._setup.sides[side].change(rows, forward=forward)
        pending.changes.setdefault(side, []).append(sums)
        return batch.probabilities, batch.tangents

    def _stored_rows(
        self, side: int, rows: pa.Table, times: Index, numbers: Index, learned: Any
    ) -> pa.Table:
        table, schema = self._setup.tables[side], self.stored_schema(side)
        chances, tangents = learned
        count = rows.num_rows
        kept = None
        if self._setup.keep == "gradients" and tangents is not None:
            kept = tangents[:, self._setup.touched[side]].reshape(count, -1)
        columns = {
            ROW: pa.array(numbers),
            EPOCH: pa.array(np.full(count, self.epoch, np.int32)),
            TIME: pa.array(times),
            CHANCES: _lists(chances),
            TANGENTS: pa.nulls(count, schema.field(TANGENTS).type)
            if kept is None
            else _lists(kept),
        }
        named = {name: rows.column(name) for name in self._stored(table)}
        made = pa.table({**columns, **named})
        return made if made.schema.types == schema.types else made.cast(schema)

    def _whole_tangents(
        self, side: int, column: pa.ChunkedArray, num_classes: int
    ) -> NDArray[np.floating[Any]]:
        touched, k = self._setup.touched[side], self._setup.passes.k
        values = _matrix(column).reshape(len(column), len(touched), k)
        out = np.zeros((len(column), num_classes, k), values.dtype)
        out[:, touched] = values
        return out

    def _arrive(self, pending: Pending, side: int, rows: pa.Table) -> None:
        before = pending.arrived.get(side)
        pending.arrived[side] = rows if before is None else pa.concat_tables([before, rows])

    def _leave(self, pending: Pending, side: int, numbers: Index) -> None:
        known = pending.arrived.get(side)
        if known is not None:
            staying = _among(known, numbers, there=False)
            pending.arrived[side] = known.filter(staying)
        pending.removed.setdefault(side, []).extend(numbers.tolist())

    def _kept_rows(self, pending: Pending, side: int, numbers: Index) -> pa.Table:
        """Rows by number, stored or of this batch, by ascending number."""
        parts: list[pa.Table] = []
        known = pending.arrived.get(side)
        if known is not None:
            found = known.filter(_among(known, numbers, there=True))
            parts.append(self._with_new_labels(pending, side, found))
        missing = np.setdiff1d(numbers, parts[0].column(ROW).to_numpy() if parts else [])
        if len(missing):
            stored = self._store.rows_numbered(side, missing.tolist())
            parts.append(
                self._with_new_labels(pending, side, stored.cast(self.stored_schema(side)))
            )
        return pa.concat_tables(parts).sort_by(ROW)

    def _with_new_labels(self, pending: Pending | None, side: int, rows: pa.Table) -> pa.Table:
        """Rows with labels that are not written into them yet."""
        label = self._columns.label
        new = self.unfolded.get(side, {})
        fresh = {} if pending is None else pending.relabelled.get(side, {})
        if label is None or not (new or fresh):
            return rows
        values = [
            fresh[number] if number in fresh else new.get(number, old)
            for number, old in zip(
                rows.column(ROW).to_pylist(), rows.column(label).to_pylist(), strict=True
            )
        ]
        place = rows.column_names.index(label)
        return rows.set_column(place, label, pa.array(values, rows.schema.field(label).type))

    def _register(self, pending: Pending, side: int, keys: Keys, numbers: Index) -> None:
        directory = self._directories[side]
        directory.add(keys, numbers)
        pending.undo.append(lambda: directory.remove(keys))

    def _id_column(self, side: int, ids: Any) -> tuple[str, pa.ChunkedArray]:
        name = self._columns.id
        if name is None:
            raise SettingsError("rows are taken back by id; name the column of ids, id='...'.")
        schema, listed = self._setup.tables[side].schema, listed_ids(ids)
        if isinstance(listed, list) and all(type(value) is int for value in listed):
            # Arrow guesses 64 bits with a sign, which the largest ids exceed.
            with suppress(pa.ArrowException, OverflowError):
                listed = pa.array(listed, schema.schema.field(name).type)
        return name, schema.fitted(as_arrow({name: listed}, "ids"), [name]).column(0)


def _among(rows: pa.Table, numbers: Any, *, there: bool) -> pa.Array:
    """Which rows have one of some numbers, or have none of them."""
    return pa.array(np.isin(rows.column(ROW).to_numpy(), numbers) == there)


def listed_ids(ids: Any) -> Any:
    """Ids as a list or an array.

    Raises
    ------
    DataError : they are one id, a table, or no list.
    """
    if isinstance(ids, pa.Array | pa.ChunkedArray | pd.Series | np.ndarray):
        return ids
    if isinstance(ids, ExtensionArray):
        return pd.Series(ids)
    if isinstance(ids, Sequence | Set) and not isinstance(ids, str | bytes):
        return list(ids)
    shown = repr(ids) if isinstance(ids, str | bytes | int | None) else f"a {type(ids).__name__}"
    raise DataError(f"`ids` is {shown}; give a list, or a column, of ids.")


def _json_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_json(value) for name, value in row.items()}


def _lists(values: NDArray[np.floating[Any]]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    starts = np.arange(len(values) + 1) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), flat)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.floating[Any]]:
    whole: Any = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    return whole.flatten().to_numpy().reshape(len(whole), -1)
