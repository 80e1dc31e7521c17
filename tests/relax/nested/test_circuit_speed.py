"""Times of the circuit algebra: ``pytest -m bench -s tests/relax/nested/test_circuit_speed.py``."""

from __future__ import annotations

import time

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from rainpp.relax.nested.algebra import Aggregation, Members
from rainpp.relax.nested.circuit import Circuit
from rainpp.relax.rowsums import Gradient
from tests.relax.nested.circuits import Both

pytestmark = pytest.mark.bench


def many(v: int, r: int):
    p = np.random.default_rng(0).dirichlet(np.ones(r), v)
    return p, Circuit(Both.predictions([p]), duckdb.connect())


def timed(name: str, call):
    start = time.perf_counter()
    out = call()
    spent = time.perf_counter() - start
    print(f"{name}: {1e3 * spent:.1f} ms")  # noqa: T201
    return out, spent


def evaluated(name: str, p, circuit, ids) -> float:
    _, value = timed(f"{name}, probability", lambda: circuit.probability(ids))
    gradient = Gradient([np.zeros(p.shape)])
    _, push = timed(f"{name}, push", lambda: circuit.push(ids, np.ones(len(ids)), gradient))
    return value + push


def test_a_hundred_groups_of_a_thousand_rows():
    p, circuit = many(100_000, 10)
    rows = np.arange(100_000)
    ids = circuit.literals(0, rows, rows * 0)
    there, made = timed("some, 1e5 rows", lambda: circuit.some(ids, rows // 1000, 100))
    assert made + evaluated("some, 1e5 rows", p, circuit, there) < 1.0


def test_a_million_literals_and_pairs():
    p, circuit = many(100_000, 10)
    places, classes = np.repeat(np.arange(100_000), 10), np.tile(np.arange(10), 100_000)
    ids, made = timed("1e6 literals", lambda: circuit.literals(0, places, classes))
    assert made < 0.5
    other = circuit.literals(0, places[::-1].copy(), classes)
    pairs, _ = timed("every, 1e6 pairs", lambda: circuit.every([ids, other]))
    evaluated("1e6 pairs", p, circuit, pairs)


@pytest.mark.parametrize(
    ("rows", "groups"), [(1000, 1), (10_000, 1), (20_000, 50), (100_000, 5000)]
)
def test_counts(rows, groups):
    p, circuit = many(rows, 10)
    at = np.arange(rows)
    members = Members(circuit.literals(0, at, at * 0), at * groups // rows, groups, None)
    call = Aggregation("count", "count(*)", None)
    name = f"count of {rows} rows in {groups} groups"
    found, _ = timed(name, lambda: circuit.outcomes(members, [call]))
    evaluated(name, p, circuit, found.ids)


@pytest.mark.parametrize("kind", ["average", "extreme"])
def test_moments_of_many_rows(kind):
    p, circuit = many(100_000, 10)
    at = np.arange(100_000)
    data = pa.table({"a0": np.random.default_rng(1).integers(0, 10**6, 100_000)})
    members = Members(circuit.literals(0, at, at * 0), at * 0, 1, data)
    function = "avg" if kind == "average" else "max"
    call = Aggregation(function, f"{function}(a0)", "a0")
    found, _ = timed(f"{kind}, 1e5 rows", lambda: getattr(circuit, kind)(members, call))
    gradient = Gradient([np.zeros(p.shape)])
    timed(f"{kind}, push", lambda: found.push(np.ones(1), gradient))


def test_a_semijoin_on_the_predicted_class():
    p, circuit = many(1100, 10)
    inner, classes = np.repeat(np.arange(100, 1100), 10), np.tile(np.arange(10), 1000)
    there = circuit.some(circuit.literals(0, inner, classes), classes, 10)
    outer, classes = np.repeat(np.arange(100), 10), np.tile(np.arange(10), 100)
    rows = circuit.every([circuit.literals(0, outer, classes), there[classes]])
    evaluated("semijoin 100 x 1000", p, circuit, circuit.some(rows, outer, 100))


def test_equal_classes_of_many_pairs():
    p, circuit = many(20_000, 10)
    rows, classes = np.repeat(np.arange(10_000), 10), np.tile(np.arange(10), 10_000)
    both = [circuit.literals(0, rows, classes), circuit.literals(0, rows + 10_000, classes)]
    ids = circuit.some(circuit.every(both), rows, 10_000)
    evaluated("10 000 pairs of equal class", p, circuit, ids)


def test_the_first_five_of_many_rows():
    p, circuit = many(20_000, 10)
    rows, classes = np.repeat(np.arange(20_000), 10), np.tile(np.arange(10), 20_000)
    order = np.random.default_rng(0).permutation(len(rows))
    ids = circuit.literals(0, rows, classes)[order]
    kept, _ = timed("LIMIT 5 of 200 000 rows", lambda: circuit.leading(ids, 0, 5))
    evaluated("LIMIT 5 of 200 000 rows", p, circuit, kept)
