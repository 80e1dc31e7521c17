"""Sums of small integers as convolutions, against DuckDB in every world and other formulas."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from rainpp.relax.nested.algebra import Aggregation, Members
from rainpp.relax.nested.circuit import Circuit
from rainpp.relax.nested.convolve import SumTrees
from rainpp.relax.rowsums import Gradient
from tests.relax.nested.circuits import Both
from tests.relax.nested.test_circuit import check
from tests.relax.nested.test_circuit_outcomes import CALLS, check_outcomes

ADDED = [call for call in CALLS if call.kind in ("count", "sum") and not call.distinct]
SHAPES = [[(7, 2)], [(4, 3)], [(3, 2), (2, 3)], [(2, 2), (3, 3)]]
COUNT = Aggregation("count", "count(*)", None)


@pytest.mark.parametrize("seed", range(80))
def test_one_sum_of_integers_in_every_world(seed):
    both = Both(seed, SHAPES[seed % len(SHAPES)])
    both.literals()
    if seed % 3:
        both.random_step(6)
    for _ in range(2):
        call = ADDED[both.rng.integers(0, len(ADDED))]
        check_outcomes(both, both.pick(int(both.rng.integers(2, 10))), [call])
    check(both)
    # Results meet other events and one another: their variables are opened.
    both.random_step(8)
    check_outcomes(both, both.pick(4), [ADDED[both.rng.integers(0, len(ADDED))]])
    check(both)


@pytest.mark.parametrize("seed", range(6))
def test_sum_trees_are_convolutions(seed):
    rng = np.random.default_rng(seed)
    segment = np.sort(rng.integers(0, 4, 60))
    length = rng.integers(1, [3, 5, 40, 90, 200, 2][seed] + 1, 60)
    trees = SumTrees(segment, length)
    parts = [rng.random(n) for n in length]
    slopes, found = [], trees.forward(np.concatenate(parts))
    for s in np.unique(segment):
        expected = np.ones(1)
        for at in np.flatnonzero(segment == s):
            expected = np.convolve(expected, parts[at])
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-11)
        found = found[len(expected) :]
        slopes.append(rng.normal(size=len(expected)))
    assert not len(found)
    adjoint = np.concatenate(slopes)
    gradient = trees.backward(adjoint)
    direction = rng.random(int(length.sum()))
    # The sum is linear in any one part.
    for at in (0, 17, 59):
        begin = int(length[:at].sum())
        moved = np.concatenate(parts)
        moved[begin : begin + length[at]] += direction[begin : begin + length[at]]
        step = adjoint @ (trees.forward(moved) - trees.forward(np.concatenate(parts)))
        along = gradient[begin : begin + length[at]] @ direction[begin : begin + length[at]]
        np.testing.assert_allclose(along, step, rtol=1e-7)


def large(rows: int, groups: int, data=None, call=COUNT):
    p = np.random.default_rng(0).dirichlet(np.ones(3), rows)
    circuit = Circuit(Both.predictions([p]), duckdb.connect())
    at = np.arange(rows)
    table = None if data is None else pa.table({"a0": data})
    members = Members(circuit.literals(0, at, at * 0), at * groups // rows, groups, table)
    return p, circuit, circuit.outcomes(members, [call])


def test_the_mean_and_slope_of_a_count_of_many_rows():
    p, circuit, found = large(3000, 1)
    n = np.asarray(found.table["v0"], float)
    np.testing.assert_allclose(n @ circuit.probability(found.ids), p[:, 0].sum(), rtol=1e-12)
    out = Gradient([np.zeros(p.shape)])
    circuit.push(found.ids, n, out)
    np.testing.assert_allclose(out.arrays[0][:, 0] - out.arrays[0][:, 1], 1.0, rtol=1e-10)


def test_sums_with_gaps_and_signs_list_only_possible_totals():
    data = np.array([2, 2, -2, 6, 0, 2] * 40)
    call = Aggregation("sum", "sum(a0)", "a0")
    p, circuit, found = large(240, 2, data, call)
    totals = np.array([int(v) for v in found.table["v0"].to_pylist()])
    assert (totals % 2 == 0).all()
    chance = circuit.probability(found.ids)
    for segment in (0, 1):
        mine = found.segment == segment
        expected = p[120 * segment : 120 * (segment + 1), 0] @ data[:120]
        np.testing.assert_allclose(totals[mine] @ chance[mine], expected, rtol=1e-10)
        np.testing.assert_allclose(chance[mine].sum(), 1.0, atol=1e-12)


def test_few_large_integers_are_listed_one_by_one():
    data = np.array([1, 1000, 1_000_000, 7])
    _, circuit, found = large(4, 1, data, Aggregation("sum", "sum(a0)", "a0"))
    assert len(found.ids) == 15
    np.testing.assert_allclose(
        circuit.probability(found.ids).sum(),
        1 - np.prod(1 - np.random.default_rng(0).dirichlet(np.ones(3), 4)[:, 0]),
    )


def test_certain_events_share_nothing_with_derived_variables():
    _, circuit, found = large(20, 1)
    assert circuit.probability(np.array([1, 0])).tolist() == [1.0, 0.0]
    assert circuit.probability(found.ids[:0]).shape == (0,)
