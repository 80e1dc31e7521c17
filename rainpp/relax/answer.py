"""A query's plain answer beside its relaxed one, and how each cell moves with the predictions."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from rainpp.errors import ComplaintError, QueryError, UnsupportedQueryError
from rainpp.relax.candidates import find_candidate
from rainpp.relax.lookup import find_column, find_row
from rainpp.relax.plan import Plan, Slot
from rainpp.relax.query import Cell, Scalar
from rainpp.relax.relaxed import Place, Sums, Values, as_mapping
from rainpp.relax.rowsums import Gradient, Predictions, RowSums
from rainpp.types import ClassValue, PredictionTable

Array = NDArray[np.float64]
_NEARLY_CERTAIN = 1.0 - 1e-6


class Answer:
    """The hard answer, the relaxed answer, and gradients; make one with `evaluate`.

    Attributes
    ----------
    frame : the plain answer, as DuckDB gives it with the winning classes as predictions.
    method : how the relaxed values were obtained.
    """

    def __init__(self, plan: Plan, sums: Sums, hard: tuple[pd.DataFrame, pa.Table]) -> None:
        self._plan, self._values, self._sums = plan, Values(sums), sums
        self.frame, self._table = hard
        self._values.check()
        self._keys = self._read_keys()
        self._places = [self._found(key) for key in self._keys]
        self.method = self._describe()

    @functools.cached_property
    def relaxed(self) -> pd.DataFrame:
        """The answer with relaxed aggregates and `_exists`, the probability that the row is there.

        A SUM is NaN only if no row could contribute to it; an AVG is conditional on having rows.
        """
        frame = self.frame.copy()
        columns = [frame.iloc[:, position] for position in range(frame.shape[1])]
        for cell in self._plan.query.cells:
            values = [self._values.cell(cell, place) for place in self._places]
            columns[cell.position] = pd.Series(np.asarray(values, float), index=frame.index)
        grouped = bool(self._plan.query.keys)
        exists = [self._values.existence(p) if grouped else 1.0 for p in self._places]
        columns.append(pd.Series(np.asarray(exists, float), index=frame.index))
        out = pd.concat(columns, axis=1)
        out.columns = pd.Index([*frame.columns, "_exists"])
        return out

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the aggregate columns: those one can complain about."""
        return tuple(str(self.frame.columns[cell.position]) for cell in self._plan.query.cells)

    def find_row(self, row: int | None = None, where: Mapping[str, object] | None = None) -> int:
        """Position of one answer row, by number or by column values.

        Raises
        ------
        ComplaintError : it names no row, or several, or nothing although there are several rows.
        """
        return find_row(self.frame, row, where)

    def cell(self, row: int, column: str) -> tuple[float, float]:
        """(hard, relaxed) value of a cell; a hard NULL is NaN."""
        cell, place = self._cell(column), self._places[find_row(self.frame, row, None)]
        hard = self._table.column(cell.position)[row].as_py()
        return (float("nan") if hard is None else float(hard)), self._values.cell(cell, place)

    def gradient(self, row: int, column: str) -> dict[tuple[str, str], Array]:
        """D relaxed cell / d probabilities: (V, R) for every (model, table)."""
        cell, place = self._cell(column), self._places[find_row(self.frame, row, None)]
        gradient = Gradient.zeros(self._sums.predictions)
        self._values.add_gradient(cell, place, gradient)
        return as_mapping(gradient, self._sums.predictions)

    def error(self, row: int, column: str) -> float:
        """Half width of a 95 % interval around a relaxed value: 0, nothing is approximated."""
        self._cell(column)
        find_row(self.frame, row, None)
        return 0.0

    def explain(self) -> str:
        """How the query was evaluated: method, sides, masks."""
        return f"{self.method}\n{self._plan}"

    def key(self, row: int) -> dict[str, object]:
        """Values of the GROUP BY expressions of a row, by output name, else by their SQL."""
        values = self._keys[find_row(self.frame, row, None)]
        return dict(zip(self._key_names(), values, strict=True))

    def at(self, key: Mapping[str, object], column: str) -> tuple[float, float]:
        """(hard, relaxed) for a key that `key` gave, here or in another answer of the same plan.

        Hard is NaN if the group is not in the hard answer; relaxed is NaN if it could not be.
        """
        cell, place = self._cell(column), self._sums.place(self._read_key(key))
        if place is None:
            return float("nan"), float("nan")
        if place in self._places:
            return self.cell(self._places.index(place), column)
        return float("nan"), self._values.cell(cell, place)

    def candidate(
        self, con: duckdb.DuckDBPyConnection, where: Mapping[str, object]
    ) -> dict[str, object]:
        """Key of the one row with these key values that is, or could be, in the answer.

        Parameters
        ----------
        con : to find the condition that blocks a row no prediction can bring about.

        Raises
        ------
        ComplaintError : no such row is possible, with the reason, or several are.
        """
        names = self._key_names()
        key = find_candidate(con, self._sums, names, where)
        return dict(zip(names, key, strict=True))

    def exists_at(self, key: Mapping[str, object]) -> tuple[float, float]:
        """1 if the row of a key is in the hard answer, else 0; the probability that it is."""
        place = self._sums.place(self._read_key(key))
        if place is None:
            return 0.0, 0.0
        relaxed = self._values.existence(place) if self._plan.query.keys else 1.0
        return float(place in self._places), relaxed

    def log_absence(self, key: Mapping[str, object]) -> tuple[float, dict[tuple[str, str], Array]]:
        """Log of the probability that the row of a key is not in the answer, and its derivative.

        Raises
        ------
        UnsupportedQueryError : joined rows share predictions, so only the value is known.
        """
        place = self._sums.place(self._read_key(key))
        gradient = Gradient.zeros(self._sums.predictions)
        if place is None or not self._plan.query.keys:  # certainly absent, or certainly there
            return (0.0 if place is None else -math.inf), as_mapping(
                gradient, self._sums.predictions
            )
        self._check_independent()
        value = _log_absence(self._sums, place, gradient)
        return value, as_mapping(gradient, self._sums.predictions)

    def existence_gradient(self, row: int) -> tuple[float, dict[tuple[str, str], Array]]:
        """Probability that a row is in the answer, and its derivative.

        Raises
        ------
        UnsupportedQueryError : joined rows share predictions, so only the value is known.
        """
        place = self._places[find_row(self.frame, row, None)]
        gradient = Gradient.zeros(self._sums.predictions)
        if not self._plan.query.keys:
            return 1.0, as_mapping(gradient, self._sums.predictions)
        self._check_independent()
        value = self._values.existence(place, gradient)
        return value, as_mapping(gradient, self._sums.predictions)

    @property
    def rows_have_gradients(self) -> bool:
        """Whether `log_absence` is known: no two joined rows of a group share a prediction."""
        return not self._plan.query.keys or self._sums.independent

    def _check_independent(self) -> None:
        if not self._sums.independent:
            raise UnsupportedQueryError(
                self._plan.sql.strip(),
                why="joined rows share predictions, so existence has no exact gradient yet",
                instead="Complain about an aggregate of the row",
            )

    def _read_key(self, key: Mapping[str, object]) -> tuple[object, ...]:
        """Key values in GROUP BY order."""
        names = self._key_names()
        if set(names) != set(key):
            raise ComplaintError(f"a row of this answer is named by {names}; got {list(key)}.")
        return tuple(key[name] for name in names)

    def _cell(self, column: str) -> Cell:
        cells = {cell.position: cell for cell in self._plan.query.cells}
        found = find_column(self.frame, column, cells)
        if found is not None:
            return cells[found]
        listed = ", ".join(self.columns)
        if column in self.frame.columns:
            raise ComplaintError(f"{column!r} is a group key; the aggregate columns are: {listed}.")
        raise ComplaintError(f"there is no column {column!r}; the aggregate columns are: {listed}.")

    def _key_names(self) -> list[str]:
        return [
            _readable(key.scalar) if key.position is None else str(self.frame.columns[key.position])
            for key in self._plan.query.keys
        ]

    def _read_keys(self) -> list[tuple[object, ...]]:
        hidden = iter(range(self.frame.shape[1], self._table.num_columns))
        places = [
            next(hidden) if key.position is None else key.position for key in self._plan.query.keys
        ]
        if not places:
            return [()] * self._table.num_rows
        return list(zip(*(self._table.column(p).to_pylist() for p in places), strict=True))

    def _found(self, key: tuple[object, ...]) -> Place:
        place = self._sums.place(key)
        if place is None:
            raise QueryError(f"group {key} appeared while the query ran: the table is changing.")
        return place

    @property
    def row_pairs(self) -> int:
        """How many joined rows the answer's rows are made of, when their existence is not exact.

        Zero where it is: the rows are certain, or no two joined rows of a group share a prediction.
        """
        if not self._plan.query.keys or self._sums.certain_rows or self._sums.independent:
            return 0
        return math.prod(len(relation) for relation in self._sums.relations)

    def _describe(self) -> str:
        mode = "exact" if self._sums.relaxed.exact else "rain"
        if mode == "exact" and self.row_pairs:
            return f"exact values ({self._sums.strategy}), approximate existence (product rule)"
        return f"{mode} ({self._sums.strategy})"


def _readable(key: Scalar) -> str:
    """A key that no column shows, for the name of its row; a row id is called that."""
    column = key.node.unnest()
    if isinstance(column, exp.Column) and column.name.lower() == "rowid":
        return f"rowid of {column.table}"
    return key.shown


def _log_absence(sums: Sums, place: Place, gradient: Gradient) -> float:
    """Σ log(1 - w) over the rows of a group; adds its derivative to `gradient`.

    Weights are cut at 1 - 1e-6; the slope does not vanish when many rows support the group.
    """
    rows = sums.sums(0)
    assert isinstance(rows, RowSums)  # the rows of a factorised join are not independent
    left = 1.0 - np.minimum(rows.weights(place.group, place.code), _NEARLY_CERTAIN)
    rows.push(place.group, place.code, -1.0 / left, gradient)
    return float(np.log(left).sum())


def evaluate(
    plan: Plan,
    con: duckdb.DuckDBPyConnection,
    tables: Mapping[Slot, PredictionTable],
    mode: str = "exact",
) -> Answer:
    """Run a planned query: once plainly, once keeping every row that could count.

    Parameters
    ----------
    tables : predictions for every slot of the plan; the rows of their tables must be complete.
    mode : "exact", the expectation under independent predictions, or "rain", the product rules of
        Rain and Rain++ on the syntax of the query.

    Raises
    ------
    QueryError : predictions are missing for a slot or a row, or DuckDB fails.
    UnsupportedQueryError : the data make the query infeasible, e.g. too many joined rows.
    """
    if mode not in ("exact", "rain"):
        raise QueryError(f'`mode` must be "exact" or "rain"; got {mode!r}.')
    predictions = match_predictions(plan.slots, plan.query.classes, tables)
    sums = Sums(con, plan.query, plan.relaxed(con, exact=mode == "exact"), predictions)
    hard = plan.run(con, predictions.tables, sums.layout, sums.joined_rows())
    return Answer(plan, sums, hard)


def match_predictions(
    slots: Sequence[Slot],
    known: Sequence[tuple[ClassValue, ...]],
    tables: Mapping[Slot, PredictionTable],
) -> Predictions:
    """The predictions of every slot in float64.

    Raises
    ------
    QueryError : some are missing, read other arguments, or have another shape.
    """
    chosen: list[PredictionTable] = []
    for slot, classes in zip(slots, known, strict=True):
        table = tables.get(slot)
        if table is None:
            raise QueryError(f"there are no predictions of `{slot.model}` for `{slot.table}`.")
        # A row reference such as predict(*) leaves the choice of columns to the predictions.
        if None not in (slot.arguments, table.arguments) and table.arguments != slot.arguments:
            raise QueryError(
                f"the predictions of `{slot.model}` for `{slot.table}` read {table.arguments}; "
                f"the query reads {slot.arguments}."
            )
        if table.probabilities.shape != (len(table.rowids), len(classes)):
            raise QueryError(
                f"probabilities of `{slot.model}` for `{slot.table}` have shape "
                f"{table.probabilities.shape}; expected {(len(table.rowids), len(classes))}."
            )
        chosen.append(table)
    arrays = tuple(np.asarray(table.probabilities, np.float64) for table in chosen)
    return Predictions(tuple(slots), tuple(chosen), arrays)
