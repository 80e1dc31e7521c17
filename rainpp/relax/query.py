"""The vocabulary of a lowered query: what the parser's tree is reduced to.

A query is sources, conditions, group keys and cells. A *hole* stands where the user wrote a
prediction: (slot, source) for "this slot's prediction for the row of this source". An *atom* is a
hole inside one formula; exact semantics has one atom per hole, Rain's product rules treat every
occurrence as a fresh one, which the `copy` number tells apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from rainpp.types import ClassValue


@dataclass(frozen=True, slots=True)
class Slot:
    """One set of predictions a query needs: a registered model over one table's rows.

    `table` is the name SQL resolves, plain when it lies in the default schema. `arguments` are the
    columns in call order, None when the call names the whole row.
    """

    model: str
    table: str
    arguments: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of FROM: a base table under the alias its columns are reached by."""

    alias: str
    table: str
    qualified: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Atom:
    """A prediction variable of a joined row: slot, source and occurrence number."""

    slot: int
    source: int
    copy: int = 0

    @property
    def hole(self) -> tuple[int, int]:
        """(slot, source), the same for every occurrence."""
        return self.slot, self.source


@dataclass(frozen=True, eq=False, slots=True)
class Scalar:
    """An SQL expression whose predictions are holes.

    `sql` renders the holes as the column names `hole_name` gives; `shown` is the user's spelling;
    `sources` are those of its columns and holes together.
    """

    node: exp.Expr
    sql: str
    shown: str
    holes: tuple[tuple[int, int], ...]
    column_sources: frozenset[int]

    @property
    def sources(self) -> frozenset[int]:
        """Every source the expression depends on."""
        return self.column_sources | {source for _, source in self.holes}

    @property
    def constant(self) -> bool:
        """Whether its value depends on nothing but the predicted classes."""
        return not self.column_sources


@dataclass(frozen=True, eq=False, slots=True)
class GroupKey:
    """One GROUP BY expression; `position` is the SELECT item that shows it, if one does."""

    scalar: Scalar
    position: int | None


@dataclass(frozen=True, eq=False, slots=True)
class Aggregate:
    """COUNT, SUM or AVG of `argument` (None: COUNT(*)) over the rows where `filters` hold."""

    kind: str
    argument: Scalar | None
    filters: tuple[Scalar, ...]
    shown: str


@dataclass(frozen=True, eq=False, slots=True)
class Cell:
    """constant + Σ coefficient · aggregate: one SELECT item a user can complain about."""

    position: int
    constant: float
    terms: tuple[tuple[float, int], ...]


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """A SELECT block, resolved: nothing below needs the catalogue or the parser again.

    `classes[slot]` are the values that slot's predictions take; `calls` shows how the user wrote
    each hole.
    """

    sql: str
    tree: exp.Select
    slots: tuple[Slot, ...]
    sources: tuple[Source, ...]
    conditions: tuple[Scalar, ...]
    keys: tuple[GroupKey, ...]
    aggregates: tuple[Aggregate, ...]
    cells: tuple[Cell, ...]
    classes: tuple[tuple[ClassValue, ...], ...]
    calls: tuple[tuple[tuple[int, int], str], ...]

    @property
    def certain_conditions(self) -> list[Scalar]:
        """Those that read no prediction."""
        return [condition for condition in self.conditions if not condition.holes]


# In the name of a function that stands for a number as it is; see `smooth`.
AMOUNT = "__amount_"


def is_amount(slot: Slot) -> bool:
    """Whether a slot's predictions stand for a number, in which every expression is affine."""
    return AMOUNT in slot.model


def hole_name(hole: tuple[int, int]) -> str:
    """The column name that stands for a prediction in generated SQL."""
    return f"__prediction_{hole[0]}_of_{hole[1]}"
