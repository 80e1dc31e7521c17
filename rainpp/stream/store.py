"""The state of a monitor in one DuckDB file: every batch is one transaction.

Tables of a monitor lie in a schema of its name and may be read by anyone, with the columns:

- ``about (name, value)``: the query, its windows and columns, and the format's version.
- ``epochs (epoch, model, index, batch)``: fingerprints, and the batch they begin with.
- ``rows_0``, ``rows_1``: the rows of each table within retention: number, epoch, event time in
  microseconds, probabilities, derivatives or inputs where they are kept, and the columns the query
  reads.
- ``batches (batch, source, upto, latest, mark, next_row, change, said, labels)``: what each batch
  since the last summary added, and the watermark and the number of the next row after it; its
  labels are written into the rows by the next summary.
- ``panes``, ``sources``, ``windows``, ``drift``: the summary, written every few hundred batches.
- ``outbox (seq, batch, kind, body)``: every change, in order, as JSON.
- ``late (batch, source, reason, body)``: rows that were not counted, and why.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from rainpp.errors import ArtifactError, QueryError, RainError
from rainpp.relax.capture import registered
from rainpp.relax.catalog import clean, quote
from rainpp.stream.cells import Sums
from rainpp.stream.packing import as_json, from_json, pack, unpack

FORMAT = 1
# Lines that go into one statement; more are quicker as an Arrow table, which costs 0.7 ms.
_FEW = 32
_MEMORY = ":memory:"
# Monitors that are open: two that write one schema would undo each other's sums.
_held: weakref.WeakValueDictionary[tuple[str, str], Store] = weakref.WeakValueDictionary()
_TABLES = """
CREATE TABLE about (name VARCHAR, value VARCHAR);
CREATE TABLE epochs (epoch INTEGER, model VARCHAR, "index" VARCHAR, batch BIGINT);
CREATE TABLE batches (batch BIGINT, source VARCHAR, upto BIGINT, latest BIGINT, mark BIGINT,
    next_row BIGINT, change BLOB, said VARCHAR, labels VARCHAR);
CREATE TABLE panes (batch BIGINT, mark BIGINT, next_row BIGINT, change BLOB);
CREATE TABLE sources (source VARCHAR, upto BIGINT, latest BIGINT);
CREATE TABLE windows (body VARCHAR);
CREATE TABLE drift (state BLOB);
CREATE TABLE outbox (seq BIGINT, batch BIGINT, kind VARCHAR, body VARCHAR);
CREATE TABLE late (batch BIGINT, source VARCHAR, reason VARCHAR, body VARCHAR);
CREATE TABLE alarms (batch BIGINT, name VARCHAR, body VARCHAR)
"""


@dataclass(frozen=True)
class Entry:
    """One line of the outbox."""

    seq: int
    kind: str
    body: dict[str, Any]


@dataclass(eq=False)
class Written:
    """What one batch writes, besides rows.

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


class Store:
    """One monitor's tables."""

    def __init__(self, con: duckdb.DuckDBPyConnection, name: str, place: str) -> None:
        self._con, self._name, self._place = con, name, place
        self._schema = quote(name)
        self._within = self.closed = False

    @staticmethod
    def open(path: str | Path, name: str) -> Store:
        """Open or create the file, and a monitor's schema in it.

        Raises
        ------
        ArtifactError : it is no DuckDB file, another process has it open, the monitor is open in
            this one, or the disk refuses.
        """
        known = _held.get((os.path.realpath(path), name.lower()))
        if str(path) != _MEMORY and known is not None and not known.closed:
            raise ArtifactError(
                f"the monitor `{name}` of `{path}` is open in this process already; close it first."
            )
        try:
            con = duckdb.connect(str(path))
        except duckdb.Error as problem:
            said = clean(problem)
            hint = " End that process; one process writes a state file." if "lock" in said else ""
            raise ArtifactError(f"cannot open the state file `{path}`: {said}.{hint}") from None
        store = Store(con, name, str(path))
        try:
            with store._errors("open"):
                con.execute("SET threads = 1")
                # With the name of the database, which may be that of the schema too.
                (base,) = con.execute("SELECT current_database()").fetchall()[0]
                con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(base)}.{store._schema}")
                con.execute(f"USE {quote(base)}.{store._schema}")
                if not store._exists("about"):
                    with store._transaction():
                        con.execute(_TABLES)
                        store._insert("about", [("format", str(FORMAT))])
        except BaseException:
            con.close()
            raise
        _held[os.path.realpath(path), name.lower()] = store
        return store

    def about(self) -> dict[str, str]:
        """What the state belongs to."""
        with self._errors("read"):
            return dict(self._con.execute("SELECT name, value FROM about").fetchall())

    def describe(self, values: dict[str, str], tables: Sequence[pa.Schema]) -> None:
        """Say once what the state belongs to, and make a table for the rows of each side."""
        with self._errors("write"), self._transaction():
            self._insert("about", list(values.items()))
            for side, schema in enumerate(tables):
                with registered(self._con, schema.empty_table()) as empty:
                    self._con.execute(f"CREATE TABLE rows_{side} AS SELECT * FROM {empty}")

    def epochs(self) -> list[tuple[int, str, str, int]]:
        """(epoch, model, index, first batch), oldest first."""
        with self._errors("read"):
            return self._con.execute("SELECT * FROM epochs ORDER BY epoch").fetchall()

    def begin_epoch(self, epoch: int, model: str, index: str, batch: int) -> None:
        """Write down that another model or index answers from here on."""
        with self._errors("write"), self._transaction():
            self._insert("epochs", [(epoch, model, index, batch)])

    def write(self, what: Written) -> None:
        """Everything a batch changes, or nothing of it.

        Raises
        ------
        ArtifactError : the disk refuses, or the file is locked; the state is as it was.
        """
        with self._errors("write"), self._transaction():
            for side, numbers in what.removed.items():
                listed = pa.table({"number": pa.array(numbers, pa.int64())})
                with registered(self._con, listed) as gone:
                    self._con.execute(
                        f'DELETE FROM rows_{side} WHERE "__row" IN (SELECT number FROM {gone})'
                    )
            for side, rows in what.arrived.items():
                # DuckDB finds `rows` by its name: 0.8 ms for 1000 rows, registered 1.5 ms.
                self._con.execute(f"INSERT INTO rows_{side} SELECT * FROM rows")
                del rows
            change = pack(what.change) if what.change else None
            said = _text(what.said) if what.said else None
            labels = _text(_listed(what.labels)) if what.labels else None
            line = (what.batch, what.source, what.upto, what.latest, what.mark, what.next_row)
            self._insert("batches", [(*line, change, said, labels)])
            if what.entries:
                self._insert_outbox(what.batch, what.entries)
            if what.late:
                self._insert(
                    "late",
                    [(what.batch, what.source, reason, _text(row)) for reason, row in what.late],
                )
            if what.alarms:
                self._insert(
                    "alarms",
                    [(what.batch, name, _text(body)) for name, body in what.alarms.items()],
                )

    def summarise(
        self,
        batch: int,
        records: Sequence[Sums],
        *,
        sources: dict[str, tuple[int | None, int | None]],
        windows: list[Any],
        forget: dict[int, int],
        keep_from: int,
        drift: bytes | None,
        labels: dict[int, dict[int, Any]],
        label: str | None,
        mark: int | None,
        next_row: int,
    ) -> None:
        """Replace what single batches added by its sum, and delete what has expired.

        Parameters
        ----------
        forget : for each side the event time before which rows are deleted.
        keep_from : the first line of the outbox that stays.
        drift : how live rows compare with the training rows.
        labels : of rows of every side, by row number, to be written into the column `label`.
        """
        with self._errors("write"), self._transaction():
            for table in ("panes", "batches", "sources", "windows", "drift"):
                self._con.execute(f"DELETE FROM {table}")
            self._insert("panes", [(batch, mark, next_row, pack(records))])
            if sources:
                self._insert("sources", [(name, *values) for name, values in sources.items()])
            self._insert("windows", [(_text(windows),)])
            if drift is not None:
                self._insert("drift", [(drift,)])
            for side, found in labels.items():
                if found:
                    self._relabel(side, found, str(label))
            for side, before in forget.items():
                self._con.execute(f'DELETE FROM rows_{side} WHERE "__time" < ?', [before])
            self._con.execute("DELETE FROM outbox WHERE seq < ?", [keep_from])
            self._con.execute(
                "DELETE FROM alarms WHERE (batch, name) NOT IN "
                "(SELECT max(batch), name FROM alarms GROUP BY name)"
            )

    def summary(self) -> tuple[int, list[Sums], list[Any]]:
        """The batch of the last summary, its records and windows; (-1, [], []) if there is none."""
        with self._errors("read"):
            found = self._con.execute("SELECT batch, change FROM panes").fetchall()
            windows = self._con.execute("SELECT body FROM windows").fetchall()
        if not found:
            return -1, [], []
        return found[0][0], unpack(found[0][1]), json.loads(windows[0][0])

    def later(self, batch: int) -> list[tuple[list[Sums], list[Any], dict[int, dict[int, Any]]]]:
        """What each batch after one added, said and labelled, in order."""
        sql = "SELECT change, said, labels FROM batches WHERE batch > ? ORDER BY batch"
        with self._errors("read"):
            found = self._con.execute(sql, [batch]).fetchall()
        return [
            (
                [] if change is None else unpack(change),
                [] if said is None else json.loads(said),
                {} if labels is None else _read_labels(labels),
            )
            for change, said, labels in found
        ]

    def sources(self) -> dict[str, tuple[int | None, int | None]]:
        """Offset and latest event time of every source."""
        sql = (
            "SELECT source, max(upto), max(latest) FROM (SELECT source, upto, latest FROM sources "
            "UNION ALL SELECT source, upto, latest FROM batches) WHERE source IS NOT NULL "
            "GROUP BY source"
        )
        with self._errors("read"):
            return {
                name: (upto, latest) for name, upto, latest in self._con.execute(sql).fetchall()
            }

    def drift(self) -> bytes | None:
        """How live rows compared with the training rows at the last summary."""
        with self._errors("read"):
            found = self._con.execute("SELECT state FROM drift").fetchall()
        return found[0][0] if found else None

    def marks(self) -> tuple[int | None, int]:
        """The watermark, and the number of the next row, after the last batch."""
        sql = (
            "SELECT max(mark), coalesce(max(next_row), 0) FROM (SELECT mark, next_row FROM panes "
            "UNION ALL SELECT mark, next_row FROM batches)"
        )
        with self._errors("read"):
            mark, next_row = self._con.execute(sql).fetchall()[0]
        return mark, int(next_row)

    def last_summary(self) -> int:
        """The batch of the last summary, -1 before the first."""
        with self._errors("read"):
            found = self._con.execute("SELECT max(batch) FROM panes").fetchall()[0][0]
        return -1 if found is None else int(found)

    def last_batch(self) -> int:
        """Number of the last batch, -1 before the first."""
        with self._errors("read"):
            found = self._con.execute(
                "SELECT max(batch) FROM "
                "(SELECT batch FROM panes UNION ALL SELECT batch FROM batches)"
            ).fetchall()[0][0]
        return -1 if found is None else int(found)

    def entries(self, after: int = -1, most: int | None = None) -> list[Entry]:
        """Lines of the outbox after a sequence number, in order."""
        sql = "SELECT seq, kind, body FROM outbox WHERE seq > ? ORDER BY seq"
        sql += "" if most is None else f" LIMIT {int(most)}"
        with self._errors("read"):
            found = self._con.execute(sql, [after]).fetchall()
        return [Entry(seq, kind, json.loads(body)) for seq, kind, body in found]

    def last_entry(self) -> int:
        """The highest sequence number, -1 if there is none."""
        with self._errors("read"):
            found = self._con.execute("SELECT max(seq) FROM outbox").fetchall()[0][0]
        return -1 if found is None else int(found)

    def alarms(self) -> dict[str, dict[str, Any]]:
        """The last state of every alarm."""
        sql = "SELECT name, arg_max(body, batch) FROM alarms GROUP BY name"
        with self._errors("read"):
            return {name: json.loads(body) for name, body in self._con.execute(sql).fetchall()}

    def rows(self, side: int, columns: str, condition: str = "true") -> pa.Table:
        """Kept rows of a side, by row number."""
        sql = f'SELECT {columns} FROM rows_{side} WHERE {condition} ORDER BY "__row"'
        with self._errors("read"):
            return self._con.sql(sql).to_arrow_table()

    def first_row(self, side: int) -> int | None:
        """The smallest number of a stored row."""
        with self._errors("read"):
            return self._con.execute(f'SELECT min("__row") FROM rows_{side}').fetchall()[0][0]

    def rows_numbered(self, side: int, numbers: Sequence[int]) -> pa.Table:
        """Rows of a side by their numbers, in ascending order of them."""
        listed = pa.table({"number": pa.array(numbers, pa.int64())})
        with self._errors("read"), registered(self._con, listed) as wanted:
            low, high = min(numbers), max(numbers)
            # The bounds let DuckDB skip row groups; rows arrive in the order of their numbers.
            sql = (
                f'SELECT * FROM rows_{side} WHERE "__row" BETWEEN {low} AND {high} AND '
                f'"__row" IN (SELECT number FROM {wanted}) ORDER BY "__row"'
            )
            return self._con.sql(sql).to_arrow_table()

    def late(self) -> pa.Table:
        """Rows that were not counted."""
        with self._errors("read"):
            return self._con.sql("SELECT * FROM late ORDER BY batch").to_arrow_table()

    def ask(self, sql: str) -> pa.Table:
        """A query of the user's over these tables; it cannot change them.

        Raises
        ------
        QueryError : it is not one SELECT, or DuckDB refuses it.
        """
        try:
            statements = self._con.extract_statements(sql)
            kinds = [statement.type.name for statement in statements]
            if kinds != ["SELECT"]:
                raise QueryError(
                    f"`query` is {sql!r}; give one SELECT: the state of a monitor is read only."
                )
            self._con.execute("BEGIN TRANSACTION READ ONLY")
            try:
                return self._con.sql(sql).to_arrow_table()
            finally:
                self._con.execute("ROLLBACK")
        except duckdb.Error as problem:
            raise QueryError(f"DuckDB refuses `{sql.strip()}`: {clean(problem)}.") from None

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._con.close()

    def _relabel(self, side: int, labels: dict[int, Any], column: str) -> None:
        new = pa.table({"number": list(labels), "label": list(labels.values())})
        name = quote(column)
        with registered(self._con, new) as found:
            self._con.execute(
                f"UPDATE rows_{side} SET {name} = new.label FROM {found} AS new "
                f'WHERE "__row" = new.number AND "__row" BETWEEN {min(labels)} AND {max(labels)}'
            )

    def _insert(self, table: str, lines: Iterable[Sequence[Any]]) -> None:
        listed = [list(line) for line in lines]
        holes = f"({', '.join('?' * len(listed[0]))})"
        self._con.execute(
            f"INSERT INTO {table} VALUES {', '.join([holes] * len(listed))}",
            [value for line in listed for value in line],
        )

    def _insert_outbox(self, batch: int, entries: Sequence[Entry]) -> None:
        lines = [(entry.seq, batch, entry.kind, _text(entry.body)) for entry in entries]
        if len(lines) <= _FEW:
            self._insert("outbox", lines)
            return
        columns = zip(("seq", "batch", "kind", "body"), zip(*lines, strict=True), strict=True)
        with registered(self._con, pa.table(dict(columns))) as new:
            self._con.execute(f"INSERT INTO outbox SELECT * FROM {new}")

    def _exists(self, table: str) -> bool:
        sql = (
            "SELECT count(*) FROM duckdb_tables() WHERE lower(schema_name) = lower(?) AND "
            "table_name = ? AND database_name = current_database()"
        )
        return bool(self._con.execute(sql, [self._name, table]).fetchall()[0][0])

    @contextmanager
    def together(self) -> Generator[None]:
        """What is written in this block is written as a whole, or not at all.

        Raises
        ------
        ArtifactError : as `write`.
        """
        with self._errors("write"), self._transaction():
            yield

    def give_up(self) -> None:
        """End a transaction that something interrupted, if there is one."""
        self._within = False
        with suppress(duckdb.Error):
            self._con.execute("ROLLBACK")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        if self._within:  # part of a larger one
            yield
            return
        try:
            self._within = True
            self._con.execute("BEGIN")
            yield
            self._con.execute("COMMIT")
        except BaseException:
            self.give_up()  # a failed COMMIT has rolled back already
            raise
        finally:
            self._within = False

    @contextmanager
    def _errors(self, doing: str) -> Generator[None]:
        try:
            yield
        except RainError:
            raise
        except duckdb.Error as problem:
            raise ArtifactError(
                f"cannot {doing} the state of `{self._name}` in `{self._place}`: "
                f"{clean(problem)}. The state is as it was before; mend the cause and send the "
                "batch again."
            ) from None


def _listed(labels: dict[int, dict[int, Any]]) -> list[Any]:
    return [
        [side, [[row, as_json(value)] for row, value in found.items()]]
        for side, found in labels.items()
    ]


def _read_labels(text: str) -> dict[int, dict[int, Any]]:
    return {
        side: {row: from_json(value) for row, value in found} for side, found in json.loads(text)
    }


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
