"""Figure 12: relative difference of the answer and AUC_R of Q4 to Q7 on ADULT.

python -m experiments.paper.fig12 [--size small|full]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments import commands
from experiments.drawing import BLACK, BLUE, GREEN, ORANGE, picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import Figure
from experiments.paper.records import Asked, Run

QUERIES = {"Q4": BLACK, "Q5": BLUE, "Q6": GREEN, "Q7": ORANGE}
# AUC_R at the library's k, at least.
TARGETS = {"Q4": 0.87, "Q5": 0.79}


def _wants(cell: Cell) -> bool:
    return cell.corruption == "men"


def by_rate(runs: list[Run], query: str) -> list[tuple[float, list[Asked]]]:
    """Complaints of all seeds, by share of flipped labels."""
    parts = records.groups(sorted(FIGURE.of(runs), key=lambda run: run["rate"]), "rate")
    return [(rate, records.complaints(part, query)) for (rate,), part in parts]


def _draw(runs: list[Run]) -> None:
    with picture(FIGURE.name, 2) as (differences, found):
        differences.set_title("relative difference of the answer")
        differences.set_xlabel("labels flipped")
        figures.framed(found, title="AUC_R (dashed: library's k)", across="labels flipped")
        for query, colour in QUERIES.items():
            _line(runs, query, differences, colour, lambda one: one.relative_error, label=query)
            _line(runs, query, found, colour, lambda one: one.peak, label=query)
            _line(runs, query, found, colour, lambda one: one.chosen, ls="--")
        differences.set_ylim(bottom=0)
        figures.explained(differences)


def _line(
    runs: list[Run], query: str, axes: figures.Axes, colour: str,
    value: Callable[[Asked], float], **style: Any,
) -> None:  # fmt: skip
    points = [(rate, records.mean_of(asked, value)) for rate, asked in by_rate(runs, query)]
    rates, means = zip(*points, strict=True)
    axes.plot([f"{rate:.0%}" for rate in rates], means, marker="o", ms=4, color=colour, **style)


def _lines(runs: list[Run]) -> list[str]:
    return [
        f"{query} {rate:.0%}: peak {records.mean_of(asked, lambda one: one.peak):.3f}, "
        f"library's k {records.mean_of(asked, lambda one: one.chosen):.3f}"
        for query in QUERIES
        for rate, asked in by_rate(runs, query)
    ]


FIGURE = Figure("paper_fig12", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
