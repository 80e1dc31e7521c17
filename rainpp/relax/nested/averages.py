"""AVG, MIN, MAX and SUM / COUNT over any number of uncertain rows, by closed forms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from rainpp.relax.nested.algebra import Aggregation, Array, Intractable, Members
from rainpp.relax.nested.cells import MomentCells, is_numeric, numbers
from rainpp.relax.nested.circuit import Circuit
from rainpp.relax.nested.grouping import Grouped


@dataclass(frozen=True, eq=False, slots=True)
class _Single:
    """scale · one aggregate."""

    scale: float
    call: Aggregation


def moment_cells(found: Grouped, item: exp.Expr) -> MomentCells | None:
    """Cells of an item that is one AVG, MIN, MAX or SUM / COUNT times a number; else None."""
    algebra, wanted = found.engine.context.algebra, _single(found, item)
    if wanted is None or not isinstance(algebra, Circuit):
        return None
    call, members = wanted.call, found.members
    if members.table is None or call.argument is None:
        return None
    if not is_numeric(members.table.column(call.argument).type):
        return None
    numbers(members.table.column(call.argument), found.engine.context.shown(item))
    try:
        moment = (algebra.average if call.kind == "avg" else algebra.extreme)(members, call)
    except Intractable:
        return None
    sure = _hard(members, call, algebra.hard(members.ids))
    # A segment none of whose values can be anything but NULL has no expectation.
    possible = _hard(members, call, np.ones(len(members.ids), bool))
    return MomentCells(members.count, wanted.scale, moment, sure, np.isnan(possible))


def _single(found: Grouped, node: exp.Expr) -> _Single | None:
    context = found.engine.context
    for sql, call in zip(map(context.sql, found.calls), found.aggregations, strict=True):
        if sql == context.sql(node):
            fits = call.kind in ("min", "max") or (call.kind == "avg" and not call.distinct)
            return _Single(1.0, call) if call.plain and fits else None
    if isinstance(node, exp.Paren):
        return _single(found, node.this)
    if isinstance(node, exp.Mul):
        for number, other in ((node.left, node.right), (node.right, node.left)):
            inner, scale = _single(found, other), _number(number)
            if inner is not None and scale is not None:
                return replace(inner, scale=scale * inner.scale)
    return _ratio(found, node) if isinstance(node, exp.Div) else None


def _number(node: exp.Expr) -> float | None:
    plain = node.unnest()
    return float(plain.name) if isinstance(plain, exp.Literal) and not plain.is_string else None


def _ratio(found: Grouped, node: exp.Div) -> _Single | None:
    """SUM(x) / COUNT(*) is AVG(x) where x is never NULL, and SUM(x) / COUNT(x) always."""
    scale, top = 1.0, node.left.unnest()
    while isinstance(top, exp.Mul):
        left, right = _number(top.left), _number(top.right)
        if left is None and right is None:
            return None
        scale *= left if left is not None else (right or 0.0)
        top = (top.right if left is not None else top.left).unnest()
    above, below = _call(found, top), _call(found, node.right.unnest())
    if above is None or below is None or (above.kind, below.kind) != ("sum", "count"):
        return None
    if above.distinct or below.distinct or above.filters != below.filters:
        return None
    table = found.members.table
    if table is None or above.argument is None:
        return None
    complete = not table.column(above.argument).null_count
    if below.argument == above.argument or (below.argument is None and complete):
        sql = above.sql.replace("sum(", "avg(", 1)
        return _Single(scale, replace(above, kind="avg", sql=sql))
    return None


def _call(found: Grouped, node: exp.Expr) -> Aggregation | None:
    context = found.engine.context
    for sql, call in zip(map(context.sql, found.calls), found.aggregations, strict=True):
        if sql == context.sql(node):
            return call if call.plain else None
    return None


def _hard(members: Members, call: Aggregation, there: NDArray[np.bool_]) -> Array:
    """(count,) the aggregate over the rows that are there in the likeliest world."""
    assert members.table is not None
    assert call.argument is not None
    column = members.table.column(call.argument)
    chosen = there & np.asarray(column.is_valid().to_numpy(), bool)
    if call.filters is not None:
        chosen &= np.asarray(members.table.column(call.filters).fill_null(False).to_numpy(), bool)
    values, segment = numbers(column)[chosen], members.segment[chosen]
    if call.kind == "avg":
        total = np.bincount(segment, values, members.count)
        number = np.bincount(segment, minlength=members.count)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(number > 0, total / number, np.nan), np.float64)
    out = np.full(members.count, np.nan)
    (np.fmin if call.kind == "min" else np.fmax).at(out, segment, values)
    return out
