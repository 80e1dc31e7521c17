"""Events and payloads as SQL over class numbers.

What depends on classes alone was evaluated class by class when the query was planned; only its
table is written out here, so its meaning cannot change with the database. What also reads columns
is written as an expression in which a prediction is CASE over its class number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any as Anything
from typing import cast

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.catalog import quote
from rainpp.relax.events import All, Event, Leaf, Reading
from rainpp.relax.masks import Factor
from rainpp.relax.portable.expressions import literal, portable
from rainpp.relax.query import Atom, Query, Scalar, hole_name

Table = NDArray[np.float64]
# How to write the class number of a prediction: a column of its table or of a message.
ClassColumn = Callable[[Atom], str]
TRUE, FALSE = "1 = 1", "1 = 0"


def hole_alias(atom: Atom) -> str:
    """The alias of the probabilities joined to one source."""
    return f"rainpp_{atom.slot}_{atom.source}"


def class_column(atom: Atom) -> str:
    """The class number of a joined prediction."""
    return f"{hole_alias(atom)}.cls"


@dataclass(frozen=True, eq=False, slots=True)
class Writer:
    """Writes parts of one query; `rids[i]` is the row id column of source i."""

    query: Query
    dialect: Dialect
    constants: Mapping[str, Factor]
    rids: tuple[str, ...]

    @property
    def certain(self) -> tuple[Scalar, ...]:
        """The conditions without predictions."""
        return tuple(self.query.certain_conditions)

    def scalar(self, scalar: Scalar) -> str:
        """A lowered expression over joined sources."""
        return self._written(scalar.node, scalar.shown)

    def row_id(self, source: int) -> str:
        """The row id of a source."""
        return f"{quote(self.query.sources[source].alias)}.{quote(self.rids[source])}"

    def event(self, event: Event, column: ClassColumn = class_column) -> str:
        """A condition that is TRUE exactly if the event holds."""
        if isinstance(event, Leaf):
            return self._leaf(event, column)
        word = " AND " if isinstance(event, All) else " OR "
        return "(" + word.join(self.event(child, column) for child in event.children) + ")"

    def number(self, leaf: Leaf) -> str:
        """A payload, NULL read as zero."""
        if leaf.constant:
            values = self.constants[leaf.name].values[0]
            return f"CAST({number_table(values, [class_column(a) for a in leaf.atoms])} AS DOUBLE)"
        return f"COALESCE(CAST(({self._parsed(leaf.sql)}) AS DOUBLE), 0)"

    def _leaf(self, leaf: Leaf, column: ClassColumn) -> str:
        if leaf.constant:
            values = self.constants[leaf.name].values[0]
            return f"({condition(values, [column(atom) for atom in leaf.atoms])})"
        # UNKNOWN counts as not true: events are built of AND and OR alone.
        word = "NOT " if leaf.reading is Reading.FALSE else ""
        return f"({word}({self._parsed(leaf.sql)}))"

    def _parsed(self, sql: str) -> str:
        return self._written(cast(exp.Expr, self.dialect.parse_into(exp.Condition, sql)[0]), sql)

    def _written(self, node: exp.Expr, shown: str) -> str:
        names = {hole_name(hole): Atom(*hole) for hole, _ in self.query.calls}
        aliases = {source.alias: index for index, source in enumerate(self.query.sources)}
        holder = exp.Paren(this=self._portable(node, shown))
        for column in list(holder.find_all(exp.Column)):
            if not column.table and column.name in names:
                column.replace(self._class_value(names[column.name]))
            elif column.name.lower() == "rowid":
                row_id = self.rids[aliases[column.table]]
                column.replace(exp.column(row_id, table=column.table, quoted=True))
        return cast(exp.Expr, holder.this).sql(dialect="duckdb")

    def _portable(self, node: exp.Expr, shown: str) -> exp.Expr:
        try:
            return portable(node, shown)
        except UnsupportedQueryError as error:
            fragment, why = (self._spelled(text) for text in (error.fragment, error.why))
            raise UnsupportedQueryError(fragment, why=why, instead=error.instead) from None

    def _spelled(self, text: str) -> str:
        """Predictions as the user wrote them."""
        for hole, call in self.query.calls:
            text = text.replace(f'"{hole_name(hole)}"', call)
        return text

    def _class_value(self, atom: Atom) -> exp.Expr:
        classes = self.query.classes[atom.slot]
        shown = self.query.slots[atom.slot].model
        whens = " ".join(f"WHEN {i} THEN {literal(v, shown)}" for i, v in enumerate(classes))
        text = f"CASE {class_column(atom)} {whens} END"
        return cast(exp.Expr, self.dialect.parse_into(exp.Condition, text)[0])


def condition(values: Table, columns: Sequence[str]) -> str:
    """Where a table of zeros and ones, one axis per class column, is one."""
    table = values > 0.0
    if table.all() or not table.any():
        return TRUE if table.all() else FALSE
    if table.ndim == 1:
        return _among(columns[0], np.flatnonzero(table), len(table))
    if table.ndim == 2 and table.shape[0] == table.shape[1]:
        same = np.eye(len(table), dtype=bool)
        if (table == same).all() or (table != same).all():
            return f"{columns[0]} {'=' if table[0, 0] else '<>'} {columns[1]}"
    parts: list[str] = []
    for chosen, rest in _alike(table):
        if rest.any():
            inner = condition(rest.astype(float), columns[1:])
            parts.append(f"({_among(columns[0], chosen, len(table))} AND ({inner}))")
    return " OR ".join(parts)


def number_table(values: Table, columns: Sequence[str]) -> str:
    """The entry of a table of numbers that class columns point at."""
    if values.ndim == 0:
        return repr(float(values))
    parts = [
        f"WHEN {_among(columns[0], chosen, len(values))} THEN {number_table(rest, columns[1:])}"
        for chosen, rest in _alike(values)
    ]
    return f"CASE {' '.join(parts)} END"


def _alike(table: NDArray[Anything]) -> list[tuple[NDArray[np.int64], NDArray[Anything]]]:
    """Positions along the first axis that have equal tables, and those tables."""
    found: dict[bytes, list[int]] = {}
    for i, rest in enumerate(table):
        found.setdefault(np.ascontiguousarray(rest).tobytes(), []).append(i)
    return [(np.asarray(chosen), np.asarray(table[chosen[0]])) for chosen in found.values()]


def _among(column: str, chosen: NDArray[np.int64], size: int) -> str:
    if len(chosen) == size:
        return TRUE
    if len(chosen) == 1:
        return f"{column} = {chosen[0]}"
    if 2 * len(chosen) <= size:
        return f"{column} IN ({', '.join(map(str, chosen))})"
    others = np.setdiff1d(np.arange(size), chosen)
    if len(others) == 1:
        return f"{column} <> {others[0]}"
    return f"{column} NOT IN ({', '.join(map(str, others))})"
