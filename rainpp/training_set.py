"""The rows a model was trained on, checked once and aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from rainpp.errors import DataError, ShapeError, one_line
from rainpp.fingerprint import fingerprint
from rainpp.model import Model, check_inputs, shapes_of
from rainpp.types import PyTree


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """n training rows: inputs, labels and the ids a user knows them by, aligned by row.

    `weights` (n,) are the factors of the rows' losses in the objective the model was trained on.
    """

    inputs: PyTree
    labels: np.ndarray
    ids: np.ndarray
    weights: np.ndarray

    @staticmethod
    def checked(
        model: Model,
        inputs: PyTree,
        labels: Any,
        *,
        ids: Sequence[Any] | np.ndarray | None = None,
        weights: Any = None,
    ) -> TrainingSet:
        """Training rows this model can use; anything wrong is reported before any work starts.

        Raises
        ------
        DataError : no rows; NaN in inputs; a label out of range or missing; an id used twice; a
            weight that is negative or not finite.
        ShapeError : inputs, labels and ids have different numbers of rows.
        ModelError : the model cannot read the inputs, or its width does not fit the loss.
        """
        num_rows = check_inputs(inputs)
        array = as_array(labels)
        if array.ndim == 0 or array.shape[0] != num_rows:
            raise ShapeError(
                f"`labels` has shape {array.shape} but `inputs` has {num_rows} rows "
                f"({shapes_of(inputs)}); they must be aligned by row."
            )
        width = model.output_width(inputs)
        checked = model.criterion.check_labels(array, width=width)
        model.criterion.check_row(width, checked[0])
        return TrainingSet(
            inputs, checked, check_ids(ids, num_rows), _check_weights(weights, num_rows)
        )

    @property
    def num_rows(self) -> int:
        """n."""
        return int(self.labels.shape[0])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of inputs, labels and, where they are not all one, weights, in order."""
        parts = {"inputs": self.inputs, "labels": self.labels}
        return fingerprint(parts if self.unweighted else {**parts, "weights": self.weights})

    @property
    def unweighted(self) -> bool:
        """Whether every row counts for one."""
        return bool((self.weights == 1).all())

    def take(self, rows: np.ndarray) -> TrainingSet:
        """The given rows, in that order."""
        inputs = jax.tree.map(lambda leaf: leaf[rows], self.inputs)
        return TrainingSet(inputs, self.labels[rows], self.ids[rows], self.weights[rows])


def as_array(labels: Any) -> np.ndarray:
    """Labels as the user wrote them: [0, "dog"] is not turned into two strings."""
    if isinstance(labels, list | tuple):
        kinds = {type(item) for item in labels}
        if len(kinds) > 1 and not kinds <= {int, float, bool}:
            return np.array(labels, dtype=object)
    try:
        return np.asarray(labels)
    except ValueError as problem:
        raise ShapeError(
            f"`labels` are no array: {one_line(problem)}. Give one label per row."
        ) from None


def check_ids(ids: Sequence[Any] | np.ndarray | None, num_rows: int) -> np.ndarray:
    """`ids` as an array (n,), each once; positions where there are none.

    Raises
    ------
    ShapeError, DataError : another number of them, another type, or one twice.
    """
    if ids is None:
        return np.arange(num_rows, dtype=np.int64)
    try:
        array = np.asarray(ids)
    except ValueError as problem:
        raise ShapeError(f"`ids` are no array: {one_line(problem)}. Give one per row.") from None
    if array.shape != (num_rows,):
        raise ShapeError(f"`ids` has shape {array.shape}; one id per row is needed: ({num_rows},).")
    if array.dtype.kind not in "iuU":
        raise DataError(f"`ids` has type {array.dtype}; whole numbers or strings are needed.")
    values, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        twice = values[counts > 1][0].item()
        raise DataError(f"`ids` holds {twice!r} more than once; every training row needs its own.")
    return array


def _check_weights(weights: Any, num_rows: int) -> np.ndarray:
    if weights is None:
        return np.ones(num_rows)
    array = np.asarray(weights)
    if array.shape != (num_rows,):
        raise ShapeError(
            f"`weights` has shape {array.shape}; one weight per row is needed: ({num_rows},)."
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"`weights` has type {array.dtype}; numbers are needed.")
    bad = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if bad.size:
        raise DataError(
            f"`weights[{bad[0]}]` is {array[bad[0]]} ({bad.size} such rows); a loss has a finite "
            "weight of at least 0."
        )
    if not array.any():
        raise DataError("`weights` are all 0: no row would count.")
    return array.astype(np.float64)
