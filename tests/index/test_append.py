"""Rows appended to an index: projected on its eigenvectors, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rainpp
from rainpp.errors import ArtifactError, DataError, ShapeError, StaleCurvatureWarning
from rainpp.training_set import TrainingSet
from tests.index.test_build import expected_projections

OLD = 37  # of 40 rows; 3 more are less than a tenth


def parts(problem, *, first=OLD):
    return (problem.inputs[:first], problem.labels[:first]), (
        problem.inputs[first:],
        problem.labels[first:],
    )


def start(problem, path=None, *, first=OLD, **options):
    old, new = parts(problem, first=first)
    return rainpp.precompute(problem.model, *old, k=3, path=path, **options), new


@pytest.fixture(params=["memory", "disk"])
def place(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "x.rain"


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_appended_rows_have_the_projections_of_their_explicit_gradients(problem, place):
    index, new = start(problem, place)
    grown = index.append(problem.model, *new)
    assert grown.num_train == 40
    assert_array_equal(grown.eigenvectors, index.eigenvectors)
    assert_array_equal(grown.eigenvalues, index.eigenvalues)
    assert_allclose(grown.arrays["projections"], expected_projections(problem, grown), atol=1e-9)
    assert_allclose(
        grown.arrays["losses"],
        [problem.losses[row, problem.own(row)] for row in range(40)],
        atol=1e-9,
    )
    assert_array_equal(grown.arrays["labels"], problem.labels)
    assert_array_equal(grown.arrays["train_ids"], np.arange(40))
    items = list(grown.interventions)
    for name in ("projections", "plausibility"):
        assert len(grown.arrays[name]) == len(items)
        kept = [item.row < OLD for item in items]
        assert_array_equal(grown.arrays[name][kept], index.arrays[name])


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_it_is_the_index_of_all_rows_on_those_eigenvectors_in_one_step_or_three(classifier, place):
    index, new = start(classifier, place)
    at_once = start(classifier)[0].append(classifier.model, *new)
    for row in range(3):
        where = slice(row, row + 1)
        index = index.append(classifier.model, new[0][where], new[1][where])
    for name in ("projections", "plausibility", "losses"):
        assert_allclose(index.arrays[name], at_once.arrays[name], atol=1e-12)
    assert index.manifest["appended_rows"] == 3
    assert index.manifest["num_train"] == 40
    assert [part["rows"] for part in index.manifest["data_parts"]] == [OLD, 1, 1, 1]


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_the_rows_can_still_be_verified(logistic, tmp_path):
    index, new = start(logistic, tmp_path / "x.rain")
    index.append(logistic.model, *new)
    opened = rainpp.load(tmp_path / "x.rain")
    training = TrainingSet.checked(logistic.model, logistic.inputs, logistic.labels)
    assert opened.with_training(training).training is training
    for inputs, labels in [
        (logistic.inputs[:39], logistic.labels[:39]),
        (logistic.inputs[:OLD], logistic.labels[:OLD]),
        (logistic.inputs[::-1].copy(), logistic.labels),
        (logistic.inputs + np.eye(40, 3, -39), logistic.labels),
        (logistic.inputs, np.append(logistic.labels[:-1], (logistic.labels[-1] + 1) % 3)),
    ]:
        with pytest.raises(ArtifactError, match="other training data"):
            opened.with_training(TrainingSet.checked(logistic.model, inputs, labels))


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_weights_and_ids_come_along_and_training_rows_stay_at_hand(logistic, place):
    names, weights = np.array([f"row {i}" for i in range(40)]), np.linspace(0.5, 2, 40)
    index, new = start(logistic, place, ids=names[:OLD], weights=weights[:OLD])
    grown = index.append(logistic.model, *new, ids=names[OLD:], weights=weights[OLD:])
    assert_array_equal(grown.arrays["train_ids"], names)
    factors = weights[[item.row for item in grown.interventions]]
    assert_allclose(
        grown.arrays["projections"],
        expected_projections(logistic, grown) * factors[:, None],
        atol=1e-9,
    )
    assert grown.training is not None
    assert_array_equal(grown.training.inputs, logistic.inputs)
    assert grown.with_training(grown.training).num_train == 40


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_many_rows_that_the_curvature_has_not_seen_are_warned_about(logistic):
    index, new = start(logistic, first=36)
    assert index.append(logistic.model, *new).manifest["appended_rows"] == 4  # a tenth: no more
    more = [np.concatenate([part, part[:1]]) for part in new]
    with pytest.warns(StaleCurvatureWarning, match=r"5 of the 41 rows \(12%\).*precompute again"):
        index.append(logistic.model, *more)


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_what_cannot_be_appended_is_refused_and_changes_nothing(logistic, regression, tmp_path):
    path = tmp_path / "x.rain"
    index, (inputs, labels) = start(logistic, path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    other = logistic.model.with_params({"w": np.ones((3, 3)), "b": np.zeros(3)})
    for error, words, call in [
        (ArtifactError, "other weights", (other, inputs, labels)),
        (DataError, "no rows", (logistic.model, inputs[:0], labels[:0])),
        (ShapeError, "aligned by row", (logistic.model, inputs, labels[:1])),
        (ArtifactError, "other weights", (regression.model, inputs, labels)),
    ]:
        with pytest.raises(error, match=words):
            index.append(*call)
    with pytest.raises(DataError, match="holds 5, which a row of the index already has"):
        index.append(logistic.model, inputs, labels, ids=[99, 5, 98])
    with pytest.raises(DataError, match="those of the index are int64"):
        index.append(logistic.model, inputs, labels, ids=["a", "b", "c"])
    named, _ = start(logistic, ids=np.arange(OLD) + 7)
    with pytest.raises(DataError, match="give `ids`"):
        named.append(logistic.model, inputs, labels)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_two_appends_from_one_opened_index_do_not_lose_the_first(logistic, tmp_path):
    index, new = start(logistic, tmp_path / "x.rain")
    index.append(logistic.model, *new)
    with pytest.raises(ArtifactError, match="has changed since it was opened"):
        index.append(logistic.model, *new, ids=[90, 91, 92])
    assert rainpp.load(tmp_path / "x.rain").num_train == 40
