"""What sources hand over: rows with the offsets of the records they came in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import SettingsError
from rainpp.monitoring.batch import Doing
from rainpp.monitoring.rules import is_name
from rainpp.sources.asides import Aside

KINDS: tuple[Doing, ...] = ("predictions", "feedback", "retract")
Offsets = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows of one kind for one table.

    Attributes
    ----------
    kind : what they are: predictions, labels, or ids of rows that no longer count.
    offsets : for each row that of its record, ascending; rows of one record have the same.
    table : which table of the query they are for; None where it has one.
    """

    kind: Doing
    rows: pa.Table
    offsets: Offsets
    table: str | None = None

    def after(self, offset: int | None) -> Chunk:
        """The rows of later records."""
        if offset is None or not len(self.offsets) or self.offsets[0] > offset:
            return self
        first = int(np.searchsorted(self.offsets, offset, side="right"))
        return replace(self, rows=self.rows.slice(first), offsets=self.offsets[first:])

    def upto(self, offset: int) -> Chunk:
        """The rows of records up to an offset."""
        end = int(np.searchsorted(self.offsets, offset, side="right"))
        return replace(self, rows=self.rows.slice(0, end), offsets=self.offsets[:end])


@dataclass(frozen=True, eq=False)
class Parcel:
    """Consecutive records of one source.

    Attributes
    ----------
    source : its name; each partition of a topic is a source of its own.
    upto : the offset of the last of them, whether anything came of it or not.
    aside : records that cannot be read.
    place : what they stand in, for messages, such as a file; "" if the source says it all.
    """

    source: str
    chunks: tuple[Chunk, ...]
    upto: int
    aside: tuple[Aside, ...] = ()
    place: str = ""


class Source(Protocol):
    """Where records come from, in an order that is the same whenever they are read again."""

    @property
    def name(self) -> str:
        """What it is called in messages; offsets are kept under the names of its parcels."""
        ...

    @property
    def pause(self) -> float:
        """Seconds to wait after a poll that found nothing."""
        ...

    @property
    def caught_up(self) -> bool:
        """Whether the last poll found the end of what there is."""
        ...

    def start(self, offsets: Mapping[str, int], times: Collection[str]) -> None:
        """Go on after these offsets, from the beginning where there is none.

        Parameters
        ----------
        times : columns that are instants, which JSON has as text.
        """
        ...

    def poll(self, timeout: float) -> Sequence[Parcel]:
        """The next records, waiting for them at most `timeout` seconds; there may be none."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def checked_source(name: str) -> str:
    """A name for a source.

    Raises
    ------
    SettingsError : it is none.
    """
    if not is_name(name):
        raise SettingsError(f"`name` is {name!r}; give the source a name.")
    return name


def checked_kind(kind: str) -> Doing:
    """What rows are.

    Raises
    ------
    SettingsError : `kind` is none of the three.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise SettingsError(f"`kind` is {kind!r}; it must be one of {', '.join(KINDS)}.")
