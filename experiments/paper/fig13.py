"""Figure 13: peak AUC_R against the relative error of the answer, many complaints.

python -m experiments.paper.fig13 [--size small|full]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import NETWORKS, Figure
from experiments.paper.records import Run
from experiments.plots import BLUE, RED, picture

LARGE, SMALL = 0.25, 0.05  # the vertical lines of the paper
GOOD = 0.9
# Where the clean model answers zero an error has no relative size; such answers were saved as more
# than this, and are drawn at the right edge.
_OF_ZERO = 1e6
_EDGE = 30.0


@dataclass(frozen=True)
class Point:
    """A complaint: how wrong its answer is, and the peak AUC_R."""

    run: Run
    query: str
    error: float
    peak: float

    @property
    def kind(self) -> str:
        """Count or join."""
        return self.query.split()[0]

    @property
    def of_zero(self) -> bool:
        """Whether the clean model answers zero."""
        return self.error > _OF_ZERO


def _wants(cell: Cell) -> bool:
    return cell.data in ("mnist", "cifar10") and cell.corruption == "flip"


def points(runs: list[Run]) -> list[Point]:
    """Of all complaints."""
    return [Point(run, *swept) for run in FIGURE.of(runs) for swept in run["swept"]]


def between(found: list[Point], low: float, high: float = float("inf")) -> list[Point]:
    """Those whose error is larger than `low`, up to `high`."""
    return [point for point in found if low < point.error <= high]


def good(found: list[Point]) -> int:
    """How many find most of the planted errors."""
    return sum(point.peak > GOOD for point in found)


def _draw(runs: list[Run]) -> None:
    parts = list(records.groups(runs, "data"))
    with picture(FIGURE.name, len(parts)) as panels:
        for axes, ((data,), part) in zip(panels, parts, strict=True):
            figures.framed(axes, title=records.DATA[data], across="relative error of the answer")
            axes.set_xscale("symlog", linthresh=0.01)
            axes.set_xlim(-0.001, 1.3 * _EDGE)
            for line, colour in ((LARGE, RED), (SMALL, BLUE)):
                axes.axvline(line, color=colour, lw=0.8)
            for (network,), group in records.groups(part, "network"):
                found = points(group)
                errors = np.minimum([point.error for point in found], _EDGE)
                peaks = [point.peak for point in found]
                axes.plot(errors, peaks, "o", ms=3, mfc="none", mec=NETWORKS[network], label=network)
            figures.explained(axes, "lower right")
        panels[0].set_ylabel("peak AUC_R")


def _lines(runs: list[Run]) -> list[str]:
    found = points(runs)
    parts = {"> 25 %": (LARGE,), "5 - 25 %": (SMALL, LARGE), "<= 5 %": (-1.0, SMALL)}
    return [
        f"relative error {name}: AUC_R > {GOOD} in {good(part)} of {len(part)}"
        for name, bounds in parts.items()
        if (part := between(found, *bounds))
    ]


FIGURE = Figure("paper_fig13", _wants, _draw, _lines)

if __name__ == "__main__":
    figures.main(FIGURE, __doc__)
