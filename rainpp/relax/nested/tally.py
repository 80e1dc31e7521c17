"""Aggregates as running totals: what a member adds, how totals combine, what they say at the end.

Every total is a commutative monoid over int64 or float64: sums, least and greatest ranks, and sets
of values as bits. A result, such as an average, reads one or two of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import Aggregation, Intractable, Members
from rainpp.relax.nested.arrays import Hash, Index, distinct, mixed, numbered, run_starts
from rainpp.relax.nested.columns import Ranks, decimals, numbers
from rainpp.relax.nested.gates import Flags

Values = NDArray[Any]
_NOTHING = np.iinfo(np.int64).max
_MOST_DISTINCT = 62
_names = itertools.count()


@dataclass(frozen=True, eq=False, slots=True)
class Total:
    """One running total: what each member adds, combined by `combine` from `neutral`."""

    adds: Values
    combine: np.ufunc
    neutral: int | float

    def same(self, other: Total) -> bool:
        """Whether two totals always agree."""
        return (
            self.combine is other.combine
            and self.adds.dtype == other.adds.dtype
            and np.array_equal(self.adds, other.adds)
        )


@dataclass(frozen=True, eq=False, slots=True)
class Reader:
    """Which totals an aggregate reads, and the ranks of the values it is about."""

    aggregation: Aggregation
    totals: tuple[int, ...]
    scale: int = 0
    ranks: Ranks | None = None
    local: Index | None = None


@dataclass(eq=False, slots=True)
class Tally:
    """Totals of several aggregates; total 0 is one as soon as there is a member.

    Raises
    ------
    Intractable : an aggregate is not count, sum, avg, min or max of one column.
    """

    members: Members
    aggregations: Sequence[Aggregation]
    connection: duckdb.DuckDBPyConnection
    totals: list[Total] = field(init=False)
    schema: pa.Schema = field(init=False)
    readers: list[Reader] = field(init=False)
    _hashes: Hash | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.schema = self._types()
        self.totals = [Total(np.ones(len(self.members.ids), np.int64), np.bitwise_or, 0)]
        self.readers = [self._reader(aggregation) for aggregation in self.aggregations]

    def _types(self) -> pa.Schema:
        name = f"rainpp_members_{next(_names)}"
        table = self.members.table
        if table is None:
            table = pa.table({"unused": pa.array([], pa.int64())})
        self.connection.register(name, table.slice(0, 0))
        try:
            calls = [f"{a.sql} AS v{i}" for i, a in enumerate(self.aggregations)]
            sql = f"SELECT {', '.join(calls) or '1'} FROM {name}"
            return self.connection.sql(sql).to_arrow_table().schema
        finally:
            self.connection.unregister(name)

    def _reader(self, aggregation: Aggregation) -> Reader:
        kind = {"mean": "avg", "bool_or": "max", "bool_and": "min"}.get(
            aggregation.kind, aggregation.kind
        )
        if not aggregation.plain or kind not in ("count", "sum", "avg", "min", "max"):
            raise Intractable(
                f"`{aggregation.shown}` is not a plain count, sum, avg, min or max of one column"
            )
        used = self._used(aggregation)
        if kind in ("min", "max"):
            return self._extreme(aggregation, used, kind)
        if aggregation.distinct and aggregation.argument is not None:
            return self._distinct(aggregation, used, kind)
        count = Total(used.astype(np.int64), np.add, 0)
        if kind == "count":
            return Reader(aggregation, (self._add(count),))
        values, scale = numbers(self._column(aggregation), used, aggregation.shown)
        total = Total(values, np.add, values.dtype.type(0))
        present = Total(used.astype(np.int64), np.bitwise_or, 0)
        first = self._add(count if kind == "avg" else present)
        return Reader(aggregation, (first, self._add(total)), scale)

    def _used(self, aggregation: Aggregation) -> Flags:
        """Members the aggregate looks at: filter true and argument not NULL."""
        out = np.ones(len(self.members.ids), bool)
        table = self.members.table
        if table is None:
            return out
        if aggregation.filters is not None:
            out &= (
                table[aggregation.filters]
                .combine_chunks()
                .fill_null(False)
                .to_numpy(zero_copy_only=False)
                .astype(bool)
            )
        if aggregation.argument is not None:
            out &= table[aggregation.argument].is_valid().to_numpy()
        return out

    def _column(self, aggregation: Aggregation) -> pa.Array:
        assert self.members.table is not None
        assert aggregation.argument is not None
        return self.members.table[aggregation.argument].combine_chunks()

    def _add(self, total: Total) -> int:
        """Its number; equal totals are kept once."""
        for number, other in enumerate(self.totals):
            if total.same(other):
                return number
        self.totals.append(total)
        return len(self.totals) - 1

    def _extreme(self, aggregation: Aggregation, used: Flags, kind: str) -> Reader:
        ranks = Ranks.of(self._column(aggregation), self.connection)
        least = kind == "min"
        neutral = _NOTHING if least else -1
        adds = np.where(used, ranks.rank, neutral)
        total = Total(adds, np.minimum if least else np.maximum, neutral)
        return Reader(aggregation, (self._add(total),), ranks=ranks)

    def _distinct(self, aggregation: Aggregation, used: Flags, kind: str) -> Reader:
        """A set of values: bit i is the i-th distinct value of the segment."""
        ranks = Ranks.of(self._column(aggregation), self.connection)
        width = int(ranks.rank.max(initial=0)) + 1
        keys = distinct(self.members.segment[used] * width + ranks.rank[used])
        starts = run_starts(keys // width)
        first = np.zeros(self.members.count, np.int64)
        first[keys[starts] // width] = starts
        own = np.searchsorted(keys, self.members.segment * width + ranks.rank)
        bit = np.where(used, own - first[self.members.segment], 0)
        if bit.max(initial=0) >= _MOST_DISTINCT:
            raise Intractable(f"`{aggregation.shown}` is over more than {_MOST_DISTINCT} values")
        adds = np.where(used, np.int64(1) << bit, 0)
        number = self._add(Total(adds, np.bitwise_or, 0))
        values, scale = ranks.rank, 0
        if kind != "count":
            values, scale = numbers(self._column(aggregation), used, aggregation.shown)
        # The value of each bit: any member that sets it has it.
        by_bit = np.zeros((self.members.count, _MOST_DISTINCT), values.dtype)
        by_bit[self.members.segment[used], bit[used]] = values[used]
        return Reader(aggregation, (number,), scale, local=by_bit)

    def results(self, segment: Index, totals: Sequence[Values]) -> pa.Table:
        """One row per state (its segment and totals), one column v{i} per aggregate."""
        columns = [
            self._result(reader, segment, [totals[t] for t in reader.totals], self.schema.types[i])
            for i, reader in enumerate(self.readers)
        ]
        return pa.table(columns, names=[f"v{i}" for i in range(len(columns))])

    def _result(
        self, reader: Reader, segment: Index, totals: list[Values], kind: pa.DataType
    ) -> pa.Array:
        if reader.ranks is not None:
            empty = (totals[0] < 0) | (totals[0] == _NOTHING)
            return reader.ranks.values_at(totals[0], empty).cast(kind)
        if reader.local is not None:
            bits = (totals[0][:, None] >> np.arange(_MOST_DISTINCT)) & 1
            sums = (bits * reader.local[segment]).sum(axis=1)
            totals = [bits.sum(axis=1), sums.astype(reader.local.dtype)]
        count = totals[0]
        name = reader.aggregation.kind
        if name == "count":
            return pa.array(count).cast(kind)
        if name in ("avg", "mean"):
            mean = totals[1] / (np.maximum(count, 1) * 10.0**reader.scale)
            return pa.array(mean, mask=count == 0).cast(kind)
        if totals[1].dtype == np.float64:
            return pa.array(totals[1], mask=count == 0).cast(kind)
        return decimals(totals[1], reader.scale, count == 0).cast(kind)

    def averaged(self, totals: Sequence[Values]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How many values each state has and their sum, for an average as only aggregate."""
        reader = self.readers[0]
        if len(reader.totals) != 2:
            raise Intractable(f"`{reader.aggregation.shown}` is no plain average")
        number, total = (totals[t].astype(float) for t in reader.totals)
        return number, total / 10.0**reader.scale

    def extreme_values(self, totals: Sequence[Values]) -> NDArray[np.float64]:
        """The extreme value of each state as a number, NaN for none."""
        reader = self.readers[0]
        kind = self.schema.types[0]
        if reader.ranks is None or not _numeric(kind):
            raise Intractable(f"`{reader.aggregation.shown}` has values of type {kind}")
        ranks = totals[reader.totals[0]]
        found = reader.ranks.values_at(ranks, (ranks < 0) | (ranks == _NOTHING))
        return np.asarray(found.cast(pa.float64()).fill_null(float("nan")), np.float64)

    def start(self, size: int) -> list[Values]:
        """Totals of `size` states in which nobody was seen yet."""
        return [np.full(size, total.neutral, total.adds.dtype) for total in self.totals]

    def additive(self) -> tuple[int, int] | None:
        """Which total says that a member counts, and which one adds up integers; None if not so."""
        rest = range(1, len(self.totals))
        adds = [i for i in rest if self.totals[i].combine is np.add]
        flags = [i for i in rest if self.totals[i].combine is np.bitwise_or] or [0]
        if len(adds) != 1 or len(flags) > 1 or len({*adds, *flags} - {0}) < len(self.totals) - 1:
            return None
        flag, values = self.totals[flags[0]].adds, self.totals[adds[0]].adds
        fits = values.dtype == np.int64 and not values[flag == 0].any()
        return (flags[0], adds[0]) if fits and flag.max(initial=0) <= 1 else None

    @property
    def combines(self) -> list[np.ufunc]:
        """What combines each total."""
        return [total.combine for total in self.totals]

    def combined(self, left: Sequence[Values], right: Sequence[Values]) -> list[Values]:
        """Totals of both."""
        return [t.combine(x, y) for t, x, y in zip(self.totals, left, right, strict=True)]

    def gathered(self, rows: Index, group: Index, count: int) -> list[Values]:
        """(count,) totals of member rows by ascending group."""
        out = self.start(count)
        starts = run_starts(group)
        if len(starts):
            for total, into in zip(self.totals, out, strict=True):
                into[group[starts]] = total.combine.reduceat(total.adds[rows], starts)
        return out

    def hashes(self) -> Hash:
        """(n,) hashes of what members add."""
        if self._hashes is None:
            key = np.zeros(len(self.members.ids), np.uint64)
            for total in self.totals:
                key = mixed(key * np.uint64(3) + mixed(total.adds.view(np.int64)))
            self._hashes = key
        return self._hashes


def _numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def distinct_states(owner: Index, totals: Sequence[Values]) -> tuple[Index, Index]:
    """First row of every distinct state of every owner, and which one each row is.

    States are numbered by owner, then by first appearance. `owner` need not be sorted.
    """
    key = mixed(owner)
    for column in totals:
        plain = column + 0.0 if column.dtype == np.float64 else column
        key = mixed(key * np.uint64(3) + mixed(plain.view(np.int64)))
    _, first, inverse = numbered(key)
    order = np.lexsort((first, owner[first]))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return first[order], number[inverse]
