"""Style sheets of the page, and drawings that take theirs along."""

from __future__ import annotations

from importlib.resources import files

COLOURS, PAGE = "colours.css", "style.css"
_ALONE = "svg { background: var(--paper); font-family: system-ui, sans-serif; }"


def read_style(name: str) -> str:
    """A style sheet of the report."""
    return files("rainpp.report").joinpath(name).read_text("utf-8")


def standalone(svg: str) -> str:
    """A drawing of the page as a file of its own, in the page's colours."""
    start, rest = svg.split(">", 1)
    start = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{start}><style>{read_style(COLOURS)}{_ALONE}</style>{rest}\n"
