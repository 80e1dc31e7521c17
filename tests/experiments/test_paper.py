"""The paper's cells at a size that takes seconds: errors, queries, the cache, a whole record."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments import data
from experiments.paper import fig11, networks, records, sweep, tasks
from experiments.paper.blemishes import blurred, denoised, salted, spoil
from experiments.paper.cells import Cell, cells
from experiments.paper.networks import Sizes, Trainee, flat, unflat
from experiments.paper.queries import Answers, counted, joined, queries, swept
from rainpp.errors import DataError, SettingsError, ShapeError

TINY = Cell("mnist", "logistic", "flip", 0.4)


def smooth_images(count, channels=1):
    """Gradients of grey between 0.2 and 0.8."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.5, 28)[:, None] + np.linspace(0, 0.3, 28)[None, :]
    shades = generator.uniform(0.8, 1, (count, 1, 1, channels))
    return (ramp[None, :, :, None] * shades).astype(np.float32)


def test_salt_and_pepper_hit_three_tenths_of_the_pixels_alike():
    images = smooth_images(40)
    spoilt = salted(images, 0)
    hit = spoilt != images
    assert hit.mean() == pytest.approx(0.3, abs=0.01)
    assert set(np.unique(spoilt[hit])) == {0.0, 1.0}
    assert spoilt[hit].mean() == pytest.approx(0.5, abs=0.02)
    assert (salted(images, 1) != spoilt).any()


def test_a_pixel_of_a_photo_is_spoilt_in_all_its_colours():
    hit = salted(smooth_images(5, channels=3), 0) != smooth_images(5, channels=3)
    assert_array_equal(hit.all(axis=-1), hit.any(axis=-1))


def test_blur_keeps_the_mean_of_every_image_and_evens_it_out():
    images = np.random.default_rng(0).random((6, 28, 28, 3)).astype(np.float32)
    out = blurred(images, 0)
    assert_allclose(out.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-4)
    assert (out.std(axis=(1, 2)) < 0.3 * images.std(axis=(1, 2))).all()
    assert_allclose(blurred(images[:1], 0)[0], out[0])  # images do not run into one another


def test_the_median_filter_takes_most_of_salt_and_pepper_away():
    images = smooth_images(10)
    before = np.abs(salted(images, 0) - images).mean()
    after = np.abs(denoised(salted(images, 0)) - images).mean()
    assert after < before / 5
    assert np.abs(denoised(images) - images).mean() < 0.01


def test_only_the_rows_asked_for_are_spoilt():
    images = smooth_images(6)
    out = spoil(images, np.array([1, 4]), salted, seed=0)
    changed = (out != images).any(axis=(1, 2, 3))
    assert np.flatnonzero(changed).tolist() == [1, 4]
    assert_array_equal(spoil(images, np.array([], int), salted, seed=0), images)


# --- queries ------------------------------------------------------------------------------------


def answers_of(rows=60, classes=10, seed=0):
    generator = np.random.default_rng(seed)
    found, clean = (generator.dirichlet(np.ones(classes), rows) for _ in range(2))
    return Answers(found, clean, np.arange(rows) % classes)


def every_query(answers):
    left = answers.truth < 5
    two = Answers(answers.probabilities[:, :2], answers.of_clean[:, :2], answers.truth % 2)
    groups = {"Q4": left, "Q7": np.ones_like(left)}
    pool = tasks.Pool(0, 0, 0, 0, None, groups, 0, "")
    yield from queries(Cell("adult", "logistic", "men", 0.5), pool, two)
    pool = replace(pool, groups={"left": left})
    yield from queries(TINY, pool, answers)
    yield from queries(Cell("mnist", "cnn", "two flips", 0.1), pool, answers)
    yield from swept(answers, joins=3, seed=0)


def test_weights_are_the_slopes_of_relaxed_answers_towards_the_better():
    answers = answers_of()
    change = np.random.default_rng(1).normal(size=answers.probabilities.shape)
    step = 1e-6
    up, down = (
        replace(answers, probabilities=answers.probabilities + sign * step * change)
        for sign in (1, -1)
    )
    count = 0
    for middle, high, low in zip(*map(every_query, (answers, up, down)), strict=True):
        slope = middle.direction * (high.relaxed - low.relaxed) / (2 * step)
        found = (middle.weights * change[:, : middle.weights.shape[1]]).sum()
        assert found == pytest.approx(slope, rel=1e-6), middle.name
        count += 1
    assert count == 2 + 2 + 6 + 13


def test_a_join_counts_the_pairs_that_are_predicted_equal():
    answers = answers_of()
    left, right = answers.truth == 3, answers.truth >= 7
    found = joined("join", left, right, answers)
    for value, classes in ((found.value, answers.predicted), (found.correct, answers.clean)):
        pairs = itertools.product(classes[left], classes[right])
        assert value == sum(a == b for a, b in pairs)
    assert found.truth == 0
    assert found.direction == -1


def test_a_complaint_asks_for_what_a_clean_model_answers():
    truth = np.array([1, 1, 1, 0])
    sure = np.eye(2)

    def count(predicted, clean):
        return counted("Q3", (1,), Answers(sure[predicted], sure[clean], truth))

    low = count([1, 0, 0, 0], [1, 1, 0, 0])
    assert (low.value, low.correct, low.truth, low.direction) == (1, 2, 3, 1)
    assert low.signed_error == low.relaxed_error == 0.5
    assert count([1, 1, 0, 0], [1, 0, 0, 0]).direction == -1  # though the truth is 3
    assert count([1, 1, 0, 0], [1, 0, 1, 0]).direction == 1  # as the clean model: the truth is 3


def test_a_join_asks_for_fewer_pairs_though_a_clean_model_may_give_more():
    sure, truth = np.eye(2), np.array([0, 0, 1, 1])

    def join(predicted, clean):
        return joined("Q1", truth == 0, truth == 1, Answers(sure[predicted], sure[clean], truth))

    assert join([0, 1, 1, 1], [0, 0, 1, 1]).signed_error > 0
    assert join([0, 1, 1, 1], [0, 0, 0, 1]).signed_error == 0
    assert join([0, 0, 1, 1], [0, 1, 1, 1]).signed_error == -1


def test_relevant_rows_are_lost_to_the_errors_and_adversarial_ones_are_right():
    sure = np.eye(10)
    truth = np.array([1, 1, 1, 7, 7, 3])
    answers = Answers(sure[[7, 7, 1, 7, 1, 7]], sure[[1, 7, 1, 7, 7, 3]], truth)
    relevant, adversarial = fig11.point_rows(answers)
    assert relevant.tolist() == [0]
    assert adversarial.tolist() == [3]


def test_the_cells_at_full_size_are_those_of_tables_2_and_3():
    found = {(cell.data, cell.corruption) for cell in cells("full")}
    assert found == {
        ("mnist", "flip"), ("mnist", "two flips"), ("mnist", "blur class"), ("mnist", "blur all"),
        ("mnist", "salt all"), ("mnist", "salt class"), ("fashion", "flip"),
        ("fashion", "blur class"), ("fashion", "blur all"), ("fashion", "salt all"),
        ("cifar10", "flip"), ("cifar10", "salt class"), ("cifar10", "blur all"),
        ("cifar10", "salt all"), ("sst2", "flip"), ("adult", "flip"), ("adult", "men"),
    }  # fmt: skip


# --- trained cells ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """Read once."""
    try:
        return data.mnist()
    except DataError as problem:
        pytest.skip(str(problem))


@pytest.fixture
def cache(tmp_path, monkeypatch, digits):
    """An empty one, for 300 rows of MNIST and 200 to ask about."""
    monkeypatch.setattr(data, "mnist", lambda: digits)
    monkeypatch.setitem(networks._SMALL, ("mnist", "logistic"), Sizes(300, 200))
    monkeypatch.setenv("RAINPP_CHECKPOINTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def fits(monkeypatch):
    """What is trained; parameters that depend on the labels come at once."""
    found = []

    def fitted(made, _, labels):
        found.append(made)
        return jax.tree.map(lambda leaf: leaf + labels.mean().astype(leaf.dtype), made.untrained())

    monkeypatch.setattr(Trainee, "fitted", fitted)
    return found


def test_what_was_trained_is_read_again(cache, fits):
    made = tasks.task(TINY)
    assert len(fits) == len(list(cache.glob("*.npy"))) == 2  # and its clean twin
    (cache / "mnist-logistic-0.npy.part").write_bytes(b"half")
    again = tasks.task(TINY)
    assert len(fits) == 2
    assert_array_equal(again.model.theta, made.model.theta)
    assert_array_equal(again.clean.theta, made.clean.theta)
    assert (made.model.theta != made.clean.theta).any()
    other = tasks.task(replace(TINY, rate=0.1))
    assert len(fits) == 3  # the twin is the same
    assert_array_equal(other.clean.theta, made.clean.theta)


def test_saving_that_is_interrupted_leaves_nothing_to_read(cache, fits, monkeypatch):
    def interrupted(_):
        assert [path.suffix for path in cache.iterdir()] == [".part"]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tasks.task(TINY)
    assert not list(cache.iterdir())
    tasks.task(TINY)
    assert len(fits) == 1 + 2


class Planted:
    """Unpickled, it would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def npy(values):
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


NUMBERS = np.arange(7850, dtype=np.float32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"half",
        npy(NUMBERS)[:60],
        npy(NUMBERS)[:-4],
        npy(NUMBERS) + b"more",
        npy(NUMBERS[:-1]),
        npy(NUMBERS.reshape(10, 785)),
        npy(NUMBERS.astype(np.float64)),
        npy(np.full(7850, np.nan, np.float32)),
        npy(NUMBERS).replace(b"7850", b"9" * 40),
        npy(NUMBERS).replace(b"'descr'", b"[1, 2] "),
        npy(NUMBERS).replace(b" 'shape'", b"('shape'"),
        npy(np.array([Planted()], object)),
        pickle.dumps(Planted()),
    ],
    ids=range(14),
)
def test_a_damaged_or_foreign_file_is_told_and_its_network_trained_anew(
    cache, fits, capsys, content
):
    before = tasks.task(TINY)
    bad, *_ = cache.glob("*.npy")
    good = bad.read_bytes()
    bad.write_bytes(content)
    after = tasks.task(TINY)
    assert len(fits) == 2 + 1
    assert bad.read_bytes() == good
    assert_array_equal(after.model.theta, before.model.theta)
    told = capsys.readouterr().out
    assert told.startswith(f"{bad} is damaged, so its network is trained anew: 7,850 finite")
    assert told.count("\n") == 1


def test_a_cache_that_cannot_be_written_to_is_named_before_anything_is_trained(
    cache, fits, monkeypatch
):
    (cache / "file").write_text("")
    monkeypatch.setenv("RAINPP_CHECKPOINTS", str(cache / "file"))
    with pytest.raises(SettingsError, match=r"`.*file`.*RAINPP_CHECKPOINTS"):
        tasks.task(TINY)
    assert not fits


@pytest.mark.usefixtures("cache")
def test_a_record_has_everything_that_is_drawn(monkeypatch):
    monkeypatch.setattr(sweep, "_JOINS", 2)
    monkeypatch.setattr(sweep, "effort", lambda _: sweep.Effort(12, 3, None))
    record = sweep.measure(TINY)
    assert record["train_rows"] == 300
    assert record["corrupted_rows"] > 0
    assert len(record["eigenvalues"]) == 12
    assert record["eigenvalues"] == sorted(record["eigenvalues"], reverse=True)
    assert [found["query"] for found in record["queries"]] == ["Q3", "Q1"]
    for found in record["queries"]:
        assert len(found["k"]) == 12
        assert len(found["steps"]) == 3
    assert max(record["queries"][0]["k"]) > 0.8
    assert max(record["queries"][0]["steps"]) > 0.8
    assert len(record["complaints"]) == 12
    assert set(record["complaints"][0]) == {"query", "error", "relaxed_error", "peak", "opposite"}


def test_numbers_of_a_structure_go_into_one_array_and_back():
    structure = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.float32(7), jnp.arange(2))}
    values = flat(structure)
    assert values.dtype == np.float32
    back = unflat(values, structure)
    assert back["a"].dtype == structure["a"].dtype
    assert_array_equal(back["a"], structure["a"])
    assert_array_equal(back["b"][1], structure["b"][1])
    for wrong in (values[:-1], np.append(values, 0)):
        with pytest.raises(ShapeError, match="9 parameters"):
            unflat(wrong, structure)


@pytest.mark.parametrize("names", [("mnist", "cnn"), ("cifar10", "wrn10"), ("sst2", "lstm")])
def test_a_network_in_flax_comes_back_from_its_numbers(names):
    # An LSTM also has what draws random numbers, which is no number to keep.
    cell = Cell(*names, "flip", 0.2)
    made, fresh = (networks.trainee(replace(cell, seed=seed), 30) for seed in (0, 1))
    back = fresh.model(unflat(flat(made.untrained()), fresh.untrained()))
    rows = {"mnist": (28, 28, 1), "cifar10": (16, 16, 3)}.get(cell.data)
    tokens = {"tokens": np.arange(8).reshape(2, 4), "mask": np.ones((2, 4), bool)}
    inputs = tokens if rows is None else np.full((2, *rows), 0.5, np.float32)
    expected = made.model(made.untrained()).probabilities(inputs)
    assert_allclose(back.probabilities(inputs), expected, rtol=1e-6)
    assert np.ptp(expected) > 0


def test_training_on_other_rows_from_a_trained_model_ends_where_training_from_nothing_does():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 200)
    rows = (0.3 * generator.random((200, 784)) + 0.7 * np.eye(10, 784)[labels]).astype(np.float32)
    made = networks.trainee(TINY, 784)
    first = made.model(made.fitted(rows, labels))
    second = made.again(first, rows[:150], labels[:150])
    expected = made.model(made.fitted(rows[:150], labels[:150]))
    away = np.abs(expected.theta - first.theta).max()
    assert np.abs(second.theta - expected.theta).max() < 0.05 * away


def test_programs_are_kept_beside_the_checkpoints(tmp_path):
    code = "from experiments.paper.kept import keep_programs; import jax; keep_programs(); "
    code += "jax.jit(lambda x: x + 1)(1.0)"
    environment = os.environ | {"RAINPP_CHECKPOINTS": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list((tmp_path / "compiled").iterdir())


def test_measuring_some_cells_again_keeps_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.results, "FOLDER", tmp_path)
    calls = []

    def measured(cell):
        calls.append(cell.name)
        return {"cell": cell.name, "seed": cell.seed, "summary": "", "call": len(calls)}

    monkeypatch.setattr(sweep, "measure", measured)
    first, second = (Cell("mnist", "logistic", "flip", rate) for rate in (0.1, 0.2))
    sweep.measure_all([first, second], "small")
    sweep.measure_all([first, second], "small")
    assert calls == [first.name, second.name]
    sweep.measure_all([second], "small", again=True)
    saved = {run["cell"]: run["call"] for run in records.saved("small")}
    assert saved == {first.name: 1, second.name: 3}


@pytest.mark.parametrize("again", [False, True])
def test_what_another_command_saves_meanwhile_stays_and_is_not_measured(
    tmp_path, monkeypatch, again
):
    monkeypatch.setattr(sweep.results, "FOLDER", tmp_path)
    first, second, third = (Cell("mnist", "logistic", "flip", rate) for rate in (0.1, 0.2, 0.3))

    def record_of(cell, who):
        return {"cell": cell.name, "seed": cell.seed, "summary": "", "by": who}

    def measured(cell):
        if cell == first:
            sweep._save("small", [record_of(other, "other") for other in (second, third)])
        return record_of(cell, "me")

    monkeypatch.setattr(sweep, "measure", measured)
    found = sweep.measure_all([first, second], "small", again=again)
    who = {run["cell"]: run["by"] for run in records.saved("small")}
    assert who == {first.name: "me", second.name: "me" if again else "other", third.name: "other"}
    assert [run["cell"] for run in found] == [first.name, second.name]


def test_points_of_one_cell_measured_again_keep_those_of_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(fig11.results, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["fig11", "--again"])
    monkeypatch.setattr(fig11, "show", lambda: None)
    photos, digits = (cell.name for cell in fig11.wanted("small"))
    old = [{"cell": name, "data": "", "call": "old"} for name in (photos, digits)]
    fig11.results.save("paper_fig11_small", command="", settings={}, runs=old)

    def measured(cell):
        if cell.name == digits:
            raise KeyboardInterrupt
        return {"cell": cell.name, "call": "new"}

    monkeypatch.setattr(fig11, "measure", measured)
    with pytest.raises(KeyboardInterrupt):
        fig11.main()
    calls = {run["cell"]: run["call"] for run in records.saved("small", fig11.NAME)}
    assert calls == {photos: "new", digits: "old"}
