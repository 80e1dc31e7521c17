"""A standing query kept up to date: batches of rows in, changes of additive records out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.stream.cells import Layout, Sums
from rainpp.stream.contributions import (
    Batch,
    Sorted,
    cell_weights,
    contributions,
    nothing,
    with_gradients,
)
from rainpp.stream.pairs import PairFinder, Pairs
from rainpp.stream.passes import Passes
from rainpp.stream.standing import Side
from rainpp.types import ClassValue, FloatArray, PyTree

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch of one table: rows that came, then rows that went.

    Attributes
    ----------
    table : the columns the query reads (b rows).
    panes : (b,).
    signs : (b,), +1 or -1.
    inputs : what the model is given for each row; None where they are not needed or not kept.
    probabilities : (b, R) where they are known, else None.
    tangents : (b, R, k) likewise.
    """

    table: pa.Table
    panes: Index
    signs: NDArray[np.float64]
    inputs: PyTree | None = None
    probabilities: FloatArray | None = None
    tangents: FloatArray | None = None


class SideView:
    """One table of a standing query."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        side: Side,
        hole: tuple[int, int] | None,
        classes: Sequence[ClassValue],
        passes: Passes | None,
    ) -> None:
        self.side = side
        self._finder = PairFinder(con, side, hole, classes)
        self._passes = passes if side.slot is not None else None
        self.layout = Layout(len(side.weights), passes.k if passes else 0)
        self._parts = [part for part in range(len(side.weights)) if side.varies(part)]

    @property
    def touched(self) -> Index:
        """Classes a row can count in."""
        return self._finder.touched

    def change(self, rows: Rows, *, forward: bool) -> tuple[Sums, Batch]:
        """What a batch adds to the records, and what was learned of its rows.

        Parameters
        ----------
        forward : make the derivatives of every row, so that they can be kept. Otherwise the cheaper
            of k forward passes and a backward pass for each cell.

        Raises
        ------
        DataError : the query or the model fail on a row.
        """
        pairs = self._finder.find(rows.table)
        found = Sorted.of(pairs, rows.panes) if len(pairs.rows) else None
        if self._passes is None or self.side.slot is None:
            batch = Batch(rows.signs, np.ones((rows.table.num_rows, 1)))
            return self._sums(pairs, found, batch)
        groups = len(found.places) * len(self._parts) if found else 0
        if rows.probabilities is None or rows.tangents is None:
            if not forward and self._passes.backward_is_cheaper(groups):
                return self._by_backward(pairs, found, rows)
            predicted, tangents = self._passes.forward(rows.inputs)
            known = predicted if rows.probabilities is None else rows.probabilities
            return self._sums(pairs, found, Batch(rows.signs, known, tangents))
        return self._sums(pairs, found, Batch(rows.signs, rows.probabilities, rows.tangents))

    def _sums(self, pairs: Pairs, found: Sorted | None, batch: Batch) -> tuple[Sums, Batch]:
        if found is None:
            return nothing(self.layout), batch
        return contributions(pairs, found, batch, self.layout), batch

    def _by_backward(self, pairs: Pairs, found: Sorted | None, rows: Rows) -> tuple[Sums, Batch]:
        passes = self._passes
        assert passes is not None
        if found is None or not self._parts:
            known = rows.probabilities
            known = passes.probabilities(rows.inputs) if known is None else known
            return self._sums(pairs, found, Batch(rows.signs, known))
        shape = Batch(rows.signs, np.empty((rows.table.num_rows, self._num_classes)))
        kind = np.dtype(passes.model.theta.dtype)
        weights = cell_weights(pairs, found, shape, self._parts, kind)
        predicted, gradients = passes.backward(rows.inputs, weights)
        known = predicted if rows.probabilities is None else rows.probabilities
        batch = Batch(rows.signs, known)
        sums = contributions(pairs, found, batch, self.layout)
        return with_gradients(sums, gradients, self._parts, self.layout), batch

    @property
    def _num_classes(self) -> int:
        return len(self._finder.classes)
