"""The long steps of the offline stage, each in batches that fit into memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rainpp.errors import ModelError
from rainpp.index.prepare import Prepared
from rainpp.lanczos.memory import Fit, fit_curvature, fit_projections, shrinking
from rainpp.lanczos.projection import TrainingProjections, project_training
from rainpp.lanczos.subsample import Found, Request, sampled_eigenpairs

# Vectors beside those that were asked for: Lanczos converges about 12 products later, and then
# holds its basis and the pairs at once.
_MORE_VECTORS = 16


def find_in_memory(prepared: Prepared, request: Request) -> tuple[Found, dict[str, Any]]:
    """Eigenpairs in batches that fit, and what the manifest says about them.

    Raises
    ------
    MemoryBudgetError : one row does not fit, or memory ran out with half a batch too.
    """
    k = 2 * prepared.num_classes if request.k == "auto" else int(request.k)
    vectors = 2 * k + _MORE_VECTORS
    budget = prepared.budget
    fit = fit_curvature(
        prepared.model, prepared.training, budget, kind=request.kind, vectors=vectors
    )
    found, batch = shrinking(
        lambda size: sampled_eigenpairs(replace(request, batch_size=size)), fit.batch, budget
    )
    return found, _noted(fit, batch)


def project_in_memory(
    prepared: Prepared, vectors: np.ndarray, **options: Any
) -> tuple[TrainingProjections, dict[str, Any]]:
    """Projections in batches that fit, and what the manifest says about them.

    Raises
    ------
    MemoryBudgetError : as `find_in_memory`.
    ModelError : every projection is zero, or some are not finite.
    """
    model, training, budget = prepared.model, prepared.training, prepared.budget
    relabel = prepared.relabel
    fit = fit_projections(model, training, budget, k=len(vectors), relabel=relabel)
    found, batch = shrinking(
        lambda size: project_training(
            model, training, vectors, relabel=relabel, batch_size=size, **options
        ),
        fit.batch,
        budget,
    )
    _check_projections(found.gradients)
    return found, _noted(fit, batch)


def _noted(fit: Fit, batch: int) -> dict[str, Any]:
    return {"batch": batch, "fits": fit.batch, "bytes": fit.bytes}


def _check_projections(gradients: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(gradients).all(axis=1))
    if bad.size:
        raise ModelError(
            f"the projected gradient of training row {bad[0]} is not finite ({bad.size} such "
            "rows): the loss has no gradient there. Check that row, and the loss."
        )
    if not gradients.any():
        raise ModelError(
            "every training gradient projects to exactly zero, so no row could ever be ranked. "
            "Check that `apply` uses the parameters it is given (no stop_gradient, no constants "
            "closed over) and that the loss is not flat on these rows."
        )
