"""All figures about time, one after the other; what they share is trained and compiled once.

python -m experiments.paper.times [--size small|full] [--only cifar10] [--again]
"""

from __future__ import annotations

from experiments import commands
from experiments.paper import fig1, fig6, fig7, fig8, fig10


def main() -> None:
    for figure in (fig1, fig6, fig7, fig8, fig10):
        figure.main()


if __name__ == "__main__":
    commands.run(main)
