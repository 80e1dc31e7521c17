"""Windows of event time: which panes a row falls into, and which windows a pane is part of.

A *pane* is the smallest stretch of time that is added up on its own. Tumbling and sliding windows
are sums of panes of a fixed length; sessions and last-k windows are made of panes of one instant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.errors import SettingsError

Times = NDArray[np.int64]

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 7 * 86_400_000_000,
}
_EPOCH = datetime(1970, 1, 1)
# Windows a row may be in: each of them keeps a record of the row's group.
_MOST_PANES = 10_000


def microseconds(value: Any, name: str, *, least: int = 1) -> int:
    """A duration such as "10m", "1.5h" or a timedelta, in whole microseconds.

    Raises
    ------
    SettingsError : it is neither, or shorter than `least` microseconds.
    """
    found = None
    if isinstance(value, timedelta):
        found = round(value / timedelta(microseconds=1))
    elif isinstance(value, str):
        parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", value.lower())
        if parts and parts[2] in _UNITS:
            found = round(float(parts[1]) * _UNITS[parts[2]])
    if found is None:
        raise SettingsError(
            f"`{name}` is {value!r}; give a number with one of the units {', '.join(_UNITS)}, such "
            'as "10m", or a timedelta.'
        )
    if not least <= found < 2**61:
        raise SettingsError(
            f"`{name}` is {value!r}; it must be {'positive' if least else '>= 0'}, and at most "
            f"{2**61 // _UNITS['w']:,} weeks."
        )
    return found


def shown_duration(length: int) -> str:
    """Microseconds as a user would write them: "10m"."""
    for unit in ("w", "d", "h", "m", "s", "ms", "us"):
        if length % _UNITS[unit] == 0 and (length or unit == "s"):
            return f"{length // _UNITS[unit]}{unit}"
    raise AssertionError("every whole number is a multiple of 1us")


def as_datetime(time: int) -> datetime:
    """Microseconds since 1970 as a naive UTC time."""
    return _EPOCH + timedelta(microseconds=int(time))


class Window:
    """Base of the kinds of windows."""

    def panes(self, times: Times) -> Times:
        """The pane of every event time (microseconds since 1970)."""
        raise NotImplementedError

    def covering(self, pane: int) -> list[int]:
        """The windows a pane is part of; only where windows do not depend on the rows."""
        raise NotImplementedError

    def bounds(self, window: int) -> tuple[int, int]:
        """First instant of a window and the first after it; only where it has a fixed length."""
        raise NotImplementedError

    @property
    def span(self) -> int:
        """How long rows must be kept for a window to be whole; 0 where no length is fixed."""
        return 0

    @property
    def fixed(self) -> bool:
        """Whether windows are sums of panes that no row moves."""
        return True

    @property
    def ends(self) -> bool:
        """Whether a window is over at some time."""
        return True

    def parts(self, window: int) -> list[int]:
        """The panes of a window."""
        return [window]


@dataclass(frozen=True)
class Tumbling(Window):
    """Windows of one length, one after the other, counted from 1970: every row is in one."""

    size: str | timedelta

    def __post_init__(self) -> None:
        microseconds(self.size, "size")

    @property
    def span(self) -> int:
        """The length of a window."""
        return microseconds(self.size, "size")

    def panes(self, times: Times) -> Times:
        """A window is one pane."""
        return times // self.span

    def covering(self, pane: int) -> list[int]:
        """Itself."""
        return [pane]

    def bounds(self, window: int) -> tuple[int, int]:
        """Its beginning and that of the next."""
        return window * self.span, (window + 1) * self.span

    def __str__(self) -> str:
        return f"tumbling windows of {shown_duration(self.span)}"


@dataclass(frozen=True)
class Sliding(Window):
    """Windows of `size` that begin every `every`; `size` is 1 to 10,000 times `every`."""

    size: str | timedelta
    every: str | timedelta

    def __post_init__(self) -> None:
        size, every = microseconds(self.size, "size"), microseconds(self.every, "every")
        if size % every:
            raise SettingsError(
                f"`size` is {self.size!r} and `every` {self.every!r}; size must be a multiple of "
                "every, so that windows are sums of the same panes."
            )
        if size // every > _MOST_PANES:
            raise SettingsError(
                f"`size` is {self.size!r} and `every` {self.every!r}; every row would be in "
                f"{size // every:,} windows. Give windows with at most {_MOST_PANES:,} steps."
            )

    @property
    def span(self) -> int:
        """The length of a window."""
        return microseconds(self.size, "size")

    @property
    def step(self) -> int:
        """The length of a pane."""
        return microseconds(self.every, "every")

    def panes(self, times: Times) -> Times:
        """Panes are as long as windows are apart."""
        return times // self.step

    def covering(self, pane: int) -> list[int]:
        """The windows that began at most `size` before the pane ends."""
        return list(range(pane - self.span // self.step + 1, pane + 1))

    def parts(self, window: int) -> list[int]:
        """The panes from its beginning on."""
        return list(range(window, window + self.span // self.step))

    def bounds(self, window: int) -> tuple[int, int]:
        """Its beginning and the first instant after it."""
        return window * self.step, window * self.step + self.span

    def __str__(self) -> str:
        return f"windows of {shown_duration(self.span)} every {shown_duration(self.step)}"


@dataclass(frozen=True)
class Everything(Window):
    """One window that never ends: what a query without windows answers."""

    def panes(self, times: Times) -> Times:
        """All in one pane."""
        return np.zeros_like(times)

    def covering(self, pane: int) -> list[int]:
        """The only one."""
        return [pane]

    def bounds(self, window: int) -> tuple[int, int]:
        """All of time that can be written down."""
        del window
        return -(2**62), 2**62

    @property
    def ends(self) -> bool:
        """Never."""
        return False

    def __str__(self) -> str:
        return "all rows, in one window"


@dataclass(frozen=True)
class Session(Window):
    """For each group, runs of rows no further apart than `gap`; rows join and part them."""

    gap: str | timedelta

    def __post_init__(self) -> None:
        microseconds(self.gap, "gap")

    @property
    def length(self) -> int:
        """The gap in microseconds."""
        return microseconds(self.gap, "gap")

    def panes(self, times: Times) -> Times:
        """A pane is an instant."""
        return times

    @property
    def fixed(self) -> bool:
        """Rows decide where sessions begin and end."""
        return False

    def __str__(self) -> str:
        return f"sessions with gaps of at most {shown_duration(self.length)}"


@dataclass(frozen=True)
class Last(Window):
    """The `count` latest rows by event time, rows of one instant in the order they arrived."""

    count: int

    def __post_init__(self) -> None:
        whole = isinstance(self.count, int) and not isinstance(self.count, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not whole or self.count < 1:
            raise SettingsError(
                f"`count` is {self.count!r}; it must be a whole number of rows >= 1."
            )

    def panes(self, times: Times) -> Times:
        """Rows are told apart by the caller: a pane is a row."""
        return times

    @property
    def fixed(self) -> bool:
        """Every new row pushes one out."""
        return False

    @property
    def ends(self) -> bool:
        """Never: rows leave it one by one."""
        return False

    def __str__(self) -> str:
        return f"the last {self.count:,} rows"
