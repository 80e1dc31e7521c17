"""Certain predictions: the relaxed answer against DuckDB's rows."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from rainpp.relax.ask import AnyAnswer

TOLERANCE = 1e-9


def certain_differences(
    answer: AnyAnswer, rows: Sequence[tuple], cells: Mapping[str, str]
) -> Iterator[str]:
    """What differs between an answer under one-hot probabilities and `rows` of DuckDB.

    A SUM over no row is NULL for SQL and may be 0 when relaxed, a row that is there being enough.
    """
    columns = [answer.frame.iloc[:, i].tolist() for i in range(answer.frame.shape[1])]
    mine = [tuple(python(v) for v in row) for row in zip(*columns, strict=True)]
    theirs = [tuple(python(v) for v in row) for row in rows]
    if len(mine) != len(theirs):
        yield f"{len(mine)} hard rows, DuckDB has {len(theirs)}"
        return
    order = sorted(range(len(mine)), key=lambda i: str([_rounded(v) for v in mine[i]]))
    other = sorted(theirs, key=lambda row: str([_rounded(v) for v in row]))
    for i, row in zip(order, other, strict=True):
        if not all(same(a, b) for a, b in zip(mine[i], row, strict=True)):
            yield f"hard row {mine[i]}, DuckDB has {row}"
        if abs(answer.relaxed["_exists"].tolist()[i] - 1) > TOLERANCE:
            yield f"row {mine[i]} exists with {answer.relaxed['_exists'].tolist()[i]}"
        yield from _cell_differences(answer, i, row, cells)


def _cell_differences(answer: AnyAnswer, i: int, row: tuple, cells) -> Iterator[str]:
    for name in answer.columns:
        position = list(answer.frame.columns).index(name)
        expected, found = row[position], answer.cell(i, name)[1]
        if expected is None and (math.isnan(found) or (cells.get(name) == "total" and found == 0)):
            continue
        if expected is None or not same(found, float(expected)):
            yield f"{name} relaxed to {found}, DuckDB has {expected} in {row}"


def python(value: object) -> object:
    """A value of pandas or DuckDB in one form; NULL is None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime()
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date()
    return float(value) if isinstance(value, decimal.Decimal) else value


def same(found: object, expected: object) -> bool:
    """Equal, numbers to 1e-9 of their size."""
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))
    return found == expected


def _rounded(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, int | float) else value
