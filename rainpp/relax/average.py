"""AVG over an uncertain set of rows: E[S/N | N > 0] for independent rows, and its derivatives.

Row i is in with probability wᵢ and then contributes aᵢ; sᵢ = wᵢ aᵢ. Since 1/N = ∫₀¹ t^(N-1) dt,

    E[S/N ; N > 0] = ∫₀¹ Σᵢ sᵢ Π_{j≠i} (1 - wⱼ + wⱼ t) dt ,

and the condition divides by 1 - Π(1 - wᵢ). The integrand is a polynomial in t that decays like
exp(-E[N] (1 - t)) away from t = 1, so the interval is cut where that is below 1e-17 and 32
Gauss-Legendre nodes suffice: against a Poisson-binomial recursion for n = 10 to 5 000 the largest
relative error was 9e-10 with 16 nodes, 2e-13 with 24, 32 and 64. No substitution is needed;
t = u^(1/E[N]) would add a logarithmic singularity at u = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NODES = 32
_DECAY = 40.0
# Rows x nodes at a time: 1 MB of doubles, which stays in cache.
_CHUNK = 1 << 12
_BLOCK = 64
_points, _point_weights = np.polynomial.legendre.leggauss(_NODES)


@dataclass(eq=False, slots=True)
class Average:
    """E[S/N | N > 0]; NaN if no row can be in. Slopes along weights and sums are made on demand.

    Parameters
    ----------
    weights : (n,) probability wᵢ that row i is in, independent between rows.
    sums : (n,) expected contribution sᵢ = E[aᵢ ; row i in].
    """

    weights: Array
    sums: Array
    value: float = field(init=False)
    _t: Array = field(init=False)
    _product: Array = field(init=False)
    _inner: Array = field(init=False)

    def __post_init__(self) -> None:
        mean = float(self.weights.sum())
        low = max(0.0, 1.0 - _DECAY / (mean - 1.0)) if mean > 1.0 else 0.0
        self._t = low + (1.0 - low) * (_points + 1.0) / 2.0
        logs, self._inner = np.zeros(_NODES), np.zeros(_NODES)
        for rows in self._pieces():
            q = self._factors(rows)
            self._inner += (self.sums[rows, None] / q).sum(axis=0)
            logs += _log_product(q)
        self._product = np.exp(logs) * _point_weights * (1.0 - low) / 2.0
        present, _ = existence(self.weights)
        self.value = float(self._product @ self._inner) / present if mean > 0.0 else float("nan")

    def slopes(self) -> tuple[Array, Array]:
        """∂value/∂weights and ∂value/∂sums, (n,) each; zero where there is no value."""
        by_weight, by_sum = np.zeros_like(self.weights), np.zeros_like(self.sums)
        if np.isnan(self.value):
            return by_weight, by_sum
        for rows in self._pieces():
            scaled = 1.0 / self._factors(rows)
            by_sum[rows] = scaled @ self._product
            moved = scaled * (self._inner - self.sums[rows, None] * scaled)
            by_weight[rows] = moved @ (self._product * (self._t - 1.0))
        present, slope = existence(self.weights)
        return (by_weight - self.value * slope) / present, by_sum / present

    def _factors(self, rows: slice) -> Array:
        """1 - wᵢ + wᵢ t, (rows, nodes)."""
        return 1.0 - self.weights[rows, None] * (1.0 - self._t)

    def _pieces(self) -> list[slice]:
        n = len(self.weights)
        return [slice(start, min(n, start + _CHUNK)) for start in range(0, n, _CHUNK)]


def _log_product(q: Array) -> Array:
    """Σ log q over rows, one logarithm per 64 rows; a product that underflows is truly zero."""
    full = len(q) // _BLOCK * _BLOCK
    blocks = q[:full].reshape(-1, _BLOCK, q.shape[1]).prod(axis=1)
    with np.errstate(divide="ignore", under="ignore"):
        return np.log(blocks).sum(axis=0) + np.log(q[full:]).sum(axis=0)


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
