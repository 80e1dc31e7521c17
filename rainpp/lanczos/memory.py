"""How many rows fit into a batch: measured on the compiled kernels, not guessed.

XLA says after compiling, and before running, how many bytes a kernel needs beside its arguments.
Where the usual batch does not fit, two small ones tell the bytes of a row and those of none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from rainpp.errors import MemoryBudgetError, SettingsError
from rainpp.lanczos.batches import RESIDENT_BYTES, Batches, row_bytes
from rainpp.lanczos.curvature import product_kernel
from rainpp.lanczos.projection import training_kernel
from rainpp.model import Model
from rainpp.training_set import TrainingSet

# Batches where memory is no matter. A larger one was no faster on 2 cores.
MOST_CURVATURE, MOST_PROJECTED = 1024, 512
# What a kernel should hold on a CPU where smaller batches do as well. A curvature product of the
# paper's CNN took 13 ms a row at 64 rows (0.2 GB) and 15 at 256; on an accelerator more is better.
_COMFORTABLE = 1 << 29
# Share of the free memory that is taken when nobody says how much may be.
_SHARE = 0.5
# Sizes that are measured where the largest batch does not fit.
_SMALL = (2, 8)
_FACTORS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kmgt", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)},
}
_EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many bytes the offline stage may hold beside the user's rows.

    Attributes
    ----------
    total : bytes.
    given : whether the user said so; else it is a share of what was free.
    """

    total: int
    given: bool

    @staticmethod
    def of(memory: Any) -> Budget:
        """The budget a user gives, or half of what is free for None.

        Raises
        ------
        SettingsError : as `read_memory`.
        """
        if memory is not None:
            return Budget(read_memory(memory), given=True)
        return Budget(int(_SHARE * free_memory()), given=False)

    @property
    def resident(self) -> int:
        """Bytes of rows that may stay on the device; more are streamed."""
        return min(RESIDENT_BYTES, self.total // 4)

    def for_batch(self, training: TrainingSet, held: int) -> int:
        """What is left for one batch beside the rows on the device and `held` bytes of vectors."""
        rows = row_bytes(training) * training.num_rows
        return self.total - min(rows, self.resident) - held

    def __str__(self) -> str:
        source = "`memory`" if self.given else "half of the free memory"
        return f"{size_text(self.total)} ({source})"


@dataclass(frozen=True, slots=True)
class Fit:
    """A batch that fits, and the bytes its kernel needs beside its arguments."""

    batch: int
    bytes: int


def read_memory(memory: Any) -> int:
    """Bytes, from a number of them or from words such as "8GB", "500 MB" or "1.5GiB".

    Raises
    ------
    SettingsError : anything else, or nothing left of it.
    """
    value = 0.0
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", memory.lower())
        value = float(found[1]) * _FACTORS[found[2] or ""] if found else 0.0
    elif isinstance(memory, int | float | np.integer) and not isinstance(memory, bool):
        value = float(memory)
    if not 1 <= value < 2**62:
        raise SettingsError(
            f'`memory` is {memory!r}; it must be a number of bytes, or a size such as "8GB".'
        )
    return int(value)


def size_text(count: float) -> str:
    """Bytes for people: "1.5 GB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def free_memory() -> int:
    """Bytes free on a device that JAX computes on: an accelerator's own, or the machine's.

    Of several processes the one with the least counts: their batches have to be the same.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        free = int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    else:
        free = _machine_memory() // jax.local_device_count()
    if jax.process_count() == 1:
        return free
    return int(multihost_utils.process_allgather(np.asarray(free >> 20, np.int32)).min()) << 20


def _machine_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fit_curvature(
    model: Model, training: TrainingSet, budget: Budget, *, kind: str, vectors: int
) -> Fit:
    """The batch for curvature products that leaves room for `vectors` vectors of d numbers.

    Raises
    ------
    MemoryBudgetError : a single row does not fit.
    """

    def measure(size: int) -> int:
        rows = _rows_like(training, (2, size))
        weights: Any = jax.ShapeDtypeStruct((2, size), model.theta.dtype)
        kernel = product_kernel(model.network, kind)
        return _needed(kernel, model.theta, Batches(*rows, weights), model.theta)

    allowed = budget.for_batch(training, vectors * _vector_bytes(model))
    most = min(MOST_CURVATURE, training.num_rows)
    return _largest(measure, most, allowed, f"a curvature product within {budget}")


def fit_projections(
    model: Model, training: TrainingSet, budget: Budget, *, k: int, relabel: bool
) -> Fit:
    """The batch for projections on k vectors.

    Raises
    ------
    MemoryBudgetError : a single row does not fit.
    """

    def measure(size: int) -> int:
        vectors = jax.ShapeDtypeStruct((k, model.num_params), model.theta.dtype)
        rows = _rows_like(training, (size,))
        return _needed(training_kernel(model.network, relabel), model.theta, vectors, *rows)

    allowed = budget.for_batch(training, k * _vector_bytes(model))
    most = min(MOST_PROJECTED, training.num_rows)
    return _largest(measure, most, allowed, f"projections on {k} vectors within {budget}")


def shrinking(run: Callable[[int], Result], batch: int, budget: Budget) -> tuple[Result, int]:
    """`run(batch)`, or `run` of half of it where memory ran out; and the batch that did.

    Raises
    ------
    MemoryBudgetError : it ran out again.
    """
    try:
        return run(batch), batch
    except (jax.errors.JaxRuntimeError, MemoryError) as problem:
        if not is_exhausted(problem):
            raise
    half = max(batch // 2, 1)
    try:
        return run(half), half
    except (jax.errors.JaxRuntimeError, MemoryError) as problem:
        if not is_exhausted(problem):
            raise
        raise MemoryBudgetError(
            f"memory ran out with batches of {batch} rows and again with {half}; the budget was "
            f"{budget}. Give less with `memory=`, so that batches become smaller, or free some."
        ) from problem


def is_exhausted(problem: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(problem, MemoryError) or any(word in str(problem) for word in _EXHAUSTED)


def _vector_bytes(model: Model) -> int:
    return model.num_params * np.dtype(model.theta.dtype).itemsize


def _rows_like(training: TrainingSet, leading: tuple[int, ...]) -> tuple[Any, Any]:
    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        return jax.ShapeDtypeStruct((*leading, *leaf.shape[1:]), dtype)

    return jax.tree.map(shape, training.inputs), shape(training.labels)


def _needed(kernel: Any, *arguments: Any) -> int:
    """Bytes a compiled kernel needs for results and everything in between; nothing is run."""
    # Only the machine code is left unoptimised, which halves the time; buffers stay the same.
    plain = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    stats = kernel.lower(*arguments).compile(compiler_options=plain).memory_analysis()
    return int(stats.temp_size_in_bytes + stats.output_size_in_bytes)


def _largest(measure: Callable[[int], int], most: int, allowed: int, what: str) -> Fit:
    needed = measure(most)
    wanted = min(allowed, _COMFORTABLE) if jax.default_backend() == "cpu" else allowed
    if needed <= wanted:
        return Fit(most, needed)
    low, high = (min(size, most) for size in _SMALL)
    least = measure(low)
    per_row = max((measure(high) - least) / max(high - low, 1), 1.0)
    # A power of two, so that a little more or less memory gives the same batches.
    rows = max((wanted - least) / per_row + low, 1.0)
    size = 1 << int(np.log2(min(rows, most)))
    while (needed := measure(size)) > allowed:
        if size == 1:
            raise MemoryBudgetError(
                f"not even one row at a time fits into {what}: it needs {size_text(needed)} beside "
                f"{size_text(max(allowed, 0))} that are left. Allow more with `memory=`, or use "
                "a smaller k."
            )
        size //= 2
    return Fit(size, needed)
