"""The leading eigenpairs of the curvature, and how many of them to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from rainpp.errors import NotConverged, SettingsError
from rainpp.lanczos.choose_k import MOST, choose_k, inflection, reason_for_many
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

# Ways to choose k: `choose_k` and the paper's `inflection`.
RULES = ("auto", "inflection")


def find_eigenpairs(
    operator: Operator,
    k: int | str,
    *,
    num_classes: int,
    seed: int = 0,
    progress: Any = silent,
    keeper: Keeper = _FORGETFUL,
    tolerance: float = TOLERANCE,
    num_rows: int = 0,
) -> Eigenpairs:
    """The k largest eigenpairs, or as many as `choose_k` or `inflection` says.

    Plain Lanczos stops as soon as the pairs it needs have converged: about k + 12 products
    when eigenvalues decay.

    Parameters
    ----------
    k : a number, "auto", or "inflection" for the paper's rule.
    keeper : told after every product; brings a run back that was cut short.
    tolerance : the residual, as a share of its eigenvalue, of a pair that counts as converged.
    num_rows : rows the model was trained on; with ten or more for each parameter "auto" keeps more.

    Raises
    ------
    SettingsError : k is not "auto", "inflection" or a whole number from 1 to d.
    NotConverged : fewer than k positive eigenvalues exist, or they did not converge.
    """
    check_k(k, operator.dimension)
    wanted = Wanted(k, num_classes, reason_for_many(num_rows, operator.dimension))
    return Search(operator, wanted, seed=seed, progress=progress, keeper=keeper).until(tolerance)


class Search:
    """A Lanczos run for eigenpairs that can be asked for more precision later."""

    def __init__(
        self,
        operator: Operator,
        wanted: Wanted,
        *,
        seed: int = 0,
        progress: Any = silent,
        keeper: Keeper = _FORGETFUL,
    ) -> None:
        key = jax.random.key(seed)
        self._krylov = Krylov(operator.hvp, operator.dimension, key, operator.dtype)
        keeper.restore(self._krylov)
        self._wanted, self._progress, self._keeper = wanted, progress, keeper
        self._limit = min(operator.dimension, wanted.most_products)

    def until(self, tolerance: float) -> Eigenpairs:
        """The pairs, once those that are wanted have residuals of this share of their values.

        Raises
        ------
        NotConverged : fewer positive eigenvalues exist, or they did not converge.
        """
        krylov = self._krylov
        while krylov.size < self._limit and not _finished(krylov, self._wanted, tolerance):
            krylov.step()
            self._keeper.save(krylov)
            values, residuals, _ = krylov.ritz()
            converged = _converged_prefix(values, residuals, krylov.dtype, tolerance)
            self._progress("eigenpairs", krylov.size, self._limit, ritz_note(values, converged))
        return _collect(krylov, self._wanted, tolerance)


def check_k(k: Any, dimension: int) -> None:
    """Refuse a k that no model of `dimension` parameters has.

    Raises
    ------
    SettingsError : not "auto", "inflection" or a whole number from 1 to d.
    """
    if isinstance(k, str) and k in RULES:
        return
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise SettingsError(f"`k` is {k!r}; it must be 'auto', 'inflection' or a whole number.")
    if not 1 <= k <= dimension:
        raise SettingsError(f"`k` is {k}; the model has {dimension} parameters, so 1 <= k <= that.")


@dataclass(frozen=True)
class Wanted:
    """How many pairs: a number, or a rule and what it depends on.

    Attributes
    ----------
    k : a number, "auto" or "inflection".
    many : why "auto" keeps `MOST` pairs; empty where the spectrum decides.
    """

    k: int | str
    num_classes: int
    many: str

    @property
    def most_products(self) -> int:
        """Products after which Lanczos gives up."""
        if isinstance(self.k, str) and not self.many:
            return 40 + 10 * self.num_classes
        return 100 + 20 * (MOST if isinstance(self.k, str) else int(self.k))

    def count(self, krylov: Krylov) -> int | None:
        """Pairs wanted, or None while the spectrum does not say yet."""
        if not isinstance(self.k, str):
            return int(self.k)
        values, residuals, _ = krylov.ritz()
        known = _converged_prefix(values, residuals, krylov.dtype, _TOLERANCE_OF_VALUES)
        if self.k == "inflection":
            return inflection(values[:known], self.num_classes, complete=krylov.exhausted)
        return choose_k(
            values[:known],
            self.num_classes,
            many=bool(self.many),
            complete=krylov.exhausted,
        )

    def settled(self, krylov: Krylov, *, most: int) -> tuple[int, str]:
        """Pairs to keep once Lanczos has ended with `most` of them converged, and why."""
        if not isinstance(self.k, str):
            return int(self.k), "given"
        found = self.count(krylov)
        if found is None:
            least = MOST if self.many else self.num_classes
            return min(most, least), "what converged: the spectrum does not end its decay"
        if self.k == "inflection":
            return found, f"first inflection of the spectrum from {self.num_classes} on"
        if self.many:
            return found, f"the first {MOST}: {self.many}"
        return found, "eigenvalues of at least a quarter of the largest"


def _finished(krylov: Krylov, wanted: Wanted, tolerance: float) -> bool:
    """Whether every pair that matters is there and has converged."""
    if krylov.size == 0:
        return False
    values, residuals, _ = krylov.ritz()
    converged = _converged_prefix(values, residuals, krylov.dtype, tolerance)
    count = wanted.count(krylov)
    if count is None or count > converged:
        return False
    return not krylov.may_hide_above(float(values[count - 1]))


def _converged_prefix(
    values: np.ndarray, residuals: np.ndarray, dtype: np.dtype, tolerance: float
) -> int:
    # What rounding leaves of a zero eigenvalue is not curvature.
    rounding = 100 * np.finfo(dtype).eps * np.abs(values).max()
    good = (values > rounding) & (residuals <= tolerance * np.abs(values))
    return int(good.size if good.all() else np.argmin(good))


def _collect(krylov: Krylov, wanted: Wanted, tolerance: float) -> Eigenpairs:
    values, residuals, coordinates = krylov.ritz()
    count = _converged_prefix(values, residuals, krylov.dtype, tolerance)
    keep, rule = wanted.settled(krylov, most=count)
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
