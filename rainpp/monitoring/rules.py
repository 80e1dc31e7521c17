"""What `Monitor.alert` is given, checked and made a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    chosen = dict(where or {})
    for column in chosen:
        if of_metric or column not in groups:
            raise SettingsError(
                f"`where` names {column!r}; "
                + (
                    "accuracy is of a whole window."
                    if of_metric
                    else f"the query groups by {', '.join(groups) or 'nothing'}."
                )
            )
    if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`hold` is {hold!r}; it must be a whole number of windows >= 1.")
    # An interval around accuracy says by itself how much is still missing.
    needed = found.needs_whole_windows and not of_metric
    whole = needed if whole_windows is None else whole_windows
    return Rule(
        name=name,
        when=found,
        clear=over,
        where=chosen,
        hold=hold,
        whole_windows=whole and ends,
        min_rows=min_rows,
        target=target,
        of_metric=of_metric,
    )
