"""The leading eigenpairs of the curvature, and how many of them to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from rainpp.errors import NotConverged, SettingsError
from rainpp.lanczos.choose_k import choose_k
from rainpp.lanczos.krylov import Krylov
from rainpp.lanczos.watch import ritz_note
from rainpp.types import silent

# A Ritz pair counts as converged when ‖H y − θ y‖ <= TOLERANCE·θ. Scores computed with pairs at
# 1e-3 and at 1e-6 correlate above 0.99999 (MNIST logistic regression), so tighter buys nothing.
TOLERANCE = 1e-3
# Ritz values are far nearer than their vectors (the error is the square of the residual over the
# gap): the rule for k may look at those that have a residual of this share of theirs.
_TOLERANCE_OF_VALUES = 0.1


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
    vectors: np.ndarray
    residuals: np.ndarray
    spectrum: np.ndarray
    num_products: int
    rule: str

    @property
    def k(self) -> int:
        """Number of pairs."""
        return int(self.values.shape[0])


class Operator(Protocol):
    """A symmetric matrix known by its products."""

    @property
    def dimension(self) -> int:
        """d."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of its vectors."""
        ...

    def hvp(self, vector: jax.Array) -> jax.Array:
        """H v (d,)."""
        ...


class Keeper(Protocol):
    """Remembers how far a Lanczos run has come."""

    def restore(self, krylov: Krylov) -> None:
        """Bring a new run to where the remembered one was, if there is one."""
        ...

    def save(self, krylov: Krylov) -> None:
        """Called after every product; may do nothing."""
        ...


class Forgetful:
    """Remembers nothing of the run of this name."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def restore(self, krylov: Krylov) -> None:
        """Nothing."""

    def save(self, krylov: Krylov) -> None:
        """Nothing."""


_FORGETFUL = Forgetful()


def find_eigenpairs(
    operator: Operator,
    k: int | str,
    *,
    num_classes: int,
    seed: int = 0,
    progress: Any = silent,
    keeper: Keeper = _FORGETFUL,
    tolerance: float = TOLERANCE,
) -> Eigenpairs:
    """The k largest eigenpairs, or as many as the spectrum suggests when k is "auto".

    Plain Lanczos stops as soon as the pairs it needs have converged: about k + 12 products
    when eigenvalues decay, 6 more to look past a plateau.

    Parameters
    ----------
    keeper : told after every product; brings a run back that was cut short.
    tolerance : the residual, as a share of its eigenvalue, of a pair that counts as converged.

    Raises
    ------
    SettingsError : k is not "auto" or a whole number from 1 to d.
    NotConverged : fewer than k positive eigenvalues exist, or they did not converge.
    """
    dimension = operator.dimension
    check_k(k, dimension)
    krylov = Krylov(operator.hvp, dimension, jax.random.key(seed), operator.dtype)
    keeper.restore(krylov)
    limit = min(dimension, _most_products(k, num_classes))
    while krylov.size < limit and not _finished(krylov, k, num_classes, tolerance):
        krylov.step()
        keeper.save(krylov)
        values, residuals, _ = krylov.ritz()
        converged = _converged_prefix(values, residuals, krylov.dtype, tolerance)
        progress("eigenpairs", krylov.size, limit, ritz_note(values, converged))
    return _collect(krylov, k, num_classes, tolerance)


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


def _finished(krylov: Krylov, k: int | str, num_classes: int, tolerance: float) -> bool:
    """Whether every pair that matters is there and has converged."""
    if krylov.size == 0:
        return False
    values, residuals, _ = krylov.ritz()
    converged = _converged_prefix(values, residuals, krylov.dtype, tolerance)
    wanted = _chosen(krylov, num_classes) if k == "auto" else int(k)
    if wanted is None or wanted > converged:
        return False
    return not krylov.may_hide_above(float(values[wanted - 1]))


def _chosen(krylov: Krylov, num_classes: int) -> int | None:
    values, residuals, _ = krylov.ritz()
    known = _converged_prefix(values, residuals, krylov.dtype, _TOLERANCE_OF_VALUES)
    return choose_k(values[:known], num_classes, complete=krylov.exhausted)


def _converged_prefix(
    values: np.ndarray, residuals: np.ndarray, dtype: np.dtype, tolerance: float
) -> int:
    # What rounding leaves of a zero eigenvalue is not curvature.
    rounding = 100 * np.finfo(dtype).eps * np.abs(values).max()
    good = (values > rounding) & (residuals <= tolerance * np.abs(values))
    return int(good.size if good.all() else np.argmin(good))


def _collect(krylov: Krylov, k: int | str, num_classes: int, tolerance: float) -> Eigenpairs:
    values, residuals, coordinates = krylov.ritz()
    count = _converged_prefix(values, residuals, krylov.dtype, tolerance)
    found = None if k != "auto" else _chosen(krylov, num_classes)
    keep, rule = _settle(k, found, num_classes, most=count)
    if krylov.exhausted and (keep > count or count == 0):
        raise NotConverged(
            f"`k` is {max(keep, 1)} but the curvature has only {count} positive eigenvalues; "
            f"use k <= {count}, or add l2."
        )
    if keep > count or count == 0:
        raise NotConverged(
            f"{count} eigenpairs converged to {tolerance:g} after {krylov.size} products; "
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
