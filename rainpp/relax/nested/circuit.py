"""Events as formulas: exact probabilities at any number of predictions while formulas stay simple.

Formulas live in `gates`; `connect` makes them, `compile` turns those in which a prediction occurs
twice into ones where probabilities multiply, `sweep` evaluates them and pushes slopes back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import duckdb
import numpy as np
from numpy.typing import NDArray

from rainpp.relax.nested.algebra import (
    ALWAYS,
    NEVER,
    Aggregation,
    Intractable,
    Members,
    Outcomes,
)
from rainpp.relax.nested.arrays import Index
from rainpp.relax.nested.compile import Compiler
from rainpp.relax.nested.connect import conjunctions
from rainpp.relax.nested.counting import Counting
from rainpp.relax.nested.distribution import Fold, possible
from rainpp.relax.nested.extremes import GreatestParts
from rainpp.relax.nested.fold import States
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.heads import Heads
from rainpp.relax.nested.leading import Leading
from rainpp.relax.nested.moments import Alternatives, AverageParts, Moment
from rainpp.relax.nested.support import Supports
from rainpp.relax.nested.sweep import Sweep, sweep
from rainpp.relax.nested.tally import Tally
from rainpp.relax.rowsums import Gradient, Predictions

Array = NDArray[np.float64]

# Rows before which a first row is looked for: their pairs are edges of the formulas.
_MAX_LEADING = 2000
# Sets of events whose layers are kept: rows and cells are first asked relaxed, then hard.
_KEPT = 3


class Circuit:
    """The `Algebra` of formulas over independent predictions.

    Parameters
    ----------
    predictions : probabilities of every slot, (V, R) float64; rows sum to one.
    connection : where types of aggregates are looked up.
    exact : False multiplies probabilities whether or not events share a prediction, as Rain does
        (Flokas et al. 2022, §2.3); then nothing is too entangled.
    """

    def __init__(
        self,
        predictions: Predictions,
        connection: duckdb.DuckDBPyConnection,
        *,
        exact: bool = True,
    ) -> None:
        self._predictions, self._connection, self._exact = predictions, connection, exact
        shapes = [(p.shape[0], p.shape[1]) for p in predictions.probabilities]
        self._gates = Gates(shapes)
        self._heads = Heads(self._gates)
        self._counting = Counting(self._gates, self._heads)
        self._supports = Supports(self._gates, self._heads.unfold)
        self._leading = Leading(self._gates, self._supports, self._heads)
        self._compiler = Compiler(self._gates, self._supports)
        flat = [np.asarray(p, float).reshape(-1) for p in predictions.probabilities]
        self._classes: Array = np.concatenate([[0.0], *flat])
        self._last: list[tuple[Index, Sweep]] = []

    @property
    def method(self) -> str:
        """How probabilities are obtained."""
        return "exact (circuit)" if self._exact else "rain (product rules on lineage)"

    def literals(self, slot: int, places: Index, classes: Index) -> Index:
        """Events "row `places[i]` of slot `slot` is predicted as class `classes[i]`"."""
        return 2 * self._gates.class_nodes(slot, places, classes)

    def every(self, columns: Sequence[Index]) -> Index:
        """Row-wise conjunction."""
        count = len(columns[0])
        rows = np.tile(np.arange(count), len(columns))
        return self._conjunctions(np.concatenate(columns), rows, count)

    def either(self, columns: Sequence[Index]) -> Index:
        """Row-wise disjunction."""
        return self.negation(self.every([self.negation(column) for column in columns]))

    def negation(self, ids: Index) -> Index:
        """Row-wise negation."""
        return ids ^ 1

    def some(self, ids: Index, segment: Index, count: int) -> Index:
        """(count,) disjunction of the ids of every segment; `NEVER` for an empty one."""
        return self.negation(self._conjunctions(self.negation(ids), segment, count))

    def _conjunctions(self, ids: Index, group: Index, count: int) -> Index:
        return conjunctions(self._gates, ids, group, count, merge=self._exact)

    def probability(self, ids: Index) -> Array:
        """(n,) probabilities.

        Raises
        ------
        Intractable : an event is too entangled.
        """
        return self._sweep(ids).values(self._classes)

    def possible(self, ids: Index) -> NDArray[np.bool_]:
        """(n,) whether an event holds in some world, also one of probability 0."""
        return self._sweep(ids).values(self._undecided) > 0.0

    @functools.cached_property
    def _undecided(self) -> Array:
        """Probabilities under which every world is possible: 1/R for every class."""
        shapes = (p.shape for p in self._predictions.probabilities)
        return np.concatenate([[0.0], *(np.full(n * r, 1.0 / r) for n, r in shapes)])

    def push(self, ids: Index, adjoint: Array, gradient: Gradient) -> None:
        """Add Σᵢ adjoint[i] · ∂probability(ids)[i]/∂P to `gradient`."""
        nodes, slopes = self._sweep(ids).slopes(self._classes, adjoint)
        bounds = np.searchsorted(nodes, self._gates.slot_node)
        for slot, into in enumerate(gradient.arrays):
            chosen = slice(int(bounds[slot]), int(bounds[slot + 1]))
            places = np.divmod(nodes[chosen] - self._gates.slot_node[slot], into.shape[1])
            into[places] += slopes[chosen]

    def _sweep(self, ids: Index) -> Sweep:
        """The layers below `ids`; the last ones are kept: slopes and hard values follow."""
        found = self._kept(ids)
        if found is None:
            if self._exact:
                self._compiler.prepare(ids)
            found = sweep(self._heads, self._compiler.moved, ids)
            self._last = [*self._last[1 - _KEPT :], (ids.copy(), found)]
        return found

    def _kept(self, ids: Index) -> Sweep | None:
        return next((found for of, found in self._last if np.array_equal(of, ids)), None)

    def outcomes(self, members: Members, aggregations: Sequence[Aggregation]) -> Outcomes:
        """The joint results of several aggregates over every segment.

        Raises
        ------
        Intractable : an aggregate is not plain, or its results or their causes are too many.
        """
        return self._fold().outcomes(members, aggregations)

    def _fold(self) -> Fold:
        return Fold(
            self._gates,
            self._supports,
            self._compiler,
            self._heads,
            self._counting,
            self._connection,
            share=self._exact,
        )

    def average(self, members: Members, aggregation: Aggregation) -> Moment:
        """E[average | there is one] of every segment, at any number of members.

        Raises
        ------
        Intractable : predictions that members share combine in too many ways.
        """
        found, states, tally = self._alternatives(members, aggregation)
        number, total = tally.averaged(states.totals)
        work = AverageParts(found, number, total)
        return Moment(work.value, found, work.slopes, self)

    def extreme(self, members: Members, aggregation: Aggregation) -> Moment:
        """E[max or min | there is one] of every segment, at any number of members.

        Raises
        ------
        Intractable : values are not numbers, or predictions combine in too many ways.
        """
        found, states, tally = self._alternatives(members, aggregation)
        sign = -1.0 if aggregation.kind == "min" else 1.0
        work = GreatestParts(found, sign * tally.extreme_values(states.totals))
        return Moment(sign * work.value, found, sign * work.slopes, self)

    def _alternatives(
        self, members: Members, aggregation: Aggregation
    ) -> tuple[Alternatives, States, Tally]:
        members = possible(members)
        states, segment, tally = self._fold().parts(members, aggregation)
        chance = self.probability(states.events)
        return (
            Alternatives(states.events, chance, states.owner, segment, members.count),
            states,
            tally,
        )

    def leading(self, ids: Index, skip: int, take: int | None) -> Index:
        """Events that a row is there and few enough rows before it are.

        Raises
        ------
        Intractable : uncertain rows are no independent parts of alternatives.
        """
        out, maybe = np.full(len(ids), NEVER), np.flatnonzero(ids != NEVER)
        rows = ids[maybe]
        if (rows == ALWAYS).all():
            last = len(rows) if take is None else skip + take
            place = np.arange(len(rows))
            out[maybe] = np.where((place >= skip) & (place < last), ALWAYS, NEVER)
            return out
        try:
            if not self._exact:
                raise Intractable("LIMIT counts uncertain rows")
            out[maybe] = self._leading.rows(rows, skip, take)
        except Intractable:
            if skip or take != 1 or len(rows) > _MAX_LEADING:
                raise
            later, earlier = np.tril_indices(len(rows), -1)
            before = self.some(rows[earlier], later, len(rows))
            out[maybe] = self.every([rows, self.negation(before)])
        return out

    def paired(self, left: Members, right: Members, *, within: bool) -> Index:
        """Events of INTERSECT ALL and EXCEPT ALL.

        Raises
        ------
        Intractable : always; formulas do not count.
        """
        del left, right, within
        raise Intractable("ALL counts uncertain rows")

    def hard(self, ids: Index) -> NDArray[np.bool_]:
        """(n,) whether each event holds in the world of the likeliest classes."""
        # Factors need not be independent for this: nothing is compiled.
        work = self._kept(ids) or sweep(self._heads, self._compiler.moved, ids)
        return work.values(self._likeliest) > 0.5

    @functools.cached_property
    def _likeliest(self) -> Array:
        """1 at the likeliest class of every prediction, else 0."""
        flat = [np.zeros(1)]
        for slot, p in enumerate(self._predictions.probabilities):
            certain, rows = np.zeros(p.shape), np.arange(len(p))
            certain[rows, self._predictions.likeliest(slot, rows)] = 1.0
            flat.append(certain.reshape(-1))
        return np.concatenate(flat)

    def certain(self, ids: Index) -> NDArray[np.bool_]:
        """(n,) whether each event is known to hold in every world."""
        return ids == ALWAYS

    def error(self, numerator: tuple[Index, Array], denominator: Index | None) -> float:
        """Zero: nothing is sampled."""
        del numerator, denominator
        return 0.0
