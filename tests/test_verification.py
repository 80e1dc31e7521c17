import numpy as np
import pytest

import rainpp
from rainpp.errors import DataError, ModelError, RainError, SettingsError
from rainpp.intervention import Intervention
from rainpp.intervention.applying import apply_interventions
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene


def retrain(scene):
    def fit(inputs, labels):
        return oracles.solve(scene.problem.model, inputs, labels).params

    return fit


def test_a_small_fix_does_what_was_predicted():
    scene = make_scene(k=15)
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    proof = rainpp.verify(ranking, fit=retrain(scene), top=2)
    outcome = proof.outcomes[0]
    gained, promised = (
        value - outcome.before_relaxed for value in (outcome.after_relaxed, outcome.predicted)
    )
    assert promised > 0
    # Two rows of 80 with all eigenpairs: first order is off by some percent, not by half.
    assert gained == pytest.approx(promised, rel=0.35)
    assert proof.before == outcome.complaint.hard
    assert len(proof.applied) == 2


def test_the_retrained_answer_is_that_of_the_retrained_model():
    scene = make_scene(k=6)
    ranking = scene.database.sql(COUNT).complain("n", should="decrease").rank()
    proof = rainpp.verify(ranking, fit=retrain(scene), top=5)
    fixed = apply_interventions(scene.index.training, ranking.best(5))
    model = oracles.solve(scene.problem.model, fixed.inputs, fixed.labels)
    probabilities = model.probabilities(scene.features)
    assert proof.after == np.sum(probabilities.argmax(axis=1) == 1)
    assert proof.outcomes[0].after_relaxed == pytest.approx(probabilities[:, 1].sum(), rel=1e-9)


def test_every_complaint_of_a_combination_is_reported():
    scene = make_scene(k=15)
    result = scene.database.sql(BY_REGION)
    complaints = [
        result.complain("n", where={"region": region}, should="increase") for region in ("EU", "US")
    ]
    proof = rainpp.verify(scene.database.rank(complaints), fit=retrain(scene), top=4)
    frame = proof.frame()
    assert len(frame) == 2
    for outcome in proof.outcomes:
        assert (outcome.predicted - outcome.before_relaxed) * (
            outcome.after_relaxed - outcome.before_relaxed
        ) > 0


def test_neither_the_users_data_nor_the_database_is_touched():
    scene = make_scene(k=4)
    inputs, labels = scene.problem.inputs.copy(), scene.problem.labels.copy()
    before = scene.database.sql(COUNT).relaxed()
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    rainpp.verify(ranking, fit=retrain(scene), top=10)
    assert np.array_equal(inputs, scene.problem.inputs)
    assert np.array_equal(labels, scene.problem.labels)
    assert scene.database.sql(COUNT).relaxed().equals(before)


def test_applying_deletes_and_relabels_exactly_the_named_rows():
    training = make_scene(k=4).index.training
    fixed = apply_interventions(
        training, [Intervention(3, 3, "delete", None), Intervention(5, 5, "relabel", 2)]
    )
    assert list(fixed.ids) == [i for i in range(80) if i != 3]
    expected = training.labels.copy()
    expected[5] = 2
    assert np.array_equal(fixed.labels, np.delete(expected, 3))
    assert np.array_equal(fixed.inputs, np.delete(training.inputs, 3, axis=0))


def test_two_interventions_on_a_row_or_an_emptied_set_are_refused():
    training = make_scene(k=4).index.training
    with pytest.raises(SettingsError, match="same training row"):
        apply_interventions(
            training, [Intervention(1, 1, "delete", None), Intervention(1, 1, "relabel", 0)]
        )
    with pytest.raises(DataError, match="delete every training row"):
        apply_interventions(training, [Intervention(i, i, "delete", None) for i in range(80)])


def test_what_verify_needs_is_named(tmp_path):
    scene = make_scene(k=4, path=tmp_path / "people.rain")
    ranking = scene.database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(SettingsError, match="`top` is 0"):
        rainpp.verify(ranking, fit=retrain(scene), top=0)
    with pytest.raises(ModelError, match="returned None"):
        rainpp.verify(ranking, fit=lambda inputs, labels: None, top=1)  # noqa: ARG005
    with pytest.raises(ModelError, match="structure"):
        rainpp.verify(ranking, fit=lambda inputs, labels: [1.0], top=1)  # noqa: ARG005
    with pytest.raises(RainError, match="made from complaints"):
        rainpp.verify(scene.index.rank(np.ones(4)), fit=retrain(scene))
    loaded = rainpp.load(tmp_path / "people.rain")
    scene.database.register_model("predict", scene.problem.model, loaded)
    bare = scene.database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(RainError, match="not at hand"):
        rainpp.verify(bare, fit=retrain(scene))
    data = (scene.problem.inputs, scene.problem.labels)
    scene.database.register_model("predict", scene.problem.model, loaded, data=data)
    whole = scene.database.sql(COUNT).complain("n", should="increase").rank()
    assert len(rainpp.verify(whole, fit=retrain(scene), top=1).applied) == 1


@pytest.mark.parametrize(
    ("should", "target", "after", "resolved"),
    [
        ("increase", None, 11.0, True),
        ("increase", None, 10.0, False),
        ("decrease", None, 11.0, False),
        ("equal", 12.0, 12.0, True),
        ("equal", 12.0, 13.0, False),
        ("at_least", 12.0, 13.0, True),
        ("at_most", 8.0, 9.0, False),
        ("at_least", 12.0, float("nan"), False),
    ],
)
def test_resolved_means_the_complaint_holds(should, target, after, resolved):
    from rainpp.complaint import Cell, Complaint, Want
    from rainpp.verification import Outcome

    complaint = Complaint("q", Cell("n", 0, {}), Want.of(should, target), 10.0, 10.0)
    assert Outcome(complaint, 10.0, 10.0, 10.0, 10.0, after, after).resolved is resolved
