"""What the connected database holds: tables, their columns, functions that matter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import duckdb
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError
from sqlglot.tokenizer_core import TokenType

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.dialect import render
from rainpp.relax.numbered import HIDDEN, Reader, number_rows, reader_of
from rainpp.relax.query import hole_name

# One statement takes 0.7 ms, three take 1.3 ms; asking for the text of views, too, 0.6 ms more.
_CATALOGUE = (
    "SELECT current_database(), current_schema(), NULL, '' UNION ALL "
    "SELECT database_name, schema_name, table_name, 'table' FROM duckdb_tables() "
    "WHERE NOT internal UNION ALL "
    "SELECT database_name, schema_name, view_name, 'view' FROM duckdb_views() WHERE NOT internal"
)
_VIEW = (
    "SELECT database_name, schema_name, view_name, sql, tags['duckdb_python_register'] "
    "FROM duckdb_views() WHERE (database_name, schema_name, view_name) = ($1, $2, $3)"
)
Entry = tuple[object, ...]
_PLAIN = {"expressions", "from_"}
_NAMES = {"this", "db", "catalog", "alias"}
_COPY_FIRST = "Make it a table first: CREATE TABLE name AS SELECT ..."


@dataclass(frozen=True, slots=True)
class Names:
    """(database, schema, name) of the tables and views there are.

    `default` is the schema of the connection, `inside` the one in which bare names are looked up.
    """

    default: Entry
    inside: Entry
    tables: tuple[Entry, ...]
    views: tuple[Entry, ...]


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
    text = str(error).split("\n\nLINE ")[0].split("Stack Trace:")[0]
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


def read_names(con: duckdb.DuckDBPyConnection) -> Names:
    """What the catalogue holds now; read it once for every query that is planned."""
    found = rows(con, _CATALOGUE)
    default = next(entry[:2] for entry in found if entry[3] == "")
    tables = (e[:3] for e in found if e[3] == "table" and not str(e[2]).startswith(HIDDEN))
    return Names(default, default, tuple(tables), tuple(e[:3] for e in found if e[3] == "view"))


def find_table(
    con: duckdb.DuckDBPyConnection, table: exp.Table, shown: str, names: Names | None = None
) -> TableEntry:
    """The rows that `table` names, as DuckDB resolves it: a table, a file, a registered frame.

    A view that only renames one of these (SELECT * FROM it) stands for it: for a table under the
    table's name, for a file or a frame under the view's own. `names` spares reading the catalogue.

    Raises
    ------
    QueryError : nothing of that name exists; the message lists tables, views and frames there are.
    UnsupportedQueryError : it is any other view, which has no row ids.
    """
    return _find(con, table, shown, names or read_names(con))


def _find(con: duckdb.DuckDBPyConnection, table: exp.Table, shown: str, names: Names) -> TableEntry:
    reader = reader_of(table)
    if not isinstance(table.this, exp.Identifier):
        if reader is None:
            why = "it is neither a table nor files"
            raise UnsupportedQueryError(shown, why=why, instead=_COPY_FIRST)
        return _numbered(con, reader, shown)
    view = _view_entry(con, table, names)
    if view is not None:
        return _through_view(con, view, shown, names)
    matches = _matching(names.tables, table, names.inside)
    if matches:
        found = min(matches, key=_temporary_first)
        qualified = _qualified(found)
        return TableEntry(_display(names, found), qualified, _columns(con, qualified))
    if reader is not None:
        return _numbered(con, reader, shown)
    listed = [str(entry[2]) for entry in [*names.tables, *names.views]]
    known = [name for name in listed if not name.startswith(HIDDEN)]
    raise QueryError(f"there is no table `{shown}`{suggest(table.name, known, 'tables and views')}")


def has_rows(node: exp.Expr) -> bool:
    """Whether `find_table` can be asked about what stands after FROM: a name or files."""
    if not isinstance(node, exp.Table):
        return False
    return isinstance(node.this, exp.Identifier) or reader_of(node) is not None


def names_files(node: exp.Table) -> bool:
    """Whether `node` reads files, if no table has that name."""
    return reader_of(node) is not None


def default_alias(node: exp.Table) -> str:
    """The name columns of `node` are reached by when it has no alias."""
    reader = reader_of(node)
    return node.name if reader is None else reader.alias


def find_view(
    con: duckdb.DuckDBPyConnection, table: exp.Table, names: Names | None = None
) -> str | None:
    """The SELECT that the view named by `table` stands for; None when it names no view.

    A view that `find_table` takes for a table is none here. A list of column names in the view's
    definition becomes one around its SELECT. A temporary table hides a view of the same name, as in
    DuckDB.

    Raises
    ------
    UnsupportedQueryError : the parser cannot read the view's definition back.
    """
    names = names or read_names(con)
    view = _view_entry(con, table, names)
    if view is None or _source(view) is not None:
        return None
    body = _view_body(str(view[3]))
    try:
        tree = cast(exp.Expr, DuckDB().parse(body)[0])
    except ParseError:
        why = "the definition of this view cannot be read back"
        raise UnsupportedQueryError(str(view[2]), why=why, instead=_COPY_FIRST) from None
    inside = _names_inside(view, names)
    return body if inside == names else _spelled_out(tree, view, names)


def _spelled_out(tree: exp.Expr, view: Entry, names: Names) -> str:
    """The SELECT of a view in another schema, with that schema before the names it finds there."""
    here = [entry for entry in [*names.tables, *names.views] if entry[:2] == view[:2]]
    hiding = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        named = not table.db and table.name.lower() not in hiding
        if named and any(_same(entry[2], table.name) for entry in here):
            table.set("db", exp.to_identifier(str(view[1]), quoted=True))
            table.set("catalog", exp.to_identifier(str(view[0]), quoted=True))
    return render(tree, DuckDB())


def _view_entry(con: duckdb.DuckDBPyConnection, table: exp.Table, names: Names) -> Entry | None:
    """The view that DuckDB takes `table` for, None if a table of that name hides it."""
    views = _matching(names.views, table, names.inside)
    found = [*views, *_matching(names.tables, table, names.inside)]
    first = min(found, key=_temporary_first, default=())
    return rows(con, _VIEW, list(first))[0] if first in views else None


def _temporary_first(entry: Entry) -> bool:
    return entry[0] != "temp"


def _source(view: Entry) -> exp.Table | None:
    """The one relation a view shows all of; None when it chooses or changes anything."""
    if view[4] is not None:
        return exp.to_table(str(view[2]))
    start, _, rest = _view_body(str(view[3])).partition(" FROM ")
    try:
        tree = DuckDB().parse(f"SELECT * FROM {rest}")[0] if start == "SELECT *" else None
    except ParseError:
        return None
    if tree is None or {key for key, value in tree.args.items() if value} != _PLAIN:
        return None
    inner = cast(exp.Expr, tree.args["from_"].this)
    plain = not any(value and key not in _NAMES for key, value in inner.args.items())
    return inner if plain and isinstance(inner, exp.Table) and has_rows(inner) else None


def _through_view(
    con: duckdb.DuckDBPyConnection, view: Entry, shown: str, names: Names
) -> TableEntry:
    source, name = _source(view), _display(names, view)
    if source is None:
        raise UnsupportedQueryError(
            shown, why="a view has no row ids to attach predictions to", instead=_COPY_FIRST
        )
    if view[4] is not None:
        return _numbered(con, Reader(_qualified(view), name, name, None), shown)
    entry = _find(con, source, shown, _names_inside(view, names))
    hidden = entry.qualified.startswith(f'"temp"."main"."{HIDDEN}')
    return replace(entry, shown=name) if hidden else entry


def _names_inside(view: Entry, names: Names) -> Names:
    """Where names without a schema are looked up inside a view: in its own schema."""
    return names if view[0] == "temp" else replace(names, inside=view[:2])


def _numbered(con: duckdb.DuckDBPyConnection, reader: Reader, shown: str) -> TableEntry:
    try:
        return TableEntry(reader.shown, *number_rows(con, reader))
    except duckdb.Error as problem:
        raise QueryError(f"cannot read `{shown}`: {clean(problem)}.") from None


def _qualified(entry: Entry) -> str:
    return ".".join(quote(str(part)) for part in entry[:3])


def _display(names: Names, entry: Entry) -> str:
    """The shortest name that SQL resolves to a table or view."""
    default = names.default
    where, inside, stored = (str(part) for part in entry[:3])
    if where == "temp" or (where, inside) == default:
        return stored
    parts = [inside, stored] if where == default[0] else [where, inside, stored]
    return ".".join(_quote_if_needed(part) for part in parts)


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


def _matching(entries: Iterable[Entry], table: exp.Table, default: Entry) -> list[Entry]:
    """The (database, schema, name, ...) entries that `table` may mean."""
    return [
        entry
        for entry in entries
        if _same(entry[2], table.name) and _lies_in(entry, table.catalog, table.db, default)
    ]


def _same(left: object, right: object) -> bool:
    return str(left).lower() == str(right).lower()


def _lies_in(entry: Entry, catalog: str, schema: str, default: Entry) -> bool:
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
    return tuple(con.sql(f"FROM {qualified}").columns)  # DESCRIBE: 0.2 ms, this: 0.06 ms


def suggest(name: str, existing: list[str], what: str) -> str:
    """The rest of a sentence about an unknown name: what exists, and what may be meant."""
    if not existing:
        return f"; there are no {what}."
    listed = ", ".join(sorted(set(existing))[:20])
    close = difflib.get_close_matches(name.lower(), [entry.lower() for entry in existing], n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return f"; the {what} are: {listed}.{hint}"
