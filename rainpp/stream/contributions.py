"""From pairs of rows and classes to additive records: values, variances and projected gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.stream.cells import Layout, Place, Sums
from rainpp.stream.exact import LIMBS, carried, limbs, segment_sums
from rainpp.stream.pairs import Pairs
from rainpp.types import FloatArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sorted:
    """Pairs sorted by (cell, row, class), and where runs of one row and of one cell begin.

    A cell is a pane and a group. `order` are positions in the pairs; `row_starts` are positions in
    `order`, `cell_starts` positions in `row_starts`; `cell` is the cell of every pair in `order`.
    """

    order: Index
    row_starts: Index
    cell_starts: Index
    cell: Index
    places: list[Place]

    @staticmethod
    def of(pairs: Pairs, panes: Index) -> Sorted:
        """Sort the pairs of a batch whose row i lies in pane `panes[i]`."""
        wide = max(1, len(pairs.keys))
        if panes.min() == panes.max():  # as in most batches
            known, both = panes[:1], pairs.code
        else:
            known, pane = np.unique(panes, return_inverse=True)
            both = pane[pairs.rows] * wide + pairs.code
        if _in_order(pairs):
            order = np.argsort(both, kind="stable")
        else:
            order = np.lexsort((pairs.classes, pairs.rows, both))
        both, rows = both[order], pairs.rows[order]
        new_cell = np.diff(both, prepend=-1) != 0
        row_starts = np.flatnonzero(new_cell | (np.diff(rows, prepend=-1) != 0))
        first = np.flatnonzero(new_cell)
        places = [(int(known[at // wide]), pairs.keys[at % wide]) for at in both[first].tolist()]
        return Sorted(
            order,
            row_starts,
            np.searchsorted(row_starts, first),
            np.cumsum(new_cell) - 1,
            places,
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known of the rows of a batch.

    Attributes
    ----------
    signs : (b,), +1 for a row that came and -1 for one that went.
    probabilities : (b, R).
    tangents : (b, R, k), their derivatives along the eigenvectors, where forward mode made them.
    """

    signs: Array
    probabilities: FloatArray
    tangents: FloatArray | None = None


def contributions(pairs: Pairs, found: Sorted, batch: Batch, layout: Layout) -> Sums:
    """What a batch adds to the records of its cells.

    Gradients are left zero where there are no tangents.

    Raises
    ------
    DataError : a weight is not finite, or too large to be summed.
    """
    rows, classes = pairs.rows[found.order], pairs.classes[found.order]
    weights = pairs.weights[found.order]
    sign = batch.signs[rows[found.row_starts]]
    # Without tangents the derivatives are not even summed: they are most of a record.
    filled = layout if batch.tangents is not None else Layout(layout.parts, 0)
    records = np.empty((len(found.row_starts), filled.width))
    records[:, 0] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):  # `segment_sums` refuses what comes of it
        _fill(records, found, batch, filled, (rows, classes), weights)
    records *= sign[:, None]
    sums = segment_sums(records, found.cell_starts)
    return Sums(found.places, sums if filled is layout else _widened(sums, layout))


def _widened(sums: Array, layout: Layout) -> Array:
    """Sums without derivatives, with zeros in their places."""
    kept = [0, *(layout.plain(part) + at for part in range(layout.parts) for at in range(3))]
    out = np.zeros((len(sums), layout.width, LIMBS))
    out[:, kept] = sums
    return out


def _fill(
    records: Array,
    found: Sorted,
    batch: Batch,
    layout: Layout,
    pairs: tuple[Index, Index],
    weights: Array,
) -> None:
    """What every row adds to the parts of its cell."""
    rows, classes = pairs
    chance = np.asarray(batch.probabilities[rows, classes], np.float64)
    wins = _winners(batch.probabilities)[rows] == classes
    for part in range(layout.parts):
        weight = weights[:, part]
        mean = _by_row(found, chance * weight)
        records[:, layout.plain(part)] = _by_row(found, wins * weight)
        records[:, layout.value(part)] = mean
        records[:, layout.variance(part)] = _by_row(found, chance * weight**2) - mean**2
        if batch.tangents is not None:
            along = batch.tangents[rows, classes] * weight[:, None]
            records[:, layout.gradient(part)] = _by_row(found, along.astype(np.float64))


def cell_weights(
    pairs: Pairs, found: Sorted, batch: Batch, parts: list[int], kind: np.dtype[Any]
) -> FloatArray:
    """Weights (cells · parts, b, R) of every probability in the sums of every cell, signed."""
    rows, classes = pairs.rows[found.order], pairs.classes[found.order]
    signed = pairs.weights[found.order] * batch.signs[rows][:, None]
    shape = (len(found.places), len(parts), *batch.probabilities.shape)
    out = np.zeros(shape, kind)
    for place, part in enumerate(parts):
        out[found.cell, place, rows, classes] = signed[:, part]
    return out.reshape(-1, *batch.probabilities.shape)


def with_gradients(sums: Sums, gradients: Array, parts: list[int], layout: Layout) -> Sums:
    """The same sums with the gradients (cells · parts, k) of some parts added."""
    by_cell = limbs(gradients.reshape(len(sums.places), len(parts), layout.k))
    values = sums.values.copy()
    for place, part in enumerate(parts):
        values[:, layout.gradient(part)] += by_cell[:, place]
    return Sums(sums.places, carried(values))


def nothing(layout: Layout) -> Sums:
    """No change."""
    return Sums([], np.zeros((0, layout.width, LIMBS)))


def _in_order(pairs: Pairs) -> bool:
    """Whether pairs stand by row and class already, as they do unless DuckDB joined them."""
    later = np.diff(pairs.rows)
    return bool(((later > 0) | ((later == 0) & (np.diff(pairs.classes) > 0))).all())


def _winners(probabilities: FloatArray) -> Index:
    return probabilities.argmax(axis=1)


def _by_row(found: Sorted, values: Array) -> Array:
    """Sums over the classes of one row in one cell: at most R terms, always in the same order."""
    if len(found.row_starts) == len(values):  # of one class each
        return values
    return np.add.reduceat(values, found.row_starts, axis=0)
