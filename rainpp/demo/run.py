"""The demo from data to report."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rainpp.bound_complaint import BoundComplaint
from rainpp.database import connect
from rainpp.demo.digits import (
    MISTAKEN_FOR,
    VICTIM,
    Digits,
    load_images,
    plant_errors,
    write_database,
)
from rainpp.demo.page import tell
from rainpp.demo.session import Session, summarise
from rainpp.demo.summary import QUERY, DemoSummary
from rainpp.demo.training import L2, apply, make_fit
from rainpp.index.build import precompute
from rainpp.intervention import Relabel
from rainpp.model import Model
from rainpp.ranking import Ranking
from rainpp.report import collect, write_report
from rainpp.result import Result
from rainpp.types import Progress, silent
from rainpp.verification import verify

_STEPS = 6


def run_demo(
    output_dir: str | Path = ".", *, seed: int = 0, progress: Progress = silent
) -> DemoSummary:
    """Run the demo; writes report.html, digits.rain and digits.duckdb into `output_dir`.

    Parameters
    ----------
    output_dir : made when it is missing; files of an earlier run are replaced.
    seed : of the split, the planted errors and the index.

    Raises
    ------
    RainError : scikit-learn is not installed.
    DataError : `output_dir` cannot be written to.
    """
    folder = Path(output_dir)
    clock = _Clock(progress)
    with clock.step("load digits"):
        data = plant_errors(*load_images(), seed=seed)
        write_database(folder, data)
    fit = make_fit()
    with clock.step("train the model"):
        model = Model(apply, fit(data.inputs, data.labels), loss="cross_entropy", l2=L2)
    with clock.step("build the index"):
        index = precompute(
            model,
            data.inputs,
            data.labels,
            interventions=[Relabel()],
            path=folder / "digits.rain",
            seed=seed,
        )
    with connect(folder / "digits.duckdb") as db:
        with clock.step("predict the table"):
            db.register_model("predict", model, index)
            db.materialize("predict", table="digits", args=["image"])
        with clock.step("query, complain and rank"):
            result = db.sql(QUERY)
            complaints = _complain(result, data)
            ranking = db.rank(complaints)
            repairs = _how_many(ranking, complaints)
        with clock.step("retrain and compare"):
            verification = verify(ranking, fit=fit, top=repairs)
            clean = model.with_params(fit(data.inputs, data.truth))
        session = Session(
            seed, data, index, ranking, result, complaints, verification, clean, folder
        )
        summary = summarise(session, clock.seconds)
        write_report(summary.report, tell(session, summary))
    return summary


@dataclass
class _Clock:
    """Reports each step to `progress` and keeps how long it took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        self.progress("demo", len(self.seconds), _STEPS, name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.progress("demo", len(self.seconds), _STEPS, name)


def _complain(result: Result, data: Digits) -> list[BoundComplaint]:
    """One complaint for each of the two digits somebody counted by hand."""
    return [
        result.complain(
            "n",
            where={"digit": digit},
            should="equal",
            target=int((data.table_truth == digit).sum()),
        )
        for digit in (VICTIM, MISTAKEN_FOR)
    ]


def _how_many(ranking: Ranking, complaints: list[BoundComplaint]) -> int:
    """The prefix of the ranking whose predicted answer is closest to the targets.

    Relaxed values are compared, as predictions are made there; the planted errors play no part.
    """
    positions = ranking.positions(ranking.interventions.num_rows)
    distance = np.zeros(positions.size)
    for item in complaints:
        changes = collect.cell_changes(ranking, item)[positions]
        predicted = item.complaint.relaxed + np.cumsum(changes)
        distance += np.abs(predicted - (item.want.target or 0.0))
    return int(np.argmin(distance)) + 1
