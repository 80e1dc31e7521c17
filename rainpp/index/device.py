"""Projections on an accelerator: the product that scores them is one kernel, compiled beforehand.

Rows are padded to a few sizes, so that indexes of like size share a kernel, and it is compiled when
the table is placed there: no complaint waits for XLA. With the environment variable
JAX_COMPILATION_CACHE_DIR the kernels outlive the process; the library sets no option of JAX.
On a CPU the product of `rainpp.index.score` is faster, and needs no copy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.index.score import Projections

_SMALLEST = 1 << 12


def bucket(size: int) -> int:
    """The least of 4096·2^m and 6144·2^m that is not smaller: at most half is padding."""
    length = _SMALLEST
    while length < size:
        length = length * 3 // 2 if length & (length - 1) == 0 else length // 3 * 4
    return length


@partial(jax.jit, static_argnames="dtype")
def _product(
    values: jax.Array, columns: jax.Array, rows: jax.Array, direction: jax.Array, *, dtype: Any
) -> jax.Array:
    scaled = direction * columns
    # The default precision of a GPU would round the table to 10 bits.
    found = jnp.matmul(values.astype(dtype), scaled, precision=jax.lax.Precision.HIGHEST)
    return found * rows


class OnDevice:
    """The table of an index where JAX computes; `@` gives N numbers of NumPy.

    Parameters
    ----------
    device : of `jax.devices()`; the first by default.
    """

    def __init__(self, projections: Projections, device: Any = None) -> None:
        self.dtype, self.shape = projections.dtype, projections.shape
        size, k = self.shape
        place = device or jax.devices()[0]
        padding = bucket(size) - size
        columns = np.ones(k) if projections.columns is None else projections.columns
        rows = np.ones(size) if projections.rows is None else projections.rows
        self._fixed = tuple(
            jax.device_put(array, place)
            for array in (
                np.pad(projections.values, ((0, padding), (0, 0))),
                columns.astype(self.dtype),
                np.pad(rows.astype(self.dtype), (0, padding)),
            )
        )
        self._place = place
        example = jax.device_put(np.zeros(k, self.dtype), place)
        self._kernel = _product.lower(*self._fixed, example, dtype=self.dtype).compile()

    def __matmul__(self, direction: np.ndarray) -> np.ndarray:
        """Σⱼ projection · direction (N,)."""
        there = jax.device_put(np.asarray(direction, self.dtype), self._place)
        return np.asarray(self._kernel(*self._fixed, there))[: self.shape[0]]
