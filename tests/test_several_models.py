"""A query that calls two models: gradients by each, rankings through one at a time."""

import numpy as np
import pytest

import rainpp
from rainpp.errors import ComplaintError, RainError
from tests import oracles
from tests.online import make_scene

BOTH = (
    "SELECT count(*) AS n FROM people "
    "WHERE predict(a, b, c, d) = 1 AND rival(a, b, c, d) <> predict(a, b, c, d)"
)


@pytest.fixture(scope="module")
def scene():
    found = make_scene(k=15)
    other = oracles.solved_regression(rows=80, l2=1e-2, seed=5)
    index = rainpp.precompute(other.model, other.inputs, other.labels, k=15)
    found.database.register_model("rival", other.model, index)
    return found


def test_a_ranking_needs_one_model(scene):
    complaint = scene.database.sql(BOTH).complain("n", should="decrease")
    assert set(complaint.gradient) == {("predict", "people"), ("rival", "people")}
    with pytest.raises(RainError, match=r"predict.*rival.*complaint.through"):
        complaint.rank()
    with pytest.raises(ComplaintError, match="depends on: predict, rival"):
        complaint.through("third")


@pytest.mark.parametrize("name", ["predict", "rival"])
def test_effects_through_a_model_are_those_of_retraining_it(scene, name):
    complaint = scene.database.sql(BOTH).complain("n", should="decrease").through(name)
    ranking = complaint.rank()
    ranking.refine()
    deletions = ranking.top(500).query("intervention == 'delete'")
    found = deletions.iloc[0]
    registered = complaint.registered
    training = registered.index.training
    kept = np.asarray(training.ids) != found["train_id"]
    inputs, labels = np.asarray(training.inputs)[kept], np.asarray(training.labels)[kept]
    retrained = oracles.solve(registered.model, inputs, labels)
    setting = complaint.result.setting
    before = setting.evaluate().cell(0, "n")[1]
    after = setting.with_model(name, retrained).evaluate().cell(0, "n")[1]
    # The most influential of 80 rows: the curvature it takes with it is the next order, 20 % here.
    assert before - after == pytest.approx(found["effect"], rel=0.25)
