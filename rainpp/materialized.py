"""Projections of inference tables, kept in the index they belong to."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from rainpp.errors import ArtifactError
from rainpp.fingerprint import fingerprint
from rainpp.index.artifact import Index, load
from rainpp.index.store import MANIFEST
from rainpp.inference import InferenceTable
from rainpp.lanczos.projection import project_inference
from rainpp.model import Model
from rainpp.types import Progress


def projections(index: Index, found: InferenceTable) -> np.ndarray:
    """The stored projections (V, R, k) of a table."""
    return index.arrays[f"{_label(found)}-projections"]


def with_projections(
    model: Model, index: Index, found: InferenceTable, progress: Progress
) -> Index:
    """The index with the projections of a table; itself if it holds those of the same rows.

    Raises
    ------
    ArtifactError : the index cannot be written, or its directory holds another one by now.
    """
    label = _label(found)
    known, inputs = index.manifest["inference"].get(label), fingerprint(found.inputs)
    if known is not None and known["inputs"] == inputs:
        return index
    index = _latest(index)
    vectors = jnp.asarray(index.eigenvectors)
    _, projected = project_inference(model, found.inputs, vectors, progress=progress)
    entry = {"table": found.predictions.table, "inputs": inputs}
    notes = {"inference": {**index.manifest["inference"], label: entry}}
    arrays = {
        f"{label}-projections": projected,
        f"{label}-probabilities": found.predictions.probabilities,
        f"{label}-rowids": found.predictions.rowids,
    }
    return index.with_arrays(arrays, notes)


def _label(found: InferenceTable) -> str:
    """A file-safe name for one (model, table, arguments)."""
    known = found.predictions
    text = "\0".join([known.model.lower(), known.table, *(known.arguments or ())])
    return "inference-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def _latest(index: Index) -> Index:
    """The index as its directory has it now, with what others have stored in it meanwhile.

    Raises
    ------
    ArtifactError : another index was written there, or it is damaged; it is left alone.
    """
    if index.path is None or not (index.path / MANIFEST).exists():
        return index
    # What is written again gets new checksums: damage would be sealed in.
    now = load(index.path)
    if _core(now) != _core(index):
        raise ArtifactError(
            f"`{index.path}` holds another index than the one registered: it was built again. "
            "Open it with rainpp.load and register it before materialising."
        )
    return replace(now, training=index.training)


def _core(index: Index) -> dict[str, str]:
    """Checksums of everything but the known inference tables."""
    entries = index.manifest["arrays"].items()
    kept = {name: entry["sha256"] for name, entry in entries if not name.startswith("inference-")}
    return {**kept, "model": index.manifest["model_fingerprint"]}
