"""Sides that stay apart, and the conditions each two of them meet by, as a tree.

A condition over exactly two sides can be cut: an equality of columns, one inequality, a relation of
one prediction of each. Any other condition over columns of both is cut too when the tables are
large, and its pairs are streamed. A cycle is broken by letting DuckDB join two of its sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from rainpp.relax.events import Event, EventBuilder, Leaf, sources_of
from rainpp.relax.measures import Relaxation
from rainpp.relax.partition import Partition
from rainpp.relax.query import Query, Scalar

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """`left operator right` over columns of different sources; `whole` is the condition itself."""

    whole: Scalar
    left: Scalar
    operator: str
    right: Scalar

    def seen_from(self, side: frozenset[int]) -> Comparison:
        """The same with the operand of `side` on the left."""
        if self.left.sources <= side:
            return self
        operator = _FLIPPED.get(self.operator, self.operator)
        return Comparison(self.whole, self.right, operator, self.left)


@dataclass(frozen=True, eq=False, slots=True)
class Meeting:
    """Everything that relates two sides: comparisons of columns and conditions of other kinds."""

    left: int
    right: int
    comparisons: tuple[Comparison, ...]
    conditions: tuple[Scalar, ...]

    @property
    def plain(self) -> bool:
        """Whether rows meet by equal keys alone."""
        return not self.conditions and all(c.operator == "=" for c in self.comparisons)


@dataclass(frozen=True, eq=False, slots=True)
class Forest:
    """Groups of sources, and a tree of meetings between them (one meeting less than groups)."""

    sides: tuple[frozenset[int], ...]
    meetings: tuple[Meeting, ...]


def comparison(scalar: Scalar, builder: EventBuilder) -> Comparison | None:
    """`scalar` if it compares columns of some sources with columns of others."""
    node = scalar.node.unnest()
    operator = _OPERATORS.get(type(node))
    if operator is None or scalar.holes or not isinstance(node, exp.Binary):
        return None
    left, right = (builder.part(side, scalar.shown) for side in (node.left, node.right))
    if not left.sources or not right.sources or left.sources & right.sources:
        return None
    return Comparison(scalar, left, operator, right)


def forest(
    query: Query,
    relaxed: Relaxation,
    builder: EventBuilder,
    large: Callable[[frozenset[int]], bool],
) -> Forest:
    """Keep as many sides apart as a tree allows; `large` says for which sources pairs are many."""
    certain = query.certain_conditions
    compared = {id(c): found for c in certain if (found := comparison(c, builder))}
    others = [c for c in certain if id(c) not in compared]
    parts = _glued(query, relaxed, [c for c in others if not large(c.sources)])
    for found in compared.values():
        parts.glue(found.left.sources)
        parts.glue(found.right.sources)
    crossing = [event for event in relaxed.events if _crosses(event)]
    # Equalities come last, so that a cycle is broken at one: DuckDB joins on them best.
    ordered = sorted(compared.values(), key=lambda found: found.operator == "=")
    wanted = [
        *(sources_of(event) for event in crossing),
        *(condition.sources for condition in others),
        *(found.whole.sources for found in ordered),
    ]
    while True:
        tied = _Ties(parts)
        if not any(tied.add(sources) for sources in wanted):
            return _forest(parts, tied, list(compared.values()), others)


class _Ties:
    """Pairs of groups that are tied; a tie that closes a cycle or touches three groups glues."""

    def __init__(self, parts: Partition) -> None:
        self.parts, self.pairs = parts, dict[frozenset[int], None]()
        self._reached = Partition(parts.count)

    def add(self, sources: frozenset[int]) -> bool:
        """Tie the groups of `sources`; True if groups were glued, so that all must be tied anew."""
        touched = frozenset(self.parts.find(source) for source in sources)
        if len(touched) < 2 or touched in self.pairs:
            return False
        a, *rest = sorted(touched)
        if len(rest) > 1 or self._reached.find(a) == self._reached.find(rest[0]):
            self.parts.glue(touched)
            return True
        self.pairs[touched] = None
        self._reached.glue(touched)
        return False

    def complete(self) -> None:
        """Tie what is not yet connected to the first group."""
        for source in range(self.parts.count):
            group, first = self.parts.find(source), self.parts.find(0)
            if self._reached.find(group) != self._reached.find(first):
                self.pairs[frozenset((first, group))] = None
                self._reached.glue((first, group))


def _glued(query: Query, relaxed: Relaxation, conditions: Sequence[Scalar]) -> Partition:
    """Sources that have to share a side whatever is cut."""
    parts = Partition(len(query.sources))
    for scalar in [*conditions, *(key.scalar for key in query.keys)]:
        parts.glue(scalar.sources)
    for event in relaxed.events:
        if not _crosses(event):
            parts.glue(sources_of(event))
    for measure in relaxed.measures:
        if measure.payload is not None:
            parts.glue(measure.payload.sources)
    return parts


def _forest(
    parts: Partition, tied: _Ties, compared: Sequence[Comparison], others: Sequence[Scalar]
) -> Forest:
    tied.complete()
    sides = parts.members()
    number = {parts.find(min(side)): place for place, side in enumerate(sides)}
    meetings: list[Meeting] = []
    for pair in tied.pairs:
        a, b = sorted(number[group] for group in pair)
        both = sides[a] | sides[b]

        def across(scalar: Scalar, a: int = a, b: int = b, both: frozenset[int] = both) -> bool:
            inside = scalar.sources <= both
            return inside and bool(scalar.sources & sides[a]) and bool(scalar.sources & sides[b])

        meetings.append(
            Meeting(
                a,
                b,
                tuple(c.seen_from(sides[a]) for c in compared if across(c.whole)),
                tuple(scalar for scalar in others if across(scalar)),
            )
        )
    return Forest(tuple(sides), tuple(meetings))


def _crosses(event: Event) -> bool:
    return isinstance(event, Leaf) and event.constant and len(event.atoms) == 2
