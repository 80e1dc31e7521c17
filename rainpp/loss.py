"""Per-example losses: what one row of outputs costs against its label."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.errors import DataError, ModelError, ShapeError

Task = Literal["multiclass", "binary", "regression"]
RowLoss = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of one example, and what its outputs mean.

    Attributes
    ----------
    name : as the user gave it; "custom" for a callable.
    of_row : (outputs (R,), label) -> scalar.
    task : how outputs become predictions. "multiclass": softmax over R logits. "binary": one
        logit, two classes. "regression": outputs are the predicted values.
    """

    name: str
    of_row: RowLoss
    task: Task

    @property
    def identity(self) -> str:
        """The name, and for a custom loss the code of its function: another one is another loss."""
        code = getattr(self.of_row, "__code__", None)
        if self.name != "custom" or code is None:
            return self.name
        text = repr((code.co_code, code.co_names, [str(item) for item in code.co_consts]))
        return f"custom {hashlib.sha256(text.encode()).hexdigest()}"

    def check_row(self, width: int, label: np.ndarray) -> None:
        """Refuse a custom loss that is not (outputs_row (R,), label) -> one floating number.

        Raises
        ------
        ModelError : it fails, or returns something else.
        """
        row = jax.ShapeDtypeStruct((width,), jnp.float32)
        try:
            found = jax.eval_shape(self.of_row, row, jnp.asarray(label))
        except Exception as problem:
            first = f"{type(problem).__name__}: {problem}".splitlines()[0]
            raise ModelError(f"`loss` fails on one row of {width} outputs: {first}") from problem
        if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
            raise ModelError(
                f"`loss` returns {found}; it must map (outputs_row, label) to one number."
            )

    def probabilities(self, outputs: Any) -> Any:
        """Class probabilities (batch, R) of outputs (batch, width); regression values unchanged."""
        if self.task == "multiclass":
            return jax.nn.softmax(outputs, axis=-1)
        if self.task == "binary":
            positive = jax.nn.sigmoid(outputs)
            return jnp.concatenate([1 - positive, positive], axis=-1)
        return outputs

    def num_classes(self, width: int) -> int:
        """R for a model whose outputs have `width` columns."""
        return 2 if self.task == "binary" else width

    def check_labels(self, labels: np.ndarray, *, width: int) -> np.ndarray:
        """Labels this loss can use, as int32 for classes and float32 otherwise.

        Raises
        ------
        DataError : a label is NaN, not a whole number, or not one of the model's classes.
        ShapeError : more than one label per row where one is needed.
        """
        if self.task == "regression":
            return _regression_labels(labels, width)
        return _class_labels(labels, self.num_classes(width))


def find_loss(loss: str | RowLoss) -> Loss:
    """The named loss, or the user's function of (outputs_row, label) taken as a multiclass loss.

    Raises
    ------
    ModelError : an unknown name.
    """
    if callable(loss):
        return Loss("custom", loss, "multiclass")
    if not isinstance(loss, str) or loss not in _LOSSES:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"`loss` is {loss!r}; it must be one of {sorted(_LOSSES)} or a function.")
    return _LOSSES[loss]


def _cross_entropy(outputs: Any, label: Any) -> Any:
    return jax.nn.logsumexp(outputs) - outputs[label]


def _binary_cross_entropy(outputs: Any, label: Any) -> Any:
    logit = outputs[0]
    return jax.nn.softplus(logit) - logit * jnp.asarray(label, logit.dtype)


def _squared_error(outputs: Any, label: Any) -> Any:
    """Half the squared distance, so that its derivative is the residual."""
    return 0.5 * jnp.sum((outputs - jnp.asarray(label, outputs.dtype)) ** 2)


_LOSSES = {
    "cross_entropy": Loss("cross_entropy", _cross_entropy, "multiclass"),
    "binary_cross_entropy": Loss("binary_cross_entropy", _binary_cross_entropy, "binary"),
    "squared_error": Loss("squared_error", _squared_error, "regression"),
}


def _class_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    if labels.ndim != 1:
        raise ShapeError(f"`labels` has shape {labels.shape}; one label per row is needed: (n,).")
    if labels.dtype.kind not in "iub" and not _whole(labels):
        bad = next(item for item in labels.tolist() if not _is_whole(item))
        raise DataError(
            f"`labels` holds {bad!r} where class labels are whole numbers from 0 to "
            f"{num_classes - 1}. Encode them first."
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        row = int(outside[0])
        raise DataError(
            f"`labels[{row}]` is {labels[row]}, outside the model's classes 0 to {num_classes - 1} "
            f"({outside.size} such rows). Fix the labels, or use a model with more outputs."
        )
    return labels.astype(np.int32)


def _regression_labels(labels: np.ndarray, width: int) -> np.ndarray:
    if labels.dtype.kind not in "iubf":
        raise DataError(f"`labels` has type {labels.dtype}; squared_error needs numbers.")
    columns = labels[:, None] if labels.ndim == 1 else labels
    if columns.ndim != 2 or columns.shape[1] != width:
        raise ShapeError(
            f"`labels` has shape {labels.shape} but the model has {width} outputs per row."
        )
    bad = np.flatnonzero(~np.isfinite(columns).all(axis=1))
    if bad.size:
        raise DataError(f"`labels[{bad[0]}]` is not finite ({bad.size} such rows).")
    return columns.astype(columns.dtype if columns.dtype.kind == "f" else np.float32)


def _whole(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "f" and bool(
        (np.isfinite(labels) & (labels == np.floor(labels))).all()
    )


def _is_whole(item: Any) -> bool:
    return isinstance(item, int) or (isinstance(item, float) and item.is_integer())
