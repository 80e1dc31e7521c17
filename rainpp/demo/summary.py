"""The demo's numbers, as values and as a dozen lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rainpp.demo.digits import MISTAKEN_FOR, VICTIM
from rainpp.report.words import share

QUERY = """SELECT predict(image) AS digit, count(*) AS n
FROM digits
GROUP BY predict(image)
ORDER BY digit"""


@dataclass(frozen=True)
class DigitCount:
    """One complained-about count, on its way from wrong to right.

    Attributes
    ----------
    counted : by hand; the target of the complaint.
    before, before_relaxed : with the model trained on the wrong labels, hard and relaxed.
    predicted : the relaxed value the repair was predicted to give.
    after, after_relaxed : after retraining on the repaired labels.
    clean : hard value of a model trained without any planted error: what can be hoped for.
    """

    digit: int
    counted: int
    before: int
    before_relaxed: float
    predicted: float
    after: int
    after_relaxed: float
    clean: int


@dataclass(frozen=True)
class DemoSummary:
    """What the demo did and found; every number was measured in this run.

    Attributes
    ----------
    planted : training labels made wrong.     repaired : labels the fix changed.
    precision : share of the repaired rows that were planted; recall : the reverse.
    auc_r : of the ranking, against the planted rows.
    coverage : share of the complaint's gradient that the index captures.
    accuracy : on the table's rows, by model: "before", "after", "clean".
    seconds : by step.
    report, index, database : files written.
    """

    seed: int
    num_train: int
    num_rows: int
    num_params: int
    k: int
    planted: int
    repaired: int
    precision: float
    recall: float
    auc_r: float
    coverage: float
    counts: tuple[DigitCount, ...]
    accuracy: dict[str, float]
    seconds: dict[str, float]
    report: Path
    index: Path
    database: Path

    @property
    def error_before(self) -> int:
        """Summed distance of the complained-about counts from the hand count, before."""
        return sum(abs(item.before - item.counted) for item in self.counts)

    @property
    def error_after(self) -> int:
        """The same after repair and retraining."""
        return sum(abs(item.after - item.counted) for item in self.counts)

    @property
    def resolved(self) -> bool:
        """Whether every count came closer to the hand count, and together by more than half."""
        closer = all(
            abs(item.after - item.counted) < abs(item.before - item.counted) for item in self.counts
        )
        return closer and 2 * self.error_after < self.error_before

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        paths = {name: str(getattr(self, name)) for name in ("report", "index", "database")}
        derived = {"error_before": self.error_before, "error_after": self.error_after}
        return {**asdict(self), **derived, "resolved": self.resolved, **paths}

    def lines(self) -> list[str]:
        """The story in a dozen lines."""
        total = sum(self.seconds.values())
        accuracy = {name: f"{value:.1%}" for name, value in self.accuracy.items()}
        return [
            f"Data       scikit-learn digits: {self.num_train:,} training rows, {self.num_rows} "
            "rows in a DuckDB table",
            f"Planted    {self.planted} of the training {VICTIM}s are labelled {MISTAKEN_FOR}",
            f"Query      {' '.join(QUERY.split())}",
            *(
                f"Complaint  n of digit {item.digit} is {item.before}; counted by hand it is "
                f"{item.counted}"
                for item in self.counts
            ),
            f"Index      k = {self.k} eigenpairs of {self.num_params} parameters; captures "
            f"{share(self.coverage)} of the complaint's gradient",
            f"Ranking    AUC_R {self.auc_r:.3f} against the planted errors",
            f"Repair     the first {self.repaired} labels, as many as the hand counts call for: "
            f"{share(self.precision)} were planted, {share(self.recall)} of the planted are found",
            *(_retrained(item) for item in self.counts),
            f"Accuracy   {accuracy['before']} before, {accuracy['after']} after, "
            f"{accuracy['clean']} with clean labels",
            f"Files      {self.report}, {self.index}, {self.database} ({total:.1f} s in all)",
        ]


def _retrained(item: DigitCount) -> str:
    return (
        f"Retrained  n of digit {item.digit}: {item.before} -> {item.after} (clean labels give "
        f"{item.clean}); expected value {item.before_relaxed:.1f} -> {item.after_relaxed:.1f}, "
        f"predicted {item.predicted:.1f}"
    )
