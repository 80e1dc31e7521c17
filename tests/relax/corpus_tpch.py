"""TPC-H and other fixtures of sqlglot's source distribution with a learned predicate added.

The queries and data are read from a path the caller names; nothing of them is kept here. Foreign
keys are spread anew over the keys that exist, as the shipped sample joins hardly any rows.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from scipy.stats import binomtest
from sqlglot import exp

import rainpp
from rainpp.errors import RainError, UnsupportedQueryError
from rainpp.relax.dialect import dialect_for
from tests.relax.corpus_certain import certain_differences, python
from tests.relax.enumeration import plain

FIXTURES = Path("tests/fixtures/optimizer")
LIMIT_S = 30
WORLDS = 40
DIALECT = dialect_for(["predict"])

TARGETS = {
    1: "lineitem", 2: "partsupp", 3: "orders", 4: "lineitem", 5: "lineitem", 6: "lineitem",
    7: "lineitem", 8: "orders", 9: "lineitem", 10: "orders", 11: "partsupp", 12: "orders",
    13: "orders", 14: "part", 15: "lineitem", 16: "partsupp", 17: "lineitem", 18: "lineitem",
    19: "lineitem", 20: "lineitem", 21: "lineitem", 22: "customer",
}  # fmt: skip
"""The table a model predicts in each query: its innermost SELECT gets the condition."""

# Every foreign key and the table it spreads over: one n-th of the keys there, so that many meet.
_SPREAD = {
    "lineitem": {"l_orderkey": ("orders", "o_orderkey", 4), "l_partkey": ("part", "p_partkey", 2),
                 "l_suppkey": ("supplier", "s_suppkey", 16)},
    "partsupp": {"ps_partkey": ("part", "p_partkey", 2),
                 "ps_suppkey": ("supplier", "s_suppkey", 16)},
    "orders": {"o_custkey": ("customer", "c_custkey", 2)},
}  # fmt: skip
_TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")


class TimeUp(Exception):
    """A query took longer than `LIMIT_S`."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `TimeUp` in this thread after some seconds."""

    def end(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def load(folder: Path) -> duckdb.DuckDBPyConnection:
    """The TPC-H tables, each with a row number `x`, foreign keys spread over existing keys."""
    con = duckdb.connect()
    for table in _TABLES:
        path = folder / "tpc-h" / f"{table}.csv.gz"
        con.execute(
            f"CREATE TABLE {table} AS SELECT *, row_number() OVER () AS x "
            f"FROM read_csv('{path}', delim='|', header=true)"
        )
    for table, columns in _SPREAD.items():
        replaced = ", ".join(
            f"(SELECT list(k ORDER BY k) FROM (SELECT DISTINCT {key} AS k FROM {other}))"
            f"[1 + (x * 7) % (SELECT count(DISTINCT {key}) // {share} FROM {other})] AS {column}"
            for column, (other, key, share) in columns.items()
        )
        con.execute(f"CREATE TABLE spread AS SELECT * REPLACE ({replaced}) FROM {table} ORDER BY x")
        con.execute(f"DROP TABLE {table}")
        con.execute(f"ALTER TABLE spread RENAME TO {table}")
    return con


def statements(path: Path) -> list[str]:
    """The original statements of a fixture file of (original, optimised) pairs."""
    text = "\n".join(
        line for line in path.read_text().splitlines() if line and not line.startswith("--")
    )
    parts = [part.strip() for part in text.split(";")]
    return ["\n".join(x for x in p.splitlines() if not x.startswith("#")) for p in parts[::2] if p]


def with_predicate(sql: str, table: str) -> str:
    """`sql` with `AND predict(table.x) = 1` in the innermost SELECT that reads the table."""
    tree = DIALECT.parse(sql)[0]
    assert isinstance(tree, exp.Query)
    found = [
        (node.find_ancestor(exp.Select), node)
        for node in tree.find_all(exp.Table)
        if node.name == table
    ]
    select, node = max(found, key=lambda pair: _depth(pair[0]))
    condition = DIALECT.parse(f"SELECT predict({node.alias_or_name}.x) = 1")[0].selects[0]
    join = node.parent
    if isinstance(join, exp.Join) and join.side:
        join.set("on", exp.and_(join.args["on"], condition, copy=False))
    else:
        select.where(condition, copy=False)
    return tree.sql(dialect=DIALECT, normalize_functions=False)


def _depth(node: exp.Expr | None) -> int:
    return 0 if node is None else 1 + _depth(node.parent)


class Truth:
    """The plain queries, `predict` being a macro over the classes of one table's rows."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con.cursor()
        self._con.execute(
            "CREATE TEMP MACRO predict(f) AS list_extract(getvariable('flags')::BIGINT[], f)"
        )

    def rows(self, sql: str, flags: np.ndarray) -> list[tuple]:
        """DuckDB's answer when row i of the table is predicted as `flags[i]`."""
        self._con.execute(f"SET VARIABLE flags = {flags.tolist()}")
        return self._con.execute(plain(sql, ["predict"])).fetchall()


def table(sdist: Path) -> Iterator[dict[str, Any]]:
    """One line for each TPC-H query: what became of it with certain and uncertain flags."""
    con = load(sdist / FIXTURES)
    queries = statements(sdist / FIXTURES / "tpc-h" / "tpc-h.sql")
    for number, sql in enumerate(queries, 1):
        yield {"query": number, "table": TARGETS[number], **_line(con, sql, TARGETS[number])}


def _line(con: duckdb.DuckDBPyConnection, sql: str, target: str) -> dict[str, Any]:
    sql = with_predicate(sql, target)
    size = con.execute(f"SELECT count(*) FROM {target}").fetchall()[0][0]
    flags = (np.random.default_rng(1).random(size) < 0.7).astype(np.int64)
    line: dict[str, Any] = {}
    started = time.perf_counter()
    line["certain"], line["certain_detail"] = _certain(con, sql, target, flags)
    line["certain_s"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    line["uncertain"], line["uncertain_detail"] = _uncertain(con, sql, target, flags)
    line["uncertain_s"] = round(time.perf_counter() - started, 2)
    return line


def _certain(con: duckdb.DuckDBPyConnection, sql: str, target: str, flags: np.ndarray):
    rows = Truth(con).rows(sql, flags)
    try:
        with limited(LIMIT_S):
            answer = _asked(con, sql, target, np.eye(2)[flags])
            problem = next(certain_differences(answer, rows, _roles(answer)), None)
    except UnsupportedQueryError as refusal:
        return "refused", str(refusal)
    except (RainError, TimeUp, Exception) as failure:  # noqa: BLE001  the table names any failure
        return "failed", f"{type(failure).__name__}: {failure}"[:300]
    if problem:
        return "wrong", problem
    return "agrees", f"{len(rows)} rows; {answer.method}"


def _roles(answer) -> dict[str, str]:
    return dict.fromkeys(answer.columns, "total")


def _asked(con: duckdb.DuckDBPyConnection, sql: str, target: str, probabilities: np.ndarray):
    database = rainpp.connect(con)
    database.register_predictions("predict", table=target, probabilities=probabilities)
    return database.sql(sql).answer


def _uncertain(con: duckdb.DuckDBPyConnection, sql: str, target: str, flags: np.ndarray):
    """Confident predictions: the relaxed cells against the mean over sampled worlds."""
    rng = np.random.default_rng(2)
    chance = np.where(flags == 1, rng.uniform(0.55, 0.99, len(flags)), rng.uniform(0.01, 0.45))
    try:
        with limited(LIMIT_S):
            answer = _asked(con, sql, target, np.stack([1 - chance, chance], axis=1))
            relaxed = answer.relaxed
    except UnsupportedQueryError as refusal:
        return "refused", str(refusal)
    except (RainError, TimeUp, Exception) as failure:  # noqa: BLE001  the table names any failure
        return "failed", f"{type(failure).__name__}: {failure}"[:300]
    truth = Truth(con)
    drawn = [truth.rows(sql, (rng.random(len(chance)) < chance) * 1) for _ in range(WORLDS)]
    problem = _sampled_difference(answer, relaxed, drawn)
    return ("wrong" if problem else "agrees"), problem or answer.method


def _sampled_difference(answer, relaxed, drawn: list[list[tuple]]) -> str | None:
    """The first row or cell that sampled worlds make incredible, at one in ten million."""
    names = list(answer.frame.columns)
    known = [i for i, name in enumerate(names) if name not in answer.columns]
    seen = [{tuple(str(python(row[i])) for i in known): row for row in rows} for rows in drawn]
    columns = [[str(python(v)) for v in answer.frame.iloc[:, i].tolist()] for i in known]
    exists = np.clip(relaxed["_exists"].to_numpy(), 0.0, 1.0)
    for position in range(len(relaxed)):
        key = tuple(column[position] for column in columns)
        rows = [found.get(key) for found in seen]
        present = sum(row is not None for row in rows)
        if binomtest(present, len(rows), exists[position]).pvalue < 1e-7:
            return f"row {key} exists with {exists[position]}, in {present} of {len(rows)} worlds"
        for name in answer.columns:
            place, value = names.index(name), answer.cell(position, name)[1]
            if not _credible(value, [None if row is None else row[place] for row in rows]):
                return f"{name} of {key} relaxed to {value}"
    return None


def _credible(value: float, drawn: list[object]) -> bool:
    """Whether a cell may be the mean of its draws, absent ones left out or counted as 0."""
    given = [float(x) for x in drawn if x is not None]
    readings = (given, given + [0.0] * (len(drawn) - len(given)))
    return not given or any(_near(value, np.array(reading)) for reading in readings)


def _near(value: float, draws: np.ndarray) -> bool:
    error = draws.std() / np.sqrt(len(draws)) + 0.02 * abs(draws.mean()) + 1e-9
    return bool(abs(draws.mean() - value) <= 6 * error)


def certain_fixtures(sdist: Path) -> dict[str, Any]:
    """The one-hot law on the TPC-H fixture with each table in turn predicted."""
    con = load(sdist / FIXTURES)
    counts: dict[str, int] = {}
    details: list[str] = []
    for number, sql in enumerate(statements(sdist / FIXTURES / "tpc-h" / "tpc-h.sql"), 1):
        tree = DIALECT.parse(sql)[0]
        for target in sorted({node.name for node in tree.find_all(exp.Table)} & set(_TABLES)):
            size = con.execute(f"SELECT count(*) FROM {target}").fetchall()[0][0]
            flags = (np.random.default_rng(number).random(size) < 0.8).astype(np.int64)
            status, detail = _certain(con, with_predicate(sql, target), target, flags)
            counts[status] = counts.get(status, 0) + 1
            if status != "agrees":
                details.append(f"TPC-H {number} on {target}: {status}: {detail[:200]}")
    return {"counts": counts, "details": details}
