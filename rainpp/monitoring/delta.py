"""One change of one number of a standing query."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from rainpp.monitoring.written import (
    instant_body,
    place_body,
    place_words,
    read_instant,
    read_numbers,
    read_place,
)
from rainpp.stream.packing import as_json, key_text

Status = Literal["provisional", "final", "corrected", "retracted"]
Basis = Literal["exact", "labels", "blend", "iw"]

_NUMBERS = ("value", "relaxed", "low", "high", "rows", "coverage")


@dataclass(frozen=True)
class Delta:
    """A new value of one cell, for one window.

    Attributes
    ----------
    column, group : the cell: a column of the query and the values of its GROUP BY expressions.
    window : first instant and the first after it, UTC; None where there is no such instant.
    revision : 0 at first, one more at every change.
    status : "provisional" while rows may still come in time, "final" once the watermark has passed
        the window, "corrected" for a change after that, "retracted" when the cell is no more.
    value : under the likeliest classes, what SQL would answer; NaN for NULL.
    relaxed : its expectation under the model's probabilities.
    low, high : where the number lies with 95 % if predictions come true with their probabilities;
        for a metric, where it lies given the labels that are known.
    basis : what it rests on; "exact" for a query, which is counted.
    coverage : share of the rows it rests on that are known; 1 for a query.
    rows : how many rows could count.
    model : fingerprint of the model and its index; they are never mixed.
    seq : place in the outbox.
    """

    monitor: str
    column: str
    group: Mapping[str, Any]
    window: tuple[datetime | None, datetime | None]
    revision: int
    status: Status
    value: float
    relaxed: float
    low: float
    high: float
    rows: float
    watermark: datetime | None
    model: str
    seq: int
    basis: Basis = "exact"
    coverage: float = 1.0

    @property
    def key(self) -> str:
        """The same for every attempt to deliver this change, and for no other."""
        parts = [self.monitor, self.column, key_text(tuple(self.group.values())), self.model]
        # Revisions begin anew with a model, which may be one that answered before: `seq` differs.
        text = "\0".join([*parts, *map(str, self.window), str(self.revision), str(self.seq)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def body(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "column": self.column,
            **place_body(self.group, self.window),
            "revision": self.revision,
            "status": self.status,
            **{name: as_json(getattr(self, name)) for name in _NUMBERS},
            "watermark": instant_body(self.watermark),
            "model": self.model,
            "basis": self.basis,
            "key": self.key,
        }

    @staticmethod
    def read(monitor: str, seq: int, body: Mapping[str, Any]) -> Delta:
        """The inverse of `body`."""
        return Delta(
            monitor=monitor,
            column=body["column"],
            revision=int(body["revision"]),
            status=body["status"],
            watermark=read_instant(body["watermark"]),
            model=body["model"],
            seq=seq,
            basis=body["basis"],
            **read_place(body),
            **read_numbers(body, _NUMBERS),
        )

    def __str__(self) -> str:
        cell = f"{self.column}{place_words(self.group, self.window)}"
        return f"{cell}: {self.value:g} ({self.status}, revision {self.revision})"
