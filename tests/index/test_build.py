"""The offline stage against dense linear algebra and explicit loops; and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rainpp
from rainpp.errors import (
    ArtifactError,
    DataError,
    ModelError,
    NotAtOptimumWarning,
    SettingsError,
    ShapeError,
)
from rainpp.index.artifact import save
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from tests.index.conftest import make_problem

DELETE, RELABEL = rainpp.Delete(), rainpp.Relabel()


def build(problem, **options):
    return rainpp.precompute(problem.model, problem.inputs, problem.labels, **{"k": 3, **options})


@pytest.fixture(scope="session")
def built():
    """The index of a problem with k = 3, built once: an index does not change."""
    found = {}

    def of(problem):
        if id(problem) not in found:
            found[id(problem)] = build(problem)
        return found[id(problem)]

    return of


def expected_projections(problem, index):
    """<v_j, g> of every intervention, from full gradients."""
    rows = []
    for item in index.interventions:
        gradients = problem.gradients[item.row]
        gradient = gradients[problem.own(item.row)]
        if item.kind == "relabel":
            gradient = gradient - gradients[item.detail]
        rows.append(index.eigenvectors @ gradient)
    return np.array(rows)


# --- what an index holds


def test_eigenpairs_are_those_of_the_dense_hessian(classifier, built):
    index, hessian = built(classifier), classifier.hessian
    exact = np.linalg.eigvalsh(hessian)[::-1][:3]
    values, vectors = index.eigenvalues, index.eigenvectors
    assert index.k == 3
    assert vectors.shape == (3, classifier.model.num_params)
    # Ritz values are as good as the square of their residual, which is at most 1e-3 of them.
    assert_allclose(values, exact, rtol=1e-5)
    assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-9)
    assert np.all(np.diff(values) <= 0)
    residuals = np.linalg.norm(vectors @ hessian - values[:, None] * vectors, axis=1)
    assert_allclose(index.arrays["residuals"], residuals, atol=1e-9)


def test_projections_and_plausibility_follow_the_intervention_table(classifier, built):
    index = built(classifier)
    items = list(index.interventions)
    size = len(classifier.labels) * classifier.num_classes
    assert len(items) == size
    assert index.arrays["projections"].shape == (size, 3)
    assert index.arrays["plausibility"].shape == (size,)
    expected = expected_projections(classifier, index)
    assert_allclose(index.arrays["projections"], expected, atol=1e-9)
    posteriors = np.exp(-classifier.losses)  # -log p is what each loss is
    plausible = [
        1.0 if item.kind == "delete" else posteriors[item.row, item.detail] for item in items
    ]
    assert_allclose(index.arrays["plausibility"], plausible, atol=1e-9)


def test_interventions_are_every_deletion_then_every_other_label_of_every_row(classifier, built):
    items = [(i.row, i.train_id, i.kind, i.detail) for i in built(classifier).interventions]
    rows = range(len(classifier.labels))
    assert items[: len(rows)] == [(row, row, "delete", None) for row in rows]
    others = [
        (row, row, "relabel", (int(classifier.labels[row]) + shift) % classifier.num_classes)
        for row in rows
        for shift in range(1, classifier.num_classes)
    ]
    assert items[len(rows) :] == others


@pytest.mark.parametrize(("kinds", "share"), [([DELETE], "delete"), ([RELABEL], "relabel")])
def test_one_kind_of_intervention_alone_is_its_part_of_both(logistic, built, kinds, share):
    both, alone = built(logistic), build(logistic, interventions=kinds)
    part = np.array([item.kind == share for item in both.interventions])
    assert list(alone.interventions) == [i for i in both.interventions if i.kind == share]
    for name in ("projections", "plausibility"):
        assert_allclose(alone.arrays[name], both.arrays[name][part], atol=1e-12)


def test_regression_is_scored_for_deletions_only(regression, built):
    index = built(regression)
    assert index.interventions.kinds == ("delete",)
    assert len(index.interventions) == len(regression.labels)
    expected = regression.gradients[:, 0] @ index.eigenvectors.T
    assert_allclose(index.arrays["projections"], expected, atol=1e-9)
    assert_array_equal(index.arrays["plausibility"], np.ones(len(regression.labels)))


def test_losses_labels_and_ids_are_aligned_with_the_rows(problem, built):
    index, rows = built(problem), range(len(problem.labels))
    losses = [problem.losses[row, problem.own(row)] for row in rows]
    assert_allclose(index.arrays["losses"], losses, atol=1e-10)
    assert_array_equal(index.arrays["labels"], problem.labels)
    assert_array_equal(index.arrays["train_ids"], rows)


def test_rows_go_by_the_names_they_were_given(logistic):
    names = [f"row-{i}" for i in range(len(logistic.labels))]
    index = build(logistic, ids=names, interventions=[DELETE])
    assert index.arrays["train_ids"].tolist() == names
    assert [item.train_id for item in index.interventions] == names


def test_the_manifest_says_what_was_built(logistic, built):
    index = built(logistic)
    said = {name: index.manifest[name] for name in ("loss", "l2", "num_params", "num_classes", "k")}
    assert said == {
        "loss": "cross_entropy",
        "l2": 1e-2,
        "num_params": 12,
        "num_classes": 3,
        "k": 3,
    }
    assert index.num_train == len(logistic.labels)
    assert index.manifest["interventions"] == ["delete", "relabel"]
    assert index.manifest["checks"]["at_optimum"] is True
    assert index.manifest["rainpp"] == rainpp.__version__


def test_inputs_may_be_a_pytree_and_rows_keep_their_order(logistic, built):
    def apply(params, inputs):
        return logistic.model.apply(params, jnp.concatenate([inputs["x"], inputs["y"]], axis=1))

    model = Model(apply, logistic.model.params, l2=logistic.model.l2)
    tree = {"x": logistic.inputs[:, :1], "y": logistic.inputs[:, 1:]}
    index = rainpp.precompute(model, tree, logistic.labels, k=3)
    assert_allclose(
        np.abs(index.arrays["projections"]),
        np.abs(built(logistic).arrays["projections"]),
        atol=1e-8,
    )


# --- memory, disk, and the same again


def test_the_index_on_disk_is_the_one_in_memory(logistic, built, tmp_path):
    # Built twice with one seed: every bit agrees, in memory, as returned, and as loaded.
    memory, disk = built(logistic), build(logistic, path=tmp_path / "x.rain")
    loaded = rainpp.load(tmp_path / "x.rain")
    assert memory.path is None
    assert loaded.path == tmp_path / "x.rain"
    assert memory.arrays.keys() == disk.arrays.keys() == loaded.arrays.keys()
    for name, array in memory.arrays.items():
        for other in (disk.arrays[name], loaded.arrays[name]):
            assert_array_equal(other, array, strict=True)
    assert disk.training is not None
    assert loaded.training is None
    assert loaded.manifest.items() >= memory.manifest.items()
    vector = [1.0, -2.0, 0.5]
    assert_array_equal(loaded.rank(vector).scores, memory.rank(vector).scores)


def test_more_arrays_are_added_in_one_step_and_the_rest_stays(logistic, built, tmp_path):
    index = save(built(logistic), tmp_path / "x.rain")
    grown = index.with_arrays({"more": np.arange(4)}, {"inference": {"t": {"table": "t"}}})
    loaded = rainpp.load(tmp_path / "x.rain")
    for found in (grown, loaded):
        assert_array_equal(found.arrays["more"], np.arange(4))
        assert_array_equal(found.arrays["projections"], index.arrays["projections"])
        assert found.manifest["inference"] == {"t": {"table": "t"}}
    assert grown.training is index.training
    assert "more" not in index.arrays


# --- whose index it is


def other_models(model):
    nudged = jax.tree.map(lambda leaf: leaf, model.params)
    nudged["w"] = nudged["w"].at[0, 0].add(1e-12)
    yield "weights", model.with_params(nudged)
    yield "l2", Model(model.apply, model.params, loss=model.loss, l2=2 * model.l2)
    yield "loss", Model(model.apply, model.params, loss="squared_error", l2=model.l2)


def test_an_index_refuses_other_weights_l2_or_loss(logistic, built, tmp_path):
    index = save(built(logistic), tmp_path / "x.rain")
    index.check_model(logistic.model)
    rainpp.load(tmp_path / "x.rain").check_model(logistic.model.with_params(logistic.model.params))
    for _, other in other_models(logistic.model):
        with pytest.raises(ArtifactError, match=r"x\.rain.*other weights \(or another loss or l2"):
            index.check_model(other)


def test_an_index_refuses_other_rows_or_another_order(logistic, built):
    index = built(logistic)
    training = TrainingSet.checked(logistic.model, logistic.inputs, logistic.labels)
    assert index.with_training(training).training is training
    other_label = training.labels.copy()
    other_label[0] = (other_label[0] + 1) % 3
    other_input = logistic.inputs.copy()
    other_input[-1, -1] += 1e-12
    others = [
        training.take(np.arange(training.num_rows)[::-1]),
        training.take(np.arange(training.num_rows - 1)),
        TrainingSet(training.inputs, other_label, training.ids, training.weights),
        TrainingSet(other_input, training.labels, training.ids, training.weights),
    ]
    for other in others:
        with pytest.raises(ArtifactError, match="other training data"):
            index.with_training(other)


# --- ranking from a vector


def test_rank_is_the_sum_over_eigenpairs_written_out(classifier, built):
    index, vector = built(classifier), np.array([0.7, -1.3, 0.2])
    ranking = index.rank(vector)
    effects = []
    for inner in expected_projections(classifier, index):
        terms = [vector[j] / index.eigenvalues[j] * inner[j] for j in range(3)]
        effects.append(sum(terms) / len(classifier.labels))
    assert_allclose(ranking.effects, effects, atol=1e-9)
    assert_allclose(ranking.scores, effects * index.arrays["plausibility"], atol=1e-9)
    assert np.isnan(ranking.coverage)


@pytest.mark.parametrize("kind", ["logistic regression", "one logit"])
def test_with_every_eigenpair_a_deletion_is_the_inverse_hessian_product(kind):
    problem = make_problem(kind)
    dimension = problem.model.num_params
    index = build(problem, k=dimension, interventions=[DELETE])
    query = np.random.default_rng(0).normal(size=dimension)
    solved = np.linalg.solve(problem.hessian, query)
    rows = range(len(problem.labels))
    exact = [solved @ problem.gradients[row, problem.own(row)] / len(rows) for row in rows]
    found = index.rank(index.eigenvectors @ query).effects
    assert_allclose(found, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("vector", [[1.0, 2.0], [1.0] * 4, [[1.0, 2.0, 3.0]], 1.0, []])
def test_a_vector_of_another_length_is_refused(logistic, built, vector):
    with pytest.raises(ShapeError, match="k = 3"):
        built(logistic).rank(vector)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(logistic, built, bad):
    with pytest.raises(DataError, match="NaN or infinity"):
        built(logistic).rank([1.0, bad, 0.0])


# --- bad input: one clear error, and nothing on disk

LABELS = np.arange(40) % 3
WITH_NAN = np.where(np.arange(40)[:, None] == 7, np.nan, np.ones((1, 3)))

REFUSED = {
    "label too large": (DataError, {"labels": LABELS + 1}, ["labels[2]", "3", "0 to 2"]),
    "label negative": (DataError, {"labels": LABELS - 1}, ["labels[0]", "-1", "0 to 2"]),
    "label fraction": (DataError, {"labels": LABELS + 0.5}, ["0.5", "0 to 2"]),
    "label NaN": (DataError, {"labels": np.where(LABELS == 1, np.nan, 0)}, ["nan", "0 to 2"]),
    "label text": (DataError, {"labels": np.array(["cat"] * 40)}, ["cat", "0 to 2"]),
    "labels one-hot": (ShapeError, {"labels": np.eye(3)[LABELS]}, ["(40, 3)", "(n,)"]),
    "labels too few": (ShapeError, {"labels": LABELS[:-1]}, ["(39,)", "40 rows"]),
    "labels a number": (ShapeError, {"labels": 1}, ["()", "40 rows"]),
    "NaN in inputs": (DataError, {"inputs": WITH_NAN}, ["row 7", "1 such rows", "NaN"]),
    "infinity in inputs": (DataError, {"inputs": WITH_NAN * np.inf}, ["row 0", "40 such rows"]),
    "no rows": (DataError, {"inputs": np.zeros((0, 3)), "labels": []}, ["no rows"]),
    "inputs a number": (ShapeError, {"inputs": 3.0}, ["rows first"]),
    "inputs uneven": (ShapeError, {"inputs": [np.zeros((40, 3)), np.zeros(39)]}, ["[39, 40]"]),
    "inputs objects": (DataError, {"inputs": np.full((40, 3), None)}, ["objects"]),
    "inputs too narrow": (ModelError, {"inputs": np.zeros((40, 2))}, ["`apply`", "(40, 2)"]),
    "k is 0": (SettingsError, {"k": 0}, ["`k` is 0", "12 parameters"]),
    "k negative": (SettingsError, {"k": -2}, ["`k` is -2"]),
    "k above d": (SettingsError, {"k": 13}, ["`k` is 13", "12 parameters"]),
    "k fraction": (SettingsError, {"k": 2.5}, ["2.5", "'auto'", "whole"]),
    "k word": (SettingsError, {"k": "many"}, ["'many'", "'auto'"]),
    "k boolean": (SettingsError, {"k": True}, ["True", "'auto'"]),
    "ids twice": (DataError, {"ids": [*range(39), 5]}, ["5", "more than once"]),
    "ids too few": (ShapeError, {"ids": [1, 2]}, ["(2,)", "(40,)"]),
    "ids None": (DataError, {"ids": [None] * 40}, ["`ids`", "whole numbers or strings"]),
    "ids fractions": (DataError, {"ids": np.arange(40) / 2}, ["float64"]),
    "no interventions": (SettingsError, {"interventions": []}, ["[]", "at least one"]),
    "interventions twice": (
        SettingsError,
        {"interventions": [DELETE, DELETE]},
        ["['delete', 'delete']", "once"],
    ),
    "interventions foreign": (
        SettingsError,
        {"interventions": [DELETE, "relabel"]},
        ["'relabel'", "rainpp.Relabel()"],
    ),
    "interventions a class": (
        SettingsError,
        {"interventions": [rainpp.Delete]},
        ["Delete", "rainpp.Delete()"],
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_bad_input_is_refused_before_any_work_with_value_and_rule(logistic, tmp_path, case):
    error, changes, words = REFUSED[case]
    work = []
    call = {"inputs": logistic.inputs, "labels": logistic.labels, "k": 3, **changes}
    with pytest.raises(error) as caught:
        rainpp.precompute(
            logistic.model, **call, path=tmp_path / "x.rain", progress=lambda *a: work.append(a)
        )
    assert_clear(caught.value, words)
    assert work == []
    assert list(tmp_path.iterdir()) == []


def assert_clear(error, words):
    message = str(error)
    assert isinstance(error, rainpp.RainError)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize(
    ("loss", "width", "words"),
    [
        ("binary_cross_entropy", 3, ["one logit", "has 3", "cross_entropy"]),
        ("cross_entropy", 1, ["single output", "binary_cross_entropy"]),
    ],
)
def test_a_model_whose_width_does_not_fit_its_loss_is_refused(tmp_path, loss, width, words):
    model = Model(lambda params, x: x @ params, np.ones((3, width)), loss=loss)
    with pytest.raises(ModelError) as caught:
        rainpp.precompute(model, np.ones((5, 3)), np.zeros(5, int), path=tmp_path / "x.rain")
    assert_clear(caught.value, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (np.ones((40, 2)), ShapeError, ["(40, 2)", "3 outputs"]),
        (np.ones(40), ShapeError, ["(40,)", "3 outputs"]),
        (np.full((40, 3), np.nan), DataError, ["labels[0]", "not finite", "40"]),
        (np.full((40, 3), "x"), DataError, ["<U1", "numbers"]),
    ],
)
def test_bad_regression_targets_are_refused(regression, tmp_path, labels, error, words):
    problem = regression
    with pytest.raises(error) as caught:
        rainpp.precompute(problem.model, problem.inputs, labels, k=2, path=tmp_path / "x.rain")
    assert_clear(caught.value, words)
    assert list(tmp_path.iterdir()) == []


def test_relabelling_numbers_is_refused(regression, tmp_path):
    with pytest.raises(SettingsError, match=r"needs classes; with squared_error use Delete\(\)"):
        build(regression, interventions=[DELETE, RELABEL], path=tmp_path / "x.rain")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_at_an_optimum_is_warned_about(logistic):
    moved = logistic.model.with_params(jax.tree.map(lambda p: p + 1.0, logistic.model.params))
    with pytest.warns(NotAtOptimumWarning, match=r"\|grad J\| is .*train longer"):
        index = rainpp.precompute(moved, logistic.inputs, logistic.labels * 0, k=2)
    assert index.manifest["checks"]["at_optimum"] is False


def test_a_failed_rebuild_leaves_the_old_index(logistic, built, tmp_path):
    path = tmp_path / "x.rain"
    before = save(built(logistic), path)
    with pytest.raises(SettingsError):
        build(logistic, k=0, path=path)
    after = rainpp.load(path)
    for name, array in before.arrays.items():
        assert_array_equal(after.arrays[name], array)


def test_the_repr_says_what_it_is(logistic, built, tmp_path):
    assert repr(built(logistic)) == (
        "Index(k=3, 40 training rows, 12 parameters, delete, relabel; in memory)"
    )
    assert "x.rain" in repr(save(built(logistic), tmp_path / "x.rain"))
