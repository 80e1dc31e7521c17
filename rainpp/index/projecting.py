"""Every training row projected, a chunk at a time, into memory or straight to disk."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.errors import ModelError
from rainpp.index.arrayfile import Finished
from rainpp.intervention import Replace
from rainpp.intervention.repair import repaired
from rainpp.lanczos.projection import TrainingProjections, project_training
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import Progress, silent

# Bytes of results held at a time. A chunk is what a killed run does again.
_CHUNK_BYTES = 16 << 20


class Rows(Protocol):
    """An array that is filled by ranges of rows."""

    def put(self, start: int, rows: np.ndarray) -> None:
        """Write `rows` from row `start` on."""
        ...


class Storage(Protocol):
    """Where projections go, and how many training rows are safely there."""

    @property
    def done(self) -> int:
        """Training rows, from the first on, whose projections are there."""
        ...

    def array(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Rows:
        """The array of this name, as far as it has been filled."""
        ...

    @property
    def alive(self) -> bool:
        """Whether any of them is not zero."""
        ...

    def commit(self, rows: int, *, alive: bool, last: bool) -> None:
        """The first `rows` training rows have been put; may keep that for later, if not last."""
        ...

    def finished(self) -> dict[str, np.ndarray | Finished]:
        """The arrays by name."""
        ...


class Clock:
    """Seconds by name, added up over chunks and tries."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, name: str) -> Generator[None]:
        """Add what the block takes."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be projected: an array `projections` (N, k) and `plausibility` (N,).

    Rows are in the order of an InterventionTable: n deletions, R - 1 relabels of every row, and n
    rows for each of `repairs`. `chances` (n, R) stand in the place of the model's own
    probabilities of new labels.
    """

    model: Model
    training: TrainingSet
    vectors: np.ndarray
    kinds: tuple[str, ...]
    num_classes: int
    batch_size: int = 512
    repairs: tuple[Replace, ...] = ()
    chances: np.ndarray | None = None
    clock: Clock = field(default_factory=Clock)

    @property
    def together(self) -> str:
        """The families of the pass over the rows as they are; repairs need its gradients too."""
        names = [item.name for item in self.repairs]
        return ", ".join(kind for kind in self.kinds if kind not in names) or "gradients"

    @property
    def size(self) -> int:
        """N."""
        return self.training.num_rows * self._per_row

    @property
    def _per_row(self) -> int:
        relabels = ("relabel" in self.kinds) * (self.num_classes - 1)
        return ("delete" in self.kinds) + relabels + len(self.repairs)

    def chunks(self) -> Iterator[slice]:
        """Whole batches; the last is longer than one, so that its padding is that of one pass."""
        num_rows, size = self.training.num_rows, self.batch_size
        row_bytes = max(self._per_row * len(self.vectors) * self.vectors.dtype.itemsize, 1)
        length = max(_CHUNK_BYTES // row_bytes // size, 1) * size
        starts = list(range(0, num_rows, length))
        if len(starts) > 1 and num_rows - starts[-1] < size:
            starts.pop()
        for start, stop in zip(starts, [*starts[1:], num_rows], strict=True):
            yield slice(start, stop)

    def part(self, where: slice) -> TrainingSet:
        """Some of the rows, without a copy where they are in memory."""
        return part_of(self.training, where)

    def pieces(
        self, where: slice, found: TrainingProjections
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """First row, projections and plausibility of what a chunk gives."""
        first = 0
        if "delete" in self.kinds:
            certain = np.ones(len(found.gradients), found.gradients.dtype)
            yield where.start, found.gradients, certain
            first = self.training.num_rows
        if found.relabels is not None and found.posteriors is not None:
            start = first + where.start * found.relabels.shape[1]
            relabels = found.relabels.reshape(-1, found.relabels.shape[2])
            yield start, relabels, self._plausible(where, found.posteriors).reshape(-1)

    def _plausible(self, where: slice, posteriors: np.ndarray) -> np.ndarray:
        """P(new label) of every relabel of some rows, (rows, R - 1)."""
        if self.chances is None:
            return posteriors
        labels = self.training.labels[where, None] + np.arange(1, self.num_classes)
        chances = np.take_along_axis(self.chances[where], labels % self.num_classes, axis=1)
        return chances.astype(posteriors.dtype)

    def replaced(
        self, where: slice, found: TrainingProjections, vectors: jax.Array
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """The same for what the repairs make of the rows: one more pass over them for each."""
        n, part = self.training.num_rows, self.part(where)
        first = self.size - len(self.repairs) * n
        for number, item in enumerate(self.repairs):
            with self.clock.timing(item.name):
                inputs = repaired(item, part.inputs, start=where.start)
                new = TrainingSet(inputs, part.labels, part.ids, part.weights)
                after = project_training(self.model, new, vectors, batch_size=self.batch_size)
            start = first + number * n + where.start
            change = found.gradients - after.gradients
            yield start, change, np.ones(len(change), change.dtype)


def part_of(training: TrainingSet, where: slice) -> TrainingSet:
    """Consecutive rows of a training set; views where they are in memory."""
    inputs = jax.tree.map(lambda leaf: leaf[where], training.inputs)
    rest = (training.labels, training.ids, training.weights)
    return TrainingSet(inputs, *(column[where] for column in rest))


def project_rows(work: Work, storage: Storage, progress: Progress = silent) -> None:
    """Fill `storage` from the first row on that is not there yet.

    Raises
    ------
    ModelError : every projection is zero, or some are not finite.
    """
    vectors = jnp.asarray(work.vectors)
    num_rows, relabel = work.training.num_rows, "relabel" in work.kinds
    for chunk in work.chunks():
        if chunk.stop <= storage.done:
            continue
        # Done rows end at a chunk, unless chunks were longer or shorter then.
        where = slice(max(chunk.start, storage.done), chunk.stop)
        with work.clock.timing(work.together):
            found = project_training(
                work.model,
                work.part(where),
                vectors,
                relabel=relabel,
                batch_size=work.batch_size,
                progress=_shifted(progress, where.start, num_rows),
            )
        _check_finite(found.gradients, where.start)
        pieces = [*work.pieces(where, found), *work.replaced(where, found, vectors)]
        _store(work, found, pieces, storage)
        alive = storage.alive or bool(found.gradients.any())
        storage.commit(where.stop, alive=alive, last=where.stop == num_rows)
    if not storage.alive:
        raise ModelError(
            "every training gradient projects to exactly zero, so no row could ever be ranked. "
            "Check that `apply` uses the parameters it is given (no stop_gradient, no constants "
            "closed over) and that the loss is not flat on these rows."
        )


def _check_finite(gradients: np.ndarray, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(gradients).all(axis=1))
    if bad.size:
        raise ModelError(
            f"the projected gradient of training row {start + bad[0]} is not finite ({bad.size} "
            f"such rows in {len(gradients)}): the loss has no gradient there. Check that row, and "
            "the loss."
        )


def _store(
    work: Work,
    found: TrainingProjections,
    pieces: list[tuple[int, np.ndarray, np.ndarray]],
    storage: Storage,
) -> None:
    dtype = found.gradients.dtype
    posteriors = dtype if found.posteriors is None else found.posteriors.dtype
    plausible = np.result_type(dtype, posteriors) if "delete" in work.kinds else posteriors
    projections = storage.array("projections", dtype, (work.size, len(work.vectors)))
    plausibility = storage.array("plausibility", plausible, (work.size,))
    for start, rows, certainties in pieces:
        _check_finite(rows, start)
        projections.put(start, rows)
        plausibility.put(start, certainties)


def _shifted(progress: Progress, start: int, num_rows: int) -> Progress:
    def report(stage: str, done: int, total: int, note: str = "") -> None:
        del total
        progress(stage, start + done, num_rows, note)

    return report


class InMemory:
    """Storage that is gone with the process."""

    def __init__(self) -> None:
        self.done, self.alive = 0, False
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Rows:
        """The array of this name."""
        if name not in self._arrays:
            self._arrays[name] = np.empty(shape, dtype)
        return _MemoryRows(self._arrays[name])

    def commit(self, rows: int, *, alive: bool, last: bool) -> None:
        """Nothing but the count."""
        del last
        self.done, self.alive = rows, alive

    def finished(self) -> dict[str, Any]:
        """The arrays by name."""
        return self._arrays


@dataclass(frozen=True, eq=False)
class _MemoryRows:
    array: np.ndarray

    def put(self, start: int, rows: np.ndarray) -> None:
        self.array[start : start + len(rows)] = rows
