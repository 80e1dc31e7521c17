"""Complaints together, and cells to keep, against dense linear algebra and retraining."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.errors import ComplaintError, ConflictWarning, RainError
from rainpp.lanczos.constraint import cosines, shares
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene

EVERYBODY = "SELECT region, sum(predict(a, b, c, d)) AS s FROM people GROUP BY region"


@functools.cache
def scene():
    return make_scene(k=15)


@functools.cache
def small_scene():
    return make_scene(k=4)


def retrain(inputs, labels):
    return oracles.solve(scene().problem.model, inputs, labels).params


def by_region():
    return scene().database.sql(BY_REGION)


def complain(region, should="increase", **options):
    return by_region().complain("n", where={"region": region}, should=should, **options)


def keep(region):
    return by_region().keep("n", where={"region": region})


@functools.cache
def inverse():
    problem = scene().problem
    return np.linalg.inv(oracles.dense_hessian(problem.model, problem.inputs, problem.labels))


def gradient(region):
    return scene().count_gradient(scene().regions == region)


# --- several --------------------------------------------------------------------------------------


def test_cosines_say_what_the_fix_of_one_does_to_the_other():
    """cos = ⟨∇a, H⁻¹∇b⟩ / norms, with the signs asked for, against the dense inverse."""
    complaints = [complain("EU"), complain("US"), complain("ASIA", "decrease")]
    with pytest.warns(ConflictWarning):
        found = scene().database.rank(complaints).cosines
    signed = np.stack([gradient("EU"), gradient("US"), -gradient("ASIA")])
    products = signed @ inverse() @ signed.T
    norms = np.sqrt(np.diag(products))
    assert_allclose(found.to_numpy(), products / np.outer(norms, norms), rtol=1e-6, atol=1e-8)
    assert list(found.index) == list(found.columns) == [str(c.complaint) for c in complaints]
    assert scene().database.rank([complaints[0]]).cosines is None


def test_fighting_complaints_are_warned_about_by_name():
    one, two = complain("EU"), complain("US", "decrease")
    with pytest.warns(ConflictWarning) as caught:
        scene().database.rank([one, two])
    (message,) = [str(item.message) for item in caught]
    assert str(one.complaint) in message
    assert str(two.complaint) in message
    assert "cosine -0." in message
    assert caught[0].filename == __file__
    assert issubclass(ConflictWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scene().database.rank([one, complain("US")]).cosines.iloc[0, 1] > 0


def test_exactly_opposite_complaints_cancel():
    with pytest.warns(ConflictWarning, match=r"cosine -1\.00"):
        ranking = scene().database.rank([complain("EU"), complain("EU", "decrease")])
    assert_allclose(ranking.effects, 0.0, atol=1e-12)


def test_a_complaint_that_no_parameter_moves_has_no_direction():
    """Cosine 0, not NaN."""
    found = cosines(np.array([[1.0, 0.0], [0.0, 0.0]]), np.ones(2))
    assert_allclose(found, np.eye(2))


def test_kinds_mix_and_weigh_the_same_by_default():
    result = by_region()
    mixed = [
        complain("EU"),
        result.complain_absent(where={"region": "US"}),
        result.complain_order(first={"region": "US"}, second={"region": "ASIA"}, column="n"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConflictWarning)
        ranking = scene().database.rank(mixed)
        proof = rainpp.verify(ranking, fit=retrain, top=2)
    vectors = np.stack([item.vector() for item in mixed])
    norms = np.linalg.norm(vectors, axis=1)
    expected = scene().index.rank((vectors / norms[:, None]).mean(axis=0) * norms.mean())
    assert_allclose(ranking.effects, expected.effects, rtol=1e-9, atol=1e-15)
    assert len(proof.frame()) == 3


# --- keep -----------------------------------------------------------------------------------------


def held_gradient():
    """∇EU without what moves US, in the metric of the dense inverse Hessian."""
    asked, kept = gradient("EU"), gradient("US")
    factor = (kept @ inverse() @ asked) / (kept @ inverse() @ kept)
    return asked - factor * kept


def test_keeping_projects_in_the_metric_of_the_inverse_hessian():
    ranking = complain("EU").rank(keep=[keep("US")])
    problem = scene().problem
    rows = oracles.row_gradients(problem.model, problem.inputs, problem.labels)
    expected = rows @ inverse() @ held_gradient() / len(rows)
    assert_allclose(ranking.effects[: len(rows)], expected, rtol=1e-6, atol=1e-10)
    asked, held = gradient("EU"), held_gradient()
    share = (held @ inverse() @ held) / (asked @ inverse() @ asked)
    assert ranking.survives == pytest.approx(share, rel=1e-6)
    assert 0 < ranking.survives < 1
    assert f"keeping `n` where region='US', which leaves {share:.0%}" in repr(ranking)


def move(direction, region, step=1e-4):
    """d relaxed n of a region along a direction of the parameters, through the model."""
    theta, chosen = scene().problem.model.theta, scene().regions == region
    ahead, behind = (scene().count_of(theta + s * direction, chosen) for s in (step, -step))
    return float(ahead - behind) / (2 * step)


def test_moving_along_the_fix_leaves_the_kept_cell_alone():
    """A fix with training gradients adding up to g moves the parameters along H⁻¹g."""
    held, asked, kept = held_gradient(), gradient("EU"), gradient("US")
    along = inverse() @ held
    assert move(along, "EU") > 0.05
    assert abs(move(along, "US")) < 1e-6 * move(along, "EU")
    plain = asked - (kept @ asked) / (kept @ kept) * kept  # orthogonal in the wrong metric
    assert abs(move(inverse() @ plain, "US")) > 0.05 * move(inverse() @ plain, "EU")


def test_the_vector_that_is_ranked_moves_no_kept_cell():
    items = [keep("US"), keep("ASIA")]
    moves = np.stack([item.query_projection() for item in items])
    vector, values = complain("EU").vector(), scene().index.eigenvalues
    free = vector - shares(moves, vector, values) @ moves
    assert_allclose(moves @ (free / values), 0.0, atol=1e-10)
    assert_allclose(
        complain("EU").rank(keep=items).effects, scene().index.rank(free).effects, rtol=1e-9
    )


def test_retraining_moves_a_kept_cell_less_than_without():
    """The same number of interventions; the complaint is still helped."""
    free, held = complain("EU").rank(), complain("EU").rank(keep=[keep("US")])
    moved = {}
    for name, ranking in (("free", free), ("held", held)):
        proof = rainpp.verify(ranking, fit=retrain, top=10)
        after = by_region().setting.with_model("predict", proof.model).evaluate()
        start = by_region().answer
        moved[name] = {
            region: after.at({"region": region}, "n")[1] - start.at({"region": region}, "n")[1]
            for region in ("EU", "US")
        }
    assert moved["held"]["EU"] > 0
    sideways = {name: abs(change["US"] / change["EU"]) for name, change in moved.items()}
    assert sideways["held"] < sideways["free"]


def test_keeping_the_same_cell_twice_is_keeping_it_once():
    once = complain("EU").rank(keep=[keep("US")])
    twice = complain("EU").rank(keep=[keep("US"), keep("US")])
    assert_allclose(twice.effects, once.effects, rtol=1e-6, atol=1e-10)
    assert twice.survives == pytest.approx(once.survives)


def test_keeping_nothing_changes_nothing():
    assert np.array_equal(complain("EU").rank(keep=[]).effects, complain("EU").rank().effects)
    assert complain("EU").rank().survives == 1.0


def test_refining_holds_what_is_kept_with_the_refined_inverse():
    """Four eigenpairs refined to the end give what fifteen give at once."""
    small = make_scene(k=4)
    result = small.database.sql(BY_REGION)
    kept = result.keep("n", where={"region": "US"})
    ranking = result.complain("n", where={"region": "EU"}, should="increase").rank(keep=[kept])
    exact = complain("EU").rank(keep=[keep("US")])
    assert np.abs(ranking.effects - exact.effects).max() > 1e-3
    assert 0 < ranking.coverage < 1
    assert_allclose(ranking.refine(40).effects, exact.effects, rtol=1e-5, atol=1e-8)
    assert ranking.coverage == pytest.approx(1.0)
    assert exact.coverage == pytest.approx(1.0)


def test_coverage_is_of_the_held_gradient():
    small = make_scene(k=6)
    result = small.database.sql(BY_REGION)
    made = result.complain("n", where={"region": "EU"}, should="increase")
    kept = result.keep("n", where={"region": "US"})
    ranking, vectors = made.rank(keep=[kept]), np.asarray(small.index.eigenvectors, float)
    asked, moved = gradient("EU"), gradient("US")
    values = small.index.eigenvalues
    along = (vectors @ moved) / values
    held = asked - (along @ (vectors @ asked)) / (along @ (vectors @ moved)) * moved
    expected = np.sum((vectors @ held) ** 2) / (held @ held)
    assert ranking.coverage == pytest.approx(expected, rel=1e-6)


def test_a_verification_promises_the_true_change_of_a_held_complaint():
    """Effects under `keep` are those of a part of the complaint; the promise is of the cell."""
    made = complain("EU")
    ranking = made.rank(keep=[keep("US")]).refine(10)
    proof = rainpp.verify(ranking, fit=retrain, top=2)
    expected = made.rank().effects[ranking.positions(2)].sum()
    outcome = proof.outcomes[0]
    assert outcome.first_order - outcome.before_relaxed == pytest.approx(expected, rel=1e-5)
    assert outcome.predicted == pytest.approx(outcome.after_relaxed, rel=1e-3)


def test_a_kept_cell_of_another_query_counts_too():
    other = scene().database.sql(EVERYBODY).keep("s", where={"region": "US"})
    ranking = complain("EU").rank(keep=[other])
    assert [cell.column for cell in ranking.kept] == ["s"]
    assert ranking.survives < 1


def test_nothing_left_is_an_error_not_a_ranking_of_noise():
    total = scene().database.sql(COUNT).complain("n", should="increase")
    everything = [keep(region) for region in ("EU", "US", "ASIA")]
    with pytest.raises(ComplaintError, match=r"nothing is left.*region='EU'.*Keep fewer"):
        total.rank(keep=everything)
    with pytest.raises(ComplaintError, match="nothing is left"):
        complain("EU").rank(keep=[keep("EU")])


@pytest.mark.parametrize("what", [None, 3, "n", [None], [3]])
def test_only_kept_cells_are_kept(what):
    with pytest.raises(ComplaintError, match="`keep`"):
        complain("EU").rank(keep=what)


def test_a_complaint_is_not_a_kept_cell_nor_the_other_way_round():
    with pytest.raises(ComplaintError, match="`keep` holds a BoundComplaint"):
        scene().database.rank([complain("EU")], keep=[complain("US")])
    with pytest.raises(ComplaintError, match="`complaints` holds a KeptCell"):
        scene().database.rank([keep("EU")])
    assert repr(keep("US")) == "Keep: `n` where region='US'"


def test_a_kept_cell_of_another_model_or_index_is_refused():
    foreign = make_scene(k=4, seed=3).database.sql(BY_REGION).keep("n", row=0)
    with pytest.raises(ComplaintError, match="different models"):
        complain("EU").rank(keep=[foreign])
    smaller = make_scene(k=4).database.sql(BY_REGION).keep("n", row=0)
    with pytest.raises(ComplaintError, match="different indexes"):
        complain("EU").rank(keep=[smaller])


def test_rankings_refined_together_are_refined_as_alone():
    small = small_scene()
    result = small.database.sql(BY_REGION)
    asked = [
        result.complain("n", where={"region": region}, should="increase") for region in ("EU", "US")
    ]
    alone = [complaint.rank().refine(3) for complaint in asked]
    kept = result.keep("n", where={"region": "ASIA"})
    alone.append(asked[0].rank(keep=[kept]).refine(3))
    rankings = [*(complaint.rank() for complaint in asked), asked[0].rank(keep=[kept])]
    found = small.database.refine(rankings, steps=3)
    assert all(a is b for a, b in zip(found, rankings, strict=True))
    for one, other in zip(found, alone, strict=True):
        assert_allclose(one.effects, other.effects, rtol=1e-9, atol=1e-12)
        assert_allclose(one.refinement.residuals, other.refinement.residuals, rtol=1e-9)


@pytest.mark.parametrize(
    ("rankings", "error", "words"),
    [
        ([], ComplaintError, "`rankings` is empty"),
        (["no"], ComplaintError, "holds a str; give a list of what complaint.rank"),
        (None, ComplaintError, "holds a NoneType"),
    ],
)
def test_what_cannot_be_refined_together_is_refused(rankings, error, words):
    with pytest.raises(error, match=words):
        small_scene().database.refine(rankings)


def test_rankings_over_different_indexes_are_not_refined_together():
    rankings = [
        made.database.sql(COUNT).complain("n", should="increase").rank()
        for made in (scene(), small_scene())
    ]
    with pytest.raises(ComplaintError, match="different indexes"):
        small_scene().database.refine(rankings)
    bare = small_scene().index.rank(np.ones(4))
    with pytest.raises(RainError, match="complaints on a database"):
        small_scene().database.refine([bare])
