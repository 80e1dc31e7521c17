"""Which row of which base table every prediction belongs to, through views, CTEs and subqueries.

Each reference to a base table gets a name of its own, so that later stages can replace it, and
each call of a model becomes a plain column of its source. A call over a derived table's columns is
traced to the base table they come from and carried outward as one more projection.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import cast

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import (
    Names,
    builtin_functions,
    clean,
    default_alias,
    find_table,
    find_view,
    has_rows,
    read_names,
)
from rainpp.relax.dialect import function_names
from rainpp.relax.nested.blocks import (
    Base,
    Block,
    Origin,
    Shape,
    check_stars,
    hide_predictions,
    outputs,
    renamed,
    retitled,
)
from rainpp.relax.nested.shorthands import Shorthands, check_names
from rainpp.relax.nested.tracing import Tracer
from rainpp.relax.query import Slot
from rainpp.relax.written import Written


@dataclass(eq=False)
class Resolver(Written):
    """Rewrites one parsed query in place; read `slots`, `bases` and `calls` afterwards.

    Raises
    ------
    QueryError : an unknown table or column, or arguments that name no row.
    UnsupportedQueryError : a call whose row cannot be traced to one base table.
    """

    con: duckdb.DuckDBPyConnection
    bases: dict[str, Base] = field(default_factory=dict[str, Base])
    _tracer: Tracer = field(init=False)
    _views: list[str] = field(default_factory=list[str])
    _blocks: list[Block] = field(default_factory=list[Block])

    def __post_init__(self) -> None:
        self._tracer = Tracer(self)

    @property
    def slots(self) -> list[Slot]:
        """The predictions the query reads."""
        return self._tracer.slots

    @property
    def calls(self) -> dict[int, str]:
        """How the user wrote the first call of each slot."""
        return self._tracer.calls

    def resolve(self, tree: exp.Query) -> None:
        """Replace tables, views and calls everywhere below `tree`."""
        self._check(tree)
        self._query(tree, {}, None)
        for block in self._blocks:
            hide_predictions(block)

    @functools.cached_property
    def names(self) -> Names:
        """The catalogue, read once for the query."""
        return read_names(self.con)

    def _check(self, tree: exp.Expr) -> None:
        _, volatile = builtin_functions()
        for node in tree.walk():
            if isinstance(node, exp.With) and node.args.get("recursive"):
                self._refuse(node, "a recursive CTE has no finite relaxation", "Unroll it")
            if isinstance(node, (exp.Pivot, exp.TableSample)):
                self._refuse(node, "it has no relaxation", "Write it with GROUP BY or WHERE")
            if isinstance(node, exp.Lateral) and any(map(self.registered, node.walk())):
                self._refuse(node, "LATERAL over predictions has no relaxation", "Use a join")
            if function_names(node) & volatile:
                self._refuse(node, "its value changes from run to run", "Store it in a column")

    def _query(self, node: exp.Expr, ctes: dict[str, Shape], outer: Block | None) -> Shape:
        """Resolve a query; its output column names, and its block if it is one SELECT."""
        visible = dict(ctes)
        for cte in cast("list[exp.CTE]", node.args["with_"].expressions if _with(node) else []):
            shape = self._query(cast(exp.Expr, cte.this), visible, outer)
            visible[cte.alias.lower()] = renamed(shape, cte)
        if isinstance(node, exp.Subquery):
            return self._query(cast(exp.Expr, node.this), visible, outer)
        if isinstance(node, exp.SetOperation):
            left = self._query(cast(exp.Expr, node.left), visible, outer)
            self._query(cast(exp.Expr, node.right), visible, outer)
            return left[0], None
        if isinstance(node, exp.Select):
            return self._select(node, visible, outer)
        return (), None

    def _select(self, node: exp.Select, ctes: dict[str, Shape], outer: Block | None) -> Shape:
        block = Block(node, [], outer)
        self._blocks.append(block)
        for item in list(cast("list[exp.Expr]", node.expressions)):
            self._name(item)
        start = node.args.get("from_")
        tables = [start.this] if start else []
        tables += [join.this for join in node.args.get("joins") or []]
        for table in tables:
            self._add(block, cast(exp.Expr, table), ctes)
        self._natural_joins(block)
        for child in _children(node):
            if not isinstance(child, (exp.From, exp.With)):
                self._inside(child, block, ctes)
        check_stars(block)
        return outputs(block), block

    def _natural_joins(self, block: Block) -> None:
        """NATURAL JOIN as USING, since predicted tables have further columns later."""
        joins = cast("list[exp.Join]", block.select.args.get("joins") or [])
        for place, join in enumerate(joins, len(block.origins) - len(joins)):
            if (join.method or "").upper() != "NATURAL":
                continue
            before, right = block.origins[:place], block.origins[place]
            if not right.columns or not all(origin.columns for origin in before):
                self._refuse(join, "its columns are not known", "Write JOIN ... USING (...)")
            left = {name.lower() for origin in before for name in origin.columns}
            common = [name for name in right.columns if name.lower() in left]
            if not common:
                raise QueryError(f"`{self.shown(join)}` has no column on both sides; write ON.")
            join.set("method", None)
            join.set("using", [exp.to_identifier(name, quoted=True) for name in common])

    def _name(self, item: exp.Expr) -> None:
        """Name an item that will be rewritten as DuckDB would name what the user wrote."""
        calls = any(self.registered(part) or isinstance(part, exp.Query) for part in item.walk())
        if calls and not item.alias:
            title = item.sql(dialect=self.dialect, normalize_functions="lower")
            name = exp.to_identifier(title, quoted=True)
            item.replace(exp.Alias(this=item.copy(), alias=name))

    def _add(self, block: Block, node: exp.Expr, ctes: dict[str, Shape]) -> None:
        if isinstance(node, exp.Subquery):
            columns, inner = self._query(node.this, ctes, block.outer)
            alias = node.args.get("alias")
            if alias is not None and alias.args.get("columns"):
                columns = retitled(columns, alias.args["columns"])
            block.origins.append(Origin(node.alias, columns, inner=inner))
            return
        if not isinstance(node, exp.Table) or not has_rows(node):
            columns = self._described(node)
            block.origins.append(Origin(node.alias_or_name, columns))
            return
        name = node.alias or default_alias(node)
        if not node.db and node.name.lower() in ctes:
            columns, inner = ctes[node.name.lower()]
            block.origins.append(Origin(name, columns, inner=inner))
            return
        view = find_view(self.con, node, self.names)
        if view is not None:
            self._add(block, self._inlined(node, view, name), {})
            return
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            self._refuse(node, "renaming a table's columns has no relaxation", "Use AS in SELECT")
        shown = exp.Table(this=node.this.copy(), db=node.args.get("db"))
        entry = find_table(self.con, node, shown.sql(dialect=self.dialect), self.names)
        check_names(list(entry.columns))
        base = Base(f"__base_{len(self.bases)}", entry)
        self.bases[base.name] = base
        block.origins.append(Origin(name, entry.columns, base=base))
        alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name, quoted=True))
        node.replace(exp.Table(this=exp.to_identifier(base.name, quoted=True), alias=alias))

    def _described(self, node: exp.Expr) -> tuple[str, ...]:
        """Columns of VALUES or a table function, which from now on are listed in its alias."""
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            return tuple(column.name for column in alias.args["columns"])
        if not isinstance(node, (exp.Values, exp.Table)) or node.find(exp.Column) is not None:
            return ()
        bare = node.copy()
        bare.set("alias", None)
        try:
            columns = self.con.sql(f"SELECT * FROM {bare.sql(dialect=self.dialect)}").columns
        except duckdb.Error as error:
            raise QueryError(f"DuckDB refuses `{self.shown(bare)}`: {clean(error)}.") from None
        default = "valueslist" if isinstance(node, exp.Values) else bare.name or columns[0]
        made = exp.TableAlias(
            this=exp.to_identifier(node.alias or default, quoted=True),
            columns=[exp.to_identifier(column, quoted=True) for column in columns],
        )
        node.set("alias", made)
        return tuple(columns)

    def _inlined(self, node: exp.Table, view: str, name: str) -> exp.Subquery:
        if len(self._views) > 50:
            raise QueryError(f"the view `{name}` refers to itself, or nests views too deeply.")
        self._views.append(name)
        parsed = cast(exp.Query, self.dialect.parse(view)[0])
        parsed = Shorthands(self.con, self.shown).written_out(parsed)
        self._check(parsed)
        alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
        given = node.args.get("alias")
        if given is not None and given.args.get("columns"):
            alias.set("columns", [column.copy() for column in given.args["columns"]])
        subquery = exp.Subquery(this=parsed, alias=alias)
        node.replace(subquery)
        return subquery

    def _inside(self, node: exp.Expr, block: Block, ctes: dict[str, Shape]) -> None:
        """Resolve calls and subqueries in the expressions of a block."""
        if isinstance(node, exp.Join):
            for key in ("on", "using"):
                for child in _as_list(node.args.get(key)):
                    self._inside(child, block, ctes)
            return
        if isinstance(node, (exp.Select, exp.SetOperation)):
            self._query(node, ctes, block)
            return
        if model := self.registered(node):
            self._tracer.replace(cast(exp.Anonymous, node), model, block)
            return
        for child in _children(node):
            self._inside(child, block, ctes)

    def _refuse(self, node: exp.Expr, why: str, instead: str) -> None:
        raise UnsupportedQueryError(self.shown(node), why=why, instead=instead)


def _with(node: exp.Expr) -> bool:
    return node.args.get("with_") is not None


def _children(node: exp.Expr) -> list[exp.Expr]:
    return list(node.iter_expressions())


def _as_list(value: object) -> list[exp.Expr]:
    if value is None:
        return []
    return cast("list[exp.Expr]", value if isinstance(value, list) else [value])
