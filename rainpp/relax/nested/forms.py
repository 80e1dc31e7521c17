"""The rows an answer can have: what names each, when it is there, and what its cells are worth."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.relax.codes import integers
from rainpp.relax.nested.algebra import ALWAYS, Algebra, Array, Index
from rainpp.relax.nested.averages import moment_cells
from rainpp.relax.nested.cells import Cells, Form, StackedCells, is_numeric, numbers
from rainpp.relax.nested.engine import Engine
from rainpp.relax.nested.grouping import Grouped
from rainpp.relax.nested.linear import LinearReader
from rainpp.relax.nested.names import Scope
from rainpp.relax.nested.relation import Relation, certain_ids, combined_owner
from rainpp.relax.nested.rewriting import (
    aggregates_in,
    grouping_sets,
    is_grouped,
    items_of,
    unwrapped,
)
from rainpp.relax.nested.select import grouped, plain_block


@dataclass(eq=False)
class Candidates:
    """Every row the answer can have.

    `identity[j]` holds the values of column j where they are certain, None for a column of cells;
    `forms[j]` the numeric cells; `exists` (G,) the events that a row is there.
    """

    algebra: Algebra
    identity: list[list[object] | None]
    forms: dict[int, Cells]
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
        inside = engine.with_ctes(node, scope)
        sides = [candidates(engine, side, inside) for side in (node.left, node.right)]
        if not _clash(sides):
            return _stacked(engine, sides)
    if isinstance(node, exp.Select) and _open(node):
        node = cast(exp.Select, unwrapped(node))
        scope = engine.with_ctes(node, scope)
        sets = grouping_sets(node)
        if sets is not None:
            blocks = [plain_block(block) for block in sets]
            return _stacked(engine, [candidates(engine, block, scope) for block in blocks])
        windows = any(item.find(exp.Window) for item in items_of(node))
        if is_grouped(node) and node.args.get("having") is None and not windows:
            return _of_groups(engine, grouped(engine, node, scope), scope)
        if node.args.get("from_") is None:
            return _of_single_row(engine, node, scope)
    return _of_relation(engine, node, engine.query(node, scope))


def _open(node: exp.Expr) -> bool:
    """Whether nothing after SELECT decides which rows are shown."""
    return not any(
        node.args.get(key) for key in ("limit", "offset", "qualify", "by_name")
    ) and not (isinstance(node, exp.Select) and node.args.get("distinct"))


def _clash(sides: Sequence[Candidates]) -> bool:
    """Whether a column is text on one side of UNION ALL only, so that DuckDB casts the other."""
    for columns in zip(*(side.identity for side in sides), strict=False):
        kinds = {isinstance(v, str) for column in columns for v in column or [] if v is not None}
        if len(kinds) > 1:
            return True
    return False


def _of_relation(engine: Engine, node: exp.Query, found: Relation) -> Candidates:
    """Rows with one owner are one answer row; a cell is its value given that the row is there."""
    algebra, names = engine.context.algebra, [n for n in found.columns if n[0] == "c"]
    cells = {n for n in names if n in found.cells and is_numeric(found.table.column(n).type)}
    owner = _split_by_text(engine, found, [n for n in names if n in found.cells - cells])
    owners, first = np.unique(owner, return_index=True)
    exists = algebra.some(found.ids, owner, len(owners))
    identity: list[list[object] | None] = []
    forms: dict[int, Cells] = {}
    for position, name in enumerate(names):
        column = found.table.column(name)
        if name in cells:
            identity.append(None)
            shown = engine.context.shown(_item(node, position))
            forms[position] = _conditional(
                algebra, column, shown, segment=owner, ids=found.ids, count=len(owners)
            )
        else:
            identity.append(column.take(pa.array(first)).to_pylist())
    return Candidates(algebra, identity, forms, exists)


def _item(node: exp.Query, position: int) -> exp.Expr:
    """The SELECT item, of the first side of a set operation, that a column shows."""
    items = node.selects
    return items[position].unalias() if position < len(items) else node


def _split_by_text(engine: Engine, found: Relation, columns: list[str]) -> Index:
    """Owners such that rows of one agree on uncertain columns that have no expectation."""
    if not columns:
        return found.owner
    code, _, _ = engine.distinct_rows(found, columns)
    return combined_owner([np.unique(found.owner, return_inverse=True)[1], code], len(code))


def _conditional(
    algebra: Algebra,
    column: pa.ChunkedArray,
    shown: str,
    *,
    segment: Index,
    ids: Index,
    count: int,
) -> Form:
    """E[column | the row is there and the column is not NULL] of each of `count` segments."""
    known = np.flatnonzero(np.asarray(column.is_valid().to_numpy(), bool))
    values = numbers(column, shown)[known]
    segment, ids = segment[known], ids[known]
    return Form(algebra, count, segment, ids, values, given=(segment, ids))


def _of_groups(engine: Engine, found: Grouped, scope: Scope) -> Candidates:
    """Groups with linear cells as sums over rows, the others from their possible results."""
    algebra, count = engine.context.algebra, found.members.count
    exists = np.full(count, ALWAYS) if found.single else found.present
    items = [item.unalias() for item in items_of(found.node)]
    identity: list[list[object] | None] = []
    forms: dict[int, Cells] = {}
    reader = LinearReader(found)
    for position, item in enumerate(items):
        calls = [engine.context.sql(call) for call in aggregates_in(item)]
        if not calls and not engine.uncertain(item, scope):
            identity.append(_key_values(found, item))
            continue
        identity.append(None)
        form = reader.form(item)
        form = form if form is not None else moment_cells(found, item)
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
    algebra, shown = found.engine.context.algebra, found.engine.context.shown(item)
    return _conditional(algebra, column, shown, segment=group, ids=ids, count=found.members.count)


def _of_single_row(engine: Engine, node: exp.Select, scope: Scope) -> Candidates:
    """SELECT without FROM: each item by itself, so that subqueries do not multiply."""
    found = [_of_item(engine, node, item, scope) for item in items_of(node)]
    identity = [part.identity[0] for part in found]
    forms = {place: part.forms[0] for place, part in enumerate(found) if 0 in part.forms}
    exists = np.concatenate([found[0].exists]) if found else certain_ids(1)
    return Candidates(engine.context.algebra, identity, forms, exists)


def _of_item(engine: Engine, node: exp.Select, item: exp.Expr, scope: Scope) -> Candidates:
    """One item of a SELECT without FROM; a plain aggregate subquery is the answer it would give."""
    inner = item.unalias()
    query = inner.unnest() if isinstance(inner, (exp.Paren, exp.Subquery)) else None
    if isinstance(query, exp.Select) and engine.uncertain(query, scope) and _is_one_row(query):
        return candidates(engine, query, scope)
    alone = node.copy()
    alone.set("expressions", [item.copy()])
    alone.set("with_", None)
    return _of_relation(engine, alone, engine.query(alone, scope))


def _is_one_row(query: exp.Select) -> bool:
    extras = ("group", "having", "limit", "offset", "distinct", "qualify")
    return is_grouped(query) and not any(query.args.get(key) for key in extras)


def _stacked(engine: Engine, parts: Sequence[Candidates]) -> Candidates:
    """UNION ALL of answers."""
    width, algebra = len(parts[0].identity), engine.context.algebra
    identity: list[list[object] | None] = []
    forms: dict[int, Cells] = {}
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
            forms[position] = StackedCells([piece for piece in pieces if piece is not None])
    return Candidates(algebra, identity, forms, np.concatenate([part.exists for part in parts]))


def _as_form(part: Candidates, position: int) -> Cells | None:
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
