"""Training rows in a folder of files, read when they are needed: more rows than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rainpp.errors import DataError
from rainpp.types import PyTree

# Files whose inputs stay in memory: a batch may cross the border between two.
_OPEN = 2


class ShardedArray:
    """An array (n, ...) whose rows lie in several files; slices and rows are NumPy arrays.

    It stands wherever an array of inputs does. `np.asarray` of all of it reads every file at once.
    """

    def __init__(
        self,
        load: Callable[[int], np.ndarray],
        counts: Sequence[int],
        row_shape: tuple[int, ...],
        dtype: np.dtype,
    ) -> None:
        self._load = load
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.shape = (int(self._starts[-1]), *row_shape)
        self.dtype = dtype

    def __repr__(self) -> str:
        return (
            f"ShardedArray(shape={self.shape}, dtype={self.dtype}, files={len(self._starts) - 1})"
        )

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The rows of a slice, or those at an array of positions, in that order."""
        if isinstance(rows, tuple):
            return self[rows[0]][(slice(None), *rows[1:])]
        if isinstance(rows, slice):
            positions = np.arange(*rows.indices(len(self)))
        else:
            positions = np.asarray(rows)
            if positions.dtype == bool:
                positions = np.flatnonzero(positions)
        return self._taken(positions)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows in files cannot be an array without being read: copy=False.")
        return self[:].astype(dtype or self.dtype, copy=False)

    def _taken(self, positions: np.ndarray) -> np.ndarray:
        found = np.empty((positions.size, *self.shape[1:]), self.dtype)
        shard = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(shard):
            mine = np.flatnonzero(shard == number)
            found[mine] = self._load(int(number))[positions[mine] - self._starts[number]]
        return found


@dataclass(frozen=True, slots=True)
class Shard:
    """What the head of one file says: how many rows, and the shape and type of its inputs."""

    path: Path
    num_rows: int
    inputs: PyTree  # leaves jax.ShapeDtypeStruct, rows first


def sharded_inputs(shards: Sequence[Shard], read: Callable[[Path], PyTree]) -> PyTree:
    """Inputs of all files as one pytree of `ShardedArray`, in the order of the files.

    Parameters
    ----------
    read : (path) -> the inputs of one file.

    Raises
    ------
    DataError : files whose inputs have different names, shapes or types.
    """
    first = shards[0]
    for shard in shards[1:]:
        if _kind(shard.inputs) != _kind(first.inputs):
            raise DataError(
                f"`{shard.path}` has inputs {_shown(shard.inputs)}, but `{first.path}` has "
                f"{_shown(first.inputs)}; every file of a folder must hold the same columns."
            )
    structure = jax.tree.structure(first.inputs)
    counts = [shard.num_rows for shard in shards]

    @lru_cache(maxsize=_OPEN)
    def leaves(number: int) -> list[np.ndarray]:
        return jax.tree.leaves(read(shards[number].path))

    def sharded(place: int, like: jax.ShapeDtypeStruct) -> ShardedArray:
        return ShardedArray(
            lambda number: leaves(number)[place], counts, like.shape[1:], np.dtype(like.dtype)
        )

    found = [sharded(place, like) for place, like in enumerate(jax.tree.leaves(first.inputs))]
    return jax.tree.unflatten(structure, found)


def heads(inputs: PyTree) -> PyTree:
    """Shapes and types of a pytree of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), inputs)


def _kind(inputs: PyTree) -> Any:
    leaves, structure = jax.tree.flatten(inputs)
    return structure, [(leaf.shape[1:], np.dtype(leaf.dtype)) for leaf in leaves]


def _shown(inputs: PyTree) -> str:
    leaves = jax.tree.leaves(inputs)
    return ", ".join(f"{np.dtype(leaf.dtype)}{list(leaf.shape[1:])}" for leaf in leaves)
