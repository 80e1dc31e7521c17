"""Training rows cut into equal batches: all on the device at once, or a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rainpp.lanczos.devices import divided, num_devices, padded_rows
from rainpp.lanczos.sample import Sample
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree

# Bytes of rows held on the device; more are sent again for every product, a chunk at a time.
RESIDENT_BYTES = 1 << 30


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batches:
    """Rows in equal batches; the last one is padded with rows of weight 0."""

    inputs: PyTree  # leaves (num_batches, batch, ...)
    labels: jax.Array  # (num_batches, batch[, width])
    weights: jax.Array  # (num_batches, batch): what a row counts for, 0 for padding

    @property
    def rows(self) -> int:
        """How many rows there are, with padding."""
        return int(self.weights.size)

    def chunks(self) -> Iterator[Batches]:
        """Everything at once."""
        yield self


@dataclass(frozen=True, eq=False)
class BatchesApart:
    """The same on the device, each batch (one for every device) by itself."""

    parts: tuple[Batches, ...]

    @property
    def rows(self) -> int:
        """How many rows there are, with padding."""
        return sum(part.rows for part in self.parts)

    def chunks(self) -> Iterator[Batches]:
        """One batch after another."""
        yield from self.parts


@dataclass(frozen=True, eq=False)
class StreamedBatches:
    """The same, read from the host in chunks of whole batches whenever they are needed."""

    training: TrainingSet
    weights: np.ndarray  # (n,)
    batch_size: int
    rows_per_chunk: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.training.num_rows

    def chunks(self) -> Iterator[Batches]:
        """All rows, in order; every chunk but a short last one has the same shape."""
        for start in range(0, self.training.num_rows, self.rows_per_chunk):
            stop = min(start + self.rows_per_chunk, self.training.num_rows)
            yield _folded(self.training, self.weights, self.batch_size, slice(start, stop))


def make_batches(
    training: TrainingSet,
    batch_size: int,
    *,
    sample: Sample | None = None,
    resident_bytes: int = RESIDENT_BYTES,
    apart: bool = False,
) -> Batches | BatchesApart | StreamedBatches:
    """The rows of `training`, or those of a sample, in order, `batch_size` at a time.

    Parameters
    ----------
    sample : rows to take, with what each stands for; all rows, each for itself, by default.
    resident_bytes : rows of more bytes than this stay on the host and are streamed.
    apart : every batch by itself, all of the size that is asked for.
    """
    rows = training if sample is None else training.take(sample.rows)
    weights = rows.weights if sample is None else rows.weights * sample.weights
    size = batch_size if apart else min(batch_size, -(-rows.num_rows // num_devices()))
    per_row = row_bytes(rows)
    if per_row * rows.num_rows <= resident_bytes:
        if apart:
            step = size * num_devices()
            starts = range(0, rows.num_rows, step)
            ends = (min(start + step, rows.num_rows) for start in starts)
            places = map(slice, starts, ends)
            return BatchesApart(tuple(_folded(rows, weights, size, place) for place in places))
        return _folded(rows, weights, size, slice(0, rows.num_rows))
    step = size * num_devices()
    chunk = max(resident_bytes // 4 // (per_row * step), 1) * step
    return StreamedBatches(rows, weights, size, chunk)


def row_bytes(training: TrainingSet) -> int:
    """Bytes of one row's inputs."""
    shapes = [(leaf.shape[1:], leaf.dtype.itemsize) for leaf in jax.tree.leaves(training.inputs)]
    return sum(int(np.prod(shape)) * size for shape, size in shapes)


def _folded(training: TrainingSet, weights: np.ndarray, size: int, where: slice) -> Batches:
    """Rows `where` in batches; as many for every device."""
    step = size * num_devices()
    shape = (-(-(where.stop - where.start) // step) * num_devices(), size)

    def fold(leaf: Any) -> jax.Array:
        def part(own: slice) -> np.ndarray:
            rows = slice(where.start + own.start * size, where.start + own.stop * size)
            return padded_rows(leaf, rows, where.stop).reshape(-1, size, *leaf.shape[1:])

        return divided((*shape, *leaf.shape[1:]), part)

    counted = np.zeros(shape)
    counted.reshape(-1)[: where.stop - where.start] = weights[where]
    inputs, labels = jax.tree.map(fold, (training.inputs, training.labels))
    return Batches(inputs, labels, divided(shape, lambda own: counted[own]))
