"""One query on another database against the answer in process."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pyarrow as pa

from rainpp.relax import ask
from rainpp.relax.answer import evaluate
from rainpp.relax.plan import make_plan
from rainpp.relax.portable import generate, long_form
from tests.relax.portable.engines import same
from tests.relax.worlds import predictions


class Trial:
    """A query planned on `con`, its answer in process, and its portable form."""

    def __init__(self, con, sql, probabilities, functions):
        self.con, self.sql = con, sql
        self.plan = make_plan(sql, con, functions)
        self.tables = predictions(con, self.plan, probabilities, functions)
        self.answer = evaluate(self.plan, con, self.tables)
        self.made = generate(self.plan, con)

    @functools.cached_property
    def best(self):
        """The answer by whichever evaluator knows existence exactly."""
        return ask.answer(self.plan, self.con, self.tables)

    def load(self, engine, loaded=None):
        """The tables of the query, with row ids, and the probabilities in the long form."""
        for source in self.plan.query.sources:
            name = source.table
            if loaded is None or name not in loaded:
                text = f"SELECT rowid AS rid, * FROM {source.qualified}"
                engine.load(name, self.con.sql(text).to_arrow_table())
                if loaded is not None:
                    loaded.add(name)
        for table in self.made.tables:
            frame = long_form(self.tables[table.slot])
            engine.load(table.name, pa.Table.from_pandas(frame, preserve_index=False))

    def values(self, engine):
        """Rows of the value SQL on one database."""
        return engine.run(self.made.value_sql(engine.dialect))

    def check(self, engine, *, gradients=True):
        """Values, existence and slopes of every cell agree."""
        rows, met = self.values(engine), set()
        width = len(self.made.keys)
        assert self.made.exists == (len(rows[0]) > width + len(self.made.cells)) if rows else True
        for row in rows:
            position = self._position(row[:width])
            met.add(position)
            self._check_row(row, position)
        assert set(range(len(self.answer.frame))) <= met, (self.sql, rows)
        if gradients:
            # A query takes a process in Postgres and seconds in Spark.
            most = 2 if engine.dialect in ("postgres", "spark") else None
            positions = sorted(met - {None})[:most]
            for position, cell in itertools.product(positions, range(len(self.cells))):
                self._check_gradient(engine, position, cell)

    @property
    def cells(self):
        return self.answer.columns

    def _position(self, key, answer=None):
        """Which row of the plain answer has this key; None if none has."""
        answer = answer or self.answer
        for position in range(len(answer.frame)):
            expected = answer.key(position).values()
            # One expression twice in SELECT is one key here and two there.
            if all(same(a, b) for a, b in zip(key, expected, strict=False)):
                return position
        return None

    def _check_row(self, row, position):
        width = len(self.made.keys)
        if position is None:  # a group that could be there: the in-process answer knows it too
            return
        for seen, name in zip(row[width:], self.cells, strict=False):
            expected = self.answer.cell(position, name)[1]
            assert same(seen, expected), (self.sql, row, name, expected)
        if self.made.exists:
            # Another run of the query: its rows may be in another order.
            twin = self._position(row[:width], self.best)
            expected = float(self.best.relaxed["_exists"].iloc[twin])
            assert same(row[-1], expected), (self.sql, row, expected)

    def _check_gradient(self, engine, position, cell):
        expected = self.answer.gradient(position, self.cells[cell])
        key = tuple(self.answer.key(position).values())
        for table in self.made.tables:
            sql = self.made.gradient_sql(engine.dialect, cell=cell, key=key, table=table.name)
            found = self.tables[table.slot]
            seen = np.zeros(found.probabilities.shape)
            for rid, cls, slope in engine.run(sql):
                seen[np.searchsorted(found.rowids, int(rid)), int(cls)] += float(slope)
            wanted = expected[table.slot.model, table.slot.table]
            assert_same_slopes(seen, wanted, self.sql)


def assert_same_slopes(seen, wanted, sql):
    """Equal but for a constant per row, which no change of probabilities that sum to 1 notices."""
    off = (seen - seen.mean(axis=1, keepdims=True)) - (wanted - wanted.mean(axis=1, keepdims=True))
    assert np.abs(off).max(initial=0.0) <= 1e-9 * max(1.0, np.abs(wanted).max(initial=0.0)), sql
