"""The runner of all experiments names modules that are there, and knows what is done."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from experiments import all as runner
from experiments import results


@pytest.mark.parametrize("step", runner.STEPS, ids=lambda step: step.module)
def test_every_step_is_a_module_that_can_be_run(step):
    found = importlib.util.find_spec(f"experiments.{step.module}")
    assert found is not None
    assert found.origin is not None
    with open(found.origin) as source:
        assert '__name__ == "__main__"' in source.read()


def test_at_small_size_the_papers_figures_are_made_once_each():
    small, full = ([s.module for s in runner.chosen(size, None)] for size in ("small", "full"))
    assert "paper.times" in small
    assert "paper.fig1" not in small
    assert "fidelity" not in small
    assert "fidelity" in full
    assert [s.module for s in runner.chosen("small", ["fig1"])] == ["paper.fig1"]


def test_a_step_that_is_done_is_not_done_again(tmp_path, monkeypatch):
    called = []

    def fail(command, **options):
        assert options == {"check": False}
        called.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(runner.subprocess, "run", fail)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    step = runner.Step("fidelity", "something", beyond=True)
    assert not runner.run(step, "small", again=False)  # it failed
    (tmp_path / "fidelity.json").write_text("{}")
    assert runner.run(step, "small", again=False)
    assert len(called) == 1
    assert not runner.run(step, "small", again=True)
    assert called[1] == [sys.executable, "-m", "experiments.fidelity"]


def test_a_figure_is_told_its_size_and_what_only_draws_measures_nothing_again():
    made, drawn = (runner.Step("paper.x", "", drawn=drawn) for drawn in (False, True))
    assert runner.command(made, "full", again=True)[3:] == ["--size", "full", "--again"]
    assert runner.command(drawn, "full", again=True)[3:] == ["--size", "full"]
