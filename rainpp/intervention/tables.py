"""Repairs of tables of numbers, for `rainpp.Replace`: inputs (n, columns), columns by number.

What a column usually holds is read once from the rows given as `like`, the training inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from rainpp.errors import DataError, SettingsError, ShapeError, named
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
    table, chosen = _numbers(like), _checked(columns, like)
    is_missing = missing if callable(missing) else _equals(missing)
    _check_value(value)
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
    table, chosen = _numbers(like), _checked(columns, like)
    _check_value(value)
    usual = {column: _usual(table[:, column], value, column) for column in chosen}

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
    low, high = (np.inf, -np.inf) if outside is None else _range(outside)
    chosen = _listed(columns)

    def repair(inputs: Any) -> Any:
        found = _table(inputs).astype(np.float64)
        for column in _checked(chosen, found):
            values = found[:, column]
            wrong = (values < low) | (values > high)
            found[wrong, column] = values[wrong] * factor
        return found

    return Replace(name, repair)


def duplicates(inputs: Any, labels: Any = None) -> np.ndarray:
    """Which rows (n,) repeat an earlier one, with its label where labels are given."""
    table = _numbers(inputs)
    if labels is not None:
        found = np.asarray(labels)
        if found.ndim == 0 or len(found) != len(table):
            raise ShapeError(
                f"`labels` has shape {found.shape}; the inputs have {len(table)} rows, and one "
                "label per row is needed."
            )
        # As numbers: columns of text and numbers together would all become text.
        codes = np.unique(found.reshape(len(table), -1), axis=0, return_inverse=True)[1]
        table = np.column_stack([table, codes.reshape(-1)])
    _, first = np.unique(table, axis=0, return_index=True)
    found = np.ones(len(table), bool)
    found[first] = False
    return found


def _table(inputs: Any) -> Table:
    try:
        table = np.asarray(inputs)
    except ValueError as problem:
        raise ShapeError(f"the inputs are no table (rows, columns) of numbers: {problem}") from None
    if table.ndim != 2:
        raise ShapeError(f"inputs of shape {table.shape} are no table (rows, columns) of numbers.")
    return table


def _numbers(inputs: Any) -> Table:
    """A table in which something can be counted."""
    table = _table(inputs)
    if table.dtype.kind not in "biuf":
        raise DataError(f"inputs of type {table.dtype} are no numbers; encode the columns first.")
    return table


def _listed(columns: Any) -> list[Any]:
    if not isinstance(columns, Iterable):
        raise SettingsError(f"`columns` is {columns!r}; list the numbers of columns, such as [0].")
    listed: list[Any] = list(columns)
    for column in listed:
        whole = isinstance(column, int | np.integer) and not isinstance(column, bool)
        if not whole or column < 0:
            raise SettingsError(f"`columns` holds {column!r}; columns are whole numbers from 0.")
    if not listed:
        raise SettingsError("`columns` is empty; name at least one column.")
    return listed


def _range(outside: Any) -> tuple[float, float]:
    ends = tuple(outside) if isinstance(outside, tuple | list) else ()
    if len(ends) != 2 or not all(_is_number(end) for end in ends) or not ends[0] <= ends[1]:
        raise SettingsError(
            f"`outside` is {outside!r}; give two numbers, the lowest and the highest plausible one."
        )
    return ends[0], ends[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_value(value: Any) -> None:
    known = value in ("median", "mode", "mean") if isinstance(value, str) else _is_number(value)
    if not known or (not isinstance(value, str) and not np.isfinite(value)):
        raise SettingsError(
            f"`value` is {value!r}; it must be 'median', 'mode', 'mean' or a finite number."
        )


def _checked(columns: Sequence[int], like: Any) -> list[int]:
    width, listed = _table(like).shape[1], _listed(columns)
    for column in listed:
        if column >= width:
            raise SettingsError(
                f"`columns` holds {column!r}; the inputs have columns 0 to {width - 1}."
            )
    return [int(column) for column in listed]


def _equals(missing: Any) -> Callable[[Table], Any]:
    if not _is_number(missing):
        raise SettingsError(
            f"`missing` is {missing!r}; it must be a number, or a function from a column to truth "
            "values."
        )
    return np.isnan if np.isnan(missing) else lambda column: column == missing


def _flags(is_missing: Callable[[Table], Any], column: Table) -> np.ndarray:
    try:
        found = np.asarray(is_missing(column))
    except Exception as problem:
        raise SettingsError(f"the function `missing` fails: {named(problem)}") from problem
    if found.shape != column.shape or found.dtype.kind != "b":
        raise SettingsError(
            f"the function `missing` returned {found.dtype} {found.shape} for a column of "
            f"{len(column)} values; it must return a truth value for each."
        )
    return found


def _usual(values: Table, value: Usual | float, column: int) -> float:
    if not isinstance(value, str):
        return float(value)
    if not values.size:
        raise SettingsError(f"column {column} holds nothing but missing values; give a number.")
    if value == "mode":
        known, counts = np.unique(values, return_counts=True)
        found = float(known[counts.argmax()])
    else:
        found = float(np.median(values) if value == "median" else np.mean(values))
    if not np.isfinite(found):
        raise DataError(
            f"the {value} of column {column} is {found}: `like` holds NaN or infinity there. Name "
            "them as `missing`, or give a number."
        )
    return found
