"""Where the row of every call comes from: a table, or a derived table whose columns are traced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import suggest
from rainpp.relax.nested.blocks import (
    HIDDEN,
    Block,
    Origin,
    is_using,
    levels,
    merges,
    outputs,
    projected,
    stored,
)
from rainpp.relax.query import Slot
from rainpp.relax.written import Written


@dataclass(eq=False, slots=True)
class Tracer:
    """Replaces calls of models by columns of their sources; collects their slots.

    Raises
    ------
    QueryError : arguments that name no row.
    UnsupportedQueryError : a call whose row cannot be traced to one base table.
    """

    written: Written
    slots: list[Slot] = field(default_factory=list[Slot])
    calls: dict[int, str] = field(default_factory=dict[int, str])

    def replace(self, call: exp.Anonymous, model: str, block: Block) -> None:
        """Make a call in `block` a column of the source whose row it predicts."""
        self.written.check_bare(call, model)
        origin, arguments = self._arguments(call, model, block)
        name = self._attach(origin, model, arguments, call)
        call.replace(exp.column(name, table=origin.alias, quoted=True))

    def _attach(
        self, origin: Origin, model: str, arguments: tuple[str, ...] | None, call: exp.Expr
    ) -> str:
        """The column of `origin` that holds the prediction; added where it is missing."""
        if origin.base is not None:
            slot = Slot(model, origin.base.entry.shown, arguments)
            number = self.written.slot_number(self.slots, slot, call)
            if number not in self.calls:
                self.calls[number] = self.written.shown(call)
            origin.base.slots.add(number)
            return f"{HIDDEN}{number}"
        inner = origin.inner
        if inner is None or merges(inner.select):
            raise UnsupportedQueryError(
                self.written.shown(call),
                why=f"the rows of `{origin.alias or 'this source'}` are not rows of one table",
                instead="Call the model inside it, on the table itself",
            )
        titles, own = [title.lower() for title in origin.columns], outputs(inner)
        if arguments is not None and len(own) == len(titles):
            arguments = tuple(own[titles.index(name.lower())] for name in arguments)
        source, columns = self._traced(inner, arguments, call, origin.alias)
        name = self._attach(source, model, columns, call)
        carried = [item for item in inner.select.expressions if item.alias == name]
        if not carried:
            column = exp.column(name, table=source.alias, quoted=True)
            inner.select.append("expressions", exp.alias_(column, name, quoted=True))
        return name

    def _traced(
        self, inner: Block, arguments: tuple[str, ...] | None, call: exp.Expr, alias: str
    ) -> tuple[Origin, tuple[str, ...] | None]:
        """The source inside a derived table that the argument columns come from."""
        if arguments is None:
            if len(inner.origins) == 1:
                return inner.origins[0], None
            raise UnsupportedQueryError(
                self.written.shown(call),
                why=f"a row of `{alias}` is made of rows of several tables",
                instead="Name the columns the model reads",
            )
        found: list[tuple[Origin, str]] = []
        for name in arguments:
            column = projected(inner, name)
            origin = self._owner(column, inner) if column is not None else None
            if column is None or origin is None:
                raise UnsupportedQueryError(
                    self.written.shown(call),
                    why=f"`{name}` of `{alias}` is computed, not a column of a table",
                    instead="Call the model inside, on the table's own columns",
                )
            found.append((origin, column.name))
        if len({id(origin) for origin, _ in found}) > 1:
            raise self.written.several_tables(call)
        origin = found[0][0]
        return origin, tuple(stored(origin, name) for _, name in found)

    def _arguments(
        self, call: exp.Anonymous, model: str, block: Block
    ) -> tuple[Origin, tuple[str, ...] | None]:
        """The source a call is over, and the columns it names; None for the whole row."""
        given = cast("list[exp.Expr]", call.expressions)
        if not given:
            raise self.written.no_argument(call, model)
        row = self._row(given[0], block, call) if len(given) == 1 else None
        if row is not None:
            return row, None
        found: list[tuple[Origin, str]] = []
        for argument in given:
            if not isinstance(argument, exp.Column) or isinstance(argument.this, exp.Star):
                raise self.written.not_a_row(argument, call, model)
            found.append(self._lookup(argument, block))
        if len({id(origin) for origin, _ in found}) > 1:
            raise self.written.several_tables(call)
        return found[0][0], tuple(name for _, name in found)

    def _row(self, argument: exp.Expr, block: Block, call: exp.Expr) -> Origin | None:
        """The source whose whole row is the argument: `*`, `alias.*`, `alias`."""
        if isinstance(argument, exp.Star):
            if len(block.origins) == 1:
                return block.origins[0]
            raise self.written.ambiguous_star(call, (origin.alias for origin in block.origins))
        if not isinstance(argument, exp.Column):
            return None
        star = isinstance(argument.this, exp.Star)
        name = (argument.table if star else argument.name).lower()
        if argument.table and not star:
            return None
        for level in levels(block):
            for origin in level.origins:
                if origin.alias.lower() == name:
                    if not star:
                        self._check_not_both(argument, level, call)
                    return origin
        return None

    def _check_not_both(self, argument: exp.Column, block: Block, call: exp.Expr) -> None:
        name = argument.name.lower()
        owners = [o for o in block.origins if name in map(str.lower, o.columns)]
        if owners:
            raise self.written.table_or_column(call, argument.name, owners[0].alias)

    def _lookup(self, column: exp.Column, block: Block) -> tuple[Origin, str]:
        for level in levels(block):
            origin = self._owner(column, level)
            if origin is not None:
                return origin, stored(origin, column.name)
        known = [name for level in levels(block) for o in level.origins for name in o.columns]
        hint = suggest(column.name, known, "columns")
        raise QueryError(f"there is no column `{self.written.shown(column)}`{hint}")

    def _owner(self, column: exp.Column, block: Block) -> Origin | None:
        """The source of `block` that a column belongs to."""
        name, table = column.name.lower(), column.table.lower()
        if table:
            owners = [origin for origin in block.origins if origin.alias.lower() == table]
            return owners[0] if owners else None
        owners = [o for o in block.origins if name in (c.lower() for c in o.columns)]
        if len(owners) > 1 and not is_using(block.select, name):
            tables = " or ".join(f"`{o.alias}.{column.name}`" for o in owners)
            raise QueryError(f"column `{self.written.shown(column)}` is ambiguous; write {tables}.")
        if owners:
            return owners[0]
        opaque = [origin for origin in block.origins if not origin.columns]
        return opaque[0] if len(opaque) == 1 and len(block.origins) == 1 else None
