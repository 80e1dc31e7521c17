"""Which tables DuckDB joins, and what is left for segment sums.

Conditions that tie tables together are of two kinds. Equalities of columns, and conditions over
one prediction of each table without columns, can be *cut*: the two tables stay apart and meet in
`joinsums`. Everything else glues its tables into one side, whose rows DuckDB joins. Two sides are
evaluated factorised; one side means joined rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.relax.capture import SideSpec
from rainpp.relax.events import Event, EventBuilder, Leaf, leaves, sources_of
from rainpp.relax.formula import Term
from rainpp.relax.measures import Measure, Relaxation
from rainpp.relax.query import Atom, Query, Scalar


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """One or two sides, the prediction each keeps open, and the sources a self-join shares."""

    sides: tuple[SideSpec, ...]
    opened: tuple[Atom | None, ...]
    twin: tuple[int, int] | None

    @property
    def factorised(self) -> bool:
        """Whether the two sides are kept apart."""
        return len(self.sides) == 2


class Partition:
    """Sources grouped by the conditions that cannot be cut (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, source: int) -> int:
        """The representative of a source's group."""
        while self._parent[source] != source:
            source = self._parent[source]
        return source

    def glue(self, sources: Iterable[int]) -> None:
        """Put all of `sources` in one group."""
        found = sorted({self.find(source) for source in sources})
        for source in found[1:]:
            self._parent[source] = found[0]

    def members(self) -> list[frozenset[int]]:
        """The groups, in order of their first source."""
        groups: dict[int, set[int]] = {}
        for source in range(len(self._parent)):
            groups.setdefault(self.find(source), set()).add(source)
        return [frozenset(group) for group in groups.values()]


@dataclass(frozen=True, eq=False, slots=True)
class Equality:
    """left = right over columns of different sources: a join key."""

    whole: Scalar
    left: Scalar
    right: Scalar


def layout(query: Query, relaxed: Relaxation, dialect: Dialect) -> Layout:
    """Choose between joined rows and the factorised join."""
    certain = [condition for condition in query.conditions if not condition.holes]
    equalities = _equalities(certain, query, dialect)
    if len(query.sources) > 1 and not _needs_rows(relaxed):
        split = _split(query, relaxed, certain, equalities)
        if split is not None:
            found = _two_sides(query, relaxed, certain, equalities, split)
            if found is not None:
                return found
    everything = tuple(range(len(query.sources)))
    return Layout((_side(query, relaxed, certain, everything, ()),), (None,), None)


def cross_leaf(event: Event, sides: tuple[frozenset[int], frozenset[int]]) -> Leaf | None:
    """`event` if it relates one prediction of each side and nothing else."""
    if not isinstance(event, Leaf) or not event.constant or len(event.atoms) != 2:
        return None
    a, b = (atom.source for atom in event.atoms)
    left, right = sides
    return event if (a in left and b in right) or (a in right and b in left) else None


def _needs_rows(relaxed: Relaxation) -> bool:
    """An average over uncertain rows needs every row's own weight."""
    return relaxed.exact and any(
        plan.kind == "AVG" and plan.uncertain for plan in relaxed.aggregates
    )


def _equalities(certain: list[Scalar], query: Query, dialect: Dialect) -> list[Equality]:
    builder = EventBuilder(query, dialect, exact=True)
    found: list[Equality] = []
    for condition in certain:
        node = condition.node.unnest()
        if isinstance(node, exp.EQ):
            left, right = (builder.part(side, condition.shown) for side in (node.left, node.right))
            if left.sources and right.sources and not left.sources & right.sources:
                found.append(Equality(condition, left, right))
    return found


def _events(relaxed: Relaxation) -> list[Event]:
    return list(dict.fromkeys(event for measure in relaxed.measures for event in measure.events))


def _split(
    query: Query, relaxed: Relaxation, certain: list[Scalar], equalities: list[Equality]
) -> tuple[frozenset[int], frozenset[int]] | None:
    parts = Partition(len(query.sources))
    keys = {id(equality.whole) for equality in equalities}
    for condition in certain:
        if id(condition) not in keys:
            parts.glue(condition.sources)
    for equality in equalities:
        parts.glue(equality.left.sources)
        parts.glue(equality.right.sources)
    for key in query.keys:
        parts.glue(key.scalar.sources)
    crossing: list[tuple[int, int]] = []
    for event in _events(relaxed):
        if isinstance(event, Leaf) and event.constant and len(event.atoms) == 2:
            crossing.append((event.atoms[0].source, event.atoms[1].source))
        else:
            parts.glue(sources_of(event))
    for measure in relaxed.measures:
        if measure.payload is not None:
            parts.glue(measure.payload.sources)
    return _two_groups(query, parts, crossing, equalities)


def _two_groups(
    query: Query,
    parts: Partition,
    crossing: list[tuple[int, int]],
    equalities: list[Equality],
) -> tuple[frozenset[int], frozenset[int]] | None:
    """The two sides: where a condition over two predictions, or failing that a key, is cut."""
    met = {tuple(sorted((parts.find(a), parts.find(b)))) for a, b in crossing}
    met = {pair for pair in met if pair[0] != pair[1]}
    if len(met) > 1:
        return None
    if met:
        a, b = met.pop()
    else:
        predicted = [parts.find(source) for (_, source), _ in query.calls]
        others = [parts.find(source) for source in range(len(query.sources))]
        a = predicted[0]
        b = next((group for group in [*predicted, *others] if group != a), a)
        if a == b:
            return None
    for _ in query.sources:
        for equality in equalities:
            touched = {parts.find(s) for s in equality.whole.sources}
            if touched != {parts.find(a), parts.find(b)}:
                parts.glue(touched)
                if parts.find(a) == parts.find(b):
                    return None
    for group in parts.members():
        if parts.find(min(group)) not in (parts.find(a), parts.find(b)):
            parts.glue([a, min(group)])
    left, right = parts.members()
    return left, right


def _two_sides(
    query: Query,
    relaxed: Relaxation,
    certain: list[Scalar],
    equalities: list[Equality],
    split: tuple[frozenset[int], frozenset[int]],
) -> Layout | None:
    opened: list[Atom | None] = []
    cross = [leaf for event in _events(relaxed) if (leaf := cross_leaf(event, split))]
    for side in split:
        atoms = {atom for leaf in cross for atom in leaf.atoms if atom.source in side}
        atoms |= {axis.atom for axis in relaxed.axes.values() if axis.atom.source in side}
        if len(atoms) > 1 or sum(a.atom.source in side for a in relaxed.axes.values()) > 1:
            return None
        opened.append(next(iter(atoms), None))
    twins = _twins(query, split) if relaxed.exact else []
    if len(twins) > 1:
        return None
    cut = [
        equality
        for equality in equalities
        if not any(equality.whole.sources <= side for side in split)
    ]
    sides = tuple(
        _side(query, relaxed, certain, tuple(sorted(side)), tuple(_operand(e, side) for e in cut))
        for side in split
    )
    return Layout(sides, tuple(opened), twins[0] if twins else None)


def _twins(query: Query, split: tuple[frozenset[int], frozenset[int]]) -> list[tuple[int, int]]:
    """Source pairs across the sides whose predictions are the same variables."""
    holes = [hole for hole, _ in query.calls]
    return sorted(
        {
            (a, b)
            for slot, a in holes
            for other, b in holes
            if slot == other and a in split[0] and b in split[1]
        }
    )


def _operand(equality: Equality, side: frozenset[int]) -> Scalar:
    return equality.left if equality.left.sources <= side else equality.right


def _side(
    query: Query,
    relaxed: Relaxation,
    certain: list[Scalar],
    sources: tuple[int, ...],
    joins: tuple[Scalar, ...],
) -> SideSpec:
    """What to fetch for `sources`; anything that reads no table at all goes with source 0."""
    inside = frozenset(sources)

    def belongs(touched: frozenset[int]) -> bool:
        return touched <= inside and (bool(touched) or 0 in inside)

    groups = [k.scalar for k in query.keys if not k.scalar.holes and belongs(k.scalar.sources)]
    wanted = [*leaves(_events(relaxed)), *(m.payload for m in relaxed.measures if m.payload)]
    return SideSpec(
        sources,
        tuple(condition for condition in certain if belongs(condition.sources)),
        tuple(groups),
        joins,
        tuple(leaf for leaf in dict.fromkeys(wanted) if belongs(leaf.sources)),
    )


def terms(measure: Measure, found: Layout) -> tuple[Term, Term, tuple[Leaf, ...]]:
    """A measure cut in two: the left term, the right term, and the leaves that relate them."""
    sides = (frozenset(found.sides[0].sources), frozenset(found.sides[1].sources))
    cross = tuple(leaf for event in measure.events if (leaf := cross_leaf(event, sides)))
    made: list[Term] = []
    for place, side in enumerate(sides):
        events = tuple(
            event
            for event in measure.events
            if not cross_leaf(event, sides) and _on(sources_of(event), side)
        )
        payload = measure.payload
        mine = payload is not None and _on(payload.sources, side)
        made.append(Term(events, payload if mine else None, found.opened[place]))
    return made[0], made[1], cross


def _on(touched: frozenset[int], side: frozenset[int]) -> bool:
    return touched <= side and (bool(touched) or 0 in side)
