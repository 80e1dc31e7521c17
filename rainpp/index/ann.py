"""The leading interventions without looking at all of them: exactly by norms, or by a library.

A score is an inner product of y = plausibility · projection / √λ, one row an intervention, with
x = query projection / √λ / n. Two ways to find the largest of them:

`Ordered` keeps the rows by falling norm and stops where |y|·|x| is below the best scores so far.
That is exact. Gradients of a trained model have norms over ten orders of magnitude: of 600 000
interventions of MNIST logistic regression it reads 2 %, of 60 000 deletions 12 %.

`Approximate` is FAISS (`pip install "rainpp[ann]"`): cells around centroids, bytes for numbers, and
only the cells nearest to the query. The same lengths defeat it: nearness in direction says little
about an inner product, and recall falls short where `Ordered` misses nothing (measured in
`experiments/vector_search.py`). It is here for tables whose rows are of like length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainpp.errors import RainError, SettingsError
from rainpp.index.artifact import Index
from rainpp.index.score import Best, Projections

_BLOCK_ROWS = 1 << 16
# Rows scored before the first look at the bound, then twice as many each time.
_FIRST_ROWS = 4096
# Rounding of 32-bit products: rows are dropped only if they are this much below.
_SLACK = 1e-5


@dataclass(frozen=True, eq=False)
class Table:
    """What is searched: see the arrays of an index of the same names."""

    projections: Projections
    plausibility: np.ndarray
    eigenvalues: np.ndarray
    num_train: int

    @classmethod
    def of(cls, index: Index) -> Table:
        """That of an index."""
        values = np.asarray(index.eigenvalues, np.float64)
        return cls(index.projections, index.arrays["plausibility"], values, index.num_train)

    def __len__(self) -> int:
        return self.projections.shape[0]

    def query(self, vector: np.ndarray) -> np.ndarray:
        """X of the module's first lines (k,)."""
        return np.asarray(vector, np.float64) / np.sqrt(self.eigenvalues) / self.num_train

    def rows(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Y of the module's first lines, block by block."""
        for start in range(0, len(self), _BLOCK_ROWS):
            where = slice(start, min(start + _BLOCK_ROWS, len(self)))
            chances = self.plausibility[where, None]
            scaled = self.projections.restored(where) * chances / np.sqrt(self.eigenvalues)
            yield where, scaled.astype(np.float32)

    def ranked(self, positions: np.ndarray, vector: np.ndarray, count: int) -> Best:
        """The best of some interventions, by scores in 64 bits; ties by position."""
        positions = np.sort(positions)
        direction = np.asarray(vector, np.float64) / self.eigenvalues / self.num_train
        effects = self.projections.picked(positions).astype(np.float64) @ direction
        chances = np.asarray(self.plausibility[positions], np.float64)
        order = np.argsort(-effects * chances, kind="stable")[:count]
        scores = (effects * chances)[order]
        return Best(positions[order], scores, effects[order], chances[order])


@dataclass(frozen=True, eq=False)
class Ordered:
    """Interventions by falling norm: exact search of a part of them.

    Attributes
    ----------
    rows : (N, k), longest first; norms : their lengths; positions : which intervention each is.
    """

    table: Table
    rows: np.ndarray
    norms: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, table: Table) -> Ordered:
        """Sort a table: two passes, and a copy of it in 32 bits."""
        norms = np.empty(len(table), np.float32)
        for where, part in table.rows():
            norms[where] = np.linalg.norm(part, axis=1)
        positions = np.argsort(-norms, kind="stable")
        places = np.empty(len(table), np.int64)
        places[positions] = np.arange(len(table))
        rows = np.empty((len(table), table.projections.shape[1]), np.float32)
        for where, part in table.rows():
            rows[places[where]] = part
        return cls(table, rows, norms[positions], positions)

    def search(self, vector: np.ndarray, count: int = 100) -> tuple[Best, int]:
        """The `count` best, and how many rows were read to find them."""
        check_count(count)
        query = self.table.query(vector)
        length, single = float(np.linalg.norm(query)), query.astype(np.float32)
        size, wanted = len(self.rows), min(count, len(self.rows))
        if wanted == 0:
            return self.table.ranked(np.zeros(0, np.int64), vector, 0), 0
        scores, stop, threshold = np.zeros(0, np.float32), 0, -math.inf
        step = max(_FIRST_ROWS, wanted)
        while stop < size:
            slack = _SLACK * length * float(self.norms[0])
            if float(self.norms[stop]) * length < threshold - slack:
                break
            start, stop = stop, min(stop + step, size)
            scores = np.concatenate([scores, self.rows[start:stop] @ single])
            threshold = float(np.partition(scores, scores.size - wanted)[scores.size - wanted])
            step = stop
        slack = _SLACK * length * float(self.norms[0])
        near = np.flatnonzero(scores >= threshold - slack)
        return self.table.ranked(self.positions[near], vector, count), stop


@dataclass(frozen=True, eq=False)
class Approximate:
    """Cells of FAISS over the interventions, one byte a number."""

    table: Table
    cells: Any

    @classmethod
    def of(cls, table: Table, *, num_cells: int | None = None, seed: int = 0) -> Approximate:
        """Build it; 4·√N cells by default, their centroids from 40 rows for each.

        Raises
        ------
        RainError : FAISS is not installed.
        """
        faiss = _faiss()
        k = table.projections.shape[1]
        wanted = min(max(num_cells or int(4 * math.sqrt(len(table))), 1), max(len(table) // 40, 1))
        coarse = faiss.IndexFlatIP(k)
        byte = faiss.ScalarQuantizer.QT_8bit
        cells = faiss.IndexIVFScalarQuantizer(coarse, k, wanted, byte, faiss.METRIC_INNER_PRODUCT)
        chosen = np.zeros(len(table), bool)
        generator = np.random.default_rng(seed)
        chosen[generator.choice(len(table), min(40 * wanted, len(table)), replace=False)] = True
        cells.train(np.concatenate([part[chosen[where]] for where, part in table.rows()]))
        for _, part in table.rows():
            cells.add(part)
        return cls(table, cells)

    def search(self, vector: np.ndarray, count: int = 100, *, num_probes: int = 64) -> Best:
        """The best of twice `count` candidates from the cells nearest to the query.

        Parameters
        ----------
        num_probes : how many cells are looked at.
        """
        check_count(count)
        self.cells.nprobe = num_probes
        query = self.table.query(vector)
        length = float(np.linalg.norm(query)) or 1.0
        _, found = self.cells.search((query / length).astype(np.float32)[None], max(2 * count, 1))
        return self.table.ranked(found[0][found[0] >= 0], vector, count)


def check_count(count: Any) -> None:
    """Refuse a count that is no whole number >= 0.

    Raises
    ------
    SettingsError : it is none.
    """
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or int(count) < 0:
        raise SettingsError(f"`count` is {count!r}; it must be a whole number >= 0.")


def _faiss() -> Any:
    try:
        import faiss  # pyright: ignore[reportMissingImports]
    except ImportError as problem:
        raise RainError(
            'approximate search needs FAISS: pip install "rainpp[ann]". '
            "rainpp.index.ann.Ordered is exact and needs nothing."
        ) from problem
    return faiss
