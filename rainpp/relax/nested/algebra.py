"""What a captured query needs from events, whichever way they are represented.

An *event* is a set of possible worlds, a world being one class for every prediction. Operators of
a query run in DuckDB over ordinary rows and carry one event id per row; an `Algebra` combines the
ids and, at the end, gives probabilities and their slopes. Two exist: `worlds` lists or samples the
worlds, `circuit` keeps formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.relax.rowsums import Gradient

Array = NDArray[np.float64]
Index = NDArray[np.int64]

NEVER = 0
ALWAYS = 1


class Intractable(Exception):
    """An algebra cannot represent or evaluate something; the message says what, in a clause."""


@dataclass(frozen=True, eq=False, slots=True)
class Aggregation:
    """One aggregate function over the rows of a segment, as DuckDB spells it.

    `kind` is the lower-case function name ("count", "sum", "avg", "min", "max", or any other).
    `sql` is the call with argument columns a0, a1, ... of the member table, modifiers included:
    ``sum(a0)``, ``count(*)``, ``count(DISTINCT a1)``, ``max(a0) FILTER (WHERE a2)``. `argument`
    names the one column a plain call reads (None for count(*)), `filters` the boolean column of a
    FILTER clause, `distinct` whether duplicates count once. A call that does not fit this shape has
    ``plain=False`` and only its SQL says what it means. `shown` is the call as the user wrote it.
    """

    kind: str
    sql: str
    argument: str | None
    filters: str | None = None
    distinct: bool = False
    plain: bool = True
    shown: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Members:
    """Rows that are aggregated: row i has event `ids[i]` and lies in `segment[i]` < `count`.

    `table` holds the argument columns (n rows, columns a0, a1, ...), None if there are none.
    `segment` is ascending.
    """

    ids: Index
    segment: Index
    count: int
    table: pa.Table | None


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """Every result the aggregates of a segment can take while it has members, and when.

    Outcome j belongs to `segment[j]` (ascending), has values ``table[v0, v1, ...][j]`` and event
    `ids[j]`. The outcomes of one segment exclude one another and together are the event that the
    segment has a member. Column v{i} belongs to aggregate i and has the type DuckDB gives it.
    `absent`, where it is given, has the event of every segment that no member is there: one that
    the algebra knows to exclude the outcomes.
    """

    segment: Index
    table: pa.Table
    ids: Index
    absent: Index | None = None


class Algebra(Protocol):
    """Events by id; `NEVER` and `ALWAYS` are ids of every algebra.

    Ids of equal events need not be equal. Arrays of ids are int64, one-dimensional.
    """

    @property
    def method(self) -> str:
        """How probabilities are obtained, for `Answer.method`: "exact (...)", "approximate ..."."""
        ...

    def literals(self, slot: int, places: Index, classes: Index) -> Index:
        """Events "row `places[i]` of slot `slot` is predicted as class `classes[i]`"."""
        ...

    def every(self, columns: Sequence[Index]) -> Index:
        """Row-wise conjunction of columns of ids of one length."""
        ...

    def either(self, columns: Sequence[Index]) -> Index:
        """Row-wise disjunction."""
        ...

    def negation(self, ids: Index) -> Index:
        """Row-wise negation."""
        ...

    def some(self, ids: Index, segment: Index, count: int) -> Index:
        """(count,) disjunction of the ids of every segment; `NEVER` for an empty one.

        `segment` need not be sorted.
        """
        ...

    def outcomes(self, members: Members, aggregations: Sequence[Aggregation]) -> Outcomes:
        """The joint results of several aggregates over every segment.

        Raises
        ------
        Intractable : too many outcomes, or an aggregate this algebra cannot follow.
        """
        ...

    def leading(self, ids: Index, skip: int, take: int | None) -> Index:
        """Events "row i is there and between skip and skip + take rows before it are": LIMIT.

        Rows come in the order of the answer.

        Raises
        ------
        Intractable : this algebra cannot count rows that far.
        """
        ...

    def paired(self, left: Members, right: Members, *, within: bool) -> Index:
        """Events "INTERSECT ALL or EXCEPT ALL has more rows of this value than come before i".

        The rows of a segment are equal. With `within` as many are kept as both sides have, else as
        many as the left side has more; left row i stands for the next one after those before it.

        Raises
        ------
        Intractable : this algebra cannot count rows that far.
        """
        ...

    def hard(self, ids: Index) -> NDArray[np.bool_]:
        """(n,) whether each event holds in the world of the likeliest classes."""
        ...

    def certain(self, ids: Index) -> NDArray[np.bool_]:
        """(n,) whether each event is known to hold in every world, whatever is predicted."""
        ...

    def possible(self, ids: Index) -> NDArray[np.bool_]:
        """(n,) whether an event may hold in some world, likely or of probability 0.

        Raises
        ------
        Intractable : as for `probability`.
        """
        ...

    def probability(self, ids: Index) -> Array:
        """(n,) probabilities under the predictions.

        Raises
        ------
        Intractable : an event is too entangled.
        """
        ...

    def push(self, ids: Index, adjoint: Array, gradient: Gradient) -> None:
        """Add Σᵢ adjoint[i] · ∂probability(ids)[i]/∂P to `gradient`."""
        ...

    def error(self, numerator: tuple[Index, Array], denominator: Index | None) -> float:
        """Half width of a 95 % interval of Σ aᵢ P(eᵢ), or of that over Σ P(denominator).

        Zero if probabilities are exact. `denominator` lists events that exclude one another.
        """
        ...
