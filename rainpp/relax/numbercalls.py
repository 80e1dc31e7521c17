"""Where a query's text calls a number: `predict_proba(x)[class]`, or a regression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rainpp.errors import QueryError
from rainpp.relax.dialect import parse_query
from rainpp.relax.smooth import Number
from rainpp.types import ClassValue

_PROBA = "_proba"
_BOOLEANS = {TokenType.TRUE: True, TokenType.FALSE: False}

Functions = Mapping[str, tuple[ClassValue, ...]]


@dataclass(frozen=True)
class Call:
    """One call in the text: the number, where the name stands and where ``[class]`` does."""

    number: Number
    shown: str
    name: tuple[int, int]
    index: tuple[int, int]


def find_calls(sql: str, dialect: Dialect, functions: Functions) -> list[Call]:
    """Calls of numbers in the order of the text."""
    known = {name.lower(): name for name in functions}
    tokens = _tokenized(sql, dialect)
    found: list[Call] = []
    for place, token in enumerate(tokens[:-1]):
        name = token.text.lower()
        qualified = place > 0 and tokens[place - 1].token_type == TokenType.DOT
        if tokens[place + 1].token_type != TokenType.L_PAREN or qualified:
            continue
        model = known.get(name, known.get(name.removesuffix(_PROBA)))
        if model is None or (name in known and functions[model]):
            continue
        found.append(_call(sql, tokens, place, model, functions[model], bare=name in known))
    return found


def _tokenized(sql: str, dialect: Dialect) -> list[Token]:
    try:
        return dialect.tokenize(sql)
    except TokenError:
        parse_query(sql, dialect)  # says what is wrong with it
        raise


def _call(
    sql: str,
    tokens: Sequence[Token],
    place: int,
    model: str,
    classes: tuple[ClassValue, ...],
    *,
    bare: bool,
) -> Call:
    name, end = tokens[place], _closing(tokens, place + 1)
    opening = sql[name.start : name.end + 1]
    shown = sql[name.start : tokens[end].end + 1]
    after = tokens[end + 1 : end + 5]
    if bare:
        span = (tokens[end].end + 1, tokens[end].end + 1)
        return Call(Number(model, 0, opening, "", True), shown, (name.start, name.end + 1), span)
    if not classes:
        raise QueryError(f"`{shown}`: `{model}` is a regression and has no classes; write {model}.")
    if not after or after[0].token_type != TokenType.L_BRACKET:
        raise QueryError(
            f"`{shown}` stands for all probabilities of a row; write {shown}[class] with one of "
            f"the classes {_listed(classes)}."
        )
    close = _closing(tokens, end + 1)
    closing = sql[after[0].start : tokens[close].end + 1]
    at = _class_place(tokens[end + 2 : close], classes, shown + closing, model)
    span = (tokens[end].end + 1, tokens[close].end + 1)
    number = Number(model, at, opening, closing, False)
    return Call(number, shown + closing, (name.start, name.end + 1), span)


def _closing(tokens: Sequence[Token], start: int) -> int:
    """The place of the bracket that closes the one at `start`, or the last token."""
    opens = (TokenType.L_PAREN, TokenType.L_BRACKET)
    closes = (TokenType.R_PAREN, TokenType.R_BRACKET)
    depth = 0
    for place in range(start, len(tokens)):
        depth += (tokens[place].token_type in opens) - (tokens[place].token_type in closes)
        if depth == 0:
            return place
    return len(tokens) - 1


def _class_place(
    tokens: Sequence[Token], classes: tuple[ClassValue, ...], shown: str, model: str
) -> int:
    value = _written(tokens)
    for place, known in enumerate(classes):
        if (
            value is not None
            and known == value
            and isinstance(known, bool) == isinstance(value, bool)
        ):
            return place
    raise QueryError(
        f"`{shown}` names no class of `{model}`; between the brackets stands the class itself, one "
        f"of {_listed(classes)}."
    )


def _written(tokens: Sequence[Token]) -> ClassValue | None:
    """The literal that the tokens are, None for anything else."""
    signed = len(tokens) == 2 and tokens[0].token_type == TokenType.DASH
    if len(tokens) != 1 + signed:
        return None
    kind, text = tokens[-1].token_type, tokens[-1].text
    if kind == TokenType.NUMBER:
        value = float(text) if re.search("[.eE]", text) else int(text)
        return -value if signed else value
    if signed:
        return None
    return text if kind == TokenType.STRING else _BOOLEANS.get(kind)


def _listed(classes: tuple[ClassValue, ...]) -> str:
    return ", ".join(repr(value) for value in classes[:20]) + (", ..." * (len(classes) > 20))


def replaced(sql: str, calls: Sequence[Call], names: Sequence[str]) -> str:
    """The text with other function names and without ``[class]``."""
    pieces: list[str] = []
    start = 0
    edits = [(call.name, name) for call, name in zip(calls, names, strict=True)]
    edits += [(call.index, "") for call in calls]
    for (begin, end), text in sorted(edits):
        pieces += [sql[start:begin], text]
        start = end
    return "".join([*pieces, sql[start:]])
