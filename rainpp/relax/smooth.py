"""Numbers that a model gives for a row: a class probability, or the value of a regression.

Relaxation knows predictions, so a number becomes one. An expression that is affine in a number y
has at y the expectation of what it is at the *amount* A, with P(A = 1) = y and P(A = 0) = 1 - y; no
more is used of A, so y need not lie in [0, 1]. A comparison of y with constants depends on the
*band* of y between them alone. What is summed
over rows that pass a comparison is y itself: the errors of a regression soften its conditions, not
its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from rainpp.errors import UnsupportedQueryError
from rainpp.types import PredictionTable

Array = NDArray[np.float64]

AMOUNT_CLASSES = (0.0, 1.0)
# A condition p > k on a probability moves as the logistic function of (p - k) / this.
TEMPERATURE = 0.1


@dataclass(frozen=True, slots=True)
class Number:
    """One number in a query, and what is read of it.

    `place` is its column in the predictions (V, R) of `model`. `opening` and `closing` are what the
    user wrote around the arguments. `bounds` are the constants it is compared with, ascending; None
    where it stands for itself.
    """

    model: str
    place: int
    opening: str
    closing: str
    regression: bool
    bounds: tuple[float, ...] | None = None

    @property
    def classes(self) -> tuple[float, ...]:
        """What the prediction that stands for it can be: 0 and 1, or one number in every band.

        Bands are below the first bound, that bound itself, between it and the next, and so on.

        Raises
        ------
        UnsupportedQueryError : no number lies between two bounds.
        """
        if self.bounds is None:
            return AMOUNT_CLASSES
        if not self.bounds:
            return (0.0,)
        inner = [(a + b) / 2.0 for a, b in zip(self.bounds, self.bounds[1:], strict=False)]
        low, high = self.bounds[0], self.bounds[-1]
        between = [low - max(1.0, abs(low)), *inner, high + max(1.0, abs(high))]
        listed = [value for pair in zip(between, self.bounds, strict=False) for value in pair]
        found = (*listed, between[-1])
        if not np.isfinite(found).all() or not (np.diff(found) > 0.0).all():
            raise UnsupportedQueryError(
                f"{self.opening}(...){self.closing}",
                why=f"the constants it is compared with, {list(self.bounds)}, leave no number "
                "between, below or above them",
                instead="Use constants further apart, and finite ones",
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberTable(PredictionTable):
    """A number as a prediction: `probabilities` are of its two amounts, or of its bands.

    A probability is in its band for certain; a regression value has the normal errors it had on the
    training rows.
    """

    origin: PredictionTable
    number: Number

    @property
    def values(self) -> Array:
        """(V,) the number itself."""
        return _values(self.origin, self.number)

    def pull(self, slope: Array) -> Array:
        """From d/d `probabilities` to d/d the probabilities of `origin`, (V, R)."""
        out = np.zeros(self.origin.probabilities.shape)
        if self.number.bounds is None:
            out[:, self.number.place] = slope[:, 1] - slope[:, 0]
            return out
        density = _density(self)
        steps = np.diff(slope[:, ::2], axis=1)
        out[:, self.number.place] = (steps * density).sum(axis=1)
        return out


def number_table(origin: PredictionTable, number: Number, name: str) -> NumberTable:
    """The predictions of `name`, which stands for `number`, over the rows of `origin`.

    Raises
    ------
    UnsupportedQueryError : a condition on a regression whose errors are not known.
    """
    if number.bounds is None:
        y = _values(origin, number)
        masses = np.stack([1.0 - y, y], axis=1)
    elif number.regression:
        masses = _normal_bands(origin, number)
    else:
        masses = np.eye(len(number.classes))[winning_bands(_values(origin, number), number)]
    return NumberTable(
        name,
        origin.table,
        origin.arguments,
        origin.rowids,
        masses,
        number.classes,
        origin=origin,
        number=number,
    )


def winning_bands(values: Array, number: Number) -> NDArray[np.int64]:
    """(V,) the band every value lies in."""
    bounds = np.asarray(number.bounds, float)
    above = np.searchsorted(bounds, values, side="left")
    return above + np.searchsorted(bounds, values, side="right")


def _values(origin: PredictionTable, number: Number) -> Array:
    return np.asarray(origin.probabilities[:, number.place], np.float64)


def _normal_bands(origin: PredictionTable, number: Number) -> Array:
    """Probabilities of the bands around normal errors; a bound itself has none."""
    below = ndtr(_scaled(origin, number))
    edges = np.concatenate([np.zeros((len(below), 1)), below, np.ones((len(below), 1))], axis=1)
    masses = np.zeros((len(below), len(number.classes)))
    masses[:, ::2] = np.diff(edges, axis=1)
    return masses


def _scaled(origin: PredictionTable, number: Number) -> Array:
    """(V, bounds) how far every bound is above the value, in units of its errors."""
    bounds = np.asarray(number.bounds, float)
    return (bounds - _values(origin, number)[:, None]) / _unit(origin, number)


def _unit(origin: PredictionTable, number: Number) -> float:
    if not number.regression:
        return TEMPERATURE
    if not origin.spread:
        raise UnsupportedQueryError(
            f"{number.opening}(...)",
            why="a condition on a regression needs the size of its errors, and there are no "
            "training rows to measure them on, or it makes none there",
            instead="Register the model with its index and data=(inputs, labels)",
        )
    return origin.spread


def _density(table: NumberTable) -> Array:
    """(V, bounds) how fast each bound is passed when the value grows."""
    unit, z = _unit(table.origin, table.number), _scaled(table.origin, table.number)
    if table.number.regression:
        return np.exp(-0.5 * z * z) / (np.sqrt(2.0 * np.pi) * unit)
    return expit(z) * expit(-z) / unit
