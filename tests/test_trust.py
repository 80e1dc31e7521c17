"""What a ranking says about itself, on tables of scores where the right verdict is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.complaint import Complaint, Presence, Row, Want
from rainpp.intervention import InterventionTable
from rainpp.ranking import Ranking
from rainpp.rendering import show_ranking
from rainpp.report import AnswerRow, Story, render_report
from rainpp.trust import Circumstances, Verdict, conflicts, met_in_expectation
from tests.online import BY_REGION, make_scene

CLASSES = 4


def make_ranking(*, flipped=40, ambiguous=400, toward=1.0, kinds=("delete", "relabel"), **fields):
    """Rows labelled 1 that the model takes for 0, beside rows it is merely unsure of.

    A flipped row's relabel 1 -> 0 moves the number by `toward`, with plausibility 0.8. Ambiguous
    rows of every label have relabels of plausibility 0.03 that pull as often up as down.
    """
    rng = np.random.default_rng(3)
    rows = flipped + ambiguous
    labels = np.concatenate([np.ones(flipped, int), rng.integers(0, CLASSES, ambiguous)])
    table = InterventionTable(kinds, np.arange(rows), labels, CLASSES)
    effects = rng.normal(size=(rows, CLASSES - 1))
    plausibility = np.full(effects.shape, 0.03)
    effects[:flipped], plausibility[:flipped] = 0.0, 0.05
    # Relabel number j gives a row the label (label + 1 + j) % R: 1 becomes 0 by the last.
    effects[:flipped, -1], plausibility[:flipped, -1] = toward, 0.8
    deleted, certain = rng.normal(size=rows), np.ones(rows)
    blocks = {"delete": (deleted, certain), "relabel": (effects.ravel(), plausibility.ravel())}
    joined = [np.concatenate(part) for part in zip(*(blocks[kind] for kind in kinds), strict=True)]
    return Ranking(table, joined[0].astype(np.float32), joined[1].astype(np.float32), **fields)


def known(**fields):
    return lambda: Circumstances(**fields)


# The verdict


def test_wrong_labels_that_help_speak_for_the_complaint():
    trust = make_ranking(classes=("one", "seven", "x", "y")).trust
    assert trust.verdict is Verdict.RIGHT
    assert "relabelling 'seven' as 'one'" in trust.sentence
    asked = trust.evidence.asked
    assert (asked.label, asked.new_label) == ("seven", "one")
    assert asked.share > 0.9
    assert_allclose(asked.rows, 40, rtol=0.2)
    assert_allclose(asked.improvement, 0.8 * asked.rows, rtol=0.05)
    assert_allclose(asked.plausibility, 0.8, rtol=0.05)


def test_wrong_labels_that_harm_speak_against_it():
    trust = make_ranking(toward=-1.0).trust
    assert trust.verdict is Verdict.MISDIRECTED
    assert "wrong way" in trust.sentence
    assert "relabelling 1 as 0" in trust.sentence


def test_without_wrong_labels_there_is_nothing_to_find():
    trust = make_ranking(toward=0.0, ambiguous=2000).trust
    assert trust.verdict is Verdict.NO_ERRORS
    assert abs(trust.score) < 0.2


def test_a_few_odd_rows_decide_nothing():
    trust = make_ranking(flipped=1, ambiguous=30, toward=0.2).trust
    assert abs(trust.score) > 0.4
    assert trust.evidence.error > abs(trust.score)
    assert trust.verdict is Verdict.UNKNOWN
    assert "too few training labels" in trust.sentence


def test_the_reversed_complaint_has_the_opposite_score():
    ranking = make_ranking()
    back = make_ranking()
    back.effects = -back.effects
    one, other = ranking.trust.evidence, back.trust.evidence
    assert_allclose(one.score, -other.score, rtol=1e-6)
    assert one.asked == other.reversed


@pytest.mark.parametrize("unit", [1e-20, 1e12])
def test_the_units_of_the_query_do_not_matter(unit):
    ranking = make_ranking()
    scaled = make_ranking()
    scaled.effects = scaled.effects * np.float32(unit)
    assert_allclose(scaled.trust.score, ranking.trust.score, rtol=1e-5)
    improvement = scaled.trust.evidence.asked.improvement
    assert_allclose(improvement, unit * ranking.trust.evidence.asked.improvement, rtol=1e-5)


def test_the_score_is_the_log_ratio_of_cubes_times_the_commonest_share():
    labels = np.array([0, 1, 2])
    table = InterventionTable(("relabel",), np.arange(3), labels, 3)
    #            0->1  0->2  1->2 1->0  2->0  2->1
    effects = np.array([2.0, 1.0, -1.0, 1.0, 3.0, -1.0])
    evidence = Ranking(table, effects, np.ones(6)).trust.evidence
    assert_allclose(evidence.score, math.log((8 + 1 + 27) / (1 + 1)) * 27 / 36)
    assert_allclose(evidence.asked.rows, 36**2 / (64 + 1 + 729))


def test_one_side_alone_keeps_the_score_finite():
    table = InterventionTable(("relabel",), np.arange(2), np.array([0, 0]), 3)
    evidence = Ranking(table, np.ones(4), np.ones(4)).trust.evidence
    assert math.isfinite(evidence.score)
    assert evidence.score > 5
    assert evidence.reversed.rows == 0
    assert evidence.reversed.label is None


# Where less can be said


@pytest.mark.parametrize(
    ("kinds", "says"), [(("delete",), "deletions only"), (("relabel",), "no relabel of any row")]
)
def test_an_index_that_cannot_tell_says_so(kinds, says):
    ranking = make_ranking(kinds=kinds)
    ranking.effects = np.zeros_like(ranking.effects)
    trust = ranking.trust
    assert trust.verdict is Verdict.UNKNOWN
    assert says in trust.sentence
    assert trust.score is None
    assert repr(trust) == "Trust(unknown, coverage unknown)"


def test_a_regression_says_less_and_does_not_crash():
    table = InterventionTable(("delete",), np.arange(3), np.array([0.5, 1.0, 2.0]), 1)
    trust = Ranking(table, np.ones(3), np.ones(3)).trust
    assert trust.verdict is Verdict.UNKNOWN
    assert "regression" in trust.sentence


def test_where_the_model_doubts_most_labels_it_does_not_judge():
    ranking = make_ranking()
    assert ranking.trust.evidence.doubt < 0.2
    ranking.plausibility = np.minimum(3 * ranking.plausibility, 1)
    trust = ranking.trust
    assert_allclose(trust.evidence.doubt, (40 * 1.3 + 400 * 0.27) / 440, rtol=1e-5)
    assert trust.verdict is Verdict.UNKNOWN
    assert "gives other labels 36% of the probability" in trust.sentence


def test_two_classes_have_numbers_but_no_verdict():
    table = InterventionTable(("relabel",), np.arange(50), np.zeros(50, int), 2)
    trust = Ranking(table, np.ones(50), np.ones(50)).trust
    assert trust.verdict is Verdict.UNKNOWN
    assert "two classes" in trust.sentence
    assert trust.score > 1


# What holds already


def complaint_about(want, *, hard, relaxed):
    class Number:
        def state(self, hard):
            return f"n is {hard}"

    return Complaint("SELECT", Number(), want, hard, relaxed)


@pytest.mark.parametrize(
    ("should", "hard", "relaxed", "met"),
    [
        ("at_least", 24.0, 27.0, True),
        ("at_least", 24.0, 24.5, False),
        ("at_most", 27.0, 24.0, True),
        ("equal", 24.0, 26.0, True),  # the target lies between the two
        ("equal", 24.0, 20.0, False),
    ],
)
def test_a_target_met_in_expectation_is_noticed(should, hard, relaxed, met):
    said = met_in_expectation(complaint_about(Want.of(should, 25.0), hard=hard, relaxed=relaxed))
    assert bool(said) is met
    assert not met or f"expected {relaxed:g}" in said


def test_wishes_without_a_target_are_never_met_in_expectation():
    for want in (Want.of("increase"), Presence(wanted=True)):
        assert met_in_expectation(complaint_about(want, hard=0.0, relaxed=0.9)) == ""
    assert Row({}).state(0.0)


def test_a_satisfied_complaint_is_called_so_unless_the_labels_decide():
    quiet = make_ranking(toward=0.0, ambiguous=2000, circumstances=known(satisfied=("met.",)))
    assert (quiet.trust.verdict, quiet.trust.sentence) == (Verdict.SATISFIED, "met.")
    assert quiet.trust.notes == ()
    clear = make_ranking(circumstances=known(satisfied=("met.",))).trust
    assert clear.verdict is Verdict.RIGHT
    assert clear.notes == ("met.",)


# Several complaints


def test_a_complaint_outweighed_more_than_five_times_is_named():
    cosines = np.array([[1.0, -0.9, 0.1], [-0.9, 1.0, -0.1], [0.1, -0.1, 1.0]])
    for weight, outweighed in ((4.9, False), (5.1, True)):
        found = conflicts(["a", "b", "c"], cosines, np.array([1.0, weight, 50.0]), fighting=-0.2)
        assert [item.complaint for item in found] == ["a", "b"]
        assert found[0].against == ("b",)
        assert_allclose(found[0].weight_ratio, weight)
        assert [item.outweighed for item in found] == [outweighed, False]


def test_a_complaint_without_weight_is_outweighed():
    cosines = np.array([[1.0, -0.9], [-0.9, 1.0]])
    found = conflicts(["a", "b"], cosines, np.array([0.0, 1.0]), fighting=-0.2)
    assert found[0].outweighed
    assert not found[1].outweighed


# From a database


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=6)


def complain(scene, should, region="EU"):
    result = scene.database.sql(BY_REGION)
    return result.complain("n", where={"region": region}, should=should)


def test_a_ranking_knows_how_it_came_about(scene):
    ranking = complain(scene, "increase").rank()
    trust = ranking.trust
    assert trust.circumstances.method == "exact (rows)"
    assert trust.circumstances.error == 0.0
    assert trust.circumstances.at_optimum is True
    assert trust.coverage == ranking.coverage
    assert trust.refined_steps == 0
    assert ranking.refine(2).trust.refined_steps == 2


def test_refining_does_not_change_the_verdict(scene):
    ranking = complain(scene, "increase").rank()
    before = ranking.trust
    assert ranking.refine(3).trust.evidence == before.evidence


def test_complaints_that_contradict_are_said_to(scene):
    up, down = complain(scene, "increase"), complain(scene, "decrease")
    with pytest.warns(rainpp.errors.ConflictWarning):
        trust = scene.database.rank([up, down], [1, 9]).trust
    (note,) = trust.notes
    assert "should increase is outweighed 9.0 times" in note
    assert "gradient" not in note


def test_a_model_beside_its_optimum_is_said_to(scene):
    checks = {"at_optimum": False, "relative_gradient_norm": 0.31}
    manifest = scene.index.manifest | {"checks": scene.index.manifest["checks"] | checks}
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, replace(scene.index, manifest=manifest))
    complaint = database.sql(BY_REGION).complain("n", where={"region": "EU"}, should="increase")
    (note,) = complaint.rank().trust.notes
    assert "not at an optimum (gradient 0.31 of one row's)" in note


def test_a_sampled_number_has_its_error_in_the_notes():
    trust = make_ranking(circumstances=known(method="approximate (100 draws)", error=0.5)).trust
    assert trust.notes == (
        "The number was sampled: it is known to ±0.5 (approximate (100 draws)).",
    )


def test_a_vector_alone_says_what_it_can(scene, tmp_path):
    complaint = complain(scene, "increase")
    read = rainpp.read_complaint(complaint.save(tmp_path / "c.json"))
    trust = read.rank(scene.index).trust
    assert trust.evidence == complaint.rank().trust.evidence
    assert trust.coverage == complaint.rank().coverage  # as its writer found it
    assert trust.circumstances.at_optimum is True
    assert scene.index.rank(complaint.vector()).trust.circumstances.at_optimum is None


def test_it_can_be_shown_and_kept(scene):
    trust = complain(scene, "increase").rank().trust
    kept = json.loads(json.dumps(trust.as_dict()))
    assert kept["verdict"] == str(trust.verdict)
    assert kept["evidence"]["asked"]["rows"] == trust.evidence.asked.rows
    assert len(repr(trust)) < 80
    assert repr(trust).startswith(f"Trust({trust.verdict}, score {trust.score:+.2f}, coverage ")
    assert trust._repr_html_() == f"<p>{trust.sentence}</p>"


def test_the_command_line_prints_the_sentence_and_json_has_all_of_it(scene, capsys):
    ranking = complain(scene, "increase").rank()
    result = scene.database.sql(BY_REGION)
    show_ranking(ranking, result, ranking.top(1), as_json=False)
    assert ranking.trust.sentence in capsys.readouterr().err.splitlines()
    show_ranking(ranking, result, ranking.top(1), as_json=True)
    shown = json.loads(capsys.readouterr().out)["trust"]
    assert shown == json.loads(json.dumps(ranking.trust.as_dict()))


def test_the_report_shows_the_sentence():
    story = Story("title", "SELECT 1", ("n is 1",), "n", (AnswerRow("all", 1.0),))
    assert "the wrong way" not in render_report(story)
    assert "points the wrong way: <code>n</code>" in render_report(
        replace(story, trust="points the wrong way: `n`")
    )
