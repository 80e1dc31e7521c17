"""Relations between operators: ordinary rows in DuckDB, an event id and an owner for each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.capture import place_rows, registered
from rainpp.relax.catalog import clean, quote
from rainpp.relax.dialect import render
from rainpp.relax.masks import literal, sql_type
from rainpp.relax.nested.algebra import ALWAYS, NEVER, Algebra, Index
from rainpp.relax.nested.blocks import Base
from rainpp.relax.nested.wording import worded
from rainpp.relax.query import Slot
from rainpp.relax.rowsums import Predictions
from rainpp.types import ClassValue

ROW = "__row"
MAX_ROWS = 20_000_000


@dataclass(eq=False, slots=True)
class Relation:
    """The rows of one operator's result; DuckDB reads them as `name`, with their number as ROW.

    Row i is there in event `ids[i]`. Rows with one `owner` are alternatives: the values one answer
    row takes in different worlds. `cells` are the columns whose value, not presence, is uncertain.
    """

    table: pa.Table
    ids: Index
    owner: Index
    cells: frozenset[str]
    _register: Callable[[pa.Table], str]
    _name: str = ""

    @property
    def name(self) -> str:
        """A quoted name under which SQL sees the rows; half of all results are never read so."""
        if not self._name:
            self._name = self._register(self.table)
        return self._name

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns a query sees."""
        return tuple(name for name in self.table.column_names if name != ROW)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One line of the explanation: an operator, what it did, and how many rows came out."""

    depth: int
    operator: str
    detail: str
    rows: int


@dataclass(eq=False)
class Context:
    """What every stage of one evaluation shares."""

    con: duckdb.DuckDBPyConnection
    dialect: Dialect
    algebra: Algebra
    predictions: Predictions
    slots: Sequence[Slot]
    classes: Sequence[tuple[ClassValue, ...]]
    bases: dict[str, Base]
    calls: dict[int, str]
    stack: ExitStack
    steps: list[Step] = field(default_factory=list[Step])
    depth: int = 0

    def note(self, operator: str, detail: str, rows: int) -> None:
        """Remember what was done, for `explain`."""
        self.steps.append(Step(self.depth, operator, detail, rows))

    def sql(self, node: exp.Expr) -> str:
        """SQL of a lowered expression."""
        return render(node, self.dialect)

    def shown(self, node: exp.Expr) -> str:
        """SQL of a lowered expression as the user would write it."""
        return worded(self.sql(node), self.calls, self.bases.values())

    def fetch(self, sql: str) -> pa.Table:
        """All rows of `sql`.

        Raises
        ------
        QueryError : DuckDB refuses it.
        """
        try:
            return self.con.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"DuckDB refuses the query: {self.clean(error)}.") from None

    @functools.cached_property
    def collates(self) -> bool:
        """Whether text of intermediate results may be equal without being identical."""
        found = self.con.execute("SELECT current_setting('default_collation') <> ''").fetchall()
        return bool(found[0][0])

    def clean(self, error: Exception) -> str:
        """DuckDB's message with predictions as the user wrote them."""
        text = clean(error)
        for slot, call in self.calls.items():
            text = text.replace(f"__prediction_{slot}", call)
        return text

    def register(self, table: pa.Table) -> str:
        """A quoted name under which SQL sees `table` until the evaluation ends."""
        return quote(self.stack.enter_context(registered(self.con, table)))

    def relation(
        self, table: pa.Table, ids: Index, owner: Index, cells: frozenset[str] = frozenset()
    ) -> Relation:
        """Keep the rows that can be there, numbered, and let SQL see them."""
        table, possible = _unnumbered(table), ids != NEVER
        if not possible.all():
            chosen = np.flatnonzero(possible)
            table, ids, owner = table.take(pa.array(chosen)), ids[chosen], owner[chosen]
        if len(ids) > MAX_ROWS:
            raise UnsupportedQueryError(
                "the query",
                why=f"{len(ids)} rows could be in an intermediate result; the limit is {MAX_ROWS}",
                instead="Add conditions that do not involve predictions",
            )
        number = pa.array(np.arange(len(ids), dtype=np.int64))
        # A table without columns forgets how many rows it has.
        bare = pa.table({ROW: number})
        numbered = table.append_column(ROW, number) if table.num_columns else bare
        return Relation(numbered, ids, dense(owner), cells, self.register)

    def places(self, slot: int, rids: Index) -> Index:
        """Positions of table rows among the predictions of a slot."""
        return place_rows(self.predictions.tables[slot], rids)

    def expanded(self, base: Base) -> str:
        """A base table with one row per combination of predicted classes."""
        columns = [f"t.{quote(name)}" for name in base.entry.columns]
        parts = [f"{base.entry.qualified} AS t"]
        columns.append("t.rowid AS rowid")
        for slot in sorted(base.slots):
            kind = sql_type(tuple(self.classes[slot]))
            values = ", ".join(
                f"({i}, {literal(value, kind)})" for i, value in enumerate(self.classes[slot])
            )
            parts.append(f"(VALUES {values}) AS h{slot}(c, v)")
            columns += [f"h{slot}.c AS __class_{slot}", f"h{slot}.v AS __prediction_{slot}"]
        return f"(SELECT {', '.join(columns)} FROM {' CROSS JOIN '.join(parts)})"


def certain_ids(n: int) -> Index:
    """(n,) events that always hold."""
    return np.full(n, ALWAYS, np.int64)


def combined_owner(columns: Sequence[Index], n: int) -> Index:
    """One number per distinct combination of owners."""
    if not columns:
        return np.arange(n, dtype=np.int64)
    code = columns[0]
    for column in columns[1:]:
        wide = dense(column)
        code = dense(dense(code) * (int(wide.max(initial=0)) + 1) + wide)
    return code


def dense(codes: Index) -> Index:
    """The same distinctions and order with the numbers 0, 1, ..., all of them used."""
    if not len(codes):
        return codes
    steps = np.diff(codes)
    if (steps >= 0).all():
        return np.cumsum(np.concatenate([[0], steps > 0]), dtype=np.int64)
    low = int(codes.min())
    span = int(codes.max()) - low + 1
    if span > 4 * len(codes) + 1000:
        return np.unique(codes, return_inverse=True)[1].astype(np.int64)
    # A table of all numbers: 2 ms for 100 000 codes, where sorting takes 9.
    used = np.zeros(span, np.int64)
    used[codes - low] = 1
    return (np.cumsum(used) - 1)[codes - low]


def _unnumbered(table: pa.Table) -> pa.Table:
    return table.drop_columns([ROW]) if ROW in table.column_names else table
