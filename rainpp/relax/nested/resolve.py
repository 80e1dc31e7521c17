"""Which row of which base table every prediction belongs to, through views, CTEs and subqueries.

Each reference to a base table gets a name of its own, so that later stages can replace it, and
each call of a model becomes a plain column of its source. A call over a derived table's columns is
traced to the base table they come from and carried outward as one more projection.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import duckdb
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import (
    Names,
    TableEntry,
    builtin_functions,
    clean,
    default_alias,
    find_table,
    find_view,
    has_rows,
    read_names,
    suggest,
)
from rainpp.relax.dialect import function_names, spelling
from rainpp.relax.nested.shorthands import Shorthands, check_names
from rainpp.relax.query import Slot
from rainpp.types import ClassValue

_HIDDEN = "__prediction_"


@dataclass(eq=False, slots=True)
class Base:
    """One mention of a base table: its name in the rewritten query, and the slots it predicts."""

    name: str
    entry: TableEntry
    slots: set[int] = field(default_factory=set[int])


@dataclass(eq=False, slots=True)
class _Origin:
    """A source of one SELECT: a base table, or a query whose columns can be traced."""

    alias: str
    columns: tuple[str, ...]
    base: Base | None = None
    inner: _Block | None = None


@dataclass(eq=False, slots=True)
class _Block:
    """A SELECT and its sources; `outer` is the block a subquery lies in."""

    select: exp.Select
    origins: list[_Origin]
    outer: _Block | None


_Shape = tuple[tuple[str, ...], "_Block | None"]


@dataclass(eq=False)
class Resolver:
    """Rewrites one parsed query in place; read `slots`, `bases` and `calls` afterwards.

    Raises
    ------
    QueryError : an unknown table or column, or arguments that name no row.
    UnsupportedQueryError : a call whose row cannot be traced to one base table.
    """

    sql: str
    dialect: Dialect
    functions: Mapping[str, tuple[ClassValue, ...]]
    con: duckdb.DuckDBPyConnection
    slots: list[Slot] = field(default_factory=list[Slot])
    bases: dict[str, Base] = field(default_factory=dict[str, Base])
    calls: dict[int, str] = field(default_factory=dict[int, str])
    _views: list[str] = field(default_factory=list[str])
    _blocks: list[_Block] = field(default_factory=list[_Block])

    def resolve(self, tree: exp.Query) -> None:
        """Replace tables, views and calls everywhere below `tree`."""
        self._check(tree)
        self._query(tree, {}, None)
        for block in self._blocks:
            _hide_predictions(block)

    @functools.cached_property
    def names(self) -> Names:
        """The catalogue, read once for the query."""
        return read_names(self.con)

    def shown(self, node: exp.Expr) -> str:
        """`node` as the user wrote it."""
        return spelling(node, self.sql, self.dialect)

    def registered(self, node: exp.Expr) -> str | None:
        """The registered spelling of the function `node` calls, None for anything else."""
        if not isinstance(node, exp.Anonymous):
            return None
        name = node.name.lower()
        return next((known for known in self.functions if known.lower() == name), None)

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

    def _query(self, node: exp.Expr, ctes: dict[str, _Shape], outer: _Block | None) -> _Shape:
        """Resolve a query; its output column names, and its block if it is one SELECT."""
        visible = dict(ctes)
        for cte in cast("list[exp.CTE]", node.args["with_"].expressions if _with(node) else []):
            shape = self._query(cast(exp.Expr, cte.this), visible, outer)
            visible[cte.alias.lower()] = _renamed(shape, cte)
        if isinstance(node, exp.Subquery):
            return self._query(cast(exp.Expr, node.this), visible, outer)
        if isinstance(node, exp.SetOperation):
            left = self._query(cast(exp.Expr, node.left), visible, outer)
            self._query(cast(exp.Expr, node.right), visible, outer)
            return left[0], None
        if isinstance(node, exp.Select):
            return self._select(node, visible, outer)
        return (), None

    def _select(self, node: exp.Select, ctes: dict[str, _Shape], outer: _Block | None) -> _Shape:
        block = _Block(node, [], outer)
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
        _check_stars(block)
        return _outputs(block), block

    def _natural_joins(self, block: _Block) -> None:
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

    def _add(self, block: _Block, node: exp.Expr, ctes: dict[str, _Shape]) -> None:
        if isinstance(node, exp.Subquery):
            columns, inner = self._query(node.this, ctes, block.outer)
            alias = node.args.get("alias")
            if alias is not None and alias.args.get("columns"):
                columns = _retitled(columns, alias.args["columns"])
            block.origins.append(_Origin(node.alias, columns, inner=inner))
            return
        if not isinstance(node, exp.Table) or not has_rows(node):
            columns = self._described(node)
            block.origins.append(_Origin(node.alias_or_name, columns))
            return
        name = node.alias or default_alias(node)
        if not node.db and node.name.lower() in ctes:
            columns, inner = ctes[node.name.lower()]
            block.origins.append(_Origin(name, columns, inner=inner))
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
        block.origins.append(_Origin(name, entry.columns, base=base))
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

    def _inside(self, node: exp.Expr, block: _Block, ctes: dict[str, _Shape]) -> None:
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
            self._replace_call(cast(exp.Anonymous, node), model, block)
            return
        for child in _children(node):
            self._inside(child, block, ctes)

    def _replace_call(self, call: exp.Anonymous, model: str, block: _Block) -> None:
        shown, item = self.shown(call), call.parent
        if isinstance(item, exp.Dot):
            self._refuse(item, "a prediction has no schema", f"Call it as {model}(...)")
        owner, origin, arguments = self._arguments(call, model, block)
        del owner
        name = self._attach(origin, model, arguments, shown)
        column = exp.column(name, table=origin.alias, quoted=True)
        call.replace(column)

    def _attach(
        self, origin: _Origin, model: str, arguments: tuple[str, ...] | None, shown: str
    ) -> str:
        """The column of `origin` that holds the prediction; added where it is missing."""
        if origin.base is not None:
            number = self._slot(Slot(model, origin.base.entry.shown, arguments), shown)
            origin.base.slots.add(number)
            return f"{_HIDDEN}{number}"
        inner = origin.inner
        if inner is None or _merges(inner.select):
            raise UnsupportedQueryError(
                shown,
                why=f"the rows of `{origin.alias or 'this source'}` are not rows of one table",
                instead="Call the model inside it, on the table itself",
            )
        titles, own = [title.lower() for title in origin.columns], _outputs(inner)
        if arguments is not None and len(own) == len(titles):
            arguments = tuple(own[titles.index(name.lower())] for name in arguments)
        source, columns = self._traced(inner, arguments, shown, origin.alias)
        name = self._attach(source, model, columns, shown)
        carried = [item for item in inner.select.expressions if item.alias == name]
        if not carried:
            column = exp.column(name, table=source.alias, quoted=True)
            inner.select.append("expressions", exp.alias_(column, name, quoted=True))
        return name

    def _traced(
        self, inner: _Block, arguments: tuple[str, ...] | None, shown: str, alias: str
    ) -> tuple[_Origin, tuple[str, ...] | None]:
        """The source inside a derived table that the argument columns come from."""
        if arguments is None:
            if len(inner.origins) == 1:
                return inner.origins[0], None
            raise UnsupportedQueryError(
                shown,
                why=f"a row of `{alias}` is made of rows of several tables",
                instead="Name the columns the model reads",
            )
        found: list[tuple[_Origin, str]] = []
        for name in arguments:
            column = _projected(inner, name)
            origin = self._owner(column, inner) if column is not None else None
            if column is None or origin is None:
                raise UnsupportedQueryError(
                    shown,
                    why=f"`{name}` of `{alias}` is computed, not a column of a table",
                    instead="Call the model inside, on the table's own columns",
                )
            found.append((origin, column.name))
        if len({id(origin) for origin, _ in found}) > 1:
            raise UnsupportedQueryError(
                shown,
                why="its arguments come from several tables",
                instead="Predict from the columns of one table",
            )
        origin = found[0][0]
        return origin, tuple(_stored(origin, name) for _, name in found)

    def _slot(self, slot: Slot, shown: str) -> int:
        for number, known in enumerate(self.slots):
            if known == slot:
                return number
            if (known.model, known.table) == (slot.model, slot.table):
                raise UnsupportedQueryError(
                    shown,
                    why=f"`{slot.model}` already reads other arguments of `{slot.table}` in this "
                    "query",
                    instead="Use the same arguments everywhere, or register a second model",
                )
        self.slots.append(slot)
        self.calls[len(self.slots) - 1] = shown
        return len(self.slots) - 1

    def _arguments(
        self, call: exp.Anonymous, model: str, block: _Block
    ) -> tuple[_Block, _Origin, tuple[str, ...] | None]:
        given = cast("list[exp.Expr]", call.expressions)
        shown = self.shown(call)
        if not given:
            raise QueryError(f"`{shown}` has no argument; write {model}(*) or columns.")
        if len(given) == 1:
            row = self._row(given[0], block, shown)
            if row is not None:
                return (*row, None)
        found: list[tuple[_Block, _Origin, str]] = []
        for argument in given:
            if not isinstance(argument, exp.Column) or isinstance(argument.this, exp.Star):
                raise QueryError(
                    f"`{self.shown(argument)}` in `{shown}` is not a column or a row; write "
                    f"{model}(column, ...), {model}(*) or {model}(table)."
                )
            found.append(self._lookup(argument, block))
        if len({id(origin) for _, origin, _ in found}) > 1:
            raise UnsupportedQueryError(
                shown,
                why="its arguments come from several tables",
                instead="Predict from the columns of one table",
            )
        return found[0][0], found[0][1], tuple(name for _, _, name in found)

    def _row(self, argument: exp.Expr, block: _Block, shown: str) -> tuple[_Block, _Origin] | None:
        """The source whose whole row is the argument: `*`, `alias.*`, `alias`."""
        if isinstance(argument, exp.Star):
            if len(block.origins) == 1:
                return block, block.origins[0]
            names = ", ".join(origin.alias for origin in block.origins)
            raise QueryError(
                f"`{shown}` is ambiguous: * could be a row of any of {names}; "
                "name one of them instead of *."
            )
        if not isinstance(argument, exp.Column):
            return None
        star = isinstance(argument.this, exp.Star)
        name = (argument.table if star else argument.name).lower()
        if argument.table and not star:
            return None
        for level in _levels(block):
            for origin in level.origins:
                if origin.alias.lower() == name:
                    self._check_not_both(argument, level, shown, star=star)
                    return level, origin
        return None

    def _check_not_both(
        self, argument: exp.Column, block: _Block, shown: str, *, star: bool
    ) -> None:
        name = argument.name.lower()
        owners = [o for o in block.origins if name in map(str.lower, o.columns)]
        if owners and not star:
            raise QueryError(
                f"`{shown}` is ambiguous: `{argument.name}` is a table and a column; write "
                f"`{argument.name}.*` for the row, `{owners[0].alias}.{argument.name}` for the "
                "column."
            )

    def _lookup(self, column: exp.Column, block: _Block) -> tuple[_Block, _Origin, str]:
        for level in _levels(block):
            origin = self._owner(column, level)
            if origin is not None:
                return level, origin, _stored(origin, column.name)
        known = [name for level in _levels(block) for o in level.origins for name in o.columns]
        hint = suggest(column.name, known, "columns")
        raise QueryError(f"there is no column `{self.shown(column)}`{hint}")

    def _owner(self, column: exp.Column, block: _Block) -> _Origin | None:
        """The source of `block` that a column belongs to."""
        name, table = column.name.lower(), column.table.lower()
        if table:
            owners = [origin for origin in block.origins if origin.alias.lower() == table]
            return owners[0] if owners else None
        owners = [o for o in block.origins if name in (c.lower() for c in o.columns)]
        if len(owners) > 1 and not _is_using(block.select, name):
            tables = " or ".join(f"`{o.alias}.{column.name}`" for o in owners)
            raise QueryError(f"column `{self.shown(column)}` is ambiguous; write {tables}.")
        if owners:
            return owners[0]
        opaque = [origin for origin in block.origins if not origin.columns]
        return opaque[0] if len(opaque) == 1 and len(block.origins) == 1 else None

    def _refuse(self, node: exp.Expr, why: str, instead: str) -> None:
        raise UnsupportedQueryError(self.shown(node), why=why, instead=instead)


def _carried(origin: _Origin) -> set[str]:
    """Names of the prediction columns that a source shows besides its own."""
    if origin.base is not None:
        return {f"{_HIDDEN}{slot}" for slot in origin.base.slots}
    items = cast("list[exp.Expr]", origin.inner.select.expressions if origin.inner else [])
    return {item.alias for item in items if item.alias.startswith(_HIDDEN)}


def _hide_predictions(block: _Block) -> None:
    """Keep carried predictions out of ``SELECT *``."""
    for item in cast("list[exp.Expr]", block.select.expressions):
        table = item.table.lower() if isinstance(item, exp.Column) else ""
        star = item.this if isinstance(item, exp.Column) else item
        if not isinstance(star, exp.Star):
            continue
        origins = [o for o in block.origins if table in ("", o.alias.lower())]
        for name in sorted({name for origin in origins for name in _carried(origin)}):
            excepted = [*(star.args.get("except_") or []), exp.to_identifier(name, quoted=True)]
            star.set("except_", excepted)


def _with(node: exp.Expr) -> bool:
    return node.args.get("with_") is not None


def _children(node: exp.Expr) -> list[exp.Expr]:
    return list(node.iter_expressions())


def _as_list(value: object) -> list[exp.Expr]:
    if value is None:
        return []
    return cast("list[exp.Expr]", value if isinstance(value, list) else [value])


def _levels(block: _Block | None) -> list[_Block]:
    found: list[_Block] = []
    while block is not None:
        found.append(block)
        block = block.outer
    return found


def _renamed(shape: _Shape, cte: exp.CTE) -> _Shape:
    alias = cte.args.get("alias")
    titles = alias.args.get("columns") if alias is not None else None
    return (_retitled(shape[0], titles), shape[1]) if titles else shape


def _retitled(columns: tuple[str, ...], titles: list[exp.Expr]) -> tuple[str, ...]:
    """Column names after a list of new ones, which may be shorter."""
    return (*(title.name for title in titles), *columns[len(titles) :])


def _merges(select: exp.Select) -> bool:
    """Whether the rows of a SELECT stand for several rows of its sources."""
    return bool(select.args.get("group") or select.args.get("distinct") or select.find(exp.AggFunc))


def _outputs(block: _Block) -> tuple[str, ...]:
    names: list[str] = []
    for item in cast("list[exp.Expr]", block.select.expressions):
        if isinstance(item, exp.Star):
            names += [name for origin in block.origins for name in origin.columns]
        elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            owners = [o for o in block.origins if o.alias.lower() == item.table.lower()]
            names += [name for origin in owners for name in origin.columns]
        else:
            names.append(item.alias_or_name)
    return tuple(names)


def _check_stars(block: _Block) -> None:
    """Refuse * over a query two of whose columns have one name: which is which would be lost."""
    for item in cast("list[exp.Expr]", block.select.expressions):
        for origin in block.origins if item.is_star else []:
            names = [name.lower() for name in origin.columns]
            twice = next((name for name in origin.columns if names.count(name.lower()) > 1), None)
            table = item.table.lower() if isinstance(item, exp.Column) else ""
            if twice is not None and table in ("", origin.alias.lower()):
                raise QueryError(
                    f"two columns of `{origin.alias}` are called `{twice}`; name them apart with "
                    "AS before reading them with *."
                )


def _projected(inner: _Block, name: str) -> exp.Column | None:
    """The plain column that a SELECT shows as `name`."""
    for item in cast("list[exp.Expr]", inner.select.expressions):
        if isinstance(item, exp.Star) or (
            isinstance(item, exp.Column) and isinstance(item.this, exp.Star)
        ):
            table = item.table.lower() if isinstance(item, exp.Column) else ""
            for origin in inner.origins:
                known = (column.lower() for column in origin.columns)
                if table in ("", origin.alias.lower()) and name.lower() in known:
                    return exp.column(name, table=origin.alias)
        elif item.alias_or_name.lower() == name.lower():
            plain = item.unalias().unnest()
            return plain if isinstance(plain, exp.Column) else None
    return None


def _stored(origin: _Origin, name: str) -> str:
    return next((c for c in origin.columns if c.lower() == name.lower()), name)


def _is_using(select: exp.Select, name: str) -> bool:
    joins = cast("list[exp.Join]", select.args.get("joins") or [])
    return any(name == c.name.lower() for join in joins for c in join.args.get("using") or [])
