"""Figure 1: one complaint, by Rain and by Rain++, by the number of parameters.

The complaint is about a join on equal predictions that should give nothing. Rain: ∇q by
backpropagation, conjugate gradients with the Hessian of all rows (2 steps on MNIST, 4 on CIFAR-10,
as in Table 4), the solution on the gradient of every training row. Rain++: from
`result.complain(...)` to the frame of the top 100, over an index of deletions at k = 20 with the
inference database materialised. Every repeat complains about a new answer to the query, so nothing
is remembered; the query itself, which both need, is outside.

    python -m experiments.paper.fig1 [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import rainpp
from experiments import results
from experiments.paper.cells import Cell, Size
from experiments.paper.subjects import Subject, subjects
from experiments.paper.timing import Parts, Record, rounded, run, seconds_of, timings
from experiments.timed_products import timed
from rainpp.lanczos.conjugate_gradient import Iterate, iterate

K = 20
JOIN = 'SELECT count(*) AS n FROM "LEFT" L JOIN "RIGHT" R ON predict(L.id) = predict(R.id)'
# Answers to the query, each complained about once.
ANSWERS = 50


def main() -> None:
    run("fig1", __doc__ or "", parts, {"k": K, "answers": ANSWERS, "query": JOIN})


def parts(size: Size) -> Parts:
    """A network each."""
    return {name: partial(measure, cell) for name, cell in subjects(size)}


def measure(cell: Cell) -> Record:
    """Both, compiled before."""
    subject = Subject.of(cell)
    about, made = subject.about, subject.task  # one forward pass, outside of what is timed
    index, built = timed(
        lambda: rainpp.precompute(
            made.model,
            made.training.inputs,
            made.training.labels,
            k=K,
            interventions=[rainpp.Delete()],
        )
    )
    database = opened(subject, index)
    ask = _asking(database)
    cold = seconds_of(ask)
    fast = [seconds_of(ask) for _ in range(ANSWERS)]
    return (
        about
        | {"k": index.k, "index_s": round(built, 1), "first_ms": rounded(cold * 1e3)}
        | results.milliseconds(fast)
        | _rain(subject, statistics.median(fast))
    )


def opened(subject: Subject, index: rainpp.Index) -> rainpp.Database:
    """Two materialised tables of row numbers; the model looks the inputs up."""
    pool = subject.task.pool
    connection = duckdb.connect()
    for name, rows in {"LEFT": pool.groups["left"], "RIGHT": ~pool.groups["left"]}.items():
        connection.register("ids", pa.table({"id": np.flatnonzero(rows)}))
        connection.execute(f'CREATE TABLE "{name}" AS SELECT id FROM ids')
        connection.unregister("ids")
    database = rainpp.connect(connection)
    database.register_model(
        "predict", subject.task.model, index, encode=lambda ids: pool.inference[ids]
    )
    for name in ("LEFT", "RIGHT"):
        database.materialize("predict", table=name, args=["id"])
    return database


def _asking(database: rainpp.Database) -> Callable[[], Any]:
    """Complains about the next of the answers, which are all there before."""
    answers: Iterator[Any] = iter([database.sql(JOIN) for _ in range(ANSWERS + 1)])
    return lambda: next(answers).complain("n", should="decrease").rank().top(100)


def _rain(subject: Subject, fast: float) -> Record:
    few = subject.first_rows(subject.batches.projection)
    compiling = seconds_of(
        lambda: subject.training_projections(subject.query_gradient()[None], few)
    )
    last: list[Iterate] = []
    compiling += seconds_of(lambda: _solved(subject, 2)[-1].solution)

    def answer() -> np.ndarray:
        last[:] = _solved(subject, subject.rain_steps)
        return subject.training_projections(last[-1].solution[None])

    taken = statistics.median(timings(answer))
    return {
        "rain_s": rounded(taken),
        "rain_steps": subject.rain_steps,
        "steps_done": len(last) - 1,
        "rain_first_call_s": rounded(compiling),
        "ratio": rounded(taken / fast),
    }


def _solved(subject: Subject, steps: int) -> list[Iterate]:
    """The zeroth solution and those of some steps; fewer where curvature turns negative."""
    states = iterate(subject.curvature.hvp, subject.query_gradient())
    return list(itertools.islice(states, steps + 1))


if __name__ == "__main__":
    main()
