"""Find one answer row from what a user says about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from rainpp.errors import ComplaintError
from rainpp.relax.relaxed import comparable

# Values of a column that a message lists.
_SHOWN = 5


def find_row(frame: pd.DataFrame, row: int | None, where: Mapping[str, object] | None) -> int:
    """Position of the row that `row` or `where` names; None in `where` matches NULL.

    Raises
    ------
    ComplaintError : both or neither are given, or they name no row, or several.
    """
    if row is not None and where is not None:
        raise ComplaintError("give either row= or where=, not both.")
    if row is None and where is None:
        if len(frame) == 1:
            return 0
        raise ComplaintError(f"the answer has {len(frame)} rows; say which with row= or where=.")
    if row is not None:
        if not 0 <= row < len(frame):
            raise ComplaintError(f"row {row} is out of range; the answer has {len(frame)} rows.")
        return row
    return _matching(frame, where or {})


def find_column(frame: pd.DataFrame, column: str, places: Iterable[int]) -> int | None:
    """Which of the columns at `places` is called `column`; None if none is.

    Raises
    ------
    ComplaintError : several are.
    """
    found = [place for place in places if frame.columns[place] == column]
    if len(found) > 1:
        raise ComplaintError(f"{len(found)} columns are called {column!r}; name them with AS.")
    return found[0] if found else None


def _matching(frame: pd.DataFrame, where: Mapping[str, object]) -> int:
    names = [str(name) for name in frame.columns]
    matches = list(range(len(frame)))
    for column, value in where.items():
        if column not in names:
            raise ComplaintError(
                f"there is no column {column!r}; the columns are: {', '.join(names)}."
            )
        values = [_plain(entry) for entry in frame.iloc[:, names.index(column)].tolist()]
        wanted = _plain(value)
        if wanted not in values:
            raise ComplaintError(
                f"no row has {column} = {value!r}; there are: {_some(values) or 'no rows'}."
            )
        matches = [place for place in matches if values[place] == wanted]
    if not matches:
        raise ComplaintError(f"no row matches {dict(where)}.")
    if len(matches) > 1:
        raise ComplaintError(
            f"{len(matches)} rows match {dict(where)}; name more columns of: {', '.join(names)}."
        )
    return matches[0]


def _some(values: list[Any]) -> str:
    """The first of the different values, and how many more there are."""
    known = list(dict.fromkeys(values))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(map(repr, known[:_SHOWN])) + more


def _plain(value: object) -> object:
    """Comparable form in which pandas' NaN for a missing value is None."""
    if isinstance(value, float) and value != value:
        return None
    return comparable(value)
