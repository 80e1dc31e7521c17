"""Bad input to repairs, fixes, patches and loops: one clear error each, and nothing is lost."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

import rainpp
from rainpp.errors import ArtifactError, DataError, ModelError, SettingsError, ShapeError
from rainpp.intervention import images, tables, text
from rainpp.intervention.repair import repaired
from rainpp.report import Repairs, write_rounds
from tests import oracles
from tests.online import COUNT, make_scene

HALVE = rainpp.Replace("halve", lambda rows: rows * 0.5)


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=15)


@pytest.fixture(scope="module")
def ranking(scene):
    problem = scene.problem
    kinds = [rainpp.Delete(), rainpp.Relabel(), HALVE]
    index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=15,
                              interventions=kinds)  # fmt: skip
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", problem.model, index)
    result = database.sql(COUNT)
    return result.complain("n", should="at_least", target=float(result.df()["n"][0]) + 9).rank()


@pytest.fixture(scope="module")
def patch(ranking):
    return ranking.fix(kinds=["relabel"], by=6.0).patch


def retrain(scene):
    return lambda inputs, labels: oracles.solve(scene.problem.model, inputs, labels).params


def stopped_in(scene, number, problem=KeyboardInterrupt):
    """A training function that is stopped when it is called so often."""
    calls = []

    def fit(inputs, labels):
        calls.append(1)
        if len(calls) == number:
            raise problem
        return oracles.solve(scene.problem.model, inputs, labels).params

    return fit


# The loop


def test_an_interrupted_loop_holds_the_rounds_before(scene, ranking):
    # Refined effects of the first round do not reach 20, so a second one is made.
    whole = rainpp.repair_loop(ranking, fit=retrain(scene), by=20.0, rounds=2, kinds=["delete"])
    assert len(whole.rounds) == 2
    with pytest.raises(rainpp.RepairInterrupted, match="round 2 was interrupted") as stopped:
        rainpp.repair_loop(ranking, fit=stopped_in(scene, 2), by=20.0, kinds=["delete"])
    kept = stopped.value.loop
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert [each.touched for each in kept.rounds] == [whole.rounds[0].touched]
    assert (kept.ended, kept.resolved) == ("round 2 was interrupted", False)
    assert len(kept.patch) == kept.touched
    problem = scene.problem
    again = kept.patch.apply(problem.inputs, problem.labels)
    assert_array_equal(again.inputs, kept.training.inputs)


def test_an_interruption_before_anything_is_done_stays_what_it_is(scene, ranking):
    with pytest.raises(KeyboardInterrupt) as stopped:
        rainpp.repair_loop(ranking, fit=stopped_in(scene, 1))
    assert type(stopped.value) is KeyboardInterrupt


def test_training_that_works_in_place_changes_no_row_of_the_loop(scene, ranking):
    def spoiling(inputs, labels):
        found = oracles.solve(scene.problem.model, inputs.copy(), labels.copy()).params
        inputs *= 0
        labels[:] = 0
        return found

    plain = rainpp.repair_loop(ranking, fit=retrain(scene), rounds=1)
    spoiled = rainpp.repair_loop(ranking, fit=spoiling, rounds=1)
    assert_array_equal(spoiled.training.inputs, plain.training.inputs)
    assert_array_equal(spoiled.training.labels, plain.training.labels)


@pytest.mark.parametrize("foreign", [3, None])
def test_what_watches_the_loop_is_looked_at_before_the_first_round(scene, ranking, foreign):
    with pytest.raises(SettingsError, match=r"`round_done` is .*a function"):
        rainpp.repair_loop(ranking, fit=stopped_in(scene, 1), round_done=foreign)


# Training


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("x", "no array of numbers"),
        (np.full((4, 3), None), "no array of numbers"),
        (np.full((4, 3), "a"), "no array of numbers"),
        (rainpp.Model, "no array of numbers"),
    ],
)
def test_parameters_that_are_no_numbers(found, words):
    model = rainpp.Model(lambda w, x: x @ w, np.ones((4, 3)), l2=0.01)
    with pytest.raises(ModelError, match=words):
        model.refitted(found)


def test_training_that_leaves_the_program_is_an_error(scene, ranking):
    with pytest.raises(ModelError, match="`fit` fails: SystemExit: 0"):
        rainpp.verify(ranking, fit=lambda *_: sys.exit(0), top=2)
    with pytest.raises(DataError, match="fails on training rows 0 to 1: SystemExit"):
        repaired(rainpp.Replace("out", lambda _: sys.exit(0)), scene.problem.inputs[:2])


@pytest.mark.parametrize("seed", [-1, "x", 1.5, None, True])
def test_seeds_of_cross_validation_are_checked(scene, seed):
    problem = scene.problem
    with pytest.raises(SettingsError, match="`seed` is"):
        rainpp.label_probabilities(
            problem.model, problem.inputs, problem.labels, fit=retrain(scene), seed=seed
        )
    with pytest.raises(ModelError, match="`model` is a NoneType"):
        rainpp.label_probabilities(None, problem.inputs, problem.labels)


def test_ragged_probabilities_are_named(scene):
    problem = scene.problem
    with pytest.raises(ShapeError, match="rows of different lengths"):
        rainpp.precompute(problem.model, problem.inputs, problem.labels, k=2,
                          interventions=[rainpp.Relabel([[1], [2, 3]])])  # fmt: skip


# Repairs


@pytest.mark.parametrize(
    ("kind", "repair", "words"),
    [
        (np.uint8, lambda rows: rows.astype(int) + 300, "makes 300 of .* hold 0 to 255"),
        (np.uint8, lambda rows: rows.astype(float) - 5, "makes -5.0 of .* hold 0 to 255"),
        (np.int64, lambda rows: rows + 2.0**63, "makes 9.2.*e.18 of .* type int64"),
        (np.float16, lambda rows: rows.astype(float) + 1e6, "makes 1000000.0 of .* type float16"),
        (bool, lambda rows: rows + 0.5, "makes 0.5 of .* type bool"),
    ],
)
def test_numbers_that_do_not_fit_the_inputs_are_refused_not_wrapped(kind, repair, words):
    with pytest.raises(DataError, match=f"(?s)training row 7|{words}"):
        repaired(rainpp.Replace("big", repair), np.zeros((2, 2), kind), start=7)
    with pytest.raises(DataError, match=words):
        repaired(rainpp.Replace("big", repair), np.zeros((2, 2), kind))


def test_a_list_for_an_array_is_said_in_a_line():
    with pytest.raises(ShapeError, match=r"returned a list for \[\(500, 9\)\]") as refused:
        repaired(rainpp.Replace("listed", lambda rows: rows.tolist()), np.zeros((500, 9)))
    assert len(str(refused.value)) < 200


TABLE = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tables.impute([["a"]], [0]), DataError, "are no numbers"),
        (lambda: tables.impute([[1], [1, 2]], [0]), ShapeError, "are no table"),
        (lambda: tables.impute(TABLE, 5), SettingsError, "`columns` is 5"),
        (lambda: tables.impute(TABLE, None), SettingsError, "`columns` is None"),
        (lambda: tables.impute(TABLE, [0], missing="x"), SettingsError, "`missing` is 'x'"),
        (lambda: tables.impute(TABLE, [0], missing=None), SettingsError, "`missing` is None"),
        (lambda: tables.impute(TABLE, [0], value=None), SettingsError, "`value` is None"),
        (lambda: tables.impute(TABLE, [0], value=True), SettingsError, "`value` is True"),
        (lambda: tables.impute(TABLE, [0], value=np.nan), SettingsError, "`value` is nan"),
        (lambda: tables.impute(TABLE, [0], value=[1]), SettingsError, r"`value` is \[1\]"),
        (lambda: tables.impute(TABLE, [0], missing=lambda _: 1 / 0), SettingsError, "fails"),
        (lambda: tables.impute(TABLE, [0], missing=lambda _: True), SettingsError, "returned bool"),
        (lambda: tables.impute(TABLE, [0], missing=lambda _: ["n"] * 6), SettingsError, "<U1"),
        (lambda: tables.set_to_usual(TABLE * np.nan, [0]), DataError, "median of column 0 is nan"),
        (lambda: tables.set_to_usual(TABLE * 1j, [0]), DataError, "are no numbers"),
        (lambda: tables.rescale(None, 2.0), SettingsError, "`columns` is None"),
        (lambda: tables.rescale([], 2.0), SettingsError, "`columns` is empty"),
        (lambda: tables.rescale(["a"], 2.0), SettingsError, "`columns` holds 'a'"),
        (lambda: tables.rescale([0], 2.0, outside=5), SettingsError, "`outside` is 5"),
        (lambda: tables.rescale([0], 2.0, outside=(1,)), SettingsError, r"`outside` is \(1,\)"),
        (lambda: tables.rescale([0], 2.0, outside=(5, 1)), SettingsError, r"`outside` is \(5, 1\)"),
        (lambda: tables.rescale([0], 2.0, outside=("a", "b")), SettingsError, "`outside`"),
        (lambda: tables.duplicates(TABLE, [1, 2]), ShapeError, "have 6 rows"),
        (lambda: tables.duplicates(TABLE.astype(object)), DataError, "are no numbers"),
        (lambda: images.normalise_brightness([]), DataError, "`like` is empty"),
        (lambda: images.normalise_brightness("abc"), DataError, "`like` holds no pixels"),
        (lambda: images.normalise_brightness([np.nan]), DataError, "NaN"),
        (lambda: images.median_filter(shape=5), SettingsError, "`shape` is 5"),
        (lambda: images.median_filter(shape=(-1, 3)), SettingsError, r"`shape` is \(-1, 3\)"),
        (lambda: text.substitute([1, 2]), SettingsError, "`pairs` is a list"),
        (lambda: text.respell(["helo"], ["hello"], cutoff=2), SettingsError, "`cutoff` is 2"),
        (lambda: text.respell(["helo"], ["hello"], cutoff="x"), SettingsError, "`cutoff` is 'x'"),
        (lambda: text.respell([1], ["hello"]), SettingsError, "`words` holds 1"),
        (lambda: text.respell(["helo"], [1]), SettingsError, "`known` holds 1"),
        (lambda: text.respell(None, ["a"]), SettingsError, "`words` is a NoneType"),
    ],
)  # fmt: skip
def test_the_library_of_repairs_checks_what_it_is_given(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_rows_that_repeat_with_labels_of_text():
    found = tables.duplicates(np.array([[1.0], [1.0], [1.0]]), ["a", "b", "a"])
    assert found.tolist() == [False, False, True]


# Fixes


@pytest.mark.parametrize("kinds", [5, [], True, [5], [["relabel"]], [np.array(["a", "b"])], b"x"])
def test_families_that_are_no_names(ranking, kinds):
    with pytest.raises(SettingsError, match=r"`kinds` is .*; name some of delete, relabel, halve"):
        ranking.fix(kinds=kinds)


def test_numbers_of_fixes_are_named_as_the_user_calls_them(ranking):
    with pytest.raises(SettingsError, match="`by` is 1000"):
        ranking.fix(by=10**400)
    with pytest.raises(SettingsError, match="`count` is 0"):
        ranking.families(0)


def test_families_of_a_single_row_are_compared(ranking):
    assert (ranking.families(1)["rows"] <= 1).all()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (lambda x: pd.DataFrame(x[:, [0, 0]] > 0, columns=["a", "a"]), "column 'a' more than once"),
        (lambda x: pd.DataFrame({"a": x[:, 0] * 1j}), "column `a` of .* holds complex numbers"),
    ],
)
def test_columns_that_cannot_be_described(scene, ranking, frame, words):
    with pytest.raises(DataError, match=words):
        ranking.explain(frame(scene.problem.inputs))


# Patches


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="old"), "has no column `old`"),
        (lambda f: pd.concat([f, f], axis=1), "has 2 columns `id`"),
        (lambda _: None, "is a NoneType"),
        (lambda f: f.assign(id=[1, *"a" * (len(f) - 1)]), None),
        (lambda f: f.assign(new=[object()] * len(f)), None),
    ],
)
def test_edited_frames_are_refused_and_nothing_is_written(scene, patch, tmp_path, change, words):
    edited = replace(patch, frame=change(patch.frame))
    with pytest.raises(DataError, match=words or "cannot be written"):
        edited.save(tmp_path / "p.parquet")
    assert not list(tmp_path.iterdir())
    if words is not None:
        with pytest.raises(DataError, match=words):
            edited.apply(scene.problem.inputs, scene.problem.labels)


def edited_file(patch, folder, frame):
    """A patch as another tool wrote it."""
    source = patch.save(folder / "p.parquet")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(pq.read_schema(source).metadata), source)
    return source


@pytest.mark.parametrize(
    ("column", "value", "error", "words"),
    [
        ("id", True, DataError, "names row True"),
        ("id", [1], DataError, "names row array"),
        ("new", ["dog"], DataError, "the label array"),
        ("new", 1.0, DataError, "the label 1.0; the classes are 0, 1.*, as text"),
        ("intervention", ["delete"], ArtifactError, "holds the intervention"),
    ],
)
def test_columns_of_other_types_are_named(scene, patch, tmp_path, column, value, error, words):
    frame = patch.frame.head(1).assign(**{column: [value]})
    source = edited_file(patch, tmp_path, frame)
    with pytest.raises(error, match=words):
        rainpp.read_patch(source).apply(scene.problem.inputs, scene.problem.labels)


def test_ids_that_another_tool_made_floats_are_whole_again(scene, patch, tmp_path):
    source = edited_file(patch, tmp_path, patch.frame.assign(id=patch.frame["id"] * 1.0))
    found = rainpp.read_patch(source).apply(scene.problem.inputs, scene.problem.labels)
    same = patch.apply(scene.problem.inputs, scene.problem.labels)
    assert_array_equal(found.labels, same.labels)


def test_a_repair_of_a_patch_must_be_a_name(scene, patch):
    frame = patch.frame.assign(intervention="replace", new=None)
    with pytest.raises(DataError, match="the repair None"):
        replace(patch, frame=frame).apply(scene.problem.inputs, scene.problem.labels)


def test_a_folder_of_patches_is_no_patch_and_its_name_says_nothing(patch, tmp_path):
    folder = tmp_path / "id=3"
    folder.mkdir()
    found = rainpp.read_patch(patch.save(folder / "p.parquet"))
    assert found.frame["id"].tolist() == patch.frame["id"].tolist()
    with pytest.raises(ArtifactError, match="it is no regular file"):
        rainpp.read_patch(folder)
    with pytest.raises(ArtifactError, match="there is no such file"):
        rainpp.read_patch(tmp_path / "none")


@pytest.mark.parametrize(
    "about",
    [
        b"[" * 100_000,
        b'{"kind": "rainpp patch", "classes": [["a"]], "schema": 1, "data": "x"}',
        b'{"kind": "rainpp patch", "classes": ["a"], "schema": 1, "data": 3}',
    ],
)
def test_metadata_that_rainpp_did_not_write(patch, tmp_path, about):
    source = patch.save(tmp_path / "p.parquet")
    pq.write_table(pq.read_table(source).replace_schema_metadata({b"rainpp": about}), source)
    with pytest.raises(ArtifactError, match="no patch that rainpp wrote"):
        rainpp.read_patch(source)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"inputs": None}, ShapeError, "`inputs` is empty"),
        ({"inputs": pd.DataFrame(np.zeros((80, 4)))}, ShapeError, "frame.to_numpy"),
        ({"labels": 3}, ShapeError, r"`labels` has shape \(\)"),
        ({"labels": [[1], [1, 2]]}, ShapeError, "`labels` are no array"),
        ({"ids": 5}, ShapeError, "`ids` has shape"),
        ({"ids": [[1], [1, 2]]}, ShapeError, "`ids` are no array"),
        ({"ids": [1] * 80}, DataError, "`ids` holds 1 more than once"),
        ({"repairs": 5}, SettingsError, "`repairs` is 5"),
        ({"repairs": None}, SettingsError, "`repairs` is None"),
        ({"repairs": ["x"]}, SettingsError, r"`repairs` is \['x'\]"),
    ],
)
def test_patches_check_what_they_are_applied_to(scene, patch, change, error, words):
    given = {"inputs": scene.problem.inputs, "labels": scene.problem.labels, **change}
    with pytest.raises(error, match=words):
        patch.apply(given.pop("inputs"), given.pop("labels"), **given)


# The page


@pytest.mark.parametrize("pixels", [np.full((80, 4, 4), "a"), np.zeros((80, 0, 4)), np.array(3.0)])
def test_pixels_that_cannot_be_drawn(ranking, pixels):
    with pytest.raises(ShapeError, match="`images` has"):
        Repairs(ranking, images=pixels)


def test_a_page_that_cannot_be_written_leaves_nothing(scene, ranking, tmp_path):
    loop = rainpp.repair_loop(ranking, fit=retrain(scene), rounds=1)
    for path in (tmp_path / ("a" * 300), tmp_path / "x\x00", f"{tmp_path}/"):
        with pytest.raises(DataError, match="cannot write the report"):
            write_rounds(path, loop)
    odd = Repairs(ranking, families=0, title="half of a pair: \ud800").write(tmp_path / "r.html")
    assert "half of a pair: ?" in odd.read_text(encoding="utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]
