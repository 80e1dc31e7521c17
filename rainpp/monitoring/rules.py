"""What `Monitor.alert` is given, checked and made a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rainpp.errors import SettingsError
from rainpp.monitoring.alarm import Rule
from rainpp.monitoring.condition import Condition

# What is known of every window where labels come.
METRICS = ("accuracy", "coverage", "labelled")


def make_rule(
    name: str,
    when: str,
    *,
    names: tuple[Sequence[str], Sequence[str]],
    metrics: bool,
    clear: str | None,
    where: Mapping[str, Any] | None,
    hold: int,
    min_rows: float,
    target: float | None,
    whole_windows: bool | None,
    ends: bool,
) -> Rule:
    """A rule of the query's columns, or of accuracy.

    Parameters
    ----------
    names : group columns and number columns of the query.
    metrics : whether labels come, so that there is an accuracy.
    ends : whether windows end.

    Raises
    ------
    SettingsError : the condition or an option is wrong.
    """
    groups, values = names
    known = [*values, "rows", *(METRICS if metrics else ())]
    found = Condition.read(when, known)
    over = found if clear is None else Condition.read(clear, known, "clear")
    used = {item.column for part in (found, over) for item in part.comparisons}
    of_metric = "accuracy" in used and "accuracy" not in values
    about = ["accuracy"] if of_metric else list(values)
    if found.first.column not in about:
        raise SettingsError(
            f"`when` is {when!r}; its first comparison must be of one of "
            f"{', '.join([*values, *(['accuracy'] if metrics else [])])}."
        )
    mixed = used & set(values) if of_metric else used & (set(METRICS) - set(values))
    if mixed:
        raise SettingsError(
            f"`when` is {when!r}; accuracy is of a whole window, and is not compared together with "
            f"{', '.join(sorted(mixed))} of the query."
        )
    if where is not None and not isinstance(where, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`where` is {where!r}; give a mapping from columns of the query to values."
        )
    chosen = dict(where or {})
    for column, value in chosen.items():
        if of_metric or column not in groups:
            raise SettingsError(
                f"`where` names {column!r}; "
                + (
                    "accuracy is of a whole window."
                    if of_metric
                    else f"the query groups by {', '.join(groups) or 'nothing'}."
                )
            )
        if isinstance(value, list | tuple | set | Mapping | np.ndarray):
            raise SettingsError(
                f"`where` says that {column} is {value!r}; give one value, and an alarm for each."
            )
    if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`hold` is {hold!r}; it must be a whole number of windows >= 1.")
    least = _number(min_rows, "min_rows", "a number of rows >= 0")
    if least < 0:
        raise SettingsError(f"`min_rows` is {min_rows!r}; it must be a number of rows >= 0.")
    wanted = None if target is None else _number(target, "target", "a finite number")
    if whole_windows not in (None, True, False):
        raise SettingsError(f"`whole_windows` is {whole_windows!r}; it must be True or False.")
    # An interval around accuracy says by itself how much is still missing.
    needed = found.needs_whole_windows and not of_metric
    whole = needed if whole_windows is None else whole_windows
    return Rule(
        name=name,
        when=found,
        clear=over,
        where=chosen,
        hold=hold,
        whole_windows=bool(whole) and ends,
        min_rows=least,
        target=wanted,
        of_metric=of_metric,
    )


def is_name(name: Any) -> bool:
    """Whether it is text that can be written down."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _number(value: Any, name: str, wanted: str) -> float:
    real = isinstance(value, int | float | np.integer | np.floating)
    if not real or isinstance(value, bool) or not math.isfinite(value):
        raise SettingsError(f"`{name}` is {value!r}; it must be {wanted}.")
    return float(value)
