"""Scores of rainpp for a complaint, timed as the others are; runs in rainpp's own environment.

python rainpp_scores.py CASE.npz OUT.npz index

The offline stage builds the index of deletions on disk, opens a database of the rows asked about
and materialises their predictions. A complaint is all a user waits for: the query, the complaint
and the ranking with its top 100.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import duckdb
import jax
import numpy as np
import pyarrow as pa
from case import Call, read, run

import rainpp


def offline(call: Call) -> Callable[[list[int]], np.ndarray]:
    """The index and a database; the answer to a complaint is a query and its ranking."""
    names = [name for name in call.data if name.startswith(("weights", "bias"))]
    params = {name: call.data[name] for name in names}
    model = rainpp.Model(apply, params, loss="cross_entropy", l2=float(call.data["l2"]))
    rows, labels = call.data["inputs"], call.data["labels"]
    path = call.out.with_suffix(".rain")
    index = rainpp.precompute(model, rows, labels, interventions=[rainpp.Delete()], path=path)
    database = rainpp.connect(table_of(call.data["asked"]))
    database.register_model("predict", model, index)
    database.materialize("predict", table="digits", args=["image"])

    def answer(counted: list[int]) -> np.ndarray:
        classes = ", ".join(map(str, counted))
        sql = f"SELECT count(*) AS n FROM digits WHERE predict(image) IN ({classes})"
        ranking = database.sql(sql).complain("n", should="increase").rank()
        ranking.top(100)
        return ranking.scores

    return answer


def apply(params: Any, rows: Any) -> jax.Array:
    """Logits of a feed-forward network; layers are called weights0, bias0, weights1, ..."""
    last = len(params) // 2 - 1
    for layer in range(last):
        rows = jax.nn.relu(rows @ params[f"weights{layer}"] + params[f"bias{layer}"][None, :])
    return rows @ params[f"weights{last}"] + params[f"bias{last}"][None, :]


def table_of(asked: np.ndarray) -> duckdb.DuckDBPyConnection:
    """The rows asked about as the table `digits`."""
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(asked.ravel()), asked.shape[1])
    connection = duckdb.connect()
    connection.register("pixels", pa.table({"image": pixels}))
    connection.execute("CREATE TABLE digits AS SELECT image FROM pixels")
    connection.unregister("pixels")
    return connection


if __name__ == "__main__":
    run(read(sys.argv[1:]), offline, libraries=("rainpp", "jax"))
