"""Why a row is not in an answer, whatever is predicted: the first certain condition in its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import quote, rows
from rainpp.relax.dialect import dialect_for, parse_query
from rainpp.relax.plan import make_plan
from rainpp.relax.query import Query
from rainpp.types import ClassValue


@dataclass(frozen=True)
class _Condition:
    """One certain condition: its SQL, the user's spelling, and the value it compares a key with."""

    sql: str
    shown: str
    value: tuple[object, ...] = ()


def blocker(con: duckdb.DuckDBPyConnection, query: Query, key: Mapping[int, object]) -> str | None:
    """What keeps the group with these key values, by place in GROUP BY, out of the answer.

    Conditions are added one by one, the keys first; the one that leaves no row of the tables is
    named. None if rows pass all of them: then it is a condition on predictions.
    """
    conditions = _keys(query, key) + [_Condition(c.sql, c.shown) for c in query.certain_conditions]
    for count, condition in enumerate(conditions, start=1):
        if not _any_row(con, query, conditions[:count]):
            return _sentence(query, condition, conditions[: count - 1])
    return None


def blocker_beyond_a_block(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    functions: Mapping[str, tuple[ClassValue, ...]],
    where: Mapping[str, object],
) -> str | None:
    """`blocker` for the rows that FROM and WHERE of any query leave to the rest of it.

    None also where these are not tables and inner joins, so that nothing is known.
    """
    dialect = dialect_for(functions)
    try:
        tree = parse_query(sql, dialect)
        if not isinstance(tree, exp.Select):
            return None
        query = make_plan(_grouped(tree, where).sql(dialect=dialect), con, functions).query
    except (QueryError, UnsupportedQueryError, KeyError):
        return None
    return blocker(con, query, dict(enumerate(where.values())))


def _grouped(tree: exp.Select, where: Mapping[str, object]) -> exp.Select:
    """The tables and certain conditions of a SELECT, grouped by the items that `where` names."""
    items = {item.alias_or_name: item.unalias() for item in tree.expressions}
    keys = [items[name] for name in where]
    kept = {part: tree.args.get(part) for part in ("from_", "joins", "where")}
    found = exp.Select(**{part: node for part, node in kept.items() if node}).copy()
    found = found.select(*(key.copy() for key in keys), exp.alias_(exp.Count(this=exp.Star()), "n"))
    return found.group_by(*(key.copy() for key in keys))


def uncertain(query: Query) -> str:
    """The conditions on predictions as the user wrote them."""
    return " AND ".join(f"`{c.shown}`" for c in query.conditions if c.holes)


def _keys(query: Query, key: Mapping[int, object]) -> list[_Condition]:
    found: list[_Condition] = []
    for place, value in key.items():
        scalar = query.keys[place].scalar
        if not scalar.holes:
            shown = (
                f"{scalar.shown} = {value!r}" if value is not None else f"{scalar.shown} IS NULL"
            )
            found.append(_Condition(f"({scalar.sql}) IS NOT DISTINCT FROM ?", shown, (value,)))
    return found


def _any_row(con: duckdb.DuckDBPyConnection, query: Query, conditions: list[_Condition]) -> bool:
    """Whether a row of the joined tables passes; a value DuckDB cannot compare passes nowhere."""
    tables = ", ".join(f"{s.qualified} AS {quote(s.alias)}" for s in query.sources)
    where = " AND ".join(f"({condition.sql})" for condition in conditions)
    values = [value for condition in conditions for value in condition.value]
    try:
        return bool(rows(con, f"SELECT 1 FROM {tables} WHERE {where} LIMIT 1", values))
    except duckdb.Error:
        return False


def _sentence(query: Query, condition: _Condition, before: list[_Condition]) -> str:
    tables = ", ".join(f"`{source.table}`" for source in query.sources)
    rest = " AND ".join(f"`{item.shown}`" for item in before)
    return f"`{condition.shown}` holds for no row of {tables}" + (f" where {rest}" if rest else "")
