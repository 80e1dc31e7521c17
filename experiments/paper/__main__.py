"""Every figure, drawn from what has been measured; nothing is measured.

python -m experiments.paper
"""

from __future__ import annotations

from experiments import commands
from experiments.paper import fig2, fig3, fig4, fig5, fig11, fig12, fig13, fig15, records, table5


def main() -> None:
    runs = records.known()
    for module in (fig2, fig3, fig4, fig5, fig12, fig13, fig15, table5):
        module.FIGURE.show(module.FIGURE.of(runs))
    fig11.show()


if __name__ == "__main__":
    commands.run(main)
