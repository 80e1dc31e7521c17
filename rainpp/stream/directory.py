"""Which prediction ids have been seen, and the row each belongs to.

Keys lie in a few sorted arrays that are merged when neighbours are of like size, so that adding and
finding cost the same whether a thousand or ten million ids are known: 16 bytes an id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pandas.util import hash_array

from rainpp.errors import DataError

Keys = NDArray[np.uint64]
Index = NDArray[np.int64]

# Runs are merged up to this many ids: a merge of a million takes 15 ms and would be seen.
_LARGEST = 1 << 20


def id_keys(column: pa.ChunkedArray, name: str) -> Keys:
    """Ids as 64-bit keys: integers themselves, text by a hash that is the same in every process.

    Two texts of ten million share a key with a probability of 3 in a million.

    Raises
    ------
    DataError : an id is NULL, or neither an integer nor text.
    """
    if column.null_count:
        raise DataError(
            f"`{name}` is NULL in {column.null_count} rows; every row needs an id of its own."
        )
    if pa.types.is_integer(column.type):
        return column.to_numpy().astype(np.int64).view(np.uint64)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        hashed: Any = hash_array
        return hashed(column.to_numpy(), categorize=False)
    raise DataError(f"`{name}` has the type {column.type}; ids are integers or text.")


@dataclass(eq=False)
class _Run:
    keys: Keys
    rows: Index  # -1 where the id has been taken away


class Directory:
    """Row numbers by key."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._gone = 0

    def __len__(self) -> int:
        return sum(len(run.keys) for run in self._runs) - self._gone

    def find(self, keys: Keys) -> Index:
        """The row of every key, -1 where it is not known."""
        found = np.full(len(keys), -1, np.int64)
        for run in self._runs:
            if not len(keys) or keys.max() < run.keys[0] or keys.min() > run.keys[-1]:
                continue
            at = np.minimum(np.searchsorted(run.keys, keys), len(run.keys) - 1)
            rows = np.where(run.keys[at] == keys, run.rows[at], -1)
            found = np.where(rows >= 0, rows, found)
        return found

    def add(self, keys: Keys, rows: Index) -> None:
        """Keys that are not known, each once, and their rows."""
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        self._runs.append(_Run(keys[order], rows[order].copy()))
        while len(self._runs) > 1 and self._mergeable():
            merged = self._merged(*self._runs[-2:])
            self._runs[-2:] = [merged] if len(merged.keys) else []

    def remove(self, keys: Keys) -> None:
        """Forget keys."""
        for run in self._runs:
            at = np.minimum(np.searchsorted(run.keys, keys), len(run.keys) - 1)
            hit = at[(run.keys[at] == keys) & (run.rows[at] >= 0)]
            run.rows[hit] = -1
            self._gone += len(hit)
        if self._gone > len(self) + 1024:
            self._runs = [_living(run) for run in self._runs]
            self._runs = [run for run in self._runs if len(run.keys)]
            self._gone = 0

    def _mergeable(self) -> bool:
        first, second = (len(run.keys) for run in self._runs[-2:])
        return first < 2 * second and first + second <= _LARGEST

    def _merged(self, first: _Run, second: _Run) -> _Run:
        keys = np.concatenate([first.keys, second.keys])
        rows = np.concatenate([first.rows, second.rows])
        order = np.argsort(keys, kind="stable")  # merges two sorted runs in one pass
        merged = _Run(keys[order], rows[order])
        living = _living(merged)
        self._gone -= len(merged.keys) - len(living.keys)
        return living


def _living(run: _Run) -> _Run:
    alive = run.rows >= 0
    return run if alive.all() else _Run(run.keys[alive], run.rows[alive])
