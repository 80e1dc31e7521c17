"""Candidates checked, and scored for a complaint by one forward pass over them.

An addition is the opposite of a deletion: J becomes J + ℓ(·, z)/n, and a query moves by
-(1/n)⟨H⁻¹∇q, ∇ℓ(z)⟩ to first order. H⁻¹∇q is the same for every row, so one tangent along it gives
the effect of each candidate; a second one where the ranking was refined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.additions import Additions
from rainpp.backing import RetrainableBacking
from rainpp.errors import DataError, RainError, SettingsError, ShapeError
from rainpp.index.append import under_new_ids
from rainpp.lanczos.influence import query_change
from rainpp.lanczos.projection import project_training
from rainpp.model import check_inputs, shapes_of
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree

if TYPE_CHECKING:
    from rainpp.ranking import Ranking


def find_additions(ranking: Ranking, inputs: PyTree, labels: Any, ids: Any) -> Additions:
    """What `Ranking.additions` does."""
    backing = ranking.backing
    if not isinstance(backing, RetrainableBacking):
        raise RainError("`additions` needs a ranking made from complaints on a database.")
    # Refined effects leave the order of suspects, `scores`, to the index.
    refined = [] if ranking.direction is None else [ranking.direction]
    directions = np.stack([backing.direction(), *refined])
    rows = _checked(backing, inputs, labels, ids)
    changes, posterior = _changes(backing, rows, directions, every_label=labels is None)
    scores = changes[0] * posterior
    best = scores.argmax(axis=1)
    everyone = np.arange(rows.num_rows)
    return Additions(
        ranking,
        rows if labels is not None else _labelled(rows, best),
        labels is not None,
        changes[-1][everyone, best],
        posterior[everyone, best],
        scores[everyone, best],
        (changes[-1] * posterior).sum(axis=1),
        ranking.refinement,
    )


def _changes(
    backing: RetrainableBacking, rows: TrainingSet, directions: np.ndarray, *, every_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Effects (t, m, R) along t directions, and P(label | x) (m, R); R is 1 for given labels."""
    vectors = jnp.asarray(directions, backing.model.theta.dtype)
    found = project_training(backing.model, rows, vectors, relabel=every_label)
    gradients = found.gradients[:, None]  # (m, 1, t)
    posterior = np.ones((rows.num_rows, 1))
    if found.relabels is not None and found.posteriors is not None:
        # Every row came in as class 0, so column c - 1 is what class c takes off.
        gradients = np.concatenate([gradients, gradients - found.relabels], axis=1)
        others = found.posteriors.astype(np.float64)
        first = np.clip(1 - others.sum(axis=1, keepdims=True), 0, 1)
        posterior = np.concatenate([first, others], axis=1)
    _check_finite(gradients)
    one = np.ones(1)
    changes = query_change(-gradients[..., None], one, one, num_rows=backing.index.num_train)
    return np.moveaxis(changes, -1, 0).astype(np.float64), posterior


def _checked(backing: RetrainableBacking, inputs: PyTree, labels: Any, ids: Any) -> TrainingSet:
    """The candidates, under ids that no training row has; of class 0 where labels are missing."""
    if labels is None and backing.model.task == "regression":
        raise SettingsError(
            "`labels` is None, and a regression has no probabilities of labels: nothing says which "
            "number a row would be labelled with. Give the numbers to add the rows with."
        )
    num_rows = check_inputs(inputs)
    if backing.index.training is not None:
        inputs = _alike(inputs, backing.index.training.inputs)
    given = np.zeros(num_rows, np.int32) if labels is None else labels
    rows = TrainingSet.checked(backing.model, inputs, given, ids=ids)
    return under_new_ids(backing.index, rows, ids)


def _labelled(rows: TrainingSet, labels: np.ndarray) -> TrainingSet:
    return TrainingSet(rows.inputs, labels.astype(np.int32), rows.ids, rows.weights)


def _alike(inputs: PyTree, known: PyTree) -> PyTree:
    """The candidates in the types of the training inputs, whose shapes they have."""
    same = jax.tree.structure(inputs) == jax.tree.structure(known)
    pairs = zip(jax.tree.leaves(inputs), jax.tree.leaves(known), strict=False)
    if not same or any(new.shape[1:] != old.shape[1:] for new, old in pairs):
        raise ShapeError(
            f"`inputs` has the shapes {shapes_of(inputs)} and the training inputs "
            f"{shapes_of(known)}; a row must look like theirs."
        )
    return jax.tree.map(_typed, inputs, known)


def _typed(new: Any, old: Any) -> Any:
    """`new` in the type of `old`, unless that would change what the numbers mean."""
    if new.dtype == old.dtype:
        return new
    kinds = {"i" if leaf.dtype.kind == "u" else leaf.dtype.kind for leaf in (new, old)}
    found = np.asarray(new).astype(old.dtype)
    if len(kinds) > 1 or (kinds == {"i"} and not np.array_equal(found, new)):
        raise DataError(
            f"`inputs` has type {new.dtype} and the training inputs {old.dtype}: they may count "
            "in other units. Encode the candidates as the training rows were."
        )
    return found


def _check_finite(gradients: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(gradients).all(axis=(1, 2)))
    if bad.size:
        raise DataError(
            f"the loss of candidate {bad[0]} has no finite gradient ({bad.size} such rows of "
            f"{len(gradients)}). Check that row, and the loss."
        )
