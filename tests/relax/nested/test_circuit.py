"""Probabilities of formulas and their slopes against the list of all worlds."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.relax.nested.algebra import Intractable
from rainpp.relax.nested.circuit import Circuit
from tests.relax.nested.circuits import Both, centred, world_gradient

SHAPES = [[(5, 2)], [(4, 3)], [(2, 3), (2, 2)], [(1, 5), (3, 2), (1, 4)], [(3, 1), (2, 4)]]


def check(both: Both) -> None:
    ids = np.array(both.ids)
    found = both.circuit.probability(ids)
    np.testing.assert_allclose(found, both.expected(), atol=1e-12)
    adjoint = both.rng.normal(size=len(ids))
    slopes = centred(both.gradient(ids, adjoint))
    for mine, theirs in zip(slopes, centred(world_gradient(both, adjoint)), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-10)


@pytest.mark.parametrize("seed", range(40))
def test_random_formulas_have_the_probability_of_their_worlds(seed):
    both = Both(seed, SHAPES[seed % len(SHAPES)])
    both.literals()
    for _ in range(6):
        both.random_step(int(both.rng.integers(1, 12)))
        if both.rng.random() < 0.3:
            check(both)
    check(both)


def cross(both: Both, groups: list[list[int]]) -> None:
    """The event that one literal of every group holds, clause by clause."""
    grids = [g.ravel() for g in np.meshgrid(*groups, indexing="ij")]
    clauses = both.circuit.every([both.column(list(g)) for g in grids])
    truth = np.array(both.truth)
    held = np.logical_and.reduce([truth[g] for g in grids])
    both.add(clauses, held)
    one = np.zeros(len(clauses), np.int64)
    both.add(both.circuit.some(clauses, one, 1), [held.any(axis=0)])


@pytest.mark.parametrize("seed", range(20))
def test_clauses_that_multiply_out(seed):
    both = Both(seed, [(7, 2)] if seed % 2 else [(2, 3), (3, 3)])
    both.literals()
    for _ in range(3):
        sizes = both.rng.integers(1, 4, both.rng.integers(2, 4))
        literals = 2 + both.rng.permutation(len(both.ids) - 2)[: sizes.sum()]
        cross(both, [list(g) for g in np.split(literals, np.cumsum(sizes)[:-1])])
    both.random_step(8)
    check(both)


def many(v: int, r: int):
    both = Both(0, [(1, 1)])
    p = both.rng.dirichlet(np.ones(r), v)
    return p, Circuit(Both.predictions([p]), both.con)


def test_a_large_equality_join_of_one_class_is_a_product():
    p, circuit = many(500, 4)
    left, right = (g.ravel() for g in np.meshgrid(np.arange(200), np.arange(200, 500)))
    zero = np.zeros_like(left)
    pairs = circuit.every([circuit.literals(0, left, zero), circuit.literals(0, right, zero)])
    found = circuit.probability(circuit.some(pairs, zero, 1))
    rest = [np.prod(1 - p[rows, 0]) for rows in (slice(0, 200), slice(200, 500))]
    np.testing.assert_allclose(found, (1 - rest[0]) * (1 - rest[1]), rtol=1e-12)


def test_a_semijoin_on_the_predicted_class_branches_on_the_outer_row():
    p, circuit = many(3020, 5)
    inner, classes = np.repeat(np.arange(20, 3020), 5), np.tile(np.arange(5), 3000)
    there = circuit.some(circuit.literals(0, inner, classes), classes, 5)
    outer, classes = np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)
    rows = circuit.every([circuit.literals(0, outer, classes), there[classes]])
    found = circuit.probability(circuit.some(rows, outer, 20))
    expected = (p[:20] * (1 - np.prod(1 - p[20:], axis=0))).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_is_too_entangled_is_refused_and_the_rest_still_works():
    p, circuit = many(60, 2)
    rng = np.random.default_rng(0)
    ones = np.zeros(300, np.int64)
    triples = [circuit.literals(0, rng.integers(0, 60, 300), ones) for _ in range(3)]
    event = circuit.some(circuit.every(triples), ones, 1)
    for _ in range(2):
        with pytest.raises(Intractable, match="branches"):
            circuit.probability(event)
    single = circuit.literals(0, np.arange(60), np.ones(60, np.int64))
    np.testing.assert_allclose(circuit.probability(single), p[:, 1])


def test_rain_multiplies_what_shares_a_prediction():
    both = Both(3, [(1, 3)], exact=False)
    both.literals()
    p, ids = both.tables[0][0], both.column([2, 3])
    twice = both.circuit.every([ids, ids])
    np.testing.assert_allclose(both.circuit.probability(twice), p[:2] ** 2)
    either = both.circuit.some(ids, np.zeros(2, np.int64), 1)
    np.testing.assert_allclose(both.circuit.probability(either), 1 - (1 - p[0]) * (1 - p[1]))
    assert "rain" in both.circuit.method


@pytest.mark.parametrize("seed", range(12))
def test_clauses_that_a_variable_tells_apart(seed):
    both = Both(seed, [(4, 3)] if seed % 2 else [(2, 3), (3, 2)])
    both.literals()
    r = both.shapes[0][1]
    # Row 0 has class c, and one or two others have some class.
    for _ in range(4):
        rows = [[2 + c, *both.rng.integers(2 + r, len(both.ids[: 2 + 12]), 2)] for c in range(r)]
        clauses = both.circuit.every([both.column([int(row[k]) for row in rows]) for k in range(3)])
        truth = [np.logical_and.reduce([both.truth[i] for i in row]) for row in rows]
        both.add(both.circuit.some(clauses, np.zeros(r, np.int64), 1), [np.any(truth, axis=0)])
    check(both)
    both.random_step(10)
    check(both)
