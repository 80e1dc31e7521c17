"""Portable SQL against possible worlds and dense sums, and what it refuses by name."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.plan import make_plan
from rainpp.relax.portable import generate, long_form
from tests.relax.portable.checks import Trial
from tests.relax.portable.engines import NAMES, engine, same
from tests.relax.worlds import (
    CLASSES,
    database,
    evaluated,
    expectation,
    one_hot,
    predictions,
    random_probabilities,
)

T = "SELECT * FROM (VALUES (1, 'a', 2.5), (1, 'b', NULL), (2, NULL, -1.0)) v(k, g, a)"
S = "SELECT * FROM (VALUES (1, 10.0), (1, 20.0), (NULL, 5.0)) v(k, w)"
P = {"t": random_probabilities(0, 3), "s": random_probabilities(1, 3)}
PREDICT = {"predict": CLASSES}


@pytest.fixture(scope="module")
def con():
    with database(t=T, s=S) as con:
        yield con


@pytest.mark.parametrize(
    ("sql", "plain", "used"),
    [
        (
            "SELECT COUNT(*) AS n FROM t WHERE predict(t) IN (0, 2) OR a > 0",
            "SELECT COUNT(*) FROM {t} WHERE pred IN (0, 2) OR a > 0",
            "t",
        ),
        (
            "SELECT SUM(w) AS n FROM t JOIN s ON t.k = s.k WHERE predict(t) = predict(s)",
            "SELECT SUM(w) FROM {t} t JOIN {s} s ON t.k = s.k WHERE t.pred = s.pred",
            "ts",
        ),
        (
            "SELECT SUM(r.a) AS n FROM t l, t r WHERE predict(l) <= predict(r)",
            "SELECT SUM(r.a) FROM {t} l, {t} r WHERE l.pred <= r.pred",
            "t",
        ),
        (
            "SELECT COUNT(*) AS n FROM t l, t m, t r WHERE predict(l) = predict(m) "
            "AND (predict(m) = predict(r) OR l.k < predict(r))",
            "SELECT COUNT(*) FROM {t} l, {t} m, {t} r WHERE l.pred = m.pred "
            "AND (m.pred = r.pred OR l.k < r.pred)",
            "t",
        ),
        (
            "SELECT AVG(a * predict(t)) AS n FROM t",
            "SELECT AVG(a * pred) FROM {t}",
            "t",
        ),
    ],
)
@pytest.mark.parametrize("name", ["duckdb", "sqlite", "datafusion"])
def test_values_are_expectations_over_possible_worlds(con, name, sql, plain, used):
    chosen = {table: P[table] for table in used}
    trial = Trial(con, sql, P, PREDICT)
    with engine(name) as made:
        trial.load(made)
        assert same(trial.values(made)[0][0], expectation(con, plain, chosen))


@pytest.mark.parametrize("name", ["duckdb", "sqlite", "datafusion"])
@pytest.mark.parametrize("g", ["a", "b", None])
def test_a_group_of_joined_rows_exists_with_the_probability_of_possible_worlds(con, name, g):
    """Two joined rows of one row of t are one event: the product rule would count it twice."""
    sql = "SELECT g, COUNT(*) AS n FROM t JOIN s USING (k) WHERE predict(t) < 2 GROUP BY g"
    same_group = "g IS NULL" if g is None else f"g = '{g}'"
    plain = (
        f"SELECT (COUNT(*) > 0)::INT FROM {{t}} JOIN s USING (k) WHERE pred < 2 AND {same_group}"
    )
    trial = Trial(con, sql, P, PREDICT)
    with engine(name) as made:
        trial.load(made)
        found = {row[0]: row[-1] for row in trial.values(made)}
    assert same(found.get(g, 0.0), expectation(con, plain, {"t": P["t"]}))


@pytest.mark.parametrize("name", ["duckdb", "sqlite", "datafusion"])
def test_certain_predictions_give_the_plain_answer(con, name):
    sql = "SELECT predict(t) AS p, g, COUNT(*) AS n, SUM(a) AS s FROM t GROUP BY 1, 2"
    trial = Trial(con, sql, {"t": one_hot([2, 0, 2])}, PREDICT)
    with engine(name) as made:
        trial.load(made)
        there = [row for row in trial.values(made) if row[-1] > 0]
    expected = [(2, "a", 1, 2.5), (0, "b", 1, None), (2, None, 1, -1.0)]
    # A SUM over nothing but NULL measures has no candidate row: NULL here too.
    assert len(there) == 3
    assert all(any(all(map(same, row, e)) for e in expected) for row in there)


def class_join(n, keys):
    """Tables of n rows with a key each, and their predictions over five classes."""
    rng = np.random.default_rng(0)
    con = database(
        **{
            name: f"SELECT i AS id, (i * {step}) % {keys} AS k, i % 7 AS g FROM range({n}) r(i)"
            for name, step in (("l", 7), ("r", 11))
        }
    )
    return con, {name: rng.dirichlet(np.ones(5), n) for name in "lr"}


TRIAL = {
    "class join": "SELECT COUNT(*) AS n FROM l, r WHERE predict(l) = predict(r)",
    "keyed": "SELECT COUNT(*) AS n FROM l JOIN r ON l.k = r.k WHERE predict(l) = predict(r)",
    "keyed by": "SELECT l.g, COUNT(*) AS n FROM l JOIN r USING (k) WHERE predict(l) = predict(r) "
    "GROUP BY l.g",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("postgres", "spark") else ())
        for name in NAMES
    ],
)
def test_a_class_join_of_3000_by_3000_rows_equals_the_pairwise_sum(name):
    con, p = class_join(3_000, 100)
    functions = {"predict": tuple(range(5))}
    keys = {t: con.execute(f"SELECT k, g FROM {t} ORDER BY id").fetchnumpy() for t in "lr"}
    pairs = p["l"] @ p["r"].T
    met = keys["l"]["k"][:, None] == keys["r"]["k"]
    with engine(name) as made:
        loaded = set()
        for which, sql in TRIAL.items():
            trial = Trial(con, sql, p, functions)
            trial.load(made, loaded)
            rows, width = trial.values(made), len(trial.made.keys)
            assert len(rows) == (7 if width else 1)
            inside = pairs if which == "class join" else pairs * met
            for row in rows:
                chosen = keys["l"]["g"] == int(row[0]) if width else slice(None)
                assert same(row[width], float(inside[chosen].sum()))
        trial = Trial(con, TRIAL["keyed"], p, functions)
        sql = trial.made.gradient_sql(made.dialect, table=trial.made.tables[0].name)
        trial.load(made, loaded)
        slopes = np.zeros(p["l"].shape)
        for rid, cls, slope in made.run(sql):
            slopes[int(rid), int(cls)] = float(slope)
        l_then_r = trial.plan.slots[0].table == "l"
        expected = met @ p["r"] if l_then_r else met.T @ p["l"]
        assert np.abs(slopes - expected).max() <= 1e-9 * expected.max()


def test_value_and_gradient_read_nothing_but_plain_tables(con):
    """No arrays, lambdas, macros or GROUP BY ALL; one text, spelled for each database."""
    sql = "SELECT predict(t) AS p, g, COUNT(*) AS n FROM t JOIN s USING (k) GROUP BY ALL"
    made = generate(make_plan(sql, con, PREDICT), con)
    texts = {name: made.value_sql(name) for name in NAMES}
    assert texts["sqlite"].replace("REAL", "DOUBLE") == texts["duckdb"]
    assert texts["spark"].replace("`", '"') == texts["duckdb"]
    for text in [*texts.values(), made.gradient_sql(cell="n", key=(1, "a"))]:
        assert not any(
            word in " ".join(text.upper().split())
            for word in ("[", "LIST", "ARRAY", "LAMBDA", "BY ALL")
        )


def test_the_row_id_column_is_the_users_choice():
    with database(t="SELECT 10 + i AS id, i AS a FROM range(3) r(i)") as con:
        plan = make_plan("SELECT COUNT(*) AS n FROM t WHERE predict(t) = 1", con, PREDICT)
        made = generate(plan, con, rid={"t": "id"})
        assert (made.tables[0].base, made.tables[0].row_id) == ('"t"', "id")
        table = next(iter(predictions(con, plan, {"t": P["t"]}).values()))
        con.execute(made.tables[0].create_sql())
        con.register("arriving", long_form(table))
        con.execute("INSERT INTO rainpp_p_0 SELECT rid + 10, cls, prob FROM arriving")
        assert same(con.execute(made.value_sql()).fetchone()[0], P["t"][:, 1].sum())


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT AVG(a) FROM t WHERE predict(t) = 1", "decide which rows are averaged"),
        ("SELECT predict(t), AVG(a) FROM t GROUP BY 1", "decide which rows are averaged"),
        ("SELECT AVG(CASE WHEN predict(t) = 1 THEN a END) FROM t", "rows are averaged"),
        ("SELECT COUNT(*) FROM t WHERE predict(t) = 1 AND upper(g) = 'A'", "UPPER"),
        ("SELECT COUNT(*) FROM t WHERE predict(t) = 1 AND k % 2 = 0", "% 2"),
        ("SELECT COUNT(*) FROM t WHERE predict(t) = 1 AND a / k > 1", "anything but a constant"),
        ("SELECT COUNT(*) FROM t WHERE predict(t) = 1 AND g ILIKE 'a%'", "ILIKE"),
        ("SELECT COUNT(*) FROM t WHERE predict(t) = CAST(a AS INTEGER)", "CAST"),
        ("SELECT [k], COUNT(*) FROM t WHERE predict(t) = 1 GROUP BY [k]", "differs between"),
    ],
)
def test_what_would_differ_between_databases_is_refused_by_name(con, sql, words):
    with pytest.raises(UnsupportedQueryError, match=words):
        generate(make_plan(sql, con, PREDICT), con)


def test_arguments_that_name_nothing_are_refused(con):
    sql = "SELECT g, COUNT(*) AS n FROM t JOIN s USING (k) WHERE predict(t) = predict(s) GROUP BY g"
    made = generate(make_plan(sql, con, PREDICT), con)
    with pytest.raises(QueryError, match="must be one of duckdb, sqlite"):
        made.value_sql("oracle")
    with pytest.raises(QueryError, match="the cells are n"):
        made.gradient_sql(cell="m", key=("a",), table="rainpp_p_0")
    with pytest.raises(QueryError, match="got 0 values"):
        made.gradient_sql(table="rainpp_p_0")
    with pytest.raises(QueryError, match="must be one of rainpp_p_0, rainpp_p_1"):
        made.gradient_sql(key=("a",))
    by_class = "SELECT predict(t) AS p, COUNT(*) AS n FROM t GROUP BY 1"
    with pytest.raises(QueryError, match="no class gives"):
        generate(make_plan(by_class, con, PREDICT), con).gradient_sql(key=(7,))


def test_existence_is_left_out_where_predictions_of_two_tables_decide(con):
    sql = "SELECT g, COUNT(*) AS n FROM t, s WHERE predict(t) = predict(s) GROUP BY g"
    made = generate(make_plan(sql, con, PREDICT), con)
    assert not made.exists
    assert "_exists" not in made.value_sql()
    assert evaluated(con, sql, P).relaxed["_exists"].between(0, 1).all()
