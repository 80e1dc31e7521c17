"""AVG over an uncertain set of rows: E[S/N | N > 0] for independent rows, and its derivatives.

Row i is in with probability wᵢ and then contributes aᵢ; sᵢ = wᵢ aᵢ. Since 1/N = ∫₀¹ t^(N-1) dt,

    E[S/N ; N > 0] = ∫₀¹ Σᵢ sᵢ Π_{j≠i} (1 - wⱼ + wⱼ t) dt ,

and the condition divides by 1 - Π(1 - wᵢ). The integrand is a polynomial in t that decays like
exp(-E[N] (1 - t)) away from t = 1, so the interval is cut where that is below 1e-17 and 64
Gauss-Legendre nodes suffice: against a Poisson-binomial recursion the relative error stayed below
1e-12 for n = 1 to 5 000. No substitution is needed; t = u^(1/E[N]) would add a logarithmic
singularity at u = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NODES = 64
_DECAY = 40.0
# Nodes x rows at a time: 32 MB of doubles.
_CHUNK = 1 << 16
_points, _point_weights = np.polynomial.legendre.leggauss(_NODES)


@dataclass(frozen=True, eq=False, slots=True)
class Average:
    """The value and its slopes along every row's weight and sum."""

    value: float
    by_weight: Array
    by_sum: Array


def conditional_average(weights: Array, sums: Array) -> Average:
    """E[S/N | N > 0] with derivatives; NaN if no row can be in.

    Parameters
    ----------
    weights : (n,) probability wᵢ that row i is in, independent between rows.
    sums : (n,) expected contribution sᵢ = E[aᵢ ; row i in].
    """
    mean = float(weights.sum())
    if mean <= 0.0:
        return Average(float("nan"), np.zeros_like(weights), np.zeros_like(sums))
    low = max(0.0, 1.0 - _DECAY / max(mean - 1.0, 1e-300)) if mean > 1.0 else 0.0
    t = low + (1.0 - low) * (_points + 1.0) / 2.0
    dt = _point_weights * (1.0 - low) / 2.0
    logs, inner = np.zeros(_NODES), np.zeros(_NODES)
    for w, s in _pieces(weights, sums):
        q = 1.0 - w[:, None] * (1.0 - t)
        logs += np.log(q).sum(axis=0)
        inner += (s[:, None] / q).sum(axis=0)
    product = np.exp(logs) * dt
    integral = float(product @ inner)
    by_sum, by_weight = np.empty_like(sums), np.empty_like(weights)
    start = 0
    for w, s in _pieces(weights, sums):
        stop = start + len(w)
        scaled = 1.0 / (1.0 - w[:, None] * (1.0 - t))
        by_sum[start:stop] = scaled @ product
        moved = scaled * (inner - s[:, None] * scaled)
        by_weight[start:stop] = moved @ (product * (t - 1.0))
        start = stop
    present, slope = existence(weights)
    by_weight = (by_weight - integral / present * slope) / present
    return Average(integral / present, by_weight, by_sum / present)


def existence(weights: Array) -> tuple[float, Array]:
    """1 - Π(1 - wᵢ), and Π_{j≠i}(1 - wⱼ), its slope along wᵢ; safe where some wᵢ = 1."""
    certain = weights >= 1.0
    logs = np.log1p(-np.where(certain, 0.0, weights))
    total, ones = float(logs.sum()), int(certain.sum())
    value = 1.0 if ones else float(-np.expm1(total))
    slope = np.exp(total - logs)
    if ones:
        slope = np.where(certain & (ones == 1), slope, 0.0)
    return value, slope


def _pieces(weights: Array, sums: Array) -> list[tuple[Array, Array]]:
    return [
        (weights[start : start + _CHUNK], sums[start : start + _CHUNK])
        for start in range(0, len(weights), _CHUNK)
    ]
