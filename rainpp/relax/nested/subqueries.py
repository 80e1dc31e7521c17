"""What a subquery of an expression can return, and when: for each distinct outer value it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.codes import integers
from rainpp.relax.nested.algebra import NEVER, Index
from rainpp.relax.nested.names import KEY, Scope
from rainpp.relax.nested.relation import ROW, Relation, certain_ids
from rainpp.relax.nested.rewriting import outer_columns, renamed

if TYPE_CHECKING:
    from rainpp.relax.nested.rows import Rows


@dataclass(frozen=True, eq=False, slots=True)
class Alternatives:
    """Row i may meet the `values` whose `key` is `code[i]`, value j in event `ids[j]`."""

    code: Index
    key: Index
    values: pa.Array
    ids: Index


def subqueries(node: exp.Expr) -> Iterator[exp.Expr]:
    """Outermost subqueries of an expression, with the comparison they belong to."""
    if isinstance(node, (exp.Exists, exp.Subquery)):
        yield node
    elif isinstance(node, exp.In) and node.args.get("query") is not None:
        yield from subqueries(node.this)
        yield node
    elif isinstance(node, exp.Binary) and isinstance(node.expression, (exp.Any, exp.All)):
        yield node
    else:
        for child in node.iter_expressions():
            yield from subqueries(child)


def alternatives(rows: Rows, node: exp.Expr) -> Alternatives:
    """Values of an uncertain subquery, with the comparison it belongs to."""
    if isinstance(node, exp.Exists):
        return _exists(rows, node)
    if isinstance(node, exp.Subquery):
        return _scalar(rows, node)
    return _compared(rows, node)


def _keys(
    rows: Rows, query: exp.Expr, more: Sequence[tuple[str, exp.Expr]]
) -> tuple[Index, Relation]:
    """Distinct outer values a subquery depends on: the key of every row, and the keys."""
    context = rows.engine.context
    names = [name for name in outer_columns(query) if name in rows.places]
    items: list[tuple[str, exp.Expr]] = [
        (".".join(name), exp.column(name[1], table=name[0], quoted=True)) for name in names
    ]
    items += more
    if not items:
        table = pa.table({KEY: pa.array([0], pa.int64())})
        keys = context.relation(table, certain_ids(1), np.zeros(1, np.int64))
        return np.zeros(len(rows.relation), np.int64), keys
    values = rows.evaluate(items)
    numbered = context.relation(
        values, certain_ids(len(values)), np.arange(len(values)), frozenset()
    )
    code, first, count = rows.engine.distinct_rows(numbered, list(numbered.columns))
    chosen = values.take(pa.array(first)).append_column(KEY, pa.array(np.arange(count)))
    return code, context.relation(chosen, certain_ids(count), np.arange(count))


def _inner(rows: Rows, query: exp.Expr, keys: Relation) -> Relation:
    """A subquery's rows for every key, with a column KEY."""
    outer = f"outer_k{len(rows.scope.outer) + len(rows.extra)}_{len(rows.relation)}"
    inside = set(outer_columns(query)) & set(rows.places)
    moved = renamed(query, lambda n: (outer, ".".join(n)) if n in inside else None)
    scope = Scope(rows.scope.relations, rows.scope.certain, keys, outer)
    return rows.engine.query(moved, scope)


def _exists(rows: Rows, node: exp.Exists) -> Alternatives:
    query = cast(exp.Expr, node.this).copy()
    for unneeded in ("order", "distinct"):
        query.set(unneeded, None)
    limit = query.args.get("limit")
    if limit is not None and limit.expression.name != "0" and not query.args.get("offset"):
        query.set("limit", None)
    code, keys = _keys(rows, query, [])
    found = _inner(rows, query, keys)
    algebra, count = rows.engine.context.algebra, len(keys)
    present = algebra.some(found.ids, integers(found.table, KEY), count)
    key = np.arange(count)
    values = pa.array([True] * count + [False] * count)
    return Alternatives(code, np.r_[key, key], values, np.r_[present, algebra.negation(present)])


def _scalar(rows: Rows, node: exp.Subquery) -> Alternatives:
    code, keys = _keys(rows, node, [])
    found = _inner(rows, node, keys)
    key, count = integers(found.table, KEY), len(keys)
    values = found.table.column("c0").combine_chunks()
    algebra = rows.engine.context.algebra
    limit = node.unnest().args.get("limit")
    one = limit is not None and limit.expression.name == "1"
    single = np.unique(np.stack([key, found.owner], axis=1), axis=0)[:, 0]
    if not one and len(np.unique(single)) < len(single):
        rows.engine.refuse(node, "it may return several rows", "Aggregate it, as min() does")
    absent = algebra.negation(algebra.some(found.ids, key, count))
    return Alternatives(
        code,
        np.r_[key, np.arange(count)],
        pa.concat_arrays([values, pa.nulls(count, values.type)]),
        np.r_[found.ids, absent],
    )


def _compared(rows: Rows, node: exp.Expr) -> Alternatives:
    """IN, = ANY, < ALL and the like: true, false and NULL are three alternatives."""
    left, query, operator, universal = _comparison(node)
    plain = left.unnest()
    parts = plain.expressions if isinstance(plain, exp.Tuple) else [left]
    if len(parts) > 1 and operator != "=":
        rows.engine.refuse(node, "rows can only be compared with IN", "Compare one column")
    code, keys = _keys(rows, query, [(f"__left{i}", part) for i, part in enumerate(parts)])
    met = " AND ".join(f"k.__left{i} {operator} r.c{i}" for i in range(len(parts)))
    context, algebra, count = rows.engine.context, rows.engine.context.algebra, len(keys)
    if any(name in rows.places for name in outer_columns(query)):
        found = _inner(rows, query, keys)
        on = f"k.{KEY} = r.{KEY}"
    else:
        found = rows.engine.query(query, rows.scope.without_keys())
        on = "true"
    pairs = context.fetch(
        f"SELECT * FROM (SELECT k.{KEY} AS k, r.{ROW} AS r, "
        f"({met}) AS met FROM {keys.name} AS k "
        f"JOIN {found.name} AS r ON {on}) "
        f"WHERE met IS NOT {'TRUE' if universal else 'FALSE'} "
        "ORDER BY k, r"
    )
    key, row = integers(pairs, "k"), integers(pairs, "r")
    unknown = np.asarray(pairs.column("met").is_null().to_numpy(), bool)
    decided, open_ = (
        algebra.some(found.ids[row[chosen]], key[chosen], count) for chosen in (~unknown, unknown)
    )
    undecided = algebra.every([algebra.negation(decided), open_])
    other = algebra.every([algebra.negation(decided), algebra.negation(open_)])
    values = [not universal] * count + [None] * count + [universal] * count
    ids = np.r_[decided, undecided, other]
    kept = ids != NEVER
    place = np.tile(np.arange(count), 3)
    array = pa.array(values, pa.bool_()).take(pa.array(np.flatnonzero(kept)))
    return Alternatives(code, place[kept], array, ids[kept])


def _comparison(node: exp.Expr) -> tuple[exp.Expr, exp.Expr, str, bool]:
    """(left side, subquery, operator, whether it must hold for all)."""
    if isinstance(node, exp.In):
        return node.this, cast(exp.Expr, node.args["query"]).unnest(), "=", False
    operators: dict[type[exp.Expr], str] = {
        exp.EQ: "=",
        exp.NEQ: "<>",
        exp.LT: "<",
        exp.LTE: "<=",
        exp.GT: ">",
        exp.GTE: ">=",
    }
    quantified = cast(exp.Expr, node.args["expression"])
    query = cast(exp.Expr, quantified.this).unnest()
    return node.args["this"], query, operators[type(node)], isinstance(quantified, exp.All)
