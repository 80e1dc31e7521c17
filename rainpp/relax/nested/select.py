"""One SELECT block: FROM and WHERE, groups or plain rows, DISTINCT, LIMIT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from rainpp.relax.nested.body import Body
from rainpp.relax.nested.grouping import Grouped, group, projected
from rainpp.relax.nested.relation import Relation
from rainpp.relax.nested.rewriting import grouping_sets, is_grouped

if TYPE_CHECKING:
    from rainpp.relax.nested.engine import Engine
    from rainpp.relax.nested.names import Scope


def select(engine: Engine, node: exp.Select, scope: Scope) -> Relation:
    """The rows of a SELECT whose CTEs are in `scope` already."""
    sets = grouping_sets(node)
    if sets is not None:
        parts = [select(engine, plain_block(block), scope) for block in sets]
        found = parts[0]
        for part in parts[1:]:
            found = engine.stacked(found, part)
        return engine.limited(node, found, scope)
    if is_grouped(node):
        found = grouped(engine, node, scope).relation()
    else:
        found = projected(node, Body(engine, node, scope, numbered=True).rows())
    distinct = node.args.get("distinct")
    if distinct is not None:
        if distinct.args.get("on") is not None:
            engine.refuse(node, "DISTINCT ON keeps an arbitrary row", "Use GROUP BY")
        found = engine.distinct(found)
    return engine.limited(node, found, scope)


def grouped(engine: Engine, node: exp.Select, scope: Scope) -> Grouped:
    """The groups of a block that aggregates."""
    return group(engine, node, Body(engine, node, scope, numbered=False).rows())


def plain_block(block: exp.Select) -> exp.Select:
    """A block of grouping sets without what applies to their union."""
    for key in ("with_", "order", "limit", "offset"):
        block.set(key, None)
    return block
