"""Rain's product rules: the numbers they give where they differ from the exact ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.relax.worlds import assert_slopes, database, evaluated, random_probabilities

P = {"t": random_probabilities(0, 4), "s": random_probabilities(1, 3)}
p = P["t"]


@pytest.fixture(scope="module")
def con():
    fill = "SELECT i AS id, i * 1.5 + 1 AS price, i % 2 AS g FROM range({}) r(i)"
    with database(t=fill.format(4), s=fill.format(3)) as con:
        yield con


@pytest.mark.parametrize(
    ("item", "where", "expected"),
    [
        ("count(*)", "predict(id) = 0 OR predict(id) = 1", 1 - (1 - p[:, 0]) * (1 - p[:, 1])),
        ("count(*)", "predict(id) IN (0, 1)", p[:, 0] + p[:, 1]),
        ("count(*)", "predict(id) = 0 AND predict(id) <> 1", p[:, 0] * (1 - p[:, 1])),
        ("count(*)", "NOT (predict(id) = 0 OR predict(id) = 1)", (1 - p[:, 0]) * (1 - p[:, 1])),
        ("count(*)", "NOT predict(id) = 2", 1 - p[:, 2]),
        ("count(*)", "predict(id) = 0 OR g = 1", np.where(np.arange(4) % 2, 1.0, p[:, 0])),
        ("sum(predict(id))", "predict(id) = 1", p[:, 1] * (p @ np.arange(3))),
        (
            "count(*)",
            "predict(id)=0 OR predict(id)=1 OR predict(id)=2 OR predict(id)=0 OR predict(id)=1 "
            "OR predict(id)=2 OR predict(id)=0 OR predict(id)=1 OR predict(id)=2",
            1 - ((1 - p) ** 3).prod(axis=1),
        ),
    ],
)
def test_product_rules(con, item, where, expected):
    sql = f"SELECT {item} AS n FROM t WHERE {where}"
    answer = evaluated(con, sql, P, mode="rain")
    assert answer.cell(0, "n")[1] == pytest.approx(expected.sum(), rel=1e-12)
    assert answer.method == "rain (rows)"
    assert_slopes(con, sql, P, tables=["t"], mode="rain")


def test_average_is_the_ratio_of_expectations(con):
    sql = "SELECT avg(price) AS n FROM t WHERE predict(id) = 1"
    price = np.arange(4) * 1.5 + 1
    answer = evaluated(con, sql, P, mode="rain")
    assert answer.cell(0, "n")[1] == pytest.approx((price @ p[:, 1]) / p[:, 1].sum(), rel=1e-12)
    assert_slopes(con, sql, P, tables=["t"], mode="rain")


def test_self_join_squares_the_diagonal(con):
    sql = "SELECT count(*) AS n FROM t a, t b WHERE predict(a) = predict(b)"
    rain, exact = evaluated(con, sql, P, mode="rain"), evaluated(con, sql, P)
    assert rain.cell(0, "n")[1] == pytest.approx((p @ p.T).sum(), rel=1e-12)
    assert exact.cell(0, "n")[1] == pytest.approx((p @ p.T).sum() + 4 - (p**2).sum(), rel=1e-12)
    assert_slopes(con, sql, P, tables=["t"], mode="rain")


def test_grouped_join_by_prediction_falls_back_to_rows(con):
    sql = (
        "SELECT predict(a) AS c, count(*) AS n FROM t a, s b WHERE predict(a) = predict(b) "
        "GROUP BY c ORDER BY c"
    )
    answer = evaluated(con, sql, P, mode="rain")
    for row, c in enumerate(answer.frame["c"]):
        expected = ((p @ P["s"].T) * p[:, [c]]).sum()
        assert answer.cell(row, "n")[1] == pytest.approx(expected, rel=1e-12)
    assert_slopes(con, sql, P, tables=["t", "s"], mode="rain")


@pytest.mark.parametrize("where", ["predict(id) = 1", "predict(id) <> 1 AND g = 0", "g = 1"])
def test_linear_queries_are_the_same_in_both_modes(con, where):
    sql = f"SELECT count(*) AS n, sum(price) AS s FROM t WHERE {where} AND predict(id) >= 0"
    exact, rain = evaluated(con, sql, P), evaluated(con, sql, P, mode="rain")
    for column in ("n", "s"):
        assert exact.cell(0, column)[1] == pytest.approx(rain.cell(0, column)[1], rel=1e-12)


def test_existence_in_rain_mode(con):
    sql = "SELECT g, count(*) AS n FROM t WHERE predict(id) = 1 GROUP BY g ORDER BY g"
    answer = evaluated(con, sql, P, mode="rain")
    rows = np.arange(4) % 2 == answer.frame["g"][0]
    assert answer.relaxed["_exists"][0] == pytest.approx(1 - np.prod(1 - p[rows, 1]))
