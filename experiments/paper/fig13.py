"""Figure 13: peak AUC_R against the relative error of the answer, many complaints.

python -m experiments.paper.fig13 [--size small|full]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from experiments import commands
from experiments.drawing import BLUE, RED, picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import NETWORKS, Figure
from experiments.paper.records import Run

LARGE, SMALL = 0.25, 0.05  # the vertical lines of the paper
BANDS = {
    f"over {LARGE:.0%}": (LARGE, float("inf")),
    f"{SMALL:.0%} to {LARGE:.0%}": (SMALL, LARGE),
    f"up to {SMALL:.0%}": (-1.0, SMALL),
}
GOOD = 0.9
# Where the clean model answers zero an error has no relative size; such answers were saved as more
# than this, and are drawn at the right edge.
_OF_ZERO = 1e6
_EDGE = 30.0


@dataclass(frozen=True)
class Point:
    """A complaint: how wrong its answer is, and what it finds.

    Attributes
    ----------
    error : relative, against the answer of the model trained on clean data; below 0 where the
        complaint leads away from that. A join asks for fewer pairs, whatever the clean model gives.
    relaxed_error : the same of answers under probabilities.
    peak, opposite : AUC_R, and that of the opposite complaint.
    """

    run: Run
    query: str
    error: float
    relaxed_error: float
    peak: float
    opposite: float

    @property
    def kind(self) -> str:
        """Count or join."""
        return self.query.split()[0]

    @property
    def of_zero(self) -> bool:
        """Whether the clean model answers zero."""
        return abs(self.error) > _OF_ZERO


def _wants(cell: Cell) -> bool:
    return cell.data in ("mnist", "cifar10") and cell.corruption == "flip"


def points(runs: list[Run]) -> list[Point]:
    """Of all complaints; a join and the same with its sides exchanged are one."""
    found = (Point(run, **one) for run in FIGURE.of(runs) for one in run.get("complaints", []))
    return list(
        {(point.run["cell"], frozenset(point.query.split())): point for point in found}.values()
    )


def between(found: list[Point], low: float, high: float) -> list[Point]:
    """Those whose error is larger than `low`, up to `high`, whatever its sign."""
    return [point for point in found if low < abs(point.error) <= high]


def good(found: list[Point]) -> int:
    """How many find most of the planted errors."""
    return sum(point.peak > GOOD for point in found)


def towards_clean(found: list[Point]) -> list[Point]:
    """The same, all asking for what the clean model gives."""
    return [replace(point, peak=point.opposite) if point.error < 0 else point for point in found]


def relaxed(found: list[Point]) -> list[Point]:
    """The same complaints by the errors of their relaxed answers."""
    return [replace(point, error=point.relaxed_error) for point in found]


RELAXED = "all ask for the clean model's, relaxed answers"
Reading = Callable[[list[Point]], list[Point]]
READINGS: dict[str, Reading] = {
    "joins ask for fewer pairs": list,
    "joins ask for the clean model's": towards_clean,
    "joins ask for fewer pairs, errors of relaxed answers": relaxed,
    RELAXED: lambda found: towards_clean(relaxed(found)),
}


def _draw(runs: list[Run]) -> None:
    parts = list(records.groups(runs, "data"))
    with picture(FIGURE.name, 2 * len(parts)) as panels:
        for place, ((data,), part) in enumerate(parts):
            for axes, error in zip(panels[2 * place :], ("answer", "relaxed answer"), strict=False):
                across = f"relative error of the {error}"
                figures.framed(axes, title=records.DATA[data], across=across)
                _panel(axes, part, list if error == "answer" else relaxed)
        panels[0].set_ylabel("peak AUC_R")
        figures.explained(panels[0], "center right")


def _panel(axes: figures.Axes, runs: list[Run], read: Reading) -> None:
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlim(-0.001, 1.3 * _EDGE)
    axes.set_xticks([0, 0.01, 0.1, 1, 10], ["0", "1%", "10%", "100%", "1000%"])
    for line, colour in ((LARGE, RED), (SMALL, BLUE)):
        axes.axvline(line, color=colour, lw=0.8)
    for (network,), group in records.groups(runs, "network"):
        found = read(points(group))
        errors = np.minimum([abs(point.error) for point in found], _EDGE)
        peaks = [point.peak for point in found]
        axes.plot(errors, peaks, "o", ms=3, mfc="none", mec=NETWORKS[network], label=network)


def _lines(runs: list[Run]) -> list[str]:
    found = points(runs)
    return [
        f"{reading}, relative error {name}: AUC_R > {GOOD} in {good(part)} of {len(part)}"
        for reading, read in READINGS.items()
        for name, bounds in BANDS.items()
        if (part := between(read(found), *bounds))
    ]


FIGURE = Figure("paper_fig13", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
