"""Traps of sqlglot and DuckDB that were met while designing the relaxation, each with its query.

Numbers after # are issues of sqlglot: rewrites of its optimizer that changed what a query means.
None of them is run by rainpp; these tests would notice.
"""

from __future__ import annotations

import random

import duckdb
import numpy as np
import pytest

import rainpp
from tests.relax.corpus import asked, judge
from tests.relax.corpus_runs import same_as_duckdb
from tests.relax.corpus_schema import MODELS, Data, random_data
from tests.relax.enumeration import GIVEN, TOTAL, Oracle
from tests.relax.generator import Generated, random_query

# The optimizer of DuckDB 2.0.0: "Failed to bind column reference".
FAILS = "WITH w AS (SELECT predict(q3.x) AS k0, predict(q1.x) AS k1, 100 * count(*)"
DAY = "DATE '2024-01-01'"


def rows(*listed):
    """Rows (k, g, a) as those of the corpus."""
    return [
        [str(i), *("NULL" if v is None else repr(v) for v in row), "0.5", DAY]
        for i, row in enumerate(listed)
    ]


@pytest.fixture(scope="module")
def data():
    tables = {
        "t": rows((1, "p", 2), (None, "q", None), (0, None, 1)),
        "u": rows((1, "p", None), (None, None, 1)),
        "s": rows((0, "p", 1), (None, "hi", None), (1, None, 0)),
    }
    for feature, row in enumerate([*tables["t"], *tables["u"]], 1):
        row.append(str(feature))
    rng = np.random.default_rng(5)
    probabilities = {
        ("predict", "t"): rng.dirichlet(np.ones(3), 3),
        ("label", "t"): rng.dirichlet(np.ones(2), 3),
        ("predict", "u"): rng.dirichlet(np.ones(3), 2),
    }
    return Data(tables, {"t": ("predict", "label"), "u": ("predict",)}, probabilities)


@pytest.fixture(scope="module")
def con(data):
    with data.open() as con:
        yield con


TRAPS = {
    "NOT IN a list with a NULL, #7671": (
        "SELECT q1.id AS k0 FROM s q1 WHERE q1.k NOT IN "
        "(SELECT q2.k FROM t q2 WHERE predict(q2.x) <> 1)",
        {},
    ),
    "CASE around a scalar subquery, #7067": (
        "SELECT q1.id AS k0, CASE WHEN q1.k = 1 THEN (SELECT count(*) FROM t q2 WHERE q2.k = q1.k "
        "AND predict(q2.x) = 2) ELSE -1 END AS c0 FROM s q1",
        {"c0": GIVEN},
    ),
    "a negated correlation, #7958": (
        "SELECT q1.id AS k0 FROM s q1 WHERE NOT EXISTS "
        "(SELECT 1 FROM t q2 WHERE NOT (q2.k = q1.k) AND predict(q2.x) = 1)",
        {},
    ),
    "a correlated inequality": (
        "SELECT q1.id AS k0 FROM s q1 WHERE 1 <= "
        "(SELECT count(*) FROM t q2 WHERE q2.id > q1.id AND predict(q2.x) > 0)",
        {},
    ),
    "a correlated NOT IN, #8236": (
        "SELECT q1.id AS k0 FROM s q1 WHERE q1.a NOT IN "
        "(SELECT q2.a FROM t q2 WHERE q2.g = q1.g AND predict(q2.x) = 0)",
        {},
    ),
    "an IN subquery below OR, dropped by sqlglot's executor, #8184": (
        "SELECT count(*) AS c0 FROM s q1 WHERE q1.a = 0 OR q1.k IN "
        "(SELECT predict(q2.x) FROM t q2 WHERE q2.a > 0)",
        {"c0": TOTAL},
    ),
    "a count over no row is 0, not NULL": (
        "SELECT q1.id AS k0, (SELECT count(*) FROM t q2 WHERE q2.k = q1.k AND q2.g = q1.g "
        "AND predict(q2.x) = 1) AS c0 FROM s q1",
        {"c0": GIVEN},
    ),
    "NOT of a comparison with NULL, which simplify turns round": (
        "SELECT count(*) AS c0 FROM t q1 WHERE NOT (predict(q1.x) > q1.a)",
        {"c0": TOTAL},
    ),
    "a = a is not true for NULL": (
        "SELECT count(*) AS c0 FROM t q1 WHERE predict(q1.x) = 1 AND q1.k = q1.k",
        {"c0": TOTAL},
    ),
    "one prediction behind an alias, a group key and HAVING": (
        "SELECT predict(q1.x) AS k0, count(*) AS c0 FROM t q1 GROUP BY k0 HAVING k0 <> 2",
        {"c0": GIVEN},
    ),
    "a windowed aggregate beside a prediction": (
        "SELECT q1.id AS k0, count(*) OVER (PARTITION BY q1.g) AS c0 FROM t q1 "
        "WHERE predict(q1.x) < 2",
        {"c0": GIVEN},
    ),
    "a filter beside an outer join": (
        "SELECT q1.id AS k0, q2.id AS k1 FROM s q1 LEFT JOIN t q2 ON q1.k = q2.k "
        "WHERE predict(q2.x) = 1 OR q2.id IS NULL",
        {},
    ),
    "the key of a grouping set is NULL in the output only": (
        "SELECT grouping(q1.g) AS k0, q1.g AS k1, count(*) FILTER (WHERE q1.g IS NULL) AS c0 "
        "FROM t q1 WHERE predict(q1.x) = 1 GROUP BY ROLLUP (q1.g)",
        {"c0": TOTAL},
    ),
    "EXISTS over an empty table": (
        "SELECT q1.id AS k0 FROM t q1 WHERE NOT EXISTS "
        "(SELECT 1 FROM u q2 WHERE predict(q2.x) = 1 AND q2.id > 9) AND predict(q1.x) = 0",
        {},
    ),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_rewriters_get_wrong_is_right(con, data, name):
    sql, cells = TRAPS[name]
    verdict = judge(con, Oracle(con, MODELS), data, Generated(sql, cells, frozenset()))
    assert verdict.status == "exact", verdict


def test_predictions_in_a_subquery_are_seen(con, data):
    sql = "SELECT count(*) AS n FROM s WHERE s.k NOT IN (SELECT u.k FROM u WHERE predict(u.x) = 1)"
    gradient = asked(con, sql, data.probabilities).gradient(0, "n")
    assert np.abs(gradient["predict", "u"]).max() > 0


def test_the_connection_is_free_after_an_answer(con, data):
    sql = "SELECT g, max(a) AS m FROM t WHERE predict(x) = 1 GROUP BY g HAVING count(*) > 0"
    asked(con, sql, data.probabilities)
    con.register("later", con.sql("SELECT 1 AS one").to_arrow_table())
    assert con.execute("SELECT one FROM later").fetchall() == [(1,)]
    con.unregister("later")


def test_rows_keep_their_predictions_after_a_deletion():
    with duckdb.connect() as con:
        con.execute("CREATE TABLE d AS SELECT i AS x, i % 2 AS g FROM range(6) r(i)")
        con.execute("DELETE FROM d WHERE x IN (1, 2)")
        p = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])  # of x = 0, 3, 4, 5
        db = rainpp.connect(con)
        db.register_predictions("predict", table="d", probabilities=p)
        relaxed = db.sql(
            "SELECT g, max(x) AS m FROM d WHERE predict(x) = 1 GROUP BY g ORDER BY g"
        ).relaxed()
        assert relaxed["m"][0] == pytest.approx(0.6, abs=9)
        result = db.sql(
            "SELECT count(*) AS n FROM (SELECT DISTINCT g FROM d WHERE predict(x) = 1) z"
        )
        assert result.relaxed()["n"][0] == pytest.approx((1 - 0.9 * 0.3) + (1 - 0.4 * 0.8))


def test_large_integers_are_summed_exactly():
    """DuckDB sums BIGINT to HUGEINT, which Arrow shows as a decimal."""
    with duckdb.connect() as con:
        con.execute("CREATE TABLE h AS SELECT i AS x, 2**52 + i AS v FROM range(4) r(i)")
        db = rainpp.connect(con)
        db.register_predictions("predict", table="h", probabilities=np.eye(2)[[1, 1, 0, 1]])
        for sql in (
            "SELECT sum(v::BIGINT) AS s FROM h WHERE predict(x) = 1",
            "SELECT sum(v::BIGINT) AS s FROM h WHERE predict(x) = 1 HAVING count(*) > 0",
        ):
            result = db.sql(sql)
            assert float(result.df()["s"][0]) == 3 * 2**52 + 4
            assert result.relaxed()["s"][0] == 3 * 2**52 + 4


def test_the_order_of_rows_changes_nothing():
    """`list()` follows no order with several threads; neither may a relaxed value."""
    rng = random.Random(0)
    listed = [(i, rng.choice("pq"), rng.randint(0, 5), rng.random()) for i in range(40)]
    sql = (
        "SELECT g, max(a) AS m, sum(a) AS s FROM o WHERE predict(x) = 1 GROUP BY g "
        "HAVING count(*) > 1 ORDER BY g"
    )
    answers = []
    for _ in range(3):
        rng.shuffle(listed)
        with duckdb.connect(config={"threads": 4}) as con:
            con.execute("CREATE TABLE o (x INT, g VARCHAR, a INT)")
            con.executemany("INSERT INTO o VALUES (?, ?, ?)", [row[:3] for row in listed])
            db = rainpp.connect(con)
            p = np.array([[1 - row[3], row[3]] for row in listed])
            db.register_predictions("predict", table="o", probabilities=p)
            answers.append(db.sql(sql).relaxed()[["m", "s", "_exists"]].to_numpy())
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-12)


def test_a_query_on_which_the_optimizer_of_duckdb_fails_is_run_without_it():
    rng = random.Random(110)
    certain = random_data(rng, largest=12, one_hot=True)
    query = next(q for q in (random_query(rng) for _ in range(20)) if q.sql.startswith(FAILS))
    with certain.open() as con:
        assert same_as_duckdb(con, Oracle(con, MODELS), certain, query).status == "exact"
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(len(certain.tables["t"]),)]
