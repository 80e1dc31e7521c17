"""What the report takes from the library agrees with the library's own numbers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
import rainpp.result
from rainpp.errors import ShapeError
from rainpp.report import collect

ROWS = 40


def logits(params, inputs):
    return inputs @ params["w"]


def least_squares_start(inputs, labels):
    """Gradient descent on softmax regression: near enough to an optimum for these tests."""
    w, eye = np.zeros((3, 2)), np.eye(2)
    for _ in range(3000):
        scores = np.exp(inputs @ w)
        p = scores / scores.sum(axis=1, keepdims=True)
        w -= 0.5 * (inputs.T @ (p - eye[labels]) / len(labels) + 0.05 * w)
    return {"w": jnp.asarray(w)}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(ROWS, 3))
    return inputs, (inputs[:, 0] + 0.5 * rng.normal(size=ROWS) > 0).astype(int)


@pytest.fixture(scope="module")
def index_and_model(data):
    model = rainpp.Model(logits, least_squares_start(*data), l2=0.05)
    return rainpp.precompute(model, *data, k=1), model


@pytest.fixture
def result(index_and_model):
    index, model = index_and_model
    db = rainpp.connect()
    db.connection.execute("SELECT setseed(0.5)")
    columns = "random() - 0.5 AS a, random() AS b, random() AS c"
    db.connection.execute(f"CREATE TABLE rows AS SELECT range % 2 AS g, {columns} FROM range(30)")
    db.register_model("predict", model, index, classes=["no", "yes"])
    query = "SELECT g, count(*) AS n FROM rows WHERE predict(a, b, c) = 'yes' GROUP BY g ORDER BY g"
    yield db.sql(query)
    db.close()


@pytest.fixture
def two(result):
    return [
        result.complain("n", where={"g": 0}, should="increase"),
        result.complain("n", where={"g": 1}, should="decrease"),
    ]


def test_effects_of_a_decrease_point_down(two):
    ranking = rainpp.combination.rank_together([two[1]])
    (best,) = collect.examples(ranking, [two[1]], count=1)
    assert best.changes[0].cell == "n of 1"
    assert_allclose(best.changes[0].amount, -ranking.top(1)["effect"][0])
    assert best.changes[0].amount < 0


@pytest.mark.filterwarnings("ignore:two complaints fight")
def test_each_complaint_keeps_its_own_effect(two):
    together = rainpp.combination.rank_together(two)
    for position, item in enumerate(two):
        alone = item.rank()
        shown = collect.examples(together, two, count=5)
        at = together.positions(5)
        direction = item.complaint.direction
        amounts = [example.changes[position].amount for example in shown]
        assert_allclose(amounts, direction * alone.effects[at])


def test_refined_effects_are_shown_when_there_are_some(two):
    ranking = two[0].rank()
    first = collect.cell_changes(ranking, two[0])
    ranking.refine(2)
    assert_allclose(collect.cell_changes(ranking, two[0]), ranking.effects)
    assert not np.allclose(first, ranking.effects)


def test_examples_are_the_top_of_the_ranking(two, data):
    ranking = two[0].rank()
    top = ranking.top(6)
    truth = np.array(["no", "yes"])[1 - data[1]]
    images = np.arange(ROWS * 4.0).reshape(ROWS, 2, 2)
    shown = collect.examples(ranking, [two[0]], count=6, images=images, truth=truth)
    assert [example.train_id for example in shown] == list(top["train_id"])
    assert [example.new_label for example in shown] == list(top["detail"])
    for example in shown:
        assert example.old_label == ["no", "yes"][data[1][example.train_id]]
        assert example.true_label == truth[example.train_id]
        assert_allclose(example.image, images[example.train_id])
        assert example.verdict is True  # every label is declared wrong here


def test_the_answer_keeps_rows_and_targets(two, result):
    rows = collect.answer_rows(result, two, expected={1: 4.0})
    assert [row.key for row in rows] == ["0", "1"]
    assert [row.before for row in rows] == list(result.df()["n"])
    assert_allclose([row.before_relaxed for row in rows], result.relaxed()["n"])
    assert [row.expected for row in rows] == [None, 4.0]
    assert all(row.complained and row.after is None for row in rows)


def test_the_answer_after_a_fix_is_that_of_the_new_model(two, result):
    ranking = two[0].rank()
    verification = rainpp.verify(ranking, fit=least_squares_start, top=4)
    rows = collect.answer_rows(result, [two[0]], verification)
    outcome = verification.outcomes[0]
    assert rows[0].after == outcome.after
    assert_allclose(
        [rows[0].predicted, rows[0].after_relaxed], [outcome.predicted, outcome.after_relaxed]
    )
    assert rows[1].predicted is None
    assert rows[1].after is not None
    line = collect.cumulative(ranking, two[0], shown=10, applied=4)
    assert_allclose(line.values[3], outcome.first_order)
    assert line.values.shape == (10,)


def test_recall_is_that_of_the_metrics(two):
    ranking = two[0].rank()
    corrupted = np.arange(ROWS) < 5
    recall = collect.recall(ranking, corrupted, applied=8)
    assert recall.auc_r == rainpp.metrics.auc_r(ranking.row_scores(), corrupted)
    top = ranking.top(8)["train_id"]
    assert recall.precision == np.mean(top < 5)
    assert recall.num_training_rows == ROWS


def test_the_spectrum_holds_the_kept_eigenvalues(index_and_model):
    index, _ = index_and_model
    spectrum = collect.spectrum(index)
    assert spectrum.k == 1
    assert_allclose(spectrum.values[:1], index.eigenvalues, rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"images": np.zeros((3, 2, 2))}, {"truth": ["no"]}])
def test_rows_that_do_not_fit_are_refused(two, wrong):
    with pytest.raises(ShapeError, match="there are 40"):
        collect.examples(two[0].rank(), [two[0]], count=2, **wrong)
