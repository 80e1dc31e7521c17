"""What a query sums: every COUNT, SUM and AVG as one or two measures over the joined rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from sqlglot.dialects.dialect import Dialect

from rainpp.relax.events import Event, EventBuilder, Leaf, Reading, atoms_of, leaves
from rainpp.relax.masks import Factor, constant_factors, key_values
from rainpp.relax.query import Aggregate, Query
from rainpp.relax.rowsums import KeyAxis


@dataclass(frozen=True, eq=False, slots=True)
class Measure:
    """Σ over joined rows of ⟦events⟧ · payload; without a payload it counts."""

    events: tuple[Event, ...]
    payload: Leaf | None = None

    @property
    def signature(self) -> tuple[int, ...]:
        """Equal for measures that are the same sum."""
        return (*sorted(id(event) for event in self.events), id(self.payload))


@dataclass(frozen=True, eq=False, slots=True)
class AggregatePlan:
    """COUNT is `members`, SUM is `total`, AVG is both; numbers point into the measures.

    `uncertain` says whether predictions decide which rows count.
    """

    kind: str
    members: int
    total: int
    uncertain: bool
    shown: str


@dataclass(frozen=True, eq=False, slots=True)
class Relaxation:
    """A query under one semantics: its measures, predicted group keys and constant tables.

    Measure 0 is the rows themselves: WHERE alone, which decides whether a group exists.
    """

    exact: bool
    measures: tuple[Measure, ...]
    aggregates: tuple[AggregatePlan, ...]
    axes: Mapping[int, KeyAxis]
    constants: Mapping[str, Factor]

    @property
    def events(self) -> list[Event]:
        """The events of all measures, each once."""
        return list(dict.fromkeys(event for measure in self.measures for event in measure.events))


def relaxation(
    query: Query, con: duckdb.DuckDBPyConnection, dialect: Dialect, *, exact: bool
) -> Relaxation:
    """Build the measures of a query and evaluate what depends on the classes alone."""
    builder = EventBuilder(query, dialect, exact)
    where = tuple(builder.condition(c) for c in query.conditions if c.holes)
    drafts = [_draft(aggregate, where, builder) for aggregate in query.aggregates]
    used = [*where, *(event for draft in drafts for event in draft[0])]
    payloads = [draft[1] for draft in drafts if draft[1] is not None]
    wanted = list(dict.fromkeys([*leaves(used), *payloads]))
    constants = constant_factors(con, wanted, query.classes)
    axes = {
        place: _axis(key.scalar.sql, key.scalar.holes[0], query, con, builder)
        for place, key in enumerate(query.keys)
        if key.scalar.holes
    }
    measures: dict[tuple[int, ...], int] = {}
    collected: list[Measure] = []

    def number(measure: Measure) -> int:
        if measure.signature not in measures:
            measures[measure.signature] = len(collected)
            collected.append(measure)
        return measures[measure.signature]

    number(Measure(where))
    plans: list[AggregatePlan] = []
    for aggregate, (events, payload) in zip(query.aggregates, drafts, strict=True):
        kept = tuple(event for event in events if not _always(event, constants))
        members = number(Measure(kept))
        total = members if payload is None else number(Measure(kept, payload))
        uncertain = bool(axes) or any(atoms_of(event) for event in kept)
        plans.append(AggregatePlan(aggregate.kind, members, total, uncertain, aggregate.shown))
    return Relaxation(exact, tuple(collected), tuple(plans), axes, constants)


def _draft(
    aggregate: Aggregate, where: Sequence[Event], builder: EventBuilder
) -> tuple[tuple[Event, ...], Leaf | None]:
    events = [*where, *(builder.condition(part) for part in aggregate.filters)]
    if aggregate.argument is None:
        return tuple(events), None
    events.append(builder.present(aggregate.argument))
    payload = None if aggregate.kind == "COUNT" else builder.number(aggregate.argument)
    return tuple(events), payload


def _always(event: Event, constants: Mapping[str, Factor]) -> bool:
    """Whether an event holds whatever is predicted, so that it can be left out."""
    if not isinstance(event, Leaf) or event.reading is Reading.NUMBER:
        return False
    return event.name in constants and bool(constants[event.name].values.all())


def _axis(
    sql: str,
    hole: tuple[int, int],
    query: Query,
    con: duckdb.DuckDBPyConnection,
    builder: EventBuilder,
) -> KeyAxis:
    """The values a predicted group key takes, in the order of the first class that gives each."""
    values = key_values(con, sql, hole, query.classes)
    seen: dict[object, int] = {}
    codes = [seen.setdefault(value, len(seen)) for value in values]
    return KeyAxis(builder.atom(hole), np.asarray(codes, np.int64), tuple(seen))
