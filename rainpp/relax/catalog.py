"""What the connected database holds: tables, their columns, functions that matter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import duckdb
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokenizer_core import TokenType

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.query import hole_name

_DEFAULT = "SELECT current_database(), current_schema()"
_TABLES = "SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
_VIEWS = "SELECT database_name, schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal"
_COPY_FIRST = "Make it a table first: CREATE TABLE name AS SELECT ..."


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A base table: the name users see, a name that always resolves, its columns in order."""

    shown: str
    qualified: str
    columns: tuple[str, ...]


def quote(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def clean(error: Exception, calls: Iterable[tuple[tuple[int, int], str]] = ()) -> str:
    """DuckDB's message in one line, without the position in SQL the user never wrote.

    `calls` says how the user wrote each hole; without it a hole is called "the prediction".
    """
    text = str(error).split("\n\nLINE ")[0]
    for hole, call in calls:
        text = text.replace(hole_name(hole), call)
    text = re.sub("__prediction_[0-9]+_of_[0-9]+", "the prediction", text)
    return re.sub(r"\s*\n\s*", " ", text).strip().rstrip(".")


def rows(
    con: duckdb.DuckDBPyConnection, sql: str, values: list[object] | None = None
) -> list[tuple[object, ...]]:
    """All rows of `sql`; fetched completely so that the connection is not left busy."""
    return con.execute(sql, values).fetchall()


@lru_cache(maxsize=1)
def builtin_functions() -> tuple[frozenset[str], frozenset[str]]:
    """Names of DuckDB's aggregate functions and of its volatile ones, lower case."""
    with duckdb.connect() as con:
        found = rows(
            con,
            "SELECT DISTINCT lower(function_name), function_type = 'aggregate' "
            "FROM duckdb_functions() WHERE function_type = 'aggregate' OR stability = 'VOLATILE'",
        )
    aggregates = frozenset(str(name) for name, aggregate in found if aggregate)
    volatile = frozenset(str(name) for name, aggregate in found if not aggregate)
    return aggregates, volatile


def find_table(con: duckdb.DuckDBPyConnection, table: exp.Table, shown: str) -> TableEntry:
    """The base table that `table` names, matched as DuckDB does, without regard to case.

    Raises
    ------
    QueryError : nothing of that name exists; the message lists the tables there are.
    UnsupportedQueryError : it is a view, a file or a registered object, which have no row ids.
    """
    name = table.name
    database, default = rows(con, _DEFAULT)[0]
    tables = rows(con, _TABLES)
    matches = _matching(tables, table, (database, default))
    if not matches:
        _refuse_missing(con, name, shown, [str(entry[2]) for entry in tables])
    found = min(matches, key=lambda entry: entry[0] != "temp")
    where, inside, stored = (str(part) for part in found)
    qualified = ".".join(quote(part) for part in (where, inside, stored))
    if where == "temp" or (where, inside) == (database, default):
        display = stored
    else:
        parts = [inside, stored] if where == database else [where, inside, stored]
        display = ".".join(_quote_if_needed(part) for part in parts)
    return TableEntry(display, qualified, _columns(con, qualified))


def find_view(con: duckdb.DuckDBPyConnection, table: exp.Table) -> str | None:
    """The SELECT that the view named by `table` stands for; None when it names no view.

    A list of column names in the view's definition becomes one around its SELECT. A temporary table
    hides a view of the same name, as in DuckDB.
    """
    default = rows(con, _DEFAULT)[0]
    views = _matching(rows(con, _VIEWS), table, default)
    if not views:
        return None
    found = min(views, key=lambda entry: entry[0] != "temp")
    hiding = _matching(rows(con, _TABLES), table, default)
    if found[0] != "temp" and any(entry[0] == "temp" for entry in hiding):
        return None
    return _view_body(str(found[3]))


def _view_body(sql: str) -> str:
    """The SELECT of a CREATE VIEW statement as DuckDB writes it down, in DuckDB's own words."""
    tokens = DuckDB().tokenize(sql)
    kinds = [token.token_type for token in tokens]
    start = kinds.index(TokenType.ALIAS)
    text = sql[tokens[start].end + 1 :].strip().rstrip(";")
    if kinds[start - 1] != TokenType.R_PAREN:
        return text
    opening = tokens[kinds.index(TokenType.L_PAREN)].start
    return f"SELECT * FROM ({text}) AS named{sql[opening : tokens[start].start].strip()}"


def _matching(
    entries: list[tuple[object, ...]], table: exp.Table, default: tuple[object, ...]
) -> list[tuple[object, ...]]:
    """The (database, schema, name, ...) entries that `table` may mean."""
    return [
        entry
        for entry in entries
        if _same(entry[2], table.name) and _lies_in(entry, table.catalog, table.db, default)
    ]


def _same(left: object, right: object) -> bool:
    return str(left).lower() == str(right).lower()


def _lies_in(
    entry: tuple[object, ...], catalog: str, schema: str, default: tuple[object, ...]
) -> bool:
    database, inside = entry[0], entry[1]
    if catalog:
        return _same(database, catalog) and _same(inside, schema)
    if schema:
        in_schema = _same(inside, schema) and database in (default[0], "temp")
        return in_schema or (_same(database, schema) and inside == "main")
    return (database, inside) == default or database == "temp"


def _quote_if_needed(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else quote(name)


def _columns(con: duckdb.DuckDBPyConnection, qualified: str) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in rows(con, f"DESCRIBE {qualified}"))


def _refuse_missing(
    con: duckdb.DuckDBPyConnection, name: str, shown: str, tables: list[str]
) -> None:
    views = rows(con, "SELECT view_name FROM duckdb_views() WHERE NOT internal")
    if any(_same(view[0], name) for view in views):
        raise UnsupportedQueryError(
            shown, why="a view has no row ids to attach predictions to", instead=_COPY_FIRST
        )
    if "." in name or "/" in name:
        raise UnsupportedQueryError(
            shown, why="a file has no row ids to attach predictions to", instead=_COPY_FIRST
        )
    raise QueryError(f"there is no table `{shown}`{suggest(name, tables, 'tables')}")


def suggest(name: str, existing: list[str], what: str) -> str:
    """The rest of a sentence about an unknown name: what exists, and what may be meant."""
    if not existing:
        return f"; there are no {what}."
    listed = ", ".join(sorted(set(existing))[:20])
    close = difflib.get_close_matches(name.lower(), [entry.lower() for entry in existing], n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return f"; the {what} are: {listed}.{hint}"
