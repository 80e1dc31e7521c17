"""One run of the demo, and what is measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rainpp.bound_complaint import BoundComplaint
from rainpp.demo.digits import MISTAKEN_FOR, VICTIM, Digits
from rainpp.demo.summary import DemoSummary, DigitCount
from rainpp.index.artifact import Index
from rainpp.model import Model
from rainpp.ranking import Ranking
from rainpp.report import collect
from rainpp.result import Result
from rainpp.verification import Verification


@dataclass(frozen=True, eq=False)
class Session:
    """Everything a run made, in order; `clean` is the model trained without planted errors."""

    seed: int
    data: Digits
    index: Index
    ranking: Ranking
    result: Result
    complaints: list[BoundComplaint]
    verification: Verification
    clean: Model
    folder: Path

    @property
    def repairs(self) -> int:
        """How many training rows were changed."""
        return len(self.verification.applied)

    @property
    def positions(self) -> np.ndarray:
        """Their interventions' positions in the ranking."""
        return self.ranking.positions(self.repairs)


def summarise(session: Session, seconds: dict[str, float]) -> DemoSummary:
    """The numbers of a finished run; `seconds` by step."""
    data, planted = session.data, session.data.planted
    rows = session.ranking.interventions.rows(session.positions)
    recall = collect.recall(session.ranking, planted, applied=session.repairs)
    return DemoSummary(
        seed=session.seed,
        num_train=len(data.labels),
        num_rows=len(data.table_truth),
        num_params=session.clean.num_params,
        k=session.index.k,
        planted=int(planted.sum()),
        repaired=session.repairs,
        precision=recall.precision,
        recall=float(planted[rows].sum() / planted.sum()),
        auc_r=recall.auc_r,
        coverage=session.ranking.coverage,
        counts=_counts(session),
        accuracy=_accuracies(session),
        seconds=dict(seconds),
        report=session.folder / "report.html",
        index=session.folder / "digits.rain",
        database=session.folder / "digits.duckdb",
    )


def _counts(session: Session) -> tuple[DigitCount, ...]:
    clean = session.clean.probabilities(session.data.table_inputs).argmax(axis=1)
    outcomes = zip((VICTIM, MISTAKEN_FOR), session.verification.outcomes, strict=True)
    return tuple(
        DigitCount(
            digit=digit,
            counted=int(outcome.complaint.want.target or 0),
            before=int(outcome.before),
            before_relaxed=outcome.before_relaxed,
            predicted=outcome.predicted,
            after=int(outcome.after),
            after_relaxed=outcome.after_relaxed,
            clean=int((clean == digit).sum()),
        )
        for digit, outcome in outcomes
    )


def _accuracies(session: Session) -> dict[str, float]:
    before = session.complaints[0].registered.model
    assert before is not None  # registered with one
    models = {"before": before, "after": session.verification.model, "clean": session.clean}
    inputs, truth = session.data.table_inputs, session.data.table_truth
    return {
        name: float((model.probabilities(inputs).argmax(axis=1) == truth).mean())
        for name, model in models.items()
    }
