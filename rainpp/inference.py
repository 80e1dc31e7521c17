"""Predictions for the rows of a database table: read once, predicted once, projected once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb
import jax
import numpy as np
import pyarrow as pa
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from rainpp.errors import (
    DataError,
    ModelError,
    QueryError,
    ShapeError,
    UnsupportedQueryError,
    named,
)
from rainpp.index.artifact import Index
from rainpp.model import Model, check_inputs
from rainpp.relax.catalog import TableEntry, clean, find_table, names_files, quote, suggest
from rainpp.types import ClassValue, PredictionTable, PyTree

Encode = Callable[..., PyTree]


@dataclass(frozen=True)
class RegisteredModel:
    """A model under the name SQL calls it by; bare probabilities have no `model` or `index`.

    A regression has no classes.
    """

    name: str
    classes: tuple[ClassValue, ...]
    model: Model | None = None
    index: Index | None = None
    encode: Encode | None = None

    @property
    def is_regression(self) -> bool:
        """Whether its predictions are numbers."""
        return self.model is not None and self.model.task == "regression"

    @cached_property
    def spread(self) -> float | None:
        """Standard deviation of a regression's training residuals; None where unknown."""
        training = None if self.index is None else self.index.training
        if self.model is None or training is None or not self.is_regression:
            return None
        errors = np.asarray(self.model.probabilities(training.inputs)) - training.labels
        return float(np.sqrt(np.mean(np.square(errors, dtype=np.float64))))


@dataclass(frozen=True, eq=False)
class InferenceTable:
    """One table seen through one model.

    Attributes
    ----------
    predictions : class probabilities by rowid.
    content : fingerprint of the columns the model reads; a change makes all of this stale.
    inputs : what the model was given (V rows); None when only probabilities are known, or V = 0.
    projections : (V, R, k) derivatives of the probabilities along the eigenvectors, when
        materialised.
    columns : fingerprint of every column, when only probabilities are known: which of them the
        model reads is first known from a query.
    """

    predictions: PredictionTable
    content: str
    inputs: PyTree | None = field(default=None, repr=False)
    projections: np.ndarray | None = field(default=None, repr=False)
    columns: Mapping[str, str] | None = field(default=None, repr=False)


def resolve_table(con: duckdb.DuckDBPyConnection, name: str) -> TableEntry:
    """The base table `name` means: a plain name, schema.table as in SQL, or the path of files.

    Raises
    ------
    QueryError, UnsupportedQueryError : there is none, or it is a view that is more than another
        name, or a column of its own hides the row ids.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QueryError(f"`table` is {name!r}; it must be the name of a table.")
    entry = _find_entry(con, name)
    if any(column.lower() == "rowid" for column in entry.columns):
        raise UnsupportedQueryError(
            entry.shown,
            why="its column `rowid` hides DuckDB's row id",
            instead="Rename that column",
        )
    return entry


def _find_entry(con: duckdb.DuckDBPyConnection, name: str) -> TableEntry:
    plain = exp.Table(this=exp.to_identifier(name, quoted=True))
    try:
        return find_table(con, plain, name)
    except (QueryError, UnsupportedQueryError):
        if "." not in name or names_files(plain):
            raise
        try:
            table = exp.to_table(name, dialect="duckdb")
        except (ParseError, TokenError, ValueError):
            table = None
        if table is None:
            raise
    return find_table(con, table, name)


def resolve_columns(entry: TableEntry, names: Sequence[str]) -> tuple[str, ...]:
    """Columns of `entry` as the table spells them.

    Raises
    ------
    QueryError : one is not there, or none is named.
    """
    listed: Any = names.tolist() if isinstance(names, np.ndarray) else names
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise QueryError(f"`args` is {names!r}; give a list of the columns the model reads.")
    return _spelled(entry, listed)


def _spelled(entry: TableEntry, names: Sequence[str]) -> tuple[str, ...]:
    spelled = {column.lower(): column for column in entry.columns}
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise QueryError(f"`args` holds {name!r}; it must hold names of columns.")
        if name.lower() not in spelled:
            hint = suggest(name, list(entry.columns), "columns")
            raise QueryError(f"table `{entry.shown}` has no column `{name}`{hint}")
    if not names:
        raise QueryError("`args` is empty; name the columns the model reads.")
    return tuple(spelled[name.lower()] for name in names)


def read_classes(classes: Any) -> tuple[Any, ...] | None:
    """Class values as a tuple of Python values; None stays None.

    Raises
    ------
    DataError : something without an order, such as a set, or without elements.
    """
    if classes is None:
        return None
    unordered = isinstance(classes, str | bytes | Mapping | Set)
    if unordered or not isinstance(classes, Iterable):
        raise DataError(
            f"`classes` is {classes!r}; give a list with one SQL value for each output, in the "
            "order of the outputs."
        )
    return tuple(item.item() if isinstance(item, np.generic) else item for item in classes)


def check_classes(values: tuple[Any, ...] | None, count: int) -> tuple[ClassValue, ...]:
    """SQL values of the output columns; 0 .. count-1 when not given.

    Raises
    ------
    ShapeError : not one value per output column.
    DataError : a value twice, or one that SQL cannot hold or compare.
    """
    if values is None:
        return tuple(range(count))
    if len(values) != count:
        raise ShapeError(
            f"`classes` names {len(values)} values but the model has {count} output classes; "
            "name one SQL value per class, in the order of the outputs."
        )
    kinds = {type(value) for value in values}
    if kinds not in ({str}, {bool}, {int}, {float}, {int, float}):
        raise DataError(
            f"`classes` is {list(values)}; use strings, or numbers, or booleans, not a mixture."
        )
    if len(set(values)) < len(values):
        raise DataError(f"`classes` is {list(values)}; every class needs its own value.")
    for value in values:
        if not _fits_sql(value):
            raise DataError(
                f"`classes` holds {value!r}, which SQL cannot compare; use finite numbers of at "
                "most 64 bits, or text without NUL characters."
            )
    return values


def _fits_sql(value: ClassValue) -> bool:
    if isinstance(value, str):
        return "\0" not in value
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def table_content(
    con: duckdb.DuckDBPyConnection, entry: TableEntry, arguments: tuple[str, ...] | None
) -> str:
    """A hash that changes when a row is added, removed or moved, or a model argument changes.

    Measured: 23 ms for 10 000 images of 784 floats, 1 ms for scalar columns.
    """
    columns = ", ".join(["rowid", *(quote(name) for name in arguments or ())])
    query = f"SELECT count(*), max(rowid), bit_xor(hash({columns})) FROM {entry.qualified}"
    return "-".join(str(part) for part in con.execute(query).fetchall()[0])


def column_contents(
    con: duckdb.DuckDBPyConnection, entry: TableEntry, names: Sequence[str]
) -> dict[str, str]:
    """For every column a hash that changes when a value in it changes, by name."""
    hashes = ", ".join(f"bit_xor(hash(rowid, {quote(name)}))" for name in names)
    found = con.execute(f"SELECT {hashes} FROM {entry.qualified}").fetchall()[0]
    return {name: str(value) for name, value in zip(names, found, strict=True)}


def read_rowids(con: duckdb.DuckDBPyConnection, entry: TableEntry) -> np.ndarray:
    """Row ids of a base table, ascending."""
    query = f"SELECT rowid FROM {entry.qualified} ORDER BY rowid"
    return con.sql(query).to_arrow_table().column(0).to_numpy()


def predict_table(
    con: duckdb.DuckDBPyConnection,
    registered: RegisteredModel,
    *,
    entry: TableEntry,
    arguments: tuple[str, ...],
) -> InferenceTable:
    """Read the argument columns, run the model once per row, and keep inputs and probabilities.

    Raises
    ------
    DataError : NULL in a model argument, or no rows.
    ModelError : `encode` fails, the model cannot read what it returns, or its width is not
        len(classes).
    """
    assert registered.model is not None  # bare probabilities never come here
    content = table_content(con, entry, arguments)
    rowids, columns = _read_columns(con, entry, arguments)
    if rowids.size == 0:
        inputs, probabilities = None, np.zeros((0, len(registered.classes) or 1))
    else:
        inputs = _encode(registered, columns, rowids.size, entry.shown)
        probabilities = registered.model.probabilities(inputs)
    _check_width(registered, probabilities)
    predictions = PredictionTable(
        registered.name,
        entry.shown,
        arguments,
        rowids,
        probabilities,
        registered.classes,
        registered.spread,
    )
    return InferenceTable(predictions, content, inputs)


def _check_width(registered: RegisteredModel, probabilities: np.ndarray) -> None:
    """Refuse probabilities (V, R) whose R is not the number of classes, 1 for a regression."""
    if registered.is_regression:
        if probabilities.shape[1] != 1:
            raise ModelError(
                f"`{registered.name}` predicts {probabilities.shape[1]} numbers per row; a "
                "function in SQL returns one."
            )
        return
    if probabilities.shape[1] != len(registered.classes):
        raise ModelError(
            f"`{registered.name}` returns {probabilities.shape[1]} classes per row but "
            f"{len(registered.classes)} are registered: {list(registered.classes)}."
        )


def check_probabilities(probabilities: Any, *, num_rows: int, table: str) -> np.ndarray:
    """Probabilities (V, R) given by the user, as float64.

    Raises
    ------
    ShapeError : not two-dimensional, or V is not the number of rows of the table.
    DataError : not numbers, NaN, negative, or rows that do not sum to 1 within 1e-3.
    """
    values = _as_numbers(probabilities)
    if values.ndim != 2 or values.shape[0] != num_rows or values.shape[1] < 2:
        raise ShapeError(
            f"`probabilities` has shape {values.shape}; table `{table}` has {num_rows} rows, so "
            f"({num_rows}, R) with R >= 2 is needed, in rowid order."
        )
    bad = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1)
    bad |= np.abs(values.sum(axis=1) - 1) > 1e-3
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"`probabilities` row {row} is {np.array2string(values[row], precision=4)}; every row "
            f"must be >= 0 and sum to 1 ({int(bad.sum())} rows are not)."
        )
    return values


def _as_numbers(probabilities: Any) -> np.ndarray:
    """As float64; what is masked or missing as NaN."""
    try:
        masked = np.ma.getmaskarray(probabilities) if np.ma.isMA(probabilities) else False
        array = np.asarray(probabilities)
        if array.dtype.kind in "biufO":
            return np.where(masked, np.nan, array.astype(np.float64))
    except (TypeError, ValueError):
        pass
    raise DataError(
        f"`probabilities` is a {type(probabilities).__name__} that is no table of numbers; an "
        "array of shape (rows, classes) is needed."
    )


def _read_columns(
    con: duckdb.DuckDBPyConnection, entry: TableEntry, arguments: tuple[str, ...]
) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
    names = ", ".join(quote(name) for name in arguments)
    query = f"SELECT rowid, {names} FROM {entry.qualified} ORDER BY rowid"
    try:
        rows = con.sql(query).to_arrow_table()
    except duckdb.Error as problem:
        raise QueryError(f"cannot read `{entry.shown}`: {clean(problem)}.") from None
    return rows.column(0).to_numpy(), _argument_arrays(rows, entry.shown, arguments)


def encoded_rows(
    registered: RegisteredModel, rows: pa.Table, *, table: str, arguments: tuple[str, ...]
) -> PyTree:
    """What the model is given for the rows of an Arrow table, which SQL calls `table`.

    Raises
    ------
    DataError : NULL in an argument, or one that is no number without `encode`.
    ModelError, ShapeError : `encode` fails, or does not keep one input per row.
    """
    columns = _argument_arrays(rows, table, arguments)
    return _encode(registered, columns, rows.num_rows, table)


def _argument_arrays(
    rows: pa.Table, table: str, arguments: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for name in arguments:
        # A call may name a column twice.
        column = rows.column(rows.schema.get_all_field_indices(name)[0])
        if column.null_count:
            raise DataError(
                f"`{table}.{name}` is NULL in {column.null_count} rows; a model argument "
                "must have a value in every row. Fill or delete those rows."
            )
        # One chunk is there already: combining copies even that.
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        columns[name] = _to_numpy(whole, f"{table}.{name}")
    return columns


def _to_numpy(array: Any, name: str) -> np.ndarray:
    """Numbers as (V,), arrays and lists of equal length as (V, ...), text and blobs as objects."""
    kind = array.type
    if array.null_count:
        raise DataError(
            f"`{name}` has NULL inside its arrays (NaN, if they come from pandas); fill them first."
        )
    if pa.types.is_fixed_size_list(kind):
        inner = _to_numpy(array.flatten(), name)
        return inner.reshape(len(array), kind.list_size, *inner.shape[1:])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False))
        if lengths.size > 1:
            raise DataError(
                f"`{name}` holds lists of different lengths ({lengths[0]} to {lengths[-1]}); "
                "pad them, or pass encode= that does."
            )
        inner = _to_numpy(array.flatten(), name)
        return inner.reshape(len(array), -1, *inner.shape[1:])
    if pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    try:
        return array.to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise DataError(
            f"`{name}` has the type {kind}, which no model can read; make it a column of numbers, "
            "arrays or text."
        ) from None


def _encode(
    registered: RegisteredModel, columns: Mapping[str, np.ndarray], num_rows: int, table: str
) -> PyTree:
    if registered.encode is not None:
        inputs = _encoded(registered.encode, columns)
    else:
        inputs = _default_inputs(registered, columns, table)
    if check_inputs(inputs) != num_rows:
        raise ShapeError(
            f"`encode` returned {np.shape(jax.tree.leaves(inputs)[0])[0]} rows for the {num_rows} "
            f"rows of `{table}`; it must keep one model input per table row."
        )
    return inputs


def _encoded(encode: Encode, columns: Mapping[str, np.ndarray]) -> PyTree:
    """What the user's function makes of the columns.

    Raises
    ------
    ModelError : it fails, returns None, or arrays of something else than numbers.
    """
    try:
        inputs = encode(*columns.values())
    except Exception as problem:
        raise ModelError(
            f"`encode` fails on the columns {', '.join(columns)}: {named(problem)}"
        ) from problem
    if inputs is None:
        raise ModelError("`encode` returned None; it must return the model's inputs.")
    for leaf in jax.tree.leaves(inputs):
        dtype = getattr(leaf, "dtype", None)
        if isinstance(dtype, np.dtype) and dtype.kind in "USTOmM":
            raise ModelError(
                f"`encode` returned an array of type {dtype}; the model needs numeric arrays."
            )
    return inputs


def _default_inputs(
    registered: RegisteredModel, columns: Mapping[str, np.ndarray], table: str
) -> np.ndarray:
    """One array column as it is; scalar numeric columns side by side (V, number of arguments)."""
    assert registered.model is not None
    arrays = list(columns.values())
    dtype = np.dtype(registered.model.theta.dtype)
    if any(array.dtype.kind not in "iufb" for array in arrays):
        names = [name for name, array in columns.items() if array.dtype.kind not in "iufb"]
        raise DataError(
            f"`{table}.{names[0]}` is not numeric; pass encode= to register_model('"
            f"{registered.name}', ...), a function from the argument columns to model inputs."
        )
    if len(arrays) == 1 and arrays[0].ndim > 1:
        array = arrays[0]
        return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array
    if any(array.ndim > 1 for array in arrays):
        raise DataError(
            f"`{registered.name}` has array and scalar arguments; pass encode= to combine them."
        )
    return np.stack(arrays, axis=-1).astype(dtype)
