"""What is refused, and whether the message names the fragment, the reason and the way out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rainpp.errors import ComplaintError, QueryError, UnsupportedQueryError
from rainpp.relax.answer import evaluate
from rainpp.relax.plan import Slot, make_plan
from rainpp.types import PredictionTable
from tests.relax.worlds import database, evaluated, flat, predictions, random_probabilities

FUNCTIONS = {"predict": (0, 1, 2), "income": ("<=50K", ">50K")}
P = {"t": random_probabilities(0, 6), "u": random_probabilities(1, 6)}


@pytest.fixture(scope="module")
def con():
    fill = (
        "SELECT i AS id, i % 3 AS g, i * 1.5 AS price, i AS x, 'n' || i AS name, "
        "DATE '2020-01-01' + (i % 2)::INT AS day FROM range(6) r(i)"
    )
    with database(t=fill, u=fill) as con:
        con.execute("CREATE VIEW v AS SELECT * FROM t WHERE x > 0")
        con.execute("CREATE TABLE shadow AS SELECT i AS rowid FROM range(3) r(i)")
        con.execute("CREATE TABLE amb AS SELECT i AS amb FROM range(3) r(i)")
        con.execute('CREATE SCHEMA "my schema"')
        con.execute(
            'CREATE TABLE "my schema"."Größe" AS SELECT i AS "w é", i % 2 AS g FROM range(6) r(i)'
        )
        yield con


UNSUPPORTED = [
    ("SELECT Median(predict(x)) FROM t", "`Median(predict(x))`", "COUNT, SUM and AVG"),
    ("SELECT max(price) FROM t WHERE predict(x) = 1", "`max(price)`", "COUNT, SUM and AVG"),
    ("SELECT count(DISTINCT g) FROM t WHERE predict(x) = 1", "`count(DISTINCT g)`", "DISTINCT"),
    (
        "SELECT g, count(*) FROM t WHERE predict(x)=1 GROUP BY g Having count(*) > 1",
        "Having",
        "HAVING",
    ),
    ("SELECT DISTINCT count(*) FROM t WHERE predict(x) = 1", "DISTINCT", "GROUP BY"),
    ("SELECT count(*) FROM t WHERE predict(x) = 1 limit 3", "`limit 3`", "LIMIT"),
    ("SELECT count(*) OVER () FROM t WHERE predict(x) = 1", "count(*) OVER ()", "window"),
    ("SELECT count(*) FROM t WHERE predict(x)=1 UNION ALL SELECT 1", "UNION ALL", "one SELECT"),
    ("SELECT count(*) FROM t LEFT JOIN u ON predict(t) = predict(u)", "LEFT JOIN u", "inner joins"),
    ("SELECT count(*) FROM t NATURAL JOIN u WHERE predict(t) = 1", "NATURAL JOIN u", "inner joins"),
    (
        "SELECT count(*) FROM t SEMI JOIN u USING (id) WHERE predict(t) = 1",
        "SEMI JOIN",
        "inner joins",
    ),
    (
        "SELECT count(*) FROM t WHERE predict(x) IN (SELECT g FROM u)",
        "SELECT g FROM u",
        "subqueries",
    ),
    ("SELECT count(*) FROM t WHERE predict(x)=1 AND EXISTS (SELECT 1)", "SELECT 1", "subqueries"),
    ("SELECT id FROM t WHERE predict(x) = 1", "`id`", "COUNT, SUM or AVG"),
    ("SELECT g FROM t WHERE predict(x) = 1 GROUP BY g", "no aggregate", "COUNT, SUM or AVG"),
    ("SELECT count(*) FROM v WHERE predict(x) = 1", "`v`", "CREATE TABLE"),
    ("SELECT count(*) FROM glob('*') WHERE predict(x) = 1", "`glob('*')`", "CREATE TABLE"),
    (
        "WITH c AS (SELECT * FROM t) SELECT count(*) FROM c WHERE predict(x)=1",
        "CTE",
        "CREATE TABLE",
    ),
    (
        "SELECT count(*) FROM (SELECT * FROM t) s WHERE predict(x)=1",
        "SELECT * FROM t",
        "CREATE TABLE",
    ),
    ("SELECT count(*) FROM range(3) r(x) WHERE predict(x) = 1", "RANGE(0, 3)", "CREATE TABLE"),
    ("SELECT count(*) FROM t TABLESAMPLE 10% WHERE predict(x) = 1", "TABLESAMPLE", "FROM table"),
    ("SELECT count(*) FROM shadow WHERE predict(*) = 1", "`shadow`", "rowid"),
    ("SELECT count(*) FROM t", "no prediction", "predict"),
    (
        "SELECT count(*) FROM t WHERE predict(x)=1 AND predict(id)=2",
        "`predict(id)`",
        "same arguments",
    ),
    ("SELECT count(*) FROM t, u WHERE predict(t.x, u.x) = 1", "several tables", "one table"),
    ("SELECT count(*) / count(x) FROM t WHERE predict(x) = 1", "`count(*) / count(x)`", "linear"),
    ("SELECT round(avg(predict(x))) FROM t", "`round(avg(predict(x)))`", "linear"),
    ("SELECT count(*) FROM t WHERE predict(x) = 1 AND random() < 0.5", "`random()`", "run to run"),
    ("SELECT count(*) FROM t WHERE main.predict(x) = 1", "main.predict(x)", "schema"),
    ("SELECT count(*) FROM t GROUP BY predict(x) + g", "`predict(x) + g`", "own key"),
    ("SELECT count(*) FROM t GROUP BY ROLLUP (g, predict(x))", "ROLLUP", "GROUP BY"),
    ("INSERT INTO t SELECT * FROM t", "INSERT INTO", "not a SELECT"),
    ("COPY t TO 'x.csv'", "COPY t", "not a SELECT"),
    ("ATTACH 'x.db'", "ATTACH", "not a SELECT"),
    ("PRAGMA database_size", "PRAGMA", "not a SELECT"),
    ("SELECT count(*) FROM t WHERE predict(x) = 1; SELECT 1", "2 statements", "one SELECT"),
]


@pytest.mark.parametrize(("sql", "fragment", "word"), UNSUPPORTED)
def test_unsupported_sql_is_named(con, sql, fragment, word):
    with pytest.raises(UnsupportedQueryError) as error:
        make_plan(sql, con, FUNCTIONS)
    assert fragment in str(error.value)
    assert word in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


WRONG = [
    ("SELECT count(*) FROM t WHERE predict(x) = 12", "12", "0, 1, 2"),
    ("SELECT count(*) FROM t WHERE predict(x) <> -1", "-1", "0, 1, 2"),
    ("SELECT count(*) FROM t WHERE predict(x) NOT IN (1, 7)", "7", "0, 1, 2"),
    ("SELECT count(*) FROM t WHERE income(x) = '50K'", "'50K'", "'>50K'"),
    ("SELECT count(*) FROM t WHERE income(x) = 3", "3", "'<=50K'"),
    ("SELECT avg((predict(x) = 9)::INT) FROM t", "9", "0, 1, 2"),
    ("SELECT count(*) FROM ghost WHERE predict(x) = 1", "`ghost`", "t"),
    ("SELECT count(*) FROM tt WHERE predict(x) = 1", "`tt`", "Did you mean"),
    (
        "SELECT count(*) FROM 'no.parquet' WHERE predict(x) = 1",
        "cannot read `'no.parquet'`",
        "No files",
    ),
    ("SELECT count(*) FROM t WHERE predict(image) = 1", "`image`", "price"),
    ("SELECT count(*) FROM t WHERE predict(x) = 1 AND nme = 'a'", "`nme`", "name"),
    (
        'SELECT count(*) FROM t WHERE predict(x) = 1 AND name = "Private"',
        "Private",
        "single quotes",
    ),
    ("SELECT count(*) FROM t a WHERE predict(b.x) = 1", "`b.x`", "a"),
    ("SELECT count(*) FROM t a, u b WHERE predict(x) = 1", "ambiguous", "`a.x`"),
    ("SELECT count(*) FROM t a, u b WHERE predict(*) = 1", "ambiguous", "instead of *"),
    ("SELECT count(*) FROM amb WHERE predict(amb) = 1", "ambiguous", "amb.*"),
    ("SELECT count(*) FROM t WHERE predict(x + 1) = 1", "`x + 1`", "not a column"),
    ("SELECT count(*) FROM t WHERE predict(predict(x)) = 1", "`predict(x)`", "not a column"),
    ("SELECT count(*) FROM t WHERE predict() = 1", "no argument", "predict(*)"),
    ("SELECT count(*) FROM t WHERE frobnicate(predict(x)) = 1", "frobnicate", "DuckDB"),
    ("SELECT g, count(*) FROM t WHERE predict(x) = 1", "`g`", "COUNT, SUM or AVG"),
    ("SELECT name, count(*) FROM t WHERE predict(x) = 1 GROUP BY g", "`name`", "GROUP BY"),
    ("SELECT predict(x), count(*) FROM t GROUP BY g", "`predict(x)`", "GROUP BY"),
    ("SELECT count(*) FROM t, t WHERE predict(x) = 1", "two tables", "alias"),
    ("SELECT count(*) FROM t GROUP BY 7", "GROUP BY 7", "out of range"),
    ("SELECT sum(name) FROM t WHERE predict(x) = 1", "sum", "DuckDB"),
    ("SELECT count(*) FROM t WHERE predict(x)::DATE = 1", "DuckDB", "DATE"),
    ("", "empty", "SELECT"),
    ("SELECT count(*) FROM t WHERE (predict(x) = 1", "line 1", "^"),
    ("SELECT 'oops FROM t", "' is never closed", "line 1, column 8"),
]


@pytest.mark.parametrize(("sql", "fragment", "word"), WRONG)
def test_wrong_sql_is_explained(con, sql, fragment, word):
    with pytest.raises((QueryError, UnsupportedQueryError)) as error:
        make_plan(sql, con, FUNCTIONS)
    message = str(error.value)
    assert fragment in message
    assert word in message
    assert "__prediction" not in message
    assert error.value.__suppress_context__ or error.value.__context__ is None
    assert con.execute("SELECT count(*) FROM t").fetchall() == [(6,)]


def test_the_caret_stands_under_the_place(con):
    with pytest.raises(QueryError) as error:
        make_plan("SELECT count(*)\nFROM t WHER predict(x) = 1", con, FUNCTIONS)
    lines = str(error.value).splitlines()
    assert "line 2" in lines[0]
    start, end = lines[2].index("^"), lines[2].rindex("^")
    assert lines[1][start : end + 1] == "predict"


def test_mixed_classes_are_refused(con):
    with pytest.raises(QueryError, match="mix types"):
        make_plan("SELECT count(*) FROM t WHERE f(x) = 1", con, {"f": (1, "a")})


def test_an_average_whose_rows_share_predictions(con):
    sql = "SELECT avg(b.price) AS a FROM t a JOIN u b ON a.g = b.g WHERE predict(a) = 1"
    with pytest.raises(UnsupportedQueryError, match=r"mode=.rain"):
        flat(con, sql, P)
    assert flat(con, sql, P, mode="rain").cell(0, "a")[1] > 0


def test_too_many_class_combinations(con):
    functions = {"predict": tuple(range(70))}
    sql = "SELECT count(*) FROM t a, t b WHERE predict(a) + predict(b) = a.g"
    with pytest.raises(UnsupportedQueryError, match="70 x 70"):
        flat(con, sql, {"t": np.full((6, 70), 1 / 70)}, classes=functions)


def test_too_many_joined_rows(con, monkeypatch):
    monkeypatch.setattr("rainpp.relax.capture.MAX_ROWS", 10)
    sql = "SELECT count(*) FROM t a, u b WHERE predict(a) = 1 AND a.price + b.price > 0"
    with pytest.raises(UnsupportedQueryError, match="10 joined rows"):
        flat(con, sql, P)


def test_predictions_must_fit(con):
    plan = make_plan("SELECT count(*) AS n FROM t WHERE predict(x) = 1", con, FUNCTIONS)
    (slot,) = plan.slots
    assert slot == Slot("predict", "t", ("x",))
    with pytest.raises(QueryError, match="no predictions of `predict`"):
        evaluate(plan, con, {})
    fewer = PredictionTable("predict", "t", None, np.arange(4), P["t"][:4], (0, 1, 2))
    with pytest.raises(QueryError, match=r"2 rows of `t` have no prediction.*rowid 4"):
        evaluate(plan, con, {slot: fewer})
    narrow = PredictionTable("predict", "t", None, np.arange(6), P["t"][:, :2], (0, 1))
    with pytest.raises(QueryError, match="shape"):
        evaluate(plan, con, {slot: narrow})
    others = PredictionTable("predict", "t", ("id",), np.arange(6), P["t"], (0, 1, 2))
    with pytest.raises(QueryError, match="read"):
        evaluate(plan, con, {slot: others})
    with pytest.raises(QueryError, match="mode"):
        evaluate(plan, con, predictions(con, plan, P), mode="exakt")


def test_infinite_values_are_refused(con):
    sql = "SELECT sum(CASE WHEN g = 1 THEN 'inf'::DOUBLE ELSE price END) FROM t WHERE predict(x)=1"
    with pytest.raises(UnsupportedQueryError, match="infinite"):
        evaluated(con, sql, P)


@pytest.fixture
def answer(con):
    return evaluated(
        con,
        "SELECT g, day, count(*) AS n, sum(price) AS n2 FROM t WHERE predict(x) >= 0 "
        "GROUP BY ALL ORDER BY ALL",
        P,
    )


def test_rows_are_found(answer):
    assert answer.find_row(row=3) == 3
    assert answer.find_row(where={"g": 1, "day": pd.Timestamp("2020-01-02")}) == 3
    assert answer.key(3)["g"] == 1


@pytest.mark.parametrize(
    ("row", "where", "words"),
    [
        (None, None, "6 rows; say which"),
        (1, {"g": 1}, "not both"),
        (6, None, "out of range; the answer has 6"),
        (-1, None, "out of range"),
        (None, {"gg": 1}, "no column 'gg'; the columns are: g, day, n, n2"),
        (None, {"g": 9}, "no row has g = 9; there are: 0, 1, 2"),
        (None, {"g": 1}, "2 rows match"),
        (None, {"g": 1, "n": 1, "n2": 0.0}, "no row matches"),
    ],
)
def test_rows_that_cannot_be_found(answer, row, where, words):
    with pytest.raises(ComplaintError, match=words):
        answer.find_row(row=row, where=where)


def test_columns_that_cannot_be_complained_about(answer, con):
    with pytest.raises(ComplaintError, match=r"'g' is a group key.*n, n2"):
        answer.cell(0, "g")
    with pytest.raises(ComplaintError, match=r"no column 'm'.*n, n2"):
        answer.gradient(0, "m")
    twice = evaluated(con, "SELECT count(*) AS n, sum(x) AS n FROM t WHERE predict(x) = 1", P)
    with pytest.raises(ComplaintError, match="2 columns are called 'n'"):
        twice.cell(0, "n")
