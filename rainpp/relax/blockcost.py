"""The cost of sums over one SELECT block: as its layout arranges it, or with every row joined."""

from __future__ import annotations

import math
from dataclasses import replace

import duckdb
from sqlglot import exp

from rainpp.relax.capture import SideSpec, capture_sql
from rainpp.relax.cost import Cost, estimate, table_rows
from rainpp.relax.measures import Relaxation
from rainpp.relax.plan import MAX_JOINED, Plan
from rainpp.relax.query import Query
from rainpp.relax.strategy import Layout, terms


def block_cost(plan: Plan, con: duckdb.DuckDBPyConnection, *, exact: bool) -> Cost:
    """The cost of a plan as its layout arranges it."""
    relaxed, found = plan.relaxed(con, exact=exact)
    return _cost(plan.query, con, relaxed, found)


def joined_cost(plan: Plan, con: duckdb.DuckDBPyConnection, *, exact: bool) -> Cost:
    """The cost if the sides were joined first and every joined row kept."""
    relaxed, _ = plan.relaxed(con, exact=exact)
    return _cost(plan.query, con, relaxed, Layout((together(plan.query),), (None,), None))


def together(query: Query) -> SideSpec:
    """All sources as one side, with every certain condition."""
    certain = tuple(condition for condition in query.conditions if not condition.holes)
    groups = tuple(key.scalar for key in query.keys if not key.scalar.holes)
    return SideSpec(tuple(range(len(query.sources))), certain, groups, (), ())


def _cost(query: Query, con: duckdb.DuckDBPyConnection, relaxed: Relaxation, found: Layout) -> Cost:
    sides = [estimate(con, capture_sql(query, side)) for side in found.sides]
    sizes = [side.rows for side in sides]
    messages = _messages(query, relaxed, found, sizes)
    columns = [len(side.sources) + len(side.joins) + len(side.columns) + 2 for side in found.sides]
    kept = sum(size * wide for size, wide in zip(sizes, columns, strict=True))
    pairs = _pairs(query, con, relaxed, found, sizes)
    return Cost(
        read=2 * sum(table_rows(con, source.qualified) for source in query.sources),
        kept=sum(sizes),
        groups=_groups(con, query, relaxed, found),
        pairs=sum(side.pairs for side in sides) + pairs,
        multiply_adds=messages + _related(query, relaxed, found, sizes),
        held=8 * (messages + kept),
    )


def _messages(query: Query, relaxed: Relaxation, found: Layout, sizes: list[int]) -> int:
    """A multiply-add per row, measure and class of every prediction that a row's weight reads."""
    keys = {axis.atom for axis in relaxed.axes.values()}
    total = 0
    for measure in relaxed.measures:
        for term, side, size in zip(terms(measure, found)[0], found.sides, sizes, strict=True):
            read = term.atoms() | {atom for atom in keys if atom.source in side.sources}
            total += size * max(1, sum(len(query.classes[atom.slot]) for atom in read))
    return total


def _related(query: Query, relaxed: Relaxation, found: Layout, sizes: list[int]) -> int:
    """Products with the class relations between sides: one row of them per segment at most."""
    total = 0
    for measure in relaxed.measures:
        for leaf in terms(measure, found)[1]:
            left, right = (found.side_of(atom.source) for atom in leaf.atoms)
            # Without keys, groups or edges a side is added up first.
            one = not found.edges and not any(s.joins or s.groups for s in found.sides)
            classes = math.prod(len(query.classes[atom.slot]) for atom in leaf.atoms)
            total += classes * (1 if one else min(sizes[left], sizes[right]))
    return total


def _groups(
    con: duckdb.DuckDBPyConnection, query: Query, relaxed: Relaxation, found: Layout
) -> int:
    """Rows the answer may have."""
    total = math.prod(len(axis.values) for axis in relaxed.axes.values())
    for side in found.sides:
        if side.groups:
            names = [f"group_{i}" for i in range(len(side.groups))]
            total *= max(1, _distinct_rows(con, capture_sql(query, side), names))
    return total


def _pairs(
    query: Query,
    con: duckdb.DuckDBPyConnection,
    relaxed: Relaxation,
    found: Layout,
    sizes: list[int],
) -> int:
    """Pairs of the plain answer, and those that are streamed because only DuckDB can tell."""
    if len(query.sources) == 1:
        return 0
    streamed = sum(sizes[edge.left] * sizes[edge.right] for edge in found.edges if edge.streamed)
    tried = estimate(con, capture_sql(query, _by_equality(query))).rows
    met = tried * _agreeing(relaxed, found)
    if found.factorised and not streamed and tried > MAX_JOINED:
        # The plain answer groups its sides before it joins them.
        for place, size in enumerate(sizes):
            met *= min(1.0, _distinct(con, query, found, place) / max(1, size))
    return streamed + round(met)


def _by_equality(query: Query) -> SideSpec:
    """All sources joined on equal columns: further conditions are tried on those pairs."""
    everything = together(query)
    kept = [c for c in everything.conditions if len(c.sources) < 2 or isinstance(c.node, exp.EQ)]
    return replace(everything, conditions=tuple(kept))


def _agreeing(relaxed: Relaxation, found: Layout) -> float:
    """The part of all pairs whose classes agree, were classes drawn evenly."""
    cross = terms(relaxed.measures[0], found)[1] if found.factorised else ()
    return math.prod(float(relaxed.constants[leaf.name].values.mean()) for leaf in cross)


def _distinct(con: duckdb.DuckDBPyConnection, query: Query, found: Layout, place: int) -> int:
    """Rows of a side once equal ones are one, its classes told apart."""
    side, opened = found.sides[place], found.opened[place]
    names = [f"join_{i}" for i in range(len(side.joins))]
    names += [f"column_{i}" for i in range(len(side.columns))]
    names += [f"group_{i}" for i in range(len(side.groups))]
    classes = 1 if opened is None else len(query.classes[opened.slot])
    if not names:
        return classes
    return classes * _distinct_rows(con, capture_sql(query, side), names)


def _distinct_rows(con: duckdb.DuckDBPyConnection, sql: str, names: list[str]) -> int:
    """How many combinations of values columns have; for DISTINCT DuckDB guesses all rows."""
    return estimate(con, f"SELECT count(*) FROM ({sql}) GROUP BY {', '.join(names)}").rows
