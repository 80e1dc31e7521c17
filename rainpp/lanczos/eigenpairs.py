"""The leading eigenpairs of the curvature, and how many of them to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rainpp.errors import NotConverged, SettingsError
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.krylov import Krylov
from rainpp.types import silent

# A Ritz pair counts as converged when ‖H y − θ y‖ <= _TOLERANCE·θ. Scores computed with pairs at
# 1e-3 and at 1e-6 correlate above 0.99999 (MNIST logistic regression), so tighter buys nothing.
_TOLERANCE = 1e-3
# A ratio λᵢ₊₁/λᵢ this close to one ends the fast decay (Flokas et al. 2022, §4.3: "close to one").
_PLATEAU = 0.9
# It did not end there if a drop this steep follows soon. ADULT has the ratios .94 .90 .84 .63 .61
# .68 .85 .86 .95 from the third on: the paper's rule alone stops at 3 (AUC_R 0.77 for Q4), the
# plateau after the last steep drop at 11 (0.88). MNIST has no such drop after its first plateau.
_STEEP = 0.7
_LOOKAHEAD = 6


@dataclass(frozen=True)
class Eigenpairs:
    """Leading curvature directions, largest eigenvalue first, all of them positive.

    Attributes
    ----------
    values : (k,) descending by value. Nets also have negative curvature; it is never kept.
    vectors : (k, d), rows of unit norm.
    residuals : (k,), ‖H vᵢ − λᵢ vᵢ‖.
    spectrum : every positive Ritz value seen, converged or not, for inspection and plots.
    num_products : Hessian-vector products spent.
    rule : how k was chosen, in words.
    """

    values: np.ndarray
    vectors: jax.Array
    residuals: np.ndarray
    spectrum: np.ndarray
    num_products: int
    rule: str

    @property
    def k(self) -> int:
        """Number of pairs."""
        return int(self.values.shape[0])


def find_eigenpairs(
    curvature: Curvature,
    k: int | str,
    *,
    num_classes: int,
    seed: int = 0,
    progress: Any = silent,
) -> Eigenpairs:
    """The k largest eigenpairs, or as many as the spectrum suggests when k is "auto".

    Plain Lanczos stops as soon as the pairs it needs have converged: about k + 12 products
    when eigenvalues decay, 6 more to look past a plateau.

    Raises
    ------
    SettingsError : k is not "auto" or a whole number from 1 to d.
    NotConverged : fewer than k positive eigenvalues exist, or they did not converge.
    """
    dimension = curvature.dimension
    check_k(k, dimension)
    dtype = np.dtype(curvature.model.theta.dtype)
    krylov = Krylov(curvature.hvp, dimension, jax.random.key(seed), dtype)
    limit = min(dimension, _most_products(k, num_classes))
    while krylov.size < limit:
        krylov.step()
        values, residuals, _ = krylov.ritz()
        converged = _converged_prefix(values, residuals, krylov.dtype)
        note = f"{converged} converged, largest {values[0]:.3g}"
        progress("eigenpairs", krylov.size, limit, note)
        if _ready(krylov, values[:converged], k, num_classes):
            break
    return _collect(krylov, k, num_classes)


def choose_k(values: np.ndarray, num_classes: int, *, complete: bool = False) -> int | None:
    """Number of eigenvalues before the spectrum flattens, or None when it has not flattened yet.

    The paper's rule (§4.3): start at the number of classes R and take the first inflection, here
    the first i >= R where the ratio λᵢ₊₁/λᵢ is at least 0.9 and a local maximum. Beyond the paper:
    none of the next 6 ratios may be below 0.7, or the decay had only paused.

    Parameters
    ----------
    values : positive eigenvalues, descending.
    complete : whether these are all there are; otherwise an inflection whose next 6 ratios are not
        known yet does not count.

    Examples
    --------
    >>> choose_k(np.array([8.0, 4.0, 2.0, 1.9, 1.0, 0.5, 0.49, 0.4]), 2, complete=True)
    6
    """
    ratios = values[1:] / values[:-1]  # ratios[i - 1] is λᵢ₊₁/λᵢ
    last = ratios.size if complete else ratios.size - _LOOKAHEAD + 1
    for i in range(max(num_classes, 2), last):
        before, here, after = ratios[i - 2], ratios[i - 1], ratios[i]
        peak = here >= _PLATEAU and here >= before and here >= after
        if peak and (ratios[i : i + _LOOKAHEAD] >= _STEEP).all():
            return i
    return None


def check_k(k: Any, dimension: int) -> None:
    """Refuse a k that no model of `dimension` parameters has.

    Raises
    ------
    SettingsError : not "auto" and not a whole number from 1 to d.
    """
    if isinstance(k, str) and k == "auto":
        return
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise SettingsError(f"`k` is {k!r}; it must be 'auto' or a whole number.")
    if not 1 <= k <= dimension:
        raise SettingsError(f"`k` is {k}; the model has {dimension} parameters, so 1 <= k <= that.")


def _most_products(k: int | str, num_classes: int) -> int:
    return 40 + 10 * num_classes if k == "auto" else 100 + 20 * int(k)


def _ready(krylov: Krylov, converged: np.ndarray, k: int | str, num_classes: int) -> bool:
    """Whether every pair that matters is among the converged ones."""
    if k == "auto":
        wanted = choose_k(converged, num_classes, complete=krylov.exhausted)
    else:
        wanted = int(k) if converged.size >= int(k) else None
    return wanted is not None and not krylov.may_hide_above(float(converged[wanted - 1]))


def _converged_prefix(values: np.ndarray, residuals: np.ndarray, dtype: np.dtype) -> int:
    # What rounding leaves of a zero eigenvalue is not curvature.
    rounding = 100 * np.finfo(dtype).eps * np.abs(values).max()
    good = (values > rounding) & (residuals <= _TOLERANCE * np.abs(values))
    return int(good.size if good.all() else np.argmin(good))


def _collect(krylov: Krylov, k: int | str, num_classes: int) -> Eigenpairs:
    values, residuals, coordinates = krylov.ritz()
    count = _converged_prefix(values, residuals, krylov.dtype)
    found = (
        None if k != "auto" else choose_k(values[:count], num_classes, complete=krylov.exhausted)
    )
    keep, rule = _settle(k, found, num_classes, most=count)
    if krylov.exhausted and (keep > count or count == 0):
        raise NotConverged(
            f"`k` is {max(keep, 1)} but the curvature has only {count} positive eigenvalues; "
            f"use k <= {count}, or add l2."
        )
    if keep > count or count == 0:
        raise NotConverged(
            f"{count} eigenpairs converged to {_TOLERANCE:g} after {krylov.size} products; "
            f"{max(keep, 1)} are needed. Use a smaller k, or check that the model is trained."
        )
    return Eigenpairs(
        values=values[:keep],
        vectors=krylov.vectors(coordinates[:, :keep]),
        residuals=residuals[:keep],
        spectrum=values[values > 0],
        num_products=krylov.size,
        rule=rule,
    )


def _settle(k: int | str, found: int | None, num_classes: int, *, most: int) -> tuple[int, str]:
    if k != "auto":
        return int(k), "given"
    if found is not None:
        return found, f"first lasting plateau of the eigenvalue ratios from {num_classes} on"
    return min(most, num_classes), "number of classes: the spectrum shows no plateau"
