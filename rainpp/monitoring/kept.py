"""How the answer changes with a batch, and how it is found again in the state file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rainpp.fingerprint import fingerprint
from rainpp.monitoring.answers import Answers
from rainpp.monitoring.emission import Spoken
from rainpp.monitoring.intake import EPOCH, ROW, TIME, Pending
from rainpp.monitoring.setup import Setup
from rainpp.monitoring.spec import Spec
from rainpp.monitoring.timeline import Timeline
from rainpp.stream.cells import Key, Sums, added
from rainpp.stream.contributions import nothing
from rainpp.stream.deliveries import Deliveries
from rainpp.stream.store import Store
from rainpp.stream.window import Everything
from rainpp.stream.windowed import LastWindows

# Lines of the outbox that stay behind.
_KEPT_CHANGES = 100_000


@dataclass(eq=False)
class Position:
    """How far the stream has been taken in: batches, lines of the outbox, offsets by source.

    Attributes
    ----------
    summary : the batch of the last summary.
    """

    batch: int = -1
    seq: int = -1
    offsets: dict[str, int] = field(default_factory=dict[str, int])
    summary: int = -1

    @property
    def unsummarised(self) -> int:
        """Batches since the last summary."""
        return self.batch - self.summary


def found_position(store: Store, timeline: Timeline) -> Position:
    """How far a state file has come; what it says of event time goes into the timeline."""
    offsets: dict[str, int] = {}
    for source, (upto, latest) in store.sources().items():
        if upto is not None:
            offsets[source] = upto
        if latest is not None:
            timeline.latest[source] = latest
    timeline.mark = store.marks()[0]
    return Position(store.last_batch(), store.last_entry(), offsets, store.last_summary())


class Kept(Answers):
    """The answer, kept up to date."""

    def __init__(self, spec: Spec, setup: Setup, timeline: Timeline, store: Store) -> None:
        super().__init__(spec, setup, timeline, store)
        self.delta: list[Sums] = []
        # Rows of the answer that the batch made part of others, or took away.
        self.gone: list[tuple[int, Key]] = []
        self._placed: set[int] = set()

    def speak(self, pending: Pending, seq: int) -> list[Spoken]:
        """Apply the changes to the windows, and say what is new about them."""
        setup, self.gone = self.setup, []
        pending.undo.append(self.emission.begin())
        mark = self.timeline.watermark
        places: dict[tuple[int, Key], None] = {}
        if setup.query is None:
            places.update(self.recomputed_places(pending))
        else:
            layouts = [side.layout for side in setup.sides]
            changes = [
                added(pending.changes[side], layout.width)
                if side in pending.changes
                else nothing(layout)
                for side, layout in enumerate(layouts)
            ]
            if isinstance(self.windows, LastWindows):
                self.windows.move(*self._moves(pending))
            changed = self.windows.apply(changes)
            pending.undo.append(changed.undo)
            self.delta = changes
            places.update(self.places(changed.touched))
            self.gone = changed.gone
        ended = self._ended(mark, seq)
        seq += sum(len(item.deltas) for item in ended)
        places.update(dict.fromkeys(self.emission.due(mark, self.bounds)))
        return ended + self._said(list(places), mark, seq)

    def _ended(self, mark: int | None, seq: int) -> list[Spoken]:
        """What is said of sessions that are no more."""
        found: list[Spoken] = []
        for place in self.gone:
            spoken = self.emission.retract(
                place, self.names[1], mark=mark, model=self.fingerprint, seq=seq
            )
            if spoken is not None:
                found.append(spoken)
                seq += len(spoken.deltas)
        return found

    def _restore_drift(self) -> None:
        """What the summary knew, and the rows stored since."""
        drift, saved = self.spec.drift, self.store.drift()
        if drift is not None:
            drift.reset()
            first = 0 if saved is None else drift.restore(saved)
            self.intake.compare_again(0, first)

    def _forget_quality(self, horizon: int) -> None:
        quality, window = self.intake.quality, self.spec.window
        pane = int(window.panes(np.asarray([horizon]))[0]) if window.fixed else None
        if quality is not None:
            quality.expire(pane, self.intake.first_row)
        if self.spec.drift is not None and pane is not None:
            self.spec.drift.expire(pane)

    def _said(self, places: Sequence[tuple[int, Key]], mark: int | None, seq: int) -> list[Spoken]:
        by_window: dict[int, list[Key]] = {}
        for window, key in places:
            by_window.setdefault(window, []).append(key)
        found: list[Spoken] = []
        for window, keys in sorted(by_window.items()):
            for row in self.rows(window, keys):
                spoken = self.emission.say(
                    window,
                    row,
                    bounds=self.bounds(window, row.key),
                    mark=mark,
                    model=self.fingerprint,
                    seq=seq,
                )
                if spoken is not None:
                    found.append(spoken)
                    seq += len(spoken.deltas)
        return found

    def _moves(self, pending: Pending) -> tuple[dict[int, int], list[int]]:
        """Numbers and times of the rows that come, and numbers of those that go."""
        coming: dict[int, int] = {}
        for rows in pending.arrived.values():
            numbers, times = rows.column(ROW).to_pylist(), rows.column(TIME).to_pylist()
            coming |= dict(zip(numbers, times, strict=True))
        return coming, [number for gone in pending.removed.values() for number in gone]

    def restore(self, position: Position) -> None:
        """Find again what the state file holds; another model than the last begins an epoch."""
        setup, store = self.setup, self.store
        index = setup.registered.index
        assert index is not None
        vectors = fingerprint([np.asarray(index.eigenvalues), np.asarray(index.eigenvectors)])
        answering = (str(index.manifest["model_fingerprint"]), vectors)
        self.fingerprint = f"{answering[0][:12]}-{vectors[:12]}"
        epochs = store.epochs()
        if not epochs or epochs[-1][1:3] != answering:
            self.intake.epoch = len(epochs)
            store.begin_epoch(len(epochs), *answering, position.batch + 1)
        else:
            self.intake.epoch = epochs[-1][0]
            self._read_back(begin=epochs[-1][3])
        # Not one more than the last row that is left: a label may wait for one that went.
        self.intake.next_row = store.marks()[1]
        for side in range(len(setup.tables)):
            self.intake.restore(side)
        self._restore_drift()

    def _read_back(self, begin: int) -> None:
        """Records and revisions of this epoch, which began with a batch."""
        at, records, said = self.store.summary()
        if at >= begin and at >= 0:
            self.windows.restore(self._with_times(records))
            self.emission.restore(said)
        for changes, lines, labels in self.store.later(max(at, begin - 1)):
            if changes:
                self.windows.apply(self._with_times(changes))
            self.emission.restore(lines)
            for side, found in labels.items():
                self.intake.unfolded.setdefault(side, {}).update(found)

    def _with_times(self, records: list[Sums]) -> list[Sums]:
        """For windows made of rows: their times, and only rows that are still there."""
        if not isinstance(self.windows, LastWindows):
            return records
        ours = f'"{EPOCH}" = {self.intake.epoch}'
        rows = self.store.rows(0, f'"{ROW}", "{TIME}"', ours)
        times = dict(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))
        self.windows.move({row: at for row, at in times.items() if row not in self._placed})
        self._placed |= set(times)
        found: list[Sums] = []
        for part in records:
            there = [place[0] in times for place in part.places]
            places = [place for place, known in zip(part.places, there, strict=True) if known]
            found.append(Sums(places, part.values[np.asarray(there, bool)]))
        return found

    def _first_change_to_keep(self, last: int) -> int:
        """Old lines of the outbox go, but for those that a hook has not been told of."""
        owed = Deliveries(self.store).lowest_needed()
        return last - _KEPT_CHANGES if owed is None else min(owed, last - _KEPT_CHANGES)

    def summarise(self, position: Position) -> None:
        """Replace what single batches added by its sum; forget what has expired."""
        horizon = self.timeline.horizon
        forget: dict[int, int] = {}
        if horizon is not None and not isinstance(self.spec.window, Everything):
            # Rows this old are refused, so forgetting them before the file does is safe.
            self.emission.forget(self.windows.expire(horizon))
            before = self.windows.oldest(horizon)
            forget = dict.fromkeys(range(len(self.setup.tables)), before)
            for side in forget:
                self.intake.forget(side, before)
            self._forget_quality(horizon)
        self.store.summarise(
            position.batch,
            [cells.everything() for cells in self.windows.cells],
            sources={
                name: (position.offsets.get(name), self.timeline.latest.get(name))
                for name in {*position.offsets, *self.timeline.latest}
            },
            windows=self.emission.body(),
            forget=forget,
            keep_from=self._first_change_to_keep(position.seq),
            drift=None if self.spec.drift is None else self.spec.drift.save(self.intake.next_row),
            labels=self.intake.unfolded,
            label=self.spec.columns.label,
            mark=self.timeline.mark,
            next_row=self.intake.next_row,
        )
        position.summary = position.batch
        self.intake.unfolded.clear()
