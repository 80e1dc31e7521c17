"""The long steps of the offline stage, each in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rainpp.index.arrayfile import Finished
from rainpp.index.prepare import Prepared
from rainpp.index.projecting import Work, project_rows
from rainpp.index.workbench import Bench
from rainpp.lanczos.choose_k import MOST
from rainpp.lanczos.memory import Fit, fit_curvature, fit_projections, shrinking
from rainpp.lanczos.subsample import Found, Request, sampled_eigenpairs
from rainpp.types import Progress

# Vectors beside those that were asked for: Lanczos converges about 12 products later, and then
# holds its basis and the pairs at once.
_MORE_VECTORS = 16


def find_in_memory(
    prepared: Prepared, request: Request, bench: Bench
) -> tuple[Found, dict[str, Any]]:
    """Eigenpairs in batches that fit, and what the manifest says about them.

    Raises
    ------
    MemoryBudgetError : one row does not fit, or memory ran out with half a batch too.
    """
    model, training, budget = prepared.model, prepared.training, prepared.budget
    vectors = vectors_held(expected_pairs(request.k, prepared))
    fit = _remembered(
        bench,
        "eigenpairs",
        lambda: fit_curvature(model, training, budget, kind=request.kind, vectors=vectors),
    )
    request = replace(request, keeper=bench.keeper)
    found, batch = shrinking(
        lambda size: sampled_eigenpairs(replace(request, batch_size=size)), fit.batch, budget
    )
    return found, _noted(fit, batch)


def expected_pairs(k: int | str, prepared: Prepared) -> int:
    """k, or what a rule comes to on most data: a few more than classes, or `choose_k.MOST`."""
    if not isinstance(k, str):
        return int(k)
    num_params = prepared.model.num_params
    many = k == "auto" and prepared.many_pairs
    return min(MOST if many else prepared.num_classes + 2, num_params)


def vectors_held(k: int) -> int:
    """Vectors of d numbers in memory at once, for k pairs."""
    return 2 * k + _MORE_VECTORS


def project_in_memory(
    prepared: Prepared, vectors: np.ndarray, bench: Bench, progress: Progress
) -> tuple[dict[str, np.ndarray | Finished], dict[str, Any], dict[str, float]]:
    """Projections and plausibility in batches that fit, and what the manifest says about them.

    And the seconds that went into each family; see `Index.seconds`.

    Raises
    ------
    MemoryBudgetError : as `find_in_memory`.
    ModelError : every projection is zero, or some are not finite.
    ArtifactError : the disk refuses.
    """
    model, training, budget = prepared.model, prepared.training, prepared.budget
    k, relabel = len(vectors), prepared.relabel
    fit = _remembered(
        bench,
        "projections",
        lambda: fit_projections(model, training, budget, k=k, relabel=relabel),
    )
    work = Work(
        model,
        training,
        vectors,
        prepared.kinds,
        prepared.num_classes,
        repairs=prepared.repairs,
        chances=prepared.chances,
    )
    storage = bench.storage(vectors)
    _, batch = shrinking(
        lambda size: project_rows(replace(work, batch_size=size), storage, progress),
        fit.batch,
        budget,
    )
    return storage.finished(), _noted(fit, batch), work.clock.seconds


def _remembered(bench: Bench, name: str, make: Callable[[], Fit]) -> Fit:
    """A batch that does not change when there is more or less memory on the next try."""
    return Fit(**bench.remembered(f"{name}-fit", lambda: asdict(make())))


def _noted(fit: Fit, batch: int) -> dict[str, Any]:
    return {"batch": batch, "fits": fit.batch, "bytes": fit.bytes}
