"""Figure 3: AUC_R of Q1 by conjugate-gradient steps (Rain) and by eigenpairs (Rain++).

python -m experiments.paper.fig3 [--size small|full]
"""

from __future__ import annotations

from experiments import commands
from experiments.drawing import BLACK, picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import RATES, Figure
from experiments.paper.records import Asked, Run


def _wants(cell: Cell) -> bool:
    return cell.data == "mnist" and cell.corruption == "flip" and cell.seed == 0


def _draw(runs: list[Run]) -> None:
    parts = list(records.groups(runs, "network"))
    with picture(FIGURE.name, len(parts)) as panels:
        for axes, ((network,), part) in zip(panels, parts, strict=True):
            figures.framed(axes, title=f"MNIST {network}", across="steps or eigenpairs")
            for one in records.complaints(part, "Q1"):
                colour = RATES[one.run["rate"]]
                figures.along_k(axes, one.found["steps"], colour)
                figures.along_k(axes, one.curve, colour, "--", label=f"{one.run['rate']:.0%}")
        panels[0].set_ylabel("AUC_R of Q1")
        panels[0].plot([], [], "-", color=BLACK, label="Rain, steps")
        panels[0].plot([], [], "--", color=BLACK, label="Rain++, eigenpairs")
        figures.explained(panels[0], "lower right")


def peaks(one: Asked) -> str:
    """Where both are at their best, and where they end."""
    parts = [
        f"{max(curve):.3f} at {curve.index(max(curve)) + 1}, {curve[-1]:.3f} at {len(curve)}"
        for curve in (one.found["steps"], one.curve)
        if curve
    ]
    return "; ".join(parts)


def _lines(runs: list[Run]) -> list[str]:
    return [f"{one.name}: {peaks(one)}" for one in records.complaints(runs, "Q1")]


FIGURE = Figure("paper_fig3", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
