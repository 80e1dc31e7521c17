"""Training rows as a person can look at them: a picture where a row is one, else its numbers."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rainpp.training_set import TrainingSet

# Sides of a picture, and how many numbers of another row are shown.
_SMALLEST, _LARGEST = 6, 512
_NUMBERS = 12
# Rows from which the range of the values is found.
_LOOKED_AT = 256
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """How the rows of a training set are shown.

    Attributes
    ----------
    shape : (height, width) or (height, width, channels); None where rows are no pictures.
    note : why there is nothing to show; "" if there is.
    """

    training: TrainingSet | None
    shape: Shape | None
    note: str
    low: float = 0.0
    high: float = 1.0
    first: bool = False  # channels stand first

    @staticmethod
    def of(training: TrainingSet | None, shape: Shape | None = None) -> Gallery:
        """`shape`: of the picture in a row, where it cannot be seen from the array."""
        if training is None:
            return Gallery(
                None,
                None,
                "Rows are named by their ids only: the index was loaded from disk without the "
                "training rows. To see them, to download a patch, and to ask how many rows are "
                "enough, make the monitor with data=(inputs, labels) in Python, or write "
                "[training] in watch.toml.",
            )
        leaves = jax.tree.leaves(training.inputs)
        if len(leaves) != 1 or not hasattr(leaves[0], "shape"):
            return Gallery(training, None, "Rows are made of several arrays, which are not shown.")
        sample = np.asarray(leaves[0][:_LOOKED_AT])
        if sample.dtype.kind not in "biuf":
            return Gallery(training, None, "Rows are no numbers, and are not shown.")
        row = tuple(sample.shape[1:])
        found, first = (shape, False) if shape is not None else _picture_shape(row, sample)
        if found is None or math.prod(found) != math.prod(row):
            return Gallery(training, None, "")
        low, high = _range(sample)
        return Gallery(training, found, "", low, high, first)

    def show(self, row: int) -> dict[str, Any]:
        """One row: `picture` (bytes in base64) and its sides, or `numbers`, or nothing."""
        if self.training is None or self.note:
            return {}
        (leaf,) = jax.tree.leaves(self.training.inputs)
        values = np.asarray(leaf[row], np.float64)
        if self.shape is None:
            flat = values.reshape(-1)
            return {"numbers": [_short(value) for value in flat[:_NUMBERS]], "more": flat.size}
        if self.first:
            values = np.moveaxis(values, 0, -1)
        scaled = (np.nan_to_num(values) - self.low) / (self.high - self.low)
        pixels = (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
        height, width, *channels = self.shape
        return {
            "picture": base64.b64encode(pixels.tobytes()).decode(),
            "height": height,
            "width": width,
            "channels": channels[0] if channels else 1,
        }


def _picture_shape(row: Shape, sample: np.ndarray) -> tuple[Shape | None, bool]:
    """The picture that a row is, and whether its channels stand first."""
    if len(row) == 3 and row[2] in (1, 3, 4) and _sides(row[:2]):
        return row, False
    if len(row) == 3 and row[0] in (1, 3, 4) and _sides(row[1:]):
        return (*row[1:], row[0]), True
    if len(row) == 2 and _sides(row):
        return row, False
    if len(row) == 1 and _looks_like_pixels(sample):
        side = math.isqrt(row[0])
        if side * side == row[0] and _sides((side, side)):
            return (side, side), False
        side = math.isqrt(row[0] // 3)
        if 3 * side * side == row[0] and _sides((side, side)):
            return (side, side, 3), False
    return None, False


def _sides(sides: Shape) -> bool:
    return all(_SMALLEST <= side <= _LARGEST for side in sides)


def _looks_like_pixels(sample: np.ndarray) -> bool:
    """Whether flat rows have the range of pixels, which measurements seldom have."""
    low, high = float(np.nanmin(sample)), float(np.nanmax(sample))
    return low >= 0 and (high <= 1 or 16 <= high <= 255) and bool((sample == low).any())


def _range(sample: np.ndarray) -> tuple[float, float]:
    """What black and white stand for."""
    low, high = float(np.nanmin(sample)), float(np.nanmax(sample))
    if low >= 0 and high <= 255:
        return 0.0, 1.0 if high <= 1 else 255.0
    return low, high if high > low else low + 1.0


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
