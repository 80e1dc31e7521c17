"""The few largest of many: against plain sorting in Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from rainpp.errors import DataError
from rainpp.selection import Leaders, leading


def stable_descending(values):
    """Positions by descending value, ties by position, without any library's sort order."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


def scores(seed, size, levels, dtype):
    return np.random.default_rng(seed).integers(-levels, levels + 1, size).astype(dtype)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 3000),
    levels=st.sampled_from([0, 1, 5, 10**6]),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    count=st.integers(0, 40) | st.integers(0, 4000),
)
def test_leading_is_the_beginning_of_a_full_stable_sort(seed, size, levels, dtype, count):
    values = scores(seed, size, min(levels, 2000) if dtype == "f2" else levels, dtype)
    assert_array_equal(leading(values, count), stable_descending(values)[:count])


@pytest.mark.parametrize("size", [64, 65, 1000, 4096, 4103])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_winner_is_found_in_every_place(size, count):
    for place in [0, 1, 7, 8, size // 2, size - 9, size - 2, size - 1]:
        values = np.zeros(size, np.float32)
        values[place] = 1.0
        expected = [place, *[i for i in range(count + 1) if i != place]][:count]
        assert_array_equal(leading(values, count), expected)


@pytest.mark.parametrize("place", [0, 500, 999])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_nan_is_refused_wherever_it_stands(place, count):
    values = np.arange(1000.0)
    values[place] = np.nan
    with pytest.raises(DataError, match=r"1 of 1,000 scores are NaN"):
        leading(values, count)


def test_infinities_have_their_place():
    values = np.zeros(1000)
    values[[3, 700]], values[10] = np.inf, -np.inf
    assert_array_equal(leading(values, 3), [3, 700, 0])
    assert leading(values, 1000)[-1] == 10


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 300), max_size=8),
    levels=st.sampled_from([0, 2, 10**6]),
    count=st.integers(0, 50),
)
def test_block_by_block_is_the_same_as_at_once(seed, sizes, levels, count):
    values, leaders, start = scores(seed, sum(sizes), levels, "f4"), Leaders(count), 0
    for size in sizes:
        leaders.offer(start, values[start : start + size])
        start += size
    expected = stable_descending(values)[:count]
    assert_array_equal(leaders.positions, expected)
    assert_array_equal(leaders.values, values[expected])
