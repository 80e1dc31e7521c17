"""The offline stage: from a trained model and its training set to an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.index.artifact import Index
from rainpp.index.checks import finite, run_checks
from rainpp.index.joint import built_everywhere, joint_workbench, open_everywhere, peers_watched
from rainpp.index.prepare import Options, Prepared, prepare
from rainpp.index.stages import find_in_memory, project_in_memory
from rainpp.index.storage import store_projections
from rainpp.index.workbench import Bench, request_hash
from rainpp.intervention import Kind
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
    interventions: Sequence[Kind] | None = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    curvature: str = "hessian",
    curvature_rows: int | str = "auto",
    matmul: str = "float32",
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
    interventions : which changes to score: rainpp.Delete(), rainpp.Relabel(), and any number of
        rainpp.Replace(name, repair); deletions, and relabels where labels are classes, by default.
    ids : how the user knows the rows; their positions by default.
    weights : (n,) factors of the rows' losses in the training objective; 1 by default.
    curvature : "hessian", or "gauss_newton": cheaper, and without negative eigenvalues.
    curvature_rows : how many rows the curvature is averaged over: "all", a number, or "auto": as
        few as make two disjoint samples agree on how random complaints rank the rows.
    matmul : "float32", or "bfloat16": the matrix products and convolutions behind eigenpairs and
        projections take bfloat16 numbers and add up in float32. The self-check called float64 says
        how far off that is.
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
    options = Options(
        k=k,
        interventions=interventions,
        ids=ids,
        weights=weights,
        curvature=curvature,
        curvature_rows=curvature_rows,
        matmul=matmul,
        memory=memory,
        storage=storage,
        path=path,
        seed=seed,
    )
    with peers_watched(options.target):
        return _built(prepare(model, inputs, labels, options), again=again, progress=progress)


def _built(prepared: Prepared, *, again: bool, progress: Progress) -> Index:
    training, target = prepared.training, prepared.options.target
    progress("losses and gradient", 0, 2)
    losses = example_losses(prepared.model, training)
    if target is not None and not again:
        there = built_everywhere(target, prepared.request, training, losses)
        if there is not None:
            return replace(there, repairs=prepared.repairs)
    progress("losses and gradient", 1, 2)
    optimality = _optimality(prepared)
    progress("losses and gradient", 2, 2)
    with joint_workbench(target, prepared.request, losses) as bench:
        built = _computed(prepared, bench, _Before(losses, optimality), progress)
        known: dict[str, Any] = {"repairs": prepared.repairs, "seconds": built.seconds}
        if target is None:
            manifest, arrays = built.finished()
            return Index(manifest, arrays, training=training, **known)
        bench.write(built.finished)
    return replace(open_everywhere(target, training), **known)


# Bytes of rows on the device in the one pass that needs each of them once: a copy of 60 000 rows
# of 784 numbers took 0.5 GB more.
_PASSING = 1 << 26


def _optimality(prepared: Prepared) -> Optimality:
    model, training = prepared.model, prepared.training
    once = Curvature.of(model, training, resident_bytes=_PASSING)
    return measure_optimality(once, training, seed=prepared.options.seed)


@dataclass(frozen=True)
class _Before:
    """What is known before the long steps."""

    losses: np.ndarray
    optimality: Optimality


@dataclass(frozen=True)
class _Built:
    """Manifest and arrays of an index, but for the storage of its projections.

    With several processes the projections are with the first, and nobody else finishes it.
    """

    prepared: Prepared
    manifest: dict[str, Any]
    arrays: dict[str, Any]
    seconds: dict[str, float]

    def finished(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Manifest and arrays as they are written."""
        options, values = self.prepared.options, np.asarray(self.arrays["eigenvalues"])
        stored = store_projections(self.arrays, options.storage, values, seed=options.seed)
        checks = [*self.manifest["self_checks"], *stored.checks]
        return {**self.manifest, "self_checks": checks, **stored.notes}, stored.arrays


def _computed(prepared: Prepared, bench: Bench, before: _Before, progress: Progress) -> _Built:
    """Everything that takes all processes."""
    working, options = prepared.working, prepared.options
    request = Request(
        working.model,
        working.training,
        options.k,
        prepared.num_classes,
        seed=options.seed,
        rows=options.curvature_rows,
        kind=options.curvature,
        progress=progress,
        repairs=bool(prepared.repairs),
    )
    found, eigenpair_batch = find_in_memory(working, request, bench)
    projections, projection_batch, seconds = project_in_memory(
        working, found.pairs.vectors, bench, progress
    )
    memory = {
        "budget": prepared.budget.total if prepared.budget.given else None,
        "eigenpairs": eigenpair_batch,
        "projections": projection_batch,
    }
    manifest = {
        **_manifest(prepared, found, before.optimality),
        "request": request_hash(prepared.request),
        "memory": memory,
        "self_checks": run_checks(prepared, found, before.optimality),
    }
    arrays = {**_arrays(prepared.training, found, before.losses), **projections}
    return _Built(prepared, manifest, arrays, seconds)


def _arrays(training: TrainingSet, found: Found, losses: np.ndarray) -> dict[str, Any]:
    """Arrays by name, but for `projections` (N, k) and `plausibility` (N,)."""
    return {
        "eigenvalues": found.pairs.values,
        "eigenvectors": found.pairs.vectors,
        "residuals": found.pairs.residuals,
        "spectrum": found.pairs.spectrum,
        "losses": losses,
        "labels": training.labels,
        "train_ids": training.ids,
    }


def _manifest(prepared: Prepared, found: Found, optimality: Optimality) -> dict[str, Any]:
    from rainpp import __version__

    model, training, pairs = prepared.model, prepared.training, found.pairs
    return {
        "rainpp": __version__,
        "conventions": _CONVENTIONS,
        "model_fingerprint": model.fingerprint,
        "data_fingerprint": training.fingerprint,
        "loss": model.criterion.name,
        "l2": model.l2,
        "num_train": training.num_rows,
        "appended_rows": 0,
        "num_params": model.num_params,
        "num_classes": prepared.num_classes,
        "interventions": list(prepared.kinds),
        "k": pairs.k,
        "k_rule": pairs.rule,
        "k_sensitivity": measure_k_sensitivity(model, training, pairs),
        "matmul": prepared.options.matmul,
        "curvature": {
            "kind": prepared.options.curvature,
            "rows": found.rows,
            "agreement": [asdict(trial) for trial in found.trials],
        },
        "checks": {
            "num_products": pairs.num_products,
            "largest_relative_residual": float(np.max(pairs.residuals / pairs.values)),
            "gradient_norm": optimality.gradient_norm,
            "relative_gradient_norm": finite(optimality.relative),
            "at_optimum": optimality.at_optimum,
        },
        "inference": {},
    }
