"""The product that scores every intervention, over projections in any storage and of any size.

`query_change` writes ``projections @ direction``; what stands here is the left side of that. On a
CPU it is BLAS block by block, which measures faster than XLA there: 600 000 x 20 in 5.8 ms of
processor time against 9.9 ms for the jitted product and 4.2 ms for reading the table, on a busy
machine. Blocks are the same however many threads there are, so the numbers are too. Half precision
and bytes are widened a block at a time, in the cache. On a GPU the table lies there and XLA
multiplies, see `rainpp.index.device`.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainpp.selection import Leaders

# Numbers multiplied, and widened, at a time: they stay in a cache of 1 MB, and BLAS uses no threads
# of its own for so few (from 460 000 on OpenBLAS wakes them; where another program has the other
# core, waiting for them made 0.3 ms 22).
_BLOCK_NUMBERS = 1 << 18
# From here on a second thread of ours, which nobody waits for in between, is worth its start.
_THREADED_NUMBERS = 1 << 22
# Bytes of a table read at a time where its pages are given back behind the reader.
_PASSING_BYTES = 32 << 20
# Of the memory of the machine: larger tables are not left to fill it.
_LARGE_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Projections:
    """Projections (N, k) as an index stores them.

    Attributes
    ----------
    values : as computed, or float16 or int8.
    columns : (k,) what the values of each column count, None for 1.
    rows : (N,) what those of each row count beside that, None for 1.
    """

    values: np.ndarray
    columns: np.ndarray | None = None
    rows: np.ndarray | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Projections:
        """Those among the arrays of an index."""
        names = ("projection_columns", "projection_rows")
        return cls(arrays["projections"], *(arrays.get(name) for name in names))

    @property
    def dtype(self) -> np.dtype:
        """What it is computed in."""
        return self.values.dtype if self.columns is None else self.columns.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, k)."""
        return self.values.shape

    def __matmul__(self, direction: np.ndarray) -> np.ndarray:
        """Σⱼ projection · direction (N,)."""
        out = np.empty(len(self.values), self.dtype)

        def fill(whole: slice) -> None:
            for where, part in self.blocks(direction, whole):
                out[where] = part

        everything = slice(0, len(self.values))
        if self._is_large or self.values.size < _THREADED_NUMBERS:
            fill(everything)
        else:
            _in_threads(fill, [*_pieces(everything, self._block_rows)])
        return out

    def blocks(
        self, direction: np.ndarray, whole: slice | None = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The same, some rows at a time, of all rows or of those in `whole`."""
        scaled = direction if self.columns is None else direction * self.columns
        for passing in self._passages(whole or slice(0, len(self.values))):
            for where in _pieces(passing, self._block_rows):
                part = self.widened(where) @ scaled
                if self.rows is not None:
                    part *= self.rows[where]
                yield where, part
            if self._is_large:
                _give_back(self.values, passing)

    def widened(self, where: slice) -> np.ndarray:
        """Some rows in the precision that is computed in; `columns` and `rows` are left out."""
        part = self.values[where]
        if part.dtype == np.float16:
            return from_half(part)
        return part if self.columns is None else part.astype(self.dtype)

    def restored(self, where: slice) -> np.ndarray:
        """Some rows as they were, up to rounding."""
        part = self.widened(where)
        part = part if self.columns is None else part * self.columns
        return part if self.rows is None else part * self.rows[where, None]

    def picked(self, positions: np.ndarray) -> np.ndarray:
        """The rows at some positions, as they were, up to rounding."""
        rows = None if self.rows is None else self.rows[positions]
        part = Projections(self.values[positions], self.columns, rows)
        return part.restored(slice(0, len(positions)))

    @property
    def _is_large(self) -> bool:
        return self.values.nbytes > _LARGE_SHARE * _memory() and _map_of(self.values) is not None

    @property
    def _block_rows(self) -> int:
        return max(_BLOCK_NUMBERS // max(self.values.shape[1], 1), 1)

    def _passages(self, whole: slice) -> Iterator[slice]:
        length = max(_PASSING_BYTES // max(self.values[:1].nbytes, 1), 1)
        yield from _pieces(whole, length if self._is_large else max(len(self.values), 1))


@dataclass(frozen=True, eq=False)
class Best:
    """The leading interventions of a complaint, and how they come out.

    Attributes
    ----------
    positions : in the table of interventions, best first, ties by position.
    scores, effects, plausibility : of each of them.
    """

    positions: np.ndarray
    scores: np.ndarray
    effects: np.ndarray
    plausibility: np.ndarray


@dataclass(frozen=True, eq=False)
class Streamed:
    """Projections whose product with a direction keeps the best alone: a block and `count` numbers.

    For tables too large for a number per intervention; a `Ranking` holds all of them.
    """

    projections: Projections
    plausibility: np.ndarray
    count: int

    @property
    def dtype(self) -> np.dtype:
        """What it is computed in."""
        return self.projections.dtype

    def __matmul__(self, direction: np.ndarray) -> Best:
        """The `count` best of all interventions."""
        leaders = Leaders(self.count)
        for where, effects in self.projections.blocks(direction):
            leaders.offer(where.start, effects * self.plausibility[where], effects)
        at = leaders.positions
        chances = np.asarray(self.plausibility[at], np.float64)
        return Best(at, leaders.values, leaders.beside, chances)


def contracted(projections: np.ndarray, weights: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Σ weight · projection (k,) over the rows and classes of an inference table.

    A count asks for one class of ten: of the others nothing is read, 0.2 ms instead of 0.9 for
    10 000 rows, ten classes and k = 20.

    Parameters
    ----------
    projections : (V, R, k).
    weights : (V, R), derivatives of the complaint by the probabilities.
    classes : those with weights other than zero.
    """
    length = max(_BLOCK_NUMBERS // max(projections.shape[2], 1), 1)
    total = np.zeros(projections.shape[2])
    for where in _pieces(slice(0, len(weights)), length):
        for c in classes:
            total += weights[where, c].astype(projections.dtype) @ projections[where, c]
    return total


# Turns the bits of a half into those of a float32 that is 2^112 times too small: sign extended by
# the cast, three bits too many of it masked out, fraction and exponent in their place.
_HALF_BITS = np.int32(-0x70002000)
_HALF_SCALE = np.float32(2.0**112)


def from_half(values: np.ndarray) -> np.ndarray:
    """Finite float16 as float32, exactly; NumPy's own cast has no vector instructions here.

    Measured: 12 M numbers in 33 to 47 ms by `astype`.
    """
    out = np.empty(values.shape, np.float32)
    bits = out.view(np.int32)
    np.copyto(bits, values.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _HALF_BITS, out=bits)
    return np.multiply(out, _HALF_SCALE, out=out)


def _in_threads(work: Callable[[slice], None], pieces: list[slice]) -> None:
    """Call `work` for runs of neighbouring pieces, one run for each core of this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = -(-len(pieces) // (cores or 1))
    groups = [pieces[start : start + share] for start in range(0, len(pieces), share)]
    wholes = [slice(group[0].start, group[-1].stop) for group in groups]
    threads = [threading.Thread(target=work, args=(whole,)) for whole in wholes[1:]]
    for thread in threads:
        thread.start()
    work(wholes[0])
    for thread in threads:
        thread.join()


def _pieces(where: slice, length: int) -> Iterator[slice]:
    for start in range(where.start, where.stop, length):
        yield slice(start, min(start + length, where.stop))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _map_of(array: Any) -> mmap.mmap | None:
    """The memory map an array lies in."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


def _give_back(values: np.ndarray, where: slice) -> None:
    """Let the pages of some rows go; they are on disk, and the next complaint reads them again."""
    mapped = _map_of(values)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    whole = np.frombuffer(mapped, np.uint8)
    start = values[where].ctypes.data - whole.ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + values[where].nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        mapped.madvise(mmap.MADV_DONTNEED, first, length)
