"""The latest numbers of a monitor, few enough for a metrics page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rainpp.monitoring.emission import INTERVAL, as_times
from rainpp.monitoring.kept import Kept
from rainpp.stream.cells import Key
from rainpp.stream.reading import Row

# Windows that are looked through for a group's latest, where every group has windows of its own.
_LOOKED_THROUGH = 50


@dataclass(frozen=True)
class Figure:
    """A number of the query, in the latest window that is final, or else in the latest.

    Attributes
    ----------
    value, relaxed, low, high, rows : as in `Monitor.read`.
    final : whether the watermark has passed the window.
    """

    column: str
    group: Mapping[str, Any]
    window: tuple[datetime | None, datetime | None]
    value: float
    relaxed: float
    low: float
    high: float
    rows: float
    final: bool


@dataclass(frozen=True)
class Figures:
    """A monitor at one moment.

    Attributes
    ----------
    numbers : at most as many groups as were asked for, the largest by rows.
    left_out : groups that are not among them.
    firing : for each alarm, in how many groups it has gone off and is not over.
    seq : the last line of the outbox.
    """

    monitor: str
    numbers: tuple[Figure, ...]
    left_out: int
    watermark: datetime | None
    firing: Mapping[str, int]
    batches: int
    seq: int


def latest(kept: Kept, most: int) -> tuple[tuple[Figure, ...], int]:
    """Numbers of so many groups, and how many groups were left out."""
    rows = _rows(kept)
    chosen = sorted(rows.items(), key=lambda item: -item[1][1].rows)[:most]
    found = [figure for _, (window, row) in chosen for figure in _figures(kept, window, row)]
    return tuple(found), len(rows) - len(chosen)


def _rows(kept: Kept) -> dict[Key, tuple[int, Row]]:
    """For every group its row in the latest window, a final one if there is."""
    windows = sorted(kept.numbers(), reverse=True)
    if kept.spec.window.fixed:
        done = [window for window in windows if _final(kept, window, ())]
        windows = (done or windows)[:1]
    found: dict[Key, tuple[int, Row]] = {}
    for window in windows[:_LOOKED_THROUGH]:
        for row in kept.rows(window, None):
            found.setdefault(row.key, (window, row))
    return found


def _final(kept: Kept, window: int, key: Key) -> bool:
    bounds, mark = kept.bounds(window, key), kept.timeline.watermark
    return bounds is not None and mark is not None and bounds[1] <= mark


def _figures(kept: Kept, window: int, row: Row) -> list[Figure]:
    group = dict(zip(kept.names[0], row.key, strict=True))
    times, final = as_times(kept.bounds(window, row.key)), _final(kept, window, row.key)
    return [
        Figure(
            name,
            group,
            times,
            cell.plain,
            cell.relaxed,
            cell.relaxed - INTERVAL * cell.spread,
            cell.relaxed + INTERVAL * cell.spread,
            row.rows,
            final,
        )
        for name, cell in row.cells.items()
    ]
