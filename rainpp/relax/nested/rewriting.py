"""Changes to a qualified tree that need no data: unique aliases, grouping sets, column renames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import cast

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.relax.dialect import render
from rainpp.relax.linear import aggregate_name
from rainpp.relax.nested.wording import AGAIN

ColumnName = tuple[str, str]


def unique_aliases(tree: exp.Expr) -> None:
    """Rename every source so that no two in the whole query share an alias."""
    _rename(tree, {}, {"b"})  # the alias of SQL around expressions


def _unused(alias: str, used: set[str]) -> str:
    name, numbers = alias, itertools.count(2)
    while name in used:
        name = f"{alias}{AGAIN}{next(numbers)}"
    used.add(name)
    return name


def _rename(node: exp.Expr, known: Mapping[str, str], fresh: set[str]) -> None:
    if isinstance(node, exp.Select):
        _rename_select(node, known, fresh)
        return
    if isinstance(node, exp.Column) and node.table in known:
        node.set("table", exp.to_identifier(known[node.table], quoted=True))
    for child in list(node.iter_expressions()):
        _rename(child, known, fresh)


def _rename_select(node: exp.Select, known: Mapping[str, str], fresh: set[str]) -> None:
    inside = dict(known)
    for source in sources_of(node):
        # A source may read those before it, as if it were LATERAL.
        for part in [source] if isinstance(source, (exp.Unnest, exp.Values)) else [source.this]:
            _rename(cast(exp.Expr, part), inside, fresh)
        name = _unused(source.alias_or_name, fresh)
        inside[source.alias_or_name] = name
        alias = source.args.get("alias")
        if alias is None:
            source.set("alias", exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
        else:
            alias.set("this", exp.to_identifier(name, quoted=True))
    with_ = node.args.get("with_")
    if with_ is not None:
        _rename(with_, known, fresh)
    for key, value in node.args.items():
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, exp.Expr) or key in ("from_", "with_"):
                continue
            if isinstance(child, exp.Join):
                for part in (child.args.get("on"),):
                    if part is not None:
                        _rename(part, inside, fresh)
            else:
                _rename(child, inside, fresh)


def sources_of(select: exp.Select) -> list[exp.Expr]:
    """The nodes of FROM and JOIN, in order."""
    start = select.args.get("from_")
    joins = cast("list[exp.Join]", select.args.get("joins") or [])
    return [*([start.this] if start else []), *(cast(exp.Expr, join.this) for join in joins)]


def aliases_within(node: exp.Expr) -> set[str]:
    """Aliases of every source defined anywhere inside `node`."""
    return {
        source.alias_or_name
        for select in node.find_all(exp.Select)
        for source in sources_of(select)
    }


def outer_columns(node: exp.Expr) -> list[ColumnName]:
    """Columns inside `node` that belong to sources outside it, in order of appearance."""
    own = aliases_within(node)
    found = [(c.table, c.name) for c in node.find_all(exp.Column) if c.table and c.table not in own]
    return list(dict.fromkeys(found))


def columns_of(node: exp.Expr, aliases: set[str]) -> list[ColumnName]:
    """Columns anywhere in `node` that belong to `aliases`, in order of appearance."""
    found = [(c.table, c.name) for c in node.find_all(exp.Column) if c.table in aliases]
    return list(dict.fromkeys(found))


def renamed(node: exp.Expr, place: Callable[[ColumnName], ColumnName | None]) -> exp.Expr:
    """A copy of `node` in which a column moves to where `place` says; None leaves it."""

    def change(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column) and part.table:
            found = place((part.table, part.name))
            if found is not None:
                return exp.column(found[1], table=found[0], quoted=True)
        return part

    return node.copy().transform(change)


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """The parts of a condition that must all hold."""
    if node is None:
        return []
    if isinstance(node, exp.Paren):
        return conjuncts(node.this)
    if isinstance(node, exp.And):
        return [*conjuncts(node.left), *conjuncts(node.right)]
    return [node]


def aggregates_in(node: exp.Expr) -> list[exp.Expr]:
    """Outermost aggregate calls of an expression, with their FILTER.

    A window runs over groups, so its own call is none, but what it reads may be.
    """
    if isinstance(node, (exp.Select, exp.SetOperation)):
        return []
    if isinstance(node, exp.Window):
        call = node.this.this if isinstance(node.this, exp.Filter) else node.this
        inner = [
            *call.iter_expressions(),
            *(c for c in node.iter_expressions() if c is not node.this),
        ]
        return [found for child in inner for found in aggregates_in(child)]
    if isinstance(node, (exp.Filter, exp.WithinGroup)) or aggregate_name(node):
        return [node]
    return [found for child in node.iter_expressions() for found in aggregates_in(child)]


def substituted(node: exp.Expr, replacements: Mapping[str, exp.Expr], dialect: Dialect) -> exp.Expr:
    """A copy of `node` in which every part that renders as a key becomes its value.

    Queries inside are left alone: the same words mean something else there.
    """
    holder = exp.Paren(this=node.copy())
    _substitute(holder, replacements, dialect)
    return cast(exp.Expr, holder.this)


def _substitute(holder: exp.Expr, replacements: Mapping[str, exp.Expr], dialect: Dialect) -> None:
    for child in list(holder.iter_expressions()):
        if isinstance(child, (exp.Identifier, exp.Literal)):
            continue
        found = replacements.get(render(child, dialect))
        if found is not None:
            child.replace(found.copy())
        elif not isinstance(child, (exp.Select, exp.SetOperation)):
            _substitute(child, replacements, dialect)


def grouping_sets(select: exp.Select) -> list[exp.Select] | None:
    """The plain GROUP BY blocks that ROLLUP, CUBE or GROUPING SETS stand for; None without them."""
    group = select.args.get("group")
    if group is None:
        return None
    kinds = (exp.Rollup, exp.Cube, exp.GroupingSets)
    listed = cast("list[exp.Expr]", group.expressions)
    special = [item for item in listed if isinstance(item, kinds)]
    if not special:
        return None
    plain = [item for item in listed if not isinstance(item, kinds)]
    choices = [_sets(item) for item in special]
    every = [*plain, *(k for sets in choices for keys in sets for k in keys)]
    unique = list({k.sql(dialect="duckdb"): k for k in every}.values())
    return [
        _with_keys(select, [*plain, *(k for keys in chosen for k in keys)], unique)
        for chosen in itertools.product(*choices)
    ]


def _sets(item: exp.Expr) -> list[list[exp.Expr]]:
    parts = [_flat(part) for part in cast("list[exp.Expr]", item.expressions)]
    if isinstance(item, exp.Rollup):
        return [
            [k for part in parts[:length] for k in part] for length in range(len(parts), -1, -1)
        ]
    if isinstance(item, exp.Cube):
        return [
            [k for part, used in zip(parts, mask, strict=True) if used for k in part]
            for mask in itertools.product((True, False), repeat=len(parts))
        ]
    found: list[list[exp.Expr]] = []
    for part in cast("list[exp.Expr]", item.expressions):
        found += _sets(part) if isinstance(part, (exp.Rollup, exp.Cube)) else [_flat(part)]
    return found


def _flat(part: exp.Expr) -> list[exp.Expr]:
    inner = part.unnest()
    return (
        list(cast("list[exp.Expr]", inner.expressions)) if isinstance(inner, exp.Tuple) else [inner]
    )


def _with_keys(select: exp.Select, keys: list[exp.Expr], every: list[exp.Expr]) -> exp.Select:
    """The block grouped by `keys`, other grouping expressions being NULL outside aggregates."""
    out = select.copy()
    kept = {k.sql(dialect="duckdb") for k in keys}
    dropped = {k.sql(dialect="duckdb") for k in every} - kept

    def change(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Anonymous) and node.name.lower() in ("grouping", "grouping_id"):
            return exp.Literal.number(_grouping(node, kept))
        if isinstance(node, exp.Grouping):
            return exp.Literal.number(_grouping(node, kept))
        if aggregate_name(node) or isinstance(node, (exp.Filter, exp.WithinGroup, exp.Query)):
            return node
        if node.sql(dialect="duckdb") in dropped:
            return exp.Null()
        for key, value in list(node.args.items()):
            if isinstance(value, list):
                node.set(key, [change(v) if isinstance(v, exp.Expr) else v for v in value])
            elif isinstance(value, exp.Expr):
                node.set(key, change(value))
        return node

    out.set("expressions", [change(item) for item in out.expressions])
    having = out.args.get("having")
    if having is not None:
        having.set("this", change(having.this))
    unique = list({k.sql(dialect="duckdb"): k.copy() for k in keys}.values())
    # An empty set is one group whatever the rows, like an aggregate without GROUP BY.
    out.set("group", exp.Group(expressions=unique))
    return out


def _grouping(node: exp.Expr, kept: set[str]) -> int:
    bits = 0
    for item in cast("list[exp.Expr]", node.expressions):
        bits = 2 * bits + (item.sql(dialect="duckdb") not in kept)
    return bits


def items_of(select: exp.Expr) -> list[exp.Expr]:
    """The SELECT items."""
    return list(cast("list[exp.Expr]", select.expressions))


def output_names(node: exp.Expr) -> list[str]:
    """Column names of a qualified query."""
    while isinstance(node, (exp.Subquery, exp.SetOperation)):
        node = cast(exp.Expr, node.this)
    return [item.alias_or_name for item in items_of(node)]


def order_keys(node: exp.Expr) -> list[exp.Ordered]:
    """The ORDER BY entries of a query."""
    order = node.args.get("order")
    return list(cast("list[exp.Ordered]", order.expressions if order is not None else []))


def is_grouped(select: exp.Select) -> bool:
    """Whether a block aggregates: GROUP BY, HAVING, or an aggregate among its items."""
    if select.args.get("group") is not None or select.args.get("having") is not None:
        return True
    return any(aggregates_in(item) for item in items_of(select))


def unwrapped(node: exp.Expr) -> exp.Expr:
    """A grouped query without SELECTs around it that only pass its columns on.

    ``SELECT k, n AS m FROM (SELECT k, count(*) AS n ... GROUP BY k)`` is its inner query with the
    outer names, so that both have the same cells. Order is left to the plain answer.
    """
    while isinstance(node, exp.Select):
        inner = _passed_on(node)
        if inner is None:
            return node
        node = inner
    return node


def _passed_on(node: exp.Select) -> exp.Select | None:
    sources = sources_of(node)
    allowed = {"expressions", "from_", "with_", "order", "where"}
    if len(sources) != 1 or any(value for key, value in node.args.items() if key not in allowed):
        return None
    found, outer_with = _definition(node, sources[0])
    inner = unwrapped(found) if found is not None else None
    if (
        not isinstance(inner, exp.Select)
        or not is_grouped(inner)
        or grouping_sets(inner) is not None
    ):
        return None
    if any(inner.args.get(key) for key in ("limit", "offset", "distinct", "qualify", "with_")):
        return None
    items = items_of(node)
    if any(item.find(exp.Query, exp.Window) or aggregates_in(item) for item in items):
        return None
    shown = {item.alias_or_name: item.unalias() for item in items_of(inner)}
    alias = sources[0].alias_or_name
    out = inner.copy()
    where = node.args.get("where")
    if where is not None:
        keys = {name for name, item in shown.items() if not aggregates_in(item)}
        if not inner.args.get("group") or not _only_over(where.this, alias, keys):
            return None
        out.where(_moved_in(where.this, alias, shown).unalias(), copy=False)
    out.set("expressions", [_moved_in(item, alias, shown) for item in items])
    out.set("order", None)
    out.set("with_", outer_with)
    return out


def _only_over(condition: exp.Expr, alias: str, keys: set[str]) -> bool:
    """Whether a condition reads nothing but group keys, so that it may come before grouping."""
    columns = list(condition.find_all(exp.Column))
    return condition.find(exp.Query) is None and all(
        column.table == alias and column.name in keys for column in columns
    )


def _moved_in(item: exp.Expr, alias: str, shown: Mapping[str, exp.Expr]) -> exp.Expr:
    """An outer item over the expressions of the inner query."""

    def change(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column) and part.table == alias and part.name in shown:
            return exp.Paren(this=shown[part.name].copy())
        return part

    moved = item.copy().transform(change)
    return exp.alias_(moved.unalias().unnest(), item.alias_or_name, quoted=True)


def _definition(node: exp.Select, source: exp.Expr) -> tuple[exp.Select | None, exp.Expr | None]:
    """The SELECT a source stands for, and the WITH clause that stays around it."""
    with_ = node.args.get("with_")
    if isinstance(source, exp.Subquery):
        inner = source.this if not source.args["alias"].args.get("columns") else None
        return (inner if isinstance(inner, exp.Select) else None), with_
    for cte in cast("list[exp.CTE]", with_.expressions if with_ is not None else []):
        if cte.alias == source.name and isinstance(source, exp.Table) and not source.db:
            plain = not cte.args["alias"].args.get("columns") and isinstance(cte.this, exp.Select)
            return (cte.this if plain else None), with_
    return None, None
