"""SELECT items that are linear combinations of COUNT, SUM and AVG."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn, cast

import duckdb
from sqlglot import exp

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.catalog import builtin_functions, rows
from rainpp.relax.dialect import render
from rainpp.relax.query import Aggregate, Cell, Scalar
from rainpp.relax.scope import Scope

_KINDS = {"count": "COUNT", "count_star": "COUNT", "sum": "SUM", "avg": "AVG", "mean": "AVG"}
_LINEAR = "COUNT, SUM and AVG may be added, subtracted, and multiplied or divided by constants"


def aggregate_name(node: exp.Expr) -> str | None:
    """Lower-case name of the aggregate function `node` calls, None if it calls none."""
    if isinstance(node, exp.Anonymous):
        name = node.name.lower()
    elif isinstance(node, (exp.AggFunc, exp.CountIf)):
        return node.sql_name().lower()
    elif isinstance(node, exp.Func):
        name = node.sql_name().lower()
    else:
        return None
    return name if name in builtin_functions()[0] else None


@dataclass(eq=False, slots=True)
class CellReader:
    """Turns SELECT items into cells and collects their distinct aggregates."""

    scope: Scope
    con: duckdb.DuckDBPyConnection
    aggregates: list[Aggregate] = field(default_factory=list[Aggregate])

    def cell(self, node: exp.Expr, position: int) -> Cell:
        """The cell that SELECT item number `position` shows."""
        constant, terms = self._linear(node)
        return Cell(position, constant, tuple((scale, index) for index, scale in terms.items()))

    def _linear(self, node: exp.Expr) -> tuple[float, dict[int, float]]:
        if not any(aggregate_name(part) for part in node.walk()):
            return self._constant(node), {}
        if isinstance(node, exp.Filter) or aggregate_name(node):
            return 0.0, {self._aggregate(node): 1.0}
        if isinstance(node, exp.Paren):
            return self._linear(node.this)
        if isinstance(node, exp.Neg):
            return _scaled(self._linear(node.this), -1.0)
        if isinstance(node, (exp.Add, exp.Sub)):
            right = self._linear(node.right)
            return _sum(
                self._linear(node.left),
                right if isinstance(node, exp.Add) else _scaled(right, -1.0),
            )
        if isinstance(node, (exp.Mul, exp.Div)):
            left, right = self._linear(node.left), self._linear(node.right)
            if not right[1]:
                factor = right[0] if isinstance(node, exp.Mul) else 1.0 / (right[0] or float("nan"))
                return _scaled(left, factor)
            if not left[1] and isinstance(node, exp.Mul):
                return _scaled(right, left[0])
        return self._refuse(node, "it is not a linear combination of aggregates", _LINEAR)

    def _constant(self, node: exp.Expr) -> float:
        if node.find(exp.Column) is not None or self.scope.has_prediction(node):
            self._refuse(node, "it mixes aggregates with columns", _LINEAR)
        sql = render(node, self.scope.dialect)
        value = rows(self.con, f"SELECT TRY_CAST(({sql}) AS DOUBLE)")[0][0]
        if value is None:
            self._refuse(node, "it is not a number", _LINEAR)
        return float(cast(float, value))

    def _aggregate(self, node: exp.Expr) -> int:
        filters: list[Scalar] = []
        call = node
        if isinstance(node, exp.Filter):
            call = node.this
            filters += [self.scope.lower(part) for part in _parts(node.expression.this)]
        name = aggregate_name(call)
        if name == "count_if":
            filters.append(self.scope.lower(call.this))
            found = Aggregate("COUNT", None, tuple(filters), self.scope.shown(node))
        elif name not in _KINDS:
            self._refuse(
                node, "this aggregate has no relaxation yet", "COUNT, SUM and AVG are supported"
            )
        else:
            argument = self._argument(call)
            found = Aggregate(_KINDS[name], argument, tuple(filters), self.scope.shown(node))
        self.aggregates.append(found)
        return len(self.aggregates) - 1

    def _argument(self, call: exp.Expr) -> Scalar | None:
        given = call.expressions if isinstance(call, exp.Anonymous) else [call.this]
        if isinstance(call, exp.Count) and (call.this is None or isinstance(call.this, exp.Star)):
            return None
        if len(given) != 1 or (isinstance(call, exp.Count) and call.expressions):
            self._refuse(call, "it takes one argument", "COUNT, SUM and AVG are supported")
        argument = cast(exp.Expr, given[0])
        if isinstance(argument, (exp.Distinct, exp.Order)) or argument.find(exp.AggFunc):
            self._refuse(
                call,
                "DISTINCT, ORDER BY and nesting inside aggregates have no relaxation yet",
                "Aggregate a plain expression",
            )
        return self.scope.lower(argument)

    def _refuse(self, node: exp.Expr, why: str, instead: str) -> NoReturn:
        raise UnsupportedQueryError(self.scope.shown(node), why=why, instead=instead)


def _parts(node: exp.Expr) -> list[exp.Expr]:
    return [*_parts(node.left), *_parts(node.right)] if isinstance(node, exp.And) else [node]


def _scaled(form: tuple[float, dict[int, float]], by: float) -> tuple[float, dict[int, float]]:
    return form[0] * by, {index: scale * by for index, scale in form[1].items()}


def _sum(
    left: tuple[float, dict[int, float]], right: tuple[float, dict[int, float]]
) -> tuple[float, dict[int, float]]:
    terms = dict(left[1])
    for index, scale in right[1].items():
        terms[index] = terms.get(index, 0.0) + scale
    return left[0] + right[0], terms
