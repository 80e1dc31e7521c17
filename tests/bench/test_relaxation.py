"""How fast and how small relaxing is; ratios are of times measured in the same run.

python -m pytest -m bench tests/bench
"""

from __future__ import annotations

import statistics

import pytest

from experiments import relaxation

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def pairs():
    return relaxation.pairwise(10_000)


def test_a_class_join_is_not_summed_pair_by_pair(pairs):
    assert pairs["value_and_gradient_ms"] <= 5
    assert pairs["duckdb_value_ms"] >= 300 * pairs["value_ms"]
    assert pairs["difference"] <= 1e-6


def test_a_million_by_a_million():
    run = relaxation.measured_alone("class", 1_000_000)
    assert run["value_ms"] <= 400
    assert run["memory_gb"] <= 1.5


@pytest.mark.slow
def test_a_condition_over_both_sides_needs_little_memory():
    run = relaxation.measured_alone("class and a condition on both rows", 100_000)
    assert "streamed" in run["strategy"]
    assert run["memory_gb"] <= 2.0


def test_capture_costs_little_more_than_the_query():
    ratios = [run["ratio"] for run in relaxation.capture_runs(relaxation.SCALE)]
    assert statistics.median(ratios) <= 1.35
    assert max(ratios) <= 3.0


@pytest.mark.parametrize("kind", relaxation.NEW_QUERIES)
def test_a_new_query_has_a_gradient_soon(kind):
    run = relaxation.new_query(kind)
    assert run["duckdb_ms"] <= 10
    assert run["median_ms"] <= 50
