"""What a monitor is, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Overview:
    """A monitor at one moment.

    Attributes
    ----------
    sql, window : what is asked, and over which rows.
    groups, columns : names of the GROUP BY columns and of the numbers; what the SQL says of them
        before the first rows.
    batches : taken in so far.
    seq : of the last line of the outbox, -1 if it is empty.
    model : fingerprint of the model that answers now, as in a change; "" before the first rows.
    stored : whether the state outlives the process: sequence numbers of a monitor in memory begin
        anew with the next one.
    """

    name: str
    sql: str
    window: str
    groups: tuple[str, ...]
    columns: tuple[str, ...]
    batches: int
    seq: int
    watermark: datetime | None
    model: str
    stored: bool
