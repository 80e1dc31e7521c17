import warnings

import pytest

import rainpp
from rainpp.errors import NotAtOptimumWarning
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
    with pytest.warns(NotAtOptimumWarning, match="not at an optimum"):
        index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=2)
    assert index.manifest["checks"]["at_optimum"] is False


def test_a_forgotten_l2_is_noticed():
    problem = oracles.solved_regression(l2=1.0)
    forgot = rainpp.Model(problem.model.apply, problem.model.params, l2=0.0)
    with pytest.warns(NotAtOptimumWarning, match="l2 are the ones"):
        rainpp.precompute(forgot, problem.inputs, problem.labels, k=2)
