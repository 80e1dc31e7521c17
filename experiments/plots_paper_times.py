"""Pictures of the paper's figures of time, of whatever has been measured.

python -m experiments.plots_paper_times
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.axes import Axes

from experiments import commands
from experiments.drawing import BLUE, COLOURS, GREY, RED, drawn, path_of
from experiments.paper.cells import PAPER_PARAMETERS
from experiments.tables_paper_times import (
    NAMES,
    TABLE_4,
    by_k,
    by_table_and_k,
    label,
    measured,
    rain_by_step,
    rainpp_by_k,
)

Run = dict[str, Any]

_TABLES = {"host": "table in memory, CPU", "device": "table on the GPU"}


def main() -> None:
    for figure, draw in _PICTURES.items():
        runs, _ = measured(figure)
        if runs:
            draw(runs)
            print(path_of(f"paper_{figure}"))


def fig1(runs: list[Run]) -> None:
    """Seconds of a complaint by parameters; a square is a network on photos."""
    with drawn("paper_fig1", (6.2, 3.8)) as figure:
        axes = figure.subplots()
        for part, paper in TABLE_4.items():
            place = PAPER_PARAMETERS[part.split()[1]], paper[3]
            axes.plot(*place, "x", color=GREY, ms=6)
            _named(axes, part, place, GREY, below=True)
        axes.plot([], [], "x", color=GREY, ms=6, label="Rain, paper (V100)")
        axes.axhline(1e-3, color=GREY, lw=0.8, ls="--", label="1 ms: Rain++, paper")
        for name, colour, of in (
            ("Rain", RED, lambda run: run["rain_s"]),
            ("Rain++", BLUE, lambda run: run["p50_ms"] / 1e3),
        ):
            for run in runs:
                _mark(axes, run, of(run), colour)
            axes.plot([], [], "o", color=colour, label=f"{name}, here")
        axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="seconds of a complaint")
        axes.set_title("filled: paper's size, open: small; circle: MNIST, square: CIFAR-10", size=8)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)


def _mark(axes: Axes, run: Run, seconds: float, colour: str) -> None:
    filled = colour if run["size"] == "full" else "none"
    shape = "o" if run["data"] == "mnist" else "s"
    axes.plot(run["parameters"], seconds, shape, ms=6, mec=colour, mfc=filled)
    _named(axes, run["part"], (run["parameters"], seconds), colour)


def _named(
    axes: Axes, part: str, place: tuple[float, float], colour: str, *, below: bool = False
) -> None:
    """The network, right above a mark or below it."""
    offset, side = ((0, -11), "center") if below else ((5, 4), "left")
    axes.annotate(
        NAMES[part], place, offset, textcoords="offset points", ha=side, size=7, color=colour
    )


def fig6(runs: list[Run]) -> None:
    """Seconds by steps of Rain and by eigenpairs of Rain++, a panel a network."""
    across = min(len(runs), 3)
    down = -(-len(runs) // across)
    with drawn("paper_fig6", (2.5 * across + 0.6, 2.3 * down + 0.3)) as figure:
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, run in zip(panels, runs, strict=False):
            rain, fast = rain_by_step(run), rainpp_by_k(run)
            axes.plot(range(1, len(rain) + 1), rain, "o-", color=RED, ms=4, label="Rain")
            axes.plot([*fast], [*fast.values()], "s-", color=BLUE, ms=4, label="Rain++")
            axes.set(yscale="log", title=label(run), xlabel="eigenpairs, CG steps")
            axes.set_ylim(min(fast.values()) / 2, max(rain) * 3)
        for axes in panels[len(runs) :]:
            axes.set_axis_off()
        for axes in panels[::across]:
            axes.set_ylabel("seconds")
        panels[0].legend(frameon=False, fontsize=8)


def fig7(runs: list[Run]) -> None:
    """Milliseconds of the query gradient by k; dashed lines are backpropagation."""
    with drawn("paper_fig7", (6.2, 3.6)) as figure:
        axes = figure.subplots()
        for run, colour in zip(runs, COLOURS, strict=False):
            found = {k: seconds * 1e3 for k, seconds in by_k(run["stored_s"]).items()}
            axes.plot([*found], [*found.values()], "o-", ms=4, color=colour, label=label(run))
            axes.axhline(run["unoptimised_s"] * 1e3, color=colour, ls="--", lw=1)
        axes.plot([], [], "--", color=GREY, lw=1, label="backpropagation")
        axes.set(yscale="log", xlabel="eigenpairs", ylabel="milliseconds of the query gradient")
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)


def fig8(runs: list[Run]) -> None:
    """Milliseconds by interventions, a line for each k."""
    grouped = by_table_and_k(runs)
    tables = list(dict.fromkeys(where for where, _ in grouped))
    with drawn("paper_fig8", (3.4 * len(tables) + 1.2, 3.4)) as figure:
        panels = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
        for axes, where in zip(panels, tables, strict=True):
            lines = {k: group for (place, k), group in grouped.items() if place == where}
            for (k, group), colour in zip(lines.items(), COLOURS, strict=False):
                times = [group[count]["p50_ms"] for count in sorted(group)]
                axes.plot(sorted(group), times, "o-", ms=3, color=colour, label=f"k = {k}")
            axes.axhline(1, color=GREY, lw=0.8, ls="--", label="1 ms: paper, at most")
            axes.set(xscale="log", yscale="log", xlabel="interventions", title=_TABLES[where])
        panels[0].set_ylabel("milliseconds of a complaint")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)


def fig10(runs: list[Run]) -> None:
    """Seconds of projecting by k, training rows and inference rows apart."""
    kinds = {"training_s": "training rows", "inference_s": "inference database"}
    with drawn("paper_fig10", (7.4, 3.2)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (kind, title) in zip(panels, kinds.items(), strict=True):
            for run, colour in zip(runs, COLOURS, strict=False):
                found = by_k(run[kind])
                axes.plot([*found], [*found.values()], "o-", ms=4, color=colour, label=label(run))
            axes.axvline(10, color=GREY, lw=0.8, ls=":")
            axes.set(yscale="log", xlabel="eigenpairs", title=title)
        panels[0].set_ylabel("seconds")
        _legend(figure, panels[0].get_legend_handles_labels())


def _legend(figure: Any, entries: tuple[Iterable[Any], Iterable[str]]) -> None:
    figure.legend(*entries, loc="outside right upper", frameon=False, fontsize=8)


_PICTURES: dict[str, Callable[[list[Run]], None]] = {
    "fig1": fig1, "fig6": fig6, "fig7": fig7, "fig8": fig8, "fig10": fig10,
}  # fmt: skip


if __name__ == "__main__":
    commands.run(main)
