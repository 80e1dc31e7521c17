"""The answer object: the user's own rows, names and connection are left as they were."""

from __future__ import annotations

import datetime

import duckdb
import numpy as np
import pandas as pd
import pytest

from rainpp.errors import ComplaintError, QueryError
from rainpp.relax.answer import evaluate
from rainpp.relax.capture import place_rows
from rainpp.relax.plan import make_plan
from rainpp.types import PredictionTable
from tests.relax.worlds import database, evaluated, one_hot, predictions, random_probabilities

FILL = (
    "SELECT i AS id, CASE WHEN i % 4 = 3 THEN NULL ELSE i % 2 END AS g, i * 1.5 AS price, "
    "DATE '2020-01-01' + (i % 3)::INT AS day FROM range(8) r(i)"
)
P = {"t": random_probabilities(0, 8)}


@pytest.fixture
def con():
    with database(t=FILL) as con:
        yield con


def test_hard_rows_order_nulls_and_types_are_duckdbs(con):
    labels = np.arange(8) % 3
    sql = (
        "SELECT day, g, count(*) AS n, sum(price) AS s, avg(price) FROM t WHERE predict(t) <> 1 "
        "GROUP BY day, g ORDER BY n DESC, day, g NULLS FIRST"
    )
    answer = evaluated(con, sql, {"t": one_hot(labels)})
    con.execute("CREATE TABLE m AS SELECT t.*, (rowid % 3)::BIGINT AS pred FROM t")
    plain = con.sql(sql.replace("predict(t)", "pred").replace("FROM t", "FROM m")).fetchall()
    found = [
        tuple(None if pd.isna(v) else v for v in row)
        for row in answer.frame.itertuples(index=False, name=None)
    ]
    assert [row[1:] for row in found] == [row[1:] for row in plain]
    assert [row[0].date() for row in found] == [row[0] for row in plain]
    assert list(answer.frame.columns) == ["day", "g", "n", "s", "avg(price)"]
    assert answer.columns == ("n", "s", "avg(price)")
    assert list(answer.relaxed.columns) == [*answer.frame.columns, "_exists"]


def test_unnamed_predictions_are_named_as_written(con):
    named = evaluated(con, "SELECT AVG(Predict(id)), COUNT(*) FROM t", P)
    assert list(named.frame.columns) == ["avg(predict(id))", "count_star()"]


def test_null_and_date_keys_find_their_row(con):
    sql = "SELECT g, day, count(*) AS n FROM t WHERE predict(t) >= 0 GROUP BY ALL ORDER BY ALL"
    answer = evaluated(con, sql, P)
    row = answer.find_row(where={"g": None, "day": datetime.date(2020, 1, 1)})
    assert answer.key(row) == {"g": None, "day": datetime.date(2020, 1, 1)}
    assert answer.at(answer.key(row), "n") == answer.cell(row, "n")


def test_a_key_survives_retraining_even_if_its_row_disappears(con):
    plan = make_plan(
        "SELECT g, count(*) AS n FROM t WHERE predict(t) = 1 GROUP BY g ORDER BY g",
        con,
        {"predict": (0, 1, 2)},
    )
    before = evaluate(plan, con, predictions(con, plan, {"t": one_hot(np.ones(8))}))
    moved = np.tile([0.6, 0.3, 0.1], (8, 1))
    after = evaluate(plan, con, predictions(con, plan, {"t": moved}))
    key = before.key(0)
    assert before.at(key, "n") == (4.0, 4.0)
    assert len(after.frame) == 0
    hard, relaxed = after.at(key, "n")
    assert np.isnan(hard)
    assert relaxed == pytest.approx(4 * 0.3)
    with pytest.raises(ComplaintError, match="named by"):
        after.at({"h": 1}, "n")
    assert np.isnan(after.at({"g": 77}, "n")).all()


def test_keys_that_select_does_not_show_are_kept(con):
    sql = "SELECT count(*) AS n FROM t WHERE predict(t) = 1 GROUP BY g, id % 2 = 0 ORDER BY g"
    answer = evaluated(con, sql, {"t": one_hot(np.ones(8))})
    assert list(answer.frame.columns) == ["n"]
    assert [answer.key(row)["g"] for row in range(len(answer.frame))] == [0, 1, None]
    assert set(answer.key(0)) == {"g", "id % 2 = 0"}
    assert [answer.cell(row, "n")[1] for row in range(3)] == [4.0, 2.0, 2.0]


def test_ungrouped_answers_have_an_empty_key(con):
    answer = evaluated(con, "SELECT count(*) AS n FROM t WHERE predict(t) = 1", P)
    assert answer.key(0) == {}
    assert answer.find_row() == 0
    assert answer.at({}, "n") == answer.cell(0, "n")
    assert answer.relaxed["_exists"].tolist() == [1.0]


def test_sum_without_candidates_is_nan_and_with_impossible_ones_too(con):
    nothing = evaluated(con, "SELECT sum(price) AS s FROM t WHERE predict(t) = 1 AND id < 0", P)
    assert np.isnan(nothing.cell(0, "s")).all()
    certain = evaluated(
        con, "SELECT sum(price) AS s FROM t WHERE predict(t) = 1", {"t": one_hot(np.zeros(8))}
    )
    assert np.isnan(certain.cell(0, "s")[0])
    assert certain.cell(0, "s")[1] == 0.0


def test_existence_gradient_is_the_difference(con):
    sql = "SELECT g, count(*) AS n FROM t WHERE predict(t) = 1 GROUP BY g ORDER BY g"
    answer = evaluated(con, sql, {"t": one_hot(np.ones(8)) * 0.5 + 0.5 * P["t"]})
    value, slopes = answer.existence_gradient(0)
    p = (one_hot(np.ones(8)) * 0.5 + 0.5 * P["t"])[[0, 2, 4, 6], 1]
    in_group = [i for i in (0, 2, 4, 6) if i % 4 != 3]
    assert value == pytest.approx(1 - np.prod(1 - p))
    expected = [np.prod(np.delete(1 - p, k)) for k in range(4)]
    np.testing.assert_allclose(slopes["predict", "t"][in_group, 1], expected)
    assert answer.relaxed["_exists"][0] == pytest.approx(value)


def test_row_ids_with_gaps(con):
    con.execute("DELETE FROM t WHERE id IN (1, 4)")
    p = random_probabilities(3, 6)
    answer = evaluated(con, "SELECT sum(id) AS s FROM t WHERE predict(t) = 1", {"t": p})
    ids = np.array([0, 2, 3, 5, 6, 7])
    assert answer.cell(0, "s")[1] == pytest.approx(ids @ p[:, 1])
    np.testing.assert_allclose(answer.gradient(0, "s")["predict", "t"][:, 1], ids)


def test_rowid_stays_visible(con):
    answer = evaluated(con, "SELECT sum(t.rowid) AS s FROM t WHERE predict(t) = 1 AND rowid > 2", P)
    assert answer.cell(0, "s")[1] == pytest.approx(np.arange(3, 8) @ P["t"][3:, 1])


def test_text_classes_with_quotes(con):
    classes = ("it's", 'say "no"')
    p = np.tile([0.25, 0.75], (8, 1))
    sql = "SELECT predict(t) AS c, count(*) AS n FROM t WHERE predict(t) LIKE '%''%' GROUP BY c"
    answer = evaluated(con, sql, {"t": 1 - p}, classes=classes)
    assert answer.frame["c"].tolist() == ["it's"]
    assert answer.cell(0, "n") == (8.0, 6.0)


def test_schemas_quotes_and_unicode():
    with duckdb.connect() as con:
        con.execute('CREATE SCHEMA "my schema"')
        con.execute(
            'CREATE TABLE "my schema"."Größe" AS SELECT i AS "w é", i % 2 AS g FROM range(4) r(i)'
        )
        sql = (
            'SELECT g, count(*) AS n FROM "my schema"."größe" "ä" '
            'WHERE PREDICT("ä"."W é") = 1 GROUP BY G ORDER BY g'
        )
        plan = make_plan(sql, con, {"predict": (0, 1, 2)})
        (slot,) = plan.slots
        assert (slot.table, slot.arguments) == ('"my schema"."Größe"', ("w é",))
        table = PredictionTable("predict", slot.table, None, np.arange(4), P["t"][:4], (0, 1, 2))
        answer = evaluate(plan, con, {slot: table})
        relaxed = [answer.at({"g": g}, "n")[1] for g in (0, 1)]
        assert relaxed == pytest.approx([P["t"][:4:2, 1].sum(), P["t"][1:4:2, 1].sum()])
        assert con.execute(f"SELECT count(*) FROM {plan.sql_name(slot)}").fetchall() == [(4,)]


def test_a_read_only_connection_is_enough_and_nothing_is_left_behind(tmp_path):
    path = str(tmp_path / "shop.duckdb")
    with duckdb.connect(path) as con:
        con.execute(f"CREATE TABLE t AS {FILL}")
    with duckdb.connect(path, read_only=True) as con:
        before = con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        answer = evaluated(
            con, "SELECT count(*) AS n FROM t a, t b WHERE predict(a) = predict(b) AND a.g = b.g", P
        )
        assert answer.cell(0, "n")[1] > 0
        after = con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        assert before == after == []


def test_registered_predictions_are_removed_after_an_error(con):
    plan = make_plan(
        "SELECT count(*) AS n FROM t WHERE predict(t) = 1 AND id < 100", con, {"predict": (0, 1, 2)}
    )
    con.execute("ALTER TABLE t RENAME COLUMN id TO moved")
    with pytest.raises(QueryError, match="DuckDB refuses"):
        evaluate(plan, con, predictions(con, plan, P))
    assert con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == []


def test_macros_are_duckdbs_business(con):
    con.execute("CREATE MACRO odd(c) AS c % 2 = 1")
    answer = evaluated(con, "SELECT count(*) AS n FROM t WHERE odd(predict(t))", P)
    assert answer.cell(0, "n")[1] == pytest.approx(P["t"][:, 1].sum())


def test_many_classes(con):
    p = np.random.default_rng(0).dirichlet(np.ones(200), 8)
    classes = tuple(range(200))
    mask = evaluated(
        con, "SELECT count(*) AS n FROM t WHERE predict(t) > id * 20", {"t": p}, classes=classes
    )
    expected = sum(p[i, i * 20 + 1 :].sum() for i in range(8))
    assert mask.cell(0, "n")[1] == pytest.approx(expected)
    equal = evaluated(
        con,
        "SELECT count(*) AS n FROM t a, t b WHERE predict(a) = predict(b)",
        {"t": p},
        classes=classes,
    )
    assert equal.cell(0, "n")[1] == pytest.approx((p @ p.T).sum() + 8 - (p**2).sum())


@pytest.mark.parametrize("known", [[0, 1, 2], [0, 2, 5], [1, 2, 3], []])
def test_rows_find_their_predictions_or_say_which_has_none(known):
    table = PredictionTable("predict", "t", None, np.array(known, int), np.zeros((0, 2)), (0, 1))
    assert place_rows(table, np.array(known[::-1], int)).tolist() == list(range(len(known)))[::-1]
    with pytest.raises(QueryError, match=r"1 rows of `t` have no prediction .*first: rowid 4\)"):
        place_rows(table, np.array([*known, 4], int))
