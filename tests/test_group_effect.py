"""What a group of interventions does together, against retraining to rounding."""

from dataclasses import replace

import numpy as np
import pytest

import rainpp
from rainpp.errors import ConflictWarning, DataError, RainError, SettingsError
from rainpp.intervention.applying import apply_interventions
from rainpp.ranking import Ranking
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=6)


def retrained(scene, ranking, count):
    """Improvement of the relaxed count of everybody once the model is solved again."""
    fixed = apply_interventions(scene.index.training, ranking.best(count))
    model = oracles.solve(scene.problem.model, fixed.inputs, fixed.labels)
    everybody = np.ones(30, bool)
    return float(
        scene.count_of(model.theta, everybody)
        - scene.count_of(scene.problem.model.theta, everybody)
    )


@pytest.mark.parametrize(
    ("kinds", "count"), [("delete", 8), ("delete", 20), ("both", 8), ("both", 24)]
)
def test_newton_steps_end_where_retraining_does(scene, kinds, count):
    """The 10 and 25 % of the rows that matter most deleted, and mixtures with relabels."""
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    if kinds == "delete":
        ranking.plausibility = np.where(np.arange(len(ranking)) < 80, 1.0, 0.0)
    actual = retrained(scene, ranking, count)
    found, exact = ranking.group_effect(count), ranking.group_effect(count, newton_steps=6)
    assert exact.effect == pytest.approx(actual, rel=1e-4)
    assert found.effect == pytest.approx(actual, rel=0.05)
    assert abs(found.effect - actual) < abs(found.first_order - actual) / 3
    assert found.low <= actual <= found.high
    assert found.converged
    assert (found.count, exact.newton_steps) == (count, 6)
    assert 1 < found.newton_steps < 6
    singles = ranking.effects[ranking.positions(count)].sum()
    assert found.first_order == pytest.approx(singles, rel=1e-9)


def test_the_direction_and_the_weights_of_complaints_count(scene):
    result = scene.database.sql(BY_REGION)
    parts = [
        result.complain("n", where={"region": region}, should=should)
        for region, should in (("EU", "increase"), ("US", "decrease"))
    ]
    with pytest.warns(ConflictWarning):
        together = scene.database.rank(parts, weights=[1.0, 3.0])
    found = together.group_effect(4, newton_steps=5)
    fixed = apply_interventions(scene.index.training, together.best(4))
    model = oracles.solve(scene.problem.model, fixed.inputs, fixed.labels)
    changes = [
        float(
            scene.count_of(model.theta, scene.regions == region)
            - scene.count_of(scene.problem.model.theta, scene.regions == region)
        )
        for region in ("EU", "US")
    ]
    assert found.effect == pytest.approx(changes[0] - 3 * changes[1], rel=1e-3)


def test_no_group_has_no_effect(scene):
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    found = ranking.group_effect(0)
    assert (found.count, found.effect, found.low, found.high) == (0, 0.0, 0.0, 0.0)


def test_a_group_of_everything_is_refused():
    problem = oracles.solved_regression(rows=80, l2=1e-2)
    scene = make_scene(k=6)
    index = rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=6, interventions=[rainpp.Delete()]
    )
    scene.database.register_model("predict", problem.model, index)
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(DataError, match="delete every training row"):
        ranking.group_effect(80)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "two"])
def test_newton_steps_are_whole(scene, steps):
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(SettingsError, match="`newton_steps` is"):
        ranking.group_effect(3, newton_steps=steps)


def test_a_ranking_from_a_vector_knows_no_groups(scene):
    ranking = scene.index.rank(np.ones(6))
    assert isinstance(ranking, Ranking)
    with pytest.raises(RainError, match="k numbers alone"):
        ranking.group_effect(3)


def test_a_group_that_whole_newton_steps_overshoot(scene):
    """Weak l2, and the rows that hold a class back: whole steps diverge, damped ones do not."""
    problem = oracles.solved_regression(rows=80, l2=1e-4, seed=2)
    index = rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=[rainpp.Delete()]
    )
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", problem.model, index)
    ranking = database.sql(COUNT).complain("n", should="increase").rank()
    fixed = apply_interventions(index.training, ranking.best(32))
    model = oracles.solve(problem.model, fixed.inputs, fixed.labels, steps=200)
    everybody = np.ones(30, bool)
    before, after = (
        float(replace(scene, problem=replace(problem, model=each)).count_of(each.theta, everybody))
        for each in (problem.model, model)
    )
    found = ranking.group_effect(32)
    assert found.effect == pytest.approx(after - before, rel=0.05)
    assert found.low <= after - before <= found.high


def test_a_changed_database_is_noticed():
    """It once gave another number, NaN or 0."""
    scene = make_scene(k=6)
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    scene.database.connection.execute("DELETE FROM people WHERE rowid % 2 = 0")
    with pytest.raises(DataError, match="changed since"):
        ranking.group_effect(3)


def test_a_million_steps_end_where_nothing_changes(scene):
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    found = ranking.group_effect(3, newton_steps=np.int64(10**6))
    assert found.newton_steps < 20
