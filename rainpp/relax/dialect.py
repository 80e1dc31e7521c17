"""Parse SQL in DuckDB's dialect with registered predictions as plain function calls.

sqlglot owns a function named PREDICT whose second argument is mandatory, so the paper's own
``predict(x)``, ``predict(*)`` and ``predict(L)`` do not parse in its DuckDB dialect. The dialect
built here forgets every name the user registered; those calls parse as anonymous functions and
are rendered as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rainpp.errors import QueryError, RainError, UnsupportedQueryError

TOO_DEEP = "the SQL is nested too deeply to be read; use fewer parentheses and shorter chains."
_LOOKING = re.compile("DESC|DESCRIBE|EXPLAIN|SHOW|SUMMARIZE")
_CHANGING = re.compile(
    "ALTER|ANALYZE|ATTACH|BEGIN|CALL|CHECKPOINT|COMMENT|COMMIT|COPY|CREATE|DEALLOCATE|DELETE|DETACH"
    "|DROP|EXECUTE|EXPORT|FORCE|IMPORT|INSERT|INSTALL|LOAD|MERGE|PRAGMA|PREPARE|REINDEX|REPLACE"
    "|RESET|ROLLBACK|SET|START|TRUNCATE|UPDATE|USE|VACUUM"
)
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


def is_literal(node: exp.Expr) -> bool:
    """Whether an expression is a constant as written, maybe with a minus."""
    inner = node.this if isinstance(node, exp.Neg) else node
    return isinstance(inner, (exp.Literal, exp.Boolean))


def can_be_called(name: str) -> bool:
    """Whether SQL reads `name(x)` as a call of a function, which is not so for `select`."""
    dialect = dialect_for([name])
    try:
        tree = parse_select(f"SELECT count({name}(x)) FROM t", dialect)
    except RainError:
        return False
    return any(call.name.lower() == name.lower() for call in tree.find_all(exp.Anonymous))


def function_names(node: exp.Expr) -> frozenset[str]:
    """Lower-case names of the function `node` calls, none for anything else.

    sqlglot calls random() RAND and RANDOM; rendering a call to learn its name takes as long as the
    call is, and for every part of 10 000 conditions did not end within minutes.
    """
    if isinstance(node, exp.Anonymous):
        return frozenset([node.name.lower()])
    return _names_of_kind(type(node)) if isinstance(node, exp.Func) else frozenset()


@lru_cache(maxsize=1024)
def _names_of_kind(kind: type[exp.Func]) -> frozenset[str]:
    return frozenset(name.lower() for name in kind.sql_names())


def spelling(node: exp.Expr, sql: str, dialect: Dialect) -> str:
    """The part of `sql` that `node` was parsed from, or its rendering if that cannot be found."""
    rendered = node.sql(
        dialect=dialect, normalize_functions=False, unsupported_level=ErrorLevel.IGNORE
    )
    wanted = [token.text.upper() for token in dialect.tokenize(rendered)]
    bounds, texts, places = _tokens(sql, dialect)
    # The rarest token leaves the fewest places to compare: one query may hold 10 000 conditions.
    rarest = min(range(len(wanted)), key=lambda at: len(places.get(wanted[at], ())), default=0)
    for place in places.get(wanted[rarest], ()) if wanted else ():
        start = place - rarest
        if start >= 0 and texts[start : start + len(wanted)] == wanted:
            return sql[bounds[start][0] : bounds[start + len(wanted) - 1][1] + 1]
    return rendered


@lru_cache(maxsize=4)
def _tokens(
    sql: str, dialect: Dialect
) -> tuple[list[tuple[int, int]], list[str], dict[str, list[int]]]:
    """Where each token of `sql` begins and ends, its text, and the places of every text."""
    tokens = dialect.tokenize(sql)
    texts = [token.text.upper() for token in tokens]
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    return [(token.start, token.end) for token in tokens], texts, places


def parse_select(sql: str, dialect: Dialect) -> exp.Select:
    """The one SELECT block in `sql`.

    Raises
    ------
    QueryError, UnsupportedQueryError : as `parse_query`; also a set operation is unsupported.
    """
    tree = parse_query(sql, dialect)
    if isinstance(tree, exp.Select):
        return tree
    raise UnsupportedQueryError(
        spelling(tree, sql, dialect),
        why="it is not one SELECT block",
        instead="Query each SELECT on its own",
    )


def parse_query(sql: str, dialect: Dialect) -> exp.Query:
    """The one query in `sql`: SELECT, a set operation of several, or either in parentheses.

    Raises
    ------
    QueryError : `sql` is empty or does not parse; the message underlines the place.
    UnsupportedQueryError : several statements, or a statement that is not a query.
    """
    written = _statements(sql, dialect)
    if not written:
        raise QueryError("the query is empty; write one SELECT statement.")
    if len(written) > 1:
        raise UnsupportedQueryError(
            written[1],
            why=f"there are {len(written)} statements",
            instead="Send one SELECT statement at a time",
        )
    _check_reads(written[0])
    tree = _parse(sql, dialect)
    _check_no_writes(tree, sql, dialect)
    around = ("with_", "order", "limit", "offset")
    while isinstance(tree, exp.Subquery) and not any(tree.args.get(key) for key in around):
        tree = cast(exp.Expr, tree.this)
    if isinstance(tree, exp.Query):
        return tree
    raise UnsupportedQueryError(
        spelling(tree, sql, dialect),
        why="it is not a SELECT",
        instead="Only SELECT statements can be relaxed",
    )


def _statements(sql: str, dialect: Dialect) -> list[str]:
    """The statements in `sql` as they are written, empty ones left out."""
    tokens = _tokenize(sql, dialect)
    ends = [place for place, t in enumerate(tokens) if t.token_type == TokenType.SEMICOLON]
    bounds = zip([0, *(end + 1 for end in ends)], [*ends, len(tokens)], strict=True)
    return [sql[tokens[a].start : tokens[b - 1].end + 1].strip() for a, b in bounds if a < b]


def _check_reads(statement: str) -> None:
    """Refuse what does not begin as a query, before sqlglot guesses at it."""
    found = re.match(r"\w+", statement)
    word = found[0].upper() if found else ""
    if _LOOKING.fullmatch(word):
        raise UnsupportedQueryError(
            statement,
            why=f"{word} is not a SELECT: it only describes",
            instead="Send the SELECT itself",
        )
    if _CHANGING.fullmatch(word):
        _refuse_write(word, statement)


def _check_no_writes(tree: exp.Expr, sql: str, dialect: Dialect) -> None:
    """Refuse what changes the database inside a statement that begins like a query."""
    for node in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into):
        _refuse_write(node.key.upper(), spelling(node, sql, dialect))


def _refuse_write(word: str, fragment: str) -> None:
    raise UnsupportedQueryError(
        fragment,
        why=f"{word} is not a SELECT: it changes the database or the session",
        instead="rainpp only reads; run it in DuckDB yourself",
    )


def _tokenize(sql: str, dialect: Dialect) -> list[Token]:
    try:
        return dialect.tokenize(sql)
    except TokenError as error:
        raise QueryError(_unfinished(sql, error)) from None


def _parse(sql: str, dialect: Dialect) -> exp.Expr:
    try:
        return next(tree for tree in dialect.parse(sql) if tree is not None)
    except ParseError as error:
        raise QueryError(_underlined(sql, error)) from None
    except RecursionError:
        raise QueryError(TOO_DEEP) from None


def _unfinished(sql: str, error: TokenError) -> str:
    """Where a quote or a comment opens that never closes."""
    found = re.search(r"Missing (.+) from \d+:(\d+)$", str(error.__cause__))
    if found is not None:
        what, place = f"{found[1]} is never closed", int(found[2])
    elif "/*" in sql:
        what, place = "/* is never closed", sql.rindex("/*")
    else:
        what, place = "a character that is not SQL", int(error.end or 0)
    line = sql.count("\n", 0, place)
    return _pointed(sql, what, line, place - (sql.rfind("\n", 0, place) + 1))


def _underlined(sql: str, error: ParseError) -> str:
    if not error.errors:
        return f"the SQL does not parse: {error}"
    first = error.errors[0]
    highlight = str(first.get("highlight") or "")
    width = max(1, len(highlight.splitlines()[0]) if highlight else 1)
    start = max(0, int(first.get("col") or 1) - width)
    what = str(first.get("description") or "syntax error").rstrip(".")
    what = re.sub(r"Required keyword: .* missing for <class .*>", "something is missing here", what)
    return _pointed(sql, what, int(first.get("line") or 1) - 1, start, width)


def _pointed(sql: str, what: str, line: int, column: int, width: int = 1) -> str:
    """One message: what is wrong, line and column, the line itself, carets under the place."""
    lines = sql.splitlines()
    text = lines[line] if line < len(lines) else ""
    return (
        f"the SQL does not parse: {what}, line {line + 1}, column {column + 1}\n"
        f"  {text}\n  {' ' * column}{'^' * width}"
    )
