"""Tables in Markdown."""

from __future__ import annotations


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Rows of cells under their columns."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
