"""The tutorials run at small size, find the rows that were planted, and heal the number."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from experiments.data import data_folder

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
TUTORIALS = ("images", "table", "text")

pytest.importorskip("sklearn", reason="scikit-learn trains the models of the tutorials")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a tutorial in a folder of its own; what it made, by name."""

    def found(name, rows, data=None):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "Agg")
        monkeypatch.setenv("RAINPP_ROWS", str(rows))
        monkeypatch.setenv("RAINPP_DATA", str(data or data_folder()))
        made = runpy.run_path(str(FOLDER / f"{name}.py"))
        made["plt"].close("all")
        assert [path.name for path in tmp_path.iterdir()] == [f"{name}.png"]
        return made

    return found


def or_skip(run, name, rows):
    try:
        return run(name, rows)
    except SystemExit as absent:
        pytest.skip(str(absent))


def planted_of_the_first_ten(made):
    return sum(made["planted"][item.row] for item in made["ranking"].best(10))


def test_images_count_the_digit_again(run):
    made = or_skip(run, "images", 1000)
    proof, counted = made["proof"], made["counted"]
    assert planted_of_the_first_ten(made) >= 8
    assert proof.before < 0.9 * counted
    assert abs(proof.after - counted) < (counted - proof.before) / 3
    assert abs(proof.after - made["promised"]) <= 2
    assert made["correct"] > 0.8


def test_a_table_s_predicate_and_its_share(run):
    made = or_skip(run, "table", 3000)
    proof, census = made["proof"], made["census"]["Male", True]
    assert planted_of_the_first_ten(made) >= 8
    assert set(made["predicates"]["predicate"][0].split(" AND ")) == {
        "workclass = 'Private'",
        "sex = 'Male'",
        "label = 'high'",
    }
    assert proof.before > census + 30
    assert abs(proof.after - census) < 3
    assert abs(proof.after - made["promised"]) < 1


def test_text_is_better_for_being_read(run):
    made = or_skip(run, "text", 2500)
    shares, accuracy, people = made["shares"], made["accuracy"], made["people"][1]
    assert planted_of_the_first_ten(made) >= 8
    assert made["ranking"].coverage > 0.8
    assert shares["before"][1] < people - 30
    assert abs(shares["fix"][1] - people) < 5
    assert shares["before"][1] + 20 < shares["fix, reviewed"][1] < people
    assert accuracy["before"] + 2 < accuracy["fix, reviewed"]


@pytest.mark.parametrize("name", TUTORIALS)
def test_absent_data_are_named(run, tmp_path, name):
    with pytest.raises(SystemExit, match=r"(mnist|adult|sst2).* is not there.*README\.md"):
        run(name, 10, data=tmp_path)


def test_the_page_shows_every_tutorial():
    text = (FOLDER / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert {f"{name}.{kind}" for name in TUTORIALS for kind in ("py", "png")} <= set(links)
    for link in links:
        assert link.startswith("https://") or (FOLDER / link).exists(), link
