"""A complaint over certain predictions has no gradient; the ranking says so."""

from __future__ import annotations

import warnings

import duckdb
import numpy as np
import pytest

import rainpp
from rainpp.errors import RainWarning, SaturatedWarning
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene


def far_away(distance):
    """People so far from the boundary that the model is as certain as its numbers allow."""
    problem = oracles.solved_regression(rows=80, l2=1e-2, seed=0)
    index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=15)
    con = duckdb.connect()
    con.execute("CREATE TABLE people(a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE)")
    rows = np.random.default_rng(0).normal(size=(6, 4)) * distance
    con.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", rows.tolist())
    database = rainpp.connect(con)
    database.register_model("predict", problem.model, index)
    return database


@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_certain_predictions_are_warned_about(distance):
    complaint = far_away(distance).sql(COUNT).complain("n", should="increase")
    with pytest.warns(SaturatedWarning, match="every prediction it depends on is certain") as found:
        complaint.rank()
    assert len(found) == 1
    assert found[0].filename == __file__
    assert "`n`" in str(found[0].message)
    assert issubclass(SaturatedWarning, RainWarning)


def test_ranking_together_warns_of_each_that_is_certain():
    database = far_away(1e6)
    complaint = database.sql(COUNT).complain("n", should="increase")
    with pytest.warns(SaturatedWarning) as found:
        database.rank([complaint, complaint])
    assert len(found) == 2
    assert found[0].filename == __file__


def test_undecided_predictions_are_not_warned_about():
    result = make_scene().database.sql(BY_REGION)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.complain("n", where={"region": "EU"}, should="increase").rank()


def test_one_undecided_prediction_is_enough():
    database = far_away(1e6)
    database.connection.execute("INSERT INTO people VALUES (0.1, 0, 0, 0)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        database.sql(COUNT).complain("n", should="increase").rank()
