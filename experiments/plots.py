"""Pictures of the page of results, drawn from results/*.json.

python -m experiments.plots
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from experiments import commands, plots_paper_times, results
from experiments.drawing import BLACK, GREY, ORANGE, SKY, path_of, picture

Run = dict[str, Any]

_SERIES = {
    "singles": ("sum of single effects", ORANGE, "o"),
    "refined_singles": ("sum of refined effects", SKY, "^"),
    "together": ("group_effect", BLACK, "s"),
}


def main() -> None:
    print(group_effects(results.load("group_effects")))
    plots_paper_times.main()


def group_effects(body: Run) -> str:
    """Predicted against retrained effects, a panel for each complaint; the path of the picture."""
    cases = list(dict.fromkeys(run["case"] for run in body["runs"]))
    with picture("group_effects", len(cases)) as panels:
        for axes, case in zip(panels, cases, strict=True):
            _panel(axes, [run for run in body["runs"] if run["case"] == case])
            axes.set_title(case)
        panels[0].set_ylabel("predicted")
        panels[0].legend(frameon=False, fontsize=8, loc="upper left")
    return str(path_of("group_effects"))


def _panel(axes: Axes, runs: list[Run]) -> None:
    top = 1.1 * max(abs(run["retrained"]) for run in runs)
    low = 1.3 * min(0.0, *(run["retrained"] for run in runs))
    axes.fill_between([0, top], [0, 0.8 * top], [0, 1.2 * top], color=BLACK, alpha=0.08, lw=0)
    axes.plot([low, top], [low, top], color=GREY, lw=0.8)
    actual = [run["retrained"] for run in runs]
    for name, (label, colour, marker) in _SERIES.items():
        filled = colour if name == "together" else "none"
        axes.plot(
            actual, [run[name] for run in runs], marker, ms=5, mec=colour, mfc=filled, label=label
        )
    axes.set_xlabel("after training again")


if __name__ == "__main__":
    commands.without_options(main, __doc__)
