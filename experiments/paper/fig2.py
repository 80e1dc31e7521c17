"""Figure 2: eigenvalues of the curvature as shares of the largest.

python -m experiments.paper.fig2 [--size small|full]
"""

from __future__ import annotations

import numpy as np

from experiments import commands
from experiments.drawing import GREY, picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import NETWORKS, Figure
from experiments.paper.records import Run
from rainpp.lanczos.choose_k import inflection

_CLASSES = {"sst2": 2, "adult": 2}


def _wants(cell: Cell) -> bool:
    return cell.corruption in ("flip", "men") and cell.seed == 0


def shown(runs: list[Run]) -> list[Run]:
    """One of every network: that with most flips."""
    found = [max(group, key=_rate) for _, group in records.groups(runs, "data", "network")]
    return sorted(found, key=lambda run: list(records.DATA).index(run["data"]))


def _rate(run: Run) -> float:
    return run["rate"]


def shares(run: Run) -> list[float]:
    """λᵢ/λ₁."""
    return [value / run["eigenvalues"][0] for value in run["eigenvalues"]]


def num_classes(run: Run) -> int:
    """R."""
    return _CLASSES.get(run["data"], 10)


def papers_k(run: Run) -> int | None:
    """What the rule of §4.3 takes; None where more of the spectrum must be known."""
    return inflection(np.array(run["eigenvalues"]), num_classes(run))


def _draw(runs: list[Run]) -> None:
    ten = [run for run in shown(runs) if num_classes(run) == 10]
    two = [run for run in shown(runs) if num_classes(run) == 2]
    parts = [(f"{n} classes", part) for n, part in ((10, ten), (2, two)) if part]
    with picture(FIGURE.name, len(parts)) as panels:
        for axes, (title, part) in zip(panels, parts, strict=True):
            figures.framed(axes, title=title, across="i")
            axes.axvline(num_classes(part[0]), color=GREY, lw=0.8, ls=":")
            for run in part:
                marker = figures.MARKERS[run["data"]]
                style = {"marker": marker, "label": records.title(run)}
                figures.along_k(axes, shares(run), NETWORKS[run["network"]], ms=3, **style)
            figures.explained(axes)
        panels[0].set_ylabel("λᵢ / λ₁")


def _lines(runs: list[Run]) -> list[str]:
    return [
        f"{run['cell']}: λ₁₁/λ₁ {shares(run)[10]:.3f}, library's k {run['chosen_k']}, "
        f"inflection {papers_k(run)}"
        for run in shown(runs)
    ]


FIGURE = Figure("paper_fig2", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
