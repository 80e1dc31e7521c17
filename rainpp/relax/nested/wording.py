"""Lowered SQL and DuckDB's messages in the words of the user's query."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rainpp.relax.nested.blocks import Base


# Stands between an alias and the number that tells its mentions in one query apart.
AGAIN = "__again_"
_NUMBERED = re.compile(rf"{AGAIN}\d+")
# The sources of a call's arguments: a in model(a.x, a.y).
_SOURCE = re.compile(r"\b(\w+)\.(?=\w)")


def worded(text: str, calls: Mapping[int, str], bases: Iterable[Base]) -> str:
    """SQL of a lowered expression as the user would write it."""
    text = unnumbered(text)
    for slot, call in calls.items():
        found = rf'(?:"(\w+)"\.)?"([\w.]+\.)?__prediction_{slot}"'
        text = re.sub(found, lambda m, call=call: _called(call, m[1]), text)
    for base in bases:
        text = text.replace(f'"{base.name}"', base.entry.shown)
    text = re.sub(r'"outer_\w+"\."(?:outer_\w+\.)*(\w+)\.(\w+)"', r"\1.\2", text)
    return _without_defaults(re.sub(r'"([a-z_][a-z0-9_]*)"', r"\1", text))


def unnumbered(text: str) -> str:
    """`text` with aliases as the user chose them."""
    return _NUMBERED.sub("", text)


def _called(call: str, source: str | None) -> str:
    """A call as it is written for another mention of its table; all share one prediction."""
    known = set(_SOURCE.findall(call))
    if source is None or len(known) != 1 or not source[0].isalpha() or "outer_" in source:
        return call
    return _SOURCE.sub(f"{source}.", call)


def _without_defaults(text: str) -> str:
    """Without the aliases that qualifying a query gives to everything."""
    text = re.sub(r" AS _col_\d+\b", "", text)
    text = re.sub(r'(\S+) AS "\1"', r"\1", text)
    return re.sub(r"\b(?:(\w+)\.)?(\w+) AS \2\b", _unaliased, text)


def _unaliased(found: re.Match[str]) -> str:
    return f"{found[1]}.{found[2]}" if found[1] else str(found[2])


def reworded(message: str, columns: Mapping[str, str]) -> str:
    """DuckDB's message about internal columns; `columns` maps them to what the user wrote."""
    message = re.sub(r" Candidate bindings:.*", "", message)
    columns = {name: unnumbered(shown) for name, shown in columns.items()}
    for name in sorted(columns, key=len, reverse=True):
        found = rf'(?<![\w."])(?:b\.)?"?{re.escape(name)}"?(?![\w"])'
        message = re.sub(found, lambda _, shown=columns[name]: shown, message)
    return message
