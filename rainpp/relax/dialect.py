"""Parse SQL in DuckDB's dialect with registered predictions as plain function calls.

sqlglot owns a function named PREDICT whose second argument is mandatory, so the paper's own
``predict(x)``, ``predict(*)`` and ``predict(L)`` do not parse in its DuckDB dialect. The dialect
built here forgets every name the user registered; those calls parse as anonymous functions and
are rendered as they were written.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError

from rainpp.errors import QueryError, UnsupportedQueryError

_FUNCTION_TABLES = ("FUNCTIONS", "FUNCTION_PARSERS", "NO_PAREN_FUNCTION_PARSERS")


@lru_cache(maxsize=64)
def _dialect_for(names: frozenset[str]) -> Dialect:
    base = cast(Any, DuckDB.Parser)
    tables = {
        table: {key: made for key, made in getattr(base, table).items() if key not in names}
        for table in _FUNCTION_TABLES
    }
    parser = type("Parser", (base,), tables)
    dialect = type("PredictingDuckDB", (DuckDB,), {"Parser": parser})
    return cast(Dialect, dialect())


def dialect_for(names: Iterable[str]) -> Dialect:
    """DuckDB's dialect in which `names` (any case, and PREDICT) are not built-in functions."""
    return _dialect_for(frozenset(name.upper() for name in names) | {"PREDICT"})


def render(node: exp.Expr, dialect: Dialect) -> str:
    """SQL of `node` that keeps the user's spelling of function names where sqlglot kept it."""
    return node.sql(dialect=dialect, normalize_functions=False)


def spelling(node: exp.Expr, sql: str, dialect: Dialect) -> str:
    """The part of `sql` that `node` was parsed from, or its rendering if that cannot be found."""
    rendered = render(node, dialect)
    wanted = [token.text.upper() for token in dialect.tokenize(rendered)]
    tokens = dialect.tokenize(sql)
    texts = [token.text.upper() for token in tokens]
    for start in range(len(texts) - len(wanted) + 1):
        if texts[start : start + len(wanted)] == wanted:
            return sql[tokens[start].start : tokens[start + len(wanted) - 1].end + 1]
    return rendered


def parse_select(sql: str, dialect: Dialect) -> exp.Select:
    """The one SELECT statement in `sql`.

    Raises
    ------
    QueryError : `sql` is empty or does not parse; the message underlines the place.
    UnsupportedQueryError : several statements, or a statement that is not a SELECT.
    """
    statements = [tree for tree in _parse(sql, dialect) if tree is not None]
    if not statements:
        raise QueryError("the query is empty; write one SELECT statement.")
    if len(statements) > 1:
        raise UnsupportedQueryError(
            spelling(statements[1], sql, dialect),
            why=f"there are {len(statements)} statements",
            instead="Send one SELECT statement at a time",
        )
    tree = statements[0]
    if isinstance(tree, exp.Select):
        return tree
    if isinstance(tree, exp.SetOperation):
        why, instead = "set operations have no relaxation yet", "Query each SELECT on its own"
    else:
        why, instead = "it is not a SELECT", "Only SELECT statements can be relaxed"
    raise UnsupportedQueryError(spelling(tree, sql, dialect), why=why, instead=instead)


def _parse(sql: str, dialect: Dialect) -> list[exp.Expr | None]:
    try:
        return dialect.parse(sql)
    except ParseError as error:
        raise QueryError(_underlined(sql, error)) from None
    except TokenError as error:
        raise QueryError(f"the SQL cannot be read: {str(error).splitlines()[0]}") from None


def _underlined(sql: str, error: ParseError) -> str:
    """One message: what is wrong, line and column, the line itself, carets under the place."""
    if not error.errors:
        return f"the SQL does not parse: {error}"
    first = error.errors[0]
    highlight = str(first.get("highlight") or "")
    line = int(first.get("line") or 1)
    text = sql.splitlines()[line - 1] if sql.splitlines() else ""
    width = max(1, len(highlight.splitlines()[0]) if highlight else 1)
    start = max(0, int(first.get("col") or 1) - width)
    what = str(first.get("description") or "syntax error").rstrip(".")
    return (
        f"the SQL does not parse: {what}, line {line}, column {start + 1}\n"
        f"  {text}\n  {' ' * start}{'^' * width}"
    )
