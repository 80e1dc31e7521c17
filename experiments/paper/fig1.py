"""Figure 1: one complaint, by Rain and by Rain++, by the number of parameters.

The complaint is about a join on equal predictions that should give nothing. Rain: ∇q by
backpropagation, conjugate gradients with the Hessian of all rows (2 steps on MNIST, 4 on CIFAR-10,
as in Table 4), the solution on the gradient of every training row. Rain++: from
`result.complain(...)` to the frame of the top 100, over an index of deletions at k = 20 with the
inference database materialised. Every repeat complains about a new answer to the query, so nothing
is remembered; *again* is a complaint about a cell complained about before. The query itself, which
both need, is outside.

    python -m experiments.paper.fig1 [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

import itertools
import statistics
from functools import partial

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

import rainpp
from experiments import commands, results
from experiments.paper.cells import Cell, Size
from experiments.paper.subjects import Subject, subject_of, subjects
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
    subject = subject_of(cell)
    about = subject.about  # one forward pass, outside of what is timed
    index, built = timed(lambda: _index(subject))
    database = opened(subject, index)
    cold, *fast = [seconds_of(partial(complain, answer)) for answer in _answers(database)]
    answer = database.sql(JOIN)
    again = [seconds_of(partial(complain, answer)) for _ in range(ANSWERS + 1)][1:]
    return (
        about
        | {"k": index.k, "index_s": round(built, 1), "first_ms": rounded(cold * 1e3)}
        | results.milliseconds(fast)
        | {f"again_{name}": value for name, value in results.milliseconds(again).items()}
        | _rain(subject, statistics.median(fast))
    )


def _index(subject: Subject) -> rainpp.Index:
    """Of deletions."""
    made = subject.task
    return rainpp.precompute(
        made.model,
        made.training.inputs,
        made.training.labels,
        k=K,
        interventions=[rainpp.Delete()],
        curvature_rows=subject.curvature_rows,
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


def complain(answer: rainpp.Result) -> pd.DataFrame:
    """All that is timed of Rain++."""
    return answer.complain("n", should="decrease").rank().top(100)


def _answers(database: rainpp.Database) -> list[rainpp.Result]:
    return [database.sql(JOIN) for _ in range(ANSWERS + 1)]


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
    commands.run(main)
