"""How pictures of the page of results are drawn and saved."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments import results

# Colours that are told apart without seeing red or green (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@contextmanager
def drawn(name: str, size: tuple[float, float]) -> Generator[Figure]:
    """A figure of some inches to draw on; saved as ``results/<name>.svg`` afterwards."""
    # Text as text, and the same names in the file at every drawing.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rainpp", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        figure.savefig(path_of(name), metadata={"Date": None}, facecolor="white")


def path_of(name: str) -> Path:
    """Where a picture is."""
    return results.FOLDER / f"{name}.svg"
