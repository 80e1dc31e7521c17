"""Repairs of text, for `rainpp.Replace`: tokens swapped in rows of token numbers, or of counts."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rainpp.errors import SettingsError, ShapeError
from rainpp.intervention.kinds import Replace


def substitute(
    pairs: Mapping[int, int], *, counts: bool = False, name: str = "substitute"
) -> Replace:
    """Put one token in the place of another: synonyms, antonyms, a name for a name.

    Parameters
    ----------
    pairs : from the number of a token to that of the one in its place.
    counts : the inputs count tokens, a column for each; otherwise they are token numbers.
    """
    if not isinstance(pairs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`pairs` is a {type(pairs).__name__}; give a dict from tokens to tokens."
        )
    swapped = {_token(old): _token(new) for old, new in pairs.items()}
    if not swapped:
        raise SettingsError("`pairs` is empty; name at least one token.")
    return Replace(name, _counted(swapped) if counts else _numbered(swapped))


def respell(
    words: Sequence[str],
    known: Sequence[str],
    *,
    cutoff: float = 0.8,
    counts: bool = False,
    name: str = "spelling",
) -> Replace:
    """Put the most similar known word in the place of one that is not known.

    Parameters
    ----------
    words : the word of every token number.
    known : words that are spelled as they should be, some of `words`.
    cutoff : how similar they must be, in (0, 1], as `difflib` measures it.
    """
    for named, listed in (("words", words), ("known", known)):
        _check_words(named, listed)
    given = isinstance(cutoff, int | float) and not isinstance(cutoff, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not given or not 0 < cutoff <= 1:
        raise SettingsError(f"`cutoff` is {cutoff!r}; it must be a number in (0, 1].")
    right = set(known)
    number = {word: place for place, word in enumerate(words)}
    pairs: dict[int, int] = {}
    for word, place in number.items():
        near = [] if word in right else difflib.get_close_matches(word, known, 1, cutoff)
        if near and near[0] in number:
            pairs[place] = number[near[0]]
    if not pairs:
        raise SettingsError(
            f"no word is within `cutoff` {cutoff} of a known one; lower it, or give more `known`."
        )
    return substitute(pairs, counts=counts, name=name)


def _check_words(name: str, words: Any) -> None:
    if isinstance(words, str) or not isinstance(words, Collection):
        raise SettingsError(f"`{name}` is a {type(words).__name__}; give a list of words.")
    for word in words:
        if not isinstance(word, str):
            raise SettingsError(f"`{name}` holds {word!r}; words are text.")


def _token(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise SettingsError(f"`pairs` holds {value!r}; tokens are whole numbers >= 0.")
    return int(value)


def _numbered(pairs: dict[int, int]) -> Any:
    def repair(inputs: Any) -> Any:
        found = np.array(inputs)
        if found.dtype.kind not in "iu":
            raise ShapeError(f"inputs of type {found.dtype} are no token numbers; counts=True?")
        before = found.copy()
        for old, new in pairs.items():
            found[before == old] = new
        return found

    return repair


def _counted(pairs: dict[int, int]) -> Any:
    def repair(inputs: Any) -> Any:
        found = np.array(inputs)
        if found.ndim != 2 or max(*pairs, *pairs.values()) >= found.shape[1]:
            raise ShapeError(
                f"inputs of shape {found.shape} have no column for some of the tokens."
            )
        before = found.copy()
        for old in pairs:
            found[:, old] = 0
        for old, new in pairs.items():
            found[:, new] += before[:, old]
        return found

    return repair
