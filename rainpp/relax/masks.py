"""Leaves evaluated by enumerating classes inside DuckDB, never by calling a model from SQL.

A constant leaf becomes one array with an axis per prediction. A leaf that also reads columns is
unrolled over the class combinations into bit masks (62 bits per BIGINT) or a list of numbers, one
per captured row; equal bit patterns then share one table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import clean, rows
from rainpp.relax.events import Leaf, Reading
from rainpp.relax.query import hole_name
from rainpp.types import ClassValue

MAX_COMBINATIONS = 4096
MAX_CONSTANT = 1 << 22
_WORD = 62
# A table of every bit pattern beats finding the distinct ones by sorting: 2^12 · 12 doubles is
# 0.4 MB, sorting a million words takes 80 ms.
_ALL_PATTERNS = 12

Classes = Sequence[tuple[ClassValue, ...]]


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """A leaf's values: `values (U, R₁, ...)`; row t uses `values[index[t]]`, None means U = 1."""

    values: NDArray[np.float64]
    index: NDArray[np.int64] | None

    def take(self, chosen: NDArray[np.int64] | slice) -> Factor:
        """The same factor for some of the rows."""
        return self if self.index is None else Factor(self.values, self.index[chosen])


def sql_type(classes: tuple[ClassValue, ...]) -> str:
    """The SQL type that holds every class value.

    Raises
    ------
    QueryError : the classes mix numbers, text and booleans.
    """
    kinds = {type(value) for value in classes}
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds == {str}:
        return "VARCHAR"
    if kinds == {int}:
        return "BIGINT"
    if kinds <= {int, float}:
        return "DOUBLE"
    raise QueryError(f"the classes {list(classes)} mix types; use all numbers or all text.")


def literal(value: ClassValue, kind: str) -> str:
    """`value` as a typed SQL literal."""
    text = str(value) if isinstance(value, (str, bool)) else repr(value)
    return f"CAST('{text.replace(chr(39), chr(39) * 2)}' AS {kind})"


def constant_factors(
    con: duckdb.DuckDBPyConnection, wanted: Iterable[Leaf], classes: Classes
) -> dict[str, Factor]:
    """Tables of the constant leaves by name, one query per combination of predictions."""
    factors: dict[str, Factor] = {}
    by_holes: dict[tuple[tuple[int, int], ...], list[Leaf]] = {}
    for leaf in wanted:
        if leaf.constant:
            by_holes.setdefault(tuple(atom.hole for atom in leaf.atoms), []).append(leaf)
    for holes, group in by_holes.items():
        shape = tuple(len(classes[slot]) for slot, _ in holes)
        if math.prod(shape) > MAX_CONSTANT:
            refuse_size(group[0].sql, shape, MAX_CONSTANT)
        sources = ", ".join(_values(hole, classes[hole[0]]) for hole in holes)
        order = ", ".join(f"h{slot}_{source}.i" for slot, source in holes)
        columns = ", ".join(_read(leaf.sql, leaf.reading) for leaf in group)
        fetched = _fetch(con, f"SELECT {columns} FROM {sources} ORDER BY {order}")
        for position, leaf in enumerate(group):
            values = np.asarray(fetched.column(position).to_numpy(), dtype=np.float64)
            factors[leaf.name] = Factor(_finite(values, leaf).reshape(1, *shape), None)
    return factors


def key_values(
    con: duckdb.DuckDBPyConnection, sql: str, hole: tuple[int, int], classes: Classes
) -> list[object]:
    """The value of a group key for every class of its prediction."""
    query = f"SELECT {sql} FROM {_values(hole, classes[hole[0]])} ORDER BY i"
    return list(_fetch(con, query).column(0).to_pylist())


def row_columns(leaf: Leaf, classes: Classes) -> list[tuple[str, str]]:
    """(column name, SQL) that capture a leaf for every row of its sources."""
    if not leaf.atoms:
        return [(f"{leaf.name}_0", _read(leaf.sql, leaf.reading))]
    shape = tuple(len(classes[atom.slot]) for atom in leaf.atoms)
    if math.prod(shape) > MAX_COMBINATIONS:
        refuse_size(leaf.sql, shape, MAX_COMBINATIONS)
    cases = [
        _read(_at(leaf, values, classes), leaf.reading)
        for values in itertools.product(*(classes[atom.slot] for atom in leaf.atoms))
    ]
    if leaf.reading is Reading.NUMBER:
        return [(f"{leaf.name}_0", f"[{', '.join(cases)}]::DOUBLE[{len(cases)}]")]
    words = [cases[start : start + _WORD] for start in range(0, len(cases), _WORD)]
    return [
        (f"{leaf.name}_{number}", " + ".join(f"{c} * {1 << bit}" for bit, c in enumerate(word)))
        for number, word in enumerate(words)
    ]


def row_factor(leaf: Leaf, captured: pa.Table, classes: Classes) -> Factor:
    """The factor of a leaf from the columns that `row_columns` asked for."""
    shape = tuple(len(classes[atom.slot]) for atom in leaf.atoms)
    size = math.prod(shape)
    if leaf.reading is Reading.NUMBER and leaf.atoms:
        flat = pa.chunked_array(
            [chunk.flatten() for chunk in captured.column(f"{leaf.name}_0").chunks], pa.float64()
        )
        values = _finite(flat.to_numpy(), leaf).reshape(-1, *shape)
        return Factor(values, np.arange(len(values)))
    if not leaf.atoms:
        values = np.asarray(captured.column(f"{leaf.name}_0").to_numpy(), dtype=np.float64)
        return Factor(_finite(values, leaf), np.arange(len(values)))
    number = math.ceil(size / _WORD)
    words = np.stack(
        [captured.column(f"{leaf.name}_{i}").to_numpy() for i in range(number)], axis=1
    ).astype(np.int64)
    if size <= _ALL_PATTERNS:
        patterns, index = np.arange(1 << size)[:, None], words[:, 0]
    else:
        patterns, index = np.unique(words, axis=0, return_inverse=True)
    bits = (patterns[:, :, None] >> np.arange(_WORD)) & 1
    table = bits.reshape(len(patterns), -1)[:, :size].astype(np.float64)
    return Factor(table.reshape(-1, *shape), index.reshape(-1).astype(np.int64))


def check_literals(
    con: duckdb.DuckDBPyConnection,
    compared: Mapping[tuple[tuple[int, int], str], str],
    classes: Classes,
) -> None:
    """Refuse a literal that no class equals; `compared` maps (hole, literal SQL) to what to show.

    Raises
    ------
    QueryError : the literal and the classes there are.
    """
    for (hole, text), shown in compared.items():
        values = classes[hole[0]]
        allowed = ", ".join(repr(value) for value in values[:20]) + (", ..." * (len(values) > 20))
        query = (
            f"SELECT coalesce(bool_or({hole_name(hole)} = {text}), {text} IS NULL) "
            f"FROM {_values(hole, values)}"
        )
        try:
            known = bool(rows(con, query)[0][0])
        except duckdb.Error:
            known = False
        if not known:
            raise QueryError(f"{text} in `{shown}` is not a class; the classes are {allowed}.")


def refuse_size(fragment: str, shape: tuple[int, ...], limit: int) -> None:
    """Raise the error for a condition over too many class combinations."""
    product = " x ".join(map(str, shape))
    raise UnsupportedQueryError(
        fragment,
        why=f"it depends on {product} class combinations per row; the limit is {limit}",
        instead="Split it into conditions over fewer predictions",
    )


def _values(hole: tuple[int, int], classes: tuple[ClassValue, ...]) -> str:
    kind = sql_type(classes)
    listed = ", ".join(f"({i}, {literal(value, kind)})" for i, value in enumerate(classes))
    return f'(VALUES {listed}) AS h{hole[0]}_{hole[1]}(i, "{hole_name(hole)}")'


def _read(sql: str, reading: Reading) -> str:
    if reading is Reading.NUMBER:
        return f"coalesce(CAST(({sql}) AS DOUBLE), 0)"
    return f"CAST(CAST(({sql}) AS BOOLEAN) {reading.value} AS BIGINT)"


def _at(leaf: Leaf, values: tuple[ClassValue, ...], classes: Classes) -> str:
    sql = leaf.sql
    for atom, value in zip(leaf.atoms, values, strict=True):
        written = literal(value, sql_type(classes[atom.slot]))
        sql = sql.replace(f'"{hole_name(atom.hole)}"', written)
    return sql


def _finite(values: NDArray[np.float64], leaf: Leaf) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise UnsupportedQueryError(
            leaf.sql,
            why="it is infinite or NaN on some rows, so its expectation is not a number",
            instead="Filter those rows out first",
        )
    return values


def _fetch(con: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    try:
        return con.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise QueryError(f"DuckDB refuses the query: {clean(error)}.") from None
