"""Numbers in a query, `predict_proba(x)[class]` and regressions, rewritten as predictions.

What a number may be used for is decided here: a place where the answer is affine in it, inside SUM
or AVG, or a comparison with constants. Anything else is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import rows
from rainpp.relax.dialect import dialect_for, parse_query, render
from rainpp.relax.numbercalls import Call, Functions, find_calls, replaced
from rainpp.relax.pointwise import grouped_by_row, is_row_by_row
from rainpp.relax.query import AMOUNT
from rainpp.relax.smooth import Number

_AFFINE = (exp.Paren, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Alias, exp.Coalesce)
_PLACES: dict[type[exp.Expr], tuple[str, ...]] = {
    exp.Div: ("this",),
    exp.Filter: ("this",),
    exp.If: ("true", "false"),
}
_ORDERED = (exp.GT, exp.GTE, exp.LT, exp.LTE)
_EQUAL = (exp.EQ, exp.NEQ, exp.In, exp.NullSafeEQ, exp.NullSafeNEQ)


@dataclass(frozen=True)
class Numbers:
    """A query in which every number is a prediction by a function of its own.

    `named` says which number a function stands for; `functions` are all that `sql` calls.
    """

    sql: str
    named: Mapping[str, Number]
    functions: Functions

    def spelled(self, text: str) -> str:
        """`text` with the numbers as the user wrote them."""
        for name in sorted(self.named, key=len, reverse=True):
            number = self.named[name]
            call = re.compile(rf'"?{name}"?\(([^()]*)\)', re.IGNORECASE)
            text = call.sub(lambda m, n=number: f"{n.opening}({m[1]}){n.closing}", text)
            text = re.sub(name, number.opening, text, flags=re.IGNORECASE)
        return text

    @contextmanager
    def in_the_users_words(self) -> Generator[None]:
        """Errors about the rewritten query become errors about the user's."""
        try:
            yield
        except UnsupportedQueryError as error:
            parts = [self.spelled(part) for part in (error.fragment, error.why, error.instead)]
            raise UnsupportedQueryError(parts[0], why=parts[1], instead=parts[2]) from None
        except QueryError as error:
            raise QueryError(self.spelled(str(error))) from None


def read_numbers(sql: str, con: duckdb.DuckDBPyConnection, functions: Functions) -> Numbers | None:
    """The rewritten query; None if it uses no number.

    Parameters
    ----------
    functions : registered functions and their classes; a regression has none.

    Raises
    ------
    QueryError : a class that is not there, or no class at all.
    UnsupportedQueryError : a number where only its rounded, ranked or otherwise bent value counts.
    """
    plain = {name: classes for name, classes in functions.items() if classes}
    dialect = dialect_for(functions)
    calls = find_calls(sql, dialect, functions)
    if not calls:
        return None
    numbered = [f"__number_{place}" for place in range(len(calls))]
    tree = _parsed(sql, replaced(sql, calls, numbered), functions, numbered)
    uses = {node.name: node for node in tree.find_all(exp.Anonymous)}
    bounds: list[tuple[float, ...] | None] = []
    for call, name in zip(calls, numbered, strict=True):
        bounds.append(_use(uses[name], call, tree, con))
    names, named = _names(calls, bounds, functions)
    known = plain | {name: number.classes for name, number in named.items()}
    text = replaced(sql, calls, names)
    if None in bounds and is_row_by_row(tree):
        text = _row_by_row(cast(exp.Select, tree), [uses[n] for n in numbered], names, known)
    return Numbers(text, named, known)


def _row_by_row(
    tree: exp.Select, calls: Sequence[exp.Expr], names: Sequence[str], functions: Functions
) -> str:
    for call, name in zip(calls, names, strict=True):
        call.set("this", name)
    amounts = [call for call in calls if AMOUNT in call.name]
    grouped_by_row(tree, amounts, functions)
    return render(tree, dialect_for(functions))


def _parsed(sql: str, text: str, functions: Functions, names: Sequence[str]) -> exp.Query:
    try:
        return parse_query(text, dialect_for([*functions, *names]))
    except (QueryError, UnsupportedQueryError):
        parse_query(sql, dialect_for(functions))  # the same error about the user's own text
        raise


def _use(
    node: exp.Expr, call: Call, tree: exp.Query, con: duckdb.DuckDBPyConnection
) -> tuple[float, ...] | None:
    """The constants a number is compared with, None if the answer is affine in it."""
    child = node
    while isinstance(child.parent, exp.Paren):
        child = child.parent
    parent = child.parent
    if isinstance(parent, _EQUAL):
        raise UnsupportedQueryError(
            call.shown,
            why="a number is hardly ever equal to another",
            instead="Ask for a range around it with BETWEEN",
        )
    if isinstance(parent, (*_ORDERED, exp.Between)):
        others = [value for key, value in parent.args.items() if key != child.arg_key and value]
        return _bounds([cast(exp.Expr, value) for value in others], call, con)
    if not _is_affine(node, tree):
        raise UnsupportedQueryError(
            call.shown,
            why="a number has a relaxation in comparisons with constants, and inside SUM and AVG "
            "or row by row in one SELECT, only added, multiplied and divided by something else",
            instead="Write the query with those",
        )
    return None


def _bounds(
    others: Sequence[exp.Expr], call: Call, con: duckdb.DuckDBPyConnection
) -> tuple[float, ...]:
    found: set[float] = set()
    for other in others:
        if other.find(exp.Column, exp.Anonymous, exp.Query) is not None:
            raise UnsupportedQueryError(
                call.shown,
                why="it is compared with something that is no constant",
                instead="Compare it with constants",
            )
        value = rows(con, f"SELECT TRY_CAST(({render(other, dialect_for([]))}) AS DOUBLE)")[0][0]
        found |= set() if value is None else {float(cast(float, value))}
    return tuple(sorted(found))


def _is_affine(node: exp.Expr, tree: exp.Query) -> bool:
    """Whether `node` is summed, or shown row by row, in an item of SELECT that is affine in it."""
    child, summed = node, 0
    while child.parent is not None and child.parent is not tree:
        parent = child.parent
        if isinstance(parent, (exp.Sum, exp.Avg)) or _is_mean(parent):
            summed += 1
        elif not _keeps_affine(child, parent):
            return False
        child = parent
    shown = child.parent is tree and child.arg_key == "expressions"
    return shown and (summed == 1 or (summed == 0 and is_row_by_row(tree)))


def _is_mean(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() == "mean"


def _keeps_affine(child: exp.Expr, parent: exp.Expr) -> bool:
    if isinstance(parent, _AFFINE):
        return True
    if isinstance(parent, exp.Case):
        return child.arg_key in ("ifs", "default")
    if isinstance(parent, exp.Cast):
        return child.arg_key == "this" and parent.to.is_type("double")
    return child.arg_key in _PLACES.get(type(parent), ())


def _names(
    calls: Sequence[Call], bounds: Sequence[tuple[float, ...] | None], functions: Functions
) -> tuple[list[str], dict[str, Number]]:
    """A function name for every call, and the number each stands for.

    Every use of a number as itself is a prediction of its own, so that products of several are
    right; all comparisons of one number share a prediction, whose bands their constants cut.
    """
    names: list[str] = []
    named: dict[str, Number] = {}
    taken = {name.lower() for name in functions}
    for place, (call, cut) in enumerate(zip(calls, bounds, strict=True)):
        number = call.number
        name = f"{number.model}_number_{number.place}" + (f"{AMOUNT}{place}" if cut is None else "")
        while name.lower() in taken:
            name += "_"
        known = named.get(name)
        if cut is not None:
            cut = tuple(sorted({*cut, *((known.bounds or ()) if known else ())}))
        named[name] = replace(known or number, bounds=cut)
        names.append(name)
    return names, named
