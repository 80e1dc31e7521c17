"""One DuckDB run per side of a query: the rows that could count, with all that is certain of them.

Rows come back flat and are sorted here by group, join key and row ids: DuckDB promises no order
with several threads, and sums must not depend on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import clean, quote
from rainpp.relax.events import Leaf
from rainpp.relax.masks import Classes, Factor, row_columns, row_factor
from rainpp.relax.query import Query, Scalar
from rainpp.types import PredictionTable

Index = NDArray[np.int64]
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
            wanted, known = self.rids[source], table.rowids
            found = np.minimum(np.searchsorted(known, wanted), max(0, len(known) - 1))
            missing = np.ones(len(wanted), bool) if not len(known) else known[found] != wanted
            if missing.any():
                raise QueryError(
                    f"{int(missing.sum())} rows of `{table.table}` have no prediction by "
                    f"`{table.model}` (first: rowid {int(wanted[missing][0])}); the table changed "
                    "after the predictions were made, so predict again."
                )
            self.places[slot, source] = found
        return self.places[slot, source]


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
    fetched = _fetch(con, query, side)
    n = fetched.num_rows
    rids = {source: _int(fetched, f"row_{source}") for source in side.sources}
    group = _int(fetched, "group_code") if side.groups else np.zeros(n, np.int64)
    key = _int(fetched, "join_code") if side.joins else np.zeros(n, np.int64)
    order = np.lexsort([*reversed(list(rids.values())), key, group])
    if not np.array_equal(order, np.arange(n)):
        fetched = fetched.take(pa.array(order))
        group, key = group[order], key[order]
        rids = {source: values[order] for source, values in rids.items()}
    factors = {
        leaf.name: row_factor(leaf, fetched, query.classes)
        for leaf in side.leaves
        if not leaf.constant
    }
    return Relation(
        rids,
        group,
        key,
        _group_values(fetched, group, side),
        _join_keys(fetched, key, side),
        factors,
        fetched.select([f"column_{i}" for i in range(len(side.columns))]),
    )


def _fetch(con: duckdb.DuckDBPyConnection, query: Query, side: SideSpec) -> pa.Table:
    sql = capture_sql(query, side, query.classes)
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


def capture_sql(query: Query, side: SideSpec, classes: Classes) -> str:
    """The SQL that fetches one side."""
    columns = [
        f"{quote(query.sources[source].alias)}.rowid AS row_{source}" for source in side.sources
    ]
    for prefix, scalars in (("group", side.groups), ("join", side.joins)):
        columns += [f"({scalar.sql}) AS {prefix}_{i}" for i, scalar in enumerate(scalars)]
        if scalars:
            order = ", ".join(f"({scalar.sql})" for scalar in scalars)
            columns.append(f"dense_rank() OVER (ORDER BY {order}) - 1 AS {prefix}_code")
    columns += [f"({scalar.sql}) AS column_{i}" for i, scalar in enumerate(side.columns)]
    for leaf in side.leaves:
        if not leaf.constant:
            columns += [f"{sql} AS {name}" for name, sql in row_columns(leaf, classes)]
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
    names = [name for name in left.keys.column_names if name != "code"]
    on = " AND ".join(f"a.{name} = b.{name}" for name in names)
    with registered(con, left.keys) as a, registered(con, right.keys) as b:
        sql = f"SELECT a.code AS l, b.code AS r FROM {a} AS a JOIN {b} AS b ON {on} ORDER BY l, r"
        try:
            found = con.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"DuckDB refuses the join: {clean(error)}.") from None
    return _int(found, "l"), _int(found, "r")


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


def _int(table: pa.Table, name: str) -> Index:
    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def _firsts(codes: Index) -> Index:
    """The first row of every code, in code order."""
    return np.unique(codes, return_index=True)[1]


def _group_values(fetched: pa.Table, group: Index, side: SideSpec) -> list[tuple[object, ...]]:
    if not side.groups:
        return [()]
    chosen = fetched.take(pa.array(_firsts(group)))
    columns: Sequence[list[object]] = [
        chosen.column(f"group_{i}").to_pylist() for i in range(len(side.groups))
    ]
    return list(zip(*columns, strict=True))


def _join_keys(fetched: pa.Table, key: Index, side: SideSpec) -> pa.Table | None:
    if not side.joins:
        return None
    first = _firsts(key)
    columns = {
        f"key_{i}": fetched.column(f"join_{i}").take(pa.array(first))
        for i in range(len(side.joins))
    }
    return pa.table({**columns, "code": pa.array(key[first])})
