"""Repairs of inputs: scored as retraining says, applied to copies, refused when they go wrong."""

from __future__ import annotations

import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rainpp
from rainpp.errors import (
    ArtifactError,
    DataError,
    RainError,
    SettingsError,
    ShapeError,
    StaleCurvatureWarning,
)
from rainpp.index.projecting import InMemory, Work, project_rows
from rainpp.intervention import Intervention, InterventionTable
from rainpp.intervention.applying import apply_interventions
from tests import oracles
from tests.online import COUNT, make_scene


def halved(inputs):
    return inputs * 0.5


HALVE = rainpp.Replace("halve", halved)
KINDS = [rainpp.Delete(), rainpp.Relabel(), HALVE, rainpp.Replace("negate", lambda x: -x)]


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=15)


@pytest.fixture(scope="module")
def index(scene):
    problem = scene.problem
    return rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=KINDS
    )


@pytest.fixture
def ranking(scene, index):
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, index)
    return database.sql(COUNT).complain("n", should="increase").rank()


def test_families_stand_one_after_the_other(index):
    table = index.interventions
    n = table.num_rows
    assert table.kinds == ("delete", "relabel", "halve", "negate")
    assert len(table) == n * (1 + 2 + 2)
    assert table.of("halve") == slice(3 * n, 4 * n)
    last = table[4 * n + 7]
    assert (last.row, last.kind, last.detail) == (7, "replace", "negate")
    positions = np.arange(len(table))
    assert_array_equal(table.rows(positions), [table[int(p)].row for p in positions])
    labels = [item.detail if item.kind == "relabel" else -1 for item in table]
    assert_array_equal(table.new_labels(positions), labels)
    assert_array_equal(table.positions_of(list(table)), positions)
    with pytest.raises(SettingsError, match=r"no intervention 'blur'.*halve, negate"):
        table.of("blur")


def test_interventions_are_found_again(index):
    table = index.interventions
    everything = list(table)
    assert_array_equal(table.positions_of(everything), np.arange(len(table)))
    shuffled = np.random.default_rng(0).permutation(len(table))[:40]
    assert_array_equal(table.positions_of([everything[i] for i in shuffled]), shuffled)
    assert table.positions_of([]).size == 0


@pytest.mark.parametrize(
    ("kind", "detail", "error", "words"),
    [
        ("replace", "blur", SettingsError, "no intervention 'blur'.*halve, negate"),
        ("relabel", 7, DataError, "row 3 is to get the label 7, which is no class"),
        ("relabel", -1, DataError, "row 3 is to get the label -1, which is no class"),
        ("relabel", None, DataError, "row 3 is to get the label .*, it has already"),
    ],
)
def test_interventions_that_are_not_there(index, kind, detail, error, words):
    table = index.interventions
    own = int(table.labels[3]) if kind == "relabel" and detail is None else detail
    with pytest.raises(error, match=words):
        table.positions_of([Intervention(3, 3, kind, own)])
    less = InterventionTable(("delete",), table.ids, table.labels, table.num_classes)
    with pytest.raises(SettingsError, match=r"there is no intervention .*; it has delete"):
        less.positions_of([Intervention(3, 3, kind, own)])


@pytest.mark.parametrize("row", [0, 17, 55])
def test_the_effect_is_that_of_training_again(scene, index, ranking, row):
    """To first order: a hundredth of the change, which the optimum follows linearly."""
    problem, everybody = scene.problem, np.ones(30, bool)
    before = float(scene.count_of(problem.model.theta, everybody))
    place = index.interventions.of("halve").start + row
    inputs = problem.inputs.copy()
    inputs[row] *= 0.5
    whole = oracles.solve(problem.model, inputs, problem.labels)
    actual = float(scene.count_of(whole.theta, everybody)) - before
    assert ranking.effects[place] == pytest.approx(actual, rel=0.25, abs=2e-3)
    assert np.sign(ranking.effects[place]) == np.sign(actual)
    assert ranking.plausibility[place] == 1.0


def test_projections_are_differences_of_gradients(scene, index):
    problem = scene.problem
    plain = rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=[rainpp.Delete()]
    )
    other = rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=[HALVE]
    )
    assert_allclose(
        other.arrays["projections"], index.arrays["projections"][index.interventions.of("halve")]
    )
    assert len(plain.interventions) == len(other.interventions)


def test_the_seconds_of_each_family_are_known_where_it_was_built(scene, index, tmp_path):
    assert list(index.seconds) == ["delete, relabel", "halve", "negate"]
    problem, slept = scene.problem, []

    def slow(inputs):
        slept.append(time.sleep(0.05))
        return inputs * 0.5

    def build(kind, **where):
        kinds = [rainpp.Replace("slow", slow), kind]
        return rainpp.precompute(
            problem.model, problem.inputs, problem.labels, k=2, interventions=kinds, **where
        )

    built = build(HALVE, path=tmp_path / "i")
    assert list(built.seconds) == ["gradients", "slow", "halve"]
    assert built.seconds["slow"] > 0.05  # the repair itself is counted, not only its projection
    assert rainpp.load(tmp_path / "i").seconds == {}
    assert build(HALVE, path=tmp_path / "i", again=False).seconds == {}
    assert "seconds" not in built.manifest


def test_what_a_user_sees(ranking):
    ranking.plausibility = np.ones(len(ranking))
    frame = ranking.top(80, by="effect")
    assert set(frame["intervention"]) <= {"delete", "relabel", "replace"}
    assert "negate" in set(frame.loc[frame["intervention"] == "replace", "detail"])
    assert frame["train_id"].is_unique
    assert_allclose(ranking.row_scores(), ranking.interventions.best_by_row(ranking.scores), rtol=0)


def test_a_group_of_all_kinds_ends_where_training_does(scene, index, ranking):
    found = ranking.group_effect(20, newton_steps=8)
    items = ranking.best(20)
    assert {item.kind for item in items} > {"replace"}
    fixed = apply_interventions(index.training, items, index.repairs)
    model = oracles.solve(scene.problem.model, fixed.inputs, fixed.labels)
    everybody = np.ones(30, bool)
    actual = float(scene.count_of(model.theta, everybody)) - float(
        scene.count_of(scene.problem.model.theta, everybody)
    )
    assert found.effect == pytest.approx(actual, rel=1e-4)


def test_refined_effects_of_repairs_are_exact(scene, index):
    database = rainpp.connect(scene.database.connection)
    problem = scene.problem
    few = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=4, interventions=KINDS)
    database.register_model("predict", problem.model, few)
    refined = database.sql(COUNT).complain("n", should="increase").rank().refine(15)
    database.register_model("predict", problem.model, index)
    exact = database.sql(COUNT).complain("n", should="increase").rank()
    assert_allclose(refined.effects, exact.effects, rtol=1e-5, atol=1e-9)


def test_nothing_the_user_holds_is_changed(scene, index, ranking):
    before = scene.problem.inputs.copy()
    apply_interventions(index.training, ranking.best(30), index.repairs)
    ranking.group_effect(10)
    assert_array_equal(scene.problem.inputs, before)


@pytest.mark.parametrize(
    ("repair", "error", "words"),
    [
        (lambda x: x[:, :2], ShapeError, "returned .* it must return inputs of the shapes"),
        (lambda _: None, ShapeError, "NoneType"),
        (lambda x: x * np.nan, DataError, "NaN or infinity of training row 0"),
        (lambda _: 1 / 0, DataError, "fails on training rows 0 to .*division by zero"),
        (lambda x: x.astype(str), DataError, "numbers are needed"),
    ],
)
def test_a_repair_that_goes_wrong_is_named(scene, repair, error, words):
    problem = scene.problem
    with pytest.raises(error, match=f"the repair 'bad' .*{words}"):
        rainpp.precompute(
            problem.model,
            problem.inputs,
            problem.labels,
            k=2,
            interventions=[rainpp.Replace("bad", repair)],
        )


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([rainpp.Replace("delete", halved)], "give it a name of its own"),
        ([rainpp.Replace("", halved)], "give it a name of its own"),
        ([rainpp.Replace("x", 3)], "give a function"),
        ([HALVE, HALVE], "name each kind once"),
    ],
)
def test_repairs_without_name_or_function_are_refused(scene, kinds, words):
    problem = scene.problem
    with pytest.raises(SettingsError, match=words):
        rainpp.precompute(problem.model, problem.inputs, problem.labels, k=2, interventions=kinds)


def test_a_loaded_index_ranks_and_asks_for_the_function(scene, tmp_path):
    problem = scene.problem
    built = rainpp.precompute(
        problem.model,
        problem.inputs,
        problem.labels,
        k=6,
        interventions=[HALVE],
        path=tmp_path / "i",
    )
    loaded = rainpp.load(tmp_path / "i")
    assert loaded.interventions.repairs == ("halve",)
    assert_array_equal(loaded.rank(np.ones(6)).effects, built.rank(np.ones(6)).effects)
    database = rainpp.connect(scene.database.connection)
    data = (problem.inputs, problem.labels)
    database.register_model("predict", problem.model, loaded, data=data)
    ranking = database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(RainError, match="function behind the repair 'halve' is not at hand"):
        ranking.group_effect(3)
    again = rainpp.load(tmp_path / "i", repairs=[HALVE])
    database.register_model("predict", problem.model, again, data=data)
    assert database.sql(COUNT).complain("n", should="increase").rank().group_effect(3).converged
    with pytest.raises(SettingsError, match="no repair 'blur'; it was built with 'halve'"):
        rainpp.load(tmp_path / "i", repairs=[rainpp.Replace("blur", halved)])


def test_another_function_of_the_same_name_is_another_request(scene, tmp_path):
    problem = scene.problem
    arguments = (problem.model, problem.inputs, problem.labels)
    for repair in (halved, lambda x: x * 0.25):
        item = rainpp.Replace("shrink", repair)
        built = rainpp.precompute(
            *arguments, k=4, interventions=[item], path=tmp_path / "i", again=False
        )
        other = rainpp.precompute(*arguments, k=4, interventions=[item])
        assert_array_equal(built.arrays["projections"], other.arrays["projections"])


def test_appended_rows_are_repaired_too(scene):
    problem = scene.problem
    arguments = (problem.inputs[60:], problem.labels[60:])
    first = rainpp.precompute(
        problem.model, problem.inputs[:60], problem.labels[:60], k=4, interventions=KINDS
    )
    with pytest.warns(StaleCurvatureWarning):
        grown = first.append(problem.model, *arguments)
    work = Work(  # the same projections as one pass over all rows
        problem.model,
        grown.training,
        np.asarray(first.eigenvectors),
        first.interventions.kinds,
        3,
        repairs=first.repairs,
    )
    storage = InMemory()
    project_rows(work, storage)
    assert_allclose(
        grown.arrays["projections"], storage.finished()["projections"], rtol=1e-6, atol=1e-12
    )


# Fixes and patches


@pytest.fixture
def asked(scene, index):
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, index)
    result = database.sql(COUNT)
    return result.complain("n", should="at_least", target=float(result.df()["n"][0]) + 9).rank()


def retrain(scene):
    return lambda inputs, labels: oracles.solve(scene.problem.model, inputs, labels).params


def test_a_fix_is_the_smallest_prefix_that_is_predicted_to_do(scene, asked):
    fix = asked.fix()
    assert fix.resolves
    assert fix.needed == 9
    count = len(fix.interventions)
    assert all(moved < 9 for size, moved in fix.tried if size < count)
    assert max(size for size, moved in fix.tried if size < count) >= count - max(1, 0.03 * count)
    proof = rainpp.verify(asked, fit=retrain(scene), top=count)
    gained = proof.outcomes[0].after_relaxed - proof.outcomes[0].before_relaxed
    assert gained == pytest.approx(fix.together.effect, rel=0.1)
    assert proof.after - proof.before == pytest.approx(fix.reached, abs=1)
    assert proof.outcomes[0].resolved


def test_a_fix_of_some_families_keeps_to_them(asked):
    fix = asked.fix(kinds=["relabel"], by=1.0)
    assert {item.kind for item in fix.interventions} == {"relabel"}
    assert fix.needed == 1.0


def test_a_fix_that_cannot_do_says_so(asked):
    fix = asked.fix(by=1000.0, most=5)
    assert not fix.resolves
    assert len(fix.interventions) == 5
    assert "does not resolve" in repr(fix)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": -1}, "`by` is -1"),
        ({"by": float("nan")}, "`by` is nan"),
        ({"most": 0}, "`most` is 0"),
        ({"kinds": ["blur"]}, "no intervention 'blur'"),
    ],
)
def test_fixes_check_what_they_are_given(asked, arguments, words):
    with pytest.raises(SettingsError, match=words):
        asked.fix(**arguments)


def test_a_direction_needs_an_amount(ranking):
    with pytest.raises(SettingsError, match=r"fix\(by=...\)"):
        ranking.fix()


def test_a_patch_survives_the_disk_and_gives_the_same_rows(scene, index, asked, tmp_path):
    fix = asked.fix()
    patch = rainpp.read_patch(fix.save(tmp_path / "fix.parquet"))
    assert list(patch.frame.columns) == ["id", "intervention", "old", "new", "reason"]
    problem = scene.problem
    applied = patch.apply(problem.inputs, problem.labels, repairs=index.repairs)
    wanted = fix.apply()
    assert_array_equal(applied.inputs, wanted.inputs)
    assert_array_equal(applied.labels, wanted.labels)
    assert_array_equal(applied.ids, wanted.ids)


def test_a_patch_for_other_data_is_refused(scene, asked, index, tmp_path):
    patch = rainpp.read_patch(asked.fix().save(tmp_path / "fix.parquet"))
    problem = scene.problem
    other = problem.inputs.copy()
    other[3] += 1
    with pytest.raises(DataError, match="made for other training rows"):
        patch.apply(other, problem.labels, repairs=index.repairs)
    patch.frame.loc[1, "id"] = patch.frame.loc[0, "id"]
    with pytest.raises(DataError, match="twice; keep one"):
        patch.apply(problem.inputs, problem.labels, repairs=index.repairs)


def test_a_patch_that_cannot_be_written_is_refused(asked, tmp_path):
    patch = asked.fix().patch
    with pytest.raises(ArtifactError, match="there is no folder"):
        patch.save(tmp_path / "no" / "x.parquet")
    with pytest.raises(ArtifactError, match="it is a folder"):
        patch.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_patch(tmp_path):
    (tmp_path / "x").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ArtifactError, match="cannot read the patch"):
        rainpp.read_patch(tmp_path / "x")
    with pytest.raises(ArtifactError):
        rainpp.read_patch(tmp_path / "missing")
    import pandas as pd

    pd.DataFrame({"id": [1]}).to_parquet(tmp_path / "y")
    with pytest.raises(ArtifactError, match="no patch that rainpp wrote"):
        rainpp.read_patch(tmp_path / "y")


def test_families_are_compared_by_what_their_best_do_together(ranking):
    found = ranking.families(15)
    assert set(found["family"]) == {"delete", "relabel", "halve", "negate"}
    assert found["together"].is_monotonic_decreasing
    for each in found.itertuples():
        assert each.low <= each.together <= each.high
    first = found.iloc[0]
    alone = ranking.fix(by=1e6, most=15, kinds=[first["family"]])
    assert alone.together.effect == pytest.approx(first["together"], rel=0.1)
    assert alone.together.first_order == pytest.approx(first["first_order"])
    with pytest.raises(SettingsError, match="`count` is 0"):
        ranking.families(0)


# The proof of a patch


def test_a_patch_is_proved_as_the_prefix_it_came_from(scene, asked, tmp_path):
    patch = rainpp.read_patch(asked.fix().save(tmp_path / "fix.parquet"))
    top = rainpp.verify(asked, fit=retrain(scene), top=len(patch))
    proof = rainpp.verify(asked, fit=retrain(scene), patch=patch)
    assert proof.applied == top.applied
    assert {item.kind for item in proof.applied} > {"replace"}
    assert proof.frame().equals(top.frame())


def test_lines_a_reviewer_deleted_are_not_applied(scene, index, asked, tmp_path):
    patch = rainpp.read_patch(asked.fix().save(tmp_path / "fix.parquet"))
    patch = replace(patch, frame=patch.frame.iloc[3:0:-2])
    problem, seen = scene.problem, []

    def fit(inputs, labels):
        seen.append((inputs, labels))
        return oracles.solve(problem.model, inputs, labels).params

    proof = rainpp.verify(asked, fit=fit, patch=patch)
    assert [item.train_id for item in proof.applied] == patch.frame["id"].tolist()
    wanted = patch.apply(problem.inputs, problem.labels, repairs=index.repairs)
    assert_array_equal(seen[0][0], wanted.inputs)
    assert_array_equal(seen[0][1], wanted.labels)
    outcome = proof.outcomes[0]
    gained, promised = (
        value - outcome.before_relaxed for value in (outcome.after_relaxed, outcome.predicted)
    )
    assert gained == pytest.approx(promised, rel=0.05)
    assert outcome.predicted != rainpp.verify(asked, fit=fit, top=2).outcomes[0].predicted


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data": "0" * 64}, DataError, "made for other training rows"),
        ({"id": 4711}, DataError, "row 4711, which is not among the ids"),
        ({"intervention": "relabel", "new": "9"}, DataError, "the label '9'; the classes are 0, 1"),
        ({"intervention": "relabel", "new": None}, DataError, "the label None; the classes"),
        ({"intervention": "replace", "new": "blur"}, SettingsError, "no intervention 'blur'"),
        ({"intervention": "blur", "new": "1"}, DataError, "has the intervention 'blur'"),
        ({"classes": tuple("0123456789"), "intervention": "relabel", "new": "9"}, DataError,
         "the label 9, which is no class"),
    ],
)  # fmt: skip
def test_patches_that_do_not_fit_are_refused_before_training(asked, change, error, words):
    patch = asked.fix().patch
    fields = {name: change[name] for name in ("data", "classes") if name in change}
    patch = replace(patch, frame=patch.frame.astype(object), **fields)
    for column in set(change) - set(fields):
        patch.frame.loc[0, column] = change[column]
    with pytest.raises(error, match=words):
        rainpp.verify(asked, fit=never, patch=patch)


def never(*_):
    raise AssertionError("this should have been refused before training")


def test_what_verify_applies_is_said_once(asked, scene):
    patch = asked.fix().patch
    with pytest.raises(SettingsError, match="`top` and `patch` both say"):
        rainpp.verify(asked, fit=never, top=100, patch=patch)
    with pytest.raises(SettingsError, match="`patch` is a DataFrame"):
        rainpp.verify(asked, fit=never, patch=patch.frame)
    with pytest.raises(DataError, match="the patch is empty"):
        rainpp.verify(asked, fit=never, patch=replace(patch, frame=patch.frame.iloc[:0]))
    repeated = replace(patch, frame=patch.frame.iloc[[0, 0]])
    with pytest.raises(DataError, match="twice; keep one"):
        rainpp.verify(asked, fit=never, patch=repeated)
    assert len(rainpp.verify(asked, fit=retrain(scene)).applied) == 80


def test_a_patch_with_repairs_needs_their_functions(scene, index, asked):
    patch = asked.fix(kinds=["halve", "negate"], by=0.5).patch
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, replace(index, repairs=()))
    bare = database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(RainError, match=r"function behind the repair .* is not at hand"):
        rainpp.verify(bare, fit=never, patch=patch)


# The loop


def test_the_loop_ends_when_the_complaint_holds(scene, asked):
    found = rainpp.repair_loop(asked, fit=retrain(scene), kinds=["delete", "relabel"])
    assert found.resolved
    assert found.ended == "the complaint holds"
    assert found.rounds[-1].value >= found.before + 3
    assert found.touched == len(found.patch.frame) == found.patch.frame["id"].nunique()
    assert list(found.frame()["number"]) == list(range(1, len(found.rounds) + 1))
    assert found.training.num_rows < 80 or (found.patch.frame["intervention"] == "relabel").all()


def test_a_budget_that_ends_keeps_what_was_done(scene, asked):
    done = []
    found = rainpp.repair_loop(
        asked, fit=retrain(scene), by=20.0, rounds=2, most=10, round_done=done.append
    )
    assert tuple(done) == found.rounds
    assert not found.resolved
    assert found.ended in ("the rounds ended", "10 rows were changed")
    assert 0 < found.touched <= 10
    assert found.model.params is not None


def test_loops_check_what_they_are_given(scene, asked, ranking):
    with pytest.raises(SettingsError, match="`fit` is 3"):
        rainpp.repair_loop(asked, fit=3)
    with pytest.raises(SettingsError, match="`rounds` is 0"):
        rainpp.repair_loop(asked, fit=retrain(scene), rounds=0)
    with pytest.raises(SettingsError, match="`most` is 0"):
        rainpp.repair_loop(asked, fit=retrain(scene), most=0)
    with pytest.raises(SettingsError, match="no target"):
        rainpp.repair_loop(ranking, fit=retrain(scene))
    with pytest.raises(SettingsError, match="`ranking` is a int"):
        rainpp.repair_loop(3, fit=retrain(scene))


# Two classes from one logit


@pytest.mark.parametrize("repairs", [[], [HALVE]])
def test_a_binary_model_is_fixed_compared_and_repaired_in_a_loop(tmp_path, repairs):
    scene = make_scene(k=6)
    inputs = scene.problem.inputs
    labels = (scene.problem.labels == 1).astype(np.int32)
    start = rainpp.Model(
        lambda w, x: x @ w, jnp.zeros((4, 1)), loss="binary_cross_entropy", l2=1e-2
    )
    model = oracles.solve(start, inputs, labels)
    kinds = [rainpp.Delete(), rainpp.Relabel(), *repairs]
    index = rainpp.precompute(model, inputs, labels, k=4, interventions=kinds)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", model, index, classes=["no", "yes"])
    result = database.sql(COUNT.replace("= 1", "= 'yes'"))
    target = float(result.df()["n"][0]) + 2
    ranking = result.complain("n", should="at_least", target=target).rank()
    fix = ranking.fix()
    assert fix.resolves
    patch = rainpp.read_patch(fix.save(tmp_path / "fix.parquet"))
    names = np.array(["no", "yes"])
    assert list(patch.frame["old"]) == list(names[labels[patch.frame["id"]]])
    # Class numbers are the same labels whatever type they are written in.
    applied = patch.apply(inputs, labels.astype(float), repairs=repairs)
    assert_array_equal(applied.labels, fix.apply().labels)
    assert set(ranking.families(5)["family"]) == set(index.interventions.kinds)
    loop = rainpp.repair_loop(ranking, fit=lambda x, y: oracles.solve(model, x, y).params, k=4)
    assert loop.resolved
