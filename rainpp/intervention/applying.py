"""Interventions applied to a copy of the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rainpp.errors import DataError, SettingsError
from rainpp.intervention.kinds import Intervention, Replace
from rainpp.intervention.repair import not_at_hand, with_repairs
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree


def apply_interventions(
    training: TrainingSet,
    interventions: Sequence[Intervention],
    repairs: Sequence[Replace] = (),
) -> TrainingSet:
    """A new training set with the interventions applied; the given one is not touched.

    Parameters
    ----------
    repairs : the functions behind replacements, found by their names.

    Raises
    ------
    SettingsError : two interventions on one row.
    DataError : nothing would be left to train on.
    RainError : a repair is not among `repairs`.
    """
    rows = [item.row for item in interventions]
    if len(set(rows)) < len(rows):
        raise SettingsError("two interventions on the same training row; apply one of them.")
    labels = training.labels.copy()
    keep = np.ones(training.num_rows, bool)
    for item in interventions:
        if item.kind == "delete":
            keep[item.row] = False
        elif item.kind == "relabel":
            labels[item.row] = item.detail
    if not keep.any():
        raise DataError("the interventions delete every training row.")
    inputs = _replaced(training, interventions, repairs)
    edited = TrainingSet(inputs, labels, training.ids, training.weights)
    return edited.take(np.flatnonzero(keep))


def _replaced(
    training: TrainingSet, interventions: Sequence[Intervention], repairs: Sequence[Replace]
) -> PyTree:
    """Inputs, where rows are replaced with what their repairs make of them."""
    numbers = {item.name: number for number, item in enumerate(repairs)}
    found = [item for item in interventions if item.kind == "replace"]
    for item in found:
        if item.detail not in numbers:
            raise not_at_hand(str(item.detail))
    rows = np.array([item.row for item in found], np.intp)
    which = np.array([numbers[str(item.detail)] for item in found], np.intp)
    return with_repairs(training.inputs, rows, which, tuple(repairs))
