"""What somebody who waits sees: lines in a pipe, remarks about eigenpairs, nothing on stdout."""

from __future__ import annotations

import numpy as np
import pytest

import rainpp
from rainpp import terminal
from rainpp.lanczos import watch
from rainpp.lanczos.watch import ritz_note, watched
from rainpp.model import Model


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by as much as it is told."""
    time = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(watch.time, "monotonic", lambda: time[0])

    def forward(seconds):
        time[0] += seconds

    return forward


def test_a_long_step_in_a_pipe_says_every_ten_seconds_how_far_it_is(clock, capsys):
    with terminal.ProgressBars() as progress:
        for done in range(41):
            progress("projections", done, 40, "note")
            clock(1.0 if done < 40 else 0.0)
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.splitlines() == [
        "projections: 10 of 40, at most 30 s left, note",
        "projections: 20 of 40, at most 20 s left, note",
        "projections: 30 of 40, at most 10 s left, note",
        "projections: 40 of 40 in 40.0 s",
    ]


def test_what_was_done_before_does_not_count_as_speed(clock, capsys):
    with terminal.ProgressBars() as progress:
        progress("projections", 30, 40)
        clock(10.0)
        progress("projections", 35, 40)
    assert "projections: 35 of 40, at most 10 s left" in capsys.readouterr().err


def test_the_remark_shows_ritz_values_and_which_have_converged():
    values = np.array([3.0, 2.0, 1.5, 1.0, 0.5, 0.25, 0.1])
    assert ritz_note(values, 2) == "2 converged: 3 2 | 1.5 1 0.5 0.25 …"
    assert ritz_note(values[:1], 0) == "0 converged: | 3"


def test_a_lanczos_run_says_how_many_rows_a_second(clock):
    said = []
    report = watched(lambda *what: said.append(what), "all", 1000)
    report("eigenpairs", 1, 20, "x")
    clock(2.0)
    report("eigenpairs", 5, 20, "y")
    assert said == [
        ("eigenpairs, all", 1, 20, "x"),
        ("eigenpairs, all", 5, 20, "2,000 rows/s; y"),
    ]


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_every_stage_of_a_build_is_reported_and_ends_at_its_total():
    rng = np.random.default_rng(0)
    model = Model(lambda p, x: x @ p, rng.normal(size=(4, 3)), l2=0.1)
    stages = {}

    def progress(stage, done, total, note=""):
        stages.setdefault(stage, []).append((done, total, note))

    rainpp.precompute(
        model, rng.normal(size=(90, 4)), rng.integers(0, 3, 90), k=2, progress=progress
    )
    assert list(stages) == ["losses and gradient", "eigenpairs, all", "projections"]
    assert stages["projections"][-1][:2] == (90, 90)
    assert "converged: " in stages["eigenpairs, all"][-1][2]
