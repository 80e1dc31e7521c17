"""What an index will cost, before it is built: one timed batch of every kind, and arithmetic."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rainpp.errors import ArtifactError
from rainpp.index.prepare import Options, Prepared, prepare
from rainpp.index.stages import expected_pairs, vectors_held
from rainpp.index.together import from_first
from rainpp.lanczos.agreement import PROBE_ROWS
from rainpp.lanczos.batches import row_bytes
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.devices import num_devices
from rainpp.lanczos.memory import Fit, fit_curvature, fit_projections, size_text
from rainpp.lanczos.projection import example_losses, project_training
from rainpp.lanczos.subsample import FIRST_HALF, first_half, largest_half
from rainpp.model import Model
from rainpp.types import PyTree

# Products beyond the pairs that are wanted, until those have converged (20 for 8 on an MLP).
_MORE_PRODUCTS = 12
# Rows are hashed and written at about this rate.
_BYTES_PER_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Stage:
    """One long step: how much of it there is, and how long it should take.

    Attributes
    ----------
    passes : how often each of `rows` is looked at.
    seconds : expected, with compilation.
    """

    name: str
    passes: int
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `precompute` with the same arguments is expected to cost.

    Attributes
    ----------
    stages : in order.
    most_seconds : if no sample of the rows agrees, so that curvature comes from all of them.
    memory : bytes at the peak beside the user's rows and what JAX itself takes.
    disk : bytes of the index, and of the work that is kept while it is built.
    """

    stages: tuple[Stage, ...]
    most_seconds: float
    memory: int
    disk: int
    batches: dict[str, int]

    @property
    def seconds(self) -> float:
        """Expected, in all."""
        return sum(stage.seconds for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers by name."""
        return {**asdict(self), "seconds": self.seconds}

    def __str__(self) -> str:
        lines = [
            f"{stage.name}: {stage.passes} passes over {stage.rows:,} rows, {stage.seconds:.1f} s"
            for stage in self.stages
        ]
        return "\n".join([*lines, *self.summary()])

    def summary(self) -> list[str]:
        """Totals, one a line."""
        return [
            f"in all: about {self.seconds:.1f} s, at most about {self.most_seconds:.0f} s",
            f"memory beside the rows: {size_text(self.memory)}",
            f"disk: {size_text(self.disk)}",
        ]


def estimate(model: Model, inputs: PyTree, labels: Any, **options: Any) -> Estimate:
    """Time, memory and disk that `rainpp.precompute` with these arguments will need.

    Everything that can be refused is refused here as it would be there; one batch of every kind is
    compiled and timed; nothing is written.

    Parameters
    ----------
    model, inputs, labels, options : as `rainpp.precompute`, which explains them; `again` and
        `progress` are not options here.

    Raises
    ------
    RainError : as `precompute`.
    ArtifactError : also, the disk has too little room.
    """
    prepared = prepare(model, inputs, labels, Options(**options))
    pairs = expected_pairs(prepared.options.k, prepared)
    sizes = _Sizes(prepared, pairs)
    disk = sizes.disk()
    if (target := prepared.options.target) is not None:
        from_first(lambda: _check_room(target, disk))
    return sizes.estimate(disk)


@dataclass(frozen=True, slots=True)
class _Timing:
    """Seconds of the first batch beyond a later one, and of a row."""

    compiling: float
    per_row: float

    def of(self, row_passes: int, compiled: int = 1) -> float:
        return compiled * self.compiling + row_passes * self.per_row


@dataclass(frozen=True, eq=False)
class _Sizes:
    prepared: Prepared
    pairs: int

    def estimate(self, disk: int) -> Estimate:
        working = self.prepared.working
        model, training, budget = working.model, working.training, working.budget
        vectors = vectors_held(self.pairs)
        kind = working.options.curvature
        fits = (
            fit_curvature(model, training, budget, kind=kind, vectors=vectors),
            fit_projections(model, training, budget, k=self.pairs, relabel=working.relabel),
        )
        stages, most = self._stages(fits)
        vector = model.num_params * np.dtype(model.theta.dtype).itemsize
        rows = min(row_bytes(training) * training.num_rows, budget.resident)
        memory = rows + vectors * vector + max(fit.bytes for fit in fits)
        batches = {"eigenpairs": fits[0].batch, "projections": fits[1].batch}
        return Estimate(tuple(stages), most, memory, disk, batches)

    def _stages(self, fits: tuple[Fit, Fit]) -> tuple[list[Stage], float]:
        n, model = self.prepared.training.num_rows, self.prepared.model
        losses, gradient, product, projection = self._timings(fits)
        products = min(self.pairs + _MORE_PRODUCTS, model.num_params)
        samples, repairs = self._samples(), len(self.prepared.repairs)
        looked_at, kept = sum(samples) or n, samples[-1] if samples else n
        eigenpairs = product.of(products * looked_at, compiled=2)
        # Of each sample, k products with one of its halves, and projections of the probe.
        judging = product.of(self.pairs * sum(samples) // 2, compiled=1 if samples else 0)
        judging += projection.of(2 * PROBE_ROWS * len(samples), compiled=2 if samples else 0)
        checks = product.of(2 * kept, compiled=3)
        writing = (row_bytes(self.prepared.training) * n + self.disk()) / _BYTES_PER_SECOND
        stages = [
            Stage("losses", 1, n, losses.of(n)),
            Stage("gradient", 1, n, gradient.of(n)),
            Stage("eigenpairs", products, looked_at, eigenpairs + judging),
            Stage("projections", 1 + repairs, n, projection.of((1 + repairs) * n, compiled=2)),
            Stage("self-checks and writing", 2, kept, checks + writing),
        ]
        usual = sum(stage.seconds for stage in stages)
        if self._rows != "auto":
            return stages, usual
        # Halves grow up to a fifth of the rows before all of them are used.
        return stages, usual + product.of(products * 2 * n, compiled=4)

    @property
    def _rows(self) -> int | str:
        return self.prepared.options.curvature_rows

    def _samples(self) -> tuple[int, ...]:
        """Rows of the samples that are judged, the last one kept; none where all rows are used."""
        n, k = self.prepared.training.num_rows, self.prepared.options.k
        if self._rows == "all":
            return ()
        if self._rows != "auto":
            return (int(self._rows),)
        half, largest = first_half(k, many=bool(self.prepared.many_pairs)), largest_half(n)
        if half > largest:
            return ()
        if half > FIRST_HALF or 2 * half > largest:
            return (2 * half,)
        return (2 * half, 4 * half)  # the second halves agree: MNIST

    def _timings(self, fits: tuple[Fit, Fit]) -> tuple[_Timing, _Timing, _Timing, _Timing]:
        plain, model, training = (
            self.prepared.model,
            self.prepared.working.model,
            self.prepared.training,
        )
        count = min(training.num_rows, 1024 * num_devices())
        part = training.take(np.arange(count))
        kind = self.prepared.options.curvature
        once = Curvature.of(plain, part)
        curvature = Curvature.of(model, part, batch_size=fits[0].batch, kind=kind)
        generator = np.random.default_rng(0)
        vectors = generator.normal(size=(self.pairs, model.num_params))
        vectors = jnp.asarray(vectors / np.sqrt(model.num_params), model.theta.dtype)

        def project() -> Any:
            relabel, size = self.prepared.relabel, fits[1].batch
            return project_training(model, part, vectors, relabel=relabel, batch_size=size)

        return (
            _timed(lambda: example_losses(plain, part), count),
            _timed(lambda: once.gradient().block_until_ready(), count),
            _timed(lambda: curvature.hvp(vectors[0]).block_until_ready(), count),
            _timed(project, count),
        )

    def disk(self) -> int:
        """The index, and the Krylov bases that are kept while it is built."""
        training, model = self.prepared.training, self.prepared.model
        n, item = training.num_rows, np.dtype(model.theta.dtype).itemsize
        kinds, relabels = self.prepared.kinds, self.prepared.num_classes - 1
        repairs = len(self.prepared.repairs)
        interventions = n * (("delete" in kinds) + ("relabel" in kinds) * relabels + repairs)
        columns = sum(array.nbytes for array in (training.labels, training.ids)) + n * item
        bases = vectors_held(self.pairs) * model.num_params * item
        # As computed, and beside that as stored, until the index is finished.
        compact = {"float32": 0, "float16": 2 * self.pairs, "int8": self.pairs + 4}
        row = (self.pairs + 1) * item + compact[self.prepared.options.storage]
        return interventions * row + columns + bases


def _timed(run: Callable[[], Any], rows: int) -> _Timing:
    first, second, third = (_seconds(run) for _ in range(3))
    warm = min(second, third)
    return _Timing(max(first - warm, 0.0), warm / rows)


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _check_room(path: Path, needed: int) -> None:
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ArtifactError(
            f"the index `{path}` needs {size_text(needed)} and `{there}` has {size_text(free)} "
            "left: choose another path, a smaller k, or fewer interventions."
        )
