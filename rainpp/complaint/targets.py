"""Targets of several cells as a user gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rainpp.complaint.want import read_finite
from rainpp.errors import ComplaintError


def read_targets(targets: Any) -> list[tuple[Any, float]]:
    """[(row, target), ...] with finite targets; what names a row is not looked at.

    Raises
    ------
    ComplaintError : something else, or no pair.
    """
    if isinstance(targets, Iterable) and not isinstance(targets, str | bytes | Mapping):
        listed: list[Any] = list(targets)
        if listed and all(isinstance(item, tuple | list) and len(item) == 2 for item in listed):
            return [(item[0], read_finite(item[1], "target")) for item in listed]
    raise ComplaintError(
        f"`targets` is {targets!r}; give a list of (row, target) pairs, such as "
        "[({'region': 'EU'}, 12), ({'region': 'US'}, 7)]."
    )


def read_scales(scales: Any, count: int) -> tuple[float, ...]:
    """One positive number per cell, 1 by default.

    Raises
    ------
    ComplaintError : another number of them, or one that is not > 0.
    """
    if scales is None:
        return (1.0,) * count
    listed: list[Any] = list(scales) if isinstance(scales, Iterable) else []
    values = tuple(read_finite(item, "scales") for item in listed)
    if len(values) != count or not all(value > 0 for value in values):
        raise ComplaintError(
            f"`scales` is {scales!r}; give one number > 0 for each of {count} cells."
        )
    return values
