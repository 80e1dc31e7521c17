"""How well a ranking finds known errors: the paper's measures (Flokas et al. 2022, §6.1.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.errors import DataError, ShapeError

__all__ = ["auc_r", "recall_curve"]


def recall_curve(scores: Any, corrupted: Any) -> NDArray[np.float64]:
    """Share of the corrupted rows among the first i of the ranking, for i = 1 .. N.

    Parameters
    ----------
    scores : (n,), higher is more suspicious; ties are broken by row number.
    corrupted : (n,) booleans, N of them true.

    Raises
    ------
    ShapeError : the two differ in length.
    DataError : nothing is corrupted, or a score is NaN.

    Examples
    --------
    >>> recall_curve([0.9, 0.1, 0.8], [True, True, False]).tolist()
    [0.5, 0.5]
    """
    values, truth = _numbers(scores), _flags(corrupted)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ShapeError(
            f"`scores` has shape {values.shape} and `corrupted` {truth.shape}; both must be (n,)."
        )
    if np.isnan(values).any():
        raise DataError("`scores` holds NaN; every training row needs a score.")
    total = int(truth.sum())
    if total == 0:
        raise DataError("`corrupted` marks no row: recall is not defined.")
    order = np.argsort(-values, kind="stable")[:total]
    return np.cumsum(truth[order]) / total


def auc_r(scores: Any, corrupted: Any) -> float:
    """Mean of `recall_curve` divided by its largest possible value, in [0, 1].

    A perfect ranking has recall i/N at i, whose mean is (N + 1)/(2N).

    Examples
    --------
    >>> auc_r([0.9, 0.8, 0.1], [True, True, False])
    1.0
    """
    curve = recall_curve(scores, corrupted)
    return float(curve.mean() / ((curve.size + 1) / (2 * curve.size)))


def _numbers(scores: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(scores, np.float64)
    except (TypeError, ValueError):
        raise DataError("`scores` holds something that is not a number.") from None


def _flags(corrupted: Any) -> NDArray[np.bool_]:
    """Row numbers instead of a mask would mark every row: only booleans, or 0 and 1, will do."""
    marks = np.asarray(corrupted)
    if marks.dtype != np.bool_ and (
        marks.dtype.kind not in "iuf" or not np.isin(marks, [0, 1]).all()
    ):
        raise DataError("`corrupted` must hold one boolean per training row, true where corrupted.")
    return marks.astype(np.bool_)
