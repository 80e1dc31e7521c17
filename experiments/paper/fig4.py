"""Figure 4: peak AUC_R of Rain against that of Rain++, Q1 and Q3, all errors.

python -m experiments.paper.fig4 [--size small|full]
"""

from __future__ import annotations

from experiments import commands
from experiments.drawing import GREY, picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import MARKERS, NETWORKS, Figure
from experiments.paper.records import Asked, Run

QUERIES = ("Q1", "Q3")
# Rain++ keeps up when it is not further behind than this.
TIE = 0.02


def _wants(cell: Cell) -> bool:
    return cell.data != "adult" and cell.corruption != "two flips"


def shown(runs: list[Run]) -> list[Asked]:
    """Every point of the figure."""
    return records.complaints(FIGURE.of(runs), *QUERIES)


def keeps_up(one: Asked) -> bool:
    """Whether Rain++ finds as much as Rain."""
    return one.peak >= one.rain - TIE


def _draw(runs: list[Run]) -> None:
    with picture(FIGURE.name, len(QUERIES)) as panels:
        for axes, query in zip(panels, QUERIES, strict=True):
            figures.framed(axes, title=query, across="Rain, peak AUC_R")
            axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
            axes.set_aspect("equal")
            named: set[str] = set()
            for one in records.complaints(runs, query):
                label = records.title(one.run)
                axes.plot(
                    one.rain, one.peak, MARKERS[one.run["data"]], ms=5, mfc="none",
                    mec=NETWORKS[one.run["network"]], label=None if label in named else label,
                )  # fmt: skip
                named.add(label)
        panels[0].set_ylabel("Rain++, peak AUC_R")
        figures.explained(panels[1], "lower right")


def _lines(runs: list[Run]) -> list[str]:
    found = shown(runs)
    behind = [one for one in found if not keeps_up(one)]
    told = [f"{one.name}: Rain {one.rain:.3f}, Rain++ {one.peak:.3f}" for one in behind]
    return [f"Rain++ keeps up in {len(found) - len(behind)} of {len(found)} complaints", *told]


FIGURE = Figure("paper_fig4", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
