"""Uncertain numeric cells as sums over events, for all rows of an answer at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.nested.algebra import Algebra, Array, Index
from rainpp.relax.nested.moments import Moment
from rainpp.relax.rowsums import Gradient


@dataclass(eq=False)
class Form:
    """Cells that are sums over events.

    Row g is constant (or constant[g]) + Σ values · P(ids) over the entries with segment g; with
    `given`, divided by Σ P(given) over theirs, which makes it the expectation under that condition.
    Rows are NaN where `null`, and where no event of one of the lists (segment, ids) in `needed`
    can be: such a row sums over nothing in every world.
    """

    algebra: Algebra
    count: int
    segment: Index
    ids: Index
    values: Array
    constant: Array | float = 0.0
    given: tuple[Index, Index] | None = None
    null: NDArray[np.bool_] | None = None
    needed: Sequence[tuple[Index, Index]] = ()

    @functools.cached_property
    def relaxed(self) -> Array:
        """(count,) expectations."""
        total = self._total(self.algebra.probability)
        for segment, ids in self.needed:
            total[self._impossible(segment, ids)] = np.nan
        return total

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
        if self.null is not None:
            total = np.where(self.null, np.nan, total)
        return np.asarray(total, np.float64)

    def _impossible(self, segment: Index, ids: Index) -> NDArray[np.bool_]:
        """(count,) whether none of a row's events holds in any world."""
        possible = self.algebra.possible(ids)
        return np.bincount(segment[possible], minlength=self.count) == 0


@dataclass(eq=False)
class MomentCells:
    """scale · E[average, least or greatest value | there is one].

    `sure` are the hard values, `never` the cells that are NULL in every world.
    """

    count: int
    scale: float
    moment: Moment
    sure: Array
    never: NDArray[np.bool_]

    @functools.cached_property
    def relaxed(self) -> Array:
        """(count,) expectations."""
        return np.where(self.never, np.nan, self.scale * self.moment.value)

    @property
    def hard(self) -> Array:
        """(count,) values in the world of the likeliest classes."""
        return self.scale * self.sure

    def push(self, row: int, scale: float, gradient: Gradient) -> None:
        """Add scale · ∂relaxed[row]/∂P to `gradient`."""
        adjoint = np.zeros(self.count)
        adjoint[row] = scale * self.scale
        self.moment.push(adjoint, gradient)

    def error(self, row: int) -> float:
        """Zero: nothing is sampled."""
        del row
        return 0.0


@dataclass(eq=False)
class StackedCells:
    """The cells of several answers, one after the other."""

    parts: Sequence[Cells]
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = sum(part.count for part in self.parts)

    @functools.cached_property
    def relaxed(self) -> Array:
        """(count,) expectations."""
        return np.concatenate([part.relaxed for part in self.parts])

    @functools.cached_property
    def hard(self) -> Array:
        """(count,) values in the world of the likeliest classes."""
        return np.concatenate([part.hard for part in self.parts])

    def push(self, row: int, scale: float, gradient: Gradient) -> None:
        """Add scale · ∂relaxed[row]/∂P to `gradient`."""
        part, inside = self._at(row)
        part.push(inside, scale, gradient)

    def error(self, row: int) -> float:
        """Half width of a 95 % interval."""
        part, inside = self._at(row)
        return part.error(inside)

    def _at(self, row: int) -> tuple[Cells, int]:
        for part in self.parts:
            if row < part.count:
                return part, row
            row -= part.count
        raise IndexError(row)


# A numeric column of uncertain cells: `relaxed` and `hard` (count,), `push`, `error` by row.
Cells = Form | MomentCells | StackedCells


def numbers(column: pa.ChunkedArray, shown: str = "the query") -> Array:
    """A numeric column as doubles; NULL is NaN.

    Raises
    ------
    UnsupportedQueryError : it holds an infinity or a NaN.
    """
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    found = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    valid = np.asarray(column.is_valid().to_numpy(), bool)
    if not np.isfinite(found[valid]).all():
        raise UnsupportedQueryError(
            shown,
            why="it is infinite or NaN for some rows or predictions, so its expectation is not a "
            "number",
            instead="Filter those rows out first, or divide by nullif(..., 0)",
        )
    return found


def is_numeric(kind: pa.DataType) -> bool:
    """Whether cells of a type have an expectation."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )
