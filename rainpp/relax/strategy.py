"""Which tables DuckDB joins, and what is left for sums over messages.

Conditions that tie tables together are of two kinds. Comparisons of columns, and conditions over
one prediction of each table without columns, can be *cut*: the two tables stay apart and meet in
`joinsums` or `treesums`. Everything else glues its tables into one side, whose rows DuckDB joins.
One side means joined rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot.dialects.dialect import Dialect

from rainpp.relax.capture import SideSpec
from rainpp.relax.edges import Edge, edges
from rainpp.relax.events import Event, EventBuilder, Leaf, leaves, sources_of
from rainpp.relax.forest import Comparison, Forest, comparison, forest
from rainpp.relax.formula import Term
from rainpp.relax.measures import Measure, Relaxation
from rainpp.relax.partition import Partition
from rainpp.relax.query import Atom, Query, Scalar


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """The sides, the prediction each keeps open, and the sources a self-join shares.

    `edges` say how sides meet when they form a tree; they are empty for rows and for two sides
    joined on equal keys alone. `root` is the side with the group keys, `other` a second one.
    """

    sides: tuple[SideSpec, ...]
    opened: tuple[Atom | None, ...]
    twin: tuple[int, int] | None
    edges: tuple[Edge, ...] = ()
    root: int = 0
    other: int | None = None

    @property
    def factorised(self) -> bool:
        """Whether sides are kept apart."""
        return len(self.sides) > 1

    def side_of(self, source: int) -> int:
        """The side a source belongs to."""
        return next(place for place, side in enumerate(self.sides) if source in side.sources)


def layout(
    query: Query,
    relaxed: Relaxation,
    dialect: Dialect,
    large: Callable[[frozenset[int]], bool] = lambda _: False,
) -> Layout:
    """Choose between joined rows and a factorised join.

    `large` says for which sources there are too many pairs of rows to keep.
    """
    builder = EventBuilder(query, dialect, exact=True)
    if len(query.sources) > 1 and not _needs_rows(relaxed):
        apart = forest(query, relaxed, builder, large)
        found = _tree(query, relaxed, apart, builder) if len(apart.sides) > 1 else None
        found = found or _two(query, relaxed, builder)
        if found is not None:
            return found
    everything = tuple(range(len(query.sources)))
    return Layout((_side(query, relaxed, everything),), (None,), None)


def _two(query: Query, relaxed: Relaxation, builder: EventBuilder) -> Layout | None:
    """Two sides that meet on equal keys, if the rest can be glued so."""
    compared = [found for c in query.certain_conditions if (found := comparison(c, builder))]
    equalities = [found for found in compared if found.operator == "="]
    split = _split(query, relaxed, equalities)
    return _two_sides(query, relaxed, equalities, split) if split else None


def _tree(
    query: Query,
    relaxed: Relaxation,
    apart: Forest,
    builder: EventBuilder,
) -> Layout | None:
    """The layout of a forest; None if keys or shared predictions forbid it."""
    opened = _opened(relaxed, apart.sides)
    keyed = _sides_with_keys(query, relaxed, apart.sides)
    twins = _twins(query, apart.sides) if relaxed.exact else []
    if opened is None or len(keyed) > 2 or len(twins) > 1:
        return None
    if len(apart.sides) > 2 and (twins or len(keyed) > 1):
        return None
    if len(apart.sides) == 2 and apart.meetings[0].plain:
        split = (apart.sides[0], apart.sides[1])
        return _two_sides(query, relaxed, list(apart.meetings[0].comparisons), split)
    found, columns = edges(apart, builder)
    sides = tuple(
        _side(query, relaxed, tuple(sorted(side)), columns=wanted)
        for side, wanted in zip(apart.sides, columns, strict=True)
    )
    root, other = [*keyed, *([0] if not keyed else []), None][:2]
    assert root is not None
    return Layout(sides, opened, twins[0] if twins else None, found, root, other)


def _opened(
    relaxed: Relaxation, sides: tuple[frozenset[int], ...]
) -> tuple[Atom | None, ...] | None:
    """The one prediction each side relates to others or groups by; None if it is several."""
    cross = [leaf for event in relaxed.events if (leaf := cross_leaf(event, sides))]
    opened: list[Atom | None] = []
    for side in sides:
        atoms = {atom for leaf in cross for atom in leaf.atoms if atom.source in side}
        atoms |= {axis.atom for axis in relaxed.axes.values() if axis.atom.source in side}
        if len(atoms) > 1 or sum(a.atom.source in side for a in relaxed.axes.values()) > 1:
            return None
        opened.append(next(iter(atoms), None))
    return tuple(opened)


def _sides_with_keys(
    query: Query, relaxed: Relaxation, sides: tuple[frozenset[int], ...]
) -> list[int]:
    sources = {source for key in query.keys for source in key.scalar.sources}
    sources |= {axis.atom.source for axis in relaxed.axes.values()}
    return [place for place, side in enumerate(sides) if sources & side]


def cross_leaf(event: Event, sides: tuple[frozenset[int], ...]) -> Leaf | None:
    """`event` if it relates predictions of two sides and nothing else."""
    if not isinstance(event, Leaf) or not event.constant or len(event.atoms) != 2:
        return None
    sources = {atom.source for atom in event.atoms}
    return None if any(sources <= side for side in sides) else event


def _needs_rows(relaxed: Relaxation) -> bool:
    """An average over uncertain rows needs every row's own weight."""
    return relaxed.exact and any(
        plan.kind == "AVG" and plan.uncertain for plan in relaxed.aggregates
    )


def _split(
    query: Query, relaxed: Relaxation, equalities: list[Comparison]
) -> tuple[frozenset[int], frozenset[int]] | None:
    parts = Partition(len(query.sources))
    keys = {id(equality.whole) for equality in equalities}
    for condition in query.certain_conditions:
        if id(condition) not in keys:
            parts.glue(condition.sources)
    for equality in equalities:
        parts.glue(equality.left.sources)
        parts.glue(equality.right.sources)
    for key in query.keys:
        parts.glue(key.scalar.sources)
    crossing: list[tuple[int, int]] = []
    for event in relaxed.events:
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
    equalities: list[Comparison],
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
    equalities: list[Comparison],
    split: tuple[frozenset[int], frozenset[int]],
) -> Layout | None:
    opened = _opened(relaxed, split)
    if opened is None:
        return None
    twins = _twins(query, split) if relaxed.exact else []
    if len(twins) > 1:
        return None
    cut = [
        equality
        for equality in equalities
        if not any(equality.whole.sources <= side for side in split)
    ]
    sides = tuple(
        _side(query, relaxed, tuple(sorted(side)), joins=tuple(_operand(e, side) for e in cut))
        for side in split
    )
    return Layout(sides, opened, twins[0] if twins else None, other=1)


def _twins(query: Query, sides: tuple[frozenset[int], ...]) -> list[tuple[int, int]]:
    """Source pairs across the sides whose predictions are the same variables."""
    holes = [hole for hole, _ in query.calls]
    return sorted(
        {
            (a, b)
            for slot, a in holes
            for other, b in holes
            if slot == other and a != b and _apart(sides, a, b)
        }
    )


def _apart(sides: tuple[frozenset[int], ...], a: int, b: int) -> bool:
    """Whether `a` is on a side before that of `b`."""
    place = {source: number for number, side in enumerate(sides) for source in side}
    return place[a] < place[b]


def _operand(equality: Comparison, side: frozenset[int]) -> Scalar:
    return equality.left if equality.left.sources <= side else equality.right


def _side(
    query: Query,
    relaxed: Relaxation,
    sources: tuple[int, ...],
    *,
    joins: tuple[Scalar, ...] = (),
    columns: tuple[Scalar, ...] = (),
) -> SideSpec:
    """What to fetch for `sources`; anything that reads no table at all goes with source 0."""
    inside = frozenset(sources)

    def belongs(touched: frozenset[int]) -> bool:
        return touched <= inside and (bool(touched) or 0 in inside)

    groups = [k.scalar for k in query.keys if not k.scalar.holes and belongs(k.scalar.sources)]
    wanted = [*leaves(relaxed.events), *(m.payload for m in relaxed.measures if m.payload)]
    return SideSpec(
        sources,
        tuple(condition for condition in query.certain_conditions if belongs(condition.sources)),
        tuple(groups),
        joins,
        tuple(leaf for leaf in dict.fromkeys(wanted) if belongs(leaf.sources)),
        columns,
    )


def terms(measure: Measure, found: Layout) -> tuple[tuple[Term, ...], tuple[Leaf, ...]]:
    """A measure cut along the sides: a term for each, and the leaves that relate them."""
    sides = tuple(frozenset(side.sources) for side in found.sides)
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
    return tuple(made), cross


def _on(touched: frozenset[int], side: frozenset[int]) -> bool:
    return touched <= side and (bool(touched) or 0 in side)
