"""Table 5: peak AUC_R of six complaints where two classes of MNIST are mislabelled at once.

python -m experiments.paper.table5 [--size small|full]
"""

from __future__ import annotations

from experiments import commands
from experiments.paper import figures, records
from experiments.paper.cells import Cell
from experiments.paper.figures import Figure
from experiments.paper.records import Asked, Run

QUERIES = ("Q3-1", "Q3-4", "Q3-7", "Q3-9", "Q2-(1,4)", "Q2-(7,9)")
PAPER = {
    0.1: (0.69, 0.70, 0.78, 0.70, 0.98, 0.98),
    0.2: (0.69, 0.73, 0.78, 0.70, 0.99, 0.99),
    0.3: (0.80, 0.72, 0.78, 0.70, 0.99, 0.99),
    0.4: (0.85, 0.72, 0.80, 0.70, 0.98, 0.98),
}


def _wants(cell: Cell) -> bool:
    return cell.corruption == "two flips"


def rows(runs: list[Run]) -> list[tuple[str, float, dict[str, list[Asked]]]]:
    """Network, rate, and the complaints of all seeds by query."""
    parts = records.groups(sorted(FIGURE.of(runs), key=lambda run: run["rate"]), "network", "rate")
    return [
        (network, rate, {query: records.complaints(part, query) for query in QUERIES})
        for (network, rate), part in sorted(parts, key=lambda part: part[0])
    ]


def _lines(runs: list[Run]) -> list[str]:
    return [
        f"{network} {rate:.0%}: "
        + ", ".join(f"{q} {records.mean_of(a, lambda one: one.peak):.3f}" for q, a in asked.items())
        for network, rate, asked in rows(runs)
    ]


FIGURE = Figure("paper_table5", _wants, None, _lines)

if __name__ == "__main__":
    commands.run(figures.main, FIGURE, __doc__)
