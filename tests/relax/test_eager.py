"""Grouping the sides of a large join first leaves the plain answer as it is, types included."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.relax import ask
from rainpp.relax import plan as planning
from tests.relax.worlds import database, evaluated, random_probabilities

SIZES = {"a": 90, "b": 70, "c": 40}
FILL = (
    "SELECT range AS id, hash(range + {s}) % 5 AS k, "
    "CASE hash(range * 3) % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' END AS g, "
    "CASE WHEN range % 7 = 3 THEN NULL ELSE (hash(range * 5 + {s}) % 90)::INTEGER END AS v, "
    "(hash(range * 9) % 70 / 10)::DECIMAL(9, 2) AS d, hash(range * 11) % 64 / 64 AS x "
    "FROM range({n})"
)
P = {name: random_probabilities(seed, n) for seed, (name, n) in enumerate(SIZES.items())}


@pytest.fixture(scope="module")
def con():
    tables = {name: FILL.format(s=s, n=n) for s, (name, n) in enumerate(SIZES.items())}
    with database(**tables) as con:
        yield con


@pytest.fixture(autouse=True)
def factorised(monkeypatch):
    """Groups are left to the factorised evaluator, however few rows they have."""
    monkeypatch.setattr(ask, "MAX_PAIRS", 0)


QUERIES = [
    "SELECT count(*) FROM a l, b r WHERE predict(l) = predict(r)",
    "SELECT count(*) AS n, sum(l.v), avg(l.v) AS m, sum(l.d) + 1, sum(l.x), count(l.v) "
    "FROM a l, b r WHERE predict(l) = predict(r) AND r.v > 10",
    "SELECT l.g, upper(r.g) AS u, count(*) AS n FROM a l JOIN b r ON l.k = r.k "
    "WHERE predict(l) < predict(r) GROUP BY l.g, 2 ORDER BY n DESC, 1 NULLS FIRST, u NULLS LAST",
    "SELECT count(*) AS n, sum(r.v) FILTER (WHERE r.v < 50 AND predict(r) = 1) AS s FROM a l, b r "
    "WHERE predict(l) = predict(r) GROUP BY l.k, l.g ORDER BY l.k, l.g",
    "SELECT predict(l) AS p, predict(r) AS q, count_if(l.v > 20) AS n, 2 * sum(l.v) FROM a l, b r "
    "WHERE predict(l) <= predict(r) GROUP BY ALL ORDER BY ALL",
    "SELECT count(*) AS n FROM a l, b r WHERE predict(l) = predict(r) AND l.v < 0",
    "SELECT l.g, sum(l.v) s FROM a l, b r WHERE predict(l) = predict(r) AND l.v < 0 GROUP BY l.g",
    "SELECT r.g, count(*) AS n FROM a l, b m, c r WHERE predict(l) = predict(m) "
    "AND predict(m) = predict(r) AND l.k = m.k GROUP BY r.g ORDER BY sum(r.d), r.g",
    "SELECT count(*) AS n FROM a l, a r WHERE predict(l) = predict(r) AND l.rowid < 50",
]  # fmt: skip


@pytest.mark.parametrize("sql", QUERIES)
def test_the_answer_is_the_same(con, sql, monkeypatch):
    # Exact averages over uncertain joined rows need the rows themselves.
    mode = "rain" if "avg(" in sql else "exact"
    plain = evaluated(con, sql, P, mode=mode)
    monkeypatch.setattr(planning, "MAX_JOINED", -1)
    grouped = evaluated(con, sql, P, mode=mode)
    assert grouped._table.equals(plain._table)
    assert grouped.frame.equals(plain.frame)
    assert (grouped.frame.dtypes == plain.frame.dtypes).all()


def test_it_is_used_and_what_it_cannot_do_is_run_as_written(con, monkeypatch):
    used = []
    made = planning.EagerQuery.text

    def noted(self, *given):
        used.append(made(self, *given))
        return used[-1]

    monkeypatch.setattr(planning.EagerQuery, "text", noted)
    monkeypatch.setattr(planning, "MAX_JOINED", -1)
    evaluated(con, QUERIES[0], P)
    assert len(used) == 1
    assert "side_0" in used[0]
    filtered = "SELECT count(*) FILTER (WHERE predict(l) = predict(r)) AS n FROM a l, b r"
    assert evaluated(con, filtered, P).cell(0, "n")[0] > 0
    assert len(used) == 1


def test_a_class_join_of_many_rows_is_counted_exactly():
    n = 20_000
    with database(a=f"SELECT range AS id FROM range({n})", b=f"FROM range({n}) t(id)") as con:
        p = {"a": random_probabilities(1, n), "b": random_probabilities(2, n)}
        sql = "SELECT count(*) AS n, sum(r.id) AS s FROM a l, b r WHERE predict(l) = predict(r)"
        answer = evaluated(con, sql, p)
    left, right = (np.argmax(p[name], axis=1) for name in "ab")
    sizes = np.bincount(left, minlength=3)
    assert answer.cell(0, "n")[0] == (sizes * np.bincount(right, minlength=3)).sum()
    assert answer.cell(0, "s")[0] == sizes[right] @ np.arange(n)
