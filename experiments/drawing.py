"""How pictures of the page of results are drawn and saved."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import results

# Colours that are told apart without seeing red or green (Okabe and Ito 2008).
BLACK, GREY = "#000000", "#888888"
ORANGE, SKY, GREEN, BLUE, RED, PINK = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
# In the order in which lines of a panel take them.
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK)


@contextmanager
def drawn(name: str, size: tuple[float, float]) -> Generator[Figure]:
    """A figure of some inches to draw on; saved as ``results/<name>.svg`` afterwards."""
    # Text as text, and the same names in the file at every drawing.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rainpp", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        figure.savefig(path_of(name), metadata={"Date": None}, facecolor="white")


@contextmanager
def picture(name: str, panels: int, *, width: float = 3.4) -> Generator[list[Axes]]:
    """Panels side by side, written to `results/<name>.svg` once they are drawn.

    Parameters
    ----------
    width : of a panel, in inches.
    """
    with drawn(name, (width * panels, 3.6)) as figure:
        yield list(figure.subplots(1, panels, squeeze=False)[0])


def path_of(name: str) -> Path:
    """Where a picture is."""
    return results.FOLDER / f"{name}.svg"
