"""Window aggregates over uncertain rows: every row with every value its partition can give."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.dialect import function_names
from rainpp.relax.nested.algebra import Members
from rainpp.relax.nested.arrays import meetings
from rainpp.relax.nested.calls import aggregation
from rainpp.relax.nested.relation import certain_ids
from rainpp.relax.nested.rewriting import aggregates_in

if TYPE_CHECKING:
    from rainpp.relax.nested.rows import Rows

MAX_PAIRS = 5_000_000
# Functions of a window only, which sqlglot takes for aggregates.
_RANKING = frozenset(
    (
        *("rank", "dense_rank", "percent_rank", "cume_dist", "row_number", "ntile"),
        *("lag", "lead", "first_value", "last_value", "nth_value"),
    )
)


def with_window(rows: Rows, window: exp.Window) -> Rows:
    """A row for every value a window aggregate can take."""
    engine, context = rows.engine, rows.engine.context
    call = cast(exp.Expr, window.this)
    if window.args.get("order") is not None or window.args.get("spec") is not None:
        engine.refuse(window, "a window in an order has no relaxation", "Use PARTITION BY only")
    if function_names(call) & _RANKING or not aggregates_in(call):
        engine.refuse(window, "only windows of aggregates have a relaxation", "Use count, sum")
    arguments: list[tuple[str, exp.Expr]] = []
    item = aggregation(engine, call, arguments)
    parts = cast("list[exp.Expr]", window.args.get("partition_by") or [])
    values = rows.evaluate([(f"p{i}", part) for i, part in enumerate(parts)] + arguments)
    n = len(rows.relation)
    numbered = context.relation(values, certain_ids(n), np.arange(n)) if n else rows.relation
    code = engine.distinct_rows(numbered, [f"p{i}" for i in range(len(parts))])[0]
    met = meetings(code, code, MAX_PAIRS)
    if met is None:
        engine.refuse(window, "its partitions are too large", "Use GROUP BY and a join")
    row, other = met
    both = context.algebra.every([rows.relation.ids[row], rows.relation.ids[other]])
    chosen = values.select([name for name, _ in arguments]).take(pa.array(other))
    table = chosen if arguments else None
    found = context.algebra.outcomes(Members(both, row, n, table), [item])
    column = rows.new_column()
    taken = rows.taken(found.segment, found.ids, {column: found.table.column("v0")})
    context.note("window", context.shown(window), len(found.ids))
    return taken.knowing(window, column)
