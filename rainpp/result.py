"""The answer to a query, hard and relaxed, and the way from one of its cells to a complaint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from rainpp.bound_complaint import BoundComplaint, Gradient
from rainpp.complaint import Cell, Complaint, Want
from rainpp.errors import ComplaintError
from rainpp.relax.answer import Answer
from rainpp.setting import Setting


@dataclass(frozen=True, eq=False)
class Result:
    """The answer of a query over predictions, hard and relaxed."""

    setting: Setting = field(repr=False)
    answer: Answer = field(repr=False)

    def df(self) -> pd.DataFrame:
        """The plain answer: DuckDB's own, with every prediction taken as its likeliest class."""
        return self.answer.frame.copy()

    def relaxed(self) -> pd.DataFrame:
        """The expected answer under the model's probabilities; same rows and columns.

        The extra column `_exists` is the probability that the row is in the answer at all.
        """
        return self.answer.relaxed.copy()

    @property
    def method(self) -> str:
        """How the relaxed answer was computed: mode and strategy."""
        return self.answer.method

    def gradient(
        self, column: str, *, where: Mapping[str, Any] | None = None, row: int | None = None
    ) -> Gradient:
        """Derivative of one relaxed cell by every probability: {(model, table): (V, R)}."""
        position = self._position(column, row, where)
        return self.answer.gradient(position, column)

    def complain(
        self,
        column: str,
        *,
        should: str,
        row: int | None = None,
        where: Mapping[str, Any] | None = None,
        target: float | None = None,
    ) -> BoundComplaint:
        """Say what is wrong with one cell.

        Parameters
        ----------
        column : name of an aggregate column of the answer.
        should : "increase", "decrease", or "equal", "at_least", "at_most" with a `target`.
        row, where : which row, by position or by values of its other columns; neither is needed
            when the answer has a single row.
        target : in the units of the cell.

        Raises
        ------
        ComplaintError : no such cell, several, one that no prediction moves, or the complaint
            already holds.
        """
        want = Want.of(should, target)
        position = self._position(column, row, where)
        hard, relaxed = self.answer.cell(position, column)
        cell = Cell(column, position, self.answer.key(position))
        bound = BoundComplaint(Complaint(self.setting.plan.sql, cell, want, hard, relaxed), self)
        if not any(weights.any() for weights in bound.gradient.values()):
            movable = [name for name in self.answer.columns if self._moves(position, name)]
            raise ComplaintError(
                f"{cell} does not depend on any prediction, so no training row can change it. "
                f"Columns that do: {', '.join(movable) or 'none in this row'}."
            )
        return bound

    def _moves(self, position: int, column: str) -> bool:
        if list(self.answer.frame.columns).count(column) > 1:
            return False
        return any(part.any() for part in self.answer.gradient(position, column).values())

    def _position(self, column: Any, row: Any, where: Any) -> int:
        """The answer row that `row` or `where` name, once all three are of the right kind."""
        if not isinstance(column, str):
            raise ComplaintError(f"`column` is {column!r}; it must be the name of a column.")
        if row is not None and (isinstance(row, bool) or not isinstance(row, int | np.integer)):
            raise ComplaintError(f"`row` is {row!r}; it must be a whole number from 0.")
        if where is not None and not isinstance(where, Mapping):
            raise ComplaintError(f"`where` is {where!r}; write {{column: value, ...}}.")
        return self.answer.find_row(row=None if row is None else int(row), where=where)

    def __repr__(self) -> str:
        return f"{self.answer.frame.to_string(max_rows=20)}\n[{self.method}]"

    def _repr_html_(self) -> str:
        return self.answer.frame.to_html(max_rows=20) + f"<p>{escape(self.method)}</p>"
