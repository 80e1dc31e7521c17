"""What the user says is wrong: one cell of an answer, and what should change about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rainpp.errors import ComplaintError


class Should(StrEnum):
    """How a cell should change."""

    INCREASE = "increase"
    DECREASE = "decrease"
    EQUAL = "equal"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"


_NEEDS_TARGET = (Should.EQUAL, Should.AT_LEAST, Should.AT_MOST)


@dataclass(frozen=True)
class Want:
    """The change asked for: a direction, or a target in the units of the cell.

    Raises
    ------
    ComplaintError : an unknown word, a target missing, not finite, or given to a direction.
    """

    should: Should
    target: float | None = None

    @staticmethod
    def of(should: str, target: float | None = None) -> Want:
        """`should` and `target` as a user writes them."""
        return Want(_read_should(should), _read_target(target))

    def __post_init__(self) -> None:
        object.__setattr__(self, "should", _read_should(self.should))
        object.__setattr__(self, "target", _read_target(self.target))
        if self.should in _NEEDS_TARGET:
            if self.target is None or not math.isfinite(self.target):
                raise ComplaintError(
                    f"should='{self.should}' needs a finite `target`; got {self.target}."
                )
        elif self.target is not None:
            raise ComplaintError(
                f"should='{self.should}' takes no `target`; got {self.target}. "
                "Use should='equal', 'at_least' or 'at_most' with a target."
            )

    def direction(self, hard: float) -> int:
        """+1 if the cell must rise, -1 if it must fall, 0 if the complaint already holds at `hard`.

        The hard value decides, not the relaxed one: with hard 25, target 24 and relaxed 23.3 the
        relaxed error points the wrong way.
        """
        if self.should is Should.INCREASE:
            return 1
        if self.should is Should.DECREASE:
            return -1
        gap = (self.target or 0.0) - hard
        if self.should is Should.AT_LEAST:
            return 1 if gap > 0 else 0
        if self.should is Should.AT_MOST:
            return -1 if gap < 0 else 0
        return (gap > 0) - (gap < 0)

    def __str__(self) -> str:
        target = "" if self.target is None else f" {_number(self.target)}"
        words = {"at_least": "be at least", "at_most": "be at most"}
        return f"should {words.get(self.should, self.should.value)}{target}"


def _read_should(word: str) -> Should:
    words = [item.value for item in Should]
    if word not in words:
        raise ComplaintError(f"`should` is {word!r}; it must be one of {', '.join(words)}.")
    return Should(word)


def _read_target(target: Any) -> float | None:
    try:
        if isinstance(target, bool | str | bytes):
            raise TypeError
        return None if target is None else float(target)
    except (TypeError, ValueError, OverflowError):
        raise ComplaintError(f"`target` is {target!r}; it must be a number.") from None


def _number(value: float) -> str:
    """Whole numbers in full, others to six digits."""
    return f"{value:.0f}" if abs(value) < 1e15 and value == int(value) else f"{value:.6g}"


@dataclass(frozen=True)
class Cell:
    """One number of an answer: a column, and the group it belongs to."""

    column: str
    row: int
    key: Mapping[str, Any]

    def __str__(self) -> str:
        if not self.key:
            return f"`{self.column}`"
        where = ", ".join(f"{name}={value!r}" for name, value in self.key.items())
        return f"`{self.column}` where {where}"


@dataclass(frozen=True)
class Complaint:
    """A cell of the answer to `query` that the user believes is wrong."""

    query: str
    cell: Cell
    want: Want
    hard: float
    relaxed: float

    @property
    def direction(self) -> int:
        """+1 if the cell must rise, -1 if it must fall."""
        return self.want.direction(self.hard)

    def __post_init__(self) -> None:
        if math.isnan(self.hard):
            raise ComplaintError(
                f"{self.cell} is NULL in the answer; complain about a cell that holds a number."
            )
        if self.direction == 0:
            raise ComplaintError(
                f"the complaint already holds: {self}. "
                "Give a target the answer does not meet, or should='increase' or 'decrease'."
            )

    def __str__(self) -> str:
        return f"{self.cell} is {_number(self.hard)} and {self.want}"
