"""SQL with its keywords, strings, numbers and comments marked up; nothing is reformatted."""

from __future__ import annotations

import re
from html import escape

_KEYWORD = re.compile(
    r"select|from|where|group|by|having|order|limit|offset|join|left|right|full|inner|"
    r"outer|cross|on|using|and|or|not|in|is|null|as|distinct|case|when|then|else|end|"
    r"between|like|ilike|exists|union|all|with|asc|desc|filter|over|partition|true|"
    r"false",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)"
    r"|(?P<string>'(?:[^']|'')*')"
    r'|(?P<name>"(?:[^"]|"")*")'
    r"|(?P<number>\b\d+(?:\.\d+)?\b)"
    r"|(?P<call>\b[A-Za-z_]\w*(?=\s*\())"
    r"|(?P<word>\b[A-Za-z_]\w*)",
    re.DOTALL,
)


def highlight(query: str) -> str:
    """`query` as HTML: escaped, with a span around every token that has a colour.

    Examples
    --------
    >>> highlight("SELECT 1 < x")
    '<span class="keyword">SELECT</span> <span class="number">1</span> &lt; x'
    """
    parts: list[str] = []
    position = 0
    for match in _TOKEN.finditer(query):
        parts.append(escape(query[position : match.start()]))
        parts.append(_marked(match.lastgroup or "", match.group()))
        position = match.end()
    return "".join([*parts, escape(query[position:])])


def _marked(kind: str, text: str) -> str:
    if _KEYWORD.fullmatch(text):
        kind = "keyword"
    if kind in ("word", "name"):
        return escape(text)
    return f'<span class="{kind}">{escape(text)}</span>'
