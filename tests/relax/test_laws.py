"""Laws that hold for any data: certain predictions are the plain query, rewrites change nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainpp.relax import capture
from rainpp.relax.plan import make_plan
from tests.relax.worlds import (
    CLASSES,
    database,
    evaluated,
    flat,
    frame,
    one_hot,
    random_probabilities,
)

ROW = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.one_of(st.none(), st.integers(-5, 5)),
    st.one_of(st.none(), st.integers(0, 3)),
    st.integers(0, 2),
)


def filled(rows):
    """A table's SQL with columns g, price, k and the predictions `pred`; possibly empty."""
    values = ", ".join(
        f"({i}, {_sql(g)}, {_sql(price)}, {_sql(k)}, {pred})"
        for i, (g, price, k, pred) in enumerate(rows)
    )
    listed = f"(VALUES {values})" if rows else "(SELECT 0, 'a', 0, 0, 0 WHERE false)"
    return (
        "SELECT id::INT AS id, g::VARCHAR AS g, price::INT AS price, k::INT AS k, "
        f"pred::BIGINT AS pred FROM {listed} v(id, g, price, k, pred)"
    )


def _sql(value):
    return "NULL" if value is None else repr(value)


# The plain query is the same text over the column `pred`: P(x) marks a prediction.
QUERIES = [
    "SELECT count(*) AS n FROM t WHERE P(t) = 1",
    "SELECT g, count(*) AS n, sum(price) AS s FROM t WHERE P(t) <> 1 GROUP BY g ORDER BY g",
    "SELECT count(price) AS n, avg(price) AS a FROM t WHERE P(t) IN (0, 2) OR k = 1",
    "SELECT avg(P(t)) AS a, sum(P(t)) AS s FROM t WHERE k > 0",
    "SELECT avg(P(t)) AS a FROM t WHERE NOT (P(t) = k)",
    "SELECT P(t) AS c, g, count(*) AS n, avg(price) AS a FROM t GROUP BY ALL ORDER BY ALL",
    "SELECT P(t) IN (0, 1) AS c, sum(P(t)) AS s FROM t WHERE price > 0 GROUP BY 1 ORDER BY 1",
    "SELECT 100 * count(*) - count(price) / 2 AS x FROM t WHERE P(t) BETWEEN 0 AND k",
    "SELECT count(*) FILTER (WHERE P(t) = 1) AS n, count(*) AS m FROM t GROUP BY k ORDER BY k",
    "SELECT count(*) AS n FROM t x, u y WHERE P(x) = P(y)",
    "SELECT count(*) AS n, sum(x.price) AS s FROM t x JOIN u y USING (k) WHERE P(x) <> P(y)",
    "SELECT y.g AS g, count(*) AS n FROM t x JOIN u y ON P(x) = P(y) AND x.k = y.k "
    "WHERE x.price > -3 GROUP BY y.g ORDER BY ALL",
    "SELECT x.g AS g, y.g AS h, P(y) AS c, count(*) AS n FROM t x, u y WHERE P(x) >= P(y) "
    "GROUP BY ALL ORDER BY ALL",
    "SELECT count(*) AS n, sum(x.price) AS s FROM t x, t y WHERE P(x) = P(y) AND x.k = y.k",
    "SELECT count(*) AS n FROM t x, t y WHERE P(x) = 1 OR P(y) = 2",
    "SELECT x.g AS g, count(*) AS n FROM t x CROSS JOIN t y WHERE P(x) < P(y) OR x.price < y.price "
    "GROUP BY 1 ORDER BY 1",
]


@pytest.fixture(scope="module")
def filled_again():
    """A database whose tables are made anew for each example: opening one takes longer."""
    with database() as con:
        yield con


@pytest.mark.parametrize("sql", QUERIES)
@pytest.mark.parametrize("mode", ["exact", "rain"])
@settings(max_examples=8)
@given(left=st.lists(ROW, max_size=6), right=st.lists(ROW, max_size=4))
def test_certain_predictions_are_the_plain_query(filled_again, sql, mode, left, right):
    con = filled_again
    for name, rows in (("t", left), ("u", right)):
        con.execute(f"CREATE OR REPLACE TABLE {name} AS {filled(rows)}")
    certain = {"t": one_hot([r[3] for r in left]), "u": one_hot([r[3] for r in right])}
    certain = {name: p.reshape(-1, 3) for name, p in certain.items()}
    written = sql.replace("P(", "predict(")
    # Rain squares a certain prediction like any other; only self-joins keep its diagonal.
    answer = evaluated(con, written, certain, mode=mode)
    plain = frame(
        con, sql.replace("P(t)", "pred").replace("P(x)", "x.pred").replace("P(y)", "y.pred")
    )
    assert list(answer.frame.columns) == list(plain.columns)
    for column in plain.columns:
        hard, expected = answer.frame[column].tolist(), plain[column].tolist()
        assert [_plain(v) for v in hard] == [_plain(v) for v in expected]
    for row in range(len(plain)):
        for column in answer.columns:
            hard, relaxed = answer.cell(row, column)
            # SUM over rows that could count but do not is NULL for SQL, zero when relaxed.
            if not np.isnan(relaxed) and not (np.isnan(hard) and relaxed == 0):
                assert relaxed == pytest.approx(hard, abs=1e-9), (row, column)
            else:
                assert np.isnan(hard)
    assert (answer.relaxed["_exists"] > 1 - 1e-9).all()


def _plain(value):
    return None if value is None or value != value else value


REWRITES = [
    ("predict(t) = 0 OR predict(t) = 2", "predict(t) IN (0, 2)"),
    ("NOT (predict(t) = 0 OR k = 1)", "predict(t) <> 0 AND k <> 1"),
    ("NOT (predict(t) = 0 AND k = 1)", "predict(t) <> 0 OR k <> 1"),
    ("predict(t) NOT IN (1)", "NOT predict(t) = 1"),
    ("predict(t) > 0", "predict(t) BETWEEN 1 AND 2"),
    ("predict(t) = 1 AND predict(t) = 2", "false"),
    ("predict(t) = 1 OR NOT predict(t) = 1", "true"),
]
DATA = [("a", 1, 1, 0), ("b", None, None, 1), (None, 4, 2, 2), ("b", -2, 1, 0)]
P = {"t": random_probabilities(7, 4), "u": random_probabilities(8, 3)}


@pytest.fixture(scope="module")
def con():
    with database(t=filled(DATA), u=filled(DATA[:3])) as con:
        yield con


@pytest.mark.parametrize(("one", "other"), REWRITES)
def test_equivalent_conditions_relax_alike(con, one, other):
    values = [
        evaluated(con, f"SELECT count(*) AS n, sum(predict(t)) AS s FROM t WHERE {where}", P)
        for where in (one, other)
    ]
    for column in ("n", "s"):
        one_value, other_value = (value.cell(0, column)[1] for value in values)
        assert one_value == pytest.approx(other_value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    "condition",
    [
        "predict(t) = k",
        "predict(t) < k OR g = 'a'",
        "predict(t) = 1 AND price > 0",
        "k > predict(t)",
    ],
)
def test_a_condition_its_negation_and_unknown_make_the_whole(con, condition):
    parts = [
        evaluated(con, f"SELECT count(*) AS n, sum(predict(t)) AS s FROM t WHERE {where}", P)
        for where in (condition, f"NOT ({condition})", f"({condition}) IS NULL", "true")
    ]
    for column in ("n", "s"):
        yes, no, unknown, whole = (part.cell(0, column)[1] for part in parts)
        assert np.nansum([yes, no, unknown]) == pytest.approx(whole, rel=1e-12)


def test_join_order_does_not_matter(con):
    sql = "SELECT count(*) AS n, sum(x.price) AS s FROM {} WHERE predict(x) >= predict(y)"
    one = evaluated(con, sql.format("t x JOIN u y ON x.k = y.k"), P)
    other = evaluated(con, sql.format("u y JOIN t x ON y.k = x.k"), P)
    for column in ("n", "s"):
        assert one.cell(0, column)[1] == pytest.approx(other.cell(0, column)[1], rel=1e-12)


def test_factorised_equals_row_pairs():
    rng = np.random.default_rng(0)
    fill = (
        "SELECT i AS id, i % 7 AS k, i % 3 AS g, (i * 37 % 11)::DOUBLE AS price FROM range({}) r(i)"
    )
    p = {"t": rng.dirichlet(np.ones(3), 60), "u": rng.dirichlet(np.ones(3), 50)}
    where = "x.k = y.k AND predict(x) <> predict(y)"
    items = "x.g AS g, count(*) AS n, sum(x.price) AS s"
    with database(t=fill.format(60), u=fill.format(50)) as con:
        for other in ("u", "t"):
            sql = f"SELECT {items} FROM t x, {other} y WHERE {where}"
            fast = flat(con, f"{sql} GROUP BY 1 ORDER BY 1", p)
            # A condition over columns of both sides cannot be cut, so DuckDB joins the rows.
            slow = flat(con, f"{sql} AND x.id + y.id >= 0 GROUP BY 1 ORDER BY 1", p)
            assert ("factorised" in fast.method, "rows" in slow.method) == (True, True)
            for row in range(3):
                for column in ("n", "s"):
                    assert fast.cell(row, column) == pytest.approx(
                        slow.cell(row, column), rel=1e-12
                    )
                    slopes = fast.gradient(row, column), slow.gradient(row, column)
                    for key, slope in slopes[0].items():
                        np.testing.assert_allclose(slope, slopes[1][key], rtol=1e-9, atol=1e-9)


def test_the_same_digits_every_time():
    rng = np.random.default_rng(1)
    p = {"t": rng.dirichlet(np.ones(3), 2000), "u": rng.dirichlet(np.ones(3), 2000)}
    fill = "SELECT i AS id, i % 97 AS k, sin(i) AS price FROM range(2000) r(i)"
    with database(t=fill, u=fill) as con:
        con.execute("SET threads = 4")
        for sql in (
            "SELECT k % 5 AS g, sum(price) AS n FROM t WHERE predict(t) = 1 GROUP BY g ORDER BY g",
            "SELECT x.k % 3 AS g, sum(x.price) AS n FROM t x JOIN u y USING (k) "
            "WHERE predict(x) = predict(y) GROUP BY g ORDER BY g",
        ):
            answers = [evaluated(con, sql, p) for _ in range(20)]
            assert len({tuple(answer.relaxed["n"]) for answer in answers}) == 1
            assert (
                len({answer.gradient(1, "n")["predict", "t"].tobytes() for answer in answers}) == 1
            )


def test_the_order_in_which_duckdb_returns_rows_does_not_matter(con, monkeypatch):
    fetch, rng = capture._fetch, np.random.default_rng(0)

    def shuffled(*args):
        table = fetch(*args)
        return table.take(pa.array(rng.permutation(table.num_rows)))

    monkeypatch.setattr(capture, "_fetch", shuffled)
    sql = (
        "SELECT x.k AS k, sum(x.price / 3.0) AS n FROM t x JOIN u y ON x.id <> y.id + 9 "
        "WHERE predict(x) > 0 GROUP BY 1 ORDER BY 1"
    )
    answers = [flat(con, sql, P) for _ in range(10)]
    assert len({answer.relaxed["n"].to_numpy().tobytes() for answer in answers}) == 1
    for relation in answers[0]._sums.relations:
        places = np.stack([relation.group, relation.key, *relation.rids.values()], axis=1)
        assert (np.lexsort(places.T[::-1]) == np.arange(len(places))).all()


def test_plans_are_deterministic_and_readable(con):
    sql = "SELECT count(*) FROM t x, u y WHERE predict(x) = predict(y) AND x.k = y.k AND x.g = 'a'"
    plans = [str(make_plan(sql, con, {"predict": CLASSES})) for _ in range(3)]
    assert len(set(plans)) == 1
    for part in ("factorised", "t AS x", "join key", "predict(x) = predict(y)", "= 'a'"):
        assert part in plans[0]
