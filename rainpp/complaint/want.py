"""What should become of a quantity, and the loss that says how far it is from that.

Every loss is of the relaxed quantity `value`. `offset` is relaxed minus hard when the complaint was
made: adding it to a target makes the slope follow the hard error. With hard 25, target 24 and
relaxed 23.3 the plain relaxed error would ask for an increase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rainpp.errors import ComplaintError

# -log p and -log(1 - p) are cut where less than this probability is left.
_SMALLEST = 1e-6
# A distance to several targets below this is rounding, not an error.
_REACHED = 1e-9


class Should(StrEnum):
    """How a cell should change."""

    INCREASE = "increase"
    DECREASE = "decrease"
    EQUAL = "equal"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"


_NEEDS_TARGET = (Should.EQUAL, Should.AT_LEAST, Should.AT_MOST)


class Wish:
    """Base of every want: a direction decided by the hard value, and a loss of the relaxed one."""

    target: float | None = None

    @property
    def instead(self) -> str:
        """What to do when the wish already holds."""
        return "There is nothing to change."

    def direction(self, hard: float) -> int:
        """+1 if the quantity must rise, -1 if it must fall, 0 if the wish holds at `hard`."""
        raise NotImplementedError

    def loss(self, value: float, offset: float) -> float:
        """How far a relaxed `value` is from the wish; it falls in the asked direction."""
        raise NotImplementedError

    def holds(self, after: float, before: float) -> bool:
        """Whether the hard value `after` a fix is as asked; `before` is what it was."""
        del before
        return self.direction(after) == 0


@dataclass(frozen=True)
class Want(Wish):
    """The change asked of a number: a direction, or a target in the units of the cell.

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

    @property
    def instead(self) -> str:
        """What to do when the wish already holds."""
        return "Give a target the answer does not meet, or should='increase' or 'decrease'."

    def direction(self, hard: float) -> int:
        """+1 if the cell must rise, -1 if it must fall, 0 if the complaint already holds at `hard`.

        The hard value decides, not the relaxed one.
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

    def loss(self, value: float, offset: float) -> float:
        """Half the squared error, a hinge, or the value itself."""
        gap = (self.target or 0.0) + offset - value
        if self.should is Should.EQUAL:
            return 0.5 * gap * gap
        if self.should is Should.AT_LEAST:
            return max(gap, 0.0)
        if self.should is Should.AT_MOST:
            return max(-gap, 0.0)
        return -value if self.should is Should.INCREASE else value

    def holds(self, after: float, before: float) -> bool:
        """Whether the target is met; without one, whether the value moved the right way."""
        if self.target is None:
            return (after - before) * self.direction(before) > 0
        return self.direction(after) == 0

    def __str__(self) -> str:
        target = "" if self.target is None else f" {number(self.target)}"
        words = {"at_least": "be at least", "at_most": "be at most"}
        return f"should {words.get(self.should, self.should.value)}{target}"


@dataclass(frozen=True)
class Presence(Wish):
    """That something with a probability, a row or a predicted class, be so or not be so."""

    wanted: bool

    def direction(self, hard: float) -> int:
        """`hard` is 1 if it is so and 0 if not."""
        if bool(hard) is self.wanted:
            return 0
        return 1 if self.wanted else -1

    def loss(self, value: float, offset: float) -> float:
        """-log p, or -log(1 - p), at most -log 1e-6."""
        del offset
        left = value if self.wanted else 1.0 - value
        return -math.log(max(left, _SMALLEST))

    def __str__(self) -> str:
        return "should be" if self.wanted else "should not be"


@dataclass(frozen=True)
class Above(Wish):
    """That a difference exceed a margin: the first row ranks above the second.

    Raises
    ------
    ComplaintError : the margin is no finite number >= 0.
    """

    margin: float = 0.0

    def __post_init__(self) -> None:
        margin = _read_number(self.margin, "margin")
        if not (math.isfinite(margin) and margin >= 0):
            raise ComplaintError(f"`margin` is {self.margin}; it must be finite and >= 0.")
        object.__setattr__(self, "margin", margin)

    def direction(self, hard: float) -> int:
        """+1 until the hard difference is larger than the margin; a tie is not enough."""
        return 0 if hard > self.margin else 1

    def loss(self, value: float, offset: float) -> float:
        """softplus of what is missing, log(1 + exp(margin - difference))."""
        missing = self.margin + offset - value
        return max(missing, 0.0) + math.log1p(math.exp(-abs(missing)))

    def __str__(self) -> str:
        return f"should be above {number(self.margin)}"


@dataclass(frozen=True)
class Near(Wish):
    """That a distance to targets vanish."""

    def direction(self, hard: float) -> int:
        """-1 until the distance of the hard values is zero up to rounding."""
        return -1 if hard > _REACHED else 0

    def loss(self, value: float, offset: float) -> float:
        """Half the squared distance; the targets were offset one by one."""
        del offset
        return 0.5 * value * value

    def __str__(self) -> str:
        return "should be 0"


def _read_should(word: str) -> Should:
    words = [item.value for item in Should]
    if word not in words:
        raise ComplaintError(f"`should` is {word!r}; it must be one of {', '.join(words)}.")
    return Should(word)


def _read_target(target: Any) -> float | None:
    return None if target is None else _read_number(target, "target")


def _read_number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ComplaintError(f"`{name}` is {value!r}; it must be a number.") from None


def read_finite(value: Any, name: str) -> float:
    """A finite number as a user gives it.

    Raises
    ------
    ComplaintError : it is none.
    """
    found = _read_number(value, name)
    if not math.isfinite(found):
        raise ComplaintError(f"`{name}` is {value!r}; it must be finite.")
    return found


def number(value: float) -> str:
    """Whole numbers in full, others to six digits."""
    whole = math.isfinite(value) and abs(value) < 1e15 and value == int(value)
    return f"{value:.0f}" if whole else f"{value:.6g}"
