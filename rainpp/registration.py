"""What `register_model` is given: checked, and its classes as SQL values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rainpp.errors import ArtifactError, DataError, ModelError
from rainpp.index.artifact import Index
from rainpp.inference import check_classes, read_classes
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import ClassValue, PyTree


def check_kinds(model: Any, index: Any, encode: Any) -> None:
    """Refuse what is no model, no index or no function, before anything is asked of it."""
    if not isinstance(model, Model):
        raise ModelError(f"`model` is a {type(model).__name__}; a rainpp.Model is needed.")
    if index is not None and not isinstance(index, Index):
        raise ArtifactError(
            f"`index` is a {type(index).__name__}; give what rainpp.precompute returns, or "
            "rainpp.load(path)."
        )
    if encode is not None and not callable(encode):
        raise ModelError(
            f"`encode` is {encode!r}; it must be a function from one array per SQL argument to the "
            "model's inputs."
        )


def with_training(index: Index, model: Model, data: tuple[PyTree, Any]) -> Index:
    """The index with the training rows it was built from.

    Raises
    ------
    ShapeError, DataError : they do not fit the model.
    ArtifactError : the index was built from other rows.
    """
    if not (isinstance(data, tuple | list) and len(data) == 2):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            f"`data` is a {type(data).__name__}; give the pair (inputs, labels) of training rows."
        )
    inputs, labels = data
    training = TrainingSet.checked(model, inputs, labels, ids=index.arrays["train_ids"])
    return index.with_training(training)


def class_values(
    name: str, model: Model, index: Index | None, classes: Sequence[ClassValue] | None
) -> tuple[ClassValue, ...]:
    """SQL values of a model's classes; none for a regression, whose value is a number."""
    listed = read_classes(classes)
    if model.task != "regression":
        return check_classes(listed, _num_classes(model, index, listed))
    if listed is not None:
        raise ModelError(f"`{name}` is a regression: it has no classes; leave `classes` out.")
    width = 1 if index is None else int(index.manifest["num_classes"])
    if width != 1:
        raise ModelError(
            f"`{name}` predicts {width} numbers per row; a function in SQL returns one, so "
            "register a model with one output."
        )
    return ()


def _num_classes(model: Model, index: Index | None, classes: Sequence[Any] | None) -> int:
    if index is not None:
        return int(index.manifest["num_classes"])
    if model.task == "binary":
        return 2
    if classes is None:
        raise ModelError("without an index, `classes` must name the SQL value of every output.")
    return len(classes)
