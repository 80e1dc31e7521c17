"""GROUP BY and aggregates: groups, the results they can have, and HAVING."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.codes import integers
from rainpp.relax.nested.algebra import NEVER, Aggregation, Index, Members, Outcomes
from rainpp.relax.nested.calls import aggregation
from rainpp.relax.nested.names import KEY
from rainpp.relax.nested.relation import Relation, certain_ids
from rainpp.relax.nested.rewriting import aggregates_in, items_of, order_keys
from rainpp.relax.nested.rows import Rows

if TYPE_CHECKING:
    from rainpp.relax.nested.engine import Engine


@dataclass(frozen=True, eq=False)
class Grouped:
    """The groups of a block: `keys` (G rows: k0, k1, ..., KEY) and the rows in them.

    `present[g]` is the event that group g has a row; a `single` block has its one group always.
    """

    engine: Engine
    node: exp.Select
    rows: Rows
    keys: pa.Table
    members: Members
    owner: Index
    single: bool
    key_nodes: tuple[exp.Expr, ...]
    calls: tuple[exp.Expr, ...]
    aggregations: tuple[Aggregation, ...]

    @functools.cached_property
    def present(self) -> Index:
        """(G,) events that a group has a row."""
        members = self.members
        return self.engine.context.algebra.some(members.ids, members.segment, members.count)

    def results(self, wanted: list[int]) -> Rows:
        """One row per joint result of some aggregates of a group, and the group's keys."""
        context = self.engine.context
        chosen = [self.aggregations[i] for i in wanted]
        found = self._outcomes(chosen)
        segment, ids, values = found.segment, found.ids, found.table
        if self.single:
            empty = found.absent
            if empty is None:
                empty = context.algebra.negation(self.present)
            groups = np.flatnonzero(empty != NEVER)
            segment, ids = np.r_[segment, groups], np.r_[ids, empty[groups]]
            values = self._with_empty(values, chosen, len(groups))
        table = self.keys.take(pa.array(segment)).append_column("__group", pa.array(segment))
        for i, place in enumerate(wanted):
            table = table.append_column(f"v{place}", values.column(f"v{i}"))
        cells = frozenset(f"v{place}" for place in wanted)
        relation = context.relation(table, ids, segment, cells)
        extra = {context.sql(self.calls[i]): f"v{i}" for i in wanted}
        return self._over(relation, extra)

    def key_rows(self) -> Rows:
        """One row per group, with its keys."""
        ids = certain_ids(len(self.keys))
        relation = self.engine.context.relation(self.keys, ids, np.arange(len(ids)))
        return self._over(relation, {})

    def _over(self, relation: Relation, extra: dict[str, str]) -> Rows:
        """Rows in which the group's key expressions are columns."""
        places = {(self.rows.scope.outer, KEY): KEY} if self.rows.key else {}
        for i, node in enumerate(self.key_nodes):
            extra[self.engine.context.sql(node)] = f"k{i}"
            if isinstance(node, exp.Column):
                places[node.table, node.name] = f"k{i}"
        return Rows(self.engine, self.rows.scope, relation, places, extra)

    def _outcomes(self, chosen: list[Aggregation]) -> Outcomes:
        if chosen:
            return self.engine.context.algebra.outcomes(self.members, chosen)
        groups = np.flatnonzero(self.present != NEVER)
        table = pa.table({"none": pa.array(np.zeros(len(groups), np.int64))})
        return Outcomes(groups, table, self.present[groups])

    def _with_empty(self, values: pa.Table, chosen: list[Aggregation], count: int) -> pa.Table:
        """`values` and `count` times what the aggregates give without any row."""
        if not chosen:
            return values
        calls = ", ".join(f"{item.sql} AS v{i}" for i, item in enumerate(chosen))
        name = self.engine.context.register(_arguments_table(self.members))
        empty = self.engine.context.fetch(f"SELECT {calls} FROM {name} WHERE false")
        empty = empty.take(pa.array(np.zeros(count, np.int64)))
        return pa.concat_tables([values, empty.cast(values.schema)])

    def relation(self) -> Relation:
        """The block's result with HAVING, SELECT items and order keys."""
        rows = self.results(list(range(len(self.aggregations))))
        having = self.node.args.get("having")
        if having is not None:
            rows = rows.filtered([having.this])
        return projected(self.node, rows)


def projected(node: exp.Select, rows: Rows) -> Relation:
    """SELECT items as c0, c1, ..., order keys as o0, o1, ..., and the outer key."""
    items = [item.unalias() for item in items_of(node)]
    keys = [_ordering(key.this, node) for key in order_keys(node)]
    rows = rows.expanded([*items, *keys]).with_windows([*items, *keys])
    qualify = node.args.get("qualify")
    if qualify is not None:
        rows = rows.with_windows([qualify.this]).filtered([qualify.this])
    named = [(f"c{i}", item) for i, item in enumerate(items)]
    named += [(f"o{i}", key) for i, key in enumerate(keys)]
    if rows.key is not None:
        named.append((KEY, exp.column(KEY, table=rows.scope.outer, quoted=True)))
    table = rows.evaluate(named)
    cells = frozenset(name for name, item in named if rows.varies(item))
    context = rows.engine.context
    context.note("select", ", ".join(context.shown(item) for item in items), len(rows.relation))
    return context.relation(table, rows.relation.ids, rows.relation.owner, cells)


def _ordering(key: exp.Expr, node: exp.Select) -> exp.Expr:
    """An ORDER BY entry with a SELECT alias or position replaced by its expression."""
    items = items_of(node)
    if isinstance(key, exp.Literal) and key.is_int and 1 <= int(key.name) <= len(items):
        return items[int(key.name) - 1].unalias()
    if isinstance(key, exp.Column) and not key.table:
        for item in items:
            if item.alias_or_name == key.name:
                return item.unalias()
    return key


def group(engine: Engine, node: exp.Select, rows: Rows) -> Grouped:
    """Sort the rows of a block into its groups."""
    keys = _key_nodes(node)
    having = node.args.get("having")
    parts = [item.unalias() for item in items_of(node)]
    parts += [having.this] if having is not None else []
    parts += [_ordering(key.this, node) for key in order_keys(node)]
    calls = {engine.context.sql(c): c for part in parts for c in aggregates_in(part)}
    arguments: list[tuple[str, exp.Expr]] = []
    found = tuple(aggregation(engine, call, arguments) for call in calls.values())
    rows = rows.expanded([*keys, *(argument for _, argument in arguments)])
    named = [(f"k{i}", key) for i, key in enumerate(keys)]
    if rows.key is not None:
        named.append((KEY, exp.column(KEY, table=rows.scope.outer, quoted=True)))
    values = rows.evaluate([*named, *arguments])
    n, single = len(rows.relation), not keys
    context = engine.context
    if single:
        segment, table = _single(rows, values, n)
    else:
        whole = context.relation(values, certain_ids(n), np.arange(n))
        segment, first, _ = engine.distinct_rows(whole, [name for name, _ in named])
        table = values.select([name for name, _ in named]).take(pa.array(first))
    order = np.argsort(segment, kind="stable")
    taken = values.select([name for name, _ in arguments]).take(pa.array(order))
    members = Members(
        rows.relation.ids[order], segment[order], len(table), taken if arguments else None
    )
    shown = ", ".join(context.shown(key) for key in keys)
    context.note("group", shown or "all rows", len(table))
    return Grouped(
        engine,
        node,
        rows,
        table,
        members,
        rows.relation.owner[order],
        single,
        tuple(keys),
        tuple(calls.values()),
        found,
    )


def _single(rows: Rows, values: pa.Table, n: int) -> tuple[Index, pa.Table]:
    """Without GROUP BY there is one group, or one per outer row of a correlated subquery."""
    if rows.scope.keys is None:
        return np.zeros(n, np.int64), pa.table({"one": pa.array([1])})
    count = len(rows.scope.keys)
    return integers(values, KEY), pa.table({KEY: pa.array(np.arange(count))})


def _key_nodes(node: exp.Select) -> list[exp.Expr]:
    clause = node.args.get("group")
    if clause is None:
        return []
    items = [item.unalias() for item in items_of(node)]
    if clause.args.get("all"):
        # DuckDB leaves constants out of GROUP BY ALL.
        return [i for i in items if not aggregates_in(i) and i.find(exp.Column) is not None]
    found: list[exp.Expr] = []
    for key in cast("list[exp.Expr]", clause.expressions):
        if isinstance(key, exp.Literal) and key.is_int:
            found.append(items[int(key.name) - 1])
        else:
            found.append(key)
    return found


def _arguments_table(members: Members) -> pa.Table:
    table = members.table if members.table is not None else pa.table({"none": pa.array([0])})
    return table.append_column("__unused", pa.array(np.zeros(table.num_rows, np.int64)))
