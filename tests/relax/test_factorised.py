"""Sides kept apart give what joined rows give: trees, inequalities, streamed conditions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rainpp.relax import ask, stream
from rainpp.relax import plan as planning
from rainpp.relax.plan import make_plan
from tests.relax.worlds import (
    CLASSES,
    assert_slopes,
    database,
    evaluated,
    expectation,
    random_probabilities,
)

A = (
    "SELECT * FROM (VALUES (0, 'a', 2.0, 1.5, 10), (1, NULL, 3.0, 0.0, 10), "
    "(NULL, 'b', NULL, NULL, 20)) v(k, g, price, x, m)"
)
B = (
    "SELECT * FROM (VALUES (0, 'a', 5.0, 1.0), (1, 'b', 7.0, 2.0), (1, 'b', 1.0, 3.0)) "
    "v(k, g, y, z)"
)
C = "SELECT * FROM (VALUES (0, 10, 'a', 1.0), (1, 20, 'c', 'NaN'::DOUBLE)) v(k, m, g, w)"


@pytest.fixture(scope="module")
def con():
    with database(a=A, b=B, c=C) as con:
        yield con


P = {
    name: random_probabilities(seed, n)
    for seed, (name, n) in enumerate([("a", 3), ("b", 3), ("c", 2)])
}


@pytest.fixture(autouse=True)
def factorised(monkeypatch):
    """Groups are left to the factorised evaluator, however few rows they have."""
    monkeypatch.setattr(ask, "MAX_PAIRS", 0)


@pytest.fixture
def streaming(monkeypatch):
    """Every condition DuckDB has to decide is streamed, three pairs at a time, none kept."""
    monkeypatch.setattr(planning, "MAX_PAIRS", 0)
    made = stream.StreamedPairs.__init__

    def small(self, *given):
        made(self, *given, piece=3, kept=0)

    monkeypatch.setattr(stream.StreamedPairs, "__init__", small)


def check(con, sql, plain, used, *, strategy=None):
    """Value and slopes of a query with one cell `n` against every possible world."""
    answer = evaluated(con, sql, P)
    if strategy:
        assert strategy in answer.method
    expected = expectation(con, plain, {name: P[name] for name in used})
    relaxed = answer.cell(0, "n")[1]
    assert np.nan_to_num(relaxed) == pytest.approx(expected, abs=1e-9)
    # A SUM to which no row can contribute is NaN, with nothing to differentiate.
    if not np.isnan(relaxed):
        assert_slopes(con, sql, P, tables=used)


CONDITIONS = [
    ("l.{x} < r.{y}", "sorted inequality"),
    ("l.{x} <= r.{y}", "sorted inequality"),
    ("l.{x} > r.{y}", "sorted inequality"),
    ("r.{y} <= l.{x}", "sorted inequality"),
    ("l.k = r.k AND l.{x} < r.{y}", "sorted inequality"),
    ("l.k = r.k AND l.{x} >= r.{y}", "sorted inequality"),
    ("l.g < r.g", "sorted inequality"),
    ("l.{x} < r.{y} AND r.k <= l.k", "streamed pairs"),
    ("abs(l.{x} - r.{y}) < 1.2", "streamed pairs"),
    ("l.g LIKE '%' || r.g || '%' AND l.k = r.k", "streamed pairs"),
    ("l.k BETWEEN r.k - 1 AND r.k", "streamed pairs"),
]


SIDES = ["a b x z", "a a x k", "a c k w"]
ITEMS = [("count(*)", "="), ("sum(l.k)", "<")]
# Every condition with both items, each over other tables.
MEETINGS = [
    pytest.param(
        sides, *ITEMS[i], *CONDITIONS[c], marks=pytest.mark.slow if (c + i + t) % 3 else ()
    )
    for c, i, t in itertools.product(range(len(CONDITIONS)), range(2), range(3))
    for sides in SIDES[t : t + 1]
]


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize(("tables", "item", "relation", "condition", "strategy"), MEETINGS)
def test_two_sides_meet_by_a_condition(con, tables, item, relation, condition, strategy):
    left, right, x, y = tables.split()
    where = condition.format(x=x, y=y)
    sql = f"FROM {left} l, {right} r WHERE predict(l) {relation} predict(r) AND {where}"
    plain = f"FROM {{{left}}} l, {{{right}}} r WHERE l.pred {relation} r.pred AND {where}"
    used = list(dict.fromkeys([left, right]))
    check(con, f"SELECT {item} AS n {sql}", f"SELECT {item} {plain}", used, strategy=strategy)


KEYS = ["l.g", "r.g", "l.g, r.g", "predict(l)", "r.g, predict(l)"]
# Every key with both conditions, one over two tables and one over the same table twice.
GROUPED = [
    pytest.param(key, tables, where, marks=pytest.mark.slow if (k + t + w) % 2 else ())
    for k, key in enumerate(KEYS)
    for t, tables in enumerate(["a l, b r", "a l, a r"])
    for w, where in enumerate(["l.k <= r.k", "l.k + r.k < 2"])
]


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize(("keys", "tables", "where"), GROUPED)
def test_groups_on_either_side(con, keys, tables, where):
    written = (
        f"SELECT count(*) AS n, sum(l.price) AS s FROM {tables} WHERE predict(l) <= predict(r) "
        f"AND {where} GROUP BY {keys} ORDER BY {keys}"
    )
    answer = evaluated(con, written, P)
    used = ["a", "b"] if "b r" in tables else ["a"]
    rendered = " ".join(f"{{{word}}}" if word in ("a", "b") else word for word in tables.split())
    plain_keys = [key.replace("predict(l)", "l.pred") for key in keys.split(", ")]
    for row in range(len(answer.frame)):
        same = " AND ".join(
            f"{key} IS NOT DISTINCT FROM {'NULL' if value is None else repr(value)}"
            for key, value in zip(plain_keys, answer.key(row).values(), strict=True)
        )
        rows = f"FROM {rendered} WHERE l.pred <= r.pred AND {where} AND {same}"
        for column, item in (("n", "count(*)"), ("s", "sum(l.price)")):
            expected = expectation(con, f"SELECT {item} {rows}", {name: P[name] for name in used})
            relaxed = answer.cell(row, column)[1]
            assert np.nan_to_num(relaxed) == pytest.approx(expected, abs=1e-9), (row, column)
    assert_slopes(con, written, P, tables=used, row=len(answer.frame) - 1)


ALL, WITHOUT_B = "{a} a, {b} b, {c} c WHERE ", "{a} a, b, {c} c WHERE "
TREES = [
    (
        "predict(a) = predict(b) AND predict(b) = predict(c)",
        ALL + "a.pred = b.pred AND b.pred = c.pred",
    ),
    (
        "predict(a) < predict(b) AND predict(c) <> predict(a)",
        ALL + "a.pred < b.pred AND c.pred <> a.pred",
    ),
    (
        "a.k = b.k AND a.m = c.m AND predict(a) = predict(c)",
        WITHOUT_B + "a.k = b.k AND a.m = c.m AND a.pred = c.pred",
    ),
    (
        "a.k = b.k AND b.k >= c.k AND predict(a) = predict(b) AND predict(c) > 0",
        ALL + "a.k = b.k AND b.k >= c.k AND a.pred = b.pred AND c.pred > 0",
    ),
    (
        # Left to itself, DuckDB joins b and c of all worlds first, which takes it ten seconds.
        "predict(a) = predict(b) AND abs(b.z - c.k) < 2 AND predict(c) = predict(b)",
        "{a} a JOIN {b} b ON a.pred = b.pred JOIN {c} c ON c.pred = b.pred "
        "WHERE abs(b.z - c.k) < 2",
    ),
    (
        "predict(a) = predict(b) AND predict(c) = 1",
        ALL + "a.pred = b.pred AND c.pred = 1",
    ),
]


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize("item", ["count(*)", "sum(b.y)"])
@pytest.mark.parametrize(("where", "plain"), TREES)
def test_three_sides_in_a_tree(con, item, where, plain):
    used = [name for name in "abc" if f"predict({name})" in where]
    check(
        con,
        f"SELECT {item} AS n FROM a, b, c WHERE {where}",
        f"SELECT {item} FROM {plain}",
        used,
        strategy="factorised class join",
    )


def test_a_tree_grouped_by_one_of_its_sides(con):
    sql = (
        "SELECT b.g, predict(b) AS p, count(*) AS n FROM a, b, c WHERE predict(a) = predict(b) "
        "AND predict(b) <= predict(c) AND a.k = b.k GROUP BY ALL ORDER BY ALL"
    )
    answer = evaluated(con, sql, P)
    assert "factorised class join" in answer.method
    for row in range(len(answer.frame)):
        g, p = answer.key(row).values()
        expected = expectation(
            con,
            "SELECT count(*) FROM {a} a, {b} b, {c} c WHERE a.pred = b.pred AND b.pred <= c.pred "
            f"AND a.k = b.k AND b.g = '{g}' AND b.pred = {p}",
            P,
        )
        assert answer.cell(row, "n")[1] == pytest.approx(expected, abs=1e-9)
    assert_slopes(con, sql, P, tables=["a", "b", "c"])


@pytest.mark.parametrize(
    "where",
    [
        # A cycle: two of the sides are joined by DuckDB.
        "predict(a) = predict(b) AND predict(b) = predict(c) AND a.m = c.m",
        "a.k = b.k AND b.k = c.k AND a.k = c.k AND predict(a) = predict(b)",
        # One table twice among three sides: shared predictions need rows.
        "predict(a) = predict(b) AND predict(b) = predict(a2)",
    ],
)
def test_what_is_no_tree_is_still_exact(con, where):
    tables = "a, b, a a2" if "a2" in where else "a, b, c"
    used = [n for n in "abc" if f"predict({n})" in where]
    plain = where
    for name in ("a2", "a", "b", "c"):
        plain = plain.replace(f"predict({name})", f"{name}.pred")
    listed = [table.split() for table in tables.split(", ")]
    rendered = ", ".join(f"{{{t[0]}}} {t[-1]}" if t[0] in used else t[0] for t in listed)
    rows = f"SELECT count(*) FROM {rendered} WHERE {plain}"
    check(con, f"SELECT count(*) AS n FROM {tables} WHERE {where}", rows, used)


@pytest.fixture(scope="module")
def large():
    fill = (
        "SELECT range AS id, hash(range + {s}) % 40 AS k, hash(range * 3 + {s}) % 200 AS v, "
        "CASE WHEN range % 17 = 3 THEN NULL ELSE (hash(range * 7 + {s}) % 50) / 3.0 END AS x, "
        "hash(range + 5) % 4 AS g FROM range({n})"
    )
    with database(a=fill.format(s=1, n=700), b=fill.format(s=2, n=500)) as con:
        yield con


@pytest.mark.parametrize("pieces", [None, 1000])
@pytest.mark.parametrize(
    "condition",
    ["l.v < r.v", "l.k = r.k AND l.x >= r.x", "l.k = r.k AND l.x > r.v", "(l.v * r.v) % 7 = 1",
     "l.k = r.k AND (l.v + r.v) % 3 = 0"],
)  # fmt: skip
def test_value_and_gradient_are_those_of_the_dense_pair_matrix(
    large, condition, pieces, monkeypatch
):
    monkeypatch.setattr(planning, "MAX_PAIRS", 0)
    if pieces:
        made = stream.StreamedPairs.__init__
        monkeypatch.setattr(
            stream.StreamedPairs,
            "__init__",
            lambda self, *given: made(self, *given, piece=pieces, kept=0),
        )
    p = {"a": random_probabilities(1, 700), "b": random_probabilities(2, 500)}
    sql = f"SELECT count(*) AS n FROM a l, b r WHERE predict(l) = predict(r) AND {condition}"
    answer = evaluated(large, sql, p)
    assert "joined" not in answer.method
    met = large.execute(f"SELECT l.rowid, r.rowid FROM a l, b r WHERE {condition}").fetchnumpy()
    dense = np.zeros((700, 500))
    dense[tuple(met.values())] = 1.0
    slopes = answer.gradient(0, "n")
    np.testing.assert_allclose(slopes["predict", "a"], dense @ p["b"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slopes["predict", "b"], dense.T @ p["a"], rtol=1e-12, atol=1e-12)
    assert answer.cell(0, "n")[1] == pytest.approx((dense @ p["b"] * p["a"]).sum(), rel=1e-12)


def test_twenty_runs_give_the_same_bits(large, monkeypatch):
    monkeypatch.setattr(planning, "MAX_PAIRS", 0)
    p = {"a": random_probabilities(1, 700), "b": random_probabilities(2, 500)}
    sql = (
        "SELECT r.g, count(*) AS n FROM a l, b r WHERE predict(l) = predict(r) "
        "AND (l.v * r.v) % 7 = 1 GROUP BY r.g ORDER BY r.g"
    )
    large.execute("SET threads = 4")
    seen = set()
    for _ in range(20):
        answer = evaluated(large, sql, p)
        seen.add((answer.cell(1, "n")[1], answer.gradient(1, "n")["predict", "a"].tobytes()))
    assert len(seen) == 1


def test_the_plan_says_how_sides_meet(con):
    where = "predict(l) = predict(r) AND l.k = r.k AND l.x < r.z"
    sql = f"SELECT count(*) AS n FROM a l, b r WHERE {where}"
    shown = str(make_plan(sql, con, {"predict": CLASSES}))
    assert "sorted inequality" in shown
    assert "l.column_0 = r.column_0 AND l.column_1 < r.column_1" in shown
