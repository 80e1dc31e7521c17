"""What a complaint is about: a number read from an answer, and how it moves with predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rainpp.complaint.want import number

Gradient = dict[tuple[str, str], np.ndarray]
_LEAST_SCALE = 1e-24


class Answers(Protocol):
    """What is read of an answer: its cells and rows, by the keys of their groups."""

    def at(self, key: Mapping[str, Any], column: str) -> tuple[float, float]:
        """(hard, relaxed) value of a cell."""
        ...

    def gradient(self, row: int, column: str) -> Gradient:
        """d relaxed cell / d probabilities, by (model, table)."""
        ...

    def exists_at(self, key: Mapping[str, Any]) -> tuple[float, float]:
        """1 if the row is in the hard answer, else 0; the probability that it is."""
        ...

    def log_absence(self, key: Mapping[str, Any]) -> tuple[float, Gradient]:
        """Log of the probability that the row is not in the answer, and its derivative."""
        ...


class Quantity(Protocol):
    """A number of an answer that predictions move."""

    def read(self, answer: Answers) -> tuple[float, float]:
        """(hard, relaxed) value in this answer, or in a later one of the same query."""
        ...

    def gradient(self, answer: Answers) -> Gradient:
        """d relaxed / d probabilities in the answer it was named in."""
        ...

    def state(self, hard: float) -> str:
        """A clause: what is so at `hard`."""
        ...


@dataclass(frozen=True)
class Cell:
    """One number of an answer: a column, and the group it belongs to."""

    column: str
    row: int
    key: Mapping[str, Any]

    def read(self, answer: Answers) -> tuple[float, float]:
        """(hard, relaxed) value; hard is NaN for NULL."""
        return answer.at(self.key, self.column)

    def gradient(self, answer: Answers) -> Gradient:
        """d relaxed cell / d probabilities."""
        return answer.gradient(self.row, self.column)

    def state(self, hard: float) -> str:
        """As in "`n` is 3"."""
        return f"{self} is {number(hard)}"

    def __str__(self) -> str:
        return f"`{self.column}`" + (f" where {_shown(self.key)}" if self.key else "")


@dataclass(frozen=True)
class Row:
    """Whether a row is in the answer: 1 or 0, relaxed the probability that it is."""

    key: Mapping[str, Any]

    def read(self, answer: Answers) -> tuple[float, float]:
        """(1 or 0, probability)."""
        return answer.exists_at(self.key)

    def gradient(self, answer: Answers) -> Gradient:
        """d probability / d probabilities of the predictions.

        Made from the logarithm, which does not vanish when many rows support this one. The slope is
        true while the row is absent with a probability of 1e-24 or more; a surer row keeps that
        scale, so that its supporters can still be told apart in 32 bits.
        """
        log_absent, slope = answer.log_absence(self.key)
        absent = max(math.exp(log_absent), _LEAST_SCALE)
        return {name: -absent * part for name, part in slope.items()}

    def state(self, hard: float) -> str:
        """As in "the row where region='EU' is not in the answer"."""
        return f"{self} is {'' if hard else 'not '}in the answer"

    def __str__(self) -> str:
        return f"the row where {_shown(self.key)}" if self.key else "the only row"


@dataclass(frozen=True)
class Difference:
    """One cell minus another."""

    first: Cell
    second: Cell

    def read(self, answer: Answers) -> tuple[float, float]:
        """(hard, relaxed) difference."""
        first, second = self.first.read(answer), self.second.read(answer)
        return first[0] - second[0], first[1] - second[1]

    def gradient(self, answer: Answers) -> Gradient:
        """d relaxed difference / d probabilities."""
        parts = [(1.0, self.first.gradient(answer)), (-1.0, self.second.gradient(answer))]
        return weighted_sum(parts)

    def state(self, hard: float) -> str:
        """As in "`n` where a=1 minus `n` where a=2 is 3"."""
        return f"{self} is {number(hard)}"

    def __str__(self) -> str:
        return f"{self.first} minus {self.second}"


@dataclass(frozen=True)
class Distance:
    """How far several cells are from their targets: sqrt(Σ ((cell - target) / scale)²).

    Attributes
    ----------
    offsets : relaxed minus hard of each cell when the complaint was made. The relaxed distance is
        to target + offset, so it starts at the hard one and its slope follows the hard errors.
    """

    cells: tuple[Cell, ...]
    targets: tuple[float, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]

    def read(self, answer: Answers) -> tuple[float, float]:
        """(hard, relaxed) distance."""
        hard, relaxed = self._errors(answer)
        return float(np.linalg.norm(hard)), float(np.linalg.norm(relaxed))

    def gradient(self, answer: Answers) -> Gradient:
        """d relaxed distance / d probabilities."""
        errors = self._errors(answer)[1]
        slopes = errors / np.linalg.norm(errors) / np.asarray(self.scales)
        parts = zip(slopes.tolist(), self.cells, strict=True)
        return weighted_sum((slope, cell.gradient(answer)) for slope, cell in parts)

    def state(self, hard: float) -> str:
        """As in "the distance of 2 cells from their targets (…) is 3"."""
        return f"{self} is {number(hard)}"

    def _errors(self, answer: Answers) -> tuple[np.ndarray, np.ndarray]:
        values = np.asarray([cell.read(answer) for cell in self.cells])
        errors = (values - np.asarray(self.targets)[:, None]) / np.asarray(self.scales)[:, None]
        return errors[:, 0], errors[:, 1] - np.asarray(self.offsets) / np.asarray(self.scales)

    def __str__(self) -> str:
        pairs = zip(self.cells, self.targets, strict=True)
        wanted = "; ".join(f"{cell} to {number(target)}" for cell, target in pairs)
        return f"the distance of {wanted}"


@dataclass(frozen=True)
class Prediction:
    """Whether one row is predicted as `label`: 1 or 0, relaxed its probability.

    Attributes
    ----------
    predicted : the class the model gave it when the complaint was made.
    column : where the answer of the generated query has it.
    """

    model: str
    table: str
    rowid: int
    label: Any
    predicted: Any
    column: str

    def read(self, answer: Answers) -> tuple[float, float]:
        """(1 or 0, probability)."""
        return answer.at({}, self.column)

    def gradient(self, answer: Answers) -> Gradient:
        """d probability / d probabilities: one at the row and the label."""
        return answer.gradient(0, self.column)

    def state(self, hard: float) -> str:
        """As in "`predict` of rowid 3 of `digits` is not 1 but 7"."""
        return (
            f"{self} is {self.label!r}"
            if hard
            else (f"{self} is not {self.label!r} but {self.predicted!r}")
        )

    def __str__(self) -> str:
        return f"`{self.model}` of rowid {self.rowid} of `{self.table}`"


def weighted_sum(parts: Iterable[tuple[float, Gradient]]) -> Gradient:
    """Σ weight · gradient; every gradient has the same keys and shapes."""
    total: Gradient = {}
    for weight, gradient in parts:
        for name, part in gradient.items():
            scaled = weight * part
            total[name] = total[name] + scaled if name in total else scaled
    return total


def _shown(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in key.items())
