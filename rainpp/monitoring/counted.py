"""What rows add to a monitor when they are counted elsewhere: no rows, only their sums."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rainpp.monitoring.spec import Spec
from rainpp.stream.cells import Sums, added
from rainpp.stream.packing import pack, unpack
from rainpp.types import ClassValue


@dataclass(frozen=True)
class Request:
    """What whoever counts must know of a monitor, besides the model.

    Attributes
    ----------
    schema : of the table, as bytes of Arrow's IPC.
    columns : those that are needed of it.
    fingerprint : of the model and the index that answer.
    """

    spec: Spec
    table: str
    schema: bytes
    columns: tuple[str, ...]
    classes: tuple[ClassValue, ...]
    fingerprint: str


@dataclass(frozen=True)
class Limits:
    """How far time had come when a batch began: the same for all who count its rows.

    Attributes
    ----------
    mark : the watermark in microseconds; None before the first row.
    now : the clock, in seconds.
    """

    mark: int | None
    now: float


@dataclass(frozen=True, eq=False)
class Counted:
    """Some rows, counted.

    Attributes
    ----------
    sums : what they add to the records.
    earliest, latest : event times of the rows that count.
    late : (reason, row) of those that do not.
    """

    rows: int
    sums: Sums
    earliest: int | None
    latest: int | None
    late: list[tuple[str, dict[str, Any]]]

    def packed(self) -> bytes:
        """As bytes: a line of JSON, then the sums."""
        about = [self.rows, self.earliest, self.latest, self.late]
        line = json.dumps(about, ensure_ascii=False).encode()
        return len(line).to_bytes(8, "little") + line + pack([self.sums])

    @staticmethod
    def unpacked(data: bytes) -> Counted:
        """The inverse of `packed`."""
        start = 8 + int.from_bytes(data[:8], "little")
        rows, earliest, latest, late = json.loads(data[8:start])
        (sums,) = unpack(data[start:])
        return Counted(rows, sums, earliest, latest, [(reason, row) for reason, row in late])


def together(parts: Sequence[Counted], width: int) -> Counted:
    """Several parts as one; their sums are exact, so any order gives the same bits."""
    return Counted(
        sum(part.rows for part in parts),
        added([part.sums for part in parts], width),
        min((part.earliest for part in parts if part.earliest is not None), default=None),
        max((part.latest for part in parts if part.latest is not None), default=None),
        [item for part in parts for item in part.late],
    )
