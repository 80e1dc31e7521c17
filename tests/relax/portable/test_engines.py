"""The same plan gives the same values, existence and slopes in every database."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache

import numpy as np
import pytest

from tests.relax.portable.checks import Trial
from tests.relax.portable.engines import NAMES, engine
from tests.relax.worlds import database, random_probabilities

# NULL keys and measures, duplicate rows, gaps in rowid, names that need quotes.
T = (
    "SELECT * FROM (VALUES (1, 'a', 2.5, 1), (2, 'a', NULL, 1), (3, NULL, -1.0, 2), "
    "(4, 'it''s', 4.0, NULL), (5, 'it''s', 4.0, NULL), (6, NULL, 0.5, 2)) v(id, g, a, k)"
)
S = (
    "SELECT * FROM (VALUES (1, 10.0, 'a'), (1, 20.0, 'b'), (2, 5.0, NULL), (NULL, 7.0, 'a'), "
    "(2, 5.0, NULL)) v(k, w, h)"
)
U = 'SELECT * FROM (VALUES (1, 1, 3), (2, 2, 1), (2, NULL, 2)) v(k, m, "odd name")'
EMPTY = "SELECT 1 AS id, 1 AS k, 1.5 AS a WHERE false"
FUNCTIONS = {"predict": (0, 1, 2), "label": ("hi", "it's", 'a"b'), "score": (0.5, 1.0, 2.5)}

QUERIES = {
    "count": "SELECT COUNT(*) AS n FROM t WHERE predict(t) = 1",
    "mask": "SELECT COUNT(*) AS n FROM t WHERE predict(t) IN (0, 2) AND a > 0",
    "column and class": "SELECT COUNT(*) AS n FROM t WHERE predict(t) = k",
    "arithmetic": "SELECT SUM(a * predict(t) / 4 - 1) AS n FROM t WHERE k + predict(t) >= 2",
    "or": "SELECT COUNT(*) AS n FROM t WHERE predict(t) = 1 OR a IS NULL OR g LIKE 'I%'",
    "like": "SELECT COUNT(*) AS n FROM t WHERE g LIKE '%''_' AND predict(t) <> 0",
    "not": "SELECT COUNT(*) AS n FROM t WHERE NOT (predict(t) = k AND a < 3)",
    "not of two": "SELECT COUNT(*) AS n FROM t WHERE NOT (predict(t) = k AND score(t) > a)",
    "division": "SELECT SUM(id / 4 * predict(t)) AS n, AVG(k / 3 + predict(t)) AS m FROM t",
    "text": "SELECT g, COUNT(*) AS n, SUM(a) AS s FROM t WHERE label(t) = 'it''s' GROUP BY g",
    "text like": "SELECT COUNT(*) AS n FROM t WHERE label(t) LIKE '%''%' OR label(t) = g",
    "function of a class": "SELECT COUNT(*) AS n FROM t WHERE upper(label(t)) LIKE 'I%' OR "
    "length(label(t)) % 2 = 0",
    "numbers": "SELECT SUM(score(t)) AS n, SUM(score(t)) FILTER (WHERE a > 0) AS m FROM t",
    "average": "SELECT g, AVG(predict(t)) AS n, AVG(a * predict(t)) AS m FROM t GROUP BY g",
    "case": "SELECT SUM(CASE WHEN predict(t) = 1 THEN a WHEN k = 2 THEN 1 END) AS n FROM t",
    "filter": "SELECT k, COUNT(a) FILTER (WHERE predict(t) = 2) AS n, COUNT(*) AS m FROM t "
    "GROUP BY k",
    "linear": "SELECT 2 * COUNT(*) + 1 - SUM(a) / 2 AS n FROM t WHERE predict(t) <> 1",
    "predicted key": "SELECT predict(t) AS p, COUNT(*) AS n, SUM(a) AS s FROM t GROUP BY 1",
    "text key": "SELECT label(t) AS p, g, COUNT(*) AS n FROM t GROUP BY label(t), g",
    "key expression": "SELECT predict(t) > 0, k + 1 AS kk, COUNT(*) AS n FROM t WHERE k > 0 "
    "GROUP BY predict(t) > 0, k + 1",
    "hidden key": "SELECT COUNT(*) AS n FROM t WHERE predict(t) < 2 GROUP BY g, label(t)",
    "two models": "SELECT g, COUNT(*) AS n FROM t WHERE predict(t) = 1 AND label(t) <> 'hi' "
    "GROUP BY g",
    "two models or": "SELECT COUNT(*) AS n FROM t WHERE predict(t) = 1 OR score(t) > 0.75",
    "no rows": "SELECT COUNT(*) AS n, SUM(a) AS s FROM t WHERE predict(t) = 1 AND id > 99",
    "no rows by": "SELECT g, COUNT(*) AS n FROM t WHERE predict(t) = 1 AND id > 99 GROUP BY g",
    "empty table": "SELECT COUNT(*) AS n, SUM(a * predict(e)) AS s FROM e",
    "class join": "SELECT COUNT(*) AS n FROM t, s WHERE predict(t) = predict(s)",
    "keyed class join": "SELECT COUNT(*) AS n, SUM(w) AS s FROM t JOIN s ON t.k = s.k "
    "AND predict(t) = predict(s)",
    "keyed by": "SELECT g, COUNT(*) AS n, SUM(a) AS s FROM t JOIN s USING (k) "
    "WHERE predict(t) = predict(s) GROUP BY g",
    "both sides by": "SELECT g, h, COUNT(*) AS n FROM t, s WHERE predict(t) <> predict(s) "
    "GROUP BY g, h",
    "less": "SELECT COUNT(*) AS n FROM t JOIN s ON predict(t) < predict(s) AND t.k <= s.k",
    "predicted key of a join": "SELECT predict(s) AS p, COUNT(*) AS n FROM t JOIN s ON t.k = s.k "
    "WHERE predict(t) <= predict(s) GROUP BY predict(s)",
    "certain partner": "SELECT h, COUNT(*) AS n, SUM(w * predict(t)) AS m FROM t JOIN s "
    "ON t.k = s.k WHERE predict(t) > 0 GROUP BY h",
    "one predicts a column": "SELECT COUNT(*) AS n FROM t JOIN s ON predict(t) = s.k",
    "arbitrary": "SELECT COUNT(*) AS n FROM t, s WHERE a * w > 6 AND predict(t) + predict(s) = 2",
    "three": 'SELECT COUNT(*) AS n, SUM("odd name") AS m FROM t JOIN s ON t.k = s.k '
    "JOIN u ON s.k = u.k WHERE predict(t) = predict(s) AND predict(s) >= predict(u)",
    "three by": "SELECT g, COUNT(*) AS n FROM t, s, u WHERE t.k = s.k AND s.k >= u.m "
    "AND predict(t) = predict(u) GROUP BY g",
    "self join": "SELECT COUNT(*) AS n FROM t l, t r WHERE predict(l) = predict(r)",
    "self join by": "SELECT l.g, COUNT(*) AS n, SUM(r.a) AS s FROM t l JOIN t r ON l.k = r.k "
    "WHERE predict(l) <> predict(r) GROUP BY l.g",
    "self join rows": "SELECT COUNT(*) AS n FROM t l, t r WHERE predict(l) + l.k > predict(r)",
    "self join thrice": "SELECT COUNT(*) AS n FROM t l, t m, t r WHERE predict(l) = predict(m) "
    "AND predict(m) = predict(r) AND l.k = m.k",
    "self join beside a table": "SELECT predict(l) AS p, COUNT(*) AS n FROM s CROSS JOIN t l "
    "JOIN t r ON s.k = r.k AND predict(l) = predict(r) GROUP BY predict(l)",
    "rows of a join": "SELECT SUM(predict(t) * predict(s)) AS n FROM t JOIN s ON t.k = s.k",
    "row id": "SELECT COUNT(*) AS n FROM t WHERE predict(t) = 1 AND t.rowid > 2",
}


@pytest.fixture(scope="module")
def con():
    with database(t=T, s=S, u=U, e=EMPTY) as con:
        con.execute("DELETE FROM t WHERE id = 2")
        yield con


# They take seconds for each query.
FEW = {
    "spark": {"text key"},
    "postgres": {"or", "average", "text key", "keyed by", "no rows"},
}
CASES = [
    pytest.param(n, q, marks=() if q in FEW.get(n, QUERIES) else pytest.mark.slow)
    for n in NAMES
    for q in QUERIES
]


@pytest.fixture(scope="module")
def started():
    """Starts a database at its first query, for all that follow; and the tables it has by then."""
    with ExitStack() as running:
        yield cache(lambda name: (running.enter_context(engine(name)), set()))


def probabilities(con):
    found = {}
    for seed, (model, table) in enumerate((m, t) for m in FUNCTIONS for t in "tsue"):
        n = con.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        found[model, table] = random_probabilities(seed, n)
    # Certain and impossible classes: LN(0) must not be asked for.
    found["predict", "t"][0] = np.array([0.0, 1.0, 0.0])
    return found


@pytest.mark.parametrize(("name", "query"), CASES)
def test_every_database_agrees_with_the_answer_in_process(con, started, name, query):
    engine, loaded = started(name)
    trial = Trial(con, QUERIES[query], probabilities(con), FUNCTIONS)
    trial.load(engine, loaded)
    trial.check(engine)
