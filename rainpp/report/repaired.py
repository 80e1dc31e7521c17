"""What a repair makes of training rows, as a report shows it: a picture, or the inputs that change.

A repair works on what the model reads. Pictures are the user's own and may show it scaled, inverted
or in bytes; what the repair made is then drawn the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pandas as pd

from rainpp.index.artifact import Index
from rainpp.intervention import Intervention
from rainpp.intervention.repair import repaired
from rainpp.report.story import Example
from rainpp.types import PyTree

# A picture shows the inputs if a line through them misses no pixel by more of its range than this;
# bytes miss by half of 1/255.
_MISSED = 0.01


def with_repairs_shown(
    examples: Sequence[Example],
    items: Sequence[Intervention],
    index: Index,
    names: Sequence[str] = (),
) -> tuple[Example, ...]:
    """Examples of `items`, the repaired ones with a picture after, or with the inputs that change.

    Parameters
    ----------
    names : of the columns of the inputs, where they are known.

    Raises
    ------
    RainError : the function behind a repair is not at hand.
    """
    pairs = zip(examples, items, strict=True)
    return tuple(
        _with_repair(example, item, index, names) if item.kind == "replace" else example
        for example, item in pairs
    )


def _with_repair(
    example: Example, item: Intervention, index: Index, names: Sequence[str]
) -> Example:
    if index.training is None:
        return example
    by_name = {each.name: each for each in index.repairs_in_order()}
    rows = [item.row]
    old = jax.tree.map(lambda leaf: np.asarray(leaf[rows]), index.training.inputs)
    new = repaired(by_name[str(item.detail)], old, start=item.row)
    if example.image is not None:
        parts = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
        drawn = (drawn_like(example.image, before[0], after[0]) for before, after in parts)
        found = next((picture for picture in drawn if picture is not None), None)
        return replace(example, image_after=found)
    changed = sorted(
        changed_inputs(old, new, names), key=lambda each: -abs(each[1][1] - each[1][0])
    )
    return replace(example, changed=dict(changed))


def drawn_like(image: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray | None:
    """`new` as `image` shows `old`; None if it does not show `old`.

    A picture shows inputs if, in each channel, its pixels are a line in them.
    """
    for before, after in _layouts(old, new, image.shape):
        channels = image.shape[2] if image.ndim == 3 else 1
        pixels, old_flat, new_flat = (
            np.asarray(each, np.float64).reshape(-1, channels) for each in (image, before, after)
        )
        lines = [_line(old_flat[:, c], pixels[:, c]) for c in range(channels)]
        slopes, starts = np.array(lines).T
        missed = float(np.abs(old_flat * slopes + starts - pixels).max())
        if missed <= _MISSED * max(float(np.ptp(pixels)), 1e-12):
            drawn = (new_flat * slopes + starts).reshape(image.shape)
            if image.dtype == np.uint8:
                return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
            return drawn.astype(np.float64)
    return None


def _layouts(
    old: np.ndarray, new: np.ndarray, shape: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The inputs as rows of pixels, also where channels come first."""
    if old.size != np.prod(shape):
        return
    yield old.reshape(shape), new.reshape(shape)
    if len(shape) == 3:
        first = (shape[2], *shape[:2])
        yield tuple(np.moveaxis(each.reshape(first), 0, 2) for each in (old, new))  # pyright: ignore[reportReturnType]


def _line(values: np.ndarray, pixels: np.ndarray) -> tuple[float, float]:
    """Slope and start of the least squares line of pixels over values."""
    middle, spread = float(values.mean()), float(values.var())
    slope = float(np.mean((values - middle) * pixels)) / spread if spread > 0 else 1.0
    return slope, float(pixels.mean()) - slope * middle


def changed_inputs(
    old: PyTree, new: PyTree, names: Sequence[str] = ()
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Names of the inputs of one row (1, ...) that differ, with both values."""
    leaves = zip(jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True)
    for (path, before), after in leaves:
        base = jax.tree_util.keystr(path, simple=True, separator=".") or "input"
        for place in np.argwhere(before[0] != after[0]):
            at = tuple(int(n) for n in place)
            name = names[at[0]] if names else f"{base}{list(at)}" if at else base
            yield name, (before[0][at].item(), after[0][at].item())


def input_names(rows: pd.DataFrame | None, inputs: PyTree) -> tuple[str, ...]:
    """The columns of `rows`, where the inputs are just these columns; else none."""
    leaves = jax.tree.leaves(inputs)
    if rows is None or len(leaves) != 1 or leaves[0].shape != rows.shape:
        return ()
    numeric = all(pd.api.types.is_numeric_dtype(kind) for kind in rows.dtypes)
    if not numeric or not np.allclose(rows.to_numpy(float), leaves[0], equal_nan=True):
        return ()
    return tuple(str(name) for name in rows.columns)
