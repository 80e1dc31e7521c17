"""TPC-H with a learned predicate: how the condition is added, and what the long run found."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pytest

from tests.relax.corpus_tpch import TARGETS, Truth, with_predicate

RESULT = Path(__file__).parents[2] / "experiments" / "results" / "relaxation_tpch.json"


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT count(*) FROM t", "SELECT COUNT(*) FROM t WHERE predict(t.x) = 1"),
        (
            "SELECT 1 FROM s WHERE EXISTS (SELECT * FROM t a WHERE a.k = s.k)",
            "SELECT 1 FROM s WHERE EXISTS(SELECT * FROM t AS a "
            "WHERE a.k = s.k AND predict(a.x) = 1)",
        ),
        (
            "SELECT 1 FROM t p, u WHERE p.k = u.k OR u.k = 1",
            "SELECT 1 FROM t AS p, u WHERE (p.k = u.k OR u.k = 1) AND predict(p.x) = 1",
        ),
        (
            "SELECT 1 FROM s LEFT JOIN t ON s.k = t.k",
            "SELECT 1 FROM s LEFT JOIN t ON s.k = t.k AND predict(t.x) = 1",
        ),
    ],
)
def test_the_condition_goes_to_the_innermost_reader(sql, wanted):
    assert with_predicate(sql, "t") == wanted


def test_the_plain_query_reads_the_flags():
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t AS SELECT i + 1 AS x FROM range(3) r(i)")
        rows = Truth(con).rows("SELECT x FROM t WHERE predict(t.x) = 1", np.array([1, 0, 1]))
        assert rows == [(1,), (3,)]


@pytest.mark.skipif(not RESULT.exists(), reason="python -m experiments.relaxation_corpus tpch")
def test_every_query_agrees_or_is_rejected_by_name():
    (run,) = json.loads(RESULT.read_text())["runs"]
    assert [row["query"] for row in run["queries"]] == list(TARGETS)
    certain = [row["certain"] for row in run["queries"]]
    assert set(certain) <= {"agrees", "refused"}
    assert certain.count("refused") <= 3
    assert {row["uncertain"] for row in run["queries"]} <= {"agrees", "refused"}
