"""Relaxed values, existence and gradients of every output cell, group by group."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.average import Average, existence
from rainpp.relax.capture import Relation, capture
from rainpp.relax.edges import pairing, parents_first
from rainpp.relax.events import Leaf, atoms_of
from rainpp.relax.formula import Term
from rainpp.relax.joinsums import JoinFrame, JoinSums, join_frame
from rainpp.relax.measures import AggregatePlan, Measure, Relaxation
from rainpp.relax.query import Cell, Query, is_amount
from rainpp.relax.rowsums import Diagonal, Gradient, KeyAxis, Predictions, RowSums, RowTerm
from rainpp.relax.smooth import NumberTable
from rainpp.relax.strategy import Layout, terms
from rainpp.relax.treesums import Branch, Tree, TreeSums

Array = NDArray[np.float64]
Code = tuple[int, int]
AnySums = RowSums | JoinSums | TreeSums


@dataclass(frozen=True, slots=True)
class Place:
    """An output group: the group of the certain keys, and codes of the predicted ones."""

    group: int
    code: Code


_COMPARABLE = frozenset({int, str, bool, type(None)})


def comparable(value: object) -> Hashable:
    """`value` in a form in which equal SQL values are equal Python values; NULL is None."""
    if type(value) in _COMPARABLE:
        return cast(Hashable, value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(comparable(part) for part in value)
    if isinstance(value, dict):
        return tuple((str(name), comparable(part)) for name, part in value.items())
    if isinstance(value, bytearray):
        return bytes(value)
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime()
    if isinstance(value, datetime) and value.tzinfo is None and value.time() == datetime.min.time():
        return value.date()
    if isinstance(value, float) and value != value:
        return "NaN"
    return value if isinstance(value, Hashable) else str(value)


class Sums:
    """All measures of a query over captured rows, evaluated when first asked for."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        query: Query,
        found: tuple[Relaxation, Layout],
        predictions: Predictions,
    ) -> None:
        self.query, self.predictions = query, predictions
        self.relaxed, self.layout = found
        self.relations = [capture(con, query, side) for side in self.layout.sides]
        for (slot, source), _ in query.calls:
            for relation in self.relations:
                if source in relation.rids:
                    relation.place(slot, source, predictions.tables[slot])
        self.axes = [self.relaxed.axes[place] for place in sorted(self.relaxed.axes)]
        self.frame: JoinFrame | Tree | None = None
        self._diagonal: Relation | None = None
        if self.layout.factorised:
            self.frame = self._joined(con)
            self._diagonal = self.frame.diagonal(self.layout.twin)
        self._sums: dict[int, AnySums] = {}
        self._totals: dict[tuple[int, bool], Array] = {}
        self._groups = {
            tuple(comparable(v) for v in key): g for g, key in enumerate(self.group_keys())
        }
        self._codes = [{comparable(v): c for c, v in enumerate(a.values)} for a in self.axes]
        self._independent: bool | None = None

    def place(self, key: tuple[object, ...]) -> Place | None:
        """Where the group with these key values, in GROUP BY order, is kept; None if nowhere."""
        certain: list[Hashable] = []
        codes: list[int] = []
        for number, value in enumerate(key):
            if number in self.relaxed.axes:
                code = self._codes[len(codes)].get(comparable(value))
                if code is None:
                    return None
                codes.append(code)
            else:
                certain.append(comparable(value))
        group = self._groups.get(tuple(certain))
        return None if group is None else Place(group, self._code(codes))

    def sums(self, number: int) -> AnySums:
        """The sums of measure `number`."""
        if number not in self._sums:
            self._sums[number] = self._make(self.relaxed.measures[number])
        return self._sums[number]

    def totals(self, number: int, *, possible: bool = False) -> Array:
        """Totals of measure `number` for every group; see `RowTerm.message` for `possible`."""
        if (number, possible) not in self._totals:
            self._totals[number, possible] = self.sums(number).totals(possible=possible)
        return self._totals[number, possible]

    def forget(self) -> None:
        """Drop what has been summed; captured rows stay."""
        self._sums.clear()
        self._totals.clear()

    def joined_rows(self) -> float:
        """How many rows the sides would have joined, whatever is predicted; 0 if they were."""
        return 0.0 if self.frame is None else self.frame.joined_rows()

    @property
    def num_groups(self) -> int:
        """How many groups the certain keys make."""
        return self.frame.num_groups if self.frame else len(self.relations[0].groups)

    @property
    def independent(self) -> bool:
        """Whether no two joined rows of a group depend on the same prediction."""
        if self._independent is None:
            self._independent = self.frame is None and self._rows_are_independent()
        return self._independent

    @property
    def certain_rows(self) -> bool:
        """Whether no prediction decides which rows are joined and how they are grouped."""
        return not self.axes and not any(map(atoms_of, self.relaxed.measures[0].events))

    def average(self, plan: AggregatePlan, place: Place) -> Average:
        """E[S/N | N > 0] of an average over uncertain rows."""
        members, total = self.sums(plan.members), self.sums(plan.total)
        if not (isinstance(members, RowSums) and isinstance(total, RowSums) and self.independent):
            raise UnsupportedQueryError(
                plan.shown,
                why="predictions decide which rows are averaged, and several joined rows share one",
                instead='Use mode="rain" (a ratio of expectations), or SUM and COUNT apart',
            )
        return Average(
            members.weights(place.group, place.code), total.weights(place.group, place.code)
        )

    def _joined(self, con: duckdb.DuckDBPyConnection) -> JoinFrame | Tree:
        found = self.layout
        if not found.edges:
            return join_frame(con, self.relations[0], self.relations[1])
        branches: list[Branch] = []
        for parent, child, edge in parents_first(len(self.relations), found.edges, found.root):
            sides = self.relations[edge.left], self.relations[edge.right]
            branches.append(Branch(parent, child, pairing(con, edge, *sides), edge.right == parent))
        return Tree(tuple(self.relations), tuple(branches), found.root, found.other)

    def _make(self, measure: Measure) -> AnySums:
        constants, exact = dict(self.relaxed.constants), self.relaxed.exact
        if self.frame is None:
            term = Term(measure.events, measure.payload)
            return RowSums(
                self.relations[0],
                self.num_groups,
                term,
                tuple(self.axes),
                self.predictions,
                constants,
                exact,
            )
        cut, cross = terms(measure, self.layout)
        keys = (self._key_of(self.layout.root), self._key_of(self.layout.other))
        diagonal = None
        if self._diagonal is not None:
            payload = next((term.payload for term in cut if term.payload), None)
            whole = Term((*(event for term in cut for event in term.events), *cross), payload)
            axes = tuple(key for key in keys if key)
            shared, apart = (
                RowSums(
                    self._diagonal, self.num_groups, whole, axes, self.predictions, constants, one
                )
                for one in (True, False)
            )
            diagonal = Diagonal(shared, apart)
        sides = [
            RowTerm(relation, term, self.predictions, constants, exact)
            for relation, term in zip(self.relations, cut, strict=True)
        ]
        if isinstance(self.frame, JoinFrame):
            matrix = self._matrix(cross, 0, 1)
            return JoinSums(self.frame, sides[0], sides[1], matrix, keys[0], keys[1], diagonal)
        matrices = [self._related(cross, b.parent, b.child) for b in self.frame.branches]
        return TreeSums(self.frame, tuple(sides), tuple(matrices), keys[0], keys[1], diagonal)

    @property
    def strategy(self) -> str:
        """How the measures are summed, in a few words."""
        if not self.layout.factorised:
            return "rows"
        cross = terms(self.relaxed.measures[0], self.layout)[1]
        kinds = [e.strategy for e in self.layout.edges if e.streamed or e.order]
        return f"factorised {'class ' if cross else ''}join" + "".join(
            f", {kind}" for kind in dict.fromkeys(kinds)
        )

    def _related(self, cross: tuple[Leaf, ...], first: int, second: int) -> Array | None:
        between = tuple(
            leaf
            for leaf in cross
            if {self.layout.side_of(atom.source) for atom in leaf.atoms} == {first, second}
        )
        return self._matrix(between, first, second) if between else None

    def _matrix(self, cross: tuple[Leaf, ...], first: int, second: int) -> Array:
        """Which classes of two sides' opened predictions go together, (R_first, R_second)."""
        opened = (self.layout.opened[first], self.layout.opened[second])
        shape = [1 if atom is None else len(self.query.classes[atom.slot]) for atom in opened]
        matrix = np.ones(shape)
        for leaf in cross:
            table = self.relaxed.constants[leaf.name].values[0]
            flipped = self.layout.side_of(leaf.atoms[0].source) != first
            matrix = matrix * (table.T if flipped else table)
        return matrix

    def _key_of(self, side: int | None) -> KeyAxis | None:
        inside = () if side is None else self.layout.sides[side].sources
        return next((axis for axis in self.axes if axis.atom.source in inside), None)

    def _code(self, codes: list[int]) -> Code:
        if self.frame is not None:
            by_side = [0, 0]
            for axis, code in zip(self.axes, codes, strict=True):
                by_side[int(self.layout.side_of(axis.atom.source) != self.layout.root)] = code
            return by_side[0], by_side[1]
        rest = 0
        for axis, code in zip(self.axes[1:], codes[1:], strict=True):
            rest = rest * len(axis.values) + code
        return (codes[0] if codes else 0), rest

    def group_keys(self) -> list[tuple[object, ...]]:
        """Values of the certain keys of every group, in GROUP BY order."""
        if self.frame is None:
            return self.relations[0].groups
        certain = [key for key in self.query.keys if not key.scalar.holes]
        root, other = self.layout.root, self.layout.other
        from_root = [any(s is k.scalar for s in self.layout.sides[root].groups) for k in certain]
        found: list[tuple[object, ...]] = []
        for g, h in self.frame.groups:
            mine = iter(self.relations[root].groups[g] if self.relations[root].groups else ())
            groups = [] if other is None else self.relations[other].groups
            theirs = iter(groups[h] if groups else ())
            found.append(tuple(next(mine if here else theirs) for here in from_root))
        return found

    def _rows_are_independent(self) -> bool:
        relation = self.relations[0]
        if len(relation.rids) == 1:
            return True
        holes = {
            atom.hole for m in self.relaxed.measures for atom in Term(m.events, m.payload).atoms()
        }
        holes |= {axis.atom.hole for axis in self.axes}
        holes = {hole for hole in holes if not is_amount(self.query.slots[hole[0]])}
        rows = np.arange(len(relation))
        for slot in {slot for slot, _ in holes}:
            parts = [
                pd.DataFrame({"group": relation.group, "rid": relation.rids[source], "row": rows})
                for other, source in holes
                if other == slot
            ]
            used = pd.concat(parts).drop_duplicates()
            if used.duplicated(["group", "rid"]).any():
                return False
        return True


class Values:
    """Relaxed cells and their gradients, from sums."""

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self._averages: dict[tuple[int, Place], Average] = {}

    def cell(self, cell: Cell, place: Place) -> float:
        """The relaxed value of a cell in one group."""
        return cell.constant + sum(
            scale * self._aggregate(number, place) for scale, number in cell.terms
        )

    def add_gradient(self, cell: Cell, place: Place, gradient: Gradient) -> None:
        """Add d cell / dP to `gradient`."""
        for scale, number in cell.terms:
            self._push(number, place, scale, gradient)

    def existence(self, place: Place, gradient: Gradient | None = None) -> float:
        """Probability that the group has a row; the product rule where rows are not independent."""
        rows = self.sums.sums(0)
        if not isinstance(rows, RowSums):
            return rows.existence(place.group, place.code)
        value, slope = existence(rows.weights(place.group, place.code))
        if gradient is not None:
            rows.push(place.group, place.code, slope, gradient)
        return value

    def check(self) -> None:
        """Refuse averages over uncertain rows that share predictions."""
        for plan in self.sums.relaxed.aggregates:
            if self._by_quadrature(plan) and not self.sums.independent:
                self.sums.average(plan, Place(0, (0, 0)))

    def _by_quadrature(self, plan: AggregatePlan) -> bool:
        return plan.kind == "AVG" and plan.uncertain and self.sums.relaxed.exact

    def _average(self, number: int, place: Place) -> Average:
        if (number, place) not in self._averages:
            plan = self.sums.relaxed.aggregates[number]
            self._averages[number, place] = self.sums.average(plan, place)
        return self._averages[number, place]

    def _at(self, measure: int, place: Place, *, possible: bool = False) -> float:
        return float(self.sums.totals(measure, possible=possible)[place.group, *place.code])

    def _aggregate(self, number: int, place: Place) -> float:
        plan = self.sums.relaxed.aggregates[number]
        if plan.kind == "COUNT":
            return self._at(plan.members, place)
        if plan.kind == "SUM":
            possible = self._at(plan.members, place, possible=True) > 0.0
            return self._at(plan.total, place) if possible else float("nan")
        if self._by_quadrature(plan):
            return self._average(number, place).value
        members = self._at(plan.members, place)
        return self._at(plan.total, place) / members if members > 0.0 else float("nan")

    def _push(self, number: int, place: Place, scale: float, gradient: Gradient) -> None:
        plan, at = self.sums.relaxed.aggregates[number], (place.group, place.code)
        if plan.kind != "AVG":
            measure = plan.members if plan.kind == "COUNT" else plan.total
            self.sums.sums(measure).push(*at, scale, gradient)
            return
        members, total = self.sums.sums(plan.members), self.sums.sums(plan.total)
        if self._by_quadrature(plan):
            average = self._average(number, place)
            assert isinstance(members, RowSums)
            assert isinstance(total, RowSums)
            by_weight, by_sum = average.slopes()
            total.push(*at, scale * by_sum, gradient)
            members.push(*at, scale * by_weight, gradient)
            return
        count = self._at(plan.members, place)
        if count <= 0.0:
            return
        total.push(*at, scale / count, gradient)
        if plan.uncertain:
            mean = self._at(plan.total, place) / count
            members.push(*at, -scale * mean / count, gradient)


def as_mapping(gradient: Gradient, predictions: Predictions) -> dict[tuple[str, str], Array]:
    """Gradients keyed by (model, table); those of numbers go to the model that gave them."""
    found: dict[tuple[str, str], Array] = {}
    parts = zip(predictions.slots, predictions.tables, gradient.arrays, strict=True)
    for slot, table, array in parts:
        key, slope = (slot.model, slot.table), array
        if isinstance(table, NumberTable):
            key, slope = (table.number.model, slot.table), table.pull(array)
        found[key] = found[key] + slope if key in found else slope
    return found
