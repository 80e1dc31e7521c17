"""Complaints that no training row can be seen to move, because every prediction is certain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from rainpp.errors import SaturatedWarning
from rainpp.traced import Trace, Traced, Weighted
from rainpp.types import FloatArray

# Of the slope that undecided predictions would have; less is rounding of 32-bit probabilities.
_SATURATED = 1e-6
# Predictions looked at before the answer is clear, for nearly every complaint: 0.1 ms instead of
# 2.5 for all of 10 000 x 10.
_ROWS = 512


def warn_if_saturated(complaint: Traced, *, stacklevel: int) -> None:
    """Warn where the gradient of a complaint by the model's scores is zero, or nearly."""
    if complaint.trace not in _reasons:
        _reasons[complaint.trace] = _why(complaint)
    why = _reasons[complaint.trace]
    if not why:
        return
    warnings.warn(
        f"the gradient of `{complaint.about}` is zero, or nearly: {why}. What is ranked is "
        "rounding, not influence. Complain about cells with less certain predictions, or train "
        "with a stronger l2.",
        SaturatedWarning,
        stacklevel=stacklevel + 1,
    )


# Later complaints about a cell find what the first one found.
_reasons: WeakKeyDictionary[Trace, str] = WeakKeyDictionary()


def _why(complaint: Traced) -> str:
    """Why the gradient is as good as zero; empty where it is not."""
    if not complaint.registered.classes:  # a regression's value has no probabilities
        return ""
    tables = complaint.trace.weighted_tables
    steepest = sum(float(by_class.sum()) for *_, by_class in tables)
    if _slope(tables, above=_SATURATED * steepest) > _SATURATED * steepest:
        return ""
    doubt = max((_doubt(item) for item in tables), default=0.0)
    if not steepest:
        return "no prediction moves it by itself"
    return f"every prediction it depends on is certain (to {doubt:.1g})"


def _slope(tables: Sequence[Weighted], *, above: float) -> float:
    """Σ |∂q/∂z| over predictions and scores z, or the first partial sum that is `above`."""
    slope = 0.0
    for table, weights, _ in tables:
        for start in range(0, len(weights), _ROWS):
            part = weights[start : start + _ROWS]
            chances = table.predictions.probabilities[start : start + _ROWS]
            slope += float(np.abs(_by_scores(np.asarray(chances, np.float64), part)).sum())
            if slope > above:
                return slope
    return slope


def _doubt(weighted: Weighted) -> float:
    """The largest chance that a prediction which counts is another one."""
    touched = np.abs(weighted.weights).sum(axis=1) > 0.0
    chances = np.asarray(weighted.table.predictions.probabilities, np.float64)[touched]
    return float((1.0 - chances.max(axis=1)).max(initial=0.0))


def _by_scores(chances: FloatArray, weights: FloatArray) -> FloatArray:
    """∂/∂z of Σ w·softmax(z): p ∘ (w - ⟨p, w⟩), row by row."""
    return chances * (weights - (chances * weights).sum(axis=1, keepdims=True))
