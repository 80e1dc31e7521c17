"""Whether an index is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.errors import ArtifactError
from rainpp.index import store
from rainpp.index.artifact import Index, load
from rainpp.index.workbench import request_hash, same_losses
from rainpp.training_set import TrainingSet


def built_before(
    path: Path, request: Mapping[str, Any], training: TrainingSet, losses: np.ndarray
) -> Index | None:
    """The finished, undamaged index of this request at `path`, None if there is none.

    Parameters
    ----------
    training : its rows; their ids must be those of the index too.
    losses : (n,) of the rows: an `apply` that was changed gives others.
    """
    try:
        manifest = store.read_manifest(path)
        if manifest.get("request") != request_hash(request) or manifest["appended_rows"]:
            return None
        index = load(path)
    except ArtifactError:
        return None
    same = np.array_equal(index.arrays["train_ids"], training.ids)
    if not same or not same_losses(index.arrays["losses"], losses):
        return None
    return replace(index, training=training)
