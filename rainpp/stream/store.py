"""The state of a monitor in one DuckDB file: every batch is one transaction.

Tables of a monitor lie in a schema of its name and may be read by anyone, with the columns:

- ``about (name, value)``: the query, its windows and columns, and the format's version.
- ``epochs (epoch, model, index, batch)``: fingerprints, and the batch they begin with.
- ``rows_0``, ``rows_1``: the rows of each table within retention: number, epoch, event time in
  microseconds, probabilities, derivatives or inputs where they are kept, and the columns the query
  reads.
- ``journal (batch, body, change, rows)``: the latest batches, a line each; every few dozen of them
  are moved into the other tables, and so they are before anything is read here. A state file that
  was closed has none.
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
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from rainpp.errors import ArtifactError, QueryError, RainError
from rainpp.relax.capture import registered
from rainpp.relax.catalog import clean, quote
from rainpp.stream.cells import Sums
from rainpp.stream.journal import (
    TABLE,
    Entry,
    Journal,
    Written,
    as_text,
    listed_labels,
    read_labels,
)
from rainpp.stream.packing import pack, unpack

FORMAT = 1
# Lines that go into one statement; more are quicker as an Arrow table, which costs 0.7 ms.
_FEW = 32
_MEMORY = ":memory:"
_LAST = "SELECT max(batch) FROM (SELECT batch FROM panes UNION ALL SELECT batch FROM batches)"
_BATCHES = (
    "batch", "source", "upto", "latest", "mark", "next_row", "change", "said", "labels"
)  # fmt: skip
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


class Store:
    """One monitor's tables."""

    def __init__(self, con: duckdb.DuckDBPyConnection, name: str, place: str) -> None:
        self._con, self._name, self._place = con, name, place
        self._schema = quote(name)
        self._within = self.closed = False
        self._journal = Journal(con, durable=place != _MEMORY)

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
                # A query of a user's reads this file and no other.
                con.execute("SET enable_external_access = false")
                con.execute("SET python_enable_replacements = false")
                # With the name of the database, which may be that of the schema too.
                (base,) = con.execute("SELECT current_database()").fetchall()[0]
                con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(base)}.{store._schema}")
                con.execute(f"USE {quote(base)}.{store._schema}")
                if not store._exists("about"):
                    with store._transaction():
                        con.execute(_TABLES)
                        store._insert("about", [("format", str(FORMAT))])
                con.execute(TABLE)
                store._journal.read()
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
        with self._errors("write"):
            self._journal.add(what)  # one statement, so it needs no transaction of its own

    @property
    def should_fold(self) -> bool:
        """Whether many batches wait in the journal."""
        return self._journal.is_long

    def fold(self) -> None:
        """Move the journal into the tables.

        Raises
        ------
        ArtifactError : as `write`.
        """
        if not self._journal.batches:
            return
        with self._errors("write"), self._transaction():
            batches = self._journal.batches
            for side in sorted(
                {side for what in batches for side in (*what.arrived, *what.removed)}
            ):
                self._fold_rows(side)
            self._insert_many("batches", _BATCHES, [_batch_line(what) for what in batches])
            self._insert_many(
                "outbox",
                ("seq", "batch", "kind", "body"),
                [
                    (entry.seq, what.batch, entry.kind, as_text(entry.body))
                    for what in batches
                    for entry in what.entries
                ],
            )
            self._insert_many(
                "late",
                ("batch", "source", "reason", "body"),
                [
                    (what.batch, what.source, reason, as_text(row))
                    for what in batches
                    for reason, row in what.late
                ],
            )
            self._insert_many(
                "alarms",
                ("batch", "name", "body"),
                [
                    (what.batch, name, as_text(body))
                    for what in batches
                    for name, body in what.alarms.items()
                ],
            )
            self._journal.empty()

    def _fold_rows(self, side: int) -> None:
        gone, new = self._journal.removed(side), self._journal.arrived(side)
        if gone:
            with registered(self._con, _numbers(gone)) as listed:
                self._con.execute(
                    f'DELETE FROM rows_{side} WHERE "__row" IN (SELECT number FROM {listed})'
                )
        if new is not None:
            with registered(self._con, new) as rows:
                self._con.execute(f"INSERT INTO rows_{side} SELECT * FROM {rows}")

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
            self.fold()
            for table in ("panes", "batches", "sources", "windows", "drift"):
                self._con.execute(f"DELETE FROM {table}")
            self._insert("panes", [(batch, mark, next_row, pack(records))])
            if sources:
                self._insert("sources", [(name, *values) for name, values in sources.items()])
            self._insert("windows", [(as_text(windows),)])
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
        with self._folded():
            found = self._con.execute(sql, [batch]).fetchall()
        return [
            (
                [] if change is None else unpack(change),
                [] if said is None else json.loads(said),
                {} if labels is None else read_labels(json.loads(labels)),
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
        with self._folded():
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
        with self._folded():
            mark, next_row = self._con.execute(sql).fetchall()[0]
        return mark, int(next_row)

    def last_summary(self) -> int:
        """The batch of the last summary, -1 before the first."""
        with self._errors("read"):
            found = self._con.execute("SELECT max(batch) FROM panes").fetchall()[0][0]
        return -1 if found is None else int(found)

    def last_batch(self) -> int:
        """Number of the last batch, -1 before the first."""
        with self._folded():
            found = self._con.execute(_LAST).fetchall()[0][0]
        return -1 if found is None else int(found)

    def entries(self, after: int = -1, most: int | None = None) -> list[Entry]:
        """Lines of the outbox after a sequence number, in order."""
        waiting = self._journal.entries()
        found: list[Entry] = []
        if not waiting or after + 1 < waiting[0].seq:
            sql = "SELECT seq, kind, body FROM outbox WHERE seq > ? ORDER BY seq"
            sql += "" if most is None else f" LIMIT {int(most)}"
            with self._errors("read"):
                lines = self._con.execute(sql, [after]).fetchall()
            found = [Entry(seq, kind, json.loads(body)) for seq, kind, body in lines]
        return [*found, *(entry for entry in waiting if entry.seq > after)][:most]

    def last_entry(self) -> int:
        """The highest sequence number, -1 if there is none."""
        with self._folded():
            found = self._con.execute("SELECT max(seq) FROM outbox").fetchall()[0][0]
        return -1 if found is None else int(found)

    def alarms(self) -> dict[str, dict[str, Any]]:
        """The last state of every alarm."""
        sql = "SELECT name, arg_max(body, batch) FROM alarms GROUP BY name"
        with self._folded():
            return {name: json.loads(body) for name, body in self._con.execute(sql).fetchall()}

    def rows(self, side: int, columns: str, condition: str = "true") -> pa.Table:
        """Kept rows of a side, by row number."""
        with self._errors("read"), self._all_rows(side) as rows:
            sql = f'SELECT {columns} FROM {rows} WHERE {condition} ORDER BY "__row"'
            return self._con.sql(sql).to_arrow_table()

    def first_row(self, side: int) -> int | None:
        """The smallest number of a stored row."""
        with self._folded():
            return self._con.execute(f'SELECT min("__row") FROM rows_{side}').fetchall()[0][0]

    def rows_numbered(self, side: int, numbers: Sequence[int]) -> pa.Table:
        """Rows of a side by their numbers, in ascending order of them."""
        low, high = min(numbers), max(numbers)
        with (
            self._errors("read"),
            self._all_rows(side) as rows,
            registered(self._con, _numbers(numbers)) as wanted,
        ):
            # The bounds let DuckDB skip row groups; rows arrive in the order of their numbers.
            sql = (
                f'SELECT * FROM {rows} WHERE "__row" BETWEEN {low} AND {high} AND '
                f'"__row" IN (SELECT number FROM {wanted}) ORDER BY "__row"'
            )
            return self._con.sql(sql).to_arrow_table()

    @contextmanager
    def _all_rows(self, side: int) -> Generator[str]:
        """SQL for the rows of a side: those of the table, and those that wait in the journal."""
        gone, new = self._journal.removed(side), self._journal.arrived(side)
        with ExitStack() as stack:
            name: Callable[[pa.Table], str] = lambda table: stack.enter_context(  # noqa: E731
                registered(self._con, table)
            )
            rows = f"rows_{side}"
            if gone:
                listed = name(_numbers(gone))
                rows = f'(SELECT * FROM {rows} WHERE "__row" NOT IN (SELECT number FROM {listed}))'
            if new is not None:
                rows = f"(SELECT * FROM {rows} UNION ALL SELECT * FROM {name(new)})"
            yield rows

    def late(self) -> pa.Table:
        """Rows that were not counted."""
        with self._folded():
            return self._con.sql("SELECT * FROM late ORDER BY batch").to_arrow_table()

    def ask(self, sql: str) -> pa.Table:
        """A query of the user's over these tables; it cannot change them.

        Raises
        ------
        QueryError : it is not one SELECT, or DuckDB refuses it.
        """
        self.fold()
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
        """Close the file; what waits in the journal is read when it is opened again."""
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

    def _insert_many(
        self, table: str, names: Sequence[str], lines: Sequence[Sequence[Any]]
    ) -> None:
        if not lines:
            return
        if len(lines) <= _FEW:
            self._insert(table, lines)
            return
        columns = zip(names, zip(*lines, strict=True), strict=True)
        with registered(self._con, pa.table(dict(columns))) as new:
            self._con.execute(f"INSERT INTO {table} SELECT * FROM {new}")

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

    def connection(self) -> duckdb.DuckDBPyConnection:
        """Its connection, for other tables of the monitor; hold the monitor's lock meanwhile."""
        return self._con

    def give_up(self) -> None:
        """End a transaction that something interrupted, if there is one."""
        self._back_to(self._journal.batches)

    def _back_to(self, journal: Sequence[Written]) -> None:
        self._within = False
        with suppress(duckdb.Error):
            self._con.execute("ROLLBACK")
        with suppress(duckdb.Error):
            moved = self._con.execute(_LAST).fetchall()[0][0]
            self._journal.back_to(journal, -1 if moved is None else int(moved))

    @contextmanager
    def _transaction(self) -> Generator[None]:
        if self._within:  # part of a larger one
            yield
            return
        before = self._journal.batches.copy()
        try:
            self._within = True
            self._con.execute("BEGIN")
            yield
            self._con.execute("COMMIT")
        except BaseException:
            self._back_to(before)  # a failed COMMIT has rolled back already
            raise
        finally:
            self._within = False

    @contextmanager
    def _folded(self) -> Generator[None]:
        """Reading tables, with the journal moved into them first."""
        self.fold()
        with self._errors("read"):
            yield

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


def _numbers(numbers: Sequence[int]) -> pa.Table:
    return pa.table({"number": pa.array(numbers, pa.int64())})


def _batch_line(what: Written) -> tuple[Any, ...]:
    change = pack(what.change) if what.change else None
    said = as_text(what.said) if what.said else None
    labels = as_text(listed_labels(what.labels)) if what.labels else None
    line = (what.batch, what.source, what.upto, what.latest, what.mark, what.next_row)
    return (*line, change, said, labels)
