"""Smaller queries and databases that still show a disagreement."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from rainpp.relax.dialect import dialect_for
from tests.relax.corpus import Verdict, fails_alike, with_sql
from tests.relax.corpus_schema import MODELS, Data
from tests.relax.generator import Generated

_DIALECT = dialect_for(MODELS)


def shrunk(data: Data, query: Generated, verdict: Verdict, *, budget: int = 600) -> tuple:
    """(data, query) from which nothing more can be taken; at most `budget` trials."""
    progress = True
    while progress and budget > 0:
        progress = False
        for smaller_data, smaller in _candidates(data, query):
            budget -= 1
            if fails_alike(smaller_data, smaller, verdict):
                data, query, progress = smaller_data, smaller, True
                break
            if budget <= 0:
                break
    return data, query


def _candidates(data: Data, query: Generated) -> Iterator[tuple[Data, Generated]]:
    for smaller in _smaller_queries(query):
        yield data, smaller
    for table, rows in data.tables.items():
        for row in reversed(range(len(rows))):
            yield data.without(table, row), query


def _smaller_queries(query: Generated) -> Iterator[Generated]:
    tree = _DIALECT.parse(query.sql)[0]
    assert isinstance(tree, exp.Query)
    size = len(list(tree.walk()))
    for place in range(size):
        for edit in (_remove, _first, _second):
            copy = tree.copy()
            node = list(copy.walk())[place]
            changed = edit(copy, node)
            if changed is None:
                continue
            sql = changed.sql(dialect=_DIALECT, normalize_functions=False)
            sql = re.sub(r"\bAS (q\d+)\b", r"\1", sql)
            if len(sql) < len(query.sql):
                yield with_sql(query, sql, [item.alias for item in changed.selects])


def _remove(tree: exp.Expr, node: exp.Expr) -> exp.Expr | None:
    droppable = (
        exp.Where,
        exp.Having,
        exp.Order,
        exp.Limit,
        exp.Join,
        exp.Group,
        exp.With,
        exp.Distinct,
        exp.Filter,
    )
    if isinstance(node, exp.Filter):
        node.replace(node.this.copy())
        return tree
    listed = isinstance(node.parent, (exp.Select, exp.Group)) and node.arg_key == "expressions"
    if isinstance(node, droppable) or (listed and len(node.parent.expressions) > 1):
        node.pop()
        return tree
    return None


def _first(tree: exp.Expr, node: exp.Expr) -> exp.Expr | None:
    return _operand(tree, node, "this")


def _second(tree: exp.Expr, node: exp.Expr) -> exp.Expr | None:
    return _operand(tree, node, "expression")


def _operand(tree: exp.Expr, node: exp.Expr, which: str) -> exp.Expr | None:
    if not isinstance(node, (exp.And, exp.Or, exp.Not, exp.SetOperation, exp.Paren)):
        return None
    kept = node.args.get(which)
    if not isinstance(kept, exp.Expr):
        return None
    if node is tree:
        return kept.copy()
    node.replace(kept.copy())
    return tree
