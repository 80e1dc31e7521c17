"""Faults the library once had, from wrong numbers to lost files: each stays fixed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.complaint import Want
from rainpp.errors import (
    ArtifactError,
    ComplaintError,
    DataError,
    ModelError,
    NotConverged,
    RainError,
    SettingsError,
    ShapeError,
)
from rainpp.index import build as build_module
from rainpp.index import store
from rainpp.intervention import InterventionTable
from rainpp.metrics import auc_r
from rainpp.model import Model, check_inputs
from rainpp.ranking import Ranking
from rainpp.training_set import TrainingSet

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(40, 3))
LABELS = RNG.integers(0, 3, 40)
WEIGHTS = {"w": np.zeros((3, 3)), "b": np.zeros(3)}


def linear(params, inputs):
    return inputs @ params["w"] + params["b"][None]


MODEL = Model(linear, WEIGHTS, l2=0.1)
ARRAYS = {"values": np.arange(3.0), "matrix": np.ones((2, 2), np.float32)}
quiet = pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")


def precompute(model=MODEL, inputs=ROWS, labels=LABELS, **options):
    return rainpp.precompute(model, inputs, labels, **{"k": 3, **options})


# --- wrong numbers


@quiet
@pytest.mark.parametrize("k", [9, 12])
def test_rounding_is_not_curvature(k):
    # Softmax without l2 cannot see a shift of all classes: 8 of 12 directions are curved.
    model = Model(linear, WEIGHTS)
    with pytest.raises(NotConverged, match="only 8 positive"):
        precompute(model, k=k)


@quiet
def test_more_eigenpairs_than_curved_directions_are_refused():
    inputs = np.zeros((20, 3))
    inputs[:, 0] = np.linspace(-1, 1, 20)
    model = Model(lambda w, x: (x @ w)[:, None], np.zeros(3), loss="squared_error")
    with pytest.raises(NotConverged, match=r"only 1 positive .*use k <= 1, or add l2"):
        rainpp.precompute(model, inputs, np.zeros(20), k=2)


@quiet
def test_an_eigenvalue_that_occurs_three_times_is_found_three_times():
    # Least squares of three outputs: the Hessian is XᵀX/n three times over.
    model = Model(lambda w, x: x @ w, np.zeros((3, 3)), loss="squared_error", l2=0.1)
    index = rainpp.precompute(model, ROWS, RNG.normal(size=(40, 3)), k=4)
    once = np.linalg.eigvalsh(ROWS.T @ ROWS / 40)[::-1] + 0.1
    assert_allclose(index.eigenvalues, np.repeat(once, 3)[:4], rtol=1e-5)


@quiet
@pytest.mark.parametrize("width", [1, 3])
def test_a_ranking_of_regression_rows_can_be_read(width):
    model = Model(lambda w, x: x @ w, np.zeros((3, width)), loss="squared_error", l2=0.1)
    index = rainpp.precompute(model, ROWS, RNG.normal(size=(40, width)), k=2)
    ranking = index.rank([1.0, 2.0])
    order = np.argsort(-ranking.effects, kind="stable")[:5]
    assert ranking.top(5)["train_id"].tolist() == order.tolist()
    assert [item.kind for item in ranking.interventions] == ["delete"] * 40


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, bool])
def test_scores_of_any_number_type_are_ranked(kind):
    assert auc_r(np.array([0, 1, 1], kind), [False, True, True]) == 1.0


@pytest.mark.parametrize("corrupted", [[5, 7, 9], [np.nan, 0.0, 1.0], ["a", "", "b"]])
def test_what_is_corrupted_is_marked_by_booleans(corrupted):
    # Row numbers instead of a mask marked every row and gave 1.0.
    with pytest.raises(DataError, match="corrupted"):
        auc_r([0.1, 0.2, 0.3], corrupted)


def test_a_want_in_words_is_checked_however_it_is_made():
    assert Want("increase").direction(5.0) == 1
    with pytest.raises(ComplaintError, match="bogus"):
        Want("bogus")


@quiet
@pytest.mark.parametrize("l2", [1, np.float64(0.01), np.float32(0.5), jnp.asarray(0.5)])
def test_l2_is_a_number_however_it_is_written(tmp_path, l2):
    index = precompute(Model(linear, WEIGHTS, l2=l2), path=tmp_path / "x.rain")
    index.check_model(Model(linear, WEIGHTS, l2=float(l2)))


@quiet
def test_another_custom_loss_is_another_model():
    index = precompute(Model(linear, WEIGHTS, loss=lambda o, y: -jax.nn.log_softmax(o)[y], l2=0.1))
    other = Model(linear, WEIGHTS, loss=lambda o, y: jnp.sum(o**2) - o[y], l2=0.1)
    with pytest.raises(ArtifactError, match="another loss"):
        index.check_model(other)


# --- data loss


@quiet
@pytest.mark.parametrize("inside", ["arrays/mine.npy", "arrays/sub/mine.npy", "manifest.json"])
def test_a_directory_that_only_looks_like_an_index_is_refused_and_untouched(tmp_path, inside):
    mine = tmp_path / "project" / inside
    mine.parent.mkdir(parents=True)
    mine.write_text('{"name": "a web app"}')
    (tmp_path / "project" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="choose another path"):
        store.write(tmp_path / "project", {}, ARRAYS)
    files = [path for path in (tmp_path / "project").rglob("*") if path.is_file()]
    assert sorted(files) == sorted([mine, tmp_path / "project" / "thesis.txt"])
    assert mine.read_text() == '{"name": "a web app"}'


def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    work = []
    with pytest.raises(ArtifactError):
        precompute(path=tmp_path / "file", progress=lambda *a: work.append(a))
    assert work == []


@pytest.mark.parametrize("k", [0, 99, 2.5, "many"])
def test_a_wrong_k_is_refused_before_any_pass_over_the_rows(monkeypatch, k):
    def too_early(*_, **__):
        raise AssertionError("a pass over the rows")

    monkeypatch.setattr(build_module, "measure_optimality", too_early)
    with pytest.raises(SettingsError):
        precompute(k=k)


# --- other exceptions than the library's


@quiet
@pytest.mark.parametrize("k", [None, [3], float("nan"), float("inf"), 1j])
def test_k_of_a_foreign_type(k):
    with pytest.raises(SettingsError, match="'auto', 'inflection' or a whole number"):
        precompute(k=k)


@pytest.mark.parametrize("asked", [rainpp.Delete(), 3])
def test_interventions_that_are_no_list(asked):
    with pytest.raises(SettingsError, match="interventions"):
        precompute(interventions=asked)


@pytest.mark.parametrize("l2", ["x", None, [1.0]])
def test_l2_that_is_no_number(l2):
    with pytest.raises(ModelError, match="`l2`"):
        Model(linear, WEIGHTS, l2=l2)


@pytest.mark.parametrize(
    "function",
    [
        lambda p, x: (linear(p, x), 0),
        lambda p, x: x @ p["missing"],
        lambda p, x: x[:, 0, 0, 0] @ p["w"],
        lambda p, x: jnp.argmax(linear(p, x), axis=1, keepdims=True) + jnp.arange(3)[None],
        None,
    ],
    ids=["tuple", "KeyError", "IndexError", "integers", "not a function"],
)
def test_functions_that_are_no_model(function):
    with pytest.raises(ModelError, match="`apply`"):
        TrainingSet.checked(Model(function, WEIGHTS), ROWS, LABELS)


@quiet
@pytest.mark.parametrize(
    "loss", [lambda o, _: o - 1.0, lambda o: o, lambda o, y: (o[y], 1)], ids=["row", "one", "pair"]
)
def test_functions_that_are_no_loss(loss):
    with pytest.raises(ModelError, match="`loss`"):
        precompute(Model(linear, WEIGHTS, loss=loss))


@quiet
def test_training_rows_the_model_answers_with_nan():
    params = {"w": np.ones((3, 3)), "b": np.zeros(3)}
    model = Model(lambda p, x: jnp.log(linear(p, x)), params, l2=0.1)
    row = int(np.flatnonzero(ROWS.sum(axis=1) < 0)[0])
    with pytest.raises(DataError, match=f"row {row} "):
        precompute(model)


def test_nan_in_bfloat16_is_noticed():
    rows = jnp.asarray(np.where(np.arange(40)[:, None] == 2, np.nan, ROWS), jnp.bfloat16)
    with pytest.raises(DataError, match="row 2 "):
        check_inputs(rows)


def test_large_finite_numbers_are_finite():
    assert check_inputs(np.full((2, 4), 1e308)) == 2


@quiet
def test_parameters_in_bfloat16(tmp_path):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), WEIGHTS)
    model = Model(linear, params, l2=0.1)
    try:
        index = precompute(model, jnp.asarray(ROWS, jnp.bfloat16), path=tmp_path / "x.rain")
    except RainError:  # a clear refusal is as good
        return
    assert rainpp.load(tmp_path / "x.rain").k == index.k


def test_parameters_that_are_random_keys():
    with pytest.raises(ModelError, match="floating"):
        Model(linear, {"w": jax.random.key(0)})


def test_parameters_without_a_single_number():
    with pytest.raises(ModelError, match="empty"):
        Model(linear, {"w": np.zeros((0, 3))})


@quiet
def test_a_data_frame_of_inputs():
    frame = pd.DataFrame(ROWS)
    try:
        assert precompute(inputs=frame).num_train == 40
    except (DataError, ShapeError) as problem:
        assert "array" in str(problem)  # noqa: PT017


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_no_rows(batch_size):
    with pytest.raises(SettingsError, match="batch_size"):
        MODEL.probabilities(ROWS, batch_size=batch_size)


@quiet
@pytest.mark.parametrize("vector", [["a", "b", "c"], "abc", {}])
def test_a_vector_that_is_no_numbers(vector):
    with pytest.raises((DataError, ShapeError), match="`vector`"):
        precompute().rank(vector)


@pytest.mark.parametrize("count", [2.5, "x", None])
def test_a_count_that_is_no_whole_number(count):
    table = InterventionTable(("delete",), np.arange(3), np.zeros(3, int), 2)
    with pytest.raises(SettingsError, match="`count`"):
        Ranking(table, np.ones(3), np.ones(3)).top(count)


def test_interventions_can_be_sliced_like_any_sequence():
    table = InterventionTable(("delete",), np.arange(3), np.zeros(3, int), 2)
    assert list(table[1:]) == list(table)[1:]


@pytest.mark.parametrize("target", ["abc", [1], 1j])
def test_a_target_that_is_no_number(target):
    with pytest.raises(ComplaintError, match="`target`"):
        Want.of("equal", target)


@pytest.mark.parametrize("scores", [["a", "b"], [None, 1.0]])
def test_scores_that_are_no_numbers(scores):
    with pytest.raises(DataError, match="`scores`"):
        auc_r(scores, [True, False])


# --- the index on disk


@pytest.fixture
def saved(tmp_path):
    store.write(tmp_path / "x.rain", {"note": 1}, ARRAYS)
    return tmp_path / "x.rain"


def array_file(path, name):
    return path / json.loads((path / "manifest.json").read_bytes())["arrays"][name]["file"]


def test_a_single_number_comes_back(tmp_path):
    store.write(tmp_path / "x.rain", {}, {"one": np.array(3.0)})
    found = store.read(tmp_path / "x.rain")[1]["one"]
    assert found.shape == ()
    assert found == 3.0


def test_objects_are_not_written(saved):
    with pytest.raises(ArtifactError, match="objects"):
        store.write(saved, {}, {"bad": np.array([None, {}], dtype=object)})
    assert store.read(saved)[0]["note"] == 1


def seal_array(path, name):
    """Make the manifest agree with a changed file, as somebody forging an index would."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    file = path / manifest["arrays"][name]["file"]
    manifest["arrays"][name].update(bytes=file.stat().st_size, sha256=store._hash_file(file))
    (path / "manifest.json").write_text(json.dumps(store._seal(manifest)))


class Opens:
    """Unpickling this leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_inside_is_refused_and_not_run(saved, tmp_path):
    trap = np.array([Opens(tmp_path / "pwned")], dtype=object)
    with array_file(saved, "values").open("wb") as stream:
        np.save(stream, trap, allow_pickle=True)
    seal_array(saved, "values")
    try:
        with pytest.raises(ArtifactError, match=r"damaged|does not hold"):
            store.read(saved)
    finally:
        assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_damaged_header_is_refused_without_verification(saved, flip):
    file = array_file(saved, "matrix")
    good = file.read_bytes()
    for position in range(128):
        file.write_bytes(good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :])
        try:
            found = store.read(saved, verify=False)[1]["matrix"]
        except ArtifactError:
            continue
        assert (found.dtype, found.tobytes()) == (np.float32, ARRAYS["matrix"].tobytes())


def test_a_directory_in_the_place_of_a_file(saved):
    (saved / "manifest.json").unlink()
    (saved / "manifest.json").mkdir()
    with pytest.raises(ArtifactError, match=r"damaged|cannot read"):
        store.read(saved)


def test_a_file_that_may_not_be_read(saved, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArtifactError, match="Permission denied"):
        store.read(saved)


def test_the_index_is_written_even_if_old_files_cannot_be_removed(saved, monkeypatch):
    unlink = os.unlink

    def refuse(path, **options):
        if str(path).endswith(".npy"):
            raise PermissionError(13, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    store.write(saved, {"note": 2}, {"values": np.ones(9)})
    monkeypatch.undo()
    assert store.read(saved)[0]["note"] == 2


def test_what_a_killed_write_left_is_removed_by_the_next(saved, monkeypatch, tmp_path):
    replace, copies = os.replace, []

    def copy_and_replace(source, target):
        copies.append(shutil.copytree(saved, tmp_path / f"killed-{len(copies)}"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", copy_and_replace)
    store.write(saved, {"note": 2}, ARRAYS)
    monkeypatch.undo()
    monkeypatch.setattr(os, "getpid", lambda: 1)  # the next write is another process
    for copy in copies:
        store.write(copy, {"note": 3}, ARRAYS)
        assert not list(copy.rglob("*.tmp"))


# --- messages


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ([0, 1, None, *[0] * 37], "None"),
        (["cat", *["dog"] * 39], "'cat' "),
        ([0, "dog", *[0] * 38], "dog"),
    ],
)
def test_the_label_that_is_wrong_is_named_as_the_user_wrote_it(labels, named):
    with pytest.raises(DataError) as caught:
        TrainingSet.checked(MODEL, ROWS, labels)
    assert named in str(caught.value)
    assert "np." not in str(caught.value)


@pytest.mark.parametrize(("ids", "named"), [([7] * 40, "holds 7 more"), (["a"] * 40, "'a' more")])
def test_an_id_used_twice_is_named_as_the_user_wrote_it(ids, named):
    with pytest.raises(DataError, match=named):
        TrainingSet.checked(MODEL, ROWS, LABELS, ids=ids)


def test_a_target_is_not_rounded_in_messages():
    assert str(Want.of("equal", 1234567)) == "should equal 1234567"


def test_a_word_instead_of_a_list_of_interventions_is_named_whole():
    with pytest.raises(SettingsError, match="'delete'"):
        precompute(interventions="delete")
