"""One DuckDB run per side of a query: the rows that could count, with all that is certain of them.

Rows come back flat and are sorted here by group, join key and row ids: DuckDB promises no order
with several threads, and sums must not depend on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import clean, quote, rows
from rainpp.relax.codes import Index, integers, key_codes
from rainpp.relax.events import Leaf
from rainpp.relax.masks import Factor, row_columns, row_factor
from rainpp.relax.query import Query, Scalar
from rainpp.types import PredictionTable

MAX_ROWS = 20_000_000
_names = itertools.count()


@dataclass(frozen=True, eq=False, slots=True)
class SideSpec:
    """What to fetch for one side: sources, certain conditions, group and join keys, leaves.

    `columns` are further expressions, by which sides of a tree meet.
    """

    sources: tuple[int, ...]
    conditions: tuple[Scalar, ...]
    groups: tuple[Scalar, ...]
    joins: tuple[Scalar, ...]
    leaves: tuple[Leaf, ...]
    columns: tuple[Scalar, ...] = ()


@dataclass(eq=False, slots=True)
class Relation:
    """Captured rows of one side, sorted by (group, join key, row ids).

    `rids[source] (n,)` are row ids, `group (n,)` and `key (n,)` dense codes; `groups[g]` are the
    values of group g, `keys` the distinct join keys as an Arrow table with a column ``code``.
    """

    rids: dict[int, Index]
    group: Index
    key: Index
    groups: list[tuple[object, ...]]
    keys: pa.Table | None
    factors: dict[str, Factor]
    columns: pa.Table = field(default_factory=lambda: pa.table({}))
    places: dict[tuple[int, int], Index] = field(default_factory=dict[tuple[int, int], Index])

    def __len__(self) -> int:
        return len(self.group)

    def place(self, slot: int, source: int, table: PredictionTable) -> Index:
        """Positions of this relation's rows in `table`.

        Raises
        ------
        QueryError : a row has no prediction, so the table changed since they were made.
        """
        if (slot, source) not in self.places:
            self.places[slot, source] = place_rows(table, self.rids[source])
        return self.places[slot, source]


def place_rows(table: PredictionTable, rids: Index) -> Index:
    """Positions of row ids in a prediction table.

    Raises
    ------
    QueryError : a row has no prediction, so the table changed since they were made.
    """
    known = table.rowids
    if len(known) and known[0] == 0 and known[-1] == len(known) - 1:
        found = np.minimum(rids, len(known) - 1)
    else:
        found = np.minimum(np.searchsorted(known, rids), max(0, len(known) - 1))
    missing = np.ones(len(rids), bool) if not len(known) else known[found] != rids
    if missing.any():
        raise QueryError(
            f"{int(missing.sum())} rows of `{table.table}` have no prediction by "
            f"`{table.model}` (first: rowid {int(rids[missing][0])}); the table changed "
            "after the predictions were made, so predict again."
        )
    return found.astype(np.int64, copy=False)


@contextmanager
def registered(con: duckdb.DuckDBPyConnection, table: pa.Table) -> Generator[str]:
    """A name under which SQL on `con` sees `table`, until the block ends."""
    name = f"__rainpp_{next(_names)}"
    con.register(name, table)
    try:
        yield name
    finally:
        con.unregister(name)


def capture(con: duckdb.DuckDBPyConnection, query: Query, side: SideSpec) -> Relation:
    """Run the certain part of one side.

    Raises
    ------
    QueryError : DuckDB refuses an expression.
    UnsupportedQueryError : more rows than `MAX_ROWS` could count.
    """
    ranked = bool(side.groups) and collates(con)
    fetched = in_row_order(_fetch(con, capture_sql(query, side, ranked=ranked), query, side), side)
    group, groups = _grouped(con, fetched, side, ranked=ranked)
    key, keys = _keyed(fetched, side)
    both = group * (keys.num_rows if keys else 1) + key
    if (np.diff(both) < 0).any():
        order = np.argsort(both.astype(_narrow(both)), kind="stable")
        fetched, group, key = fetched.take(pa.array(order)), group[order], key[order]
    return Relation(
        {source: integers(fetched, f"row_{source}") for source in side.sources},
        group,
        key,
        groups,
        keys,
        {
            leaf.name: row_factor(leaf, fetched, query.classes)
            for leaf in side.leaves
            if not leaf.constant
        },
        fetched.select([f"column_{i}" for i in range(len(side.columns))]),
    )


def in_row_order(fetched: pa.Table, side: SideSpec) -> pa.Table:
    """Rows sorted by row ids, source by source, unless DuckDB returned them so."""
    rids = [integers(fetched, f"row_{source}") for source in side.sources]
    steps = [np.diff(values) for values in rids]
    tied = np.ones(max(0, fetched.num_rows - 1), bool)
    for step in steps:
        if (step[tied] < 0).any():
            return fetched.take(pa.array(np.lexsort(rids[::-1])))
        tied &= step == 0
    return fetched


def collates(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether text may be equal without being identical, which Arrow cannot know."""
    sql = (
        "SELECT current_setting('default_collation') <> '' OR "
        "coalesce(bool_or(contains(upper(sql), 'COLLATE')), false) FROM duckdb_tables()"
    )
    return bool(rows(con, sql)[0][0])


def _grouped(
    con: duckdb.DuckDBPyConnection, fetched: pa.Table, side: SideSpec, *, ranked: bool
) -> tuple[Index, list[tuple[object, ...]]]:
    """The group of every row, numbered as DuckDB sorts their values, and those values."""
    if not side.groups:
        return np.zeros(fetched.num_rows, np.int64), [()]
    columns = [fetched.column(f"group_{i}") for i in range(len(side.groups))]
    if ranked:
        group = integers(fetched, "group_code")
    else:
        code, first = key_codes(columns)
        taken = {f"group_{i}": c.take(pa.array(first)) for i, c in enumerate(columns)}
        group = _ranked(con, pa.table(taken))[code]
    first = np.unique(group, return_index=True)[1]
    values = [column.take(pa.array(first)).to_pylist() for column in columns]
    return group, list(zip(*values, strict=True))


def _keyed(fetched: pa.Table, side: SideSpec) -> tuple[Index, pa.Table | None]:
    """The join key of every row, and the distinct keys."""
    if not side.joins:
        return np.zeros(fetched.num_rows, np.int64), None
    columns = [fetched.column(f"join_{i}") for i in range(len(side.joins))]
    key, first = key_codes(columns)
    taken = {f"key_{i}": column.take(pa.array(first)) for i, column in enumerate(columns)}
    return key, pa.table({**taken, "code": np.arange(len(first))})


def _ranked(con: duckdb.DuckDBPyConnection, distinct: pa.Table) -> Index:
    """For distinct values, in any order, their dense rank in DuckDB's."""
    by = ", ".join(distinct.column_names)
    numbered = distinct.append_column("place", pa.array(np.arange(distinct.num_rows)))
    with registered(con, numbered) as name:
        sql = f"SELECT dense_rank() OVER (ORDER BY {by}) - 1 AS code FROM {name} ORDER BY place"
        return integers(con.sql(sql).to_arrow_table(), "code")


def _narrow(codes: Index) -> type[np.signedinteger[Any]]:
    """The integer type NumPy sorts fastest: 16 bits by radix."""
    return np.int16 if codes.max(initial=0) < 1 << 15 else np.int64


def _fetch(con: duckdb.DuckDBPyConnection, sql: str, query: Query, side: SideSpec) -> pa.Table:
    try:
        fetched = con.sql(f"{sql} LIMIT {MAX_ROWS + 1}").to_arrow_table()
    except duckdb.Error as error:
        raise QueryError(f"DuckDB refuses the query: {clean(error)}.") from None
    if fetched.num_rows > MAX_ROWS:
        raise UnsupportedQueryError(
            ", ".join(query.sources[source].alias for source in side.sources),
            why=f"more than {MAX_ROWS} joined rows could count",
            instead="Join on equality of columns or predictions, or filter the tables first",
        )
    return fetched


def capture_sql(query: Query, side: SideSpec, *, ranked: bool = False) -> str:
    """The SQL that fetches one side; `ranked` asks DuckDB to number the groups."""
    columns = [
        f"{quote(query.sources[source].alias)}.rowid AS row_{source}" for source in side.sources
    ]
    columns += [f"({scalar.sql}) AS group_{i}" for i, scalar in enumerate(side.groups)]
    if ranked:
        order = ", ".join(f"({scalar.sql})" for scalar in side.groups)
        columns.append(f"dense_rank() OVER (ORDER BY {order}) - 1 AS group_code")
    columns += [f"({scalar.sql}) AS join_{i}" for i, scalar in enumerate(side.joins)]
    columns += [f"({scalar.sql}) AS column_{i}" for i, scalar in enumerate(side.columns)]
    for leaf in side.leaves:
        if not leaf.constant:
            columns += [f"{sql} AS {name}" for name, sql in row_columns(leaf, query.classes)]
    tables = ", ".join(
        f"{query.sources[source].qualified} AS {quote(query.sources[source].alias)}"
        for source in side.sources
    )
    where = " AND ".join(f"({scalar.sql})" for scalar in side.conditions)
    return f"SELECT {', '.join(columns)} FROM {tables}" + (f" WHERE {where}" if where else "")


def matching_keys(
    con: duckdb.DuckDBPyConnection, left: Relation, right: Relation
) -> tuple[Index, Index]:
    """Pairs of join key codes that DuckDB calls equal, sorted."""
    if left.keys is None or right.keys is None:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    return matching_codes(con, left.keys, right.keys)


def matching_codes(
    con: duckdb.DuckDBPyConnection, left: pa.Table, right: pa.Table
) -> tuple[Index, Index]:
    """Pairs of `code` whose other columns DuckDB calls equal, sorted."""
    names = [name for name in left.column_names if name != "code"]
    on = " AND ".join(f"a.{name} = b.{name}" for name in names)
    with registered(con, left) as a, registered(con, right) as b:
        sql = f"SELECT a.code AS l, b.code AS r FROM {a} AS a JOIN {b} AS b ON {on}"
        try:
            found = con.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"DuckDB refuses the join: {clean(error)}.") from None
    pairs = [integers(found, name) for name in ("l", "r")]
    order = np.lexsort(pairs[::-1])
    return pairs[0][order], pairs[1][order]


def joined(left: Relation, right: Relation, rows: tuple[Index, Index], group: Index) -> Relation:
    """The relation of chosen row pairs, with `group` codes of its own."""
    factors = {name: factor.take(rows[0]) for name, factor in left.factors.items()}
    factors |= {name: factor.take(rows[1]) for name, factor in right.factors.items()}
    rids = {source: values[rows[0]] for source, values in left.rids.items()}
    rids |= {source: values[rows[1]] for source, values in right.rids.items()}
    return Relation(rids, group, np.zeros_like(group), [], None, factors)


def same_rows(left: Index, right: Index) -> tuple[Index, Index]:
    """Places i, j with left[i] == right[j]."""
    found = pd.merge(
        pd.DataFrame({"rid": left, "l": np.arange(len(left))}),
        pd.DataFrame({"rid": right, "r": np.arange(len(right))}),
        on="rid",
    )
    return found["l"].to_numpy(), found["r"].to_numpy()
