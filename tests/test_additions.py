"""Rows that could be added: scored as retraining with them says, listed, applied, refused."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rainpp
from rainpp.errors import DataError, ModelError, RainError, SettingsError, ShapeError
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene

EVERYBODY = np.ones(30, bool)
COLUMNS = [
    "train_id",
    "intervention",
    "detail",
    "score",
    "effect",
    "plausibility",
    "cumulative_effect",
]


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=15)  # every direction there is


@pytest.fixture(scope="module")
def candidates():
    rng = np.random.default_rng(3)
    return rng.normal(size=(12, 4)) * 1.5, rng.integers(0, 3, 12)


@pytest.fixture
def ranking(scene):
    return scene.database.sql(COUNT).complain("n", should="increase").rank()


def count_after(scene, inputs, labels, *, l2=1e-2):
    """The relaxed count of everybody once the model is solved on other rows."""
    start = rainpp.Model(oracles.linear, scene.problem.model.params, l2=l2)
    solved = oracles.solve(start, inputs, np.asarray(labels, np.int32))
    return float(scene.count_of(solved.theta, EVERYBODY))


def with_rows(scene, inputs, labels):
    problem = scene.problem
    return np.concatenate([problem.inputs, inputs]), np.concatenate([problem.labels, labels])


# Effects


def test_adding_a_row_again_is_the_opposite_of_deleting_it(scene, ranking):
    problem = scene.problem
    added = ranking.additions(problem.inputs, problem.labels)
    assert_allclose(added.effects, -ranking.effects[:80], rtol=1e-9, atol=1e-14)
    assert_array_equal(added.plausibility, np.ones(80))
    assert_array_equal(added.scores, added.effects)


@pytest.mark.parametrize("should", ["increase", "decrease"])
def test_effects_are_those_of_training_with_the_row_to_first_order(scene, candidates, should):
    """Beside 50 copies of the rows an added one weighs a fiftieth, which is the linear regime.

    The denominator stays that of the copies, as the formula has it: (50 Σ ℓ + ℓ') / (50 n) + l2/2
    has the minimum of the mean over 50 n + 1 rows with an l2 that is smaller by that share.
    """
    problem, copies = scene.problem, 50
    sign = 1 if should == "increase" else -1
    ranking = scene.database.sql(COUNT).complain("n", should=should).rank()
    added = ranking.additions(*candidates)
    before = float(scene.count_of(problem.model.theta, EVERYBODY))
    many, labels = np.tile(problem.inputs, (copies, 1)), np.tile(problem.labels, copies)
    l2 = 1e-2 * (80 * copies) / (80 * copies + 1)
    actual = [
        sign * copies * (count_after(scene, np.vstack([many, x]), [*labels, y], l2=l2) - before)
        for x, y in zip(*candidates, strict=True)
    ]
    assert_allclose(added.effects, actual, rtol=0.05, atol=2e-4)
    assert_array_equal(np.sign(added.effects), np.sign(actual))


def test_whole_rows_agree_with_retraining_in_sign_and_order(scene, candidates, ranking):
    """The mean over n + 1 rows makes l2 stronger, which moves all additions by the same."""
    problem = scene.problem
    added = ranking.additions(*candidates)
    before = float(scene.count_of(problem.model.theta, EVERYBODY))
    actual = np.array(
        [
            count_after(scene, *with_rows(scene, x[None], [y])) - before
            for x, y in zip(*candidates, strict=True)
        ]
    )
    hessian = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    pull = np.linalg.solve(hessian, scene.count_gradient(EVERYBODY))
    shift = -1e-2 / 80 * float(pull @ np.asarray(problem.model.theta))
    assert np.corrcoef(added.effects, actual)[0, 1] > 0.98
    large = np.abs(added.effects) > 0.02
    assert large.sum() > 4
    assert_array_equal(np.sign(added.effects[large]), np.sign(actual[large]))
    assert np.abs(actual - shift - added.effects).mean() < np.abs(actual).mean() / 4


def test_complaints_and_their_weights_count_as_they_do_for_deletions(scene):
    result = scene.database.sql(BY_REGION)
    parts = [
        result.complain("n", where={"region": region}, should=should)
        for region, should in (("EU", "increase"), ("US", "increase"))
    ]
    kept = [result.keep("n", where={"region": "ASIA"})]
    problem = scene.problem
    for found in (
        scene.database.rank(parts, weights=[1.0, 3.0]),
        scene.database.rank(parts, keep=kept),
    ):
        added = found.additions(problem.inputs, problem.labels)
        assert_allclose(added.effects, -found.effects[:80], rtol=1e-8, atol=1e-14)


def test_a_kept_cell_is_left_alone(scene, candidates):
    result = scene.database.sql(BY_REGION)
    eu = result.complain("n", where={"region": "EU"}, should="increase")
    us = result.complain("n", where={"region": "US"}, should="increase").rank()
    free = eu.rank().additions(*candidates).effects
    held = eu.rank(keep=[result.keep("n", where={"region": "US"})]).additions(*candidates).effects
    moved = us.additions(*candidates).effects
    hessian = oracles.dense_hessian(scene.problem.model, scene.problem.inputs, scene.problem.labels)
    gradients = {region: scene.count_gradient(scene.regions == region) for region in ("EU", "US")}
    inverse = np.linalg.inv(hessian)
    share = (gradients["EU"] @ inverse @ gradients["US"]) / (
        gradients["US"] @ inverse @ gradients["US"]
    )
    assert_allclose(held, free - share * moved, rtol=1e-8, atol=1e-12)


def test_refined_rankings_give_refined_effects_and_leave_the_order(scene, candidates, ranking):
    problem = scene.problem
    exact = ranking.additions(*candidates).effects
    few = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=4)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", problem.model, few)
    rough = database.sql(COUNT).complain("n", should="increase").rank()
    before = rough.additions(*candidates)
    rough.refine(15)
    after = rough.additions(*candidates)
    assert np.abs(before.effects - exact).max() > 1e-3
    assert_allclose(after.effects, exact, rtol=1e-5, atol=1e-9)
    assert_allclose(after.scores, before.scores, rtol=1e-12)
    again = rough.additions(problem.inputs, problem.labels)
    assert_allclose(again.effects, -rough.effects[:80], rtol=1e-6, atol=1e-12)
    with pytest.raises(SettingsError, match="refined after"):
        rough.top(5, additions=before)


def test_rows_that_were_trained_with_weights(scene):
    problem = scene.problem
    weights = np.linspace(0.5, 2.0, 80)
    index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=15, weights=weights)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", problem.model, index)
    found = database.sql(COUNT).complain("n", should="increase").rank()
    added = found.additions(problem.inputs, problem.labels)
    assert_allclose(added.effects * weights, -found.effects[:80], rtol=1e-8, atol=1e-14)
    assert_array_equal(added.apply(3).weights, [*weights, 1, 1, 1])


# Rows without labels


def test_the_expected_effect_says_nothing_so_the_best_label_counts(candidates, ranking):
    inputs, _ = candidates
    added = ranking.additions(inputs)
    every = np.stack(
        [ranking.additions(inputs, np.full(12, label)).effects for label in range(3)], axis=1
    )
    chances = ranking.backing.model.probabilities(inputs)
    assert np.abs(every).max() > 0.01
    assert_allclose((every * chances).sum(axis=1), 0, atol=1e-12)  # whatever the row
    assert_allclose(added.expected, 0, atol=1e-12)
    best = (every * chances).argmax(axis=1)
    assert len(set(best)) > 1
    assert_array_equal(added.rows.labels, best)
    assert_allclose(added.effects, every[np.arange(12), best], rtol=1e-9, atol=1e-14)
    assert_allclose(added.plausibility, chances[np.arange(12), best], rtol=1e-9)
    assert_allclose(added.scores, added.effects * added.plausibility)
    assert (added.scores >= 0).all()


def test_a_loss_of_ones_own_can_expect_something(scene, candidates):
    def loss(outputs, label):
        """Cross-entropy, the last class counting three times."""
        return jnp.where(label == 2, 3.0, 1.0) * (jax.nn.logsumexp(outputs) - outputs[label])

    problem = scene.problem
    start = rainpp.Model(oracles.linear, problem.model.params, loss=loss, l2=1e-2)
    model = oracles.solve(start, problem.inputs, problem.labels)
    index = rainpp.precompute(model, problem.inputs, problem.labels, k=15)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", model, index)
    found = database.sql(COUNT).complain("n", should="increase").rank()
    added = found.additions(candidates[0])
    every = np.stack(
        [found.additions(candidates[0], np.full(12, c)).effects for c in range(3)], axis=1
    )
    expected = (every * model.probabilities(candidates[0])).sum(axis=1)
    assert np.abs(expected).max() > 1e-3
    assert_allclose(added.expected, expected, rtol=1e-8, atol=1e-12)


def test_guessed_labels_are_not_trained_on(candidates, ranking):
    added = ranking.additions(candidates[0])
    with pytest.raises(SettingsError, match="nobody has labelled these rows"):
        added.apply(3)
    wanted = ranking.additions(candidates[0], added.rows.labels)
    several = added.positions(3)
    single = ranking.additions(candidates[0][several], added.rows.labels[several])
    assert added.together(3).effect == pytest.approx(single.together(3).effect)
    assert_allclose(added.effects, wanted.effects, rtol=1e-12)


# Tables


def test_the_table_has_the_columns_of_a_ranking(scene, candidates):
    database = rainpp.connect(scene.database.connection)
    database.register_model(
        "predict", scene.problem.model, scene.index, classes=["cat", "dog", "eel"]
    )
    sql = COUNT.replace("= 1", "= 'dog'")
    ranking = database.sql(sql).complain("n", should="increase").rank()
    added = ranking.additions(*candidates, ids=np.arange(1000, 1012))
    frame = added.top(5)
    assert list(frame.columns) == COLUMNS == list(ranking.top(5).columns)
    assert list(frame.dtypes) == list(ranking.top(5).dtypes)
    assert (frame["intervention"] == "add").all()
    order = np.argsort(-added.effects)[:5]
    assert_array_equal(frame["train_id"], 1000 + order)
    assert list(frame["detail"]) == [["cat", "dog", "eel"][c] for c in candidates[1][order]]
    assert_allclose(frame["cumulative_effect"], np.cumsum(added.effects[order]))
    assert len(added.top(100)) == len(added) == 12
    assert "12 labelled rows" in repr(added)
    assert "<table" in added._repr_html_()


@pytest.mark.parametrize("by", ["score", "effect", "plausibility"])
def test_one_ranking_over_everything(candidates, ranking, by):
    added = ranking.additions(candidates[0])
    frame = ranking.top(1000, by=by, additions=added)
    assert len(frame) == 80 + 12
    assert frame["train_id"].is_unique
    assert frame[by].is_monotonic_decreasing
    assert_allclose(frame["cumulative_effect"], np.cumsum(frame["effect"]))
    assert set(frame["intervention"]) >= {"delete" if by == "plausibility" else "relabel", "add"}
    assert ranking.top(20, by=by, additions=added).equals(frame.iloc[:20])
    mine = frame[frame["intervention"] != "add"][["train_id", "intervention", "score"]]
    assert mine.reset_index(drop=True).equals(
        ranking.top(80, by=by)[["train_id", "intervention", "score"]]
    )
    assert ranking.top(0, additions=added).empty


# Together


@pytest.mark.parametrize("count", [1, 6, 12])
def test_together_ends_where_training_with_them_does(scene, candidates, ranking, count):
    added = ranking.additions(*candidates)
    found = added.together(count, newton_steps=6)
    extended = added.apply(count)
    before = float(scene.count_of(scene.problem.model.theta, EVERYBODY))
    actual = count_after(scene, extended.inputs, extended.labels) - before
    assert found.effect == pytest.approx(actual, rel=1e-4)
    assert added.together(count).effect == pytest.approx(actual, rel=0.05)
    assert found.count == count
    assert found.first_order == pytest.approx(added.effects[added.positions(count)].sum())


def test_applying_appends_and_touches_nothing(scene, candidates, ranking):
    problem = scene.problem
    added = ranking.additions(*candidates)
    known = scene.index.training
    inputs, labels = known.inputs.copy(), known.labels.copy()
    extended = added.apply(4)
    order = added.positions(4)
    assert extended.num_rows == 84
    assert_array_equal(extended.inputs[80:], candidates[0][order])
    assert_array_equal(extended.labels[80:], candidates[1][order])
    assert_array_equal(extended.ids, [*range(80), *(80 + order)])
    extended.inputs[:] = 0
    extended.labels[:] = 0
    assert_array_equal(known.inputs, inputs)
    assert_array_equal(known.labels, labels)
    assert_array_equal(problem.inputs, inputs)
    assert added.apply(0).num_rows == 80
    assert added.together(0).effect == 0


def test_verifying_by_hand_that_a_deletion_and_an_addition_are_one_scale(scene, ranking):
    """A row that was lost, added again, gives back what its deletion took."""
    problem = scene.problem
    kept = np.arange(80) != int(ranking.effects[:80].argmin())
    model = oracles.solve(problem.model, problem.inputs[kept], problem.labels[kept])
    index = rainpp.precompute(model, problem.inputs[kept], problem.labels[kept], k=15)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", model, index)
    less = database.sql(COUNT).complain("n", should="increase").rank()
    added = less.additions(problem.inputs[~kept], problem.labels[~kept], ids=[1000])
    assert added.effects[0] > 0
    before, after = (float(scene.count_of(m.theta, EVERYBODY)) for m in (model, problem.model))
    assert added.together(1, newton_steps=6).effect == pytest.approx(after - before, rel=1e-3)


# Other models, and rankings that know less


def test_a_binary_model(scene, candidates):
    labels = (scene.problem.labels == 1).astype(np.int32)
    start = rainpp.Model(
        lambda w, x: x @ w, jnp.zeros((4, 1)), loss="binary_cross_entropy", l2=1e-2
    )
    model = oracles.solve(start, scene.problem.inputs, labels)
    index = rainpp.precompute(model, scene.problem.inputs, labels, k=4)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", model, index)
    ranking = database.sql(COUNT).complain("n", should="increase").rank()
    again = ranking.additions(scene.problem.inputs, labels)
    assert_allclose(again.effects, -ranking.effects[:80], rtol=1e-8, atol=1e-14)
    added = ranking.additions(candidates[0])
    assert_allclose(added.expected, 0, atol=1e-12)
    chances = model.probabilities(candidates[0])
    assert_allclose(added.plausibility, chances[np.arange(12), added.rows.labels], rtol=1e-8)
    with pytest.raises(DataError, match=r"`labels\[0\]` is 2, outside"):
        ranking.additions(candidates[0], np.full(12, 2))


def ridge_scene(connection):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 4))
    targets = inputs @ [1.0, -2.0, 0.5, 0.0] + 0.3 * rng.normal(size=60)
    start = rainpp.Model(lambda w, x: x @ w, jnp.zeros((4, 1)), loss="squared_error", l2=0.05)
    model = oracles.solve(start, inputs, targets[:, None])
    index = rainpp.precompute(model, inputs, targets, k=4)
    database = rainpp.connect(connection)
    database.register_model("price", model, index)
    result = database.sql("SELECT avg(price(a, b, c, d)) AS p FROM people")
    return model, inputs, targets, result.complain("p", should="increase").rank()


def test_a_regression_takes_numbers_and_asks_for_them(scene, candidates):
    model, inputs, targets, ranking = ridge_scene(scene.database.connection)
    again = ranking.additions(inputs, targets)
    assert_allclose(again.effects, -ranking.effects, rtol=1e-8, atol=1e-14)
    added = ranking.additions(candidates[0], np.linspace(-9, 9, 12))
    frame = ranking.top(5, additions=added)
    assert "add" in set(frame["intervention"])
    assert added.top(1)["detail"][0] in np.linspace(-9, 9, 12)
    extended = added.apply(2)
    after = oracles.solve(model, extended.inputs, extended.labels)
    change = scene.features @ np.asarray(after.theta - model.theta)
    assert added.together(2, newton_steps=4).effect == pytest.approx(change.mean(), rel=1e-3)
    with pytest.raises(SettingsError, match="a regression has no probabilities of labels"):
        ranking.additions(candidates[0])


def test_a_vector_knows_no_model(scene, candidates):
    with pytest.raises(RainError, match="k numbers alone"):
        scene.index.rank(np.ones(15)).additions(*candidates)


def test_without_training_rows_there_are_effects_and_nothing_to_append_to(
    scene, candidates, ranking
):
    database = rainpp.connect(scene.database.connection)
    bare = replace(scene.index, training=None)
    database.register_model("predict", scene.problem.model, bare)
    found = database.sql(COUNT).complain("n", should="increase").rank().additions(*candidates)
    assert_array_equal(found.effects, ranking.additions(*candidates).effects)
    with pytest.raises(RainError, match="training rows are not at hand"):
        found.apply(2)
    with pytest.raises(RainError, match="training rows are not at hand"):
        found.together(2)
    with pytest.raises(ModelError, match="fails on inputs of shape"):
        database.sql(COUNT).complain("n", should="increase").rank().additions(np.ones((2, 7)))


# What cannot be used


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "words"),
    [
        (np.zeros((0, 4)), None, DataError, "`inputs` has no rows"),
        (np.ones((2, 5)), None, ShapeError, r"\(2, 5\) and the training inputs \(80, 4\)"),
        (np.ones((2, 1)), None, ShapeError, r"\(2, 1\) and the training inputs"),
        (np.ones(4), None, ShapeError, "must look like theirs"),
        ({"x": np.ones((2, 4))}, None, ShapeError, "must look like theirs"),
        ([[1.0] * 4], None, ShapeError, "holds a float"),
        (np.ones((2, 4), np.int64), None, DataError, "has type int64 and the training inputs"),
        (np.full((2, 4), np.nan), None, DataError, "row 0 holds a NaN"),
        (np.full((2, 4), "x"), None, DataError, "numeric arrays"),
        (np.ones((2, 4)), [0, 3], DataError, r"`labels\[1\]` is 3, outside"),
        (np.ones((2, 4)), [0, -1], DataError, r"`labels\[1\]` is -1, outside"),
        (np.ones((2, 4)), [0, 0.5], DataError, "holds 0.5 where class labels are whole"),
        (np.ones((2, 4)), [0, np.nan], DataError, "holds nan"),
        (np.ones((2, 4)), ["dog", "cat"], DataError, "whole numbers from 0 to 2"),
        (np.ones((2, 4)), [0], ShapeError, "aligned by row"),
        (np.ones((2, 4)), [[0], [1]], ShapeError, "one label per row"),
    ],
)
def test_rows_that_cannot_be_added(ranking, inputs, labels, error, words):
    with pytest.raises(error, match=words):
        ranking.additions(inputs, labels)


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([79, 80], DataError, "holds 79, which a row of the index already has"),
        ([80, 80], DataError, "more than once"),
        (["a", "b"], DataError, "has type <U1; those of the index are int64"),
        ([80.0, 81.0], DataError, "whole numbers or strings"),
        ([80], ShapeError, "one id per row"),
        (np.array([80, 2**63 + 5], np.uint64), DataError, "holds 9223372036854775813; .* int64"),
        (np.array([80, 79], np.uint64), DataError, "holds 79, which a row"),
    ],
)
def test_ids_that_cannot_be_used(ranking, ids, error, words):
    with pytest.raises(error, match=words):
        ranking.additions(np.ones((2, 4)), [0, 1], ids=ids)


def test_ids_stay_whole_numbers(candidates, ranking):
    """int64 and uint64 one after the other once became floats."""
    added = ranking.additions(*candidates, ids=np.arange(100, 112, dtype=np.uint64))
    assert added.apply(3).ids.dtype == np.int64
    assert ranking.top(92, additions=added)["train_id"].dtype == np.int64


def test_ids_of_ones_own_are_asked_for(scene, candidates):
    problem = scene.problem
    names = np.array([f"row {i}" for i in range(80)])
    index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=6, ids=names)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", problem.model, index)
    ranking = database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(DataError, match="ids of your own"):
        ranking.additions(*candidates)
    added = ranking.additions(*candidates, ids=[f"a much longer name {i}" for i in range(12)])
    assert "a much longer name 11" in set(ranking.top(92, additions=added)["train_id"])
    assert set(added.apply(12).ids[80:]) == set(added.rows.ids)


def test_half_the_precision_is_taken_and_another_unit_is_not(scene, candidates, ranking):
    inputs, labels = candidates
    added = ranking.additions(inputs.astype(np.float32), labels)
    assert added.rows.inputs.dtype == scene.problem.inputs.dtype
    assert_allclose(added.effects, ranking.additions(inputs, labels).effects, rtol=1e-4, atol=1e-6)
    with pytest.raises(DataError, match=r"uint8 .* in other units"):
        ranking.additions(np.ones((2, 4), np.uint8), [0, 1])


@pytest.mark.parametrize("count", [-1, 1.5, True, "two", None])
def test_counts_are_whole(candidates, ranking, count):
    added = ranking.additions(*candidates)
    for call in (added.top, added.together, added.apply, added.positions):
        with pytest.raises(SettingsError, match="`count` is"):
            call(count)


def test_additions_stand_beside_their_own_ranking(scene, candidates, ranking):
    other = scene.database.sql(COUNT).complain("n", should="decrease").rank()
    with pytest.raises(SettingsError, match="belongs to another ranking"):
        ranking.top(5, additions=other.additions(*candidates))
    with pytest.raises(SettingsError, match="`additions` is a DataFrame"):
        ranking.top(5, additions=other.additions(*candidates).top(5))
    with pytest.raises(SettingsError, match="`by` is 'loss'"):
        ranking.additions(*candidates).top(5, by="loss")
    with pytest.raises(SettingsError, match="`newton_steps` is 0"):
        ranking.additions(*candidates).together(2, newton_steps=0)


def test_a_loss_without_a_gradient_is_named(scene):
    """√ of a distance that is zero: finite, but of infinite slope."""
    start = rainpp.Model(
        lambda w, x: x @ w + jnp.sqrt(jnp.abs(x[:, :1] * w[:1])),
        jnp.arange(1.0, 13.0).reshape(4, 3) / 9,
        l2=1e-2,
    )
    with pytest.warns(rainpp.errors.NotAtOptimumWarning):
        index = rainpp.precompute(start, scene.problem.inputs, scene.problem.labels, k=2)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", start, index)
    ranking = database.sql(COUNT).complain("n", should="increase").rank()
    with pytest.raises(DataError, match="candidate 1 has no finite gradient"):
        ranking.additions(np.array([[1.0] * 4, [0.0, 1, 1, 1]]), [0, 1])
