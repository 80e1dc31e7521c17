"""The exact mode equals the expectation over all possible predictions, construct by construct."""

from __future__ import annotations

import numpy as np
import pytest

from tests.relax.worlds import (
    assert_slopes,
    database,
    evaluated,
    expectation,
    flat,
    random_probabilities,
)

T = (
    "SELECT * FROM (VALUES (0, 'a', 1.5, 1), (1, 'a', NULL, 2), (2, 'b', 4.0, NULL), "
    "(3, 'b', -2.0, 0), (4, NULL, 0.5, 2)) v(id, g, price, label)"
)
SMALL = "SELECT * FROM (VALUES (0, 'a', 2.0), (1, NULL, 3.0), (2, 'b', NULL)) v(k, g, price)"
SMALLER = "SELECT * FROM (VALUES (0, 'a', 5.0), (0, 'b', 7.0)) v(k, g, cost)"


@pytest.fixture(scope="module")
def con():
    with database(t=T, l=SMALL, r=SMALLER) as con:
        yield con


P = {
    "t": random_probabilities(3, 5),
    "l": random_probabilities(4, 3),
    "r": random_probabilities(5, 2),
}

# (with predictions, the same over the column `pred` of one world)
ONE_TABLE = [
    ("count(*)", "predict(id) = 1 OR predict(id) = 2", "pred = 1 OR pred = 2"),
    ("count(*)", "NOT (predict(id) = 1 AND g = 'a')", "NOT (pred = 1 AND g = 'a')"),
    ("count(*)", "NOT predict(id) = label", "NOT pred = label"),
    ("count(*)", "predict(id) = label OR g IS NULL", "pred = label OR g IS NULL"),
    ("count(*)", "predict(id) NOT IN (1, NULL)", "pred NOT IN (1, NULL)"),
    ("count(*)", "predict(id) BETWEEN 1 AND label", "pred BETWEEN 1 AND label"),
    ("count(*)", "predict(id)::VARCHAR LIKE '1%'", "pred::VARCHAR LIKE '1%'"),
    (
        "count(*)",
        "CASE WHEN price > 1 THEN predict(id) = 0 ELSE predict(id) > 0 END",
        "CASE WHEN price > 1 THEN pred = 0 ELSE pred > 0 END",
    ),
    ("count(price)", "predict(id) <> 1", "pred <> 1"),
    ("count(predict(id))", "g = 'a'", "g = 'a'", "count(pred)"),
    ("sum(predict(id))", "predict(id) < 2", "pred < 2", "sum(pred)"),
    ("sum(price)", "predict(id) = 1 OR id = 3", "pred = 1 OR id = 3"),
    (
        "sum(price * (predict(id) = 2)::INT)",
        "id > 0",
        "id > 0",
        "sum(price * (pred = 2)::INT)",
    ),
    (
        "sum(CASE WHEN predict(id) = 1 THEN price END)",
        "predict(id) > 0",
        "pred > 0",
        "sum(CASE WHEN pred = 1 THEN price END)",
    ),
    (
        "100 * count(*) FILTER (WHERE predict(id) = 1) - sum(price) / 2",
        "predict(id) >= 1",
        "pred >= 1",
        "100 * count(*) FILTER (WHERE pred = 1) - coalesce(sum(price), 0) / 2",
    ),
    ("avg(predict(id))", "g IS NOT NULL", "g IS NOT NULL", "avg(pred)"),
    (
        "avg(CASE WHEN predict(id) = 1 THEN 1 ELSE 0 END)",
        "true",
        "true",
        "avg(CASE WHEN pred = 1 THEN 1 ELSE 0 END)",
    ),
]


def _case(case):
    return case if len(case) == 4 else (*case, case[0])


@pytest.mark.parametrize("case", ONE_TABLE, ids=lambda case: f"{case[0]} {case[1]}")
def test_one_table(con, case):
    item, where, plain_where, plain_item = _case(case)
    sql = f"SELECT {item} AS n FROM t WHERE {where}"
    expected = expectation(
        con, f"SELECT {plain_item} FROM {{t}} t WHERE {plain_where}", {"t": P["t"]}
    )
    answer = evaluated(con, sql, P)
    assert answer.cell(0, "n")[1] == pytest.approx(expected, abs=1e-9)
    assert_slopes(con, sql, P, tables=["t"])


JOINS = [
    ("predict(x) = predict(y)", "x.pred = y.pred"),
    ("predict(x) <> predict(y)", "x.pred <> y.pred"),
    ("predict(x) < predict(y) AND x.k = y.k", "x.pred < y.pred AND x.k = y.k"),
    ("predict(x) + predict(y) = 2 AND predict(x) > 0", "x.pred + y.pred = 2 AND x.pred > 0"),
    ("predict(x) = 1 OR predict(y) = 2", "x.pred = 1 OR y.pred = 2"),
    (
        "NOT (predict(x) = 1 AND (predict(y) = 0 OR x.g = 'a'))",
        "NOT (x.pred = 1 AND (y.pred = 0 OR x.g = 'a'))",
    ),
    ("predict(x) = 1 AND predict(y) = 2", "x.pred = 1 AND y.pred = 2"),
    (
        "(predict(x) = predict(y) OR x.g < y.g) AND predict(x) < 2",
        "(x.pred = y.pred OR x.g < y.g) AND x.pred < 2",
    ),
    ("predict(x) = y.k", "x.pred = y.k"),
    ("predict(x) = predict(y) AND x.price < 3", "x.pred = y.pred AND x.price < 3"),
]


# Every condition with both items, one over two tables and one over the same table twice.
JOINED = [
    pytest.param(tables, item, *JOINS[j], marks=pytest.mark.slow if (j + t + i) % 2 else ())
    for j in range(len(JOINS))
    for t, tables in enumerate(["l x, r y", "l x JOIN l y ON true"])
    for i, item in enumerate(["count(*)", "sum(x.price)"])
]


@pytest.mark.parametrize(("tables", "item", "where", "plain"), JOINED)
def test_joins_and_self_joins(con, tables, item, where, plain):
    sql = f"SELECT {item} AS n FROM {tables} WHERE {where}"
    used = {"l": P["l"]} if "r y" not in tables else {"l": P["l"], "r": P["r"]}
    rendered = tables.replace("l x", "{l} x").replace("l y", "{l} y").replace("r y", "{r} y")
    expected = expectation(con, f"SELECT {item} FROM {rendered} WHERE {plain}", used)
    answer = evaluated(con, sql, P)
    predicted = {table for _, table in answer.gradient(0, "n")}
    assert predicted <= set(used)
    assert answer.cell(0, "n")[1] == pytest.approx(expected, abs=1e-9)
    assert_slopes(con, sql, P, tables=predicted)


def test_three_tables_of_which_one_is_certain(con):
    sql = (
        "SELECT y.g, count(*) AS n FROM l x JOIN r y ON predict(x) = predict(y) "
        "JOIN t d ON d.id = x.k GROUP BY y.g ORDER BY 1"
    )
    answer = flat(con, sql, P)
    assert "factorised" in answer.method
    for row, g in enumerate(answer.frame["g"]):
        expected = expectation(
            con,
            "SELECT count(*) FROM {l} x JOIN {r} y ON x.pred = y.pred JOIN t d ON d.id = x.k "
            f"WHERE y.g = '{g}'",
            {"l": P["l"], "r": P["r"]},
        )
        assert answer.cell(row, "n")[1] == pytest.approx(expected, abs=1e-9)


def test_three_predictions_in_one_row(con):
    sql = (
        "SELECT count(*) AS n FROM l x, l y, r z "
        "WHERE predict(x) = predict(y) AND predict(y) = predict(z)"
    )
    expected = expectation(
        con,
        "SELECT count(*) FROM {l} x, {l} y, {r} z WHERE x.pred = y.pred AND y.pred = z.pred",
        {"l": P["l"], "r": P["r"]},
    )
    answer = evaluated(con, sql, P)
    assert answer.cell(0, "n")[1] == pytest.approx(expected, abs=1e-9)
    assert_slopes(con, sql, P, tables=["l", "r"])


GROUPED = [
    ("predict(id)", "pred", "t", "true", "true"),
    ("predict(id) IN (0, 2)", "pred IN (0, 2)", "t", "price > 0", "price > 0"),
    ("g", "g", "t", "predict(id) = 1", "pred = 1"),
    ("upper(g), predict(id)", "upper(g), pred", "t", "predict(id) <> 1", "pred <> 1"),
    (
        "CASE WHEN predict(id) = 1 THEN 'one' ELSE 'other' END",
        "CASE WHEN pred = 1 THEN 'one' ELSE 'other' END",
        "t",
        "true",
        "true",
    ),
]


@pytest.mark.parametrize(("key", "plain_key", "table", "where", "plain_where"), GROUPED)
def test_groups_and_their_existence(con, key, plain_key, table, where, plain_where):
    answer = evaluated(
        con,
        f"SELECT {key}, count(*) AS n, sum(price) AS s, sum(predict(id)) AS p FROM {table} "
        f"WHERE {where} GROUP BY ALL ORDER BY ALL",
        P,
    )
    names = list(answer.frame.columns[: plain_key.count(", ") + 1 if "IN" not in plain_key else 1])
    assert len(answer.frame)
    for row in range(len(answer.frame)):
        values = list(answer.key(row).values())
        keys = [plain_key] if len(values) == 1 else plain_key.split(", ")
        same = " AND ".join(
            f"({k}) IS NOT DISTINCT FROM {_literal(v)}" for k, v in zip(keys, values, strict=True)
        )
        rows = f"FROM {{t}} t WHERE {plain_where} AND {same}"
        for column, item in (("n", "count(*)"), ("s", "sum(price)"), ("p", "sum(pred)")):
            expected = expectation(con, f"SELECT {item} {rows}", {"t": P["t"]})
            assert answer.cell(row, column)[1] == pytest.approx(expected, abs=1e-9), (names, row)
        there = expectation(con, f"SELECT (count(*) > 0)::INT {rows}", {"t": P["t"]})
        assert answer.relaxed["_exists"][row] == pytest.approx(there, abs=1e-9)


def _literal(value):
    return "NULL" if value is None else repr(value)


JOIN_GROUPS = [
    ("x.g", "x.g"),
    ("y.g", "y.g"),
    ("x.g, y.g", "x.g, y.g"),
    ("predict(x)", "x.pred"),
    ("predict(x), predict(y)", "x.pred, y.pred"),
    ("y.g, predict(y)", "y.g, y.pred"),
]


MET = [("predict(x) <= predict(y)", "x.pred <= y.pred"), ("x.k >= y.k", "x.k >= y.k")]
# Every key with both conditions, one over two tables and one over the same table twice.
JOIN_GROUPED = [
    pytest.param(*keys, tables, *MET[m], marks=pytest.mark.slow if (k + t + m) % 2 else ())
    for k, keys in enumerate(JOIN_GROUPS)
    for t, tables in enumerate(["l x, r y", "l x, l y"])
    for m in range(2)
]


@pytest.mark.parametrize(("keys", "plain_keys", "tables", "where", "plain"), JOIN_GROUPED)
def test_grouped_joins(con, keys, plain_keys, tables, where, plain):
    written = (
        f"SELECT count(*) AS n, sum(x.price) AS s FROM {tables} WHERE {where} AND predict(x) < 2 "
        f"GROUP BY {keys} ORDER BY {keys}"
    )
    answer = evaluated(con, written, P)
    assert len(answer.frame)
    used = {"l": P["l"], "r": P["r"]} if "r y" in tables else {"l": P["l"]}
    rendered = tables.replace("l x", "{l} x").replace("l y", "{l} y").replace("r y", "{r} y")
    for row in range(len(answer.frame)):
        same = " AND ".join(
            f"{k} IS NOT DISTINCT FROM {_literal(v)}"
            for k, v in zip(plain_keys.split(", "), answer.key(row).values(), strict=True)
        )
        for column, item in (("n", "count(*)"), ("s", "sum(x.price)")):
            sql = f"SELECT {item} FROM {rendered} WHERE {plain} AND x.pred < 2 AND {same}"
            relaxed = answer.cell(row, column)[1]
            if np.isnan(relaxed):
                assert expectation(con, sql.replace("sum(", "count("), used) == 0
            else:
                assert relaxed == pytest.approx(expectation(con, sql, used), abs=1e-9), (
                    row,
                    column,
                )
    tables = [table for _, table in answer.gradient(0, "n")]
    assert_slopes(con, written, P, tables=tables, row=len(answer.frame) - 1)


@pytest.mark.parametrize(
    ("item", "where", "plain_item", "plain_where"),
    [
        ("avg(price)", "predict(id) = 1", "avg(price)", "pred = 1"),
        ("avg(predict(id))", "predict(id) IN (1, 2)", "avg(pred)", "pred IN (1, 2)"),
        (
            "avg(CASE WHEN predict(id) > 0 THEN price END)",
            "true",
            "avg(CASE WHEN pred > 0 THEN price END)",
            "true",
        ),
        (
            "avg(price) FILTER (WHERE predict(id) = label)",
            "g = 'a'",
            "avg(price) FILTER (WHERE pred = label)",
            "g = 'a'",
        ),
    ],
)
def test_average_over_uncertain_rows_is_conditional_on_having_one(
    con, item, where, plain_item, plain_where
):
    sql = f"SELECT {item} AS n FROM t WHERE {where}"
    plain = f"SELECT {plain_item} FROM {{t}} t WHERE {plain_where}"
    count = plain.replace("avg(", "count(")
    expected = expectation(con, plain, {"t": P["t"]}, condition=count)
    answer = evaluated(con, sql, P)
    assert answer.cell(0, "n")[1] == pytest.approx(expected, abs=1e-9)
    assert_slopes(con, sql, P, tables=["t"])


def test_average_by_predicted_group(con):
    answer = evaluated(
        con, "SELECT predict(id) AS c, avg(price) AS n FROM t GROUP BY c ORDER BY c", P
    )
    for row, c in enumerate(answer.frame["c"]):
        rows = f"FROM {{t}} t WHERE pred = {c}"
        expected = expectation(
            con, f"SELECT avg(price) {rows}", {"t": P["t"]}, condition=f"SELECT count(price) {rows}"
        )
        assert answer.cell(row, "n")[1] == pytest.approx(expected, abs=1e-9)


def test_two_models_are_two_variables(con):
    functions = {"predict": (0, 1, 2), "spam": ("no", "yes")}
    q = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.6, 0.4]])
    sql = "SELECT count(*) AS n FROM t WHERE predict(id) = 1 OR spam(g, id) = 'yes'"
    both = {("predict", "t"): P["t"], ("spam", "t"): q}
    answer = evaluated(con, sql, both, classes=functions)
    either = 1 - (1 - P["t"][:, 1]) * (1 - q[:, 1])
    assert answer.cell(0, "n")[1] == pytest.approx(either.sum(), rel=1e-12)
    slopes = answer.gradient(0, "n")
    np.testing.assert_allclose(slopes["predict", "t"][:, 1], 1 - q[:, 1])
    np.testing.assert_allclose(slopes["spam", "t"][:, 1], 1 - P["t"][:, 1])


def test_one_condition_over_models_with_different_classes(con):
    functions = {"predict": (0, 1, 2), "flag": (1, 2)}
    q = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.6, 0.4]])
    both = {("predict", "t"): P["t"], ("flag", "t"): q}
    sql = "SELECT count(*) AS n FROM t WHERE predict(id) < flag(id)"
    answer = evaluated(con, sql, both, classes=functions)
    expected = P["t"][:, 0] + P["t"][:, 1] * q[:, 1]
    assert answer.cell(0, "n")[1] == pytest.approx(expected.sum(), rel=1e-12)
    np.testing.assert_allclose(
        answer.gradient(0, "n")["flag", "t"][:, 1], P["t"][:, :2].sum(axis=1)
    )
