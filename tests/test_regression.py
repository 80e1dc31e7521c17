"""A ridge regression in SQL, end to end: complain about its average, rank, repair, retrain."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pytest

import rainpp
from rainpp.errors import (
    ComplaintError,
    DataError,
    ModelError,
    NotAtOptimumWarning,
    UnsupportedQueryError,
)

L2 = 0.05
ROWS, FEATURES = 60, 3


def ridge(inputs, targets):
    """The exact minimum of mean squared error / 2 + l2 |w|² / 2."""
    inputs, targets = np.asarray(inputs, float), np.asarray(targets, float).reshape(len(inputs), -1)
    gram = inputs.T @ inputs / len(inputs) + L2 * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ targets / len(inputs))


@dataclass(frozen=True)
class Scene:
    model: rainpp.Model
    index: rainpp.Index
    database: rainpp.Database
    inputs: np.ndarray
    targets: np.ndarray
    houses: np.ndarray  # (V, features), in rowid order
    town: np.ndarray
    area: np.ndarray

    @property
    def values(self):
        return self.houses @ ridge(self.inputs, self.targets)[:, 0]


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(ROWS, FEATURES))
    targets = inputs @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=ROWS)
    targets[:6] += 5.0  # what a complaint should find
    inputs[:6, 0] = 2.0
    model = rainpp.Model(lambda w, x: x @ w, ridge(inputs, targets), loss="squared_error", l2=L2)
    index = rainpp.precompute(model, inputs, targets, k=FEATURES)
    houses = rng.normal(np.array([1.0, 0.0, 0.0]), size=(20, FEATURES))
    town, area = np.array(["A", "B"])[rng.integers(0, 2, 20)], rng.uniform(1.0, 3.0, 20)
    con = duckdb.connect()
    con.execute("CREATE TABLE houses(a DOUBLE, b DOUBLE, c DOUBLE, town TEXT, area DOUBLE)")
    rows = zip(houses.tolist(), town.tolist(), area.tolist(), strict=True)
    con.executemany("INSERT INTO houses VALUES (?, ?, ?, ?, ?)", [[*h, t, a] for h, t, a in rows])
    database = rainpp.connect(con)
    database.register_model("price", model, index)
    return Scene(model, index, database, inputs, targets, houses, town, area)


AVERAGE = "SELECT avg(price(a, b, c)) AS p FROM houses"
TOTALS = (
    "SELECT town, sum(area * price(a, b, c) + 1) AS p, count(*) AS n FROM houses "
    "GROUP BY town ORDER BY town"
)


def test_sums_and_averages_are_those_of_the_values(scene):
    result = scene.database.sql(TOTALS)
    assert result.method == "exact (rows)"
    for row, town in enumerate("AB"):
        inside = scene.town == town
        expected = (scene.area * scene.values + 1)[inside].sum()
        np.testing.assert_allclose(result.df()["p"][row], expected)
        np.testing.assert_allclose(result.relaxed()["p"][row], expected)
        slope = result.gradient("p", where={"town": town})["price", "houses"]
        np.testing.assert_allclose(slope, (scene.area * inside)[:, None])


def exact_effects(scene, direction):
    """What deleting each row does to `direction` · w, to first order, from the dense Hessian."""
    weights = ridge(scene.inputs, scene.targets)[:, 0]
    hessian = scene.inputs.T @ scene.inputs / ROWS + L2 * np.eye(FEATURES)
    gradients = (scene.inputs @ weights - scene.targets)[:, None] * scene.inputs
    return gradients @ np.linalg.solve(hessian, direction) / ROWS


@pytest.mark.parametrize("materialized", [False, True])
def test_effects_are_those_of_the_dense_hessian_and_of_retraining(scene, materialized):
    if materialized:
        scene.database.materialize("price", table="houses", args=["a", "b", "c"])
    ranking = scene.database.sql(AVERAGE).complain("p", should="decrease").rank()
    direction = scene.houses.mean(axis=0)
    effects = -exact_effects(scene, direction)
    np.testing.assert_allclose(ranking.effects, effects, rtol=1e-8)
    alone = []
    for row in range(ROWS):
        kept = np.arange(ROWS) != row
        change = (
            ridge(scene.inputs[kept], scene.targets[kept])[:, 0]
            - ridge(scene.inputs, scene.targets)[:, 0]
        )
        alone.append(-change @ direction)
    assert np.corrcoef(effects, alone)[0, 1] > 0.99
    assert set(ranking.top(4)["train_id"]) <= set(range(6))
    assert ranking.coverage == pytest.approx(1.0)


def test_retraining_without_the_top_rows_does_what_was_promised(scene):
    result = scene.database.sql(AVERAGE)
    ranking = result.complain("p", should="equal", target=0.5).rank()
    ranking.refine(steps=4)
    proof = rainpp.verify(ranking, fit=ridge, top=2)
    outcome = proof.outcomes[0]
    kept = ~np.isin(np.arange(ROWS), [item.row for item in proof.applied])
    after = (scene.houses @ ridge(scene.inputs[kept], scene.targets[kept])).mean()
    np.testing.assert_allclose([proof.after, outcome.after_relaxed], after)
    gained = proof.after - proof.before
    assert gained == pytest.approx(outcome.first_order - proof.before, rel=0.3)
    assert gained == pytest.approx(outcome.predicted - proof.before, rel=1e-3)


def test_conditions_have_normal_errors_of_the_size_seen_in_training(scene):
    from scipy.stats import norm

    residuals = scene.inputs @ ridge(scene.inputs, scene.targets)[:, 0] - scene.targets
    spread = np.sqrt((residuals**2).mean())
    result = scene.database.sql("SELECT count(*) AS n FROM houses WHERE price(a, b, c) > 2")
    assert result.df()["n"][0] == (scene.values > 2).sum()
    np.testing.assert_allclose(
        result.relaxed()["n"][0], norm.cdf((scene.values - 2) / spread).sum(), rtol=1e-6
    )
    assert result.method.startswith("approximate (predicate on price: normal errors, standard")
    density = norm.pdf((scene.values - 2) / spread) / spread
    slope = result.gradient("n")["price", "houses"]
    np.testing.assert_allclose(slope[:, 0], density, rtol=1e-6)
    ranking = result.complain("n", should="decrease").rank()
    expected = -exact_effects(scene, density @ scene.houses)
    np.testing.assert_allclose(ranking.effects, expected, rtol=1e-5)


def test_without_training_rows_sums_work_and_conditions_say_what_is_missing(scene):
    database = rainpp.connect(scene.database.connection)
    database.register_model("cost", scene.model)
    total = database.sql("SELECT sum(cost(a, b, c)) AS p FROM houses")
    np.testing.assert_allclose(total.relaxed()["p"][0], scene.values.sum())
    with pytest.raises(UnsupportedQueryError, match=r"`cost.*size of its errors"):
        database.sql("SELECT count(*) AS n FROM houses WHERE cost(a, b, c) > 2")


def test_an_empty_table_and_a_group_without_rows(scene):
    scene.database.connection.execute("CREATE OR REPLACE TABLE none AS FROM houses LIMIT 0")
    result = scene.database.sql("SELECT sum(price(a, b, c)) AS p, count(*) AS n FROM none")
    assert np.isnan(result.relaxed()["p"][0])
    assert result.df()["n"][0] == 0


def test_misuse_is_named(scene):
    database = rainpp.connect(scene.database.connection)
    with pytest.raises(ModelError, match="`cost` is a regression: it has no classes"):
        database.register_model("cost", scene.model, classes=[1])
    wide = rainpp.Model(lambda w, x: x @ w, np.ones((3, 2)), loss="squared_error")
    database.register_model("wide", wide)
    with pytest.raises(ModelError, match="`wide` predicts 2 numbers per row"):
        database.sql("SELECT sum(wide(a, b, c)) AS p FROM houses")
    with pytest.warns(NotAtOptimumWarning):
        index = rainpp.precompute(
            wide.with_params(np.zeros((3, 2))), scene.inputs, np.ones((ROWS, 2)), k=2
        )
    with pytest.raises(ModelError, match="`wide` predicts 2 numbers per row"):
        database.register_model("wide", wide.with_params(np.zeros((3, 2))), index)
    with pytest.raises(ComplaintError, match=r"AVG\(price"):
        scene.database.complain_prediction("price", table="houses", rowid=0, label=1)


@pytest.mark.parametrize("repairs", [[], [rainpp.Replace("halve", lambda rows: rows * 0.5)]])
def test_a_regression_is_fixed_by_a_patch_that_names_its_labels(scene, tmp_path, repairs):
    kinds = [rainpp.Delete(), *repairs]
    index = rainpp.precompute(
        scene.model, scene.inputs, scene.targets, k=FEATURES, interventions=kinds
    )
    database = rainpp.connect(scene.database.connection)
    database.register_model("price", scene.model, index)
    result = database.sql(AVERAGE)
    target = float(result.df()["p"][0]) - 0.3
    ranking = result.complain("p", should="at_most", target=target).rank()
    fix = ranking.fix()
    assert fix.resolves
    patch = rainpp.read_patch(fix.save(tmp_path / "fix.parquet"))
    rows = patch.frame["id"]
    assert patch.classes == ()
    np.testing.assert_allclose(patch.frame["old"].astype(float), scene.targets[rows], rtol=1e-5)
    kept = np.setdiff1d(np.arange(ROWS), rows[patch.frame["intervention"] == "delete"])
    applied = patch.apply(scene.inputs, scene.targets, repairs=repairs)
    np.testing.assert_array_equal(applied.labels, scene.targets[kept])
    np.testing.assert_array_equal(applied.inputs, fix.apply().inputs)
    proof = rainpp.verify(ranking, fit=ridge, patch=patch)
    assert proof.after == pytest.approx(proof.before - fix.reached, rel=1e-3)
    with pytest.raises(DataError, match="other training rows"):
        patch.apply(scene.inputs, scene.targets + 1, repairs=repairs)
    families = ranking.families(5)
    assert set(families["family"]) == {"delete", *(item.name for item in repairs)}
    loop = rainpp.repair_loop(ranking, fit=ridge, k=FEATURES)
    assert loop.resolved
    assert loop.touched == len(loop.patch)
