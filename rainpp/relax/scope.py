"""Names inside one SELECT block: which source a column, a row or a prediction belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import suggest
from rainpp.relax.dialect import render
from rainpp.relax.query import Scalar, Slot, Source, hole_name
from rainpp.relax.written import Written


@dataclass(eq=False, slots=True)
class Scope(Written):
    """Resolves names while a query is lowered; collects the slots it meets.

    `merged` maps a USING column to the source it is read from; `aliases` maps a SELECT alias to
    its expression; `calls` remembers how the user wrote each hole.
    """

    sources: list[Source] = field(default_factory=list[Source])
    merged: dict[str, int] = field(default_factory=dict[str, int])
    aliases: dict[str, exp.Expr] = field(default_factory=dict[str, exp.Expr])
    slots: list[Slot] = field(default_factory=list[Slot])
    calls: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])

    def lower(self, node: exp.Expr) -> Scalar:
        """`node` with qualified columns, SELECT aliases expanded and predictions as holes."""
        shown, holder = self.shown(node), exp.Paren(this=node.copy())
        holes: set[tuple[int, int]] = set()
        sources: set[int] = set()
        self._rewrite(holder, holes, sources, expanding=frozenset())
        lowered = cast(exp.Expr, holder.this).unnest()
        sql = render(lowered, self.dialect)
        return Scalar(lowered, sql, shown, tuple(sorted(holes)), frozenset(sources))

    def _rewrite(
        self,
        holder: exp.Expr,
        holes: set[tuple[int, int]],
        sources: set[int],
        *,
        expanding: frozenset[str],
    ) -> None:
        for child in list(holder.iter_expressions()):
            if model := self.registered(child):
                hole = self.hole(cast(exp.Anonymous, child), model)
                holes.add(hole)
                child.replace(exp.column(hole_name(hole), quoted=True))
            elif isinstance(child, exp.Column):
                alias = self._alias(child, expanding)
                if alias is None:
                    child.replace(self._column(child, sources))
                    continue
                inner = exp.Paren(this=alias.copy())
                self._rewrite(inner, holes, sources, expanding=expanding | {child.name.lower()})
                child.replace(inner if isinstance(inner.this, exp.Binary) else inner.this)
            else:
                self._rewrite(child, holes, sources, expanding=expanding)

    def _alias(self, column: exp.Column, expanding: frozenset[str]) -> exp.Expr | None:
        name = column.name.lower()
        if column.table or name in expanding or self._owners(name):
            return None
        return self.aliases.get(name)

    def _owners(self, name: str) -> list[int]:
        """Sources that have a column called `name` (lower case); rowid belongs to every table."""
        if name in self.merged:
            return [self.merged[name]]
        return [
            index
            for index, source in enumerate(self.sources)
            if name == "rowid" or any(name == column.lower() for column in source.columns)
        ]

    def _column(self, node: exp.Column, sources: set[int]) -> exp.Expr:
        if isinstance(node.this, exp.Star):
            raise UnsupportedQueryError(
                self.shown(node), why="a star stands for several columns", instead="Name one column"
            )
        index, depth = self._locate(node)
        sources.add(index)
        parts = [part.copy() for part in node.parts]
        name = parts[depth].name.lower()
        stored = next((c for c in self.sources[index].columns if c.lower() == name), name)
        column = exp.column(stored, table=self.sources[index].alias, quoted=True)
        if depth + 1 == len(parts):
            return column
        return exp.Dot.build([column, *parts[depth + 1 :]])

    def _locate(self, node: exp.Column) -> tuple[int, int]:
        """The source a column belongs to, and which of its dotted parts is the column name."""
        names = [part.name.lower() for part in node.parts]
        if len(names) == 1:
            return self._only_owner(node, names[0]), 0
        for depth in (1, 2, 3):
            if depth >= len(names):
                break
            found = self._by_table(names[:depth])
            if found is not None:
                if not self._holds(found, names[depth]):
                    self._refuse_column(node, names[depth], [found])
                return found, depth
        if self._owners(names[0]):
            return self._only_owner(node, names[0]), 0
        aliases = [source.alias for source in self.sources]
        raise QueryError(
            f"`{self.shown(node)}` names no table of this query"
            f"{suggest(names[0], aliases, 'tables')}"
        )

    def _holds(self, index: int, name: str) -> bool:
        return name == "rowid" or name in (column.lower() for column in self.sources[index].columns)

    def _by_table(self, names: list[str]) -> int | None:
        for index, source in enumerate(self.sources):
            if names == [source.alias.lower()] or (
                len(names) > 1
                and source.qualified.lower().replace('"', "").endswith(".".join(names))
            ):
                return index
        return None

    def _only_owner(self, node: exp.Column, name: str) -> int:
        owners = self._owners(name)
        if not owners:
            self._refuse_column(node, name, range(len(self.sources)))
        if len(owners) > 1:
            tables = " or ".join(f"`{self.sources[index].alias}.{node.name}`" for index in owners)
            raise QueryError(f"column `{self.shown(node)}` is ambiguous; write {tables}.")
        return owners[0]

    def _refuse_column(self, node: exp.Column, name: str, among: Iterable[int]) -> None:
        columns = [column for index in among for column in self.sources[index].columns]
        hint = ""
        if node.parts[-1].args.get("quoted"):
            hint = f" A text value takes single quotes: '{node.name}'."
        raise QueryError(
            f"there is no column `{self.shown(node)}`{suggest(name, columns, 'columns')}{hint}"
        )

    def hole(self, call: exp.Anonymous, model: str) -> tuple[int, int]:
        """The (slot, source) of a call; the slot is added if it is new."""
        self.check_bare(call, model)
        source, arguments = self._arguments(call, model)
        slot = Slot(model, self.sources[source].table, arguments)
        hole = (self.slot_number(self.slots, slot, call), source)
        if hole not in self.calls:
            self.calls[hole] = self.shown(call)
        return hole

    def _arguments(self, call: exp.Anonymous, model: str) -> tuple[int, tuple[str, ...] | None]:
        given = cast("list[exp.Expr]", call.expressions)
        if not given:
            raise self.no_argument(call, model)
        row = self._row_reference(call, given[0]) if len(given) == 1 else None
        if row is not None:
            return row, None
        places: set[int] = set()
        names: list[str] = []
        for argument in given:
            if not isinstance(argument, exp.Column) or isinstance(argument.this, exp.Star):
                raise self.not_a_row(argument, call, model)
            index, depth = self._locate(argument)
            wanted = argument.parts[depth].name.lower()
            if depth + 1 < len(argument.parts) or wanted == "rowid":
                raise self.not_a_row(argument, call, model)
            places.add(index)
            names.append(next(c for c in self.sources[index].columns if c.lower() == wanted))
        if len(places) > 1:
            raise self.several_tables(call)
        return places.pop(), tuple(names)

    def _row_reference(self, call: exp.Expr, argument: exp.Expr) -> int | None:
        """The source whose whole row is the argument: `*`, `alias.*`, `alias`; else None."""
        if isinstance(argument, exp.Star):
            if len(self.sources) == 1 and not argument.args.get("except_"):
                return 0
            raise self.ambiguous_star(call, (source.alias for source in self.sources))
        if not isinstance(argument, exp.Column):
            return None
        names = [part.name.lower() for part in argument.parts]
        starred = isinstance(argument.this, exp.Star)
        found = self._by_table(names[:-1] if starred else names)
        if found is None or starred:
            return found
        if len(names) == 1 and self._owners(names[0]):
            column = self.sources[self._owners(names[0])[0]].alias
            raise self.table_or_column(call, argument.name, column)
        return found
