"""Rows that predictions could put in an answer, whether or not they are in it now."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import duckdb
import numpy as np

from rainpp.errors import ComplaintError
from rainpp.relax.relaxed import Place, Sums, comparable
from rainpp.relax.whynot import blocker, uncertain

Key = tuple[object, ...]
_LISTED = 8


def find_candidate(
    con: duckdb.DuckDBPyConnection, sums: Sums, names: Sequence[str], where: Mapping[str, object]
) -> Key:
    """Key values, in GROUP BY order, of the one possible row that `where` names.

    Parameters
    ----------
    names : of the keys, in GROUP BY order.

    Raises
    ------
    ComplaintError : `where` names no key, several rows could match, or none: then with the certain
        condition in the way.
    """
    wanted = {_place_of(name, names): value for name, value in where.items()}
    found = list(itertools.islice(_matching(sums, wanted), _LISTED + 1))
    if len(found) == 1:
        return found[0]
    if found:
        raise ComplaintError(
            f"several rows could match {dict(where)}: {_listed(found, names)}. Name more of: "
            f"{', '.join(names)}."
        )
    raise ComplaintError(
        f"no prediction can put a row with {_shown(where)} in the answer: "
        f"{_reason(con, sums, wanted)}.{_others(sums, names)}"
    )


def _place_of(name: str, names: Sequence[str]) -> int:
    if names.count(name) == 1:
        return names.index(name)
    raise ComplaintError(
        f"{name!r} does not name a group key; a row that is not in the answer is named by its "
        f"keys: {', '.join(names) or 'none, the query has no GROUP BY'}."
    )


def _matching(sums: Sums, wanted: Mapping[int, object]) -> Iterator[Key]:
    """Possible keys with the wanted values."""
    same = {place: comparable(value) for place, value in wanted.items()}
    axes = [sums.relaxed.axes[place] for place in sorted(sums.relaxed.axes)]
    certain = [place for place in range(len(sums.query.keys)) if place not in sums.relaxed.axes]
    possible = sums.totals(0, possible=True)
    values = [
        [value for value in axis.values if same.get(place, comparable(value)) == comparable(value)]
        for place, axis in zip(sorted(sums.relaxed.axes), axes, strict=True)
    ]
    for group in sums.group_keys():
        parts = dict(zip(certain, group, strict=True))
        if any(comparable(parts[p]) != same[p] for p in certain if p in same):
            continue
        for predicted in itertools.product(*values):
            parts |= dict(zip(sorted(sums.relaxed.axes), predicted, strict=True))
            key = tuple(parts[place] for place in range(len(sums.query.keys)))
            if _is_possible(sums.place(key), possible):
                yield key


def _is_possible(place: Place | None, possible: np.ndarray) -> bool:
    return place is not None and bool(possible[place.group, *place.code] > 0.0)


def _reason(con: duckdb.DuckDBPyConnection, sums: Sums, wanted: Mapping[int, object]) -> str:
    for place, axis in sums.relaxed.axes.items():
        known = [comparable(value) for value in axis.values]
        if place in wanted and comparable(wanted[place]) not in known:
            shown = sums.query.keys[place].scalar.shown
            some = ", ".join(repr(value) for value in axis.values[:_LISTED])
            return f"`{shown}` is never {wanted[place]!r}, it gives {some}"
    found = blocker(con, sums.query, wanted)
    return found or f"no prediction satisfies {uncertain(sums.query) or 'the query'} there"


def _others(sums: Sums, names: Sequence[str]) -> str:
    """A sentence with the rows there could be, when they are few."""
    found = list(itertools.islice(_matching(sums, {}), _LISTED + 1))
    if not found:
        return " No row can be in it."
    return f" Rows that could be: {_listed(found, names)}."


def _listed(keys: Sequence[Key], names: Sequence[str]) -> str:
    shown = [f"({_shown(dict(zip(names, key, strict=True)))})" for key in keys[:_LISTED]]
    return ", ".join(shown) + (", ..." if len(keys) > _LISTED else "")


def _shown(key: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in key.items())
