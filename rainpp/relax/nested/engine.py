"""Evaluation of a qualified query, operator by operator, as relations of rows with events.

Columns of a result are c0, c1, ... in SELECT order; o0, o1, ... are order keys; KEY names the outer
row a correlated subquery was evaluated for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NoReturn, cast

import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.catalog import quote
from rainpp.relax.codes import integers, key_codes
from rainpp.relax.nested.algebra import NEVER, Index, Members
from rainpp.relax.nested.names import KEY, Scope
from rainpp.relax.nested.relation import ROW, Context, Relation, dense
from rainpp.relax.nested.rewriting import order_keys, output_names


class Engine:
    """Evaluates the queries of one statement; `select` evaluates one SELECT block."""

    def __init__(
        self, context: Context, select: Callable[[Engine, exp.Select, Scope], Relation]
    ) -> None:
        self.context, self._select = context, select

    def uncertain(self, node: exp.Expr, scope: Scope) -> bool:
        """Whether anything below `node` reads a table with predictions."""
        for table in node.find_all(exp.Table):
            base = self.context.bases.get(table.name)
            if table.name in scope.relations or (base is not None and base.slots):
                return True
        return False

    def query(self, node: exp.Expr, scope: Scope) -> Relation:
        """The rows of any query expression."""
        self.context.depth += 1
        found = self._query(node, scope)
        self.context.depth -= 1
        return found

    def _query(self, node: exp.Expr, scope: Scope) -> Relation:
        if isinstance(node, exp.Subquery):
            return self._query(node.this, self.with_ctes(node, scope))
        if isinstance(node, exp.SetOperation):
            return self.limited(node, self._set_operation(node, self.with_ctes(node, scope)), scope)
        if isinstance(node, exp.Select):
            return self._select(self, node, self.with_ctes(node, scope))
        return self.refuse(node, "it has no relaxation", "Use SELECT, UNION, INTERSECT or EXCEPT")

    def with_ctes(self, node: exp.Expr, scope: Scope) -> Scope:
        """`scope` with the CTEs of `node`, each evaluated once."""
        with_ = node.args.get("with_")
        for cte in cast("list[exp.CTE]", with_.expressions if with_ is not None else []):
            names = output_names(cte.this)
            alias = cte.args.get("alias")
            given = [c.name for c in (alias.args.get("columns") or [] if alias else [])]
            names = [*given, *names[len(given) :]]
            if self.uncertain(cte.this, scope):
                found = self.titled(self.query(cte.this, scope.without_keys()), names)
                scope = Scope(
                    {**scope.relations, cte.alias: found}, scope.certain, scope.keys, scope.outer
                )
            else:
                sql = self.context.sql(cte.this)
                scope = Scope(
                    scope.relations, {**scope.certain, cte.alias: sql}, scope.keys, scope.outer
                )
        return scope

    def titled(self, found: Relation, names: list[str]) -> Relation:
        """The same rows under the names a query gives its columns."""
        mapping: dict[str, str] = {}
        seen: Counter[str] = Counter()
        for i, name in enumerate(names):
            # DuckDB's names for several columns of one name.
            repeats = seen[name.lower()]
            mapping[f"c{i}"] = f"{name}_{repeats}" if repeats else name
            seen[name.lower()] += 1
        table = found.table.rename_columns([mapping.get(n, n) for n in found.table.column_names])
        cells = frozenset(mapping.get(name, name) for name in found.cells)
        return self.context.relation(table, found.ids, found.owner, cells)

    def stacked(self, left: Relation, right: Relation) -> Relation:
        """UNION ALL."""
        left, right = self._aligned(left, right)
        table = pa.concat_tables([side.table.drop_columns([ROW]) for side in (left, right)])
        owner = np.r_[left.owner, right.owner + int(left.owner.max(initial=-1)) + 1]
        ids, cells = np.r_[left.ids, right.ids], left.cells | right.cells
        return self.context.relation(table, ids, owner, cells)

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Relation:
        left, right = self.query(node.left, scope), self.query(node.right, scope)
        if node.args.get("by_name") or len(left.columns) != len(right.columns):
            self.refuse(node, "its sides must have the same columns in order", "List the columns")
        both = self.stacked(left, right)
        self.context.note(type(node).__name__.lower(), "", len(both))
        if not node.args.get("distinct", True):
            if isinstance(node, exp.Union):
                return both
            return self._paired(both, len(left), within=isinstance(node, exp.Intersect))
        code, first, count = self.distinct_rows(both, list(both.columns))
        algebra, cut = self.context.algebra, len(left)
        present = [
            algebra.some(both.ids[rows], code[rows], count)
            for rows in (slice(0, cut), slice(cut, None))
        ]
        if isinstance(node, exp.Union):
            merged = algebra.either(present)
        elif isinstance(node, exp.Intersect):
            merged = algebra.every(present)
        else:
            merged = algebra.every([present[0], algebra.negation(present[1])])
        return self.context.relation(both.table.take(pa.array(first)), merged, np.arange(count))

    def _paired(self, both: Relation, cut: int, *, within: bool) -> Relation:
        """INTERSECT ALL or EXCEPT ALL of the first `cut` rows and the others."""
        code, _, count = self.distinct_rows(both, list(both.columns))
        order = np.argsort(code[:cut], kind="stable")
        left = Members(both.ids[order], code[order], count, None)
        right = Members(both.ids[cut:], code[cut:], count, None)
        ids = self.context.algebra.paired(left, right, within=within)
        rows = both.table.take(pa.array(order))
        return self.context.relation(rows, ids, np.arange(cut))

    def _aligned(self, left: Relation, right: Relation) -> tuple[Relation, Relation]:
        """Both sides with the column types DuckDB gives their union."""
        names = [name for name in left.columns if name in right.columns]
        items = ", ".join(quote(name) for name in names)
        types = self.context.con.sql(
            f"SELECT {items} FROM {left.name} WHERE false UNION ALL "
            f"SELECT {items} FROM {right.name} WHERE false"
        ).types
        casts = ", ".join(
            f"CAST({quote(name)} AS {kind}) AS {quote(name)}"
            for name, kind in zip(names, types, strict=True)
        )
        found = [
            self.context.relation(
                self.context.fetch(f"SELECT {casts} FROM {side.name} ORDER BY {ROW}"),
                side.ids,
                side.owner,
                side.cells,
            )
            for side in (left, right)
        ]
        return found[0], found[1]

    def distinct_rows(self, found: Relation, columns: list[str]) -> tuple[Index, Index, int]:
        """(code of every row, first row of every code, number of codes) by equal values."""
        n = len(found)
        if not columns or not n:
            return np.zeros(n, np.int64), np.zeros(min(n, 1), np.int64), min(n, 1)
        values = [found.table.column(name) for name in columns]
        texts = any(not pa.types.is_primitive(column.type) for column in values)
        code = first = np.arange(n)
        if not (texts and self.context.collates):
            code, first = key_codes(values)
        rank = self._ranked(found.table.select(columns).take(pa.array(first)))
        # Values that are equal without being identical get their common rank here.
        firsts = np.full(int(rank.max()) + 1, n, np.int64)
        np.minimum.at(firsts, rank, first)
        return rank[code], firsts, len(firsts)

    def _ranked(self, table: pa.Table) -> Index:
        """The rank of every row among the distinct ones, in DuckDB's order."""
        if table.num_columns == 1 and _is_plain_integer(table.column(0)):
            return dense(integers(table, table.column_names[0]))
        numbered = table.append_column(ROW, pa.array(np.arange(table.num_rows)))
        order = ", ".join(quote(name) for name in table.column_names)
        fetched = self.context.fetch(
            f"SELECT dense_rank() OVER (ORDER BY {order}) - 1 AS code "
            f"FROM {self.context.register(numbered)} ORDER BY {ROW}"
        )
        return integers(fetched, "code")

    def distinct(self, found: Relation) -> Relation:
        """SELECT DISTINCT: equal rows are one, there if any of them is."""
        visible = [name for name in found.columns if name[0] == "c" or name == KEY]
        code, first, count = self.distinct_rows(found, visible)
        ids = self.context.algebra.some(found.ids, code, count)
        self.context.note("distinct", "", count)
        return self.context.relation(found.table.take(pa.array(first)), ids, np.arange(count))

    def limited(self, node: exp.Expr, found: Relation, scope: Scope) -> Relation:
        """LIMIT and OFFSET in the order the node asks for; order keys are dropped."""
        limit, offset = node.args.get("limit"), node.args.get("offset")
        drop = [name for name in found.columns if name[0] == "o"]
        if limit is not None or offset is not None:
            if scope.keys is not None and len(scope.keys) > 1:
                self.refuse(node, "LIMIT in a correlated subquery has no relaxation", "Use min")
            found = self._leading(node, found)
        if not drop:
            return found
        table = found.table.drop_columns(drop)
        return self.context.relation(table, found.ids, found.owner, found.cells)

    def _leading(self, node: exp.Expr, found: Relation) -> Relation:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        take = None if limit is None else self._number(limit)
        skip = 0 if offset is None else self._number(offset)
        keys = ", ".join([*self._order(node, found), ROW])
        order = integers(self.context.fetch(f"SELECT {ROW} FROM {found.name} ORDER BY {keys}"), ROW)
        ids = self._certain_leading(node, found, order, skip, take)
        if ids is None:
            ids = self.context.algebra.leading(found.ids[order], skip, take)
        self.context.note("limit", f"{take} offset {skip}", len(order))
        rows = found.table.take(pa.array(order))
        return self.context.relation(rows, ids, found.owner[order], found.cells)

    def _certain_leading(
        self, node: exp.Expr, found: Relation, order: Index, skip: int, take: int | None
    ) -> Index | None:
        """LIMIT over rows that are surely there in a certain order; None if either is not so."""
        names = [text.split()[0] for text in self._order(node, found)]
        if found.cells.intersection(names) or not len(order):
            return None
        algebra, (_, owner) = self.context.algebra, np.unique(found.owner, return_inverse=True)
        there = algebra.some(found.ids, owner, int(owner.max()) + 1)
        if not algebra.certain(there).all():
            return None
        sequence = owner[order]
        _, first = np.unique(sequence, return_index=True)
        place = np.argsort(np.argsort(first))[sequence]
        kept = (place >= skip) & (True if take is None else place < skip + take)
        return np.where(kept, found.ids[order], NEVER)

    def _order(self, node: exp.Expr, found: Relation) -> list[str]:
        keys: list[str] = []
        names = output_names(node)
        for number, key in enumerate(order_keys(node)):
            text = f"o{number}"
            if text not in found.columns:
                title = key.this.name if isinstance(key.this, exp.Column) else ""
                if title not in names:
                    self.refuse(key, "it orders by something not shown", "Order by a column")
                text = f"c{names.index(title)}"
            direction = "DESC" if key.args.get("desc") else "ASC"
            keys.append(
                f"{text} {direction} NULLS {'FIRST' if key.args.get('nulls_first') else 'LAST'}"
            )
        return keys

    def _number(self, node: exp.Expr) -> int:
        value = node.expression
        if not (isinstance(value, exp.Literal) and value.is_int):
            self.refuse(node, "only a whole number is understood here", "Write LIMIT 10")
        return int(value.name)

    def refuse(self, node: exp.Expr, why: str, instead: str) -> NoReturn:
        """Raise the error for something that has no relaxation."""
        raise UnsupportedQueryError(self.context.shown(node), why=why, instead=instead)


def _is_plain_integer(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_integer(column.type)) and not column.null_count
