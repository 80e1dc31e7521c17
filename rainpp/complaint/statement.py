"""A quantity of an answer and what should become of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rainpp.complaint.quantity import Cell, Quantity
from rainpp.complaint.want import Wish
from rainpp.errors import ComplaintError


@dataclass(frozen=True)
class Complaint:
    """A number of the answer to `query` that the user believes is wrong.

    Raises
    ------
    ComplaintError : the number is NULL, or the complaint already holds.
    """

    query: str
    about: Quantity
    want: Wish
    hard: float
    relaxed: float

    @property
    def direction(self) -> int:
        """+1 if the number must rise, -1 if it must fall."""
        return self.want.direction(self.hard)

    @property
    def cell(self) -> Cell:
        """The cell, where the complaint is about one.

        Raises
        ------
        ComplaintError : it is about a row, several cells or a prediction.
        """
        if not isinstance(self.about, Cell):
            raise ComplaintError(f"the complaint is not about one cell: {self}.")
        return self.about

    def loss(self, relaxed: float) -> float:
        """How bad a relaxed value of the number would be: what a fix makes smaller."""
        return self.want.loss(relaxed, self.relaxed - self.hard)

    def resolved(self, after: float) -> bool:
        """Whether a hard value `after` a fix is as asked; never when it is NULL."""
        return not math.isnan(after) and self.want.holds(after, self.hard)

    def __post_init__(self) -> None:
        if math.isnan(self.hard):
            raise ComplaintError(
                f"{self.about} is NULL in the answer; complain about a cell that holds a number."
            )
        if self.direction == 0:
            raise ComplaintError(f"the complaint already holds: {self}. {self.want.instead}")

    def __str__(self) -> str:
        return f"{self.about.state(self.hard)} and {self.want}"
