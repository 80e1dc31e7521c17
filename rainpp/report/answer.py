"""The answer before and after, as a table with bars."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from rainpp.report.story import AnswerRow, Story
from rainpp.report.words import number

_Column = tuple[str, str, Callable[[AnswerRow], float | None]]
# Header, class and value; the "wide" ones are left out on a telephone.
_COLUMNS: tuple[_Column, ...] = (
    ("before", "", lambda row: row.before),
    ("after", "", lambda row: row.after),
    ("should be", "", lambda row: row.expected),
    ("relaxed before", "wide", lambda row: row.before_relaxed),
    ("relaxed, predicted", "wide", lambda row: row.predicted),
    ("relaxed, retrained", "wide", lambda row: row.after_relaxed),
)


def answer_table(story: Story) -> str:
    """Every row of the answer with its numbers and two bars; columns nobody filled are left out."""
    columns = [
        column for column in _COLUMNS if any(column[2](row) is not None for row in story.answer)
    ]
    heads = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind, _ in columns)
    largest = _largest(story.answer)
    rows = "".join(_row(row, columns, largest) for row in story.answer)
    return (
        f"{_legend(story)}"
        '<div class="scroll"><table><thead><tr>'
        f'<th scope="col">{escape(story.group)}</th>'
        f'<th scope="col" class="bars">{escape(story.column)}</th>{heads}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _legend(story: Story) -> str:
    items = [("before", "before")]
    if any(row.after is not None for row in story.answer):
        items.append(("after", "after repair and retraining"))
    if any(row.expected is not None for row in story.answer):
        items.append(("mark", "what it should be"))
    keys = "".join(f'<li><span class="key {kind}"></span>{text}</li>' for kind, text in items)
    return f'<ul class="legend">{keys}</ul>'


def _largest(rows: tuple[AnswerRow, ...]) -> float:
    values = [value for row in rows for value in (row.before, row.after, row.expected)]
    return max([abs(value) for value in values if value is not None and value == value] + [1e-12])


def _row(row: AnswerRow, columns: list[_Column], largest: float) -> str:
    cells = "".join(_cell(kind, value(row)) for _, kind, value in columns)
    mark = ' class="complained"' if row.complained else ""
    return (
        f'<tr{mark}><th scope="row">{escape(row.key)}</th>'
        f'<td class="bars" aria-hidden="true">{_bars(row, largest)}</td>{cells}</tr>'
    )


def _cell(kind: str, value: float | None) -> str:
    return f'<td class="{kind}">{"" if value is None else number(value)}</td>'


def _bars(row: AnswerRow, largest: float) -> str:
    parts = [_bar("before", row.before, largest)]
    if row.after is not None:
        parts.append(_bar("after", row.after, largest))
    if row.expected is not None:
        parts.append(f'<span class="mark" style="left:{_percent(row.expected, largest)}"></span>')
    return f'<span class="track">{"".join(parts)}</span>'


def _bar(kind: str, value: float, largest: float) -> str:
    return f'<span class="bar {kind}" style="width:{_percent(value, largest)}"></span>'


def _percent(value: float, largest: float) -> str:
    clipped = max(value, 0.0) if value == value else 0.0
    return f"{100 * clipped / largest:.1f}%"
