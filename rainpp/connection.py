"""One DuckDB connection: one question at a time, and its own errors as ours, in one line."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import duckdb

from rainpp.errors import DataError, QueryError
from rainpp.relax.catalog import clean

_locks: WeakKeyDictionary[duckdb.DuckDBPyConnection, threading.RLock] = WeakKeyDictionary()
_choosing = threading.Lock()


@contextmanager
def exclusive(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    """Keep other threads of rainpp off `connection`, and let no error of DuckDB's through.

    Without the lock two threads take each other's rows: DuckDB keeps one pending result for a
    connection.

    Raises
    ------
    DataError : the connection is closed.
    QueryError : DuckDB refuses for another reason, or the SQL is nested too deeply to be read.
    """
    with _lock_of(connection):
        try:
            yield
        except duckdb.Error as problem:
            raise _ours(problem) from problem
        except RecursionError:
            raise QueryError(
                "the SQL is nested too deeply to be read; use fewer parentheses and shorter chains."
            ) from None


def check_open(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a closed connection.

    Raises
    ------
    DataError : it is closed.
    """
    with exclusive(connection):
        connection.execute("SELECT 1").fetchall()


def _lock_of(connection: duckdb.DuckDBPyConnection) -> threading.RLock:
    with _choosing:
        return _locks.setdefault(connection, threading.RLock())


def _ours(problem: duckdb.Error) -> DataError | QueryError:
    said = clean(problem)
    if isinstance(problem, duckdb.ConnectionException) and "closed" in said:
        return DataError("the database connection is closed; open it again with rainpp.connect.")
    return QueryError(f"DuckDB refuses: {said}.")
