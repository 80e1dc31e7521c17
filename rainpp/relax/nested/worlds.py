"""Events as sets of worlds: all worlds of few predictions, or a random sample of many.

An event is a row of bits, one per world. Every operator of a query is then exact within the listed
worlds, aggregates of aggregates included, because each world has one certain answer. World 0 is
always that of the likeliest classes; it has weight zero in a sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.capture import registered
from rainpp.relax.nested.algebra import (
    ALWAYS,
    NEVER,
    Aggregation,
    Array,
    Index,
    Intractable,
    Members,
    Outcomes,
)
from rainpp.relax.rowsums import Gradient, Predictions

Bits = NDArray[np.uint8]

MAX_WORLDS = 1 << 16
SAMPLES = 2000
_MAX_BYTES = 1 << 31
# Unpacked bits at a time: 64 MB.
_CHUNK = 1 << 26
# 97.5 % quantile of the normal distribution, widened for the estimated variance.
_QUANTILE = 2.05


class Unlisted(Intractable):
    """A prediction outside the enumerated ones turned up; `variables` are those to add."""

    def __init__(self, variables: list[tuple[int, int]]) -> None:
        super().__init__("a prediction was not among those enumerated")
        self.variables = variables


class _Store:
    """A growing matrix of packed bits."""

    def __init__(self, width: int) -> None:
        self._rows = np.zeros((1024, width), np.uint8)
        self.count = 0

    def add(self, rows: Bits) -> Index:
        start, self.count = self.count, self.count + len(rows)
        if self.count > len(self._rows):
            size = max(self.count, 2 * len(self._rows))
            if size * self._rows.shape[1] > _MAX_BYTES:
                size = self.count
            if size * self._rows.shape[1] > _MAX_BYTES:
                raise Intractable("its events over all sampled worlds need more than 2 GB")
            grown = np.zeros((size, self._rows.shape[1]), np.uint8)
            grown[:start] = self._rows[:start]
            self._rows = grown
        self._rows[start : self.count] = rows
        return np.arange(start, self.count, dtype=np.int64)

    def take(self, ids: Index) -> Bits:
        return self._rows[ids]


class Worlds:
    """The algebra of world sets; make one with `enumerate_worlds` or `sample_worlds`.

    `assigned` maps a variable (slot, place) to its class in every world; None samples on demand.
    """

    def __init__(
        self,
        predictions: Predictions,
        con: duckdb.DuckDBPyConnection,
        variables: Sequence[tuple[int, int]] | None,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        self._predictions, self._con = predictions, con
        self._exact = variables is not None
        self._index: dict[tuple[int, int], int] = {}
        self._classes: list[NDArray[np.int32]] = []
        self._random = np.random.default_rng(seed)
        if variables is None:
            self.num_worlds = samples + 1
            self.weights = np.r_[0.0, np.full(samples, 1.0 / samples)]
        else:
            self._list(variables)
        self._store = _Store((self.num_worlds + 7) // 8)
        self._store.add(np.zeros((1, self._store.take(np.zeros(0, np.int64)).shape[1]), np.uint8))
        self._store.add(self._pack(np.ones((1, self.num_worlds), bool)))

    @property
    def method(self) -> str:
        """Enumeration is exact; sampling says how many worlds."""
        if self._exact:
            return f"exact ({self.num_worlds} possible worlds)"
        beliefs = (self._predictions.probabilities[slot][place] for slot, place in self._index)
        if all(float(belief.max()) == 1.0 for belief in beliefs):
            return "exact (every prediction is certain)"
        return f"approximate ({self.num_worlds - 1} sampled worlds)"

    @property
    def variables(self) -> list[tuple[int, int]]:
        """The predictions that events depend on, so far."""
        return list(self._index)

    def literals(self, slot: int, places: Index, classes: Index) -> Index:
        """See `Algebra.literals`."""
        unique, inverse = np.unique(
            np.stack([places, classes], axis=1), axis=0, return_inverse=True
        )
        where = self._rows_of(slot, np.unique(unique[:, 0]))
        width = self._store.take(np.zeros(0, np.int64)).shape[1]
        bits = np.zeros((len(unique), width), np.uint8)
        for number, (place, label) in enumerate(unique):
            bits[number] = self._pack(self._classes[where[int(place)]] == label)
        return self._store.add(bits)[inverse.reshape(-1)]

    def every(self, columns: Sequence[Index]) -> Index:
        """See `Algebra.every`."""
        doubtful = [column for column in columns if not (column == ALWAYS).all()]
        return self._combined(doubtful or columns[:1], np.bitwise_and)

    def either(self, columns: Sequence[Index]) -> Index:
        """See `Algebra.either`."""
        return self._combined(columns, np.bitwise_or)

    def negation(self, ids: Index) -> Index:
        """See `Algebra.negation`."""
        return self._store.add(self._store.take(ids) ^ self._store.take(np.array([ALWAYS])))

    def some(self, ids: Index, segment: Index, count: int) -> Index:
        """See `Algebra.some`."""
        out = np.full(count, NEVER, np.int64)
        if not len(ids):
            return out
        order = np.argsort(segment, kind="stable")
        ordered = segment[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        bits = np.bitwise_or.reduceat(self._store.take(ids[order]), starts, axis=0)
        out[ordered[starts]] = self._store.add(bits)
        return out

    def outcomes(self, members: Members, aggregations: Sequence[Aggregation]) -> Outcomes:
        """See `Algebra.outcomes`: one aggregate per segment and world, equal results merged."""
        row, world = self._present(members.ids)
        pairs = pa.table({"row": pa.array(row), "world": pa.array(world)})
        table = pa.table({"row": pa.array(np.arange(len(members.ids)))})
        table = table.append_column("segment", pa.array(members.segment))
        if members.table is not None:
            for name in members.table.column_names:
                table = table.append_column(name, members.table.column(name))
        calls = [f"{item.sql} AS v{i}" for i, item in enumerate(aggregations)]
        names = [f"v{i}" for i in range(len(aggregations))]
        with registered(self._con, pairs) as p, registered(self._con, table) as m:
            per_world = (
                f"SELECT {', '.join(['segment', 'world', *calls])} "
                f"FROM {p} JOIN {m} USING (row) GROUP BY segment, world"
            )
            rank = f"dense_rank() OVER (ORDER BY {', '.join(['segment', *names])}) - 1 AS outcome"
            found = self._con.sql(
                f"SELECT *, {rank} FROM ({per_world}) ORDER BY outcome, world"
            ).to_arrow_table()
        outcome = found.column("outcome").to_numpy().astype(np.int64)
        starts = np.flatnonzero(np.r_[True, outcome[1:] != outcome[:-1]]) if len(outcome) else []
        starts = np.asarray(starts, np.int64)
        ids = self._store.add(self._scatter(outcome, found.column("world").to_numpy(), len(starts)))
        chosen = found.take(pa.array(starts))
        return Outcomes(
            chosen.column("segment").to_numpy().astype(np.int64), chosen.select(names), ids
        )

    def leading(self, ids: Index, skip: int, take: int | None) -> Index:
        """See `Algebra.leading`."""
        out = np.zeros((len(ids), self._store.take(ids[:0]).shape[1]), np.uint8)
        before = np.zeros(self.num_worlds, np.int64)
        for rows in self._pieces(len(ids)):
            present = self._unpacked(ids[rows])
            place = before + np.cumsum(present, axis=0) - present
            before = before + present.sum(axis=0)
            kept = present.astype(bool) & (place >= skip)
            if take is not None:
                kept &= place < skip + take
            out[rows] = self._pack(kept)
        return self._store.add(out)

    def paired(self, left: Members, right: Members, *, within: bool) -> Index:
        """See `Algebra.paired`."""
        if max(len(left.ids), left.count) * self.num_worlds > _CHUNK:
            raise Intractable("its rows over all sampled worlds are more than 67 million")
        counts = [np.zeros((left.count, self.num_worlds), np.int32) for _ in range(2)]
        for side, count in zip((left, right), counts, strict=True):
            np.add.at(count, side.segment, self._unpacked(side.ids).astype(np.int32))
        kept = np.minimum(*counts) if within else counts[0] - counts[1]
        place = np.arange(len(left.ids)) - np.searchsorted(left.segment, left.segment)
        return self._store.add(self._pack(kept[left.segment] > place[:, None]))

    def hard(self, ids: Index) -> NDArray[np.bool_]:
        """See `Algebra.hard`: the first world is that of the likeliest classes."""
        return (self._store.take(ids)[:, 0] & 128).astype(bool)

    def certain(self, ids: Index) -> NDArray[np.bool_]:
        """See `Algebra.certain`; a sample proves nothing, so only what needs no luck counts."""
        return (self._store.take(ids) == self._store.take(np.array([ALWAYS]))).all(axis=1) & (
            self._exact | (ids == ALWAYS)
        )

    def possible(self, ids: Index) -> NDArray[np.bool_]:
        """See `Algebra.possible`; what no sampled world shows may still be."""
        if not self._exact:
            return ids != NEVER
        return np.asarray(self._store.take(ids).any(axis=1), bool)

    def probability(self, ids: Index) -> Array:
        """See `Algebra.probability`."""
        out = np.zeros(len(ids))
        for rows in self._pieces(len(ids)):
            out[rows] = self._unpacked(ids[rows]) @ self.weights
        return out

    def push(self, ids: Index, adjoint: Array, gradient: Gradient) -> None:
        """See `Algebra.push`; ∂/∂P[v, c] is the expectation given that v is c."""
        values = self._per_world(ids, adjoint)
        exact = self._leave_one_out() if self._exact else None
        baseline = 0.0 if self._exact else float(values @ self.weights)
        for number, (slot, place) in enumerate(self._index):
            classes, size = self._classes[number], self._size(slot)
            weights = self.weights if exact is None else exact[number]
            slope = np.bincount(classes, weights * (values - baseline), size)
            if exact is None:
                mass = np.bincount(classes, weights, size)
                slope = np.divide(slope, mass, out=np.zeros(size), where=mass > 0)
            gradient.arrays[slot][place] += slope

    def error(self, numerator: tuple[Index, Array], denominator: Index | None) -> float:
        """See `Algebra.error`; by the delta method for a quotient."""
        if self._exact:
            return 0.0
        top, n = self._per_world(*numerator)[1:], self.num_worlds - 1
        # What no sampled world shows may still have a probability of up to 3 / n.
        unseen = 3.0 / n * float(np.abs(numerator[1]).max(initial=0.0))
        if denominator is None:
            spread = float(np.std(top))
        else:
            bottom = self._per_world(denominator, np.ones(len(denominator)))[1:]
            mass = float(bottom.mean())
            if mass <= 0.0:
                return math.inf
            spread = float(np.std(top - top.mean() / mass * bottom)) / mass
        return max(_QUANTILE * spread / math.sqrt(n), unseen)

    def _list(self, variables: Sequence[tuple[int, int]]) -> None:
        """All combinations of classes, the likeliest one first."""
        sizes = [self._size(slot) for slot, _ in variables]
        total = math.prod(sizes)
        if total > MAX_WORLDS:
            raise Intractable(f"{len(variables)} predictions have more than {MAX_WORLDS} worlds")
        self.num_worlds = total
        first = [self._likeliest(slot, place) for slot, place in variables]
        orders = [
            [top, *(c for c in range(size) if c != top)]
            for top, size in zip(first, sizes, strict=True)
        ]
        grid = np.array(list(itertools.product(*orders)), np.int32).reshape(total, len(variables))
        self._classes = [np.ascontiguousarray(grid[:, i]) for i in range(len(variables))]
        self._index = {variable: i for i, variable in enumerate(variables)}
        self.weights = np.prod([self._belief(i) for i in range(len(variables))], axis=0)
        self.weights = np.broadcast_to(self.weights, (total,))

    def _belief(self, number: int) -> Array:
        slot, place = list(self._index)[number]
        return self._predictions.probabilities[slot][place][self._classes[number]]

    def _leave_one_out(self) -> list[Array]:
        """Π_{u≠v} P[u, class of u] in every world, for every v."""
        beliefs = [self._belief(i) for i in range(len(self._index))]
        before = list(itertools.accumulate(beliefs, np.multiply, initial=np.ones(self.num_worlds)))
        after = list(
            itertools.accumulate(reversed(beliefs), np.multiply, initial=np.ones(self.num_worlds))
        )
        count = len(beliefs)
        return [before[i] * after[count - 1 - i] for i in range(count)]

    def _size(self, slot: int) -> int:
        return self._predictions.probabilities[slot].shape[1]

    def _likeliest(self, slot: int, place: int) -> int:
        return int(self._predictions.likeliest(slot, np.array([place]))[0])

    def _rows_of(self, slot: int, places: Index) -> dict[int, int]:
        missing = [int(p) for p in places if (slot, int(p)) not in self._index]
        if missing and self._exact:
            raise Unlisted([(slot, place) for place in missing])
        for place in missing:
            self._index[slot, place] = len(self._classes)
            p = self._predictions.probabilities[slot][place]
            steps = np.cumsum(p) / p.sum()
            draws = np.searchsorted(steps, self._random.random(self.num_worlds), side="right")
            draws = np.minimum(draws, len(p) - 1).astype(np.int32)
            draws[0] = self._likeliest(slot, place)
            self._classes.append(draws)
        return {int(place): self._index[slot, int(place)] for place in places}

    def _combined(self, columns: Sequence[Index], how: np.ufunc) -> Index:
        distinct = [np.asarray(column, np.int64) for column in columns]
        if len(distinct) == 1:
            return distinct[0]
        unique, inverse = np.unique(np.stack(distinct, axis=1), axis=0, return_inverse=True)
        bits = self._store.take(unique[:, 0])
        for column in unique.T[1:]:
            bits = how(bits, self._store.take(column))
        return self._store.add(bits)[inverse.reshape(-1)]

    def _present(self, ids: Index) -> tuple[Index, Index]:
        """(row, world) of every event that holds."""
        found = [
            (rows.start + at, world)
            for rows in self._pieces(len(ids))
            for at, world in [np.nonzero(self._unpacked(ids[rows]))]
        ]
        if sum(len(row) for row, _ in found) > _CHUNK:
            raise Intractable("its rows over all sampled worlds are more than 67 million")
        rows = np.concatenate([row for row, _ in found]) if found else np.zeros(0, np.int64)
        worlds = np.concatenate([world for _, world in found]) if found else np.zeros(0, np.int64)
        return rows.astype(np.int64), worlds.astype(np.int64)

    def _scatter(self, row: Index, world: Index, count: int) -> Bits:
        out = np.zeros((count, self.num_worlds), np.uint8)
        out[row, world] = 1
        return self._pack(out)

    def _per_world(self, ids: Index, values: Array) -> Array:
        """Σ values[i] over the events that hold, in every world."""
        out = np.zeros(self.num_worlds)
        for rows in self._pieces(len(ids)):
            out += values[rows] @ self._unpacked(ids[rows])
        return out

    def _pieces(self, n: int) -> list[slice]:
        step = max(1, _CHUNK // 8 // self.num_worlds)
        return [slice(start, min(n, start + step)) for start in range(0, n, step)]

    def _pack(self, bits: NDArray[np.bool_] | Bits) -> Bits:
        return np.packbits(bits, axis=-1)

    def _unpacked(self, ids: Index) -> Bits:
        return np.unpackbits(self._store.take(ids), axis=1, count=self.num_worlds)


def refuse(fragment: str, reason: Intractable) -> None:
    """Raise the user's error for a query that no algebra can evaluate."""
    raise UnsupportedQueryError(
        fragment,
        why=str(reason),
        instead="Ask it over fewer rows",
    )
