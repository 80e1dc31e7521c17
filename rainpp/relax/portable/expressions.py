"""Which SQL expressions mean the same in every database, and how they are written for each.

Text is made in DuckDB's dialect and rendered for another one at the very end (`render_for`). An
expression is let through only if all its parts are on a list: `7 / 2`, `x % 2`, LIKE and CAST are
spelled alike and differ between databases, so they are rewritten or refused by name.
"""

from __future__ import annotations

import datetime
import decimal
import math
from typing import cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, UnsupportedError

from rainpp.errors import QueryError, UnsupportedQueryError

DIALECTS = {
    "duckdb": "duckdb",
    "sqlite": "sqlite",
    "postgres": "postgres",
    "spark": "spark",
    # DataFusion reads standard SQL, which is what sqlglot writes when no dialect is named.
    "datafusion": "",
}
_SAME_EVERYWHERE = (
    *(exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren),
    *(exp.And, exp.Or, exp.Not, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Between, exp.In),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Add, exp.Sub, exp.Mul, exp.Neg),
    *(exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Abs, exp.DataType),
)
_WILD = str.maketrans({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"})


def portable(node: exp.Expr, shown: str) -> exp.Expr:
    """A copy of `node` that means the same in every database.

    Raises
    ------
    UnsupportedQueryError : a part of it may not, and there is no rewriting.
    """
    holder = exp.Paren(this=node.copy())
    for part in list(holder.walk()):
        if isinstance(part, exp.Div):
            part.replace(_division(part, shown))
        elif not _known(part):
            _refuse(part.sql(dialect="duckdb"), shown)
    return cast(exp.Expr, holder.this)


def never_null_by_class(node: exp.Expr) -> bool:
    """Whether `node` is NULL for the same rows whatever is predicted: plain arithmetic."""
    strict = (
        *(exp.Column, exp.Identifier, exp.Literal, exp.Paren, exp.Cast, exp.DataType),
        *(exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div),
    )
    return all(isinstance(part, strict) for part in portable(node, "").walk())


def _known(part: exp.Expr) -> bool:
    if isinstance(part, exp.If):
        return isinstance(part.parent, exp.Case)
    if isinstance(part, exp.In):
        return not any(part.args.get(key) for key in ("query", "unnest", "field"))
    if isinstance(part, exp.Like):
        pattern = part.expression
        return isinstance(pattern, exp.Literal) and pattern.is_string and "\\" not in pattern.name
    if isinstance(part, exp.Cast):
        return type(part) is exp.Cast and part.to.is_type("double")
    return isinstance(part, _SAME_EVERYWHERE)


def _division(node: exp.Div, shown: str) -> exp.Expr:
    """DuckDB divides as numbers with a point; 0 below would be NULL, infinity or an error."""
    below = node.expression.unnest()
    if not (isinstance(below, exp.Literal) and not below.is_string and float(below.name) != 0.0):
        _refuse(node.sql(dialect="duckdb"), shown, "a division by anything but a constant")
    above = portable(cast(exp.Expr, node.this), shown)
    return exp.Div(this=exp.cast(above, "double"), expression=exp.cast(below.copy(), "double"))


def _refuse(fragment: str, shown: str, what: str = "it") -> None:
    raise UnsupportedQueryError(
        fragment,
        why=f"{what} differs between databases, so `{shown}` has no portable SQL",
        instead="Store its value in a column of the table",
    )


def literal(value: object, shown: str) -> str:
    """A value of a group key as SQL.

    Raises
    ------
    UnsupportedQueryError : it is a list, a struct or the like.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, (int, decimal.Decimal)):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"CAST({value!r} AS DOUBLE)"
    if isinstance(value, (datetime.date, datetime.datetime)):
        value = str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    raise UnsupportedQueryError(
        repr(value),
        why=f"it has no portable literal, so `{shown}` cannot be a key",
        instead="Group by numbers or text",
    )


def render_for(text: str, dialect: str) -> str:
    """SQL made here, as `dialect` spells it.

    Raises
    ------
    QueryError : no such dialect.
    """
    if dialect not in DIALECTS:
        raise QueryError(f"`dialect` is {dialect!r}; it must be one of {', '.join(DIALECTS)}.")
    tree = sqlglot.parse_one(text, read="duckdb")
    if dialect == "sqlite":
        tree = tree.transform(_as_glob)
    try:
        return tree.sql(dialect=DIALECTS[dialect], pretty=True, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise UnsupportedQueryError(
            text, why=f"{dialect} has no such SQL ({error})", instead="Use another database"
        ) from None


def _as_glob(node: exp.Expr) -> exp.Expr:
    """LIKE in SQLite does not tell upper case from lower case; GLOB does."""
    if not isinstance(node, exp.Like):
        return node
    pattern = exp.Literal.string(node.expression.name.translate(_WILD))
    return exp.Glob(this=node.this, expression=pattern)
