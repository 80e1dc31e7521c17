"""The training rows behind the complaint: pictures where there are pictures, else a table."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from rainpp.report.images import data_uri
from rainpp.report.story import Change, Example
from rainpp.report.words import movement, number, share

# Header, class and content of a cell.
_Column = tuple[str, str, Callable[[Example], str]]
# Changed inputs that are written out; of others their number is.
_MOST_CHANGED = 6


def example_list(examples: tuple[Example, ...]) -> str:
    """Cards for rows with an image, a table for rows of a table."""
    if all(example.image is not None for example in examples):
        pairs = any(example.image_after is not None for example in examples)
        kind = "examples pairs" if pairs else "examples"
        return f'<ol class="{kind}">{"".join(_card(example) for example in examples)}</ol>'
    return _table(examples)


def _card(example: Example) -> str:
    last = f"<dt>plausible</dt><dd>{_plausible(example)}</dd>"
    if example.kind == "replace":
        last = f"<dt>label</dt><dd>{_label(example.old_label)}</dd>"
    return (
        f"<li>{_pictures(example)}"
        f'<span class="fix">{_fix(example)}</span>{_verdict(example)}'
        f"<dl><dt>row</dt><dd>{escape(str(example.train_id))}</dd>{last}</dl>"
        f"{_changes(example)}</li>"
    )


def _pictures(example: Example) -> str:
    assert example.image is not None  # checked by `example_list`
    alt = f"training row {example.train_id}, labelled {example.old_label}"
    after = example.image_after
    if after is None:
        return _picture(data_uri(example.image), alt)
    before = _picture(data_uri(example.image, after), f"{alt}, before")
    new = _picture(data_uri(after, example.image), f"{alt}, after {example.repair}")
    return (
        f'<div class="pair"><div>{before}<span class="note">before</span></div>'
        f'<div>{new}<span class="note">after</span></div></div>'
    )


def _picture(source: str, alt: str) -> str:
    return f'<img src="{source}" alt="{escape(alt)}">'


def _changes(example: Example) -> str:
    return "".join(f"<div>{_movement(change)}</div>" for change in example.changes)


def _movement(change: Change) -> str:
    return escape(movement(change.cell, change.amount))


def _fix(example: Example) -> str:
    if example.repair is not None:
        return f'<b title="repair of the inputs">{escape(example.repair)}</b>'
    old = f'<s title="old label">{_label(example.old_label)}</s>'
    if example.new_label is None:
        return f"{old} → <b>delete</b>"
    return f'{old} → <b title="suggested label">{_label(example.new_label)}</b>'


def _plausible(example: Example) -> str:
    """Other changes claim nothing about the label, so their plausibility of 1 would mislead."""
    return share(example.plausibility) if example.kind == "relabel" else "–"


def _verdict(example: Example) -> str:
    if example.verdict is None:
        return ""
    truth = _label(example.true_label)
    if example.verdict:
        return f'<span class="right">✓ truly {truth}</span>'
    return f'<span class="wrong">✗ truly {truth}</span>'


def _table(examples: tuple[Example, ...]) -> str:
    names = list(dict.fromkeys(name for example in examples for name in example.columns))
    columns = [*_about_the_change(examples), *(_of_the_row(name, examples) for name in names)]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(name)}</th>'
        for name, kind in [("row", "text"), *((name, kind) for name, kind, _ in columns)]
    )
    body = "".join(_table_row(example, columns) for example in examples)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _table_row(example: Example, columns: list[_Column]) -> str:
    cells = "".join(f'<td class="{kind}">{content(example)}</td>' for _, kind, content in columns)
    return f'<tr><th scope="row">{escape(str(example.train_id))}</th>{cells}</tr>'


def _about_the_change(examples: tuple[Example, ...]) -> list[_Column]:
    """Columns every table has, without those that would be empty."""
    kinds = {example.kind for example in examples}
    change: _Column = ("label", "text", _fixed)
    columns: list[_Column] = [change, ("predicted effect", "text", _effects)]
    if "replace" in kinds:  # what is done then is not to be read off labels
        columns[:1] = [("label", "text", _old_label), ("change", "text", _fixed)]
    if "relabel" in kinds:
        columns.append(("plausible", "", _plausible))
    if any(example.verdict is not None for example in examples):
        columns.append(("truth", "text", _verdict))
    return columns


def _of_the_row(name: str, examples: tuple[Example, ...]) -> _Column:
    kind = "" if _is_numeric(examples, name) else "text"
    return name, kind, lambda example: _value(example.columns.get(name))


def _old_label(example: Example) -> str:
    return _label(example.old_label)


def _label(label: object) -> str:
    """A class as it is; a number of a regression to a few digits."""
    return number(label) if isinstance(label, float) else escape(str(label))


def _fixed(example: Example) -> str:
    return f'<span class="fix">{_fix(example)}</span>{_changed(example)}'


def _effects(example: Example) -> str:
    return "<br>".join(_movement(change) for change in example.changes)


def _changed(example: Example) -> str:
    """What a repair makes of the inputs, one a line, the first ones."""
    parts = [
        f'<br><span class="note">{escape(name)}: {_value(old)} → {_value(new)}</span>'
        for name, (old, new) in list(example.changed.items())[:_MOST_CHANGED]
    ]
    left = len(example.changed) - len(parts)
    return "".join(parts) + (f'<br><span class="note">and {left:,} more</span>' if left else "")


def _is_numeric(examples: tuple[Example, ...], name: str) -> bool:
    return all(isinstance(example.columns.get(name, 0), int | float) for example in examples)


def _value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return escape(str(value))
