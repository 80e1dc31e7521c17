"""Pictures of the page of results, drawn from results/*.json.

python -m experiments.plots
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import results

Run = dict[str, Any]

# Colours that are told apart without seeing red or green (Okabe and Ito 2008).
_SERIES = {
    "singles": ("sum of single effects", "#E69F00", "o"),
    "refined_singles": ("sum of refined effects", "#56B4E9", "^"),
    "together": ("group_effect", "#000000", "s"),
}


def main() -> None:
    print(group_effects(results.load("group_effects")))


def group_effects(body: Run) -> str:
    """Predicted against retrained effects, a panel for each complaint; the path of the picture."""
    cases = list(dict.fromkeys(run["case"] for run in body["runs"]))
    # Text as text, and the same names in the file at every drawing.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rainpp", "font.size": 9}):
        figure = Figure(figsize=(3.4 * len(cases), 3.6), layout="constrained")
        panels = figure.subplots(1, len(cases), squeeze=False)[0]
        for axes, case in zip(panels, cases, strict=True):
            _panel(axes, [run for run in body["runs"] if run["case"] == case])
            axes.set_title(case)
        panels[0].set_ylabel("predicted")
        panels[0].legend(frameon=False, fontsize=8, loc="upper left")
        path = results.FOLDER / "group_effects.svg"
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
    return str(path)


def _panel(axes: Axes, runs: list[Run]) -> None:
    top = 1.1 * max(abs(run["retrained"]) for run in runs)
    low = 1.3 * min(0.0, *(run["retrained"] for run in runs))
    axes.fill_between([0, top], [0, 0.8 * top], [0, 1.2 * top], color="#000000", alpha=0.08, lw=0)
    axes.plot([low, top], [low, top], color="#888888", lw=0.8)
    actual = [run["retrained"] for run in runs]
    for name, (label, colour, marker) in _SERIES.items():
        filled = colour if name == "together" else "none"
        axes.plot(
            actual, [run[name] for run in runs], marker, ms=5, mec=colour, mfc=filled, label=label
        )
    axes.set_xlabel("after training again")


if __name__ == "__main__":
    main()
