"""What hooks have been told, in the monitor's own tables: cursors, what waits, what was given up.

- ``hooks (hook, disabled, delivered, failed)``: failed attempts, and why it wants no more.
- ``topics (hook, topic, cursor, attached)``: how far it has been told of an alarm, of "*" or of
  "change": every line of the outbox up to `cursor` is delivered, waits, or is dead.
- ``waiting (hook, seq, kind, body, attempts, due, why)``: what did not arrive, and what stands
  behind it.
- ``dead_letters (hook, seq, key, kind, body, attempts, given_up, why)``.

Bodies are copies: the outbox may forget a line that waits. Times are seconds since 1970. Whoever
calls holds the monitor's lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from rainpp.errors import ArtifactError
from rainpp.relax.catalog import clean
from rainpp.stream.store import Store

# A hook that nobody has attached for so long is not waited for: retries end after three days.
_WAITED_FOR = 30 * 86_400.0
# Of one hook; older ones go.
_MOST_DEAD = 100_000
_TABLES = """
CREATE TABLE IF NOT EXISTS hooks (hook VARCHAR, disabled VARCHAR, delivered BIGINT, failed BIGINT);
CREATE TABLE IF NOT EXISTS topics (hook VARCHAR, topic VARCHAR, "cursor" BIGINT, attached DOUBLE);
CREATE TABLE IF NOT EXISTS waiting (hook VARCHAR, seq BIGINT, kind VARCHAR, body VARCHAR,
    attempts INTEGER, due DOUBLE, why VARCHAR);
CREATE TABLE IF NOT EXISTS dead_letters (hook VARCHAR, seq BIGINT, "key" VARCHAR, kind VARCHAR,
    body VARCHAR, attempts INTEGER, given_up DOUBLE, why VARCHAR)
"""


@dataclass(frozen=True)
class Letter:
    """A line of the outbox that one hook has not been told yet.

    Attributes
    ----------
    attempts : how often it was tried.
    due : when it is tried again; 0 for one that stands behind another.
    why : what went wrong last.
    """

    seq: int
    kind: str
    body: dict[str, Any]
    attempts: int = 0
    due: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Progress:
    """What happened to a hook since it was last written down.

    Attributes
    ----------
    cursors : by topic.
    gone : lines that do not wait any more.
    waiting : lines that wait, or wait anew.
    dead : lines that were given up, and when.
    """

    cursors: dict[str, int]
    disabled: str | None
    delivered: int
    failed: int
    gone: Sequence[int] = ()
    waiting: Sequence[Letter] = ()
    dead: Sequence[tuple[Letter, float]] = ()


@dataclass(frozen=True)
class Standing:
    """How far a hook has come.

    Attributes
    ----------
    cursors : by topic.
    disabled : why it wants no more; None while it does.
    delivered, failed : events that arrived, and attempts that did not.
    """

    cursors: dict[str, int]
    disabled: str | None = None
    delivered: int = 0
    failed: int = 0
    waiting: list[Letter] = field(default_factory=list[Letter])


class Deliveries:
    """The tables of deliveries in a monitor's schema; they are made when the first hook comes."""

    def __init__(self, store: Store) -> None:
        self._store, self._made = store, False

    def lowest_needed(self, now: float | None = None) -> int | None:
        """The first line of the outbox that a hook has not seen; None if no hook needs any."""
        at = time.time() if now is None else now
        if not self._there():
            return None
        sql = 'SELECT min("cursor") FROM topics WHERE attached > ?'
        found = self._read(sql, [at - _WAITED_FOR])[0][0]
        return None if found is None else int(found) + 1

    def attach(self, hook: str, topic: str, *, start: int, now: float) -> Standing:
        """How far a hook has come; one that is new to a topic begins after line `start`."""
        with self._store.together():
            if not self._there():
                self._do(_TABLES)
            if not self._read("SELECT 1 FROM hooks WHERE hook = ?", [hook]):
                self._do("INSERT INTO hooks VALUES (?, NULL, 0, 0)", [hook])
            where = [hook, topic]
            if self._read("SELECT 1 FROM topics WHERE hook = ? AND topic = ?", where):
                sql = "UPDATE topics SET attached = ? WHERE hook = ? AND topic = ?"
                self._do(sql, [now, *where])
            else:
                self._do("INSERT INTO topics VALUES (?, ?, ?, ?)", [*where, start, now])
        return self.standing(hook)

    def standing(self, hook: str) -> Standing:
        """How far a hook has come."""
        rows = self._read('SELECT topic, "cursor" FROM topics WHERE hook = ?', [hook])
        line = self._read("SELECT disabled, delivered, failed FROM hooks WHERE hook = ?", [hook])
        sql = "SELECT seq, kind, body, attempts, due, why FROM waiting WHERE hook = ? ORDER BY seq"
        letters = [
            Letter(seq, kind, json.loads(body), *rest)
            for seq, kind, body, *rest in self._read(sql, [hook])
        ]
        return Standing(dict(rows), *line[0], waiting=letters)

    def save(self, hook: str, what: Progress, now: float) -> None:
        """Write down what happened, as a whole or not at all."""
        with self._store.together():
            for topic, cursor in what.cursors.items():
                self._do(
                    'UPDATE topics SET "cursor" = ?, attached = ? WHERE hook = ? AND topic = ?',
                    [cursor, now, hook, topic],
                )
            self._do(
                "UPDATE hooks SET disabled = ?, delivered = ?, failed = ? WHERE hook = ?",
                [what.disabled, what.delivered, what.failed, hook],
            )
            again = [letter.seq for letter in what.waiting]
            if what.gone or again:
                sql = "DELETE FROM waiting WHERE hook = ? AND seq IN (SELECT unnest(?::BIGINT[]))"
                self._do(sql, [hook, [*what.gone, *again]])
            self._insert("waiting", ((hook, *_line(letter)) for letter in what.waiting))
            if what.dead:
                self._insert("dead_letters", (_dead(hook, *item) for item in what.dead))
                self._forget_dead(hook)

    def dead(self) -> pa.Table:
        """Everything that was given up, oldest first."""
        columns = (
            'hook, seq, "key", kind, attempts, '
            "make_timestamp((given_up * 1e6)::BIGINT) AS given_up, why, body"
        )
        if not self._there():
            return pa.table(
                {name: pa.array([], kind) for name, kind in _DEAD_COLUMNS.items()},
            )
        sql = f"SELECT {columns} FROM dead_letters ORDER BY given_up, hook, seq"
        try:
            return self._store.connection().sql(sql).to_arrow_table()
        except duckdb.Error as problem:
            raise ArtifactError(f"cannot read the dead letters: {clean(problem)}.") from None

    def revive(self, hook: str | None, key: str | None) -> dict[str, list[Letter]]:
        """Let dead letters wait again, as if they were new; which, by hook.

        A hook that wanted no more is asked again.
        """
        found: dict[str, list[Letter]] = {} if hook is None else {hook: []}
        if not self._there():
            return found
        where = '(?::VARCHAR IS NULL OR hook = ?) AND (?::VARCHAR IS NULL OR "key" = ?)'
        values = [hook, hook, key, key]
        sql = f"SELECT hook, seq, kind, body FROM dead_letters WHERE {where} ORDER BY seq"
        with self._store.together():
            for name, seq, kind, body in self._read(sql, values):
                found.setdefault(name, []).append(Letter(seq, kind, json.loads(body)))
            self._do(
                "INSERT INTO waiting SELECT hook, seq, kind, body, 0, 0, '' FROM dead_letters "
                f"WHERE {where}",
                values,
            )
            self._do(f"DELETE FROM dead_letters WHERE {where}", values)
            for name in found:
                self._do("UPDATE hooks SET disabled = NULL WHERE hook = ?", [name])
        return found

    def counts(self) -> list[tuple[str, str, int, int, int, int]]:
        """(hook, why it is disabled or "", delivered, failed attempts, waiting, dead)."""
        if not self._there():
            return []
        return self._read(
            "SELECT hook, coalesce(disabled, ''), delivered, failed, "
            "(SELECT count(*) FROM waiting AS w WHERE w.hook = h.hook), "
            "(SELECT count(*) FROM dead_letters AS d WHERE d.hook = h.hook) "
            "FROM hooks AS h ORDER BY hook"
        )

    def _forget_dead(self, hook: str) -> None:
        self._do(
            "DELETE FROM dead_letters WHERE hook = ? AND seq <= (SELECT coalesce(min(seq), -1) - 1 "
            "FROM (SELECT seq FROM dead_letters WHERE hook = ? ORDER BY seq DESC LIMIT ?))",
            [hook, hook, _MOST_DEAD],
        )

    def _there(self) -> bool:
        """Whether the tables are; once they are they stay."""
        if not self._made:
            sql = (
                "SELECT count(*) FROM duckdb_tables() WHERE schema_name = current_schema() AND "
                "database_name = current_database() AND table_name = 'dead_letters'"
            )
            self._made = bool(self._read(sql)[0][0])
        return self._made

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._store.connection().execute(sql, list(values)).fetchall()
        except duckdb.Error as problem:
            raise ArtifactError(f"cannot read what hooks were told: {clean(problem)}.") from None

    def _do(self, sql: str, values: Sequence[Any] = ()) -> None:
        self._store.connection().execute(sql, list(values))

    def _insert(self, table: str, lines: Iterable[Sequence[Any]]) -> None:
        listed = list(lines)
        if not listed:
            return
        # One statement: a thousand of them cost 0.3 s, one of a thousand lines 20 ms.
        holes = f"({', '.join('?' * len(listed[0]))})"
        self._do(
            f"INSERT INTO {table} VALUES {', '.join([holes] * len(listed))}",
            [value for line in listed for value in line],
        )


_DEAD_COLUMNS = {
    "hook": pa.string(),
    "seq": pa.int64(),
    "key": pa.string(),
    "kind": pa.string(),
    "attempts": pa.int32(),
    "given_up": pa.timestamp("us"),
    "why": pa.string(),
    "body": pa.string(),
}


def _line(letter: Letter) -> tuple[Any, ...]:
    body = json.dumps(letter.body, ensure_ascii=False)
    return letter.seq, letter.kind, body, letter.attempts, letter.due, letter.why


def _dead(hook: str, letter: Letter, at: float) -> tuple[Any, ...]:
    seq, kind, body, attempts, _, why = _line(letter)
    return hook, seq, letter.body["key"], kind, body, attempts, at, why
