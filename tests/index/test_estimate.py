"""What a dry run predicts, and that it refuses what the run would refuse and writes nothing."""

from __future__ import annotations

import shutil
from collections import namedtuple

import numpy as np
import pytest

import rainpp
from rainpp.errors import ArtifactError, DataError, MemoryBudgetError, SettingsError

Usage = namedtuple("Usage", "total used free")


def test_every_stage_has_a_time_and_the_total_is_their_sum(classifier):
    found = rainpp.estimate(classifier.model, classifier.inputs, classifier.labels, k=3)
    assert [stage.name for stage in found.stages][:4] == [
        "losses",
        "gradient",
        "eigenpairs",
        "projections",
    ]
    assert all(stage.seconds >= 0 for stage in found.stages)
    assert found.seconds == pytest.approx(sum(stage.seconds for stage in found.stages))
    assert found.most_seconds >= found.seconds
    assert str(found).count("\n") == len(found.stages) + 2


def test_disk_is_what_the_index_takes_and_no_less(classifier, tmp_path):
    path = tmp_path / "x.rain"
    found = rainpp.estimate(classifier.model, classifier.inputs, classifier.labels, k=3, path=path)
    assert not path.exists()
    rainpp.precompute(classifier.model, classifier.inputs, classifier.labels, k=3, path=path)
    arrays = sum(file.stat().st_size - 128 for file in path.glob("arrays/*.npy"))
    assert arrays <= found.disk <= arrays + 30 * classifier.model.num_params * 8


def test_batches_are_those_of_the_run(logistic):
    arguments = (logistic.model, logistic.inputs, logistic.labels)
    found = rainpp.estimate(*arguments, k=3, memory="1GB")
    used = rainpp.precompute(*arguments, k=3, memory="1GB").manifest["memory"]
    assert found.batches == {name: used[name]["batch"] for name in found.batches}


def test_what_the_run_would_refuse_is_refused(logistic, tmp_path):
    model, inputs, labels = logistic.model, logistic.inputs, logistic.labels
    with pytest.raises(DataError, match="labels"):
        rainpp.estimate(model, inputs, labels + 7)
    with pytest.raises(SettingsError, match="`k` is 99"):
        rainpp.estimate(model, inputs, labels, k=99)
    with pytest.raises(SettingsError, match="`memory` is 'much'"):
        rainpp.estimate(model, inputs, labels, memory="much")
    with pytest.raises(MemoryBudgetError, match="not even one row"):
        rainpp.estimate(model, inputs, labels, memory="1kB")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(ArtifactError, match="choose another path"):
        rainpp.estimate(model, inputs, labels, path=tmp_path)


def test_a_disk_that_is_too_full_is_refused(logistic, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 90, 10))
    arguments = (logistic.model, logistic.inputs, logistic.labels)
    with pytest.raises(ArtifactError, match=r"needs .*kB and .* has 10 bytes left"):
        rainpp.estimate(*arguments, path=tmp_path / "x.rain")
    assert np.isfinite(rainpp.estimate(*arguments).seconds)  # without a path nothing is written
