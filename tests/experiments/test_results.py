"""Results are written whole or not at all, and a file that is no result is named."""

from __future__ import annotations

import os
import threading

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
    "content", [b"", b'{"runs": [{"cell"', b"[]", b'{"runs": [1]}', b"{}", b"\xff\xfe", b"null"]
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


def keep(run):
    with results.joined("one", run, by="cell") as runs:
        save(*runs)


def test_a_run_takes_the_place_of_the_one_before_it():
    keep({"cell": "a", "call": 1})
    keep({"cell": "b", "call": 2})
    keep({"cell": "a", "call": 3})
    assert results.runs("one") == [{"cell": "a", "call": 3}, {"cell": "b", "call": 2}]


def test_two_that_save_at_the_same_time_keep_what_the_other_found(folder):
    with results.joined("one", {"cell": "a"}, by="cell") as runs:
        other = threading.Thread(target=keep, args=({"cell": "b"},))
        other.start()
        other.join(0.2)
        assert other.is_alive()  # it waits
        save(*runs)
    other.join(10)
    assert results.runs("one") == [{"cell": "a"}, {"cell": "b"}]
    assert [path.name for path in folder.iterdir()] == ["one.json"]


def test_runs_of_another_version_are_not_mixed_with_new_ones():
    save({"name": "a"})
    with pytest.raises(DataError, match=r"one\.json does not hold.*`cell`.*another version"):
        keep({"cell": "a"})
    assert results.runs("one") == [{"name": "a"}]


def case(seed, value, query="Q3", rows=10):
    return {"rate": 0.1, "seed": seed, "query": query, "train_rows": rows, "auc_r": value}


def test_cases_that_are_measured_again_take_their_places_and_the_others_stay():
    save(case(0, 0.5), case(0, 0.6, "Q1"), case(2, 0.7))
    for new in (case(0, 0.8), case(1, 0.9)):
        results.merge("one", [new], command="python -m experiments.one", l2=0.1)
    body = results.load("one")
    assert [run["auc_r"] for run in body["runs"]] == [0.8, 0.6, 0.7, 0.9]
    assert body["settings"] == {"rates": [0.1], "seeds": [0, 1, 2], "l2": 0.1}


def test_cases_of_another_size_go_and_are_not_there():
    save(case(0, 0.5), case(1, 0.6))
    asked = [(0.1, 0, "Q3"), (0.1, 1, "Q3")]
    assert results.merged("one", asked, 10)
    assert not results.merged("one", asked, 20)
    results.merge("one", [case(0, 0.8, rows=20)], command="", l2=0.1)
    assert [run["auc_r"] for run in results.runs("one")] == [0.8]
    assert not results.merged("one", asked, 20)
