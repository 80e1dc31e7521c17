"""Uncertain numeric cells as sums over events, for all rows of an answer at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import Algebra, Array, Index
from rainpp.relax.rowsums import Gradient


@dataclass(eq=False)
class Form:
    """A numeric column of uncertain cells, for all rows of the answer at once.

    Row g is constant (or constant[g]) + Σ values · P(ids) over the entries with segment g; with
    `given`, divided by Σ P(given) over theirs, which makes it the expectation under that condition.
    Rows are NaN where `nullable`.
    """

    algebra: Algebra
    count: int
    segment: Index
    ids: Index
    values: Array
    constant: Array | float = 0.0
    given: tuple[Index, Index] | None = None
    nullable: NDArray[np.bool_] | None = None

    @functools.cached_property
    def relaxed(self) -> Array:
        """(count,) expectations."""
        return self._total(self.algebra.probability)

    @functools.cached_property
    def hard(self) -> Array:
        """(count,) values in the world of the likeliest classes."""
        return self._total(lambda ids: self.algebra.hard(ids).astype(float))

    def push(self, row: int, scale: float, gradient: Gradient) -> None:
        """Add scale · ∂relaxed[row]/∂P to `gradient`."""
        mine = self.segment == row
        ids, slope = self.ids[mine], self.values[mine]
        if self.given is not None:
            conditions = self.given[1][self.given[0] == row]
            mass = float(self.algebra.probability(conditions).sum())
            if mass <= 0.0:
                return
            value = float(self.relaxed[row])
            ids = np.r_[ids, conditions]
            slope = np.r_[slope, np.full(len(conditions), -value)] / mass
        if len(ids):
            self.algebra.push(ids, scale * slope, gradient)

    def error(self, row: int) -> float:
        """Half width of a 95 % interval."""
        mine = self.segment == row
        conditions = None if self.given is None else self.given[1][self.given[0] == row]
        if not mine.any():
            return 0.0
        return self.algebra.error((self.ids[mine], self.values[mine]), conditions)

    def _total(self, weights: Callable[[Index], Array]) -> Array:
        total = np.bincount(self.segment, self.values * weights(self.ids), self.count)
        if self.given is not None:
            mass = np.bincount(self.given[0], weights(self.given[1]), self.count)
            with np.errstate(invalid="ignore", divide="ignore"):
                total = np.where(mass > 0.0, total / mass, np.nan)
        total = total + self.constant
        if self.nullable is not None:
            total = np.where(self.nullable, np.nan, total)
        return np.asarray(total, np.float64)


def numbers(column: pa.ChunkedArray) -> Array:
    """A numeric column as doubles; NULL is NaN."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether cells of a type have an expectation."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )
