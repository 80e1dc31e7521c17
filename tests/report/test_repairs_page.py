"""A page about repairs says what the library's objects say, and refuses what does not belong."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.errors import DataError, RainError, SettingsError, ShapeError
from rainpp.report import Repairs, collect, render_report, write_rounds
from rainpp.report.families import Families, Family, family_table
from rainpp.report.repaired import changed_inputs, drawn_like, input_names, with_repairs_shown
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene
from tests.report.test_page import HOSTILE, Page

KINDS = [rainpp.Delete(), rainpp.Relabel(), rainpp.Replace(HOSTILE, lambda x: x * 0.5)]


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=15)


@pytest.fixture(scope="module")
def index(scene):
    problem = scene.problem
    return rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=KINDS
    )


@pytest.fixture(scope="module")
def database(scene, index):
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, index)
    return database


@pytest.fixture(scope="module")
def ranking(database):
    result = database.sql(COUNT)
    return result.complain("n", should="at_least", target=float(result.df()["n"][0]) + 9).rank()


@pytest.fixture(scope="module")
def retrain(scene):
    return lambda inputs, labels: oracles.solve(scene.problem.model, inputs, labels).params


@pytest.fixture(scope="module")
def loop(ranking, retrain):
    return rainpp.repair_loop(ranking, fit=retrain, rounds=3)


@pytest.fixture(scope="module")
def rows():
    odd = (np.arange(80) % 2).astype(bool)
    return pd.DataFrame({"source": np.where(odd, HOSTILE, "camera"), "size": np.arange(80) % 7})


def page_of(*arguments, **named):
    page = Page(render_report(Repairs(*arguments, **named).story()))
    assert page.problems == []
    return page


def test_everything_that_is_given_is_on_the_page(tmp_path, ranking, loop, rows):
    fix = ranking.fix()
    made = Repairs(ranking, rows=rows, fix=fix, loop=loop, families=10)
    target = made.write(tmp_path / "repairs.html")
    text = target.read_text("utf-8")
    page = Page(text)
    assert page.problems == []
    assert [path.name for path in tmp_path.iterdir()] == ["repairs.html"]
    assert not re.search(r"https?:|<script|<link|@import", text)
    for expected in (
        "SELECT count(*) AS n FROM people",
        str(ranking.complaints[0]).replace("`", ""),
        f"The smallest fix is {len(fix.interventions)} rows",
        "Which kind of change helps",
        ranking.explain(rows, top=len(fix.interventions))["predicate"][0],
        f"Why it ended: {loop.ended}",
        f"n went from {loop.before:g} to {loop.rounds[-1].value:g}",
        HOSTILE,
    ):
        assert expected in page.text, expected


def test_the_ranking_alone_makes_a_page(ranking):
    page = page_of(ranking, count=80)
    assert "plausible" in page.text
    assert "Which kind of change helps" in page.text
    assert "before and after" not in page.text
    assert "Every round" not in page.text
    assert "Which kind of change helps" not in page_of(ranking, families=0).text


def test_families_are_those_of_the_ranking(ranking):
    story = Repairs(ranking, families=10).story()
    assert story.families is not None
    wanted = ranking.families(10)
    assert [each.name for each in story.families.found] == list(wanted["family"])
    assert [each.together for each in story.families.found] == list(wanted["together"])
    assert story.families.needed == 9


@pytest.mark.parametrize(
    ("together", "needed", "words"),
    [
        ((9, 8, 7), 5, "“a” resolves the complaint: .*So do “b” and “c”."),
        ((9, 8, 1), 5, "So does “b”."),
        ((9, 1, 1), 5, "No other kind does."),
        ((3, 2, 1), 5, "“a” fits best: .*raise n by 60% of the 5 asked for, .*2 to 4.* No other"),
        ((3, 9, 1), 5, "“a” fits best: .* 60% of the 5 .* So does “b”, but what it claims"),
        ((3, 2, 1), None, "“a” helps most: its best 4 rows"),
        ((3, 2, 0.5), 5, "“a” fits best"),  # the interval of the last reaches below nothing
        ((-1, -2, -3), 5, "No kind of change is predicted to help."),
    ],
)
def test_the_verdict_on_families(together, needed, words):
    found = zip("abc", together, strict=True)
    rows = tuple(
        Family(name, 4, value, value, value - 1, value + 1, min(value / (needed or 1), 1), 0.5, 0.1)
        for name, value in found
    )
    families = Families(rows, "raise n", needed)
    assert re.search(words, families.verdict)
    text = family_table(families)
    assert Page(text).problems == []
    widths = [float(width) for width in re.findall(r"(?:left|width):(-?[\d.]+)%", text)]
    assert all(0 <= width <= 100 for width in widths)


def test_no_kind_stands_out_where_none_is_more_credible_than_its_control():
    rows = (Family("a", 4, 9, 9, 8, 10, 1, 0.9, 0.95), Family("b", 4, 1, 1, 0, 2, 0.2, 0.5, 0.6))
    found = Families(rows, "raise n", 5).verdict
    assert "No kind of change stands out" in found
    assert "“a” moves most: its best 4 rows together are predicted to raise n by 100%" in found


def test_rows_of_the_fix_are_shown_as_what_they_are(ranking, scene):
    fix = ranking.fix()
    story = Repairs(ranking, fix=fix, families=0, count=len(fix.interventions)).story()
    assert [e.train_id for e in story.examples] == [i.train_id for i in fix.interventions]
    assert [e.kind for e in story.examples] == [i.kind for i in fix.interventions]
    assert {"replace"} < {each.kind for each in story.examples}
    for each, item in zip(story.examples, fix.interventions, strict=True):
        if item.kind == "replace":
            old = scene.problem.inputs[item.row]
            # What changes most comes first.
            wanted = sorted(((v, v * 0.5) for v in old), key=lambda pair: -abs(pair[0]))
            assert list(each.changed.values()) == wanted
        if item.kind == "relabel":
            assert each.new_label == item.detail
        (position,) = ranking.interventions.positions_of([item])
        assert each.changes[0].amount == pytest.approx(ranking.effects[position])


def test_rows_of_the_first_round_are_shown(ranking, loop):
    story = Repairs(ranking, loop=loop, families=0, count=500).story()
    first = loop.patch.frame.head(loop.rounds[0].changed)
    assert [each.train_id for each in story.examples] == list(first["id"])
    assert [each.kind for each in story.examples] == list(first["intervention"])
    relabels = [each for each in story.examples if each.kind == "relabel"]
    new = first["new"][first["intervention"] == "relabel"]
    assert [str(each.new_label) for each in relabels] == list(new)
    assert relabels


def test_repairs_of_a_ranking_are_no_deletions(ranking):
    place = int(ranking.interventions.of(HOSTILE).start) + 4
    item = ranking.interventions[place]
    (found,) = collect.examples(ranking, ranking.backing.complaints, count=1, chosen=[item])
    assert (found.kind, found.repair, found.new_label) == ("replace", HOSTILE, None)


def test_pictures_after_a_repair_are_those_of_the_repair(ranking, scene):
    table = ranking.interventions
    items = [table[table.of(HOSTILE).start + row] for row in (0, 3)]
    images = 255 - scene.problem.inputs.reshape(80, 2, 2) * 10  # drawn dark on light
    examples = collect.examples(
        ranking, ranking.backing.complaints, count=2, images=images, chosen=items
    )
    index = ranking.backing.index
    for shown, item in zip(with_repairs_shown(examples, items, index), items, strict=True):
        halved = scene.problem.inputs[item.row].reshape(2, 2) / 2
        assert_allclose(shown.image_after, 255 - halved * 10)
        assert not shown.changed


def test_pages_with_images_draw_pairs(ranking, scene):
    images = scene.problem.inputs.reshape(80, 2, 2)
    fix = ranking.fix(kinds=[HOSTILE], by=0.01)
    page = page_of(ranking, images=images, fix=fix, families=0)
    assert len(page.all("img")) == 2 * min(len(fix.interventions), 12)


def test_bytes_stay_bytes_and_colours_have_scales_of_their_own():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 3, 6, 5))  # channels first
    scale, start = np.array([20.0, 30.0, 40.0]), np.array([100.0, 110.0, 120.0])

    def drawn(pixels):
        return np.moveaxis(pixels, 0, 2) * scale + start

    image = np.rint(drawn(old)).astype(np.uint8)
    found = drawn_like(image, old, new)
    assert found.dtype == np.uint8
    assert_allclose(found.astype(float), drawn(new), atol=2)
    assert drawn_like(image, rng.normal(size=old.shape), new) is None
    assert drawn_like(image[:4], old, new) is None


def test_inputs_have_the_names_of_their_columns():
    inputs = np.arange(6.0).reshape(3, 2)
    frame = pd.DataFrame(inputs, columns=["age", "hours"])
    assert input_names(frame, inputs) == ("age", "hours")
    assert input_names(frame, inputs + 1) == ()
    assert input_names(frame, {"a": inputs, "b": inputs}) == ()
    assert input_names(None, inputs) == ()
    assert dict(changed_inputs(inputs[:1], inputs[:1] + np.array([[0, 1]]), ("age", "hours"))) == {
        "hours": (1.0, 2.0)
    }
    tree = {"age": np.ones(1), "face": np.zeros((1, 2, 2))}
    new = {"age": np.zeros(1), "face": np.eye(2)[None]}
    assert dict(changed_inputs(tree, new)) == {
        "age": (1.0, 0.0),
        "face[0, 0]": (0.0, 1.0),
        "face[1, 1]": (0.0, 1.0),
    }


def test_columns_of_the_training_rows_are_shown(ranking, rows):
    story = Repairs(ranking, rows=rows, families=0, count=5).story()
    for each in story.examples:
        assert dict(each.columns) == dict(rows.iloc[each.train_id])


def test_the_answer_after_the_loop_is_that_of_its_model(ranking, loop):
    (row,) = Repairs(ranking, loop=loop, families=0).story().answer
    assert (row.before, row.after) == (loop.before, loop.rounds[-1].value)
    assert row.after_relaxed == pytest.approx(loop.rounds[-1].relaxed)
    assert row.expected == loop.target


def test_the_answer_after_a_verification_and_the_promise_of_a_fix(ranking, retrain):
    fix = ranking.fix()
    (promised,) = Repairs(ranking, fix=fix, families=0).story().answer
    assert promised.after is None
    relaxed = ranking.complaints[0].relaxed
    assert promised.predicted == pytest.approx(relaxed + fix.together.effect)
    proof = rainpp.verify(ranking, fit=retrain, top=len(fix.interventions))
    page = page_of(ranking, verification=proof, families=0)
    assert "The answer, before and after" in page.text
    assert f"n is {proof.after:g} instead of {proof.before:g}" in page.text


def test_the_rounds_are_a_table_and_a_chart(ranking, loop):
    text = render_report(Repairs(ranking, loop=loop, families=0).story())
    page = Page(text)
    charts = [each["aria-label"] for each in page.all("svg")]
    assert any(f"Why it ended: {loop.ended}" in label for label in charts)
    for each in loop.rounds:
        assert f"{each.value:g}" in page.text
    chart = next(part for part in text.split("<svg") if "promised</text>" in part)
    for expected in ("value</text>", "relaxed</text>", "target</text>", "rows</text>"):
        assert expected in chart, expected
    # Every series in its own colour, drawn and in the key.
    for colour in ("after", "before", "muted", "right"):
        assert chart.count(f"stroke: var(--{colour})") >= 2, colour


def test_the_rounds_as_a_file(tmp_path, loop):
    text = write_rounds(tmp_path / "rounds.svg", loop).read_text("utf-8")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?:", text.replace("http://www.w3.org/2000/svg", ""))
    with pytest.raises(DataError, match="cannot write"):
        write_rounds(tmp_path / "missing" / "rounds.svg", loop)
    with pytest.raises(SettingsError, match="`loop` is a int"):
        write_rounds(tmp_path / "rounds.svg", 3)


def test_a_regression_has_numbers_for_labels():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 2))
    labels = inputs @ [1.0, 2.0] + rng.normal(size=40)
    right = inputs.T @ labels / 40
    theta = np.linalg.solve(inputs.T @ inputs / 40 + 0.01 * np.eye(2), right)
    model = rainpp.Model(lambda w, x: (x @ w)[:, None], theta, loss="squared_error", l2=0.01)
    index = rainpp.precompute(model, inputs, labels, k=2, interventions=[KINDS[0], KINDS[2]])
    database = rainpp.connect()
    database.connection.execute(
        "CREATE TABLE points AS SELECT range - 5.0 AS a, 1.0 AS b FROM range(9)"
    )
    database.register_model("predict", model, index)
    result = database.sql("SELECT sum(predict(a, b)) AS s FROM points")
    frame = pd.DataFrame(inputs, columns=["a", "b"])
    made = Repairs(result.complain("s", should="increase").rank(), rows=frame, families=5, count=40)
    for each in made.story().examples:
        assert each.old_label == pytest.approx(labels[each.train_id], rel=1e-6)
        assert set(each.changed) == ({"a", "b"} if each.kind == "replace" else set())
    assert page_of(made.ranking, rows=frame, families=5, count=40)


@pytest.mark.filterwarnings("ignore:two complaints fight")
def test_several_complaints_and_such_about_no_cell(database):
    by_region = database.sql(BY_REGION)
    apart = by_region.complain_gap(first=0, second=1, column="n", target=9.0)
    page = page_of(apart.rank(), families=10)
    assert "n where region='ASIA' minus n where region='EU'" in page.text
    both = [
        by_region.complain("n", row=0, should="increase"),
        by_region.complain("n", row=1, should="decrease"),
    ]
    story = Repairs(database.rank(both), families=10).story()
    assert [row.complained for row in story.answer] == [True, True, False]
    assert story.families is not None
    assert story.families.needed is None
    mixed = [both[0], database.sql(COUNT).complain("n", should="decrease")]
    story = Repairs(database.rank(mixed), families=0).story()
    assert len(story.answer) == 2
    assert COUNT in story.query
    assert BY_REGION.strip() in story.query


def test_long_answers_are_cut_but_never_the_rows_complained_about(database):
    result = database.sql(
        "SELECT a, count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 GROUP BY a ORDER BY a"
    )
    last = len(result.df()) - 1
    bound = result.complain("n", row=last, should="decrease")
    rows = collect.answer_rows(result, [bound], most=3)
    assert [row.complained for row in rows] == [False, False, True]


@pytest.mark.parametrize(
    ("named", "error", "words"),
    [
        ({"rows": pd.DataFrame({"a": [1, 2]})}, ShapeError, "`rows` has 2 rows; .* 80"),
        ({"images": np.zeros((3, 2, 2))}, ShapeError, "`images` has 3 rows; .* 80"),
        ({"images": np.zeros((80, 4))}, ShapeError, r"`images` has shape \(80, 4\)"),
        ({"rows": [1]}, SettingsError, "`rows` is a list; give a DataFrame"),
        ({"images": "x"}, SettingsError, "`images` is a str"),
        ({"fix": 3}, SettingsError, "`fix` is a int; give a Fix"),
        ({"loop": 3}, SettingsError, "`loop` is a int; give a RepairLoop"),
        ({"title": None}, SettingsError, "`title` is a NoneType"),
        ({"families": -1}, SettingsError, "`families` is -1"),
        ({"families": True}, SettingsError, "`families` is True"),
        ({"count": 0}, SettingsError, "`count` is 0"),
    ],
)
def test_what_does_not_fit_is_refused(ranking, named, error, words):
    with pytest.raises(error, match=words):
        Repairs(ranking, **{"families": 0, **named}).story()


def test_a_ranking_without_a_database_is_refused(ranking, index):
    bare = index.rank(ranking.backing.complaints[0].vector())
    with pytest.raises(RainError, match="needs a ranking made from complaints on a database"):
        Repairs(bare)
    with pytest.raises(SettingsError, match="`ranking` is a int"):
        Repairs(3)


def test_results_of_another_ranking_are_refused(database, ranking, loop):
    other = database.sql(COUNT).complain("n", should="decrease").rank()
    for named in ({"loop": loop}, {"fix": ranking.fix(by=0.1)}):
        with pytest.raises(SettingsError, match="is about other complaints than `ranking`"):
            Repairs(other, **named)


@pytest.mark.parametrize(
    ("place", "words"),
    [("missing/x.html", "there is no folder"), (".", "it is a folder"), (None, "`path` is None")],
)
def test_a_path_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, ranking, monkeypatch, place, words
):
    monkeypatch.setattr(Repairs, "story", lambda _: pytest.fail("the work was done"))
    with pytest.raises(DataError, match=words):
        Repairs(ranking).write(place if place is None else tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def test_a_repair_that_is_not_at_hand_is_named(scene, tmp_path):
    problem = scene.problem
    rainpp.precompute(
        problem.model, problem.inputs, problem.labels, k=15, interventions=KINDS,
        path=tmp_path / "x.rain",
    )  # fmt: skip
    loaded = rainpp.load(tmp_path / "x.rain")
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", problem.model, loaded, data=(problem.inputs, problem.labels))
    ranking = database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(RainError, match="is not at hand"):
        Repairs(ranking).story()
