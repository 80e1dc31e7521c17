"""P(true label | inputs, given label) by cross-validation and confident learning."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rainpp
from rainpp.errors import DataError, ModelError, SettingsError, ShapeError
from rainpp.label_noise import corrected, noise_matrix
from tests import oracles

ROWS = 900


def scene(rate=0.3, seed=0):
    """Three classes, of which a share of the first is labelled as the second."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, ROWS)
    inputs = rng.normal(size=(ROWS, 4)) + 1.6 * np.eye(4)[true]
    given = np.where((true == 0) & (rng.random(ROWS) < rate), 1, true)
    plain = rainpp.Model(lambda w, x: x @ w, np.zeros((4, 3)), l2=1e-3)
    return plain, inputs, true, given


def trained(model):
    return lambda x, y: oracles.solve(model, x, y).params


def misfit(inputs, labels):
    del inputs, labels
    return np.zeros((7, 3))


def log_loss(probabilities, true):
    return -np.log(np.maximum(probabilities[np.arange(len(true)), true], 1e-12)).mean()


def test_it_is_better_calibrated_than_the_model_and_than_cross_validation():
    plain, inputs, true, given = scene()
    model = plain.with_params(trained(plain)(inputs, given))
    found = rainpp.label_probabilities(model, inputs, given, fit=trained(plain))
    assert found.shape == (ROWS, 3)
    assert_allclose(found.sum(axis=1), 1)
    own = np.asarray(model.probabilities(inputs))
    assert log_loss(found, true) < 0.8 * log_loss(own, true)
    wrong = given != true
    assert found[wrong, 0].mean() > found[~wrong & (given == 1), 0].mean() + 0.3


def test_without_training_the_model_s_own_are_corrected():
    plain, inputs, true, given = scene()
    model = plain.with_params(trained(plain)(inputs, given))
    own = np.asarray(model.probabilities(inputs))
    found = rainpp.label_probabilities(model, inputs, given)
    assert_allclose(found, corrected(own, given))
    wrong, others = given != true, np.eye(3)[given] == 0
    hits = [
        wrong[np.argsort(-(each * others).max(axis=1), kind="stable")[: wrong.sum()]].mean()
        for each in (own, found)
    ]
    assert hits[1] > hits[0] + 0.1


def test_models_that_judge_have_not_seen_the_row():
    plain, inputs, _, given = scene()
    sizes = []

    def fit(x, y):
        sizes.append((len(x), set(y)))
        # A model that knows its rows by heart, were it asked about them.
        return trained(plain)(x, y)

    rainpp.label_probabilities(plain, inputs, given, fit=fit, folds=3)
    assert [size for size, _ in sizes] == [600, 600, 600]
    assert all(labels == {0, 1, 2} for _, labels in sizes)


def test_how_often_a_class_is_labelled_as_another():
    """Of confident rows: as often as it was planted."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, 3, 6000)
    given = np.where((true == 2) & (rng.random(6000) < 0.25), 0, true)
    sure = 0.94 * np.eye(3)[true] + 0.02
    found = noise_matrix(sure, given)
    assert_allclose(found.sum(axis=0), 1)
    assert found[0, 2] == pytest.approx(0.25, abs=0.02)
    assert found[1, 1] == pytest.approx(1, abs=0.01)
    # Bayes by hand for one row.
    row = corrected(np.array([[0.5, 0.1, 0.4]]), np.array([0]))
    joint = np.array([0.5, 0.1, 0.4]) * noise_matrix(np.array([[0.5, 0.1, 0.4]]), np.array([0]))[0]
    assert_allclose(row[0], joint / joint.sum())


def test_an_index_takes_them_for_its_relabels(tmp_path):
    plain, inputs, _, given = scene()
    model = plain.with_params(trained(plain)(inputs, given))
    chances = np.random.default_rng(0).dirichlet(np.ones(3), ROWS)
    kinds = [rainpp.Delete(), rainpp.Relabel(chances)]
    path = tmp_path / "x.rain"
    index = rainpp.precompute(model, inputs, given, interventions=kinds, k=4, path=path)
    table = index.interventions
    positions = np.arange(table.relabels.start, table.relabels.stop)
    wanted = chances[table.rows(positions), table.new_labels(positions)]
    assert_allclose(index.arrays["plausibility"][table.relabels], wanted)
    assert (index.arrays["plausibility"][: table.num_deletions] == 1).all()
    # Other probabilities are another request; the same are not built again.
    again = {"k": 4, "path": path, "again": False}
    same = rainpp.precompute(model, inputs, given, interventions=kinds, **again)
    assert same.manifest == index.manifest
    other = [rainpp.Delete(), rainpp.Relabel(chances[::-1].copy())]
    changed = rainpp.precompute(model, inputs, given, interventions=other, **again)
    assert_allclose(
        changed.arrays["plausibility"][table.relabels],
        chances[::-1][table.rows(positions), table.new_labels(positions)],
    )


@pytest.mark.parametrize(
    ("chances", "error", "words"),
    [
        (np.full((ROWS, 2), 0.5), ShapeError, r"float64 \(900, 2\); numbers \(900, 3\) are needed"),
        (np.ones((ROWS, 3), int), ShapeError, "int64"),
        (np.full((ROWS, 3), 1.5), DataError, "training row 0 are .*between 0 and 1"),
        (np.full((ROWS, 3), np.nan), DataError, "900 such rows"),
    ],
)
def test_probabilities_that_are_none(chances, error, words):
    plain, inputs, _, given = scene()
    with pytest.raises(error, match=words):
        rainpp.precompute(plain, inputs, given, interventions=[rainpp.Relabel(chances)], k=2)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"folds": 1}, SettingsError, "`folds` is 1"),
        ({"folds": True}, SettingsError, "`folds` is True"),
        ({"folds": 1000}, DataError, "900 rows cannot be split in 1000"),
        ({"fit": 3}, SettingsError, "`fit` is 3"),
        ({"fit": misfit}, ModelError, "shape"),
    ],
)
def test_what_cannot_be_cross_validated(change, error, words):
    plain, inputs, _, given = scene()
    options = {"fit": trained(plain)} | change
    with pytest.raises(error, match=words):
        rainpp.label_probabilities(plain, inputs, given, **options)


def test_labels_of_a_regression_have_no_probabilities():
    model = rainpp.Model(lambda w, x: x @ w, np.zeros((4, 1)), loss="squared_error")
    with pytest.raises(SettingsError, match="regression"):
        rainpp.label_probabilities(model, np.ones((9, 4)), np.ones((9, 1)), fit=trained(model))


def test_a_class_of_one_row_does_no_harm():
    plain, inputs, _, given = scene()
    given = np.where(np.arange(ROWS) == 5, 2, np.minimum(given, 1))
    found = rainpp.label_probabilities(plain, inputs, given, fit=trained(plain))
    assert np.isfinite(found).all()
    assert_array_equal(found.shape, (ROWS, 3))
