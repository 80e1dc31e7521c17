"""Batches of rows as the monitors take them: numbers, rows x features, NaN where missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rainpp.errors import DataError, SettingsError

Rows = NDArray[np.floating[Any]]


def as_rows(rows: ArrayLike, *, argument: str, width: int | None = None) -> Rows:
    """Rows as floating-point numbers (b, m), single precision as it is, masked values NaN.

    Raises
    ------
    DataError : no row, no feature, not numbers, or not `width` features.
    """
    try:
        if isinstance(rows, np.ma.MaskedArray):
            rows = np.ma.filled(rows.astype(np.float64), np.nan)
        array = np.asarray(rows)
        kind = np.float64 if array.dtype.kind in "OUS" else np.result_type(array.dtype, np.float32)
        array = array.astype(kind, copy=False)
    except (ValueError, TypeError) as problem:
        raise DataError(
            f"`{argument}` are not numbers ({problem}); encode categories, and pass NaN for what "
            "is missing"
        ) from None
    wanted = "(rows, features)" if width is None else f"(rows, {width})"
    if array.dtype.kind != "f" or array.ndim != 2 or width not in (None, array.shape[1]):
        raise DataError(
            f"`{argument}` are {array.dtype} of shape {array.shape}; pass numbers of shape {wanted}"
        )
    if not array.size:
        raise DataError(f"`{argument}` have shape {array.shape}; there must be at least one row")
    return array


def check_names(names: Sequence[str], width: int) -> None:
    """One name for each feature of the reference rows, all different, or SettingsError."""
    if len(set(names)) != width or len(names) != width:
        raise SettingsError(
            f"`names` are {len(names)}, {len(set(names))} of them different, for {width} columns "
            "of `reference_rows`; pass one name for each"
        )


def like(known: NDArray[Any], read: NDArray[Any]) -> NDArray[Any]:
    """A copy of an array that was read, if its shape and type are the known one's; ValueError."""
    if read.shape != known.shape or read.dtype != known.dtype:
        raise ValueError(f"{read.dtype}{read.shape} where {known.dtype}{known.shape} belongs")
    return read.copy()
