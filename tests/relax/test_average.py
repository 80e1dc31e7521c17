"""E[S/N | N > 0]: quadrature against enumeration and a Poisson-binomial recursion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainpp.relax.average import Average, existence


def enumerated(weights, values):
    """Σ over subsets of P(subset) · mean of its values, given that it is not empty."""
    total = mass = 0.0
    for inside in itertools.product((False, True), repeat=len(weights)):
        chosen = np.array(inside)
        p = np.where(chosen, weights, 1 - weights).prod()
        if chosen.any():
            total += p * values[chosen].mean()
            mass += p
    return total / mass


def recursion(weights, values):
    """The same through the distribution of the number of other rows, row by row removed."""
    n = len(weights)
    counts = np.zeros(n + 1)
    counts[0] = 1.0
    for w in weights:
        counts[1:] = counts[1:] * (1 - w) + counts[:-1] * w
        counts[0] *= 1 - w
    # E[S/N; N>0] needs P(N_{-i} = m) for every i; equal rows share it.
    total = 0.0
    for w in np.unique(weights):
        others = without(counts, w)
        share = (others / np.arange(1, n + 1)).sum()
        total += w * values[weights == w].sum() * share
    return total / (1 - np.exp(np.log1p(-weights).sum()))


def without(counts, w):
    """Distribution of the count with one row of weight w taken out, in the stable direction."""
    n = len(counts) - 1
    out = np.zeros(n)
    if w < 0.5:
        carry = 0.0
        for m in range(n):
            carry = (counts[m] - w * carry) / (1 - w)
            out[m] = carry
    else:
        carry = 0.0
        for m in range(n - 1, -1, -1):
            carry = (counts[m + 1] - (1 - w) * carry) / w
            out[m] = carry
    return out


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1e-9, 0.2, 0.5, 0.93, 1.0]), st.floats(-9, 9)),
        min_size=1,
        max_size=7,
    ).filter(lambda rows: sum(w for w, _ in rows) > 0)
)
def test_average_equals_enumeration(rows):
    weights, values = (np.array(column) for column in zip(*rows, strict=True))
    found = Average(weights, weights * values)
    assert found.value == pytest.approx(enumerated(weights, values), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [1, 10, 200, 1000, 5000])
@pytest.mark.parametrize("scale", [1e-4, 0.05, 0.5, 0.999])
def test_average_equals_the_recursion(n, scale):
    rng = np.random.default_rng(n)
    weights = scale * rng.choice([0.3, 0.7, 1.0], n)
    values = rng.normal(1.0, 2.0, n)
    found = Average(weights, weights * values).value
    assert found == pytest.approx(recursion(weights, values), rel=1e-11)


def test_few_certain_rows_among_many_unlikely_ones():
    weights = np.r_[np.full(4000, 1e-3), np.full(3, 0.999), np.full(500, 0.4)]
    values = np.sin(np.arange(len(weights)))
    found = Average(weights, weights * values).value
    assert found == pytest.approx(recursion(weights, values), rel=1e-10)


@pytest.mark.parametrize("weights", [[0.3, 0.6, 0.1], [1.0, 0.5, 0.2], [1.0, 1.0, 0.4]])
def test_slopes_are_differences(weights):
    weights, sums = np.array(weights), np.array([0.6, -1.0, 0.3])
    by_weight, by_sum = Average(weights, sums).slopes()
    for i in range(3):
        for slope, which in ((by_weight[i], 0), (by_sum[i], 1)):
            moved = []
            # One-sided at the edge: a weight cannot exceed one.
            steps = (0.0, -1e-6) if which == 0 and weights[i] == 1.0 else (1e-6, -1e-6)
            for step in steps:
                pair = [weights.copy(), sums.copy()]
                pair[which][i] += step
                moved.append(Average(*pair).value)
            assert (moved[0] - moved[1]) / (steps[0] - steps[1]) == pytest.approx(slope, abs=2e-5)


def test_a_certain_row_makes_existence_certain():
    value, slope = existence(np.array([0.2, 1.0, 0.5]))
    assert value == 1.0
    np.testing.assert_allclose(slope, [0.0, 0.8 * 0.5, 0.0])


def test_tiny_weights_keep_their_relative_accuracy():
    value, slope = existence(np.full(3, 1e-14))
    assert value == pytest.approx(3e-14, rel=1e-10)
    np.testing.assert_allclose(slope, 1.0)


def test_no_row_has_no_average():
    assert np.isnan(Average(np.zeros(3), np.zeros(3)).value)
