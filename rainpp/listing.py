"""Interventions as a table for people to read, best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from rainpp.errors import SettingsError

SortKey = Literal["score", "effect", "plausibility"]
SORT_KEYS: tuple[SortKey, ...] = ("score", "effect", "plausibility")
# Pandas takes from these faster than it infers them: 0.06 ms of a frame's 0.22.
_WORDS = pd.Series(["delete", "relabel", "replace", "add"]).array
DELETE, RELABEL, REPLACE, ADD = range(4)


@dataclass(frozen=True, eq=False)
class Numbers:
    """What is known of some interventions, aligned."""

    scores: np.ndarray
    effects: np.ndarray
    plausibility: np.ndarray

    def at(self, positions: np.ndarray) -> Numbers:
        """Those of some of them, in double precision."""
        columns = (self.scores, self.effects, self.plausibility)
        return Numbers(*(column[positions].astype(np.float64) for column in columns))

    def sorted_by(self, key: Any) -> np.ndarray:
        """The column that orders them.

        Raises
        ------
        SettingsError : there is no such column.
        """
        if not isinstance(key, str) or key not in SORT_KEYS:
            raise SettingsError(f"`by` is {key!r}; it must be one of {', '.join(SORT_KEYS)}.")
        columns = (self.scores, self.effects, self.plausibility)
        return columns[SORT_KEYS.index(key)]


def listing(
    ids: np.ndarray, words: np.ndarray, details: np.ndarray, numbers: Numbers
) -> pd.DataFrame:
    """The table of `Ranking.top`, of interventions in their order.

    Parameters
    ----------
    words : DELETE, RELABEL, REPLACE or ADD of each.
    details : objects.
    """
    return pd.DataFrame(
        {
            "train_id": ids,
            "intervention": _WORDS.take(words),
            "detail": pd.Series(details, dtype=object),
            "score": numbers.scores,
            "effect": numbers.effects,
            "plausibility": numbers.plausibility,
            "cumulative_effect": np.cumsum(numbers.effects),
        },
        copy=False,  # every column is new
    )


def merged(first: pd.DataFrame, second: pd.DataFrame, count: int, by: str) -> pd.DataFrame:
    """The `count` best rows of two such tables, ties in favour of the first."""
    both = pd.concat([first, second], ignore_index=True)
    order = np.argsort(-both[by].to_numpy(), kind="stable")[:count]
    found = both.iloc[order].reset_index(drop=True)
    found["cumulative_effect"] = np.cumsum(found["effect"].to_numpy())
    return found


def check_count(count: Any) -> int:
    """`count` as an int.

    Raises
    ------
    SettingsError : not a whole number >= 0.
    """
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or int(count) < 0:
        raise SettingsError(f"`count` is {count!r}; it must be a whole number >= 0.")
    return int(count)
