"""The report's charts as inline SVG that takes its colours and its font from the page.

matplotlib draws with stand-in colours; `_inline` then replaces them by the page's CSS variables, so
one drawing serves light and dark. Text stays text: it can be selected and read aloud.
"""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rainpp.report.rounds import Rounds
from rainpp.report.story import Cumulative, Recall, Spectrum
from rainpp.report.words import number, share

# Stand-ins, each the only use of its colour in a drawing.
_COLOURS = {
    "--ink": "#010203",
    "--muted": "#040506",
    "--line": "#070809",
    "--before": "#0a0b0c",
    "--after": "#0d0e0f",
    "--right": "#101112",
}
_INK, _MUTED, _LINE, _BEFORE, _AFTER, _RIGHT = _COLOURS.values()
_SIZE = (4.6, 2.8)  # inches, 72 units each: 331 units across, about a telephone's pixels
_TALL = (4.6, 3.6)
# Bars that bear their number, and letters of a name beside an axis.
_MOST_NUMBERED, _LONGEST = 12, 24
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "columnspacing": 1.2}
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "font.size": 10,
}


def spectrum_chart(spectrum: Spectrum) -> str:
    """Eigenvalues on a log scale, those kept in full colour."""
    with mpl.rc_context(_STYLE):
        figure, axes = _frame("eigenvalue number", "eigenvalue")
        values = np.asarray(spectrum.values, np.float64)
        numbers = np.arange(1, values.size + 1)
        kept = numbers <= spectrum.k
        axes.set_yscale("log")
        axes.plot(numbers[~kept], values[~kept], "o", color=_LINE, markersize=4)
        axes.plot(numbers[kept], values[kept], "o", color=_AFTER, markersize=5)
        axes.axvline(spectrum.k + 0.5, color=_MUTED, linewidth=1, linestyle=(0, (3, 3)))
        _note(axes, f"k = {spectrum.k}", (spectrum.k + 0.5, 1), (6, -10), across=True)
        summary = (
            f"{values.size} eigenvalues from {number(float(values[0]))} down to "
            f"{number(float(values[-1]))}; the first {spectrum.k} are kept."
        )
        return _inline(figure, summary)


def cumulative_chart(line: Cumulative) -> str:
    """Predicted value of a cell against the number of interventions, and what retraining gave."""
    with mpl.rc_context(_STYLE):
        figure, axes = _frame("training rows repaired, in order of the ranking", line.cell)
        values = np.concatenate([[line.start], np.asarray(line.values, np.float64)])
        steps = np.arange(values.size)
        applied = steps <= line.applied
        axes.plot(steps, values, color=_LINE)
        axes.plot(steps[applied], values[applied], color=_AFTER)
        summary = f"{line.cell}: {number(line.start)} at first, "
        summary += f"{number(float(values[line.applied]))} predicted after {line.applied} repairs"
        if line.target is not None:
            axes.axhline(line.target, color=_RIGHT, linewidth=1.2, linestyle=(0, (4, 3)))
            _note(axes, f"counted: {number(line.target)}", (0, line.target), (2, 5), colour=_RIGHT)
            summary += f", {number(line.target)} counted by the user"
        if line.retrained is not None:
            place = (line.applied, line.retrained)
            axes.plot(*place, "o", color=_INK, markersize=7, zorder=3)
            rising = values[-1] >= values[0]
            offset = (8, -14) if rising else (8, 9)
            _note(axes, f"retrained: {number(line.retrained)}", place, offset)
            summary += f", {number(line.retrained)} found by retraining"
        axes.margins(x=0.02, y=0.14)
        axes.set_xlim(right=max(values.size - 1, line.applied * 1.45))
        return _inline(figure, summary + ".")


def recall_chart(recall: Recall) -> str:
    """Recall of the ranking between the ideal order and a random one."""
    with mpl.rc_context(_STYLE):
        figure, axes = _frame("suspects looked at", "share of the errors found")
        curve = np.concatenate([[0], np.asarray(recall.curve, np.float64)])
        steps = np.arange(curve.size)
        size = max(curve.size - 1, 1)
        axes.plot(steps, steps / size, color=_RIGHT, linewidth=1.2, linestyle=(0, (4, 3)))
        # A random order finds the same share of the errors as of all rows.
        random = steps / recall.num_training_rows
        axes.plot(steps, random, color=_MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.plot(steps, curve, color=_AFTER)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, size)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
        _note(axes, "ideal", (0.48 * size, 0.48), (-8, 6), align="right", colour=_RIGHT)
        _note(axes, "this ranking", (0.7 * size, curve[int(0.7 * size)]), (10, -16), colour=_AFTER)
        _note(axes, "random order", (size, random[-1]), (-2, 6), align="right", colour=_MUTED)
        summary = (
            f"After {curve.size - 1} suspects the ranking has found {share(float(curve[-1]))} of "
            f"the errors; a random order {share(float(random[-1]))}, an ideal one all."
        )
        return _inline(figure, summary)


def rounds_chart(rounds: Rounds) -> str:
    """The number after every round, with what was promised, above the rows changed so far."""
    with mpl.rc_context(_STYLE):
        figure = _figure(_TALL)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _dress(above, "", rounds.name if len(rounds.name) <= _LONGEST else "value")
        _dress(below, "round; the bars are rows changed so far", "rows")
        _values_by_round(above, rounds)
        _rows_by_round(below, [each.touched for each in rounds.rounds])
        handles, names = above.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4, **_LEGEND)
        return _inline(figure, rounds.verdict)


def _values_by_round(axes: Axes, rounds: Rounds) -> None:
    steps = np.arange(len(rounds.rounds) + 1)
    values = [rounds.before, *(each.value for each in rounds.rounds)]
    relaxed = [rounds.relaxed, *(each.relaxed for each in rounds.rounds)]
    promised = [each.predicted for each in rounds.rounds]
    axes.plot(steps, values, "o-", color=_AFTER, ms=5, zorder=3, label="value")
    axes.plot(steps, relaxed, "--", color=_MUTED, lw=1.4, label="relaxed")
    axes.plot(steps[1:], promised, "D", color=_BEFORE, mfc="none", ms=7, label="promised")
    axes.axhline(rounds.target, color=_RIGHT, lw=1.2, linestyle=(0, (4, 3)), label="target")
    axes.margins(x=0.06, y=0.12)


def _rows_by_round(axes: Axes, touched: list[int]) -> None:
    numbers = np.arange(1, len(touched) + 1)
    axes.bar(numbers, touched, width=0.45, color=_LINE)
    axes.set_ylim(0, 1.5 * max(touched))
    axes.set_yticks([])
    for place in zip(numbers[:_MOST_NUMBERED], touched, strict=False):
        _note(axes, f"{place[1]:,}", place, (0, 3), align="center")


def _frame(x: str, y: str) -> tuple[Figure, Axes]:
    figure = _figure(_SIZE)
    axes = figure.add_subplot()
    _dress(axes, x, y)
    return figure, axes


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.patch.set_alpha(0)
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    *,
    colour: str = _INK,
    align: Literal["left", "center", "right"] = "left",
    across: bool = False,
) -> None:
    """A label beside a point; with `across` the height is a share of the axes."""
    axes.annotate(
        text,
        place,
        xycoords=axes.get_xaxis_transform() if across else "data",
        xytext=offset,
        textcoords="offset points",
        ha=align,
        color=colour,
    )


# What a page does not want: links, rules for the whole page, the same ids in every chart, a fixed
# size, and fonts other than its own.
_SURPLUS = (
    r"<metadata>.*?</metadata>",
    r"<!--.*?-->",
    r"<style.*?</style>",
    r'\sxmlns(:\w+)?="[^"]*"',
    r'(?<=<g) id="[^"]*"',
    r'(?<=<svg)(\s(?:width|height)="[\d.]+pt")+',
    r" font-family: [^;\"]*;",
)


def _inline(figure: Figure, summary: str) -> str:
    """The figure as an <svg> element described by `summary`, without links and fixed colours."""
    buffer = io.StringIO()
    # Element ids come from the salt: two charts on one page must not share them.
    with mpl.rc_context({"svg.hashsalt": summary}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for surplus in _SURPLUS:
        text = re.sub(surplus, "", text, flags=re.DOTALL)
    for variable, colour in _COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    text = text.replace("xlink:href", "href")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(summary)}"', 1).strip()
