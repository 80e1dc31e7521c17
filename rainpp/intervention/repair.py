"""What a repair makes of training rows, checked: the same shapes, and finite."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rainpp.errors import DataError, RainError, ShapeError, named
from rainpp.intervention.kinds import Replace
from rainpp.types import PyTree


def repaired(item: Replace, inputs: PyTree, *, start: int = 0) -> PyTree:
    """Inputs after a repair, in the types they had; a row it leaves alone comes back as it was.

    Parameters
    ----------
    inputs : a batch, an array or a pytree of arrays, rows first; the repair gets a copy.
    start : which training row the first one is, for messages.

    Raises
    ------
    DataError : the repair fails, or makes NaN or infinity of a row that was finite.
    ShapeError : it returns something else than arrays of the shapes it was given.
    """
    given = jax.tree.map(np.array, inputs)
    rows = f"training rows {start} to {start + _rows(given) - 1}"
    try:
        made = item.repair(jax.tree.map(np.array, inputs))
    except (Exception, SystemExit) as problem:
        raise DataError(f"the repair {item.name!r} fails on {rows}: {named(problem)}") from problem
    _check_shapes(item, made, given, rows)
    return jax.tree.map(lambda new, old: _typed(item, np.asarray(new), old, start), made, given)


def not_at_hand(name: str) -> RainError:
    """What to say where the function behind a repair is needed and not there."""
    return RainError(
        f"the function behind the repair {name!r} is not at hand: give it as "
        "rainpp.load(path, repairs=[rainpp.Replace(name, repair)]), to a patch as "
        "apply(inputs, labels, repairs=[...]), or in rainpp.toml as "
        '[index] repairs = ["module:name"].'
    )


def with_repairs(
    inputs: PyTree, rows: np.ndarray, numbers: np.ndarray, repairs: tuple[Replace, ...]
) -> PyTree:
    """All inputs, of which `rows` have gone through repair number `numbers` each; a copy.

    Raises
    ------
    DataError, ShapeError : as `repaired`; the inputs lie in files.
    """
    if not len(rows):
        return inputs
    if not all(isinstance(leaf, np.ndarray | jax.Array) for leaf in jax.tree.leaves(inputs)):
        raise DataError(
            "the training rows lie in files, which a repair does not change: give them as arrays, "
            "data=(inputs, labels) of register_model."
        )
    found = jax.tree.map(np.array, inputs)
    for number in np.unique(numbers):
        chosen = rows[numbers == number]
        part = jax.tree.map(lambda leaf, at=chosen: leaf[at], found)
        made = repaired(repairs[int(number)], part)
        jax.tree.map(lambda leaf, new, at=chosen: leaf.__setitem__(at, new), found, made)
    return found


def _rows(inputs: PyTree) -> int:
    return int(jax.tree.leaves(inputs)[0].shape[0])


def _check_shapes(item: Replace, made: Any, given: PyTree, rows: str) -> None:
    wanted = [leaf.shape for leaf in jax.tree.leaves(given)]
    same = jax.tree.structure(made) == jax.tree.structure(given)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(made)] if same else None
    if shapes != wanted:
        found = shapes or f"a {type(made).__name__}"
        raise ShapeError(
            f"the repair {item.name!r} returned {found} for {wanted} "
            f"({rows}); it must return inputs of the shapes it is given."
        )


def _typed(item: Replace, new: np.ndarray, old: np.ndarray, start: int) -> np.ndarray:
    if new.dtype.kind not in "biuf":
        raise DataError(f"the repair {item.name!r} returned {new.dtype}; numbers are needed.")
    bad = np.flatnonzero(~np.isfinite(new).reshape(len(new), -1).all(axis=1))
    if bad.size:
        raise DataError(
            f"the repair {item.name!r} makes NaN or infinity of training row {start + bad[0]} "
            f"({bad.size} such rows of {len(new)}); return a row unchanged where it cannot be "
            "repaired."
        )
    if old.dtype.kind in "iu" and new.dtype.kind == "f":
        new = np.rint(new)
    _check_range(item, new, old.dtype, start)
    return new.astype(old.dtype)


def _check_range(item: Replace, new: np.ndarray, kind: np.dtype[Any], start: int) -> None:
    """Refuse what the type of the inputs cannot hold: 300 would become 44 as an 8-bit number."""
    if kind.kind not in "biuf":
        return
    if kind.kind == "b":
        low, high, fits = 0.0, 1.0, (new == 0) | (new == 1)
    else:
        known = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
        low, high = known.min, known.max
        # Of 64-bit limits as floats the upper one is rounded up, and is itself too large.
        inexact = new.dtype.kind == "f" and kind.kind in "iu" and float(high) > high - 1
        fits = (new >= low) & ((new < high) if inexact else (new <= high))
    bad = np.argwhere(~fits)
    if bad.size:
        value = new[tuple(bad[0])].item()
        raise DataError(
            f"the repair {item.name!r} makes {value} of a number of training row "
            f"{start + bad[0][0]}; inputs of type {kind} hold {low} to {high}. Clip it, or store "
            "the inputs in a wider type."
        )
