"""Linear cells: combinations of COUNT, SUM and AVG whose expectation needs no joint results.

An aggregate over rows that are there in every world is a certain number, so one may also divide by
it; AVG over such rows is linear for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import duckdb
import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.catalog import rows
from rainpp.relax.nested.algebra import ALWAYS, Array, Index
from rainpp.relax.nested.cells import Form, is_numeric, numbers
from rainpp.relax.nested.grouping import Grouped
from rainpp.relax.nested.relation import combined_owner
from rainpp.relax.nested.rewriting import aggregates_in, outer_columns

Scale = Array | float


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """constant + Σ terms[i] · aggregate i, each factor one number or one per group."""

    constant: Scale
    terms: dict[int, Scale]

    def scaled(self, by: Scale) -> Linear:
        """The form times a certain number."""
        return Linear(self.constant * by, {i: scale * by for i, scale in self.terms.items()})

    def plus(self, other: Linear) -> Linear:
        """The sum of two forms."""
        terms = dict(self.terms)
        for index, scale in other.terms.items():
            terms[index] = terms.get(index, 0.0) + scale
        return Linear(self.constant + other.constant, terms)


@dataclass(frozen=True, eq=False, slots=True)
class Entries:
    """Σ over entries of value · P(id), by segment."""

    segment: Index
    ids: Index
    values: Array


class LinearReader:
    """Reads SELECT items of a grouped block as linear forms."""

    def __init__(self, found: Grouped) -> None:
        self._found, self._context = found, found.engine.context
        self._algebra = found.engine.context.algebra
        self._certain: dict[int, Array | None] = {}
        self._zero: set[int] = set()

    def form(self, item: exp.Expr) -> Form | None:
        """The cells of an item, None if it is not linear."""
        self._zero = set()
        linear = self._read(item)
        if linear is None:
            return None
        count = self._found.members.count
        needed: list[tuple[Index, Index]] = []
        parts = [Entries(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
        for number, scale in linear.terms.items():
            entries = self._entries(number)
            if entries is None:
                return None
            if self._found.aggregations[number].kind != "count" and number not in self._zero:
                needed.append((entries.segment, entries.ids))
            factor = np.broadcast_to(np.asarray(scale, float), (count,))[entries.segment]
            parts.append(Entries(entries.segment, entries.ids, entries.values * factor))
        null = ~np.isfinite(np.broadcast_to(np.asarray(linear.constant, float), (count,)))
        segment = np.concatenate([part.segment for part in parts])
        order = np.argsort(segment, kind="stable")
        return Form(
            self._algebra,
            count,
            segment[order],
            np.concatenate([part.ids for part in parts])[order],
            np.concatenate([part.values for part in parts])[order],
            linear.constant,
            null=null,
            needed=needed,
        )

    def _read(self, node: exp.Expr) -> Linear | None:
        sql = self._context.sql(node)
        for number, call in enumerate(self._found.calls):
            if self._context.sql(call) == sql:
                return self._aggregate(number)
        if isinstance(node, exp.Paren):
            return self._read(node.this)
        if isinstance(node, exp.Coalesce):
            return self._filled(node)
        if isinstance(node, exp.Neg):
            inner = self._read(node.this)
            return None if inner is None else inner.scaled(-1.0)
        if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div)):
            left, right = self._read(node.left), self._read(node.right)
            if left is None or right is None:
                return None
            if isinstance(node, exp.Div) and aggregates_in(node.right) and self._may_be_null(left):
                return None
            return _combined(node, left, right)
        return self._number(node)

    def _may_be_null(self, form: Linear) -> bool:
        """Whether some SUM of a form can run over no row: a ratio is then NULL, not zero."""
        for number in form.terms:
            if self._found.aggregations[number].kind == "sum":
                members = self._members(number)
                if members is None or not (members > 0).all():
                    return True
        return False

    def _filled(self, node: exp.Coalesce) -> Linear | None:
        """coalesce(SUM, 0): a SUM over no row counts as nothing anyway."""
        inner, others = self._read(node.this), node.expressions
        zero = len(others) == 1 and isinstance(others[0], exp.Literal) and others[0].name == "0"
        if inner is None or not zero or inner.constant != 0.0 or len(inner.terms) != 1:
            return None
        (number,) = inner.terms
        if self._found.aggregations[number].kind != "sum":
            return None
        self._zero.add(number)
        return inner

    def _aggregate(self, number: int) -> Linear | None:
        call = self._found.aggregations[number]
        if not call.plain or call.kind not in ("count", "sum", "avg"):
            return None
        if call.kind == "sum" or call.distinct:
            return None if call.kind == "avg" else Linear(0.0, {number: 1.0})
        members = self._members(number)
        if call.kind == "count":
            return Linear(0.0, {number: 1.0}) if members is None else Linear(members, {})
        if members is None:
            return None
        with np.errstate(divide="ignore"):
            return Linear(0.0, {number: np.where(members > 0, 1.0 / members, np.nan)})

    def _number(self, node: exp.Expr) -> Linear | None:
        engine, scope = self._found.engine, self._found.rows.scope
        certain = not engine.uncertain(node, scope) and not outer_columns(node)
        if not certain or aggregates_in(node):
            return None
        try:
            sql = f"{scope.prefix()}SELECT TRY_CAST(({self._context.sql(node)}) AS DOUBLE)"
            value = rows(self._context.con, sql)[0][0]
        except duckdb.Error:
            return None
        return None if value is None else Linear(float(cast(float, value)), {})

    def _chosen(self, number: int) -> Index:
        """Members that an aggregate reads: FILTER holds and the argument is not NULL."""
        call, members = self._found.aggregations[number], self._found.members
        chosen = np.ones(len(members.ids), bool)
        if call.filters is not None and members.table is not None:
            kept = members.table.column(call.filters).fill_null(False)
            chosen &= np.asarray(kept.to_numpy(), bool)
        if call.argument is not None and members.table is not None:
            chosen &= np.asarray(members.table.column(call.argument).is_valid().to_numpy(), bool)
        return np.flatnonzero(chosen)

    def _members(self, number: int) -> Array | None:
        """(G,) how many rows an aggregate reads if that is the same in every world, else None."""
        if number not in self._certain:
            chosen, members = self._chosen(number), self._found.members
            pairs = combined_owner(
                [members.segment[chosen], self._found.owner[chosen]], len(chosen)
            )
            _, first, code = np.unique(pairs, return_index=True, return_inverse=True)
            there = self._algebra.some(members.ids[chosen], code.reshape(-1), len(first))
            sure = bool(self._algebra.certain(there).all())
            segments = members.segment[chosen][first]
            counts = np.bincount(segments, minlength=members.count).astype(float)
            self._certain[number] = counts if sure else None
        return self._certain[number]

    def _entries(self, number: int) -> Entries | None:
        """The terms of one COUNT, SUM or AVG."""
        call, members = self._found.aggregations[number], self._found.members
        chosen = self._chosen(number)
        values = np.ones(len(chosen))
        if call.argument is not None and members.table is not None and call.kind != "count":
            column = members.table.column(call.argument)
            if not is_numeric(column.type):
                return None
            values = numbers(column, self._shown(number))[chosen]
        if call.distinct and call.argument is not None:
            return self._distinct(number, chosen)
        return Entries(members.segment[chosen], members.ids[chosen], values)

    def _shown(self, number: int) -> str:
        return self._context.shown(self._found.calls[number])

    def _distinct(self, number: int, chosen: Index) -> Entries:
        """One entry per group and distinct value, there if any row has it."""
        members, engine = self._found.members, self._found.engine
        call = self._found.aggregations[number]
        assert members.table is not None
        assert call.argument is not None
        column = members.table.column(call.argument).take(pa.array(chosen))
        segment, ids = members.segment[chosen], members.ids[chosen]
        table = pa.table({"g": pa.array(segment), "v": column})
        whole = engine.context.relation(table, np.full(len(ids), ALWAYS), np.arange(len(ids)))
        code, first, count = engine.distinct_rows(whole, ["g", "v"])
        merged = self._algebra.some(ids, code, count)
        if call.kind == "count":
            values = np.ones(count)
        else:
            values = numbers(column.take(pa.array(first)), self._shown(number))
        return Entries(segment[first], merged, values)


def _combined(node: exp.Expr, left: Linear, right: Linear) -> Linear | None:
    if isinstance(node, exp.Add):
        return left.plus(right)
    if isinstance(node, exp.Sub):
        return left.plus(right.scaled(-1.0))
    if isinstance(node, exp.Div):
        if right.terms:
            return None
        with np.errstate(divide="ignore"):
            inverse = 1.0 / np.asarray(right.constant, float)
        return left.scaled(np.where(np.isfinite(inverse), inverse, np.nan))
    if not right.terms:
        return left.scaled(right.constant)
    return None if left.terms else right.scaled(left.constant)
