"""Odd names, empty tables, NULLs, unknown classes and very long conditions: right, or refused."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

import rainpp
from rainpp.errors import ComplaintError, DataError, QueryError
from tests.online import make_scene

ODD = 'Größe "x"'
SHARES = np.linspace(0.1, 0.9, 10)


@pytest.fixture(scope="module")
def database():
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE t AS SELECT range AS i, range % 3 AS g, range * 1.5 AS x FROM range(10)"
    )
    con.execute("CREATE TABLE e (i INT, g INT, x DOUBLE)")
    con.execute("CREATE TABLE amb AS SELECT range AS amb, range AS b FROM range(10)")
    con.execute(
        'CREATE TABLE "Größe ""x""" AS SELECT range AS "w é", range AS "日本" FROM range(10)'
    )
    con.execute("CREATE TABLE holes AS SELECT nullif(range, 3) AS i, range AS x FROM range(10)")
    database = rainpp.connect(con)
    for table, shares in (("t", SHARES), ("e", SHARES[:0]), ("amb", SHARES), (ODD, SHARES)):
        database.register_predictions(
            "predict", table=table, probabilities=np.stack([1 - shares, shares], axis=1)
        )
    with database:
        yield database


EMPTY = [
    ("SELECT count(*) AS n FROM e WHERE predict(i) = 1", 0),
    ("SELECT sum(x) AS n FROM e WHERE predict(i) = 1", None),
    ("SELECT avg(x) AS n FROM e WHERE predict(i) = 1", None),
    ("SELECT avg(predict(i)) AS n FROM e", None),
    ("SELECT sum(x) AS n FROM t WHERE predict(i) = 1 AND i > 100", None),
    ("SELECT avg(x * predict(i)) AS n FROM t WHERE i > 100", None),
    ("SELECT count(*) AS n FROM e JOIN t USING (i) WHERE predict(e.i) = predict(t.i)", 0),
    ("SELECT count(*) AS n FROM t JOIN e ON predict(e.i) = predict(t.i)", 0),
]


@pytest.mark.parametrize(("sql", "value"), EMPTY)
def test_no_rows_give_what_sql_gives_and_no_gradient(database, sql, value):
    result = database.sql(sql)
    plain, relaxed = result.df()["n"][0], result.relaxed()["n"][0]
    assert (plain, relaxed) == (value, value) if value == 0 else np.isnan([plain, relaxed]).all()
    assert not any(gradient.any() for gradient in result.gradient("n").values())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT g, count(*) AS n FROM e WHERE predict(i) = 1 GROUP BY g",
        "SELECT predict(i) AS p, avg(x) AS n FROM e GROUP BY 1",
        "SELECT g, sum(x) AS n FROM t WHERE predict(i) = 1 AND i > 100 GROUP BY g",
    ],
)
def test_no_rows_give_no_groups(database, sql):
    result = database.sql(sql)
    assert len(result.df()) == len(result.relaxed()) == 0
    with pytest.raises(ComplaintError):
        result.gradient("n", row=0)


def test_a_name_that_is_table_and_column_is_refused_with_both_ways_out(database):
    for call, table in (("predict(amb)", "amb"), ("predict(i)", "t AS i")):
        with pytest.raises(QueryError, match="is a table and a column; write"):
            database.sql(f"SELECT count(*) AS n FROM {table} WHERE {call} = 1")
    for call in ("predict(amb.amb)", "predict(amb.*)"):
        result = database.sql(f"SELECT count(*) AS n FROM amb WHERE {call} = 1")
        np.testing.assert_allclose(result.relaxed()["n"][0], SHARES.sum())


def test_a_table_alias_that_is_also_a_column_is_the_column_in_conditions(database):
    result = database.sql("SELECT count(*) AS n FROM t AS g WHERE predict(i) = 1 AND g > 1")
    np.testing.assert_allclose(result.relaxed()["n"][0], SHARES[2::3].sum())


def test_quoted_and_unicode_names(database):
    for source, call, column in (
        (f'"{ODD.replace(chr(34), chr(34) * 2)}"', 'predict("w é")', '"日本"'),
        (
            f'"{ODD.replace(chr(34), chr(34) * 2).lower()}" AS "日"',
            'PREDICT("日"."W É")',
            '"日"."日本"',
        ),
    ):
        result = database.sql(f'SELECT sum({column}) AS "合計 é" FROM {source} WHERE {call} = 1')
        np.testing.assert_allclose(result.relaxed()["合計 é"][0], (SHARES * np.arange(10)).sum())
        assert list(result.gradient("合計 é")) == [("predict", ODD)]


def test_two_columns_of_one_name_cannot_be_told_apart(database):
    result = database.sql("SELECT count(*) AS n, sum(x) AS n FROM t WHERE predict(i) = 1")
    assert list(result.df().columns) == ["n", "n"]
    with pytest.raises(ComplaintError, match="2 columns are called 'n'; name them with AS"):
        result.complain("n", should="increase")


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("= 2", "2"),
        ("<> 'cat'", "'cat'"),
        ("IN (0, 7)", "7"),
        ("NOT IN (-1)", "-1"),
        ("= 0.5", "0.5"),
    ],
)
def test_a_class_that_is_none_is_named_with_those_there_are(database, condition, named):
    with pytest.raises(QueryError, match=f"{named} in .* is not a class; the classes are 0, 1"):
        database.sql(f"SELECT count(*) AS n FROM t WHERE predict(i) {condition}")


@pytest.mark.parametrize("condition", ["= NULL", "<> NULL", "IN (NULL)"])
def test_null_is_no_class_and_no_mistake(database, condition):
    result = database.sql(f"SELECT count(*) AS n FROM t WHERE predict(i) {condition}")
    assert result.df()["n"][0] == result.relaxed()["n"][0] == 0


def test_a_row_whose_model_argument_is_null_is_refused_wherever_it_lies():
    scene = make_scene(k=4)
    scene.database.connection.execute("UPDATE people SET b = NULL WHERE rowid IN (3, 5)")
    with pytest.raises(DataError, match=r"`people\.b` is NULL in 2 rows; .* Fill or delete"):
        scene.database.sql(
            "SELECT count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 AND a > 9"
        )


def test_known_probabilities_do_not_ask_what_the_model_saw(database):
    database.register_predictions(
        "seen", table="holes", probabilities=np.stack([1 - SHARES, SHARES], axis=1)
    )
    result = database.sql("SELECT sum(x) AS s, count(i) AS n FROM holes WHERE seen(i) = 1")
    np.testing.assert_allclose(result.relaxed()["s"][0], (SHARES * np.arange(10)).sum())
    np.testing.assert_allclose(result.relaxed()["n"][0], SHARES.sum() - SHARES[3])


def test_probabilities_are_numbers_in_sql(database):
    total = database.sql("SELECT sum(predict_proba(i)[1]) AS s FROM t")
    np.testing.assert_allclose([total.df()["s"][0], total.relaxed()["s"][0]], [SHARES.sum()] * 2)
    shares = database.sql("SELECT sum(CASE WHEN predict(i) = 1 THEN 1 ELSE 0 END) AS s FROM t")
    np.testing.assert_allclose(shares.relaxed()["s"][0], SHARES.sum())
    with pytest.raises(QueryError, match=r"write predict_proba\(i\)\[class\]"):
        database.sql("SELECT sum(predict_proba(i)) AS s FROM t")


def chain(word, count, part):
    return f" {word} ".join(part.format(k=k) for k in range(count))


LONG = {
    "a list": f"predict(i) = 1 AND i IN ({chain(',', 10_000, '{k}')})",
    "a list of classes": f"predict(i) IN ({chain(',', 10_000, '1')})",
    "certain alternatives": f"predict(i) = 1 AND ({chain('OR', 500, 'i = {k}')})",
    "uncertain alternatives": chain("OR", 200, "(predict(i) = 1 AND i = {k})"),
    "uncertain conditions": chain("AND", 200, "(predict(i) = 1 OR i < 0 - {k})"),
    "branches": f"predict(i) = 1 AND CASE i {chain('', 2_000, 'WHEN {k} THEN true')} END",
}


@pytest.mark.parametrize("condition", LONG.values(), ids=LONG.keys())
def test_long_conditions_work(database, condition):
    result = database.sql(f"SELECT count(*) AS n FROM t WHERE {condition}")
    np.testing.assert_allclose(result.relaxed()["n"][0], SHARES.sum())
    assert result.df()["n"][0] == 5


TOO_LONG = {
    "alternatives": chain("OR", 10_000, "(predict(i) = 1 AND i = {k})"),
    "conditions": chain("AND", 10_000, "predict(i) = 1"),
    "terms": f"{chain('+', 10_000, 'predict(i)')} > 5",
    "negations": "NOT " * 10_000 + "predict(i) = 1",
    "parentheses": "(" * 10_000 + "predict(i) = 1" + ")" * 10_000,
}


@pytest.mark.slow  # 2 to 10 s each: sqlglot reads 50 000 tokens
@pytest.mark.parametrize("condition", TOO_LONG.values(), ids=TOO_LONG.keys())
def test_ten_thousand_nested_branches_are_one_sentence(database, condition):
    with pytest.raises(QueryError, match="nested too deeply to be read; use fewer parentheses"):
        database.sql(f"SELECT count(*) AS n FROM t WHERE {condition}")
