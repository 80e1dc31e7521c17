"""The offline stage: from a trained model and its training set to an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.index import store
from rainpp.index.artifact import Index, load
from rainpp.index.before import built_before
from rainpp.index.checks import run_checks
from rainpp.index.prepare import check_options, prepare, request_of
from rainpp.index.stages import find_in_memory, project_in_memory
from rainpp.index.storage import check_storage, store_projections
from rainpp.index.together import save_once, several_processes
from rainpp.index.workbench import request_hash, workbench
from rainpp.intervention import Delete, Relabel
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.k_sensitivity import measure_k_sensitivity
from rainpp.lanczos.optimum import Optimality, measure_optimality
from rainpp.lanczos.projection import example_losses
from rainpp.lanczos.subsample import Found, Request
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import Progress, PyTree, silent

_CONVENTIONS = {
    "objective": "mean loss + 1/2 * l2 * |theta|^2",
    "eigenvalues": "of the Hessian of the objective, descending, positive",
    "projections": "<v_j, grad loss(z)> for delete; minus <v_j, grad loss(z')> for a replacement",
    "score": "predicted improvement of the complaint x plausibility; positive helps",
    "relabel order": "class (label + 1 + s) mod R in column s",
}


def precompute(
    model: Model,
    inputs: PyTree,
    labels: Any,
    *,
    k: int | str = "auto",
    interventions: Sequence[Delete | Relabel] | None = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    curvature: str = "hessian",
    curvature_rows: int | str = "auto",
    memory: int | str | None = None,
    storage: str = "float32",
    path: str | Path | None = None,
    seed: int = 0,
    again: bool = True,
    progress: Progress = silent,
) -> Index:
    """Build the index of a trained model: once, before anybody complains.

    Parameters
    ----------
    model : at the optimum of its training objective; a warning says when it is not.
    inputs, labels : the n training rows, aligned; an array or pytree of arrays, rows first.
    k : number of eigenpairs; "auto" as `rainpp.lanczos.choose_k` says, "inflection" as the paper.
    interventions : which changes to score; deletions, and relabels where labels are classes.
    ids : how the user knows the rows; their positions by default.
    weights : (n,) factors of the rows' losses in the training objective; 1 by default.
    curvature : "hessian", or "gauss_newton": cheaper, and without negative eigenvalues.
    curvature_rows : how many rows the curvature is averaged over: "all", a number, or "auto": as
        few as make two disjoint samples agree on how random complaints rank the rows.
    memory : what may be used beside the rows: bytes, or a size such as "8GB". Batches are made so
        that they fit; half of what is free by default.
    storage : of the projections: "float32" keeps them as computed, "float16" takes half of that and
        "int8" a third; the manifest says how well scores agree. See `rainpp.index.storage`.
    path : directory to write; None keeps the index in memory. Projections go straight to disk, and
        a run that was killed goes on where it was when the same call is made again.
    seed : of the Lanczos start vector; the same seed gives the same index.
    again : build it even if `path` holds a finished and undamaged index of this very request;
        False returns that one, with its inference tables, as `rainpp precompute` does.
    progress : called as (stage, done, total, note).

    Returns
    -------
    Index, memory-mapped from `path` when given, with the training rows at hand.

    Raises
    ------
    DataError, ShapeError, ModelError : the rows or the model cannot be used; nothing is written.
    SettingsError : k or interventions make no sense.
    MemoryBudgetError : one row at a time does not fit into `memory`.
    NotConverged : fewer positive eigenpairs than asked for.
    ArtifactError : another run is writing at `path`, or the disk is full; an index that was there
        is unchanged, and the work so far is kept.

    Notes
    -----
    Cost: about k + 12 curvature products over the curvature's rows, as many over samples that are
    compared, and one pass with k tangents over all rows. Peak memory: the data, 3k vectors of d
    numbers and a batch; without `path` also the projections.
    """
    options = {"k": k, "seed": seed, "curvature": curvature}
    check_options(model, options, path)
    check_storage(storage)
    training = TrainingSet.checked(model, inputs, labels, ids=ids, weights=weights)
    prepared = prepare(
        model, training, interventions=interventions, curvature_rows=curvature_rows, memory=memory
    )
    kinds, num_classes = prepared.kinds, prepared.num_classes
    progress("losses and gradient", 0, 2)
    losses = example_losses(model, training)
    progress("losses and gradient", 1, 2)
    optimality = _optimality(model, training, seed=seed)
    progress("losses and gradient", 2, 2)
    target = None if path is None else store.as_path(path)
    settings = {**options, "curvature_rows": curvature_rows, "interventions": list(kinds)}
    if storage != "float32":  # the request of the default is what it was before there was a choice
        settings["storage"] = storage
    asked = request_of(model, training, settings)
    if target is not None and not again and not several_processes():
        there = built_before(target, asked, training, losses)
        if there is not None:
            return there
    kept = None if several_processes() else target
    with workbench(kept, asked, losses) as bench:
        request = Request(
            model,
            training,
            k,
            num_classes,
            seed=seed,
            rows=curvature_rows,
            kind=curvature,
            progress=progress,
        )
        found, eigenpair_batch = find_in_memory(prepared, request, bench)
        projections, projection_batch = project_in_memory(
            prepared, found.pairs.vectors, bench, progress
        )
        values = np.asarray(found.pairs.values)
        stored = store_projections(projections, storage, values, seed=seed)
        memory_used = {
            "budget": prepared.budget.total if prepared.budget.given else None,
            "eigenpairs": eigenpair_batch,
            "projections": projection_batch,
        }
        parts = _Parts(model, training, found, losses, optimality, kinds, num_classes)
        manifest = {
            **_manifest(parts, curvature),
            "request": request_hash(asked),
            "memory": memory_used,
            "self_checks": [
                *run_checks(prepared, found, optimality, seed=seed),
                *stored.checks,
            ],
            **stored.notes,
        }
        arrays: dict[str, Any] = {**_arrays(parts), **stored.arrays}
        bench.write(manifest, arrays)
    index = Index(manifest, arrays, training=training)
    if target is None:
        return index
    if several_processes():
        return save_once(index, target)
    return replace(load(target, verify=False), training=training)


# Bytes of rows on the device in the one pass that needs each of them once: a copy of 60 000 rows
# of 784 numbers took 0.5 GB more.
_PASSING = 1 << 26


def _optimality(model: Model, training: TrainingSet, *, seed: int) -> Optimality:
    once = Curvature.of(model, training, resident_bytes=_PASSING)
    return measure_optimality(once, training, seed=seed)


@dataclass(frozen=True)
class _Parts:
    model: Model
    training: TrainingSet
    found: Found
    losses: np.ndarray
    optimality: Optimality
    kinds: tuple[str, ...]
    num_classes: int


def _arrays(parts: _Parts) -> dict[str, Any]:
    """Arrays by name, but for `projections` (N, k) and `plausibility` (N,)."""
    pairs = parts.found.pairs
    return {
        "eigenvalues": pairs.values,
        "eigenvectors": pairs.vectors,
        "residuals": pairs.residuals,
        "spectrum": pairs.spectrum,
        "losses": parts.losses,
        "labels": parts.training.labels,
        "train_ids": parts.training.ids,
    }


def _manifest(parts: _Parts, curvature: str) -> dict[str, Any]:
    from rainpp import __version__

    pairs = parts.found.pairs
    return {
        "rainpp": __version__,
        "conventions": _CONVENTIONS,
        "model_fingerprint": parts.model.fingerprint,
        "data_fingerprint": parts.training.fingerprint,
        "loss": parts.model.criterion.name,
        "l2": parts.model.l2,
        "num_train": parts.training.num_rows,
        "appended_rows": 0,
        "num_params": parts.model.num_params,
        "num_classes": parts.num_classes,
        "interventions": list(parts.kinds),
        "k": pairs.k,
        "k_rule": pairs.rule,
        "k_sensitivity": measure_k_sensitivity(parts.model, parts.training, pairs),
        "curvature": {
            "kind": curvature,
            "rows": parts.found.rows,
            "agreement": [asdict(trial) for trial in parts.found.trials],
        },
        "checks": {
            "num_products": pairs.num_products,
            "largest_relative_residual": float(np.max(pairs.residuals / pairs.values)),
            "gradient_norm": parts.optimality.gradient_norm,
            "relative_gradient_norm": parts.optimality.relative,
            "at_optimum": parts.optimality.at_optimum,
        },
        "inference": {},
    }
