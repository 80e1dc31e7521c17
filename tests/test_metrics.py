"""AUC_R and recall against the definition in the paper (Flokas et al. 2022, section 6.1.4)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rainpp.errors import DataError, ShapeError
from rainpp.metrics import auc_r, recall_curve


def literal_curve(scores, corrupted):
    """r_i: share of the corrupted rows among the i rows ranked first, for i up to N."""
    ranking = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    total = sum(map(bool, corrupted))
    return [sum(bool(corrupted[row]) for row in ranking[: i + 1]) / total for i in range(total)]


def literal_auc_r(scores, corrupted):
    """(1/N) sum r_i, divided by what it is for a ranking with every corrupted row first."""
    best = literal_curve([float(bool(flag)) for flag in corrupted], corrupted)
    curve = literal_curve(scores, corrupted)
    return (sum(curve) / len(curve)) / (sum(best) / len(best))


# Few different scores, so that most examples have ties.
SCORED = st.lists(
    st.tuples(st.integers(-3, 3).map(lambda s: s / 2), st.booleans()), min_size=1, max_size=40
).filter(lambda rows: any(flag for _, flag in rows))


@given(rows=SCORED)
def test_both_measures_are_the_papers(rows):
    scores, corrupted = zip(*rows, strict=True)
    assert_allclose(recall_curve(scores, corrupted), literal_curve(scores, corrupted), atol=1e-12)
    assert auc_r(scores, corrupted) == pytest.approx(literal_auc_r(scores, corrupted))


@given(rows=SCORED)
def test_the_value_lies_between_worst_and_best(rows):
    scores, corrupted = zip(*rows, strict=True)
    flags = np.array(corrupted, float)
    total = int(flags.sum())
    assert 0 <= auc_r(scores, corrupted) <= 1
    assert auc_r(flags, corrupted) == 1.0
    if total <= len(rows) - total:
        assert auc_r(-flags, corrupted) == 0.0


def test_ties_go_to_the_row_that_comes_first():
    assert auc_r([1.0, 1.0, 1.0, 1.0], [True, False, False, False]) == 1.0
    assert auc_r([1.0, 1.0, 1.0, 1.0], [False, False, False, True]) == 0.0
    assert recall_curve([0, 0, 0], [0, 1, 1]).tolist() == [0.0, 0.5]


def test_the_curve_ends_at_the_number_of_corrupted_rows():
    assert recall_curve([5, 4, 3, 2, 1], [1, 0, 0, 1, 0]).tolist() == [0.5, 0.5]


def test_infinite_scores_are_ranked():
    assert auc_r([-np.inf, 0.0, np.inf], [False, False, True]) == 1.0


@pytest.mark.parametrize(
    ("scores", "corrupted"),
    [([1.0, 2.0], [True]), ([[1.0], [2.0]], [[True], [False]]), (1.0, True)],
)
def test_shapes_that_do_not_fit_are_refused(scores, corrupted):
    for measure in (auc_r, recall_curve):
        with pytest.raises(ShapeError, match=r"`scores` has shape .* `corrupted`"):
            measure(scores, corrupted)


@pytest.mark.parametrize("corrupted", [[False, False], []])
def test_nothing_corrupted_is_refused(corrupted):
    for measure in (auc_r, recall_curve):
        with pytest.raises(DataError, match="marks no row"):
            measure(np.zeros(len(corrupted)), corrupted)


def test_a_score_that_is_nan_is_refused():
    with pytest.raises(DataError, match="NaN"):
        auc_r([0.1, np.nan], [True, False])
