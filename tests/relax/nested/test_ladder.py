"""Which evaluator answers, what it says about itself, and that its error bars hold."""

import itertools

import duckdb
import numpy as np
import pytest

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax import ask
from rainpp.relax.nested import ladder
from rainpp.relax.nested.algebra import Intractable
from rainpp.relax.nested.cells import Form
from tests.relax.worlds import database, evaluated, frame, predictions, random_probabilities

T = "SELECT i AS id, i % 3 AS k, (i * 7 % 5)::DOUBLE AS a, 's' || i % 2 AS s FROM range(6) r(i)"
U = "SELECT i AS id, i % 3 AS k, (i * 3 % 7)::DOUBLE AS b FROM range(4) r(i)"
P = {"t": random_probabilities(0, 6), "u": random_probabilities(1, 4)}

QUERIES = [
    "SELECT k, count(*) AS n FROM t WHERE predict(a) = 1 GROUP BY k HAVING count(*) > 1",
    "SELECT min(a) AS n FROM t WHERE predict(a) <> 1",
    "SELECT sum(a) / count(*) AS n FROM t WHERE predict(a) = 1",
    "SELECT count(DISTINCT k) AS n FROM t WHERE predict(a) = 2",
    "SELECT count(*) AS n FROM t LEFT JOIN u ON predict(t.a) = predict(u.b)",
    "SELECT count(u.id) AS n FROM t FULL JOIN u ON t.k = u.k AND predict(t.a) = 1",
    "SELECT count(*) AS n FROM t WHERE EXISTS (SELECT 1 FROM u WHERE predict(u.b) = predict(t.a))",
    "SELECT count(*) AS n FROM t WHERE k NOT IN (SELECT k FROM u WHERE predict(b) = 1)",
    "SELECT count(*) AS n FROM t WHERE a > (SELECT avg(b) FROM u WHERE predict(b) = 1)",
    "WITH c AS (SELECT k, count(*) AS m FROM t WHERE predict(a) = 1 GROUP BY k) "
    "SELECT sum(x.m * y.m) AS n FROM c x JOIN c y ON x.k <= y.k",
    "SELECT count(*) AS n FROM (SELECT DISTINCT predict(a) AS p, k FROM t) q WHERE p > 0",
    "SELECT count(*) AS n FROM (SELECT id FROM t WHERE predict(a) = 1 EXCEPT "
    "SELECT id FROM u WHERE predict(b) = 1) q",
    "SELECT max(m) AS n FROM (SELECT predict(a) AS p, count(*) AS m FROM t GROUP BY p) q",
    "SELECT median(a) AS n FROM t WHERE predict(a) = 1",
]

HAVING = "SELECT k, count(*) AS n FROM t WHERE predict(a) > 0 GROUP BY k HAVING count(*) >= 1"


@pytest.fixture(scope="module")
def con():
    with database(t=T, u=U) as connection:
        yield connection


@pytest.fixture(scope="module")
def small():
    """A row less: a third of the worlds."""
    with database(t=T.replace("range(6)", "range(5)"), u=U) as connection:
        yield connection, P | {"t": P["t"][:5]}


def worlds_of(con, sql, p):
    """(probability, answer frame) of every world, each run by DuckDB."""
    sizes = {name: len(p[name]) for name in ("t", "u") if f" {name}" in sql}
    for labels in itertools.product(*(range(3) for _ in range(sum(sizes.values())))):
        weight, at, plain = 1.0, 0, sql
        for name, size in sizes.items():
            mine = labels[at : at + size]
            at += size
            weight *= float(np.prod(p[name][np.arange(size), list(mine)]))
            rows = ", ".join(f"({i}, {label})" for i, label in enumerate(mine))
            source = f"(SELECT z.*, v.p FROM {name} z JOIN (VALUES {rows}) v(r, p) ON v.r = z.id)"
            plain = plain.replace(f"FROM {name} ", f"FROM {source} {name} ")
            plain = plain.replace(f"JOIN {name} ", f"JOIN {source} {name} ")
        for call, column in (("predict(t.a)", "t.p"), ("predict(u.b)", "u.p")):
            plain = plain.replace(call, column)
        yield weight, frame(con, plain.replace("predict(a)", "p").replace("predict(b)", "p"))


def expected(con, sql, p):
    """E[n | n is not NULL] over all worlds."""
    total, mass = 0.0, 0.0
    for weight, answer in worlds_of(con, sql, p):
        values = answer["n"].dropna()
        if len(values):
            total, mass = total + weight * float(values.iloc[0]), mass + weight
    return total / mass


@pytest.mark.parametrize(
    "sql", [q for q in QUERIES if " u" not in q and "GROUP BY k" not in q and "DISTINCT p" not in q]
)
def test_every_evaluator_equals_the_worlds_duckdb_runs(small, sql, monkeypatch):
    con, p = small
    value = expected(con, sql, p)
    assert evaluated(con, sql, p).cell(0, "n")[1] == pytest.approx(value, rel=1e-9)
    _without_circuits(monkeypatch)
    answer = evaluated(con, sql, p)
    assert "possible worlds" in answer.method
    assert answer.cell(0, "n")[1] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("sql", QUERIES)
def test_circuits_and_worlds_agree_with_their_slopes(con, sql, monkeypatch):
    first = evaluated(con, sql, P)
    _without_circuits(monkeypatch)
    second = evaluated(con, sql, P)
    assert second.method.startswith("exact (")
    np.testing.assert_allclose(first.relaxed["n"], second.relaxed["n"], rtol=1e-9)
    np.testing.assert_allclose(first.relaxed["_exists"], second.relaxed["_exists"], rtol=1e-9)
    for row in range(len(first.frame)):
        slopes = second.gradient(row, "n")
        for key, slope in first.gradient(row, "n").items():
            moved = slope - slopes[key]
            np.testing.assert_allclose(moved - moved.mean(axis=1, keepdims=True), 0.0, atol=1e-9)


def _without_circuits(monkeypatch):
    def refuse(*_, **__):
        raise Intractable("switched off")

    monkeypatch.setattr(ladder, "Circuit", refuse)


def _sampled(monkeypatch):
    _without_circuits(monkeypatch)
    monkeypatch.setattr(ladder, "MAX_WORLDS", 0)


@pytest.mark.parametrize(
    "sql",
    [
        HAVING,
        QUERIES[6],
        *(pytest.param(QUERIES[at], marks=pytest.mark.slow) for at in (1, 2, 8, 12)),
    ],
)
def test_error_bars_cover_the_truth(con, sql, monkeypatch):
    exact = evaluated(con, sql, P)
    plan = ask.prepare(sql, con, {"predict": (0, 1, 2)})
    given = predictions(con, plan, P)
    _sampled(monkeypatch)
    real, covered, trials = ladder.Worlds, 0, 100
    for seed in range(trials):
        monkeypatch.setattr(ladder, "Worlds", lambda *args, s=seed: real(*args, seed=s))
        monkeypatch.setattr(ladder, "_SAMPLES", (200,))
        found = ask.answer(plan, con, given, max_error=1e9)
        assert found.method.startswith("approximate (200 sampled worlds), error")
        value, half = found.cell(0, "n")[1], found.error(0, "n")
        covered += abs(value - exact.cell(0, "n")[1]) <= half
    # 95 % bars: fewer than 89 of 100 has probability 0.4 %.
    assert covered >= 89


def test_a_coarse_approximation_is_refused(con, monkeypatch):
    _sampled(monkeypatch)
    monkeypatch.setattr(ladder, "_SAMPLES", (20,))
    with pytest.raises(UnsupportedQueryError, match=r"max_relax_error"):
        evaluated(con, HAVING, P)


def test_a_relaxation_that_is_not_duckdbs_answer_is_refused(con, monkeypatch):
    monkeypatch.setattr(Form, "hard", property(lambda form: form.relaxed * 0.0 + 17.0))
    with pytest.raises(QueryError, match="do not agree"):
        evaluated(con, HAVING, P)


def test_explain_names_operators_and_rows(con):
    sql = QUERIES[6]
    lines = {evaluated(con, sql, P).explain() for _ in range(3)}
    (text,) = lines
    assert text.startswith("exact (circuit)")
    assert "rows outer rows, u" in text
    assert "predict(u.b)" in text
    assert "__prediction" not in text


def test_a_wrapper_changes_nothing(con):
    plain = "SELECT k, count(*) AS n, avg(a) AS m FROM t WHERE predict(a) = 1 GROUP BY k"
    inner = evaluated(con, f"{plain} ORDER BY k", P).relaxed
    for sql in (
        f"SELECT * FROM ({plain}) q ORDER BY k",
        f"WITH c AS ({plain}) SELECT k, n, m FROM c ORDER BY k",
        f"SELECT k, n, m FROM (SELECT * FROM ({plain}) q) r ORDER BY k",
        f"SELECT k, n, m FROM (SELECT * FROM ({plain}) q WHERE k <> 7) r WHERE k > -1 ORDER BY k",
    ):
        outer = evaluated(con, sql, P).relaxed
        np.testing.assert_allclose(inner.to_numpy(float), outer.to_numpy(float), rtol=1e-9)


def test_groups_of_joined_rows_exist_with_their_exact_probability(con):
    sql = "SELECT predict(t.a) AS p, count(*) AS n FROM t JOIN u ON t.k = u.k GROUP BY p ORDER BY p"
    answer = evaluated(con, sql, P)
    joined = frame(con, "SELECT DISTINCT t.id FROM t JOIN u ON t.k = u.k")["id"].tolist()
    for row, label in enumerate(answer.frame["p"]):
        absent = np.prod(1.0 - P["t"][joined, label])
        assert answer.relaxed["_exists"][row] == pytest.approx(1.0 - absent, rel=1e-9)


def test_duckdb_is_left_usable(con):
    assert isinstance(con, duckdb.DuckDBPyConnection)
    tables = con.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
    evaluated(con, QUERIES[4], P)
    after = con.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
    assert tables == after


SHARES = [
    # P(yes) = .1, .4 in x and .7, .8 in y; rows 1 and 3 only: E[share of y | y is there].
    (
        "SELECT g, count(*) * 1.0 / sum(count(*)) OVER () AS n FROM v "
        "WHERE p(id) = 'yes' AND id IN (1, 3) GROUP BY g",
        [0.9 * 1 + 0.1 * 0.5],
    ),
    ("SELECT g, count(*) OVER () AS n FROM v WHERE p(id) = 'yes' GROUP BY g", [1 + 1 - 0.9 * 0.6]),
    ("SELECT (SELECT sum(a) FROM v WHERE p(id) = 'no') AS n, 1 AS one", [9 + 12 + 9 + 8]),
    ("SELECT coalesce(sum(a), 0) AS n FROM v WHERE p(id) = 'yes'", [1 + 8 + 21 + 32]),
    (
        "SELECT count(*) AS n FROM v WHERE id = "
        "(SELECT id FROM v WHERE p(id) = 'yes' ORDER BY a DESC LIMIT 1)",
        [1 - 0.9 * 0.6 * 0.3 * 0.2],
    ),
    ("SELECT id, CASE p(id) WHEN 'yes' THEN a END AS n FROM v ORDER BY id LIMIT 2", [10, 20]),
]


@pytest.mark.parametrize(("sql", "values"), SHARES)
def test_dashboard_idioms(sql, values):
    chance = np.array([0.1, 0.4, 0.7, 0.8])
    fill = (
        "SELECT * FROM (VALUES (1, 'x', 10), (2, 'x', 20), (3, 'y', 30), (4, 'y', 40)) v(id, g, a)"
    )
    with database(v=fill) as con:
        found = evaluated(
            con, sql, {"v": np.stack([1 - chance, chance], 1)}, classes={"p": ("no", "yes")}
        )
    assert found.method == "exact (circuit)"
    np.testing.assert_allclose(found.relaxed["n"].to_numpy(float), values, rtol=1e-12)
