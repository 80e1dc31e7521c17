"""The answer to a query, hard and relaxed, and the way from one of its cells to a complaint."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from rainpp.bound_complaint import BoundComplaint, KeptCell
from rainpp.complaint import (
    Above,
    Cell,
    Complaint,
    Difference,
    Distance,
    Gradient,
    Near,
    Presence,
    Quantity,
    Row,
    Want,
    Wish,
)
from rainpp.complaint.targets import read_scales, read_targets
from rainpp.connection import exclusive
from rainpp.errors import ComplaintError
from rainpp.relax.answer import Answer
from rainpp.relax.ask import AnyAnswer
from rainpp.relax.portable import Portable, long_form
from rainpp.relax.whynot import blocker_beyond_a_block
from rainpp.setting import Setting
from rainpp.traced import Trace, Traces

# A row of the answer: its position, or values of its columns.
RowName = int | Mapping[str, Any]
# Rows of a gradient looked at before all of them.
_FEW = 64


@dataclass(frozen=True, eq=False)
class Result:
    """The answer of a query over predictions, hard and relaxed."""

    setting: Setting = field(repr=False)
    answer: AnyAnswer = field(repr=False)
    _traces: Traces = field(default_factory=Traces, init=False, repr=False)

    def df(self) -> pd.DataFrame:
        """The plain answer: DuckDB's own, with every prediction taken as its likeliest class."""
        return self.answer.frame.copy()

    def relaxed(self) -> pd.DataFrame:
        """The answer under the model's probabilities; same rows and columns.

        A COUNT or SUM of the outermost GROUP BY is its expectation, 0 where its row is missing; any
        other cell is its expectation given that its row is there and it is not NULL. The extra
        column `_exists` is the probability that the row is in the answer at all. Text and dates are
        as in the plain answer.
        """
        return self.answer.relaxed.copy()

    @property
    def method(self) -> str:
        """How the relaxed answer was computed: "exact (...)", "rain (...)", "approximate ..."."""
        return self.answer.method

    def explain(self) -> str:
        """The plan that ran, operator by operator, and what it was predicted to cost.

        The prediction is a function of the plan and the tables' row counts alone, never of a clock
        or of this run: the counts that cost time, milliseconds made of them, and what other
        strategies would cost or why they cannot answer.
        """
        return self.setting.explained(self.answer)

    def error(
        self, column: str, *, where: Mapping[str, Any] | None = None, row: int | None = None
    ) -> float:
        """Half width of a 95 % interval around a relaxed cell, in its units; 0 where it is exact.

        Raises
        ------
        ComplaintError : no such row, several, or a column that depends on no prediction.
        """
        return self.answer.error(self._row(row, where), column)

    def gradient(
        self, column: str, *, where: Mapping[str, Any] | None = None, row: int | None = None
    ) -> Gradient:
        """Derivative of one relaxed cell by every probability: {(model, table): (V, R)}.

        Rows of the arrays are in the row order of the table, columns in that of the classes.

        Raises
        ------
        ComplaintError : no such row, several, or a column that depends on no prediction.
        """
        position = self._position(column, row, where)
        return self.answer.gradient(position, column)

    def portable_sql(self, dialect: str = "duckdb", *, rid: str | Mapping[str, str] = "rid") -> str:
        """The relaxed answer as plain SQL over probabilities in the long form.

        Parameters
        ----------
        dialect : "duckdb", "sqlite", "postgres", "spark" or "datafusion".
        rid : the column with the row id, for all tables of the query or by table name.

        Raises
        ------
        UnsupportedQueryError : no sum of products gives the answer, or a part of the query means
            something else in another database.
        """
        return self.portable(rid=rid).value_sql(dialect)

    def portable(self, *, rid: str | Mapping[str, str] = "rid") -> Portable:
        """The same with the tables it reads and the gradient of its cells; errors as above."""
        return self.setting.portable(rid)

    def portable_tables(self) -> dict[str, pd.DataFrame]:
        """The probabilities that portable SQL reads, by table name: columns rid, cls and prob.

        `rid` is DuckDB's row id. Errors are those of `portable_sql`.
        """
        tables = self.setting.portable().tables
        return {t.name: long_form(self.setting.tables[t.slot].predictions) for t in tables}

    def trace(self, about: Quantity, model_name: str | None) -> Trace:
        """How a quantity of this answer moves with one model; kept for cells."""

        def make() -> Trace:
            return Trace(about, self.answer, self.setting, model_name)

        if not isinstance(about, Cell):
            return make()
        return self._traces.of(about, model_name, make)

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
        cell = self._cell(column, row, where)
        values = self.answer.cell(cell.row, column)
        bound = BoundComplaint(Complaint(self.setting.plan.sql, cell, want, *values), self)
        if not _moves(bound.gradient):
            movable = [name for name in self.answer.columns if self._movable(cell.row, name)]
            raise ComplaintError(
                f"{cell} does not depend on any prediction, so no training row can change it. "
                f"Columns that do: {', '.join(movable) or 'none in this row'}."
            )
        return bound

    def complain_absent(
        self, *, where: Mapping[str, Any] | None = None, row: int | None = None
    ) -> BoundComplaint:
        """Say that a row of the answer should not be there.

        Effects are in units of the probability that the row is in the answer.

        Raises
        ------
        ComplaintError : no such row, several, one that is not there already, or one that no
            prediction can take away.
        UnsupportedQueryError : the probability of the row has no known gradient.
        """
        rows = self._by_rows
        if rows is not self:
            if row is not None and where is None:
                where = self._shown_key(self._row(row, None))
            return rows.complain_absent(where=where)
        try:
            key = self.answer.key(self._row(row, where))
        except ComplaintError:
            if row is not None or not isinstance(where, Mapping):
                raise
            key = self._key_not_in_the_answer(where)
        return self.complain_about(Row(key), Presence(wanted=False))

    def complain_exists(self, *, where: Mapping[str, Any]) -> BoundComplaint:
        """Say that a row which is not in the answer should be there.

        Parameters
        ----------
        where : values of the GROUP BY expressions, enough to name one row.

        Raises
        ------
        ComplaintError : the row is there already, or no prediction can bring it about; the message
            quotes the certain condition that blocks it.
        UnsupportedQueryError : the probability of the row has no known gradient.
        """
        if not isinstance(where, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ComplaintError(f"`where` is {where!r}; write {{column: value, ...}}.")
        key = self._candidate(where)
        rows = self._by_rows
        if rows is not self:
            return rows.complain_exists(where=where)
        return self.complain_about(Row(key), Presence(wanted=True))

    def complain_order(
        self, *, first: RowName, second: RowName, column: str, margin: float = 0.0
    ) -> BoundComplaint:
        """Say that the first row should rank above the second: have a larger value of `column`.

        Parameters
        ----------
        first, second : which rows, by position or by values of their other columns.
        margin : by how much the first should be larger.

        Raises
        ------
        ComplaintError : no such rows, the same one twice, or it is above already.
        """
        return self.complain_about(self._difference(first, second, column), Above(margin))

    def complain_gap(
        self, *, first: RowName, second: RowName, column: str, target: float = 0.0
    ) -> BoundComplaint:
        """Say what the value of `column` in the first row less that in the second should be.

        Raises
        ------
        ComplaintError : no such rows, the same one twice, or the gap is `target` already.
        """
        return self.complain_about(
            self._difference(first, second, column), Want.of("equal", target)
        )

    def complain_cells(
        self,
        column: str,
        targets: Sequence[tuple[RowName, float]],
        *,
        scales: Sequence[float] | None = None,
    ) -> BoundComplaint:
        """Say what several cells of a column should be, as one complaint: bars of a chart.

        Effects are by how much the distance of the cells from their targets,
        sqrt(Σ ((cell - target) / scale)²), gets smaller.

        Parameters
        ----------
        targets : [(row, target), ...] with each row by position or by values of its columns.
        scales : of each cell, > 0; 1 by default. An error counts in units of it.

        Raises
        ------
        ComplaintError : no such rows, one twice, a NULL cell, targets that are met already, or
            scales that do not fit.
        """
        return self.complain_about(self._distance(column, targets, scales), Near())

    def keep(
        self, column: str, *, row: int | None = None, where: Mapping[str, Any] | None = None
    ) -> KeptCell:
        """A cell that is right: give it to `rank(keep=[...])` so that a fix leaves it alone."""
        cell = self._cell(column, row, where)
        if math.isnan(self.answer.cell(cell.row, column)[0]):
            raise ComplaintError(f"{cell} is NULL in the answer; there is nothing to keep.")
        return KeptCell(cell, self)

    def complain_about(self, about: Quantity, want: Wish) -> BoundComplaint:
        """Say what should become of any quantity of this answer; see `rainpp.complaint`.

        Raises
        ------
        ComplaintError : it is NULL, as asked already, or no prediction moves it.
        """
        hard, relaxed = about.read(self.answer)
        bound = BoundComplaint(Complaint(self.setting.plan.sql, about, want, hard, relaxed), self)
        if not _moves(bound.gradient):
            raise ComplaintError(
                f"{about} does not depend on any prediction, so no training row can change it."
            )
        return bound

    @functools.cached_property
    def _by_rows(self) -> Result:
        """The same by an evaluator that knows how predictions move each row's existence."""
        if not isinstance(self.answer, Answer) or self.answer.rows_have_gradients:
            return self
        setting = self.setting.by_operators()
        return Result(setting, setting.evaluate())

    def _shown_key(self, position: int) -> dict[str, Any]:
        """Key values of a row that SELECT shows."""
        shown = set(self.answer.frame.columns)
        return {name: value for name, value in self.answer.key(position).items() if name in shown}

    def _candidate(self, where: Mapping[str, Any]) -> Mapping[str, Any]:
        """Key of a row that is or could be in the answer, or what is in its way."""
        con = self.setting.connection
        with exclusive(con):
            try:
                return self.answer.candidate(con, where)
            except ComplaintError as problem:
                reason = self._blocker(where)
                if reason is None:
                    raise
                raise ComplaintError(f"{reason}: {problem}") from None

    def _blocker(self, where: Mapping[str, Any]) -> str | None:
        """The certain condition that blocks a row of a query beyond one block, if it is known."""
        # A flat answer says it itself; with ROLLUP a NULL key is no value of the column.
        if isinstance(self.answer, Answer) or None in where.values():
            return None
        functions = {name: model.classes for name, model in self.setting.models.items()}
        con, sql = self.setting.connection, self.setting.plan.sql
        return blocker_beyond_a_block(con, sql, functions, where)

    def _key_not_in_the_answer(self, where: Mapping[str, Any]) -> Mapping[str, Any]:
        """The key of a row that could be in the answer, else the error about one that is not."""
        try:
            return self._candidate(where)
        except ComplaintError:
            self.answer.find_row(where=where)
            raise

    def _difference(self, first: RowName, second: RowName, column: str) -> Difference:
        cells = [self._named(column, first, "first"), self._named(column, second, "second")]
        if cells[0].row == cells[1].row:
            raise ComplaintError(f"`first` and `second` are the same row: {cells[0]}.")
        return Difference(*cells)

    def _distance(self, column: str, targets: Any, scales: Any) -> Distance:
        pairs = read_targets(targets)
        cells = tuple(self._named(column, which, "targets") for which, _ in pairs)
        rows = [cell.row for cell in cells]
        if len(set(rows)) < len(rows):
            again = next(cell for cell in cells if rows.count(cell.row) > 1)
            raise ComplaintError(f"`targets` names {again} twice; give one target per cell.")
        wanted = tuple(target for _, target in pairs)
        values = [self.answer.cell(cell.row, column) for cell in cells]
        offsets = tuple(relaxed - hard for hard, relaxed in values)
        return Distance(cells, wanted, read_scales(scales, len(cells)), offsets)

    def _named(self, column: str, which: Any, argument: str) -> Cell:
        """The cell of a row given by position or by values of its columns."""
        if isinstance(which, Mapping):
            return self._cell(column, None, which)
        if which is None:
            raise ComplaintError(
                f"`{argument}` names no row; give its position or {{column: value, ...}}."
            )
        return self._cell(column, which, None)

    def _cell(self, column: Any, row: Any, where: Any) -> Cell:
        position = self._position(column, row, where)
        return Cell(column, position, self.answer.key(position))

    def _movable(self, position: int, column: str) -> bool:
        if list(self.answer.frame.columns).count(column) > 1:
            return False
        return _moves(self.answer.gradient(position, column))

    def _position(self, column: Any, row: Any, where: Any) -> int:
        """The answer row that `row` or `where` name, once all three are of the right kind."""
        if not isinstance(column, str):
            raise ComplaintError(f"`column` is {column!r}; it must be the name of a column.")
        return self._row(row, where)

    def _row(self, row: Any, where: Any) -> int:
        if row is not None and (isinstance(row, bool) or not isinstance(row, int | np.integer)):
            raise ComplaintError(f"`row` is {row!r}; it must be a whole number from 0.")
        if where is not None and not isinstance(where, Mapping):
            raise ComplaintError(f"`where` is {where!r}; write {{column: value, ...}}.")
        return self.answer.find_row(row=None if row is None else int(row), where=where)

    def __repr__(self) -> str:
        return f"{self.answer.frame.to_string(max_rows=20)}\n[{self.method}]"

    def _repr_html_(self) -> str:
        return self.answer.frame.to_html(max_rows=20) + f"<p>{escape(self.method)}</p>"


def _moves(gradient: Gradient) -> bool:
    # Nearly always a derivative in the first rows is not zero; all of 10 000 x 10 take 0.06 ms.
    return any(part[:_FEW].any() or part[_FEW:].any() for part in gradient.values())
