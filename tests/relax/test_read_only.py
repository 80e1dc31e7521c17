"""Only queries are read: whatever changes the database or the session is refused, and nothing runs.

sqlglot logs a warning for statements it does not know and guesses at them; nobody sees that noise.
"""

from __future__ import annotations

import logging

import pytest

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.plan import make_plan
from tests.relax.worlds import database

FUNCTIONS = {"predict": (0, 1, 2)}
INNER = "SELECT count(*) FROM t WHERE predict(x) = 1"


@pytest.fixture(scope="module")
def con():
    with database(t="SELECT i AS x FROM range(6) r(i)") as con:
        yield con


@pytest.fixture(autouse=True)
def _silence(caplog, capfd):
    """No statement may make sqlglot talk."""
    with caplog.at_level(logging.WARNING):
        yield
    assert not caplog.records
    assert capfd.readouterr().err == ""


CHANGING = [
    "INSERT INTO t VALUES (7)", f"insert into t {INNER}", "UPDATE t SET x = 1", "DELETE FROM t",
    "TRUNCATE t", "MERGE INTO t USING t AS s ON t.x = s.x WHEN MATCHED THEN DELETE",
    f"COPY ({INNER}) TO 'out.csv'", "COPY t FROM 'in.csv'", "COPY FROM DATABASE a TO b",
    "ATTACH 'x.db' AS x", "DETACH x", "PRAGMA threads = 3", "SET threads = 3", "RESET threads",
    f"CREATE TABLE z AS {INNER}", f"CREATE OR REPLACE TEMP VIEW z AS {INNER}", "DROP TABLE t",
    "CREATE MACRO f(a) AS a", "CREATE SECRET (TYPE s3)", "ALTER TABLE t ADD COLUMN y INT",
    "COMMENT ON TABLE t IS 'x'", "EXPORT DATABASE 'd'", "IMPORT DATABASE 'd'", "INSTALL httpfs",
    "FORCE INSTALL httpfs", "LOAD httpfs", "UPDATE EXTENSIONS", "CALL pragma_version()", "VACUUM",
    "ANALYZE", "CHECKPOINT", "FORCE CHECKPOINT t", "BEGIN TRANSACTION", "START TRANSACTION",
    "COMMIT", "ROLLBACK", "USE memory", f"PREPARE p AS {INNER}", "EXECUTE p", "DEALLOCATE p",
    "-- a comment\n  /* and */ Delete from t",
]  # fmt: skip


@pytest.mark.parametrize("sql", CHANGING)
def test_what_changes_something_is_refused_by_name(con, sql):
    word = next(part for part in sql.split() if part.isalpha() and part not in ("a", "comment"))
    word = "DELETE" if sql.startswith("--") else word.upper()
    with pytest.raises(UnsupportedQueryError, match=f"{word} is not a SELECT: it changes"):
        make_plan(sql, con, FUNCTIONS)
    assert con.execute("SELECT count(*), sum(x) FROM t").fetchall() == [(6, 15)]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("WITH c AS (INSERT INTO t VALUES (1) RETURNING x) SELECT count(*) FROM c", "INSERT"),
        ("WITH c AS (DELETE FROM t RETURNING x) SELECT count(*) FROM c", "DELETE"),
        ("WITH c AS (UPDATE t SET x = 1 RETURNING x) SELECT count(*) FROM c", "UPDATE"),
        ("SELECT count(*) INTO z FROM t WHERE predict(x) = 1", "INTO"),
    ],
)
def test_a_change_inside_a_query_is_found(con, sql, word):
    with pytest.raises(UnsupportedQueryError, match=f"{word} is not a SELECT: it changes"):
        make_plan(sql, con, FUNCTIONS)
    assert con.execute("SELECT count(*), sum(x) FROM t").fetchall() == [(6, 15)]


@pytest.mark.parametrize("word", ["EXPLAIN", "EXPLAIN ANALYZE", "DESCRIBE", "SUMMARIZE"])
def test_describing_is_not_querying(con, word):
    with pytest.raises(UnsupportedQueryError, match=f"{word.split()[0]} is not a SELECT: it only"):
        make_plan(f"{word} {INNER}", con, FUNCTIONS)


@pytest.mark.parametrize("second", ["DROP TABLE t", "EXPLAIN SELECT 1", "SELECT 1"])
def test_a_second_statement_is_refused_whatever_it_is(con, second):
    with pytest.raises(UnsupportedQueryError, match=f"`{second}`: there are 2 statements"):
        make_plan(f"{INNER};; {second} ;", con, FUNCTIONS)


@pytest.mark.parametrize("sql", [f"{INNER};", f"; {INNER} ; ;", f"/* ; */ {INNER} -- ; DROP"])
def test_empty_statements_do_not_count(con, sql):
    assert make_plan(sql, con, FUNCTIONS).slots[0].table == "t"


def test_locking_rows_is_refused_without_noise(con):
    with pytest.raises(UnsupportedQueryError):
        make_plan(f"{INNER} FOR UPDATE", con, FUNCTIONS)


@pytest.mark.parametrize(
    ("sql", "what", "line", "column"),
    [
        ("SELECT 'oops FROM t", "'", 1, 8),
        ('SELECT 1,\n  "ab FROM t', '"', 2, 3),
        ("SELECT 1 /* 'a' */\n  , 2 /* oops", r"/\*", 2, 7),
        ("SELECT $q$ oops $", r"\$q\$", 1, 8),
        ("SELECT e'it\\' FROM t", "'", 1, 8),
    ],
)
def test_what_is_never_closed_is_underlined(con, sql, what, line, column):
    with pytest.raises(QueryError, match=f"{what} is never closed, line {line}, ") as error:
        make_plan(sql, con, FUNCTIONS)
    shown = str(error.value).splitlines()
    assert f"column {column}" in shown[0]
    assert shown[1] == "  " + sql.splitlines()[line - 1]
    assert shown[2] == " " * (column + 1) + "^"
