"""Search of a part of the interventions: against scoring them all."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.errors import RainError, SettingsError
from rainpp.index.ann import Approximate, Ordered, Table
from rainpp.index.score import Projections


def table_of(values, plausibility=None):
    values = np.asarray(values, np.float32)
    chances = np.ones(len(values), np.float32) if plausibility is None else plausibility
    eigenvalues = 2.0 ** -np.arange(values.shape[1])
    return Table(Projections(values), chances, eigenvalues, 50)


def exact(table, vector, count):
    values = table.projections.values.astype(np.float64)
    effects = values @ (vector / table.eigenvalues / table.num_train)
    scores = effects * table.plausibility
    order = np.argsort(-scores, kind="stable")[:count]
    return order, scores[order], effects[order]


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 9000),
    spread=st.sampled_from([0.0, 1.0, 4.0]),
    count=st.integers(0, 30),
)
def test_rows_by_norm_give_the_exact_answer_ties_by_position(seed, size, spread, count):
    rng = np.random.default_rng(seed)
    # Small whole numbers and powers of two: sums are exact, and many scores tie.
    lengths = np.exp2(np.rint(rng.normal(0, spread, size)))[:, None]
    table = table_of(lengths * rng.integers(-3, 4, (size, 4)), rng.choice([0.25, 0.5, 1.0], size))
    vector = rng.integers(-2, 3, 4).astype(np.float64)
    best, read = Ordered.of(table).search(vector, count)
    positions, scores, effects = exact(table, vector, count)
    assert_array_equal(best.positions, positions)
    assert_allclose(best.scores, scores)
    assert_allclose(best.effects, effects)
    assert read <= size


def test_few_rows_are_read_where_lengths_differ_and_all_where_they_do_not():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200_000, 4))
    vector = np.array([1.0, 2.0, -1.0, 0.5])
    skewed = table_of(rows * rng.lognormal(0, 3, len(rows))[:, None])
    best, read = Ordered.of(skewed).search(vector, 100)
    assert read < 20_000
    assert_array_equal(best.positions, exact(skewed, vector, 100)[0])
    equal = table_of(rows / np.linalg.norm(rows * np.sqrt(2.0 ** np.arange(4)), axis=1)[:, None])
    assert Ordered.of(equal).search(np.zeros(4), 100)[1] == len(rows)


def test_an_empty_answer():
    assert Ordered.of(table_of(np.ones((5, 2)))).search(np.ones(2), 0)[0].positions.shape == (0,)


@pytest.mark.parametrize("count", [-1, 2.0, True, None])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(SettingsError, match="`count` is"):
        Ordered.of(table_of(np.ones((5, 2)))).search(np.ones(2), count)


def test_without_the_library_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RainError, match=r"pip install \"rainpp\[ann\]\""):
        Approximate.of(table_of(np.ones((100, 2))))


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
def test_the_library_finds_what_all_its_cells_hold():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    table = table_of(rng.normal(size=(5000, 4)), rng.choice([0.5, 1.0], 5000).astype(np.float32))
    vector = np.array([1.0, 2.0, -1.0, 0.5])
    positions, scores, _ = exact(table, vector, 50)
    approximate = Approximate.of(table, num_cells=20)
    everywhere = approximate.search(vector, 50, num_probes=20)
    assert len(np.intersect1d(everywhere.positions, positions)) >= 48  # bytes round
    assert_allclose(everywhere.scores[0], scores[0], rtol=1e-6)
    one_cell = approximate.search(vector, 50, num_probes=1)
    assert len(np.intersect1d(one_cell.positions, positions)) < 48
