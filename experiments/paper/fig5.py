"""Figure 5: share of the peak AUC_R by k, and at the k the library takes.

python -m experiments.paper.fig5 [--size small|full]
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from experiments import commands
from experiments.drawing import picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import NETWORKS, Figure
from experiments.paper.records import Asked, Run

QUERIES = {"sst2": ("Q3",), "adult": ("Q7",)}
# A complaint whose peak is lower has nothing to find (§6.4).
LEAST_PEAK = 0.1


def _wants(cell: Cell) -> bool:
    return cell.corruption not in ("men", "two flips")


@dataclass(frozen=True)
class Share:
    """Of a network: mean shares of the peak.

    Attributes
    ----------
    curve : by k.
    chosen : at the k the library takes for each complaint.
    """

    run: Run
    complaints: int
    curve: list[float]
    chosen: float
    k: list[int]

    @property
    def best_k(self) -> int:
        """The one k that is best for all of them."""
        return self.curve.index(max(self.curve)) + 1

    @property
    def of_best(self) -> float:
        """What the library's k finds, as a share of what the best k for all of them does."""
        return self.chosen / max(self.curve)


def shares(runs: list[Run], *keys: str) -> list[Share]:
    """One for every network, or for every data set."""
    parts = records.groups(FIGURE.of(runs), *(keys or ("data", "network")))
    return [_share(asked) for _, part in parts if (asked := _effective(part))]


def _effective(runs: list[Run]) -> list[Asked]:
    asked = records.complaints(runs, *QUERIES.get(runs[0]["data"], ("Q1", "Q3")))
    return [one for one in asked if one.peak > LEAST_PEAK]


def _share(asked: list[Asked]) -> Share:
    curves = [[value / one.peak for value in one.curve] for one in asked]
    chosen = statistics.mean(one.chosen / one.peak for one in asked)
    taken = sorted({one.run["chosen_k"] for one in asked})
    return Share(asked[0].run, len(asked), records.mean_curve(curves), chosen, taken)


def _draw(runs: list[Run]) -> None:
    parts = list(records.groups(runs, "data"))
    with picture(FIGURE.name, len(parts), width=2.6) as panels:
        for axes, ((data,), part) in zip(panels, parts, strict=True):
            figures.framed(axes, title=records.DATA[data], across="k")
            for share in shares(part):
                network = share.run["network"]
                colour = NETWORKS[network]
                figures.along_k(axes, share.curve, colour, label=network)
                axes.plot(statistics.mean(share.k), share.chosen, "o", ms=6, color=colour)
            figures.explained(axes, "lower right")
        panels[0].set_ylabel("share of the peak AUC_R; dot: library's k")


def _lines(runs: list[Run]) -> list[str]:
    return [
        f"{records.title(share.run)}: {share.complaints} complaints, library's k {share.k} has "
        f"{share.chosen:.3f} of the peak; one k for all: {share.best_k} has {max(share.curve):.3f}"
        for share in shares(runs)
    ]


FIGURE = Figure("paper_fig5", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
