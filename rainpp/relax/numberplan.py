"""A plan for a query with numbers: made for its rewriting, asked and answered in its own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.answer import Answer
from rainpp.relax.catalog import TableEntry
from rainpp.relax.nested.answer import NestedAnswer
from rainpp.relax.nested.statement import Statement
from rainpp.relax.numbers import Numbers
from rainpp.relax.plan import Plan, Slot
from rainpp.relax.smooth import number_table
from rainpp.types import PredictionTable


@dataclass(frozen=True, eq=False)
class NumberPlan:
    """`inner` is the plan of `numbers.sql`; `sql` is what the user wrote."""

    sql: str
    numbers: Numbers
    inner: Plan | Statement

    def __post_init__(self) -> None:
        known: dict[tuple[str, str], Slot] = {}
        for slot in self.slots:
            other = known.setdefault((slot.model, slot.table), slot)
            if other != slot:
                raise UnsupportedQueryError(
                    self.sql.strip(),
                    why=f"`{slot.model}` reads both {_shown(other)} and {_shown(slot)} of "
                    f"`{slot.table}`",
                    instead="Use the same arguments everywhere, or register a second model",
                )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The distinct predictions the query needs, whatever is read of them."""
        return tuple(dict.fromkeys(self._origin(slot) for slot in self.inner.slots))

    def entry(self, slot: Slot) -> TableEntry:
        """The slot's table, under a quoted name that resolves whatever the default schema is."""
        return self.inner.entry(slot)

    def sql_name(self, slot: Slot) -> str:
        """A quoted name of the slot's table that resolves whatever the default schema is."""
        return self.inner.sql_name(slot)

    def tables(self, given: Mapping[Slot, PredictionTable]) -> dict[Slot, PredictionTable]:
        """Predictions for every slot of `inner`.

        Raises
        ------
        QueryError : some are missing.
        UnsupportedQueryError : a condition on a regression whose errors are not known.
        """
        found: dict[Slot, PredictionTable] = {}
        for slot in self.inner.slots:
            origin = self._origin(slot)
            if origin not in given:
                raise QueryError(f"there are no predictions of `{slot.model}` for `{slot.table}`.")
            number = self.numbers.named.get(slot.model)
            table = given[origin]
            found[slot] = table if number is None else number_table(table, number, slot.model)
        return found

    def finish(self, answer: Answer | NestedAnswer, given: Mapping[Slot, PredictionTable]) -> None:
        """Name columns and method of an answer of `inner` in the user's terms."""
        names = [self.numbers.spelled(str(name)) for name in answer.frame.columns]
        answer.frame.columns = pd.Index(names)
        answer.method = self._qualifiers(given) + answer.method

    def _qualifiers(self, given: Mapping[Slot, PredictionTable]) -> str:
        """What is approximate about the numbers of this query."""
        compared = [number for number in self.numbers.named.values() if number.bounds is not None]
        found: list[str] = []
        for number in compared:
            if not number.regression:
                name = f"predicate on {number.opening}"
                found.append(f"approximate gradient (straight-through {name}), ")
                continue
            spreads = [t.spread for s, t in given.items() if s.model == number.model and t.spread]
            size = f"standard deviation {spreads[0]:.3g}" if spreads else "none"
            found.append(f"approximate (predicate on {number.opening}: normal errors, {size}), ")
        return "".join(dict.fromkeys(found))

    def _origin(self, slot: Slot) -> Slot:
        number = self.numbers.named.get(slot.model)
        return slot if number is None else replace(slot, model=number.model)


def _shown(slot: Slot) -> str:
    return "whole rows" if slot.arguments is None else ", ".join(slot.arguments)
