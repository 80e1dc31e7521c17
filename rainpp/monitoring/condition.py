"""When an alarm goes off: comparisons of columns with numbers, as a user writes them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from rainpp.errors import SettingsError

_OPERATORS: dict[type[Any], tuple[str, Callable[[float, float], bool], int]] = {
    exp.GT: (">", operator.gt, 1),
    exp.GTE: (">=", operator.ge, 1),
    exp.LT: ("<", operator.lt, -1),
    exp.LTE: ("<=", operator.le, -1),
}
_TURNED: dict[type[Any], type[Any]] = {
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
}


@dataclass(frozen=True)
class Comparison:
    """A column beyond a number: `side` is +1 for too high and -1 for too low."""

    column: str
    symbol: str
    number: float
    side: int
    holds: Callable[[float, float], bool]

    def is_true(self, values: Mapping[str, float], sure: Mapping[str, tuple[float, float]]) -> bool:
        """Whether it holds, of an interval at its nearer end."""
        value = values[self.column]
        if self.column in sure:
            value = sure[self.column][0 if self.side > 0 else 1]
        return not math.isnan(value) and self.holds(value, self.number)

    def __str__(self) -> str:
        return f"{self.column} {self.symbol} {self.number:g}"


@dataclass(frozen=True)
class Condition:
    """Comparisons that must all hold; the first says what is wrong."""

    comparisons: tuple[Comparison, ...]

    @staticmethod
    def read(text: str, columns: Sequence[str], name: str = "when") -> Condition:
        """Parse "n > 500 AND rows >= 100".

        Raises
        ------
        SettingsError : it is something else, or names no column of the monitor.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`{name}` is {text!r}; write a comparison, such as 'n > 500'.")
        try:
            tree = sqlglot.parse_one(text, dialect="duckdb")
        except (SqlglotError, RecursionError):
            tree = None
        parts = [] if tree is None else _conjuncts(tree)
        found = [_comparison(part, columns) for part in parts]
        if not found or None in found:
            raise SettingsError(
                f"`{name}` is {text!r}; write columns compared with numbers, joined by AND: "
                f"'{columns[0]} > 500'. The columns are {', '.join(columns)}."
            )
        return Condition(tuple(item for item in found if item is not None))

    @property
    def first(self) -> Comparison:
        """What the alarm is about."""
        return self.comparisons[0]

    @property
    def needs_whole_windows(self) -> bool:
        """Whether it can hold only because a window is not full yet."""
        return any(item.side < 0 for item in self.comparisons)

    @property
    def direction(self) -> Literal["increase", "decrease"]:
        """How the first column should change."""
        return "decrease" if self.first.side > 0 else "increase"

    def holds(
        self, values: Mapping[str, float], sure: Mapping[str, tuple[float, float]] | None = None
    ) -> bool:
        """Whether all comparisons hold; NULL satisfies none.

        A number with an interval in `sure` is beyond another one if all of the interval is.
        """
        return all(item.is_true(values, sure or {}) for item in self.comparisons)

    def __str__(self) -> str:
        return " AND ".join(map(str, self.comparisons))


def _conjuncts(node: exp.Expr) -> list[exp.Expr]:
    found, waiting = list[exp.Expr](), [node]
    while waiting:  # not by recursion: conditions may be longer than Python's stack
        part = waiting.pop()
        if isinstance(part, exp.Paren):
            waiting.append(part.this)
        elif isinstance(part, exp.And):
            waiting += [part.right, part.left]
        else:
            found.append(part)
    return found


def _comparison(node: exp.Expr, columns: Sequence[str]) -> Comparison | None:
    kind: type[Any] = type(node)
    if kind not in _OPERATORS:
        return None
    left, right = node.args["this"], node.args["expression"]
    if _number(left) is not None:
        left, right, kind = right, left, _TURNED[kind]
    number = _number(right)
    known = {column.lower(): column for column in columns}
    if number is None or not isinstance(left, exp.Column) or left.name.lower() not in known:
        return None
    symbol, holds, side = _OPERATORS[kind]
    return Comparison(known[left.name.lower()], symbol, number, side, holds)


def _number(node: exp.Expr) -> float | None:
    if isinstance(node, exp.Neg):
        inner = _number(node.this)
        return None if inner is None else -inner
    if isinstance(node, exp.Literal) and not node.is_string:
        try:
            found = float(node.this)
        except ValueError:
            return None
        return found if math.isfinite(found) else None
    return None
