import warnings

import numpy as np
import pytest

import rainpp
from rainpp.errors import NotAtOptimumWarning
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.optimum import Optimality, measure_optimality
from rainpp.training_set import TrainingSet
from tests import oracles


def test_a_solved_model_gives_no_warning():
    problem = oracles.solved_regression()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=3)
    assert index.manifest["checks"]["at_optimum"] is True
    assert index.manifest["checks"]["gradient_norm"] < 1e-10


def test_an_untrained_model_is_noticed():
    problem = oracles.random_mlp()
    with pytest.warns(NotAtOptimumWarning, match=r"not at an optimum.*\d% of a single") as caught:
        index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=2)
    assert [warning.filename for warning in caught] == [__file__]
    assert index.manifest["checks"]["at_optimum"] is False


def test_a_forgotten_l2_is_noticed():
    problem = oracles.solved_regression(l2=1.0)
    forgot = rainpp.Model(problem.model.apply, problem.model.params, l2=0.0)
    with pytest.warns(NotAtOptimumWarning, match="l2 are the ones"):
        rainpp.precompute(forgot, problem.inputs, problem.labels, k=2)


def test_rows_without_any_gradient_are_said_in_words():
    rows, weights = np.arange(12.0).reshape(4, 3), np.ones((3, 2))
    model = rainpp.Model(lambda w, x: x @ w, weights, loss="squared_error", l2=1.0)
    training = TrainingSet.checked(model, rows, rows @ weights)
    with pytest.warns(NotAtOptimumWarning, match="none of it from single rows") as caught:
        found = measure_optimality(Curvature.of(model, training), training, seed=0)
    assert "inf" not in str(caught[0].message)
    assert found.gradient_norm == pytest.approx(np.sqrt(6))
    assert (found.row_gradient_norm, found.relative) == (0, np.inf)
    assert Optimality(0.0, 0.0).at_optimum
