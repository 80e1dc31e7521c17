"""What a courier and its monitor need of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rainpp.hooks.hook import Event
from rainpp.monitoring.context import Context
from rainpp.stream.deliveries import Letter

if TYPE_CHECKING:
    from rainpp.hooks.delivery import Courier


class Desk(Protocol):
    """What a courier needs of a monitor; each of these takes the monitor's lock."""

    def last(self, /) -> int:
        """The last line of the outbox."""
        ...

    def lines(self, after: int, most: int, /) -> Sequence[Letter]:
        """Lines of the outbox after one, in order."""
        ...

    def open(self, letter: Letter, /) -> tuple[Event, Context]:
        """What a line says, and what stands behind it."""
        ...

    def save(self, hook: str, courier: Courier, /) -> None:
        """Write down what `courier.progress()` says."""
        ...


@dataclass(frozen=True)
class Counts:
    """How a hook is doing.

    Attributes
    ----------
    disabled : why it wants no more, or "".
    delivered, failed : events that arrived, attempts that did not.
    waiting : events that wait for another attempt, or behind one that does.
    behind : lines of the outbox it has not looked at.
    next_due : seconds since 1970 of the next attempt of what waits; None if nothing does.
    why : what went wrong last, "" if nothing waits.
    """

    hook: str
    topics: tuple[str, ...]
    disabled: str
    delivered: int
    failed: int
    waiting: int
    behind: int
    next_due: float | None
    why: str
