"""How likely every label is the right one, asked of models that have not seen the row.

A model that was trained on a row has learned its label, right or wrong. Cross-validation gives
P̂(label | x) from the other rows; that is still a probability of what labelling gives, errors
included, and it does not look at the label the row was given. Both are mended by confident
learning (Northcutt, Jiang and Chuang 2021): how often a class is labelled as another is counted
over the rows that are confidently of one class, and

    P(true = c | x, given = g) ∝ P̂(c | x) · P(given = g | true = c).

MNIST, logistic regression, 10 000 rows, 30 % of the 3s labelled 8, or of the 1s labelled 7: log
loss of the true labels 0.113 and 0.105 where the model's own probabilities have 0.185 and 0.187
(`experiments/plausibility.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainpp.errors import DataError, ModelError, SettingsError
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree
from rainpp.verification import Fit, check_fit, retrained

# Of every pair of classes, beside those that are counted: nothing is impossible.
_PRIOR = 0.1


def label_probabilities(
    model: Model,
    inputs: PyTree,
    labels: Any,
    *,
    fit: Fit | None = None,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """P(true label | inputs, given label) of every training row (n, R), by cross-validation.

    For ``rainpp.Relabel(probabilities=...)``: a plausibility of new labels that is better
    calibrated than the model's own, for `folds` times the cost of training. Without `fit` the
    model's own are corrected: for nothing, and relabels among themselves come in a better order
    still, but beside deletions they come last, and a network that knows its rows by heart is sure
    of their labels.

    Parameters
    ----------
    model : as it was trained on all rows; with `fit` only its shape is used.
    fit : (inputs, labels) -> params, as for `rainpp.verify`.
    folds : the rows are split in so many, every class evenly.

    Raises
    ------
    SettingsError : `folds`, `seed` or `fit` makes no sense, or the model is a regression.
    DataError, ShapeError : the rows cannot be used.
    ModelError : `fit` fails, or `model` is none.
    """
    whole = isinstance(folds, int | np.integer) and not isinstance(folds, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not whole or folds < 2:
        raise SettingsError(f"`folds` is {folds!r}; it must be a whole number of at least 2.")
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not whole or seed < 0:
        raise SettingsError(f"`seed` is {seed!r}; it must be a whole number >= 0.")
    if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"`model` is a {type(model).__name__}; wrap it as rainpp.Model(...).")
    if fit is not None:
        check_fit(fit)
    training = TrainingSet.checked(model, inputs, labels)
    if model.task == "regression":
        raise SettingsError("labels of a regression are no classes; they have no probabilities.")
    if fit is None:
        own = np.asarray(model.probabilities(training.inputs), np.float64)
        return corrected(own, training.labels)
    if training.num_rows < folds:
        raise DataError(f"{training.num_rows} rows cannot be split in {folds}; use fewer `folds`.")
    outside = _out_of_fold(model, training, fit, _split(training.labels, int(folds), seed))
    return corrected(outside, training.labels)


def corrected(outside: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """P(true = c | x, given) ∝ P̂(c | x) · P(given | true = c), (n, R).

    Parameters
    ----------
    outside : P̂ (n, R), from models that have not seen the row.
    labels : (n,) the labels they were given.
    """
    joint = outside * noise_matrix(outside, labels)[labels]
    return joint / joint.sum(axis=1, keepdims=True)


def noise_matrix(outside: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """P(given = row | true = column) (R, R), counted over rows confidently of one class.

    A row counts as class c where P̂(c | x) is at least what it is on average over the rows labelled
    c, and as the most probable of several; counts are scaled to how many rows have each label.
    """
    classes = outside.shape[1]
    rows = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=outside[np.arange(len(labels)), labels], minlength=classes)
    usual = np.divide(sums, rows, out=np.ones(classes), where=rows > 0)
    confident = outside >= usual - 1e-9  # a mean of equal numbers may be above all of them
    known = np.flatnonzero(confident.any(axis=1))
    true = np.where(confident, outside, -1.0)[known].argmax(axis=1)
    counts = np.full((classes, classes), _PRIOR)
    np.add.at(counts, (labels[known], true), 1.0)
    joint = counts / counts.sum(axis=1, keepdims=True) * np.maximum(rows, _PRIOR)[:, None]
    return joint / joint.sum(axis=0, keepdims=True)


def _split(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each row (n,), every class spread over them evenly."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    found = np.empty(len(labels), np.intp)
    found[order] = np.arange(len(labels)) % folds
    return found


def _out_of_fold(model: Model, training: TrainingSet, fit: Fit, folds: np.ndarray) -> np.ndarray:
    found: np.ndarray | None = None
    for fold in np.unique(folds):
        unseen = np.flatnonzero(folds == fold)
        trained = retrained(fit, training.take(np.flatnonzero(folds != fold)), model)
        part = np.asarray(trained.probabilities(training.take(unseen).inputs), np.float64)
        if found is None:
            found = np.empty((training.num_rows, part.shape[1]))
        found[unseen] = part
    assert found is not None  # there are at least two folds
    return found
