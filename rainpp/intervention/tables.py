"""Repairs of tables of numbers, for `rainpp.Replace`: inputs (n, columns), columns by number.

What a column usually holds is read once from the rows given as `like`, the training inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from rainpp.errors import SettingsError, ShapeError
from rainpp.intervention.kinds import Replace

Usual = Literal["median", "mode", "mean"]
Table = np.ndarray[Any, Any]


def impute(
    like: Any,
    columns: Sequence[int],
    *,
    missing: float | Callable[[Table], Any] = float("nan"),
    value: Usual | float = "median",
    name: str = "impute",
) -> Replace:
    """Where a column holds `missing`, put what it usually holds in the rows where it does not.

    Parameters
    ----------
    missing : the number that stands for a missing value, such as 0 or -1, or a function from a
        column to truth values, for implausible ones: ``lambda age: age > 110``.
    value : "median", "mode" or "mean" of the other rows, or a number.
    """
    table, chosen = _table(like), _checked(columns, like)
    is_missing = missing if callable(missing) else _equals(missing)
    usual = {
        column: _usual(table[~_flags(is_missing, table[:, column]), column], value, column)
        for column in chosen
    }

    def repair(inputs: Any) -> Any:
        found = _table(inputs).astype(np.float64)
        for column, known in usual.items():
            found[_flags(is_missing, found[:, column]), column] = known
        return found

    return Replace(name, repair)


def set_to_usual(
    like: Any, columns: Sequence[int], *, value: Usual | float = "median", name: str = "usual value"
) -> Replace:
    """Put what the columns usually hold into every row, as if they said nothing."""
    table = _table(like)
    usual = {column: _usual(table[:, column], value, column) for column in _checked(columns, like)}

    def repair(inputs: Any) -> Any:
        found = _table(inputs).astype(np.float64)
        for column, known in usual.items():
            found[:, column] = known
        return found

    return Replace(name, repair)


def rescale(
    columns: Sequence[int],
    factor: float,
    *,
    outside: tuple[float, float] | None = None,
    name: str = "rescale",
) -> Replace:
    """Multiply columns by `factor`: kilograms that were typed as grams.

    Parameters
    ----------
    outside : only values below the first or above the second number, what is plausible.
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not np.isfinite(factor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`factor` is {factor!r}; it must be a finite number.")
    low, high = (np.inf, -np.inf) if outside is None else outside

    def repair(inputs: Any) -> Any:
        found = _table(inputs).astype(np.float64)
        for column in _checked(columns, found):
            values = found[:, column]
            wrong = (values < low) | (values > high)
            found[wrong, column] = values[wrong] * factor
        return found

    return Replace(name, repair)


def duplicates(inputs: Any, labels: Any = None) -> np.ndarray:
    """Which rows (n,) repeat an earlier one, with its label where labels are given."""
    table = _table(inputs)
    if labels is not None:
        table = np.column_stack([table, np.asarray(labels).reshape(len(table), -1)])
    _, first = np.unique(table, axis=0, return_index=True)
    found = np.ones(len(table), bool)
    found[first] = False
    return found


def _table(inputs: Any) -> Table:
    table = np.asarray(inputs)
    if table.ndim != 2:
        raise ShapeError(f"inputs of shape {table.shape} are no table (rows, columns) of numbers.")
    return table


def _checked(columns: Sequence[int], like: Any) -> list[int]:
    width, listed = _table(like).shape[1], list(columns)
    for column in listed:
        whole = isinstance(column, int | np.integer) and not isinstance(column, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not whole or not 0 <= column < width:
            raise SettingsError(
                f"`columns` holds {column!r}; the inputs have columns 0 to {width - 1}."
            )
    if not listed:
        raise SettingsError("`columns` is empty; name at least one column.")
    return [int(column) for column in listed]


def _equals(missing: float) -> Callable[[Table], Any]:
    return np.isnan if np.isnan(missing) else lambda column: column == missing


def _flags(is_missing: Callable[[Table], Any], column: Table) -> np.ndarray:
    return np.asarray(is_missing(column), bool)


def _usual(values: Table, value: Usual | float, column: int) -> float:
    if not isinstance(value, str):
        return float(value)
    if not values.size:
        raise SettingsError(f"column {column} holds nothing but missing values; give a number.")
    if value == "median":
        return float(np.median(values))
    if value == "mean":
        return float(np.mean(values))
    if value == "mode":
        known, counts = np.unique(values, return_counts=True)
        return float(known[counts.argmax()])
    raise SettingsError(f"`value` is {value!r}; it must be 'median', 'mode', 'mean' or a number.")
