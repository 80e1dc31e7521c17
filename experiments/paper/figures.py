"""What the scripts of all figures share: measuring what is missing, drawing, printing numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from experiments import drawing, results
from experiments.paper import records
from experiments.paper.cells import SIZES, Cell, cells
from experiments.paper.records import Run

# By rate of errors, from few to many; by network, from small to large.
RATES = {0.1: drawing.SKY, 0.2: drawing.GREEN, 0.3: drawing.ORANGE, 0.4: drawing.RED}
NETWORKS = {
    "logistic": drawing.BLACK, "mlp": drawing.BLUE, "cnn": drawing.RED, "wrn10": drawing.SKY,
    "wrn18": drawing.GREEN, "wrn26": drawing.ORANGE, "lstm": drawing.PINK,
}  # fmt: skip
MARKERS = {"mnist": "o", "fashion": "s", "cifar10": "^", "sst2": "D", "adult": "v"}


@dataclass(frozen=True)
class Figure:
    """A figure or a table of the paper.

    Attributes
    ----------
    name : of its picture.
    wants : whether it is drawn from a cell.
    draw : writes the picture; None for a table.
    lines : its numbers.
    """

    name: str
    wants: Callable[[Cell], bool]
    draw: Callable[[list[Run]], None] | None
    lines: Callable[[list[Run]], list[str]]

    def show(self, runs: list[Run]) -> None:
        """Draw from records, and print."""
        if not runs:
            print(f"{self.name}: nothing of it has been measured")
            return
        if self.draw is not None:
            self.draw(runs)
            print(results.FOLDER / f"{self.name}.svg")
        print("\n".join(self.lines(runs)))

    def of(self, runs: Iterable[Run]) -> list[Run]:
        """Those it is drawn from."""
        return [run for run in runs if self.wants(_cell(run))]


def main(figure: Figure, about: str | None) -> None:
    """Measure the cells of a figure that are missing, and draw it."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    size = parser.parse_args().size
    from experiments.paper import sweep  # networks need Flax, drawing does not

    sweep.measure_all([cell for cell in cells(size) if figure.wants(cell)], size)
    figure.show(figure.of(records.known()))


def _cell(run: Run) -> Cell:
    keys = ("data", "network", "corruption", "rate", "seed", "size")
    return Cell(**{key: run[key] for key in keys})


def framed(axes: Axes, *, title: str, across: str) -> None:
    """A panel of AUC_R, or of anything else between zero and one."""
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylim(-0.03, 1.05)


def explained(axes: Axes, place: Any = "best", *, columns: int = 1) -> None:
    """What is what."""
    axes.legend(frameon=False, fontsize=8, loc=place, ncols=columns)


def along_k(axes: Axes, curve: list[float], colour: str, style: str = "-", **named: Any) -> None:
    """A curve over 1, 2, ..."""
    axes.plot(range(1, len(curve) + 1), curve, style, color=colour, lw=1.2, **named)
