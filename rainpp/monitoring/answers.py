"""The answer as it stands: windows read, or asked again of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rainpp.inference import encoded_rows
from rainpp.monitoring.alarm import Alarm, Seen
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.emission import INTERVAL, Bounds, Emission, as_times
from rainpp.monitoring.intake import EPOCH, ROW, TIME, Intake, Pending
from rainpp.monitoring.quality import Quality, Standing
from rainpp.monitoring.recomputed import chosen_rows, recomputed_rows, value_columns
from rainpp.monitoring.setup import Setup, check_names
from rainpp.monitoring.spec import Spec
from rainpp.monitoring.tables import as_instant
from rainpp.monitoring.timeline import Timeline
from rainpp.stream.cells import Key
from rainpp.stream.reading import Reading, Row, absent_row, read_rows
from rainpp.stream.store import Store
from rainpp.stream.window import Everything, Last, Session
from rainpp.stream.windowed import Windowed, windowed

# Rows behind the gradient of an accuracy: as many as one compiled kernel takes.
MOST_LABELLED = 2048


class Answers:
    """What is known of a standing query once its tables are; see `Kept` for how it changes."""

    def __init__(self, spec: Spec, setup: Setup, timeline: Timeline, store: Store) -> None:
        self.spec, self.setup, self.timeline, self.store = spec, setup, timeline, store
        self.names = value_columns(setup)
        check_names(self.names)
        together = not isinstance(spec.window, Session)
        self.fingerprint = ""
        self.emission = Emission(spec.name, self.names[0], together=together)
        self.windows: Windowed = windowed(spec.window, [side.layout for side in setup.sides])
        self.intake = Intake(setup, spec.columns, spec.window, timeline, store, self._quality())
        self.intake.drift = spec.drift
        self.pending: Pending | None = None
        self.asked: dict[int, list[Row]] = {}

    def _quality(self) -> Quality | None:
        """Accuracy, where labels come to the rows of one table."""
        columns, tables = self.spec.columns, self.setup.tables
        if columns.label is None or columns.id is None or len(tables) > 1:
            return None
        window = self.spec.window
        parts = window.parts if window.fixed else (lambda _: [0])
        return Quality(self.setup.registered.classes, self.spec.buckets, parts)

    def begin(self, pending: Pending) -> None:
        """A batch is being taken in: windows that are asked of their rows see it."""
        self.pending, self.asked = pending, {}

    def end(self) -> None:
        """The batch is over, taken in or not."""
        self.pending, self.asked = None, {}

    def quality_windows(self) -> list[int]:
        """Windows with an accuracy."""
        quality, window = self.intake.quality, self.spec.window
        assert quality is not None  # callers ask first
        panes = quality.there()
        if not window.fixed:
            return [0] if panes else []
        found = sorted({number for pane in panes for number in window.covering(pane)})
        return [number for number in found if quality.tally(number).live.sum()]

    def quality_seen(self, pending: Pending) -> list[Seen]:
        """The accuracy of every window that a batch may have changed."""
        quality, window = self.intake.quality, self.spec.window
        if quality is None:
            return []
        changed = (
            sorted({number for pane in pending.judged for number in window.covering(pane)})
            if window.fixed
            else [0] * bool(pending.judged)
        )
        return [
            self._seen(number, self.quality_of(number))
            for number in changed
            if quality.tally(number).live.sum()
        ]

    def quality_of(self, window: int) -> Standing:
        """The accuracy of a window; the reference is doubted once live rows have drifted."""
        quality, drift = self.intake.quality, self.spec.drift
        assert quality is not None  # callers ask first
        return quality.read(window, doubted=drift is not None and bool(drift.accused))

    def _seen(self, window: int, found: Standing) -> Seen:
        estimate = found.estimate
        bounds = self.bounds(window, ()) if self.spec.window.fixed else None
        mark = self.timeline.watermark
        return Seen(
            {},
            window,
            as_times(bounds),
            bounds is not None and mark is not None and bounds[1] <= mark,
            found.rows,
            {
                "accuracy": Reading(
                    estimate.value,
                    estimate.value,
                    float("nan"),
                    lambda: self.accuracy_gradient(window),
                ),
                "coverage": _number(estimate.coverage),
                "labelled": _number(found.labelled),
            },
            {"accuracy": found.sure},
            f" ({estimate.low:.3f} to {estimate.high:.3f}, basis {estimate.basis}, "
            f"{estimate.coverage:.0%} labelled)",
        )

    def accuracy_gradient(self, window: int) -> np.ndarray:
        """Derivative of the expected share of right rows among the labelled ones (k,).

        One backward pass over at most the latest `MOST_LABELLED` of them; NaN where the inputs of
        rows are not kept.
        """
        setup, label = self.setup, str(self.spec.columns.label)
        if setup.keep != "inputs":
            return np.full(setup.passes.k, np.nan)
        (rows,) = self.rows_of(window, None)
        quality = self.intake.quality
        assert quality is not None  # called for accuracy alone
        codes = quality.codes(rows.column(label).to_pylist())
        known = np.flatnonzero((codes >= 0) & (codes < len(setup.registered.classes)))
        known = known[-MOST_LABELLED:]
        if not len(known):
            return np.zeros(setup.passes.k)
        chosen, table = rows.take(pa.array(known)), setup.tables[0]
        inputs = encoded_rows(setup.registered, chosen, table=table.name, arguments=table.arguments)
        weights = np.zeros((1, len(known), len(setup.registered.classes)))
        weights[0, np.arange(len(known)), codes[known]] = 1 / len(known)
        kind = np.dtype(setup.passes.model.theta.dtype)
        return setup.passes.backward(inputs, weights.astype(kind))[1][0]

    def drift(self, start: Any) -> pd.DataFrame:
        """Features of a window, or of the last one, by how far they are from the training rows."""
        drift, window = self.spec.drift, self.spec.window
        assert drift is not None  # callers ask first
        if not window.fixed:
            panes = [0]
        else:
            mark = max(drift.panes(), default=0)
            number = (
                window.covering(mark)[0] if start is None else self._window_at(as_instant(start))
            )
            panes = window.parts(number)
        frame = drift.report(panes)
        auc, loss = drift.separable(panes)
        frame.attrs |= {"auc": auc, "log_loss": loss}
        return frame

    def _window_at(self, start: datetime) -> int:
        at = int(np.datetime64(start, "us").astype(np.int64))
        return int(self.spec.window.panes(np.asarray([at]))[0])

    def numbers(self) -> list[int]:
        """Windows that can be read."""
        if self.setup.query is None:
            return self.emission.windows()
        if isinstance(self.spec.window, Everything):
            return [0]
        return self.windows.windows()

    def rows(self, window: int, keys: Sequence[Key] | None) -> list[Row]:
        """The answer for a window, or some rows of it; those that are no more have no rows."""
        setup = self.setup
        if setup.query is None:
            return chosen_rows(self.recomputed(window), keys, setup)
        layouts = [side.layout for side in setup.sides]
        if len(layouts) == 1:
            records = [self.windows.records(0, window, keys)]
            return read_rows(setup.query, layouts, records)
        sides = [self.windows.records(side, window) for side in range(len(layouts))]
        rows = read_rows(setup.query, layouts, sides)
        if keys is None:
            return rows
        found = {row.key: row for row in rows}
        k = setup.passes.k
        return [found.get(key) or absent_row(setup.query, key, k) for key in keys]

    def recomputed(self, window: int) -> list[Row]:
        """The answer for a window, asked of its rows; once a batch."""
        if window not in self.asked:
            self.asked[window] = recomputed_rows(self.setup, self.rows_of(window, None))
        return self.asked[window]

    def recomputed_places(self, pending: Pending) -> dict[tuple[int, Key], None]:
        """Rows of the answer of every window in which a row came or went."""
        if not pending.times:
            return {}
        span, windows = self.spec.window, {0}
        if span.fixed:
            panes = np.unique(span.panes(np.concatenate(pending.times)))
            windows = {number for pane in panes.tolist() for number in span.covering(pane)}
        return {
            (number, key): None
            for number in sorted(windows)
            for key in [
                *(row.key for row in self.recomputed(number)),
                *self.emission.known(number),
            ]
        }

    def rows_of(self, window: int, key: Key | None) -> list[pa.Table]:
        """Rows of every table in a window: those stored, and those of the batch being taken in."""
        setup, span = self.setup, self.spec.window
        condition = f'"{EPOCH}" = {self.intake.epoch}'
        bounds = None if isinstance(span, Everything | Last) else self.bounds(window, key or ())
        if bounds is not None:
            condition += f' AND "{TIME}" >= {bounds[0]} AND "{TIME}" < {bounds[1]}'
        found = [
            self.intake.with_pending(
                self.pending, side, self.store.rows(side, "*", condition), bounds
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

    def bounds(self, window: int, key: Key) -> Bounds:
        """First instant of a window and the first after it; None where nobody can say."""
        if self.spec.window.fixed:
            return self.spec.window.bounds(window)
        if self.setup.query is None:
            return None if isinstance(self.spec.window, Last) else self.spec.window.bounds(window)
        return self.windows.bounds(window, key)

    def line(self, row: Row, bounds: Bounds) -> dict[str, Any]:
        """A row of the answer as `Monitor.read` shows it."""
        start, end = as_times(bounds)
        line: dict[str, Any] = {"window_start": pd.Timestamp(start) if start else pd.NaT}
        line["window_end"] = pd.Timestamp(end) if end else pd.NaT
        line.update(zip(self.names[0], row.key, strict=True))
        for name, cell in row.cells.items():
            line[name] = cell.plain
            line[f"{name}_relaxed"] = cell.relaxed
            line[f"{name}_low"] = cell.relaxed - INTERVAL * cell.spread
            line[f"{name}_high"] = cell.relaxed + INTERVAL * cell.spread
        mark = self.timeline.watermark
        line["rows"] = row.rows
        line["final"] = bounds is not None and mark is not None and bounds[1] <= mark
        return line

    def places(self, touched: Sequence[Sequence[tuple[int, Key]]]) -> dict[tuple[int, Key], None]:
        """Rows of the answer that changed records belong to."""
        setup = self.setup
        assert setup.query is not None
        if len(setup.sides) == 1:
            return dict.fromkeys(touched[0])
        windows = dict.fromkeys(window for side in touched for window, _ in side)
        return {
            (window, key): None
            for window in windows
            for key in [
                *(row.key for row in self.rows(window, None)),
                *self.emission.known(window),
            ]
        }

    def window_of(self, about: Alarm | Delta) -> int:
        """The window something was said about."""
        start = about.window[0]
        if start is None or isinstance(self.spec.window, Last | Everything):
            return 0
        return self._window_at(start)


def _number(value: float) -> Reading:
    return Reading(float(value), float(value), float("nan"), np.zeros(0))


def drift_alarm(kept: Answers, pending: Pending, seq: int) -> Alarm:
    """The alarm that features no longer look like the training rows."""
    first, drift = pending.accused[0], kept.spec.drift
    assert drift is not None  # nothing else accuses
    names = ", ".join(found.name for found in pending.accused[:5])
    more = len(pending.accused) - 5
    report = kept.drift(None).set_index("feature")
    return Alarm(
        monitor=kept.spec.name,
        name="drift",
        status="firing",
        group={},
        window=as_times(None),
        column=first.name,
        value=float(report.loc[first.name, "distance"]),
        relaxed=float("nan"),
        target=0.0,
        should="decrease",
        since=None,
        rows=float(first.row),
        vector=np.zeros(0),
        model=kept.fingerprint,
        seq=seq,
        because=f"{names}{f' and {more} more' if more > 0 else ''} left the training distribution "
        f"(e-value {np.exp(min(first.log_evidence, 700)):.3g}, row {first.row})",
    )
