"""How the sides of a factorised join meet, whichever way a message travels along an edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from rainpp.relax.portable.expressions import portable
from rainpp.relax.portable.masks import Writer
from rainpp.relax.query import Scalar
from rainpp.relax.strategy import Layout


@dataclass(frozen=True, eq=False, slots=True)
class Tie:
    """Sides `left` and `right` meet where `condition` holds over ``l.column_i, r.column_j``."""

    left: int
    right: int
    condition: str
    columns: tuple[tuple[Scalar, ...], tuple[Scalar, ...]]

    def touches(self, side: int) -> bool:
        """Whether it ties `side` to another."""
        return side in (self.left, self.right)

    def other(self, side: int) -> int:
        """The side that it ties `side` to."""
        return self.right if side == self.left else self.left

    def sent(self, side: int, writer: Writer) -> list[tuple[str, str]]:
        """(SQL, name) of the columns `side` needs to be met by."""
        mine = self.columns[side == self.right]
        letter = "r" if side == self.right else "l"
        used = {c.name for c in self._parsed().find_all(exp.Column) if c.table == letter}
        return [
            (f"({writer.scalar(scalar)})", f"column_{i}")
            for i, scalar in enumerate(mine)
            if f"column_{i}" in used
        ]

    def met(self, side: int, message: str, writer: Writer) -> str:
        """The condition where rows of `side` meet the rows of a message from the other side."""
        mine = self.columns[side == self.right]
        letter = "r" if side == self.right else "l"
        holder = exp.Paren(this=self._parsed())
        for column in list(holder.find_all(exp.Column)):
            if column.table == letter:
                scalar = mine[int(column.name.removeprefix("column_"))]
                column.replace(sqlglot.parse_one(f"({writer.scalar(scalar)})", read="duckdb"))
            else:
                column.replace(exp.column(column.name, table=message))
        return holder.sql(dialect="duckdb")

    def _parsed(self) -> exp.Expr:
        parsed = sqlglot.parse_one(self.condition, read="duckdb")
        return portable(parsed, self.condition)


def ties(layout: Layout) -> tuple[Tie, ...]:
    """The edges of a layout; two sides joined on equal keys alone have one."""
    sides = layout.sides
    if not layout.edges and layout.factorised:
        pairs = [f"l.column_{i} = r.column_{i}" for i in range(len(sides[0].joins))]
        columns = (sides[0].joins, sides[1].joins)
        return (Tie(0, 1, " AND ".join(pairs) or "1 = 1", columns),)
    return tuple(
        Tie(
            e.left, e.right, _standard(e.condition), (sides[e.left].columns, sides[e.right].columns)
        )
        for e in layout.edges
    )


def _standard(condition: str) -> str:
    return "1 = 1" if condition == "true" else condition


def neighbours(found: Sequence[Tie], side: int, apart_from: int | None) -> list[Tie]:
    """The ties of a side, but for the one a message is sent along."""
    return [tie for tie in found if tie.touches(side) and tie.other(side) != apart_from]
