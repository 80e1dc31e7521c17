"""Results are written whole or not at all, and a file that is no result is named."""

from __future__ import annotations

import os

import pytest

from experiments import results
from rainpp.errors import DataError, SettingsError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


def save(*runs, name="one"):
    return results.save(name, command="python -m experiments.one", settings={}, runs=list(runs))


@pytest.mark.parametrize("stopped", ["fsync", "replace"])
def test_a_save_that_is_interrupted_leaves_the_old_results(folder, monkeypatch, stopped):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = save({"cell": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(os, stopped, interrupted)
        with pytest.raises(KeyboardInterrupt):
            save({"cell": "a"}, {"cell": "b"})
    assert results.runs("one") == [{"cell": "a"}]
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize(
    "content", [b"", b'{"runs": [{"cell"', b"[]", b'{"runs": 1}', b"{}", b"\xff\xfe", b"null"]
)
def test_a_file_that_is_no_result_is_named_with_what_to_do(content):
    path = save({"cell": "a"})
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"one\.json does not hold results.*git checkout.*move"):
        results.runs("one")


def test_a_folder_that_cannot_be_written_to_is_named(folder):
    folder.write_text("a file")
    with pytest.raises(SettingsError, match=r"cannot write to the folder .*results"):
        save()
