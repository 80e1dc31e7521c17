"""Figure 11: complaints about single predictions, relevant ones against adversarial ones.

40 % of a class is labelled as another: automobiles as horses, 1s as 7s. A relevant row is of the
first class, and only the model trained on clean data says so: it should be of its class. An
adversarial row is of the other class, and predicted right: it should stay so, with Y times the
weight. As many of one as of the other.

    python -m experiments.paper.fig11 [--size small|full]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments import commands, results
from experiments.drawing import BLACK, BLUE, GREEN, GREY, ORANGE, RED, SKY, picture
from experiments.paper import figures, records
from experiments.paper.cells import SIZES, Cell, Size
from experiments.paper.kept import keep_programs
from experiments.paper.records import Run
from rainpp.errors import DataError

if TYPE_CHECKING:
    from experiments.paper.queries import Answers
    from experiments.paper.tasks import Task

NAME = "paper_fig11"
RATE = 0.4
RATIOS = (0, 1, 2, 5, 10, 20, 50, 100)
COUNTS = (1, 2, 5, 10, 20, 50, 100)
DRAWS = 3  # of the rows, where there are more than are asked about
EFFECTIVE = 5  # up to this ratio the paper finds most errors
PAPER = 0.86  # peak of the complaints about all predictions in which the two models differ (§6.8.1)
_COLOURS = (GREY, SKY, GREEN, ORANGE, RED, BLUE, BLACK)

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def wanted(size: Size) -> list[Cell]:
    """CIFAR-10 as in the paper; MNIST beside it, whose small network is a good one."""
    deep = "wrn26" if size == "full" else "wrn10"
    return [Cell(*kind, "flip", RATE, 0, size) for kind in (("cifar10", deep), ("mnist", "mlp"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    asked = parser.parse_args()
    size: Size = asked.size
    results.check_place()
    name = f"{NAME}_{size}"
    for cell in wanted(size):
        if not asked.again and cell.name in results.known(name, "cell"):
            print(f"{cell.name}: saved before")
            continue
        try:
            record = measure(cell)
        except DataError as problem:
            print(f"{cell.name}: left out, {problem}", flush=True)
            continue
        settings = {"ratios": RATIOS, "draws": DRAWS, "seeds": [0]}
        command = f"python -m experiments.paper.fig11 --size {size}"
        with results.joined(name, record, by="cell") as runs:
            results.save(name, command=command, settings=settings, runs=runs)
    show()


def measure(cell: Cell) -> Run:
    """AUC_R for every number of rows, ratio and draw."""
    from experiments.paper import sweep  # networks need Flax, drawing does not
    from experiments.paper.tasks import task

    made, far = task(cell), sweep.effort(cell)
    answers = sweep.answers_of(made)
    pairs = sweep.pairs_of(made, sweep.curvature_of(made, far), far)
    scorer = _Scorer(made, answers, pairs, sweep.projected(made, made.training, pairs.vectors))
    relevant, adversarial = point_rows(answers)
    apart = np.flatnonzero(answers.predicted != answers.clean)
    corrections = scorer.along(apart, answers.clean[apart])
    return asdict(cell) | {
        "cell": cell.name,
        "parameters": made.model.num_params,
        "train_rows": made.training.num_rows,
        "form": made.pool.form,
        "accuracy": round(float((answers.predicted == answers.truth).mean()), 4),
        "accuracy_clean": round(float((answers.clean == answers.truth).mean()), 4),
        "chosen_k": sweep.chosen_k(made, pairs),
        "relevant": len(relevant),
        "adversarial": len(adversarial),
        "apart": len(apart),
        "corrections": scorer.found(corrections),
        "points": list(_points(scorer, relevant, adversarial)),
    }


def point_rows(answers: Answers) -> tuple[Rows, Rows]:
    """Relevant and adversarial rows of the inference set."""
    from experiments.paper.tasks import SPOILT, TARGET

    spoilt = answers.truth == SPOILT
    relevant = spoilt & (answers.predicted != SPOILT) & (answers.clean == SPOILT)
    adversarial = (answers.truth == TARGET) & (answers.predicted == TARGET)
    return np.flatnonzero(relevant), np.flatnonzero(adversarial)


def _points(scorer: _Scorer, relevant: Rows, adversarial: Rows) -> Iterator[Run]:
    from experiments.paper.tasks import SPOILT, TARGET

    most = min(len(relevant), len(adversarial))
    for count in sorted({min(count, most) for count in COUNTS} - {0}):
        for draw in range(DRAWS if count < most else 1):
            generator = np.random.default_rng((count, draw))
            parts = (
                scorer.along(generator.permutation(rows)[:count], np.full(count, label))
                for rows, label in ((relevant, SPOILT), (adversarial, TARGET))
            )
            for_relevant, for_adversarial = parts
            for ratio in RATIOS:
                found = scorer.found(for_relevant + ratio * for_adversarial)
                yield {"count": count, "draw": draw, "ratio": ratio} | found


@dataclass(frozen=True, eq=False)
class _Scorer:
    """AUC_R of complaints about a trained cell.

    Attributes
    ----------
    rows : ⟨∇ℓ(z), vᵢ⟩ (n, k).
    """

    made: Task
    answers: Answers
    pairs: Any
    rows: Floats

    def along(self, rows: Rows, labels: NDArray[Any]) -> Floats:
        """⟨∇Σp, vᵢ⟩ (k,) of the probabilities that some rows are of some classes."""
        from experiments.paper import sweep

        weights = np.zeros_like(self.answers.probabilities)
        weights[rows, labels] = 1.0
        return self.pairs.vectors.astype(np.float64) @ sweep.gradient_of(self.made, weights)

    def found(self, along: Floats) -> dict[str, float]:
        """AUC_R at the best k and at the library's."""
        from experiments.paper import sweep

        curve = sweep.by_k(self.rows, along, self.pairs, self.made.corrupted)
        chosen = records.at(curve, sweep.chosen_k(self.made, self.pairs))
        return {"peak": max(curve), "chosen": chosen}


# --- reading ------------------------------------------------------------------------------------


def known() -> list[Run]:
    """Full records where there are some, otherwise small ones, by data set."""
    full = records.saved("full", NAME)
    there = {run["data"] for run in full}
    return [*full, *(run for run in records.saved("small", NAME) if run["data"] not in there)]


def by_ratio(run: Run, count: int, which: str = "peak") -> list[float]:
    """Mean of the draws by ratio, at the best k or ("chosen") at the one the library takes."""
    return [
        statistics.mean(point[which] for point in records.of(run["points"], count=count, ratio=y))
        for y in RATIOS
    ]


def counts(run: Run) -> list[int]:
    """Numbers of rows complained about."""
    return sorted({point["count"] for point in run["points"]})


def show() -> None:
    """Draw what there is, and print."""
    runs = known()
    if not runs:
        print(f"{NAME}: nothing of it has been measured")
        return
    _draw(runs)
    print(results.FOLDER / f"{NAME}.svg")
    for run in runs:
        corrected = run["corrections"]["peak"]
        print(f"{run['cell']}: corrections of all {run['apart']} rows {corrected:.3f}")
        for count in counts(run):
            print(f"  {count} and {count}:", " ".join(f"{auc:.3f}" for auc in by_ratio(run, count)))


def _draw(runs: list[Run]) -> None:
    places = list(range(len(RATIOS)))
    with picture(NAME, len(runs)) as panels:
        for axes, run in zip(panels, runs, strict=True):
            figures.framed(
                axes, title=records.title(run), across="Y, weight of the adversarial rows"
            )
            shown = counts(run)[-len(_COLOURS) :]
            for count, colour in zip(shown, _COLOURS, strict=False):
                label = f"{count} and {count} rows"
                axes.plot(places, by_ratio(run, count), "o-", ms=3, color=colour, label=label)
            axes.set_xticks(places, [str(ratio) for ratio in RATIOS])
            figures.explained(axes, "best")
        panels[0].set_ylabel("peak AUC_R")


if __name__ == "__main__":
    keep_programs()
    commands.run(main)
