"""A nested query's plain answer beside its relaxed one, with the methods of `Answer`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from contextlib import ExitStack

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rainpp.errors import ComplaintError, QueryError, UnsupportedQueryError
from rainpp.relax.lookup import find_column, find_row
from rainpp.relax.nested.cells import Cells
from rainpp.relax.nested.ladder import Ladder
from rainpp.relax.nested.statement import Statement
from rainpp.relax.relaxed import as_mapping, comparable
from rainpp.relax.rowsums import Gradient, Predictions

Array = NDArray[np.float64]
Slopes = dict[tuple[str, str], Array]

# Relative to max(1, |value|): beyond it an approximation is refused unless more is allowed.
MAX_ERROR = 0.1
# 1 - p below this has lost most of its digits.
_ROUNDING = 1e-12


class NestedAnswer:
    """The hard answer, the relaxed answer, and gradients of a query beyond one flat block.

    Rows are named by their certain columns. A COUNT or SUM of a plain GROUP BY is an expectation
    over all worlds; every other cell is one over the worlds in which its row is there and the cell
    is not NULL.

    Raises
    ------
    UnsupportedQueryError : no method reaches an error of `max_error`.
    QueryError : the relaxed answer for certain predictions is not DuckDB's; nothing is returned.
    """

    def __init__(
        self,
        statement: Statement,
        con: duckdb.DuckDBPyConnection,
        predictions: Predictions,
        *,
        exact: bool,
        max_error: float,
    ) -> None:
        self._statement, self._predictions = statement, predictions
        with ExitStack() as stack:
            self._found, self.steps, self.rung = Ladder(statement, con, predictions, stack).solved(
                exact=exact
            )
        self.frame, self._table = statement.run(con, predictions.tables)
        self._hard_columns: dict[int, Array] = {}
        self._rows = self._matched()
        self._check_cells()
        self._check_error(max_error)
        self.method = self._describe()

    @functools.cached_property
    def relaxed(self) -> pd.DataFrame:
        """The answer with relaxed cells and `_exists`, the probability that the row is there."""
        frame = self.frame.copy()
        columns = [frame.iloc[:, position] for position in range(frame.shape[1])]
        for position, form in self._forms.items():
            columns[position] = pd.Series(form.relaxed[self._rows], index=frame.index)
        exists = self._found.probability[self._rows]
        columns.append(pd.Series(np.clip(exists, 0.0, 1.0), index=frame.index))
        out = pd.concat(columns, axis=1)
        out.columns = pd.Index([*frame.columns, "_exists"])
        return out

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the uncertain numeric columns: those one can complain about."""
        return tuple(str(self.frame.columns[position]) for position in sorted(self._forms))

    @property
    def _forms(self) -> dict[int, Cells]:
        width = self.frame.shape[1]
        return {place: form for place, form in self._found.forms.items() if place < width}

    def explain(self) -> str:
        """The operators that ran, indented by nesting, with the rows each could produce."""
        lines = [f"{self.method}"]
        lines += [
            f"{'  ' * step.depth}{step.operator} {step.detail}".rstrip() + f": {step.rows} rows"
            for step in self.steps
        ]
        return "\n".join(lines)

    def find_row(self, row: int | None = None, where: Mapping[str, object] | None = None) -> int:
        """Position of one answer row, by number or by column values."""
        return find_row(self.frame, row, where)

    def cell(self, row: int, column: str) -> tuple[float, float]:
        """(hard, relaxed) value of a cell; a hard NULL is NaN."""
        position = self._position(column)
        place = self._rows[find_row(self.frame, row, None)]
        return self._hard_cell(row, position), float(self._forms[position].relaxed[place])

    def error(self, row: int, column: str) -> float:
        """Half width of a 95 % interval around the relaxed value; 0 where it is exact."""
        return self._forms[self._position(column)].error(int(self._rows[row]))

    def gradient(self, row: int, column: str) -> Slopes:
        """D relaxed cell / d probabilities: (V, R) for every (model, table)."""
        gradient = Gradient.zeros(self._predictions)
        form = self._forms[self._position(column)]
        form.push(int(self._rows[find_row(self.frame, row, None)]), 1.0, gradient)
        return as_mapping(gradient, self._predictions)

    def key(self, row: int) -> dict[str, object]:
        """The certain values of a row, by column name; hidden ones by their number."""
        return self._key_of(int(self._rows[find_row(self.frame, row, None)]))

    def at(self, key: Mapping[str, object], column: str) -> tuple[float, float]:
        """(hard, relaxed) for a key that `key` gave, here or in another answer of the same plan."""
        position, place = self._position(column), self._place(key)
        if place is None:
            return math.nan, math.nan
        shown = np.flatnonzero(self._rows == place)
        hard = self._hard_cell(int(shown[0]), position) if len(shown) else math.nan
        return hard, float(self._forms[position].relaxed[place])

    def exists_at(self, key: Mapping[str, object]) -> tuple[float, float]:
        """1 if the row of a key is in the hard answer, else 0; the probability that it is."""
        place = self._place(key)
        if place is None:
            return 0.0, 0.0
        return float(place in self._rows), float(self._found.probability[place])

    def candidate(
        self, con: duckdb.DuckDBPyConnection, where: Mapping[str, object]
    ) -> dict[str, object]:
        """Key of the one row with these values that is, or could be, in the answer.

        Raises
        ------
        ComplaintError : no such row is possible, or several are.
        """
        del con
        names = self._names()
        unknown = [name for name in where if name not in names]
        if unknown:
            raise ComplaintError(
                f"{unknown[0]!r} does not name a row; a row that is not in the answer is named by: "
                f"{', '.join(names) or 'nothing, there is one row'}."
            )
        found = [
            place
            for place in range(self._found.count)
            if self._found.probability[place] > 0.0
            and all(
                comparable(self._key_of(place)[name]) == comparable(value)
                for name, value in where.items()
            )
        ]
        if len(found) == 1:
            return self._key_of(found[0])
        problem = (
            "several rows could match" if found else "no prediction can bring about a row with"
        )
        shown = [str(self._key_of(place)) for place in (found or range(self._found.count))[:8]]
        raise ComplaintError(f"{problem} {dict(where)}; rows that could be: {', '.join(shown)}.")

    def existence_gradient(self, row: int) -> tuple[float, Slopes]:
        """Probability that a row is in the answer, and its derivative."""
        return self._existence(int(self._rows[find_row(self.frame, row, None)]))

    def log_absence(self, key: Mapping[str, object]) -> tuple[float, Slopes]:
        """Log of the probability that the row of a key is not in the answer, and its derivative."""
        place = self._place(key)
        if place is None:
            return 0.0, as_mapping(Gradient.zeros(self._predictions), self._predictions)
        value, slopes = self._existence(place)
        absent = 1.0 - value
        if absent < _ROUNDING:
            # A row that many support: its steepest slope is of the size of what is left of it.
            absent = max(float(np.abs(slope).max(initial=0.0)) for slope in slopes.values())
        if absent <= 0.0:
            return -math.inf, {name: np.zeros_like(slope) for name, slope in slopes.items()}
        return math.log(absent), {name: -slope / absent for name, slope in slopes.items()}

    def _existence(self, place: int) -> tuple[float, Slopes]:
        gradient = Gradient.zeros(self._predictions)
        self._found.algebra.push(self._found.exists[[place]], np.ones(1), gradient)
        return float(self._found.probability[place]), as_mapping(gradient, self._predictions)

    def _names(self) -> list[str]:
        return [name for name in self._titles() if name]

    def _titles(self) -> list[str]:
        """A name for every identifying column, empty for cells."""
        titles = [str(name) for name in self._table.column_names]
        return [
            "" if values is None else title
            for title, values in zip(titles, self._found.identity, strict=False)
        ]

    def _key_of(self, place: int) -> dict[str, object]:
        return {
            title: values[place]
            for title, values in zip(self._titles(), self._found.identity, strict=False)
            if values is not None
        }

    def _place(self, key: Mapping[str, object]) -> int | None:
        names = self._names()
        if set(names) != set(key):
            raise ComplaintError(f"a row of this answer is named by {names}; got {list(key)}.")
        places = self._by_identity.get(tuple(comparable(key[name]) for name in names), [])
        shown = [place for place in places if self._found.hard[place]]
        return (shown or places or [None])[0]

    @functools.cached_property
    def _by_identity(self) -> dict[tuple[object, ...], list[int]]:
        parts = [values for values in self._found.identity if values is not None]
        known: dict[tuple[object, ...], list[int]] = {}
        for place in range(self._found.count):
            known.setdefault(tuple(comparable(v[place]) for v in parts), []).append(place)
        return known

    def _matched(self) -> NDArray[np.int64]:
        """The candidate that each row of the hard answer is."""
        parts = [
            self._table.column(place).to_pylist()
            for place, values in enumerate(self._found.identity)
            if values is not None
        ]
        left: dict[tuple[object, ...], list[int]] = {}
        rows: list[int] = []
        for number in range(self._table.num_rows):
            key = tuple(comparable(values[number]) for values in parts)
            if key not in left:
                left[key] = list(self._by_identity.get(key, []))
            if not left[key]:
                self._disagree(f"row {number} of the answer is not among the possible rows")
            rows.append(self._closest(left[key], number))
            left[key].remove(rows[-1])
        return np.asarray(rows, np.int64)

    def _closest(self, places: list[int], row: int) -> int:
        """Among candidates of one name, one that is there and has the cells of an answer row."""
        if len(places) == 1:
            return places[0]

        def distance(place: int) -> tuple[bool, int]:
            different = [
                not _same(self._hard_column(position)[row], form.hard[place])
                for position, form in self._forms.items()
            ]
            return not self._found.hard[place], sum(different)

        return min(places, key=distance)

    def _check_cells(self) -> None:
        """With certain predictions the relaxation must be DuckDB's own answer."""
        if int(self._found.hard.sum()) != self._table.num_rows:
            self._disagree(
                f"it has {self._table.num_rows} rows, {int(self._found.hard.sum())} expected"
            )
        for position, form in self._forms.items():
            expected, hard = form.hard[self._rows], self._hard_column(position)
            # A SUM over no row is NULL and counts as nothing.
            nothing = np.isnan(hard) & (expected == 0.0)
            for row in np.flatnonzero(~nothing & ~_same(hard, expected))[:1]:
                self._disagree(
                    f"column {self.frame.columns[position]} of row {row} is {hard[row]}, "
                    f"{expected[row]} expected"
                )

    def _disagree(self, what: str) -> None:
        raise QueryError(
            f"the answer of DuckDB and its relaxation do not agree: {what}. The relaxation of this "
            "query cannot be trusted, so none is given. Ties in ORDER BY ... LIMIT can be the "
            "cause: order by more columns."
        )

    def _hard_cell(self, row: int, position: int) -> float:
        return float(self._hard_column(position)[row])

    def _hard_column(self, position: int) -> Array:
        """A column of the hard answer; NULL is NaN."""
        if position not in self._hard_columns:
            values = self._table.column(position).to_pylist()
            self._hard_columns[position] = np.asarray(
                [math.nan if value is None else float(value) for value in values], np.float64
            )
        return self._hard_columns[position]

    def _position(self, column: str) -> int:
        found = find_column(self.frame, column, self._forms)
        if found is not None:
            return found
        listed = ", ".join(self.columns) or "none"
        if column in self.frame.columns:
            raise ComplaintError(
                f"{column!r} is not an uncertain number; the columns that are: {listed}."
            )
        raise ComplaintError(f"there is no column {column!r}; the uncertain numbers are: {listed}.")

    def _errors(self) -> list[tuple[float, float]]:
        """(half width, value) of every cell and existence that is shown."""
        found: list[tuple[float, float]] = []
        for form in self._forms.values():
            found += [(form.error(int(p)), float(form.relaxed[p])) for p in self._rows]
        for place in self._rows:
            ids = self._found.exists[[int(place)]]
            half = self._found.algebra.error((ids, np.ones(1)), None)
            found.append((half, float(self._found.probability[place])))
        return found

    def _check_error(self, limit: float) -> None:
        self._half = 0.0
        if not self._found.algebra.method.startswith("approximate"):
            return
        for half, value in self._errors():
            self._half = max(self._half, half / max(1.0, abs(value)))
        if self._half > limit:
            raise UnsupportedQueryError(
                self._statement.sql.strip(),
                why=f"its relaxed value is only known to {self._half:.2g} of itself (95 %), "
                f"the limit is {limit:g}",
                instead="Allow more with max_relax_error=, or ask it over fewer rows",
            )

    def _describe(self) -> str:
        method = self._found.algebra.method
        return f"{method}, error at most {self._half:.2g} (95 %)" if self._half else method


def _same(hard: Array, expected: Array) -> NDArray[np.bool_]:
    """Which values agree; NaN only with NaN."""
    with np.errstate(invalid="ignore"):
        room = np.maximum(1e-6 * np.maximum(np.abs(hard), np.abs(expected)), 1e-9)
        close = (hard == expected) | (np.abs(hard - expected) <= room) & np.isfinite(room)
    return close | (np.isnan(hard) & np.isnan(expected))
