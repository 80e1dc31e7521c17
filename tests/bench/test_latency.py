"""How long a complaint takes, on MNIST; the whole table is `python -m experiments.latency`.

python -m pytest -m bench tests/bench/test_latency.py
"""

from __future__ import annotations

import pytest

from experiments import latency
from rainpp.errors import DataError

pytestmark = pytest.mark.bench


@pytest.fixture(params=["deletions", "all"])
def asked(request, tmp_path):
    """The kinds of interventions, a database, and what is known of its index; k = 20."""
    try:
        database, about = latency.opened(request.param, latency.K, tmp_path)
    except DataError as absent:
        pytest.skip(str(absent))
    return request.param, database, about


def test_a_complaint_is_answered_in_about_a_millisecond(asked):
    kinds, database, about = asked
    for run in latency.measure(database, 300, about):
        if kinds == "deletions":
            assert run["p50_ms"] <= 1.0
            assert run["p95_ms"] <= 3.0
        else:
            assert run["p50_ms"] <= 2 * run["read_ms"]


def test_a_query_never_seen_takes_little_beyond_duckdb(tmp_path):
    try:
        database, _ = latency.opened("deletions", latency.K, tmp_path)
    except DataError as absent:
        pytest.skip(str(absent))
    assert max(run["beyond_duckdb_ms"] for run in latency.first_complaints(database)) <= 50


def test_an_index_of_a_million_rows_opens_at_once():
    by_check = {run["verify"]: run for run in latency.opening()}
    for verify in (False, "on use"):
        assert by_check[verify]["ms"] <= 50
        assert by_check[verify]["grown_mb"] < 100
