"""The command line: what goes to stdout, what to stderr, and how it ends."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import rainpp
from rainpp import terminal
from rainpp.cli import app
from rainpp.database import Database
from rainpp.lanczos.curvature import Curvature

COMMANDS = ["demo", "precompute", "complain", "verify", "repair", "inspect", "watch", "serve"]
RAINPP = [sys.executable, "-m", "rainpp.cli"]
SQL = "SELECT region, count(*) AS n FROM photos WHERE predict(x, y) = 1 GROUP BY region"
COMPLAIN = ["complain", SQL, "--column", "n", "--where", "region=EU", "--should", "decrease"]

FIT = ["--fit", "rainpp_test_shop:fit"]
PROVE = ["verify", *COMPLAIN[1:], *FIT]
REPAIR = ["repair", *COMPLAIN[1:], *FIT]
REPAIRED = ["--index", "repaired.rain", "--repair", "rainpp_test_shop:HALVE",
            "--repair", "rainpp_test_shop:negate"]  # fmt: skip

SHOP = """
import numpy as np
import rainpp

def apply(params, inputs):
    return inputs @ params["dense"]["kernel"] + params["dense"]["bias"][None, :]

def clothing(checkpoint_path):
    return rainpp.Model(apply, rainpp.load_checkpoint(checkpoint_path), l2=1e-2)

def number(checkpoint):
    return 3

def crash(checkpoint_path):
    return rainpp.load_checkpoint(checkpoint_path)["no such layer"]

def fit(inputs, labels):
    print("epoch 1")
    return trained(inputs, labels)

def unchanged(inputs, labels):
    return rainpp.load_checkpoint("model.npz")

def fit_crash(inputs, labels):
    raise OSError("no GPU")

def fit_wide(inputs, labels):
    return {"dense": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}}

HALVE = rainpp.Replace("halve", lambda rows: rows * 0.5)

def negate():
    return rainpp.Replace("negate", lambda rows: -rows)

def repair_crash():
    raise OSError("no dictionary")
"""

SETTINGS = """
[model]
factory = "rainpp_test_shop:clothing"
checkpoint = "model.npz"
[training]
path = "train.parquet"
id = "id"
[index]
path = "shop.rain"
k = 4
[database]
path = "shop.duckdb"
table = "photos"
args = ["x", "y"]
"""


def trained(inputs, labels, l2=1e-2):
    """Softmax regression of two classes at its optimum: logits ±m/2 with m a logistic margin."""
    rows = np.column_stack([inputs, np.ones(len(inputs))]).astype(np.float64)
    weights = np.zeros(3)
    for _ in range(30):
        positive = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (positive - labels) / len(rows) + l2 / 2 * weights
        curve = (rows.T * (positive * (1 - positive))) @ rows / len(rows) + l2 / 2 * np.eye(3)
        weights -= np.linalg.solve(curve, slope)
    both = np.stack([-weights / 2, weights / 2], axis=1).astype(np.float32)
    return {"dense": {"kernel": both[:2], "bias": both[2]}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a trained model, its rows, rainpp.toml and a database."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(80, 2)).astype(np.float32)
    labels = (inputs @ [2.0, 1.0] > 0).astype(int)
    labels[:6] = 1 - labels[:6]
    rainpp.save_checkpoint(trained(inputs, labels), folder / "model.npz")
    columns = {"x": inputs[:, 0], "y": inputs[:, 1], "label": labels, "id": np.arange(80) + 1000}
    pq.write_table(pa.table(columns), folder / "train.parquet")
    (folder / "rainpp_test_shop.py").write_text(SHOP + inspect.getsource(trained))
    (folder / "rainpp.toml").write_text(SETTINGS)
    points = rng.normal(size=(60, 2)).astype(np.float32)
    photos = pa.table({"x": points[:, 0], "y": points[:, 1], "region": ["EU", "US", "JP"] * 20})
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.register("source", photos)
        connection.execute("CREATE TABLE photos AS SELECT * FROM source")
    return folder


@pytest.fixture
def here(shop, monkeypatch):
    """The shop as the current folder, its module forgotten afterwards."""
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield shop
    sys.modules.pop("rainpp_test_shop", None)


@pytest.fixture
def indexed(here):
    """The shop with its index built, by the command itself."""
    if not (here / "shop.rain").exists():
        assert run("precompute", "model.npz").exit_code == 0
    return here


@pytest.fixture
def repaired(here):
    """The shop with an index of two repairs beside deletions and relabels."""
    if not (here / "repaired.rain").exists():
        assert run("precompute", "model.npz", *REPAIRED).exit_code == 0
    return here


def run(*arguments):
    """In this process: quick, and the warnings of the libraries still count."""
    return CliRunner().invoke(app, list(arguments))


def call(*arguments, **more):
    """In a process of its own, as a user would."""
    return subprocess.run([*RAINPP, *arguments], capture_output=True, text=True, timeout=60, **more)


def error_of(result):
    """The one line a failing command may say."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    return result.stderr


# -- the commands


def test_precompute_builds_the_index_and_stores_the_table(here):
    result = run("precompute", "model.npz", "--json")
    assert result.exit_code == 0, result.stderr
    about = json.loads(result.stdout)
    assert about["k"] == 4
    assert about["training_rows"] == 80
    assert about["tables"] == "photos"
    index = rainpp.load(here / "shop.rain")
    assert index.manifest["interventions"] == ["delete", "relabel"]
    assert index.arrays["train_ids"][0] == 1000


def test_a_dry_run_says_what_it_will_cost_and_writes_nothing(here):
    result = run("precompute", "model.npz", "--index", "dry.rain", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["seconds"] > 0
    assert [stage["name"] for stage in found["stages"]][2] == "eigenpairs"
    words = run("precompute", "model.npz", "--index", "dry.rain", "--dry-run").stdout
    assert "memory beside the rows: " in words
    assert "disk: " in words
    assert not (here / "dry.rain").exists()


def test_a_memory_budget_is_kept_in_the_manifest_and_nonsense_is_refused(here):
    result = run("precompute", "model.npz", "--index", "small.rain", "--memory", "64MB")
    assert result.exit_code == 0, result.stderr
    assert rainpp.load(here / "small.rain").manifest["memory"]["budget"] == 64_000_000
    wrong = run("precompute", "model.npz", "--index", "none.rain", "--memory", "much")
    assert "`memory` is 'much'" in error_of(wrong)
    tight = run("precompute", "model.npz", "--index", "none.rain", "--memory", "50B")
    assert "not even one row at a time fits" in error_of(tight)


def test_inspect_shows_the_self_checks(indexed):
    lines = run("inspect", str(indexed / "shop.rain")).stdout.splitlines()
    assert [line for line in lines if line.startswith("ok \tadjoint\t")]
    found = json.loads(run("inspect", "shop.rain", "--json").stdout)
    names = [check["name"] for check in found["manifest"]["self_checks"]]
    assert {"eigenpair residuals", "batch split", "float64", "coverage"} <= set(names)


def test_flags_stand_in_for_the_file(here, tmp_path):
    (tmp_path / "empty.toml").touch()
    flags = {
        "--config": tmp_path / "empty.toml",
        "--model": "rainpp_test_shop:clothing",
        "--training": here / "train.parquet",
        "--id": "id",
        "--index": tmp_path / "other.rain",
        "--k": 2,
        "--intervention": "delete",
    }
    words = [str(word) for pair in flags.items() for word in pair]
    result = run("precompute", str(here / "model.npz"), *words)
    assert result.exit_code == 0, result.stderr
    assert "k\t2\n" in result.stdout
    assert "interventions\tdelete\n" in result.stdout


@pytest.mark.usefixtures("indexed")
def test_complain_prints_a_table_of_rows():
    result = run(*COMPLAIN, "--top", "5")
    assert result.exit_code == 0, result.stderr
    header, *lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert header[:4] == ["train_id", "intervention", "detail", "score"]
    assert len(lines) == 5
    assert all(1000 <= int(line[0]) < 1080 for line in lines)
    assert "`n` where region='EU' is" in result.stderr
    assert "should decrease" in result.stderr


@pytest.mark.usefixtures("indexed")
def test_complain_agrees_with_the_library():
    answer = json.loads(run(*COMPLAIN, "--top", "5", "--json").stdout)
    import rainpp_test_shop

    model = rainpp_test_shop.clothing("model.npz")
    with rainpp.connect("shop.duckdb") as db:
        db.register_model("predict", model, rainpp.load("shop.rain"))
        cell = db.sql(SQL).complain("n", where={"region": "EU"}, should="decrease")
        expected = cell.rank().top(5)
    assert [row["train_id"] for row in answer["ranking"]] == expected.train_id.tolist()
    # Of two classes a deletion and a relabel of one row tie: which comes first is rounding.
    assert answer["ranking"][0]["score"] == pytest.approx(expected.score[0], rel=1e-5)
    assert 0 <= answer["coverage"] <= 1
    assert answer["value"] == cell.complaint.hard


@pytest.mark.usefixtures("indexed")
def test_refine_reads_the_training_rows():
    answer = json.loads(run(*COMPLAIN, "--refine", "4", "--json").stdout)
    assert 1 <= answer["refined_steps"] <= 4  # fewer where nothing is left to solve


@pytest.mark.usefixtures("indexed")
def test_a_fix_is_written_as_a_patch(tmp_path):
    file = tmp_path / "fix.parquet"
    found = run(*COMPLAIN, "--fix", str(file), "--by", "1", "--top", "2")
    assert found.exit_code == 0, found.stderr
    assert "resolves the complaint) written to" in found.stderr
    patch = rainpp.read_patch(file)
    assert len(patch) > 0
    refused = run(*COMPLAIN, "--fix", str(tmp_path / "other.parquet"))
    assert refused.exit_code == 1
    assert "say by how much" in refused.stderr
    assert not (tmp_path / "other.parquet").exists()


@pytest.mark.usefixtures("indexed")
def test_verify_agrees_with_the_library():
    proof = json.loads(run(*PROVE, "--top", "5", "--json").stdout)
    import rainpp_test_shop

    model = rainpp_test_shop.clothing("model.npz")
    rows = pq.read_table("train.parquet").to_pandas()
    data = (rows[["x", "y"]].to_numpy(np.float32), rows["label"].to_numpy())
    with rainpp.connect("shop.duckdb") as db:
        db.register_model("predict", model, rainpp.load("shop.rain"), data=data)
        cell = db.sql(SQL).complain("n", where={"region": "EU"}, should="decrease")
        expected = rainpp.verify(cell.rank(), fit=trained, top=5)
    assert proof["interventions"] == 5
    assert (proof["before"], proof["after"]) == (expected.before, expected.after)
    # Ties, as above: a relabel moves the model a little further than a deletion.
    assert proof["predicted"] == pytest.approx(expected.predicted, rel=1e-2)
    assert proof["resolved"] == expected.outcomes[0].resolved
    assert proof["after_relaxed"] == pytest.approx(proof["predicted"], abs=0.05)


@pytest.mark.usefixtures("indexed")
def test_verify_prints_one_line_and_what_training_prints_is_no_data():
    found = run(*PROVE, "--top", "20")
    assert found.exit_code == 0, found.stderr
    header, line = [line.split("\t") for line in found.stdout.splitlines()]
    assert header[:4] == ["before", "predicted", "after", "resolved"]
    assert line[3] == "yes"
    assert float(line[2]) < float(line[0])
    assert "epoch 1" in found.stderr
    assert "the complaint holds after training again with 20 interventions" in found.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("indexed")
def test_what_training_prints_is_no_data_of_a_process_either():
    alone = call(*PROVE, "--top", "5", "--json")
    assert (alone.returncode, json.loads(alone.stdout)["interventions"]) == (0, 5)


@pytest.mark.usefixtures("indexed")
def test_a_complaint_that_does_not_hold_afterwards_is_said_loudly():
    found = run(*PROVE[:-2], "--fit", "rainpp_test_shop:unchanged", "--top", "1")
    assert found.exit_code == 0, found.stderr
    assert found.stdout.splitlines()[1].split("\t")[3] == "no"
    assert "the complaint does NOT hold after training again" in found.stderr
    gone = run(*PROVE, "--top", "40", "--json")
    assert (json.loads(gone.stdout)["after"], gone.exit_code) == (None, 0)
    assert "does NOT hold" in gone.stderr
    assert "the row is no longer in the answer" in gone.stderr
    assert json.loads(run(*PROVE, "--json").stdout)["interventions"] == 80


@pytest.mark.usefixtures("indexed")
def test_fit_may_stand_in_the_settings_and_a_patch_is_proved(tmp_path):
    Path("fitting.toml").write_text(
        SETTINGS.replace("[training]", 'fit = "rainpp_test_shop:fit"\n[training]')
    )
    file, settings = str(tmp_path / "fix.parquet"), ["--config", "fitting.toml"]
    assert run(*COMPLAIN, "--fix", file, "--by", "1").exit_code == 0
    proof = json.loads(run(*PROVE[:-2], *settings, "--patch", file, "--json").stdout)
    assert proof["interventions"] == len(rainpp.read_patch(file))
    assert proof["after_relaxed"] == pytest.approx(proof["predicted"], abs=0.05)


@pytest.mark.usefixtures("indexed")
def test_repair_prints_its_rounds_and_why_it_ended(tmp_path):
    file = tmp_path / "all.parquet"
    words = ["--by", "2", "--kind", "relabel", "--rounds", "3", "--patch", str(file)]
    found = run(*REPAIR, *words)
    assert found.exit_code == 0, found.stderr
    header, *lines = [line.split("\t") for line in found.stdout.splitlines()]
    assert header[:5] == ["number", "changed", "touched", "predicted", "value"]
    assert 1 <= len(lines) <= 3
    assert "resolved after" in found.stderr
    assert "the complaint holds" in found.stderr
    assert "round 1: " in found.stderr
    patch = rainpp.read_patch(file)
    assert len(patch) == int(lines[-1][2])
    assert set(patch.frame["intervention"]) == {"relabel"}
    proof = json.loads(run(*PROVE, "--patch", str(file), "--json").stdout)
    assert proof["after"] == float(lines[-1][4])


@pytest.mark.usefixtures("indexed")
def test_a_loop_whose_budget_ends_is_said_loudly():
    found = run(*REPAIR, "--by", "15", "--most", "2", "--json")
    assert found.exit_code == 0, found.stderr
    about = json.loads(found.stdout)
    assert (about["resolved"], about["touched"]) == (False, 2)
    assert about["ended"] == "2 rows were changed"
    assert [each["number"] for each in about["rounds"]] == [1]
    assert "NOT resolved after 1 rounds: 2 rows were changed" in found.stderr
    about = json.loads(run(*REPAIR, "--by", "15", "--most", "2", "--rounds", "1", "--json").stdout)
    assert about["ended"] == "the rounds ended"


@pytest.mark.usefixtures("indexed")
@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_a_loop_that_is_stopped_keeps_the_rounds_before(tmp_path, monkeypatch):
    file, calls = tmp_path / "all.parquet", []

    def stopped(*_):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rainpp.load_checkpoint("model.npz")  # as if nothing had helped

    monkeypatch.setattr("rainpp.workspace.load_fit", lambda _: stopped)
    words = ["--by", "1", "--kind", "delete", "--patch", str(file)]
    found = run(*REPAIR, *words)
    assert found.exit_code == 130, found.stderr
    assert "round 2 was interrupted" in found.stderr
    touched = int(found.stdout.splitlines()[-1].split("\t")[2])
    assert len(rainpp.read_patch(file)) == touched > 0
    file.unlink()
    calls[:] = [1]
    found = run(*REPAIR, *words)
    assert (found.exit_code, found.stdout, file.exists()) == (130, "", False)


@pytest.mark.usefixtures("indexed")
def test_the_patch_is_written_before_stdout_whose_reader_may_be_gone(tmp_path, monkeypatch):
    def gone(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("rainpp.cli.show_loop", gone)
    monkeypatch.setattr("rainpp.terminal.os.dup2", lambda *_: None)
    file = tmp_path / "all.parquet"
    run(*REPAIR, "--by", "1", "--patch", str(file))
    assert len(rainpp.read_patch(file)) > 0


@pytest.mark.usefixtures("indexed")
def test_code_that_ends_the_program_is_an_error_and_an_amount_needs_a_fix():
    found = run(*REPAIR, "--by", "1", "--repair", "sys:exit")
    assert "your code ended the program with sys.exit(None)" in error_of(found)
    assert run(*COMPLAIN, "--by", "1").exit_code == 2


@pytest.mark.usefixtures("indexed")
def test_where_a_fix_goes_is_looked_at_before_the_work(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("rainpp.workspace.open_database", never)
    found = run(*COMPLAIN, "--by", "1", "--fix", str(tmp_path))
    assert "it is a folder" in error_of(found)


@pytest.mark.usefixtures("repaired")
def test_precompute_says_what_each_family_cost(tmp_path):
    shown = run("precompute", "model.npz", *REPAIRED[2:], "--index", str(tmp_path / "a.rain"))
    costs = [line for line in shown.stdout.splitlines() if line.startswith("projecting")]
    assert [line.split("\t")[0] for line in costs] == [
        "projecting delete, relabel", "projecting halve", "projecting negate",
    ]  # fmt: skip
    assert all(line.endswith(" ms each") for line in costs)
    words = [*REPAIRED[2:], "--index", str(tmp_path / "b.rain"), "--json"]
    about = json.loads(run("precompute", "model.npz", *words).stdout)
    assert about["interventions"] == "delete, relabel, halve, negate"
    assert [each["interventions"] for each in about["projecting"]] == [160, 80, 80]
    for each in about["projecting"]:
        assert each["seconds_each"] == pytest.approx(each["seconds"] / each["interventions"])
        assert each["seconds"] > 0
    again = json.loads(run("precompute", "model.npz", *words).stdout)
    assert again["projecting"] == []


@pytest.mark.usefixtures("repaired")
def test_repairs_are_at_hand_where_they_are_applied(tmp_path):
    names = 'repairs = ["rainpp_test_shop:HALVE", "rainpp_test_shop:negate"]'
    Path("repairs.toml").write_text(SETTINGS.replace('"shop.rain"', f'"repaired.rain"\n{names}'))
    settings, file = ["--config", "repairs.toml"], str(tmp_path / "fix.parquet")
    found = run(*COMPLAIN, *settings, "--fix", file, "--by", "3", "--top", "80")
    assert found.exit_code == 0, found.stderr
    assert "replace" in set(rainpp.read_patch(file).frame["intervention"])
    proof = run(*PROVE, *settings, "--patch", file, "--json")
    assert proof.exit_code == 0, proof.stderr
    loop = run(*REPAIR, *settings, "--by", "1", "--kind", "negate", "--json")
    assert loop.exit_code == 0, loop.stderr
    assert json.loads(loop.stdout)["touched"] > 0
    bare = run(*PROVE, "--index", "repaired.rain", "--patch", file)
    assert "not at hand" in error_of(bare)
    assert run(*COMPLAIN, "--index", "repaired.rain").exit_code == 0
    nothing = ["--index", "repaired.rain", "--repair", "nowhere:NOTHING"]
    assert run(*COMPLAIN, *nothing).exit_code == 0  # a ranking needs no function


@pytest.mark.usefixtures("indexed")
def test_target_row_and_numbers_in_where():
    sql = SQL.replace("region,", "length(region) AS size, region,")
    found = run("complain", sql, "--column", "n", "--where", "size=2", "--where", "region=US",
                "--should", "at_least", "--target", "1000")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert "size=2, region='US'" in found.stderr or "region='US'" in found.stderr
    found = run(
        "complain", SQL, "--column", "n", "--row", "1", "--should", "equal", "--target", "3"
    )
    assert found.exit_code == 0, found.stderr


@pytest.mark.usefixtures("indexed")
def test_inspect():
    result = run("inspect", "shop.rain")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == "name\tvalue"
    assert "at_optimum\tyes" in result.stdout
    inspected = json.loads(run("inspect", "shop.rain", "--json").stdout)
    assert len(inspected["eigenvalues"]) == 4
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    pairs = dict(line for line in lines if len(line) == 2)
    shown = [float(value) for value in pairs["eigenvalues"].split()]
    assert shown == pytest.approx(inspected["eigenvalues"], rel=1e-2)
    assert inspected["manifest"]["num_train"] == 80


class Summary:
    """What `rainpp.demo.run_demo` gives back, as far as the command looks at it."""

    def lines(self):
        return ["before 5", "after 3"]

    def as_dict(self):
        return {"before": 5, "after": np.int64(3)}


def test_demo_prints_its_summary(tmp_path, monkeypatch):
    asked = []

    def run_demo(output, *, progress):
        progress("training", 1, 1)
        asked.append(output)
        return Summary()

    monkeypatch.setitem(sys.modules, "rainpp.demo", types.SimpleNamespace(run_demo=run_demo))
    result = run("demo", "--output", str(tmp_path))
    assert (result.stdout, result.stderr) == ("before 5\nafter 3\n", "")
    assert asked == [tmp_path]
    assert json.loads(run("demo", "--json").stdout) == {"before": 5, "after": 3}


# -- how commands end


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nothing.rain"], "no index at `nothing.rain`"),
        (["precompute", "none.npz"], "`[model] checkpoint` is `none.npz`, where there is nothing"),
        (["precompute", "--k", "0"], "`[index] k` in the flag is '0'"),
        (["precompute", "--config", "no.toml"], "cannot read the settings `no.toml`"),
        (["precompute", "--model", "rainpp_test_shop:shoes"], "has no function `shoes`"),
        (["precompute", "--model", "rainpp_test_shop:number"], "returned a int"),
        (["precompute", "--model", "rainpp_test_shop:crash"], "KeyError: 'no such layer'"),
        (["precompute", "--label", "kind"], "no column `kind`"),
        ([*COMPLAIN[:-1], "equal"], "needs a finite `target`"),
        ([*COMPLAIN, "--database", "none.duckdb"], "`[database] path` is `none.duckdb`"),
        ([*COMPLAIN, "--index", "none.rain"], "no index at `none.rain`"),
        (["complain", "SELEC 1", *COMPLAIN[2:]], "SELEC"),
        (["complain", SQL, "--column", "m", *COMPLAIN[4:]], "no column 'm'"),
        ([*COMPLAIN[:5], "region=XX", *COMPLAIN[6:]], "XX"),
        (PROVE[:-2], "`[model] fit` is missing"),
        ([*PROVE[:-1], "rainpp_test_shop:train"], "has no function `train`"),
        ([*PROVE[:-1], "rainpp_test_shop:crash"], "cannot be called as crash(inputs, labels)"),
        ([*PROVE[:-1], "rainpp_test_shop:fit_crash"], "`fit` fails: OSError: no GPU"),
        ([*PROVE[:-1], "rainpp_test_shop:fit_wide"], "of shape (3,)"),
        ([*PROVE, "--patch", "none.parquet"], "cannot read the patch `none.parquet`"),
        ([*PROVE, "--patch", "train.parquet"], "no patch that rainpp wrote"),
        ([*PROVE, "--training", "none.npz"], "`[training] path` is `none.npz`"),
        ([*PROVE, "--row", "0"], "not both"),
        (REPAIR[:-2], "`[model] fit` is missing"),
        (REPAIR, "say by how much"),
        ([*REPAIR, "--by", "0"], "`by` is 0.0"),
        ([*REPAIR, "--by", "1", "--kind", "blur"], "there is no intervention 'blur'"),
        ([*REPAIR[:-1], "rainpp_test_shop:fit_crash", "--by", "1"], "`fit` fails: OSError"),
        ([*REPAIR[:-1], "rainpp_test_shop:fit_wide", "--by", "1"], "of shape (3,)"),
        ([*PROVE, "--repair", "rainpp_test_shop:HALVE"], "the index has no repair 'halve'"),
        (["precompute", "--repair", "rainpp_test_shop:none"], "has no `none`"),
        (["precompute", "--repair", "rainpp_test_shop:fit"], "cannot be called as fit()"),
        (["precompute", "--repair", "rainpp_test_shop:np"], "gives a module"),
        (["precompute", "--repair", "rainpp_test_shop:repair_crash"], "OSError: no dictionary"),
        (["precompute", "--repair", "shop"], "`[index] repairs` in the flag is ['shop']"),
    ],
)
def test_errors_are_one_line(arguments, words):
    assert words in error_of(run(*arguments))


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*PROVE[:-1], "rainpp_test_shop:fit_crash", "--column", "m"], "no column 'm'"),
        ([*PROVE[:-1], "rainpp_test_shop:fit_crash", "--patch", "foreign.parquet"],
         "made for other training rows"),
        ([*REPAIR[:-1], "rainpp_test_shop:fit_crash", "--by", "1", "--patch", "no/x.parquet"],
         "there is no folder"),
        ([*REPAIR[:-1], "rainpp_test_shop:fit_crash", "--by", "1", "--patch", "shop.rain"],
         "it is a folder"),
    ],
)  # fmt: skip
def test_what_can_be_refused_is_refused_before_training(arguments, words):
    if not Path("foreign.parquet").exists():
        assert run(*COMPLAIN, "--fix", "own.parquet", "--by", "1").exit_code == 0
        replace(rainpp.read_patch("own.parquet"), data="0" * 64).save("foreign.parquet")
    assert words in error_of(run(*arguments))


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["complain", "EXPLAIN " + SQL, *COMPLAIN[2:]], "EXPLAIN is not a SELECT"),
        (["complain", "CALL pragma_version()", *COMPLAIN[2:]], "CALL is not a SELECT"),
        (["complain", SQL + "; DROP TABLE photos", *COMPLAIN[2:]], "there are 2 statements"),
        (["complain", f"{SQL} HAVING {'(' * 2000}1{')' * 2000}", *COMPLAIN[2:]], "too deeply"),
        ([*COMPLAIN[:5], "region=" + "x" * 100_000, *COMPLAIN[6:]], "no row has"),
        ([*COMPLAIN, "--checkpoint", "x" * 5000], "too long"),
        ([*COMPLAIN, "--name", "select"], "SQL already uses"),
        ([*COMPLAIN, "--model", "json:loads"], "fails: TypeError"),
        ([*COMPLAIN, "--json", "--row", "0"], "not both"),
    ],
)
def test_bad_words_are_one_short_line_and_leave_the_database_alone(arguments, words):
    before = Path("shop.duckdb").read_bytes()
    line = error_of(run(*arguments))
    assert words in line
    assert len(line) < 2100
    assert Path("shop.duckdb").read_bytes() == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--table", "nobody"], "there is no table `nobody`"),
        (["--arg", "z"], "no column `z`"),
        (["--name", "select"], "SQL already uses"),
        (["--encode", "rainpp_test_shop:number"], "cannot be called as"),
    ],
)
def test_what_the_database_refuses_is_known_before_the_long_work(flags, words, tmp_path):
    result = run("precompute", "model.npz", "--index", str(tmp_path / "new.rain"), *flags)
    assert words in error_of(result)
    assert not (tmp_path / "new.rain").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("rows", [np.zeros((0, 2)), np.float32(1)])
def test_training_rows_that_are_none_are_named(rows, tmp_path):
    np.savez(tmp_path / "rows.npz", inputs=rows, labels=np.zeros(rows.shape[:1], int))
    flags = ["--training", str(tmp_path / "rows.npz"), "--index", str(tmp_path / "new.rain")]
    Path("plain.toml").write_text(SETTINGS.replace('id = "id"', ""))
    line = error_of(run("precompute", "model.npz", "--config", "plain.toml", *flags))
    assert "`inputs`" in line
    assert not (tmp_path / "new.rain").exists()


@pytest.mark.usefixtures("indexed")
def test_where_reads_dates_and_truth_values():
    sql = SQL.replace("region,", "DATE '2020-01-01' AS day, region = 'EU' AS mine, region,")
    sql = sql.replace("GROUP BY region", "GROUP BY ALL")
    words = ["--column", "n", "--where", "day=2020-01-01", "--where", "mine=true"]
    found = run("complain", sql, *words, "--should", "decrease")
    assert found.exit_code == 0, found.stderr
    assert "region='EU'" in found.stderr


@pytest.mark.usefixtures("indexed")
def test_debug_shows_the_traceback():
    done = call("inspect", "nothing.rain", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ArtifactError" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["complain", SQL],
        [*COMPLAIN[:-1], "vanish"],
        [*COMPLAIN[:5], "region", *COMPLAIN[6:]],
        [*COMPLAIN, "--top", "0"],
        [*COMPLAIN, "--where", "region=US"],
        [*PROVE, "--top", "3", "--patch", "x.parquet"],
        [*PROVE, "--top", "0"],
        [*PROVE, "--where", "region=US"],
        [*REPAIR, "--rounds", "0"],
        [*REPAIR, "--most", "0"],
        ["repair", SQL],
        ["inspect"],
        ["inspekt", "shop.rain"],
    ],
)
def test_usage_errors(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr


def test_help_and_version():
    assert run("--version").stdout.strip() == rainpp.__version__
    for command in ([], *([name] for name in COMMANDS)):
        result = run(*command, "--help")
        assert result.exit_code == 0
        assert "Usage: " in result.stdout
    for command in COMMANDS:
        assert "--json" in run(command, "--help").stdout


# -- as a process of its own


def test_a_whole_session(shop, tmp_path):
    words = ["--index", str(tmp_path / "s.rain")]
    built = call("precompute", "model.npz", *words, cwd=shop)
    assert built.returncode == 0, built.stderr
    assert "Traceback" not in built.stderr  # a slow machine is told how far it is
    assert built.stdout.startswith("name\tvalue\n")
    found = call(*COMPLAIN, *words, "--json", cwd=shop)
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["ranking"]) == 20
    failed = call("complain", cwd=shop)
    assert (failed.returncode, failed.stdout) == (2, "")


@pytest.mark.usefixtures("indexed")
def test_a_closed_pipe_is_quiet():
    """`rainpp inspect | head -0`: the reader is gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*RAINPP, "inspect", "shop.rain"], stdout=writer, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time, pathlib\npathlib.Path('here').touch()\ntime.sleep(30)"
    )
    (tmp_path / "w.npz").write_bytes(b"")
    (tmp_path / "rainpp.toml").write_text('[model]\nfactory = "slow:f"\n[index]\npath = "i"')
    # A shell ignores it for what runs in its background, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [*RAINPP, "precompute", "w.npz"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    for _ in range(300):
        if (tmp_path / "here").exists():
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=90)
    assert (child.returncode, stderr) == (130, "interrupted\n")


@pytest.mark.usefixtures("here")
def test_a_command_that_was_stopped_goes_on_when_it_is_run_again(monkeypatch):
    made, product = [], Curvature.hvp
    fresh = ("precompute", "model.npz", "--index", "fresh.rain")

    def counted(self, vector):
        made.append(1)
        return product(self, vector)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Curvature, "hvp", counted)
    with monkeypatch.context() as broken:
        broken.setattr("rainpp.index.projecting.project_training", stopped)
        result = run(*fresh)
    assert result.exit_code == 130
    assert result.stderr.endswith("is kept in `fresh.rain`; run the same call again to go on.\n")
    before = len(made)
    with monkeypatch.context() as broken:
        broken.setattr(Database, "materialize", stopped)
        assert run(*fresh).exit_code == 130
    assert len(made) - before <= 4  # those of the self-checks
    before = len(made)
    assert run(*fresh).exit_code == 0
    assert len(made) == before
    assert rainpp.load("fresh.rain").manifest["inference"]


# -- progress and tables


def test_short_steps_show_nothing_and_long_ones_a_line(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 4.5])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    with terminal.ProgressBars() as progress:
        progress("short", 0, 5)
        progress("short", 5, 5)
        progress("long", 0, 8)
        progress("long", 8, 8)
    assert capsys.readouterr() == ("", "long: 8 of 8 in 3.5 s\n")


class Screen:
    """A stderr that says it is a terminal and keeps what is drawn."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "_SECONDS_BEFORE_A_BAR", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with terminal.ProgressBars() as progress:
        progress("projections", 3, 10)
        progress("projections", 4, 10, "note")
    assert "projections" in screen.text
    assert "4/10" in screen.text
    assert "/s" in screen.text


def test_a_table_on_a_terminal(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "80")
    terminal.show_table(["train_id", "detail"], [[7, "[bold]"], [11, None]])
    assert "[bold]" in screen.text
    assert "\t" not in screen.text
    terminal.show_pairs({"k": 4, "l2": np.float32(0.1)})
    assert "l2  0.1" in screen.text


def test_json_has_only_json_values(capsys):
    terminal.show_json({"a": np.float32("nan"), "b": np.arange(2), "c": Path("x"), 3: (True, None)})
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"a": None, "b": [0, 1], "c": "x", "3": [True, None]}


def test_modules_beside_the_settings_file_are_found_from_anywhere(indexed, tmp_path, monkeypatch):
    settings = ["--config", str(indexed / "rainpp.toml")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path) != indexed])
    sys.modules.pop("rainpp_test_shop", None)
    found = run(*COMPLAIN, *settings, "--json")
    assert found.exit_code == 0, found.stderr
    assert len(json.loads(found.stdout)["ranking"]) == 20
