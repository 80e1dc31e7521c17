"""More training rows for an index, projected on the eigenvectors it has."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rainpp.errors import ArtifactError, DataError, ShapeError, StaleCurvatureWarning
from rainpp.index import store
from rainpp.index.arrayfile import ArrayFile, Finished
from rainpp.index.artifact import Index, load
from rainpp.index.lock import locked
from rainpp.index.projecting import InMemory, Work, project_rows
from rainpp.index.storage import stored_alike
from rainpp.index.workbench import Workbench
from rainpp.intervention import InterventionTable
from rainpp.lanczos.projection import example_losses
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import Progress, PyTree, silent

# Share of rows the curvature has not seen from which on somebody should know.
LARGE_SHARE = 0.1
_BLOCK_ROWS = 1 << 16


def append_rows(
    index: Index,
    model: Model,
    inputs: PyTree,
    labels: Any,
    *,
    ids: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    progress: Progress = silent,
) -> Index:
    """What `Index.append` does."""
    index.check_model(model)
    new = under_new_ids(
        index, TrainingSet.checked(model, inputs, labels, ids=ids, weights=weights), ids
    )
    losses = example_losses(model, new)
    storage = InMemory()
    kinds, num_classes = tuple(index.manifest["interventions"]), index.manifest["num_classes"]
    repairs = index.repairs_in_order()
    work = Work(model, new, index.eigenvectors, kinds, num_classes, repairs=repairs)
    project_rows(work, storage, progress)
    found = storage.finished()
    alike = stored_alike(index.arrays, found["projections"])
    merged = _Merged(index, new, {**found, **alike, "losses": losses})
    _warn(merged.manifest)
    training = joined(index.training, new)
    if index.path is None:
        return Index(merged.manifest, merged.in_memory(), training=training, repairs=repairs)
    _write(index.path, merged)
    return replace(load(index.path, verify=False), training=training, repairs=repairs)


def under_new_ids(index: Index, new: TrainingSet, ids: Any) -> TrainingSet:
    """The new rows under ids that no old row has."""
    known, labels = index.arrays["train_ids"], index.arrays["labels"]
    if new.labels.shape[1:] != labels.shape[1:]:
        raise ShapeError(
            f"`labels` has shape {new.labels.shape}; those of the index have {labels.shape}."
        )
    if ids is None:
        if not np.array_equal(known, np.arange(index.num_train)):
            raise DataError("the index knows its rows by ids of your own; give `ids` for more.")
        numbers = np.arange(index.num_train, index.num_train + new.num_rows, dtype=np.int64)
        return TrainingSet(new.inputs, new.labels, numbers, new.weights)
    if (known.dtype.kind == "U") != (new.ids.dtype.kind == "U"):
        raise DataError(f"`ids` has type {new.ids.dtype}; those of the index are {known.dtype}.")
    own = _typed_as(known, new.ids)
    twice = own[np.isin(own, known)]
    if twice.size:
        raise DataError(f"`ids` holds {twice[0].item()!r}, which a row of the index already has.")
    return TrainingSet(new.inputs, new.labels, own, new.weights)


def _typed_as(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Ids that can stand after those of the index: int64 and uint64 together would be floats."""
    if np.result_type(known, ids).kind != "f":
        return ids
    found = ids.astype(known.dtype)
    beyond = ids[found != ids]
    if beyond.size:
        raise DataError(
            f"`ids` holds {beyond[0].item()!r}; those of the index are {known.dtype}, which does "
            "not hold it."
        )
    return found


@dataclass(frozen=True, eq=False)
class _Merged:
    """An index and more rows: `found` are their projections, plausibility and losses."""

    index: Index
    new: TrainingSet
    found: dict[str, np.ndarray]

    @property
    def manifest(self) -> dict[str, Any]:
        """That of all rows; it says how many the curvature has not seen."""
        old = self.index.manifest
        first = [{"rows": old["num_train"], "fingerprint": old["data_fingerprint"]}]
        more = {"rows": self.new.num_rows, "fingerprint": self.new.fingerprint}
        parts = [*old.get("data_parts", first), more]
        return {
            **old,
            "num_train": old["num_train"] + self.new.num_rows,
            "appended_rows": old.get("appended_rows", 0) + self.new.num_rows,
            "data_parts": parts,
            "data_fingerprint": parts_fingerprint(parts),
        }

    def pieces(self) -> dict[str, list[np.ndarray]]:
        """Every array that grows, as what follows what; each family stays together."""
        old = self.index.interventions
        new = InterventionTable(old.kinds, self.new.ids, self.new.labels, old.num_classes)
        grown = {
            name: [
                part for kind in old.kinds for part in (before[old.of(kind)], after[new.of(kind)])
            ]
            for name, before, after in self._both("projections", "plausibility", "projection_rows")
        }
        rows = {
            "labels": self.new.labels,
            "train_ids": self.new.ids,
            "losses": self.found["losses"],
        }
        return {**grown, **{name: [self.index.arrays[name], rows[name]] for name in rows}}

    def _both(self, *names: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
        arrays = self.index.arrays  # not every storage has scales of rows
        return [(name, arrays[name], self.found[name]) for name in names if name in arrays]

    def in_memory(self) -> dict[str, np.ndarray]:
        """All arrays."""
        grown = {name: np.concatenate(parts) for name, parts in self.pieces().items()}
        return {**self.index.arrays, **grown}


def parts_fingerprint(parts: Sequence[dict[str, Any]]) -> str:
    """One hash of training rows that came in several parts."""
    text = " ".join(f"{part['rows']}:{part['fingerprint']}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


def _warn(manifest: dict[str, Any]) -> None:
    appended, rows = manifest["appended_rows"], manifest["num_train"]
    if appended > LARGE_SHARE * rows:
        warnings.warn(
            f"{appended:,} of the {rows:,} rows ({appended / rows:.0%}) came after the curvature "
            "was computed and the model trained; run rainpp.precompute again, with a model trained "
            "on all of them.",
            StaleCurvatureWarning,
            stacklevel=4,
        )


def _write(path: Path, merged: _Merged) -> None:
    """Replace the index at `path` by the merged one; large arrays go from file to file."""
    manifest = merged.manifest
    bench = Workbench(path, path / store.BUILDING / manifest["data_fingerprint"][:16])
    with locked(path):
        if store.read_manifest(path)["sha256"] != merged.index.manifest["sha256"]:
            raise ArtifactError(
                f"`{path}` has changed since it was opened; open it again with rainpp.load and "
                "append to that."
            )
        store.read(path, verify=True)  # what is written again gets new checksums
        try:
            with bench.writing():
                bench.folder.mkdir(parents=True, exist_ok=True)
                grown = {
                    name: _concatenated(bench.folder / f"{name}.npy", parts)
                    for name, parts in merged.pieces().items()
                }
                store.commit(path, manifest, {**_unchanged(merged.index, path), **grown})
        finally:
            bench.discard()


def _concatenated(file: Path, parts: list[np.ndarray]) -> Finished:
    """The parts one after the other in one file, block by block."""
    dtype = np.result_type(*parts)
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    target, start = ArrayFile(file, dtype, shape, fresh=True), 0
    try:
        for part in parts:
            for first in range(0, len(part), _BLOCK_ROWS):
                target.put(start + first, part[first : first + _BLOCK_ROWS])
            start += len(part)
        target.sync()
    finally:
        target.close()
    return target.finished


def _unchanged(index: Index, path: Path) -> dict[str, Finished]:
    return {
        name: Finished(path / entry["file"], np.dtype(entry["dtype"]), tuple(entry["shape"]))
        for name, entry in index.manifest["arrays"].items()
    }


def joined(old: TrainingSet | None, new: TrainingSet) -> TrainingSet | None:
    """All rows where both are arrays in memory; else the user gives them again when needed."""
    if old is None:
        return None
    leaves = [*jax.tree.leaves(old.inputs), *jax.tree.leaves(new.inputs)]
    if not all(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves):
        return None
    inputs = jax.tree.map(
        lambda one, two: np.concatenate([np.asarray(one), np.asarray(two)]), old.inputs, new.inputs
    )
    pairs = ((old.labels, new.labels), (old.ids, new.ids), (old.weights, new.weights))
    return TrainingSet(inputs, *(np.concatenate(pair) for pair in pairs))
