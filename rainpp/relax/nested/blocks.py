"""SELECT blocks and their sources: what columns they show, and where a column comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from sqlglot import exp

from rainpp.errors import QueryError
from rainpp.relax.catalog import TableEntry

HIDDEN = "__prediction_"


@dataclass(eq=False, slots=True)
class Base:
    """One mention of a base table: its name in the rewritten query, and the slots it predicts."""

    name: str
    entry: TableEntry
    slots: set[int] = field(default_factory=set[int])


@dataclass(eq=False, slots=True)
class Origin:
    """A source of one SELECT: a base table, or a query whose columns can be traced."""

    alias: str
    columns: tuple[str, ...]
    base: Base | None = None
    inner: Block | None = None


@dataclass(eq=False, slots=True)
class Block:
    """A SELECT and its sources; `outer` is the block a subquery lies in."""

    select: exp.Select
    origins: list[Origin]
    outer: Block | None


# The columns a query shows, and its block if it is one SELECT.
Shape = tuple[tuple[str, ...], "Block | None"]


def outputs(block: Block) -> tuple[str, ...]:
    """Names of the columns a SELECT shows."""
    names: list[str] = []
    for item in _items(block):
        if _star(item):
            names += [name for origin in _starred(item, block) for name in origin.columns]
        else:
            names.append(item.alias_or_name)
    return tuple(names)


def projected(block: Block, name: str) -> exp.Column | None:
    """The plain column that a SELECT shows as `name`."""
    for item in _items(block):
        if _star(item):
            for origin in _starred(item, block):
                if name.lower() in (column.lower() for column in origin.columns):
                    return exp.column(name, table=origin.alias)
        elif item.alias_or_name.lower() == name.lower():
            plain = item.unalias().unnest()
            return plain if isinstance(plain, exp.Column) else None
    return None


def _items(block: Block) -> list[exp.Expr]:
    return cast("list[exp.Expr]", block.select.expressions)


def _star(item: exp.Expr) -> exp.Star | None:
    """The star of * or alias.*; None for any other item."""
    star = item.this if isinstance(item, exp.Column) else item
    return star if isinstance(star, exp.Star) else None


def _starred(item: exp.Expr, block: Block) -> list[Origin]:
    """The sources whose columns * or alias.* stands for."""
    table = item.table.lower() if isinstance(item, exp.Column) else ""
    return [origin for origin in block.origins if table in ("", origin.alias.lower())]


def merges(select: exp.Select) -> bool:
    """Whether the rows of a SELECT stand for several rows of its sources."""
    return bool(select.args.get("group") or select.args.get("distinct") or select.find(exp.AggFunc))


def stored(origin: Origin, name: str) -> str:
    """A column's name as the source spells it."""
    return next((c for c in origin.columns if c.lower() == name.lower()), name)


def is_using(select: exp.Select, name: str) -> bool:
    """Whether a join has USING (name); `name` is lower case."""
    joins = cast("list[exp.Join]", select.args.get("joins") or [])
    return any(name == c.name.lower() for join in joins for c in join.args.get("using") or [])


def levels(block: Block) -> Iterator[Block]:
    """The block and those around it, innermost first."""
    level: Block | None = block
    while level is not None:
        yield level
        level = level.outer


def renamed(shape: Shape, cte: exp.CTE) -> Shape:
    """What a CTE with a list of column names shows."""
    alias = cte.args.get("alias")
    titles = alias.args.get("columns") if alias is not None else None
    return (retitled(shape[0], titles), shape[1]) if titles else shape


def retitled(columns: tuple[str, ...], titles: list[exp.Expr]) -> tuple[str, ...]:
    """Column names after a list of new ones, which may be shorter."""
    return (*(title.name for title in titles), *columns[len(titles) :])


def check_stars(block: Block) -> None:
    """Refuse * over a query two of whose columns have one name: which is which would be lost."""
    for item in filter(_star, _items(block)):
        for origin in _starred(item, block):
            names = [name.lower() for name in origin.columns]
            twice = next((name for name in origin.columns if names.count(name.lower()) > 1), None)
            if twice is not None:
                raise QueryError(
                    f"two columns of `{origin.alias}` are called `{twice}`; name them apart with "
                    "AS before reading them with *."
                )


def hide_predictions(block: Block) -> None:
    """Keep carried predictions out of ``SELECT *``."""
    for item in _items(block):
        if star := _star(item):
            carried = {name for origin in _starred(item, block) for name in _carried(origin)}
            hidden = [exp.to_identifier(name, quoted=True) for name in sorted(carried)]
            if hidden:
                star.set("except_", [*(star.args.get("except_") or []), *hidden])


def _carried(origin: Origin) -> set[str]:
    """Names of the prediction columns that a source shows besides its own."""
    if origin.base is not None:
        return {f"{HIDDEN}{slot}" for slot in origin.base.slots}
    items = _items(origin.inner) if origin.inner else []
    return {item.alias for item in items if item.alias.startswith(HIDDEN)}
