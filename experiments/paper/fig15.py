"""Figure 15: salt and pepper on a class, rows deleted against rows filtered.

python -m experiments.paper.fig15 [--size small|full]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments import commands
from experiments.drawing import BLUE, RED, picture
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import Figure
from experiments.paper.records import Asked, Run

QUERIES = {"Q3": ("-", "o"), "Q1": ("--", "s")}
LEAST_DENOISED, MOST_DELETED = 0.65, 0.2


def _wants(cell: Cell) -> bool:
    return cell.corruption == "salt class"


@dataclass(frozen=True)
class Interventions:
    """Of a network, a query and a rate: peak AUC_R, means of the seeds."""

    run: Run
    query: str
    denoised: float
    deleted: float
    asked: list[Asked]

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{records.title(self.run)} {self.query} {self.run['rate']:.0%}"


def denoised(one: Asked) -> float:
    """Peak AUC_R of the median filter."""
    return max(one.found["denoised"])


def compared(runs: list[Run]) -> list[Interventions]:
    """By network, query and rate."""
    ordered = sorted(FIGURE.of(runs), key=lambda run: run["rate"])
    return [
        Interventions(
            part[0], query, records.mean_of(asked, denoised),
            records.mean_of(asked, lambda one: one.peak), asked,
        )
        for _, part in records.groups(ordered, "data", "network", "rate")
        for query in QUERIES
        if (asked := records.complaints(part, query))
    ]  # fmt: skip


def ends(found: list[Interventions]) -> list[tuple[Interventions, Interventions]]:
    """Lowest and highest rate of every network and query that has two."""
    grouped: dict[tuple[str, str], list[Interventions]] = {}
    for one in found:
        grouped.setdefault((records.title(one.run), one.query), []).append(one)
    return [(part[0], part[-1]) for part in grouped.values() if len(part) > 1]


def _draw(runs: list[Run]) -> None:
    parts = list(records.groups(runs, "data", "network"))
    with picture(FIGURE.name, len(parts), width=2.6) as panels:
        for axes, (_, part) in zip(panels, parts, strict=True):
            title = records.title(part[0])
            figures.framed(axes, title=title, across="rows of the class spoilt")
            for query, (dashes, marker) in QUERIES.items():
                style = {"ls": dashes, "marker": marker}
                found = [one for one in compared(part) if one.query == query]
                _line(axes, found, _denoised, label=f"filter, {query}", color=BLUE, **style)
                _line(axes, found, _deleted, label=f"delete, {query}", color=RED, **style)
        panels[0].set_ylabel("peak AUC_R")
        figures.explained(panels[-1], "center right")


def _denoised(one: Interventions) -> float:
    return one.denoised


def _deleted(one: Interventions) -> float:
    return one.deleted


def _line(
    axes: figures.Axes,
    found: list[Interventions],
    value: Callable[[Interventions], float],
    **style: Any,
) -> None:
    rates = [100 * one.run["rate"] for one in found]
    peaks = [value(one) for one in found]
    axes.plot(rates, peaks, ms=5, **style)
    axes.set_xlim(67, 103)
    axes.set_xticks([70, 80, 90, 100], ["70%", "80%", "90%", "100%"])


def _lines(runs: list[Run]) -> list[str]:
    return [
        f"{one.name}: filter {one.denoised:.3f}, delete {one.deleted:.3f}" for one in compared(runs)
    ]


FIGURE = Figure("paper_fig15", _wants, _draw, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
