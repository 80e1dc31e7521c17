"""A solved classifier, its index and a DuckDB table of inference rows, for tests of the facade."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import jax
import jax.numpy as jnp
import numpy as np

import rainpp
from tests import oracles


@dataclass(frozen=True)
class Scene:
    problem: oracles.Problem
    index: rainpp.Index
    database: rainpp.Database
    features: np.ndarray  # (V, features), in rowid order
    regions: np.ndarray  # (V,)

    def count_of(self, theta, chosen, label=1):
        """Relaxed number of `chosen` rows of class `label`, straight from the model."""
        rows = jnp.asarray(self.features[chosen])
        outputs = self.problem.model.outputs(theta, rows)
        return jnp.sum(jax.nn.softmax(outputs, axis=-1)[:, label])

    def count_gradient(self, chosen, label=1) -> np.ndarray:
        gradient = jax.grad(lambda theta: self.count_of(theta, chosen, label))
        return np.asarray(gradient(self.problem.model.theta))


def make_scene(*, k=15, seed=0, path=None, rows=30, materialized=False) -> Scene:
    problem = oracles.solved_regression(rows=80, l2=1e-2, seed=seed)
    index = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=k, path=path)
    rng = np.random.default_rng(seed + 100)
    features = rng.normal(size=(rows, 4)) * 1.5
    regions = np.array(["EU", "US", "ASIA"])[rng.integers(0, 3, rows)]
    connection = duckdb.connect()
    connection.execute("CREATE TABLE people(a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE, region TEXT)")
    values = [[*map(float, row), region] for row, region in zip(features, regions, strict=True)]
    connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?)", values)
    database = rainpp.connect(connection)
    database.register_model("predict", problem.model, index)
    if materialized:
        database.materialize("predict", table="people", args=["a", "b", "c", "d"])
    return Scene(problem, index, database, features, regions)


COUNT = "SELECT count(*) AS n FROM people WHERE predict(a, b, c, d) = 1"
BY_REGION = (
    "SELECT region, count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 "
    "GROUP BY region ORDER BY region"
)
