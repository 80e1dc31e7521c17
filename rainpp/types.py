"""Shapes and the values that cross from one room to another.

Letters in shapes: n training rows, d parameters, V inference rows, R classes, k eigenpairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

PyTree = Any
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
ClassValue = str | int | float | bool
ApplyFunction = Callable[[PyTree, PyTree], Any]


class Progress(Protocol):
    """Receives how far a long step has come; the command line draws it."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of `stage` are finished; `note` is a short remark."""
        ...


# Rows looked at together where all of them may not fit into memory.
_ROWS = 1 << 14


def row_blocks(array: Any) -> Iterator[NDArray[Any]]:
    """The array at once if it is in memory, else blocks of its rows."""
    in_memory = hasattr(array, "__array_interface__") or hasattr(array, "addressable_shards")
    if in_memory or np.ndim(array) == 0:
        yield np.asarray(array)
    else:
        for start in range(0, array.shape[0], _ROWS):
            yield array[start : start + _ROWS]


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Progress nobody watches."""
    del stage, done, total, note


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """A model's class probabilities for every row of one database table.

    `rowids` are DuckDB's, ascending, so row i of `probabilities` belongs to `rowids[i]`; they have
    gaps after a DELETE. `classes[j]` is the SQL value a prediction takes when class j wins.
    `arguments` are the columns the model reads, or None when the caller gave only probabilities
    and any arguments mean the same prediction. A regression has no classes: R is 1 and
    `probabilities` are its values; `spread` is the standard deviation of its training residuals.
    """

    model: str
    table: str
    arguments: tuple[str, ...] | None
    rowids: NDArray[np.int64]
    probabilities: FloatArray  # (V, R)
    classes: tuple[ClassValue, ...]
    spread: float | None = None
