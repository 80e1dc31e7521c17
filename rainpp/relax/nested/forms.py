"""The rows an answer can have: what names each, when it is there, and what its cells are worth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import duckdb
import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.catalog import rows
from rainpp.relax.nested.algebra import ALWAYS, Algebra, Array, Index
from rainpp.relax.nested.engine import Engine
from rainpp.relax.nested.grouping import Grouped
from rainpp.relax.nested.names import Scope
from rainpp.relax.nested.relation import Relation, combined_owner, integers
from rainpp.relax.nested.rewriting import aggregates_in, grouping_sets, is_grouped, items_of
from rainpp.relax.nested.select import grouped, plain_block
from rainpp.relax.rowsums import Gradient


@dataclass(eq=False)
class Form:
    """A numeric column of uncertain cells, for all rows of the answer at once.

    Row g is constant[g] + Σ values · P(ids) over the entries with segment g; with `given`, divided
    by Σ P(given) over theirs, which makes it the expectation under that condition. Rows without any
    possible entry are NaN where `nullable`.
    """

    algebra: Algebra
    count: int
    segment: Index
    ids: Index
    values: Array
    constant: float = 0.0
    given: tuple[Index, Index] | None = None
    nullable: Array | None = None

    @functools.cached_property
    def relaxed(self) -> Array:
        """(count,) expectations."""
        return self._total(self.algebra.probability)

    @functools.cached_property
    def hard(self) -> Array:
        """(count,) values in the world of the likeliest classes."""
        return self._total(lambda ids: self.algebra.hard(ids).astype(float))

    def push(self, row: int, scale: float, gradient: Gradient) -> None:
        """Add scale · ∂relaxed[row]/∂P to `gradient`."""
        mine = self.segment == row
        ids, slope = self.ids[mine], self.values[mine]
        if self.given is not None:
            conditions = self.given[1][self.given[0] == row]
            mass = float(self.algebra.probability(conditions).sum())
            if mass <= 0.0:
                return
            value = float(self.relaxed[row])
            ids = np.r_[ids, conditions]
            slope = np.r_[slope, np.full(len(conditions), -value)] / mass
        if len(ids):
            self.algebra.push(ids, scale * slope, gradient)

    def error(self, row: int) -> float:
        """Half width of a 95 % interval."""
        mine = self.segment == row
        conditions = None if self.given is None else self.given[1][self.given[0] == row]
        if not mine.any():
            return 0.0
        return self.algebra.error((self.ids[mine], self.values[mine]), conditions)

    def _total(self, weights: Callable[[Index], Array]) -> Array:
        total = np.bincount(self.segment, self.values * weights(self.ids), self.count)
        if self.given is not None:
            mass = np.bincount(self.given[0], weights(self.given[1]), self.count)
            with np.errstate(invalid="ignore", divide="ignore"):
                total = np.where(mass > 0.0, total / mass, np.nan)
        total = total + self.constant
        if self.nullable is not None:
            total = np.where(self.nullable > 0, np.nan, total)
        return np.asarray(total, np.float64)


@dataclass(eq=False)
class Candidates:
    """Every row the answer can have.

    `identity[j]` holds the values of column j where they are certain, None for a column of cells;
    `forms[j]` the numeric cells; `exists` (G,) the events that a row is there.
    """

    algebra: Algebra
    identity: list[list[object] | None]
    forms: dict[int, Form]
    exists: Index
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.exists)

    @functools.cached_property
    def probability(self) -> Array:
        """(G,) probabilities that the rows are there."""
        return self.algebra.probability(self.exists)

    @functools.cached_property
    def hard(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(G,) which rows are there in the world of the likeliest classes."""
        return self.algebra.hard(self.exists)

    def solve(self) -> None:
        """Compute every probability, so that what is intractable shows now."""
        _ = self.probability
        for form in self.forms.values():
            _ = form.relaxed


def candidates(engine: Engine, node: exp.Query, scope: Scope) -> Candidates:
    """The possible rows of a whole query."""
    if isinstance(node, exp.Union) and not node.args.get("distinct", True) and _open(node):
        scope = engine.with_ctes(node, scope)
        sides = [candidates(engine, side, scope) for side in (node.left, node.right)]
        return _stacked(engine, sides)
    if isinstance(node, exp.Select) and _open(node):
        scope = engine.with_ctes(node, scope)
        sets = grouping_sets(node)
        if sets is not None:
            blocks = [plain_block(block) for block in sets]
            return _stacked(engine, [candidates(engine, block, scope) for block in blocks])
        if is_grouped(node) and node.args.get("having") is None:
            return _of_groups(engine, grouped(engine, node, scope))
    return _of_relation(engine, engine.query(node, scope))


def _open(node: exp.Expr) -> bool:
    """Whether nothing after SELECT decides which rows are shown."""
    return not any(node.args.get(key) for key in ("limit", "offset", "qualify")) and not (
        isinstance(node, exp.Select) and node.args.get("distinct")
    )


def _of_relation(engine: Engine, found: Relation) -> Candidates:
    """Rows with one owner are one answer row; a cell is its value given that the row is there."""
    algebra, names = engine.context.algebra, [n for n in found.columns if n[0] == "c"]
    cells = {n for n in names if n in found.cells and is_numeric(found.table.column(n).type)}
    owner = _split_by_text(engine, found, [n for n in names if n in found.cells - cells])
    owners, first = np.unique(owner, return_index=True)
    exists = algebra.some(found.ids, owner, len(owners))
    identity: list[list[object] | None] = []
    forms: dict[int, Form] = {}
    for position, name in enumerate(names):
        column = found.table.column(name)
        if name in cells:
            identity.append(None)
            forms[position] = _conditional(algebra, len(owners), owner, found.ids, column)
        else:
            identity.append(column.take(pa.array(first)).to_pylist())
    return Candidates(algebra, identity, forms, exists)


def _split_by_text(engine: Engine, found: Relation, columns: list[str]) -> Index:
    """Owners such that rows of one agree on uncertain columns that have no expectation."""
    if not columns:
        return found.owner
    code, _, _ = engine.distinct_rows(found, columns)
    return combined_owner([np.unique(found.owner, return_inverse=True)[1], code], len(code))


def _conditional(
    algebra: Algebra, count: int, segment: Index, ids: Index, column: pa.ChunkedArray
) -> Form:
    """E[column | the row is there and the column is not NULL]."""
    known = np.flatnonzero(np.asarray(column.is_valid().to_numpy(), bool))
    values = numbers(column)[known]
    return Form(
        algebra, count, segment[known], ids[known], values, given=(segment[known], ids[known])
    )


def numbers(column: pa.ChunkedArray) -> Array:
    """A numeric column as doubles; NULL is NaN."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether cells of a type have an expectation."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _of_groups(engine: Engine, found: Grouped) -> Candidates:
    """Groups with linear cells as sums over rows, the others from their possible results."""
    algebra, count = engine.context.algebra, found.members.count
    exists = np.full(count, ALWAYS) if found.single else found.present
    items = [item.unalias() for item in items_of(found.node)]
    identity: list[list[object] | None] = []
    forms: dict[int, Form] = {}
    for position, item in enumerate(items):
        calls = [engine.context.sql(call) for call in aggregates_in(item)]
        if not calls:
            identity.append(_key_values(found, item))
            continue
        identity.append(None)
        form = LinearReader(found).form(item)
        form = form if form is not None else _by_results(found, item, calls)
        if form is not None:
            forms[position] = form
    return Candidates(algebra, identity, forms, exists)


def _key_values(found: Grouped, item: exp.Expr) -> list[object]:
    """An item made of group keys, for every group."""
    return found.key_rows().evaluate([("c", item)]).column("c").to_pylist()


def _by_results(found: Grouped, item: exp.Expr, calls: list[str]) -> Form | None:
    known = [found.engine.context.sql(call) for call in found.calls]
    results = found.results([known.index(call) for call in dict.fromkeys(calls)])
    results = results.expanded([item])
    column = results.evaluate([("c", item)]).column("c")
    if not is_numeric(column.type):
        return None
    group, ids = integers(results.relation.table, "__group"), results.relation.ids
    return _conditional(found.engine.context.algebra, found.members.count, group, ids, column)


class LinearReader:
    """Recognises linear combinations of COUNT and SUM, whose expectation needs no joint results."""

    def __init__(self, found: Grouped) -> None:
        self._found, self._context = found, found.engine.context
        self._algebra = found.engine.context.algebra

    def form(self, item: exp.Expr) -> Form | None:
        """The cells of an item, None if it is not linear."""
        linear = self._linear(item)
        if linear is None or not linear[1]:
            return None
        parts = [self._sum(number, scale) for number, scale in linear[1].items()]
        if any(part is None for part in parts):
            return None
        known = [part for part in parts if part is not None]
        segment = np.concatenate([part[0] for part in known])
        ids = np.concatenate([part[1] for part in known])
        values = np.concatenate([part[2] for part in known])
        order = np.argsort(segment, kind="stable")
        count = self._found.members.count
        null = np.zeros(count)
        for number in linear[1]:
            if self._found.aggregations[number].kind != "count":
                segments = next(p for p, n in zip(known, linear[1], strict=True) if n == number)[3]
                filled = np.bincount(segments, minlength=count) > 0
                null += ~filled
        return Form(
            self._algebra,
            count,
            segment[order],
            ids[order],
            values[order],
            linear[0],
            nullable=null,
        )

    def _linear(self, node: exp.Expr) -> tuple[float, dict[int, float]] | None:
        context = self._context
        sql = context.sql(node)
        for number, call in enumerate(self._found.calls):
            if context.sql(call) == sql:
                return 0.0, {number: 1.0}
        if isinstance(node, exp.Paren):
            return self._linear(node.this)
        if isinstance(node, exp.Neg):
            return _scaled(self._linear(node.this), -1.0)
        if isinstance(node, (exp.Add, exp.Sub)):
            left, right = self._linear(node.left), self._linear(node.right)
            return _added(left, _scaled(right, 1.0 if isinstance(node, exp.Add) else -1.0))
        if isinstance(node, exp.Mul):
            return self._product(self._linear(node.left), self._linear(node.right))
        if isinstance(node, exp.Div):
            left, right = self._linear(node.left), self._linear(node.right)
            divides = right is not None and not right[1] and right[0]
            return _scaled(left, 1.0 / right[0]) if right is not None and divides else None
        return self._constant(node)

    def _product(
        self,
        left: tuple[float, dict[int, float]] | None,
        right: tuple[float, dict[int, float]] | None,
    ) -> tuple[float, dict[int, float]] | None:
        if left is not None and right is not None and not right[1]:
            return _scaled(left, right[0])
        return _scaled(right, left[0]) if left is not None and not left[1] else None

    def _constant(self, node: exp.Expr) -> tuple[float, dict[int, float]] | None:
        if node.find(exp.Column, exp.Query) is not None or aggregates_in(node):
            return None
        try:
            sql = f"SELECT TRY_CAST(({self._context.sql(node)}) AS DOUBLE)"
            value = rows(self._context.con, sql)[0][0]
        except duckdb.Error:
            return None
        return None if value is None else (float(cast(float, value)), {})

    def _sum(self, number: int, scale: float) -> tuple[Index, Index, Array, Index] | None:
        """(segment, ids, values, segments that can have a term) of one COUNT or SUM."""
        call, members = self._found.aggregations[number], self._found.members
        if not call.plain or call.kind not in ("count", "sum"):
            return None
        chosen = np.ones(len(members.ids), bool)
        table = members.table
        if call.filters is not None and table is not None:
            chosen &= np.asarray(table.column(call.filters).fill_null(False).to_numpy(), bool)
        values = np.ones(len(members.ids))
        if call.argument is not None and table is not None:
            column = table.column(call.argument)
            chosen &= np.asarray(column.is_valid().to_numpy(), bool)
            if call.kind == "sum":
                if not is_numeric(column.type):
                    return None
                values = numbers(column)
        rows = np.flatnonzero(chosen)
        segment, ids, values = members.segment[rows], members.ids[rows], values[rows]
        if call.distinct and call.argument is not None:
            segment, ids, values = self._distinct(call.argument, rows)
            values = values if call.kind == "sum" else np.ones(len(values))
        return segment, ids, scale * values, segment

    def _distinct(self, argument: str, rows: Index) -> tuple[Index, Index, Array]:
        """One entry per group and distinct value, there if any row has it."""
        members, engine = self._found.members, self._found.engine
        assert members.table is not None
        column = members.table.column(argument).take(pa.array(rows))
        table = pa.table({"g": pa.array(members.segment[rows]), "v": column})
        whole = engine.context.relation(table, np.full(len(rows), ALWAYS), np.arange(len(rows)))
        code, first, count = engine.distinct_rows(whole, ["g", "v"])
        ids = self._algebra.some(members.ids[rows], code, count)
        values = column.take(pa.array(first))
        numeric = numbers(values) if is_numeric(values.type) else np.ones(count)
        return members.segment[rows][first], ids, numeric


def _scaled(
    form: tuple[float, dict[int, float]] | None, by: float
) -> tuple[float, dict[int, float]] | None:
    return None if form is None else (form[0] * by, {i: s * by for i, s in form[1].items()})


def _added(
    left: tuple[float, dict[int, float]] | None, right: tuple[float, dict[int, float]] | None
) -> tuple[float, dict[int, float]] | None:
    if left is None or right is None:
        return None
    terms = dict(left[1])
    for index, scale in right[1].items():
        terms[index] = terms.get(index, 0.0) + scale
    return left[0] + right[0], terms


def _stacked(engine: Engine, parts: Sequence[Candidates]) -> Candidates:
    """UNION ALL of answers."""
    width, algebra = len(parts[0].identity), engine.context.algebra
    if any(len(part.identity) != width for part in parts):
        width = min(len(part.identity) for part in parts)
    shifts = np.r_[0, np.cumsum([part.count for part in parts])]
    total = int(shifts[-1])
    identity: list[list[object] | None] = []
    forms: dict[int, Form] = {}
    for position in range(width):
        cells = [position in part.forms or part.identity[position] is None for part in parts]
        if not any(cells):
            identity.append(
                [v for part in parts for v in cast("list[object]", part.identity[position])]
            )
            continue
        identity.append(None)
        pieces = [_as_form(part, position) for part in parts]
        if all(piece is not None for piece in pieces):
            known = [piece for piece in pieces if piece is not None]
            forms[position] = _joined_forms(algebra, known, shifts, total)
    return Candidates(algebra, identity, forms, np.concatenate([part.exists for part in parts]))


def _as_form(part: Candidates, position: int) -> Form | None:
    """A column of cells; certain numbers become cells that never move."""
    if position in part.forms:
        return part.forms[position]
    values = part.identity[position]
    if values is None or any(isinstance(v, str) for v in values):
        return None
    numeric = np.array([np.nan if v is None else float(cast(float, v)) for v in values])
    known = np.flatnonzero(~np.isnan(numeric))
    always = np.full(len(known), ALWAYS)
    return Form(part.algebra, part.count, known, always, numeric[known], given=(known, always))


def _joined_forms(algebra: Algebra, parts: list[Form], shifts: Index, total: int) -> Form:
    """Forms of consecutive rows as one; every one is given as a quotient."""
    segment, ids, values, given_segment, given = [], [], [], [], []
    null = np.zeros(total)
    for part, shift in zip(parts, shifts[:-1], strict=True):
        segment.append(part.segment + shift)
        ids.append(part.ids)
        values.append(part.values)
        rows = np.arange(part.count) + shift
        if part.constant:
            segment.append(rows)
            ids.append(np.full(part.count, ALWAYS))
            values.append(np.full(part.count, part.constant))
        if part.given is None:
            given_segment.append(rows)
            given.append(np.full(part.count, ALWAYS))
        else:
            given_segment.append(part.given[0] + shift)
            given.append(part.given[1])
        if part.nullable is not None:
            null[rows] = part.nullable
    return Form(
        algebra,
        total,
        np.concatenate(segment),
        np.concatenate(ids),
        np.concatenate(values),
        given=(np.concatenate(given_segment), np.concatenate(given)),
        nullable=null,
    )
