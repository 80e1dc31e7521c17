"""Probabilities of formulas and their slopes against the list of all worlds."""

from __future__ import annotations

import numpy as np
import pytest

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
