"""What single batches write: one line each, until many of them are moved into the tables at once.

A statement of DuckDB costs a millisecond, whatever it inserts: rows, records, changes and alarms as
three or four inserts in a transaction take 6.9 ms on disk, one line with all of it 3 to 4 ms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from rainpp.errors import ArtifactError
from rainpp.stream.cells import Sums
from rainpp.stream.packing import as_json, from_json, pack, unpack

# Lines and bytes that may wait: what a reader adds up, and what stays in memory.
_MOST_LINES = 64
_MOST_BYTES = 32 << 20
TABLE = (
    """CREATE TABLE IF NOT EXISTS journal (batch BIGINT, body VARCHAR, change BLOB, rows BLOB)"""
)


@dataclass(frozen=True)
class Entry:
    """One line of the outbox."""

    seq: int
    kind: str
    body: dict[str, Any]


@dataclass(eq=False)
class Written:
    """What one batch writes.

    Attributes
    ----------
    mark : the watermark.
    next_row : the number of the next row; numbers are not given twice.
    change : records added, for every side.
    late : (reason, row as JSON values).
    removed : for each side the numbers of rows to delete.
    arrived : for each side the rows to insert.
    labels : for each side labels by row number; a summary writes them into the rows.
    said : what was last said about the rows of the answer that changed.
    """

    batch: int
    source: str | None
    upto: int | None
    latest: int | None
    mark: int | None
    next_row: int
    change: Sequence[Sums]
    entries: list[Entry] = field(default_factory=list[Entry])
    late: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    removed: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    arrived: dict[int, pa.Table] = field(default_factory=dict[int, pa.Table])
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    labels: dict[int, dict[int, Any]] = field(default_factory=dict[int, dict[int, Any]])
    said: list[Any] = field(default_factory=list[Any])

    def line(self) -> tuple[int, str, bytes | None, bytes | None]:
        """As a line of the journal."""
        parts = {side: _as_bytes(rows) for side, rows in self.arrived.items()}
        body = {
            "about": [self.source, self.upto, self.latest, self.mark, self.next_row],
            "entries": [[entry.seq, entry.kind, entry.body] for entry in self.entries],
            "late": self.late,
            "removed": list(self.removed.items()),
            "arrived": [[side, len(part)] for side, part in parts.items()],
            "alarms": self.alarms,
            "labels": listed_labels(self.labels),
            "said": self.said,
        }
        filled = {name: value for name, value in body.items() if value}
        change = pack(self.change) if self.change else None
        return self.batch, as_text(filled), change, b"".join(parts.values()) or None

    @staticmethod
    def of_line(line: tuple[int, str, bytes | None, bytes | None]) -> Written:
        """The inverse of `line`.

        Raises
        ------
        ArtifactError : it is damaged.
        """
        batch, text, change, rows = line
        try:
            body = json.loads(text)
            source, upto, latest, mark, next_row = body["about"]
            return Written(
                batch=batch,
                source=source,
                upto=upto,
                latest=latest,
                mark=mark,
                next_row=next_row,
                change=[] if change is None else unpack(change),
                entries=[Entry(*entry) for entry in body.get("entries", [])],
                late=[(reason, row) for reason, row in body.get("late", [])],
                removed=dict(body.get("removed", [])),
                arrived=dict(_read_parts(body.get("arrived", []), rows or b"")),
                alarms=body.get("alarms", {}),
                labels=read_labels(body.get("labels", [])),
                said=body.get("said", []),
            )
        except (ValueError, KeyError, TypeError, pa.ArrowException) as problem:
            raise ArtifactError(f"batch {batch} of the state file is damaged: {problem}.") from None


class Journal:
    """Batches that are not in the tables yet, as the file has them, and in memory."""

    def __init__(self, con: duckdb.DuckDBPyConnection, *, durable: bool) -> None:
        self._con, self._durable = con, durable
        self._bytes = 0
        self.batches: list[Written] = []

    def add(self, what: Written) -> None:
        """Write one batch down."""
        if self._durable:  # a state in memory ends with the process: nothing reads its lines
            self._con.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", list(what.line()))
        self.batches.append(what)
        self._bytes += sum(rows.nbytes for rows in what.arrived.values())

    def read(self) -> None:
        """Memory as the file says."""
        lines = self._con.execute("SELECT * FROM journal ORDER BY batch").fetchall()
        self._hold([Written.of_line(line) for line in lines])

    def empty(self) -> None:
        """All of it is in the tables, in the transaction that is open."""
        if self._durable:
            self._con.execute("DELETE FROM journal")
        self._hold([])

    def back_to(self, before: Sequence[Written], moved: int) -> None:
        """As it was before a transaction that did not come about.

        Parameters
        ----------
        moved : the last batch that is in the tables, after all.
        """
        if self._durable:
            self.read()
        else:
            self._hold([what for what in before if what.batch > moved])

    @property
    def is_long(self) -> bool:
        """Whether it is time to move it into the tables."""
        return len(self.batches) >= _MOST_LINES or self._bytes >= _MOST_BYTES

    def entries(self) -> list[Entry]:
        """Lines of the outbox that are not in its table yet."""
        return [entry for what in self.batches for entry in what.entries]

    def removed(self, side: int) -> list[int]:
        """Numbers of rows that have gone."""
        return [number for what in self.batches for number in what.removed.get(side, ())]

    def arrived(self, side: int) -> pa.Table | None:
        """Rows that came and have not gone."""
        parts = [what.arrived[side] for what in self.batches if side in what.arrived]
        if not parts:
            return None
        rows, gone = pa.concat_tables(parts), self.removed(side)
        if not gone:
            return rows
        return rows.filter(pa.array(~np.isin(rows.column(0).to_numpy(), gone)))

    def _hold(self, batches: list[Written]) -> None:
        self.batches = batches
        self._bytes = sum(rows.nbytes for what in batches for rows in what.arrived.values())


def as_text(value: Any) -> str:
    """JSON as the state file has it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def listed_labels(labels: dict[int, dict[int, Any]]) -> list[Any]:
    """Labels of every side as JSON values."""
    return [
        [side, [[row, as_json(value)] for row, value in found.items()]]
        for side, found in labels.items()
    ]


def read_labels(listed: Sequence[Any]) -> dict[int, dict[int, Any]]:
    """The inverse of `listed_labels`."""
    return {side: {row: from_json(value) for row, value in found} for side, found in listed}


def _as_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def _read_parts(lengths: Sequence[Sequence[int]], data: bytes) -> Iterator[tuple[int, pa.Table]]:
    start = 0
    for side, length in lengths:
        part = data[start : start + length]
        yield side, pa.ipc.open_stream(pa.py_buffer(part)).read_all()
        start += length
