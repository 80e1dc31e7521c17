"""A command ends with one line where the user can mend something, never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from experiments import all as runner
from experiments import commands
from experiments.paper import sweep, times, timing, train_rank_fix
from experiments.paper.cells import FLIP_RATES, Cell, cells, named
from rainpp.errors import DataError, SettingsError


def raising(problem):
    def main():
        raise problem

    return main


def test_what_a_user_can_mend_is_one_line():
    with pytest.raises(SystemExit) as ended:
        commands.run(raising(DataError("no mnist.npz\nin /nowhere.")))
    assert ended.value.code == "error: no mnist.npz in /nowhere."


def test_an_interrupted_command_says_so_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        commands.run(raising(KeyboardInterrupt()))
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted: what was saved is kept\n"


def test_help_of_a_command_without_options_does_nothing(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(sys, "argv", ["tables"])
    commands.without_options(lambda: calls.append(1), "What it does.\n\nMore.")
    monkeypatch.setattr(sys, "argv", ["tables", "--help"])
    with pytest.raises(SystemExit) as ended:
        commands.without_options(lambda: calls.append(2), "What it does.\n\nMore.")
    assert (calls, ended.value.code) == ([1], 0)
    assert "What it does." in capsys.readouterr().out


def test_an_error_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        commands.run(raising(ZeroDivisionError()))


@pytest.mark.parametrize("step", [s for s in runner.STEPS if not s.beyond], ids=lambda s: s.module)
def test_every_command_of_the_paper_ends_so(step):
    name = step.module.replace(".", "/")
    with open(f"{os.path.dirname(runner.__file__)}/{name}.py") as source:
        assert "\n    commands.run(" in source.read()


def test_data_that_are_not_there_end_a_command_in_one_line(tmp_path):
    environment = os.environ | {"RAINPP_DATA": str(tmp_path / "nowhere")}
    command = [sys.executable, "-m", "experiments.paper.train_rank_fix", "--seeds", "987"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: no mnist.npz or ")
    assert "RAINPP_DATA" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_results_that_cannot_be_saved_are_not_measured(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sweep.results, "FOLDER", tmp_path / "file")
    monkeypatch.setattr(sweep, "measure", lambda _: pytest.fail("it was measured"))
    with pytest.raises(SettingsError, match="cannot write to the folder"):
        sweep.measure_all([Cell("mnist", "logistic", "flip", 0.1)], "small", again=True)


def test_the_runner_tells_pages_that_cannot_be_made_at_its_end(monkeypatch):
    def ended(command, **_):
        return subprocess.CompletedProcess(command, int(command[-1].endswith("tables")))

    monkeypatch.setattr(runner.subprocess, "run", ended)
    monkeypatch.setattr(runner, "chosen", lambda *_: [])
    monkeypatch.setattr(sys, "argv", ["all"])
    with pytest.raises(SystemExit, match="failed: tables; the other steps are done"):
        runner.main()


@pytest.mark.parametrize("words", [[], ["sst2", "lstm"], ["adult logistic, men 50%, seed 0"]])
def test_the_sweep_measures_the_cells_that_are_named(monkeypatch, words):
    measured = []
    monkeypatch.setattr(sweep, "measure_all", lambda wanted, *_, **__: measured.extend(wanted))
    monkeypatch.setattr(sys, "argv", ["sweep", *(["--only", *words] if words else [])])
    sweep.main()
    assert measured == [c for c in cells("small") if all(word in c.name for word in words)]
    assert measured


def test_cells_that_take_long_are_measured_when_they_are_named():
    found = named("small", ["mnist", "cnn", "two flips"])
    asked = {(rate, seed) for rate in FLIP_RATES for seed in (0, 1, 2)}
    assert sorted((cell.rate, cell.seed) for cell in found) == sorted(asked)
    assert not {cell.name for cell in found if cell.seed} & {cell.name for cell in cells("small")}


@pytest.mark.parametrize("words", [["mnits"], ["mnist", "lstm"]])
def test_words_that_name_no_cell_are_told_with_what_there_is(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["sweep", "--only", *words])
    with pytest.raises(SettingsError, match=r"no cell of size small.*sst2 lstm.*two flips") as why:
        sweep.main()
    assert str(words) in str(why.value)


def measured_by_times(monkeypatch, tmp_path, *words):
    monkeypatch.setattr(sweep.results, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["times", "--only", *words])
    measured = []
    monkeypatch.setattr(timing.Saved, "measure", lambda _, parts, **__: measured.append(parts))
    times.main()
    return measured


def test_words_that_one_figure_knows_are_enough_for_all_of_them(monkeypatch, tmp_path):
    assert len(measured_by_times(monkeypatch, tmp_path, "mnist cnn")) == 4
    assert len(measured_by_times(monkeypatch, tmp_path, "k=5 10 ")) == 1
    with pytest.raises(SettingsError, match=r"'mnits'.*no part of fig1.*There are mnist logistic"):
        measured_by_times(monkeypatch, tmp_path, "mnits")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (sweep.main, ["--only"]),
        (times.main, ["--only"]),
        (train_rank_fix.main, ["--seeds", "-1"]),
        (train_rank_fix.main, ["--seeds", "one"]),
    ],
)
def test_a_wrong_option_is_a_usage_error(monkeypatch, capsys, main, arguments):
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err
