"""All figures about time, one after the other; what they share is trained and compiled once.

python -m experiments.paper.times [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

from experiments import commands
from experiments.paper import fig1, fig6, fig7, fig8, fig10
from experiments.paper.timing import NothingNamed

FIGURES = (fig1, fig6, fig7, fig8, fig10)


def main() -> None:
    nothing: list[NothingNamed] = []
    for figure in FIGURES:
        try:
            figure.main()
        except NothingNamed as problem:  # fig8 is about no network
            nothing.append(problem)
    if len(nothing) == len(FIGURES):
        raise nothing[0]


if __name__ == "__main__":
    commands.run(main)
