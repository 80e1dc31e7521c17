"""How two sides of a tree meet, in terms of the columns captured for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.capture import Relation
from rainpp.relax.dialect import render
from rainpp.relax.events import EventBuilder
from rainpp.relax.forest import Forest, Meeting
from rainpp.relax.inequality import ordered_pairs, ranks
from rainpp.relax.pairing import EqualKeys, EveryPair, Pairing, equal_keys
from rainpp.relax.query import Scalar
from rainpp.relax.stream import StreamedPairs


@dataclass(frozen=True, eq=False, slots=True)
class Edge:
    """Sides `left` and `right` meet where `condition` holds, SQL over ``l.column_i, r.column_j``.

    It is the conjunction of equal keys `on`, at most one inequality `order`, both as column numbers
    of the two sides, and of other conditions if `streamed`.
    """

    left: int
    right: int
    condition: str
    on: tuple[tuple[int, int], ...]
    order: tuple[int, str, int] | None
    streamed: bool

    @property
    def strategy(self) -> str:
        """What is done with it, for `Plan`."""
        if self.streamed:
            return "streamed pairs"
        if self.order:
            return "sorted inequality"
        return "equal keys" if self.on else "every pair"


@dataclass(eq=False, slots=True)
class _Columns:
    """The expressions asked of one side, numbered in order of first use."""

    found: dict[str, tuple[int, Scalar]] = field(default_factory=dict[str, tuple[int, Scalar]])

    def number(self, scalar: Scalar) -> int:
        return self.found.setdefault(scalar.sql, (len(self.found), scalar))[0]

    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(scalar for _, scalar in self.found.values())


def edges(
    apart: Forest, builder: EventBuilder
) -> tuple[tuple[Edge, ...], list[tuple[Scalar, ...]]]:
    """The edges of a forest, and the columns each side has to bring for them."""
    columns = [_Columns() for _ in apart.sides]
    made = [_edge(meeting, apart, columns, builder) for meeting in apart.meetings]
    return tuple(made), [side.scalars() for side in columns]


def _edge(meeting: Meeting, apart: Forest, columns: list[_Columns], builder: EventBuilder) -> Edge:
    left, right = columns[meeting.left], columns[meeting.right]
    parts: list[str] = []
    on: list[tuple[int, int]] = []
    orders: list[tuple[int, str, int]] = []
    for found in meeting.comparisons:
        i, j = left.number(found.left), right.number(found.right)
        parts.append(f"l.column_{i} {found.operator} r.column_{j}")
        if found.operator == "=":
            on.append((i, j))
        else:
            orders.append((i, found.operator, j))
    inside = apart.sides[meeting.left]
    parts += [
        f"({_over_columns(scalar, inside, left, right, builder)})" for scalar in meeting.conditions
    ]
    return Edge(
        meeting.left,
        meeting.right,
        " AND ".join(parts) or "true",
        tuple(on),
        orders[0] if len(orders) == 1 else None,
        bool(meeting.conditions) or len(orders) > 1,
    )


def _over_columns(
    scalar: Scalar,
    left_sources: frozenset[int],
    left: _Columns,
    right: _Columns,
    builder: EventBuilder,
) -> str:
    """The condition with every column replaced by what the sides bring."""
    holder = exp.Paren(this=scalar.node.copy())
    for column in list(holder.find_all(exp.Column)):
        part = builder.part(column.copy(), scalar.shown)
        mine = part.sources <= left_sources
        number = (left if mine else right).number(part)
        column.replace(exp.column(f"column_{number}", table="l" if mine else "r"))
    return render(holder.this, builder.dialect)


def pairing(con: duckdb.DuckDBPyConnection, edge: Edge, left: Relation, right: Relation) -> Pairing:
    """The pairs of an edge, by the cheapest way that is right for the types found."""
    if not edge.streamed:
        keys = _keys(con, edge, left, right)
        if edge.order is None:
            return keys or EveryPair(len(left), len(right))
        i, operator, j = edge.order
        values = ranks(con, left.columns.column(i), right.columns.column(j))
        found = None if values is None else ordered_pairs(values, keys, operator)
        if found is not None:
            return found
    return StreamedPairs(con.cursor(), _placed(left), _placed(right), edge.condition)


def _keys(
    con: duckdb.DuckDBPyConnection, edge: Edge, left: Relation, right: Relation
) -> EqualKeys | None:
    if not edge.on:
        return None
    mine = [left.columns.column(i) for i, _ in edge.on]
    return equal_keys(con, mine, [right.columns.column(j) for _, j in edge.on])


def _placed(relation: Relation) -> pa.Table:
    return relation.columns.append_column("place", pa.array(np.arange(len(relation))))


def parents_first(count: int, found: Sequence[Edge], root: int) -> list[tuple[int, int, Edge]]:
    """(parent, child, edge) for every edge of a tree over `count` sides, parents first."""
    ordered: list[tuple[int, int, Edge]] = []
    reached, left = [root], list(found)
    for _ in range(count):
        for edge in list(left):
            for parent, child in ((edge.left, edge.right), (edge.right, edge.left)):
                if parent in reached and child not in reached:
                    ordered.append((parent, child, edge))
                    reached.append(child)
                    left.remove(edge)
                    break
    return ordered
