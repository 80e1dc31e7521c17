"""Complaints that no training row can be seen to move, because every prediction is certain."""

from __future__ import annotations

import warnings

import numpy as np

from rainpp.errors import SaturatedWarning
from rainpp.traced import Traced
from rainpp.types import FloatArray

# Of the slope that undecided predictions would have; less is rounding of 32-bit probabilities.
_SATURATED = 1e-6


def warn_if_saturated(complaint: Traced, *, stacklevel: int) -> None:
    """Warn where the gradient of a complaint by the model's scores is zero, or nearly."""
    if not complaint.registered.classes:  # a regression's value has no probabilities
        return
    slope, steepest, doubt = 0.0, 0.0, 0.0
    for table, weights in complaint.weighted_tables():
        touched = np.abs(weights).sum(axis=1) > 0.0
        chances = np.asarray(table.predictions.probabilities, np.float64)[touched]
        slope += float(np.abs(_by_scores(chances, weights[touched])).sum())
        steepest += float(np.abs(weights).sum())
        doubt = max(doubt, float((1.0 - chances.max(axis=1)).max(initial=0.0)))
    if slope > _SATURATED * steepest:
        return
    why = (
        f"every prediction it depends on is certain (to {doubt:.1g})"
        if steepest
        else "no prediction moves it by itself"
    )
    warnings.warn(
        f"the gradient of `{complaint.about}` is zero, or nearly: {why}. What is ranked is "
        "rounding, not influence. Complain about cells with less certain predictions, or train "
        "with a stronger l2.",
        SaturatedWarning,
        stacklevel=stacklevel + 1,
    )


def _by_scores(chances: FloatArray, weights: FloatArray) -> FloatArray:
    """∂/∂z of Σ w·softmax(z): p ∘ (w - ⟨p, w⟩), row by row."""
    return chances * (weights - (chances * weights).sum(axis=1, keepdims=True))
