"""The demo end to end: wrong labels are found, the count heals, and nothing is hard-coded."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import rainpp
from rainpp.demo import run_demo
from rainpp.demo.digits import load_images, plant_errors
from rainpp.errors import DataError, RainError


@pytest.fixture(scope="module")
def steps():
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("the user's demo") / "new"


@pytest.fixture(scope="module")
def summary(folder, steps):
    return run_demo(folder, progress=lambda *step: steps.append(step))


def test_the_counts_heal(summary):
    ones, sevens = summary.counts
    assert ones.before < 0.7 * ones.counted
    assert sevens.before > 1.3 * sevens.counted
    assert summary.resolved
    assert summary.error_after < 0.2 * summary.error_before
    # No repair can be expected to count better than clean labels do, give or take a few rows.
    for item in summary.counts:
        assert abs(item.after - item.clean) <= 5
        assert abs(item.after_relaxed - item.predicted) <= 5


def test_the_planted_errors_are_found(summary):
    # Measured: AUC_R 0.954 to 0.989, precision 0.84 to 0.98, recall 0.75 to 0.95 over four seeds.
    assert summary.auc_r > 0.93
    assert summary.precision > 0.8
    assert summary.recall > 0.7
    assert summary.accuracy["after"] > summary.accuracy["before"] + 0.02
    assert 0.9 < summary.coverage <= 1


def test_what_is_planted_is_half_of_the_ones():
    images, digits = load_images()
    data = plant_errors(images, digits, seed=3)
    assert len(data.labels) + len(data.table_truth) == len(digits)
    assert set(data.truth[data.planted]) == {1}
    assert set(data.labels[data.planted]) == {7}
    assert data.planted.sum() == round(0.5 * (data.truth == 1).sum())


def test_the_files_can_be_used_on_their_own(summary, folder):
    assert {path.name for path in folder.iterdir()} == {
        "digits.duckdb",
        "digits.rain",
        "report.html",
    }
    assert rainpp.load(summary.index).k == summary.k
    with rainpp.connect(summary.database) as db:
        described = db.connection.execute("DESCRIBE digits").fetchall()
        assert [row[:2] for row in described] == [("id", "BIGINT"), ("image", "FLOAT[64]")]
        count = db.connection.execute("SELECT count(*) FROM digits").fetchall()
    assert count == [(summary.num_rows,)]


def test_the_report_tells_the_same_story(summary):
    text = summary.report.read_text("utf-8")
    ones = summary.counts[0]
    assert f'<span class="old">{ones.before}</span>' in text
    assert f'<span class="new">{ones.after}</span>' in text
    assert f"AUC_R {summary.auc_r:.3f}" in text
    assert text.count("data:image/png;base64,") == 20
    assert "predict" in text


def test_the_lines_hold_the_numbers(summary, capsys):
    lines = summary.lines()
    assert 10 <= len(lines) <= 14
    text = "\n".join(lines)
    for item in summary.counts:
        assert f"{item.before} -> {item.after}" in text
        assert f"counted by hand it is {item.counted}" in text
    assert str(summary.report) in text
    assert capsys.readouterr().out == ""


def test_the_numbers_are_json(summary):
    values = json.loads(json.dumps(summary.as_dict()))
    assert values["counts"][0]["after"] == summary.counts[0].after
    assert values["resolved"] is True
    assert values["report"] == str(summary.report)


def test_progress_goes_from_nothing_to_all(summary, steps):
    assert steps[0][1:3] == (0, 6)
    assert steps[-1][1:3] == (6, 6)
    assert [note for *_, note in steps][::2] == list(summary.seconds)


def test_the_same_seed_gives_the_same_numbers_over_old_files(summary, folder):
    again = run_demo(folder).as_dict()
    first = summary.as_dict()
    assert first.pop("seconds") != again.pop("seconds")
    assert first == again


def test_another_seed_plants_other_errors():
    images, digits = load_images()
    first, second = (plant_errors(images, digits, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.inputs, second.inputs)


def test_without_scikit_learn_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(RainError, match=r'pip install "rainpp\[demo\]"'):
        run_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_reported(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(DataError, match="cannot write to"):
        run_demo(tmp_path / "demo")
