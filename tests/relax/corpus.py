"""One generated query against its possible worlds: the same rows, cells, existence and slopes?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd

from rainpp.errors import RainError, UnsupportedQueryError
from rainpp.relax.ask import AnyAnswer, answer, prepare
from tests.relax.corpus_schema import MODELS, Data
from tests.relax.enumeration import Enumeration, Oracle, centred
from tests.relax.generator import Generated, slots
from tests.relax.worlds import predictions

TOLERANCE = 1e-9
SLOPE_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Verdict:
    """What became of one query: "exact", "approximate", "refused", "wrong", "crash" or "engine"."""

    status: str
    detail: str = ""
    method: str = ""
    covered: tuple[bool, ...] = ()


def asked(con, sql: str, probabilities, classes=MODELS) -> AnyAnswer:
    """The answer to `sql` by whichever evaluator understands it."""
    plan = prepare(sql, con, classes)
    return answer(plan, con, predictions(con, plan, probabilities, classes), max_error=math.inf)


def judge(con: duckdb.DuckDBPyConnection, oracle: Oracle, data: Data, query: Generated) -> Verdict:
    """Relax the query and compare everything with enumeration.

    Raises
    ------
    duckdb.Error : DuckDB does not accept the query at all.
    """
    used = {slot: data.probabilities[slot] for slot in slots(query.sql)}
    read = [oracle.prediction(slot, p) for slot, p in used.items()]
    oracle.names(query.sql, read)
    if oracle.contradicts(query.sql, read):
        return Verdict("engine", "DuckDB's optimizer changes the plain answer")
    try:
        found = asked(con, query.sql, data.probabilities)
        truth = Enumeration(oracle, query.sql, used, query.cells)
        problem = next(differences(found, truth), None)
    except Exception as failure:  # noqa: BLE001  a finding, unless it is a refusal
        return refused_or_crashed(failure)
    if found.method.startswith("exact") or (problem or "").startswith("hard"):
        return Verdict("wrong" if problem else "exact", problem or "", found.method)
    return Verdict("approximate", problem or "", found.method, tuple(within_error(found, truth)))


def refused_or_crashed(failure: Exception) -> Verdict:
    """What an exception in place of an answer means."""
    if isinstance(failure, UnsupportedQueryError):
        return Verdict("refused", failure.why)
    # Comparing a prediction with what is no class is refused although DuckDB would run it.
    if isinstance(failure, RainError) and "is not a class" in str(failure):
        return Verdict("refused", "a literal is no class")
    return Verdict("crash", f"{type(failure).__name__}: {failure}")


def within_error(answer: AnyAnswer, truth: Enumeration) -> Iterator[bool]:
    """Of every approximated cell, whether its error bar covers the truth."""
    for row, key in enumerate(_keys(answer, truth)):
        for name in answer.columns:
            value, correct = answer.cell(row, name)[1], truth.cell(key, name)
            if not truth.repeats(key) and not math.isnan(value) and not math.isnan(correct):
                yield abs(value - correct) <= answer.error(row, name) + TOLERANCE


def _shown(key: tuple[object, ...]) -> str:
    """A key as text; a decimal is the number that pandas makes of it."""
    return str(tuple(float(v) if isinstance(v, Decimal) else v for v in key))


def differences(answer: AnyAnswer, truth: Enumeration) -> Iterator[str]:
    """What differs, most basic first: hard rows, existence, cells, slopes."""
    keys = _keys(answer, truth)
    expected = truth.hard_keys()
    if sorted(map(_shown, keys)) != sorted(map(_shown, expected)):
        yield f"hard rows {keys} but DuckDB has {list(expected)}"
        return
    exists = answer.relaxed["_exists"].tolist()
    for row, key in enumerate(keys):
        if truth.repeats(key):
            continue  # which of several equal rows is meant is a matter of taste
        if not _close(exists[row], truth.existence(key)):
            yield f"existence of {key}: {exists[row]!r}, expected {truth.existence(key)!r}"
        for name in truth.cells:
            found, correct = value_of(answer, row, name), truth.cell(key, name)
            if not _close(found, correct):
                yield f"{name} of {key}: {found!r}, expected {correct!r}"
    for row, key in enumerate(keys):
        if truth.repeats(key):
            continue
        yield from _slope_differences(answer, truth, row, key)


def value_of(answer: AnyAnswer, row: int, name: str) -> float:
    """A relaxed cell; the plain value where no prediction moves it."""
    if name in answer.columns:
        return answer.cell(row, name)[1]
    plain = _python(answer.frame[name].tolist()[row])
    return math.nan if plain is None else float(plain)


def _slope_differences(answer: AnyAnswer, truth: Enumeration, row: int, key) -> Iterator[str]:
    for name in truth.cells:
        if math.isnan(truth.cell(key, name)) or name not in answer.columns:
            continue
        expected = truth.slopes(key, name)
        yield from _compare(answer.gradient(row, name), expected, f"slope of {name} of {key}")
    try:
        _, slopes = answer.existence_gradient(row)
    except UnsupportedQueryError:
        return
    yield from _compare(slopes, truth.existence_slopes(key), f"slope of existence of {key}")


def _compare(found, expected, words: str) -> Iterator[str]:
    for slot, slopes in expected.items():
        mine = centred(np.asarray(found.get(slot, np.zeros(slopes.shape))))
        if not np.allclose(mine, slopes, atol=SLOPE_TOLERANCE, rtol=SLOPE_TOLERANCE):
            yield f"{words} by {slot}: {mine.tolist()}, expected {slopes.tolist()}"


def _keys(answer: AnyAnswer, truth: Enumeration) -> list:
    seen: dict = {}
    columns = [answer.frame.iloc[:, i].tolist() for i in range(answer.frame.shape[1])]
    rows = zip(*columns, strict=True) if columns else []
    return [truth.key([_python(v) for v in row], seen) for row in rows]


def _python(value: object) -> object:
    """A value of a pandas frame as DuckDB's own Python value."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return None
    return value.date() if isinstance(value, pd.Timestamp) else value


def _close(found: float, expected: float) -> bool:
    if math.isnan(expected) or math.isnan(found):
        return math.isnan(expected) and math.isnan(found)
    return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))
