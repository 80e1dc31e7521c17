"""Several complaints, and cells to keep, as one ranking."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rainpp.backing import RetrainableBacking, refine_backings
from rainpp.bound_complaint import BoundComplaint, KeptCell
from rainpp.complaint import Cell
from rainpp.errors import ComplaintError, ConflictWarning, RainError, ShapeError
from rainpp.handoff import basis_of
from rainpp.index.artifact import Index
from rainpp.lanczos.constraint import cosines, inner_products, shares
from rainpp.ranking import Ranking
from rainpp.refinement import check_steps
from rainpp.saturation import warn_if_saturated
from rainpp.traced import Traced
from rainpp.trust import Circumstances, conflicts, met_in_expectation

# Complaints whose cosine is below this are said to fight; relaxation.md, 1.5.
FIGHTING = -0.2
# Less of a complaint than this is rounding of the 32-bit projections.
_NOTHING_LEFT = 1e-6


def rank_together(
    complaints: Sequence[BoundComplaint],
    weights: Sequence[float] | None = None,
    *,
    keep: Sequence[KeptCell] = (),
) -> Ranking:
    """One ranking for several complaints about the same model.

    Parameters
    ----------
    weights : of each complaint's improvement. By default all weigh the same: each is scaled by
        the mean norm of the projected gradients over its own, and divided by their number.
    keep : cells whose relaxed value the fix should leave alone, to first order.

    Raises
    ------
    ComplaintError : none, something else, they belong to different models or indexes, or nothing
        is left of them once the kept cells are held.
    ShapeError : not one finite weight >= 0 per complaint, or only zeros.
    """
    complaints, kept = _listed(complaints), _listed_kept(keep)
    first = complaints[0]
    _check_same_model([*complaints, *kept])
    first.index.check_has_rows()
    for complaint in complaints:
        warn_if_saturated(complaint, stacklevel=3)
    vectors = np.stack([complaint.vector() for complaint in complaints])
    factors = _balance(vectors) if weights is None else _check_weights(weights, len(complaints))
    vector, survives = _held(factors @ vectors, kept, first.index)
    ranking = first.index.rank(
        vector,
        complaints=tuple(item.complaint for item in complaints),
        classes=first.registered.classes,
        backing=RetrainableBacking(tuple(complaints), factors, kept),
    )
    ranking.kept, ranking.survives = tuple(item.cell for item in kept), survives
    ranking.circumstances = lambda: _circumstances(complaints, vectors, factors)
    if len(complaints) > 1:
        ranking.cosines = _compare(complaints, vectors)
    return ranking


def _circumstances(
    complaints: Sequence[BoundComplaint], vectors: np.ndarray, factors: np.ndarray
) -> Circumstances:
    """What is known about complaints beside their scores, for `ranking.trust`."""
    index, method = complaints[0].index, complaints[0].result.method
    products = inner_products(vectors, vectors, index.eigenvalues)
    weights = factors * np.sqrt(np.diag(products))
    names = [str(item.complaint) for item in complaints]
    met = [met_in_expectation(item.complaint) for item in complaints]
    return Circumstances(
        method=method,
        error=_sampling_error(complaints),
        at_optimum=index.manifest["checks"]["at_optimum"],
        gradient=index.manifest["checks"]["relative_gradient_norm"],
        satisfied=tuple(met) if all(met) else (),
        conflicts=conflicts(names, cosines(vectors, index.eigenvalues), weights, fighting=FIGHTING),
    )


def _sampling_error(complaints: Sequence[BoundComplaint]) -> float | None:
    """Largest half width of a 95 % interval around a cell complained about; None without cells."""
    cells = [item for item in complaints if isinstance(item.about, Cell)]
    return max(
        (item.result.error(item.cell.column, row=item.cell.row) for item in cells), default=None
    )


def refine_together(rankings: Any, steps: int = 4) -> list[Ranking]:
    """Refine several rankings over one index in shared passes over the training rows, in place.

    Parameters
    ----------
    rankings : a sequence of what `rank_together` returns.

    Raises
    ------
    ComplaintError : none, something else, or they belong to different models or indexes.
    RainError : one was made from a vector alone, or the training rows are not at hand.
    SettingsError : `steps` is not a whole number >= 0.
    """
    wanted = check_steps(steps)
    listed: list[Any] = list(rankings) if isinstance(rankings, Iterable) else [rankings]
    if not listed:
        raise ComplaintError("`rankings` is empty; there is nothing to refine.")
    backings: list[RetrainableBacking] = []
    for item in listed:
        if not isinstance(item, Ranking):
            raise ComplaintError(
                f"`rankings` holds a {type(item).__name__}; give a list of what complaint.rank() "
                "returns."
            )
        if not isinstance(item.backing, RetrainableBacking):
            raise RainError("`refine` needs rankings made from complaints on a database.")
        backings.append(item.backing)
    _check_same_model([complaint for backing in backings for complaint in backing.complaints])
    found = refine_backings(backings, wanted, lambda *_: None)
    for ranking, refined in zip(listed, found, strict=True):
        ranking.replace_effects(refined)
    return listed


def _held(vector: np.ndarray, kept: tuple[KeptCell, ...], index: Index) -> tuple[np.ndarray, float]:
    """The part of a k-vector that moves no kept cell, and its share of the improvement."""
    if not kept:
        return vector, 1.0
    values = index.eigenvalues
    moves = np.stack([item.query_projection() for item in kept])
    free = vector - shares(moves, vector, values) @ moves
    whole, left = (float(inner_products(v[None], v[None], values)[0, 0]) for v in (vector, free))
    survives = min(left / whole, 1.0) if whole > 0 else 1.0
    if survives < _NOTHING_LEFT:
        raise ComplaintError(
            f"nothing is left of the complaint once {', '.join(str(item.cell) for item in kept)} "
            "must stay: whatever helps it moves what is kept. Keep fewer cells."
        )
    return free, survives


def _compare(complaints: Sequence[BoundComplaint], vectors: np.ndarray) -> pd.DataFrame:
    """The cosines between complaints, with a warning for every pair that fights."""
    found = cosines(vectors, complaints[0].index.eigenvalues)
    for i, j in combinations(range(len(complaints)), 2):
        if found[i, j] < FIGHTING:
            warnings.warn(
                f"two complaints fight (cosine {found[i, j]:.2f}), so a fix for one undoes the "
                f"other: {complaints[i].complaint}; {complaints[j].complaint}. Rank them apart, or "
                "give the one that matters more weight.",
                ConflictWarning,
                stacklevel=4,
            )
    names = [str(item.complaint) for item in complaints]
    return pd.DataFrame(found, index=names, columns=pd.Index(names))


def _listed(complaints: Any) -> list[BoundComplaint]:
    if not isinstance(complaints, Iterable):
        raise ComplaintError(f"`complaints` is {complaints!r}; give a list of complaints.")
    listed: list[Any] = list(complaints)
    if not listed:
        raise ComplaintError("`complaints` is empty; there is nothing to rank for.")
    for item in listed:
        if not isinstance(item, BoundComplaint):
            raise ComplaintError(
                f"`complaints` holds a {type(item).__name__}; give a list of what "
                "result.complain(...) returns."
            )
    return listed


def _listed_kept(keep: Any) -> tuple[KeptCell, ...]:
    if not isinstance(keep, Iterable):
        raise ComplaintError(f"`keep` is {keep!r}; give a list of what result.keep(...) returns.")
    listed: list[Any] = list(keep)
    for item in listed:
        if not isinstance(item, KeptCell):
            raise ComplaintError(
                f"`keep` holds a {type(item).__name__}; give a list of what result.keep(...) "
                "returns."
            )
    return tuple(listed)


def _check_same_model(complaints: Sequence[Traced]) -> None:
    """Vectors add up only if every k-vector is along the same eigenvectors."""
    first = complaints[0]
    if len({item.index.manifest["model_fingerprint"] for item in complaints}) > 1:
        names = sorted({item.registered.name for item in complaints})
        raise ComplaintError(
            f"the complaints belong to different models ({', '.join(names)}); rank each by itself."
        )
    if not all(_same_index(first.index, item.index) for item in complaints):
        raise ComplaintError(
            "the complaints belong to different indexes of one model; register the same index for "
            "both, then ask and complain again."
        )


def _same_index(one: Index, other: Index) -> bool:
    if one is other:
        return True
    keys = ("data_fingerprint", "interventions")
    same = all(one.manifest[key] == other.manifest[key] for key in keys)
    return same and basis_of(one) == basis_of(other)


def _balance(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1)
    if len(norms) == 1:
        return np.ones(1)
    alive = norms > 0
    scaled = np.divide(norms[alive].mean() if alive.any() else 1.0, norms, where=alive, out=norms)
    return scaled / len(norms)


def _check_weights(weights: Sequence[float], count: int) -> np.ndarray:
    values = np.asarray(weights, dtype=object)
    numbers = all(isinstance(item, int | float | np.number) for item in values.flat)
    try:
        values = values.astype(np.float64) if numbers else np.full(count, np.nan)
    except (TypeError, OverflowError):  # complex, or beyond 64 bits
        values = np.full(count, np.nan)
    if values.shape != (count,) or not (np.isfinite(values) & (values >= 0)).all():
        raise ShapeError(
            f"`weights` is {weights}; give one finite number for each of {count} complaints, >= 0."
        )
    if not values.any():
        raise ShapeError(f"`weights` is {weights}; at least one complaint must count.")
    return values
