"""Aggregate calls as DuckDB will run them over argument columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlglot import exp

from rainpp.relax.linear import aggregate_name
from rainpp.relax.nested.algebra import Aggregation

if TYPE_CHECKING:
    from rainpp.relax.nested.engine import Engine


def aggregation(
    engine: Engine, call: exp.Expr, arguments: list[tuple[str, exp.Expr]]
) -> Aggregation:
    """An aggregate call over argument columns, which are appended to `arguments`."""

    def column(node: exp.Expr) -> exp.Expr:
        sql = engine.context.sql(node)
        for name, known in arguments:
            if engine.context.sql(known) == sql:
                return exp.column(name)
        arguments.append((f"a{len(arguments)}", node))
        return exp.column(arguments[-1][0])

    shown = engine.context.shown(call)
    filters = call if isinstance(call, exp.Filter) else None
    inner = cast(exp.Expr, call.this if filters is not None else call)
    name = (aggregate_name(inner) or "").replace("count_star", "count")
    given = cast("list[exp.Expr]", inner.expressions if isinstance(inner, exp.Anonymous) else [])
    first = given[0] if given else inner.args.get("this")
    distinct = isinstance(first, exp.Distinct)
    if isinstance(first, exp.Distinct) and len(first.expressions) == 1:
        first = first.expressions[0]
    condition = filters.expression.this if filters is not None else None
    others = [v for k, v in inner.args.items() if v and k not in ("this", "big_int", "expressions")]
    simple = name in ("count", "sum", "avg", "mean", "min", "max") and not others
    simple = simple and len(given) <= 1 and not inner.args.get("expressions", given)[1:]
    if simple and not isinstance(first, (exp.Order, exp.Distinct, exp.Tuple)):
        argument = None
        if first is not None and not isinstance(first, exp.Star):
            argument = column(first).name
        where = None if condition is None else column(condition).name
        kind = "avg" if name == "mean" else name
        text = "*" if argument is None else f"{'DISTINCT ' if distinct else ''}{argument}"
        sql = f"{kind}({text})" + (f" FILTER (WHERE {where})" if where else "")
        return Aggregation(kind, sql, argument, where, distinct, shown=shown)
    moved = call.copy().transform(lambda n: column(n.copy()) if isinstance(n, exp.Column) else n)
    return Aggregation(name, engine.context.sql(moved), None, plain=False, shown=shown)
