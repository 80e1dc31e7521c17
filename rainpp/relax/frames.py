"""Frames and files under a name of the user's choice, for the length of one connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from sqlglot import exp

from rainpp.errors import DataError, QueryError
from rainpp.relax.catalog import clean, find_table, quote, rows
from rainpp.relax.numbered import HIDDEN

_SOURCES = "a pandas DataFrame, an Arrow table, or the path of Parquet, CSV or JSON files"


def register_table(con: duckdb.DuckDBPyConnection, name: str, source: Any) -> None:
    """Let SQL on `con` read `source` as the table `name`; a name registered before is given anew.

    Raises
    ------
    QueryError : `name` is no name, or belongs to a table or view of the database.
    DataError : `source` is nothing that can be read as a table.
    """
    _check_name(con, name)
    if isinstance(source, str | Path):
        _register_files(con, name, str(source))
    else:
        con.register(name, _arrow(source))


def _check_name(con: duckdb.DuckDBPyConnection, name: str) -> None:
    if not isinstance(name, str) or not name.strip() or "\0" in name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QueryError(f"`name` is {name!r}; it must be the name of a table.")
    taken = rows(
        con,
        "SELECT 1 FROM duckdb_tables() WHERE lower(table_name) = lower($1) AND NOT internal "
        "UNION ALL SELECT 1 FROM duckdb_views() WHERE lower(view_name) = lower($1) "
        "AND NOT temporary AND NOT internal",
        [name],
    )
    if taken or name.lower().startswith(HIDDEN):
        raise QueryError(f"`{name}` is already a table of the database; choose another name.")


def _register_files(con: duckdb.DuckDBPyConnection, name: str, path: str) -> None:
    try:
        con.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS SELECT * FROM {quote(path)}")
        find_table(con, exp.Table(this=exp.to_identifier(name, quoted=True)), name)
    except (duckdb.Error, QueryError) as problem:
        con.execute(f"DROP VIEW IF EXISTS temp.main.{quote(name)}")
        raise DataError(f"cannot read `{path}` as a table: {clean(problem)}.") from None


def _arrow(source: Any) -> pa.Table:
    """A frame as it is now: later changes to it do not reach the table."""
    try:
        if isinstance(source, pd.DataFrame):
            table = pa.Table.from_pandas(source.copy(), preserve_index=False)
        elif hasattr(source, "__arrow_c_stream__") or isinstance(source, pa.RecordBatch):
            table = pa.table(source)
        else:
            raise DataError(f"`source` is a {type(source).__name__}; give {_SOURCES}.")
    except (pa.ArrowException, ValueError, TypeError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(f"`source` cannot be read as a table: {clean(problem)}.") from None
    if not table.num_columns:
        raise DataError("`source` has no columns; a table needs at least one.")
    names = [str(column).lower() for column in table.column_names]
    twice = next((column for column in names if names.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"`source` has two columns named `{twice}`; SQL could not tell them apart.")
    return table
