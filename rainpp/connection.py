"""A DuckDB connection: opened, asked one question at a time, its errors as ours in one line."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import duckdb

from rainpp.errors import DataError, QueryError, one_line
from rainpp.relax.catalog import clean
from rainpp.relax.dialect import TOO_DEEP

_locks: WeakKeyDictionary[duckdb.DuckDBPyConnection, threading.RLock] = WeakKeyDictionary()
_choosing = threading.Lock()


@contextmanager
def exclusive(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    """Keep other threads of rainpp off `connection`, and let no error of DuckDB's through.

    Without the lock two threads take each other's rows: DuckDB keeps one pending result for a
    connection.

    Raises
    ------
    KeyboardInterrupt : the query was interrupted.
    DataError : the connection is closed.
    QueryError : DuckDB refuses for another reason, or the SQL is nested too deeply to be read.
    """
    with _lock_of(connection):
        try:
            yield
        except duckdb.InterruptException as problem:
            raise KeyboardInterrupt from problem
        except duckdb.Error as problem:
            raise _ours(problem) from problem
        except RuntimeError as problem:
            # DuckDB's Python client says so when Ctrl-C reaches it in the middle of a query.
            if "interrupted" in str(problem).lower():
                raise KeyboardInterrupt from problem
            if not isinstance(problem, RecursionError):
                raise
            raise QueryError(TOO_DEEP) from None


def check_open(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a closed connection.

    Raises
    ------
    DataError : it is closed.
    """
    with exclusive(connection):
        connection.execute("SELECT 1").fetchall()


def sealed() -> duckdb.DuckDBPyConnection:
    """A database in memory that reads and writes no file, and sees no variable of Python's."""
    found = duckdb.connect()
    found.execute("SET enable_external_access = false")
    found.execute("SET python_enable_replacements = false")
    return found


def open_file(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file; one that this process has open otherwise is shared as it is.

    Raises
    ------
    DataError : there is no such file, it is no DuckDB database, or another process writes to it.
    """
    _check_file(path)
    try:
        return duckdb.connect(str(path), read_only=read_only)
    except duckdb.ConnectionException:
        # The same process holds it open for writing: DuckDB allows only the same mode again.
        return duckdb.connect(str(path), read_only=not read_only)
    except duckdb.Error as problem:
        first = one_line(problem)
        if "lock" in first:
            first += " End that process, or open a copy of the file."
        raise DataError(f"cannot open `{path}` as a DuckDB database: {first}") from None


def _check_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        found = path.is_dir()
    except (OSError, ValueError) as problem:
        raise DataError(f"cannot open the database `{path}`: {problem}.") from None
    if found:
        raise DataError(f"`{path}` is a directory; give the path of a DuckDB file.")
    raise DataError(f"there is no database file `{path}`; check the path.")


def _lock_of(connection: duckdb.DuckDBPyConnection) -> threading.RLock:
    with _choosing:
        return _locks.setdefault(connection, threading.RLock())


def _ours(problem: duckdb.Error) -> DataError | QueryError:
    said = clean(problem)
    if isinstance(problem, duckdb.ConnectionException) and "closed" in said:
        return DataError("the database connection is closed; open it again with rainpp.connect.")
    return QueryError(f"DuckDB refuses: {said}.")
