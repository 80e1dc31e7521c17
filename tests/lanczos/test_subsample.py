"""Which rows the curvature comes from: growing halves, a number of rows, or all of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rainpp.errors import SettingsError
from rainpp.lanczos import subsample
from rainpp.lanczos.agreement import Agreement
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.sample import Strata
from rainpp.lanczos.subsample import Request, check_rows, sampled_eigenpairs
from rainpp.training_set import TrainingSet
from tests import oracles

ROWS = 3000


@pytest.fixture(scope="module")
def large():
    problem = oracles.solved_regression(rows=ROWS, features=3, classes=3, l2=1e-3)
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    return problem.model, training


def found(large, rows, **settings):
    model, training = large
    return sampled_eigenpairs(Request(model, training, 4, 3, rows=rows, **settings))


def dense(large):
    model, training = large
    return oracles.dense_hessian(model, training.inputs, training.labels)


def test_all_rows_are_all_rows(large):
    result = found(large, "all")
    assert result.rows == ROWS
    assert result.trials == ()
    assert_allclose(result.pairs.values, np.linalg.eigvalsh(dense(large))[::-1][:4], rtol=1e-5)


def test_auto_takes_fewer_rows_when_halves_agree(large):
    result = found(large, "auto")
    assert result.rows < ROWS / 2
    assert result.trials[-1].enough
    assert result.trials[-1].rows == result.rows
    assert not any(trial.enough for trial in result.trials[:-1])


def test_auto_ends_with_all_rows_when_the_training_set_is_small():
    problem = oracles.solved_regression()  # 60 rows: no half of 256
    training = TrainingSet.checked(problem.model, problem.inputs, problem.labels)
    auto, everything = (
        sampled_eigenpairs(Request(problem.model, training, 4, 3, rows=rows))
        for rows in ("auto", "all")
    )
    assert auto.rows == 60
    assert auto.trials == ()
    assert np.array_equal(auto.pairs.vectors, everything.pairs.vectors)


def test_auto_ends_with_all_rows_when_halves_never_agree(large, monkeypatch):
    never = Agreement(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(subsample, "compare", lambda *_, **__: never)
    result = found(large, "auto")
    assert result.rows == ROWS
    assert result.trials == (never,)  # the next half would be above a fifth of the rows


@pytest.mark.parametrize("rows", [500, 501])
def test_a_number_of_rows_is_split_into_two_halves(large, rows):
    result = found(large, rows)
    assert abs(result.rows - rows) <= 3  # shares of three classes are rounded
    assert len(result.trials) == 1


def test_eigenpairs_are_those_of_both_halves_together(large):
    """Against the dense Hessian of the rows of both halves with their weights."""
    model, training = large
    result = found(large, 500)
    strata = Strata(training.labels, seed=0)
    parts = []
    for which in (0, 1):
        sample = strata.half(250, which)
        curvature = Curvature.of(model, training, sample=sample)
        parts.append(np.stack([curvature.hvp(row) for row in np.eye(model.num_params)]))
    exact = np.linalg.eigvalsh(sum(parts) / 2)[::-1][:4]
    assert_allclose(result.pairs.values, exact, rtol=1e-5)


def test_a_sample_is_near_all_rows(large):
    """500 of 3 000 rows: leading eigenvalues of a mean, within a few standard errors (5 %)."""
    exact = np.linalg.eigvalsh(dense(large))[::-1][:4]
    assert_allclose(found(large, 500).pairs.values, exact, rtol=0.2)


def test_the_agreement_is_about_the_rows_it_names(large):
    few, many = (found(large, rows).trials[0] for rows in (300, 1500))
    assert few.rows < many.rows
    assert many.overlap > few.overlap


@pytest.mark.parametrize("rows", ["auto", 400, "all"])
def test_the_seed_decides_everything(large, rows):
    first, second = found(large, rows, seed=7), found(large, rows, seed=7)
    assert np.array_equal(first.pairs.vectors, second.pairs.vectors)
    assert first.trials == second.trials
    other = found(large, rows, seed=8)
    assert not np.array_equal(first.pairs.vectors, other.pairs.vectors)


def test_gauss_newton_rows_can_be_sampled_too(large):
    """A linear model's Gauss-Newton curvature is its Hessian."""
    pairs = [found(large, 500, kind=kind).pairs for kind in ("hessian", "gauss_newton")]
    assert_allclose(pairs[0].values, pairs[1].values, rtol=1e-9)


@pytest.mark.parametrize("rows", ["auto", "all", 2, 60, np.int64(5)])
def test_rows_that_make_sense_are_accepted(rows):
    check_rows(rows, 60)


@pytest.mark.parametrize("rows", [0, 1, 61, -5])
def test_a_number_out_of_range_is_refused(rows):
    with pytest.raises(SettingsError, match=f"`curvature_rows` is {rows};.* 60 rows"):
        check_rows(rows, 60)


@pytest.mark.parametrize("rows", ["some", 2.5, True, None])
def test_something_else_than_a_number_is_refused(rows):
    with pytest.raises(SettingsError, match="'auto', 'all' or a whole number"):
        check_rows(rows, 60)
