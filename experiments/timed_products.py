"""Curvature products that are counted and timed while eigenpairs are found."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import jax

from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.sample import Sample
from rainpp.lanczos.subsample import Request

Result = TypeVar("Result")


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """What `run` returns, and the seconds it took."""
    began = time.perf_counter()
    result = run()
    return result, time.perf_counter() - began


@dataclass
class Clock:
    """Seconds that products took, rows they looked at (padding included), and compiling."""

    seconds: float = 0.0
    rows: int = 0
    compiling: float = 0.0
    compiled: set[tuple[int, ...]] = field(default_factory=set[tuple[int, ...]])


@dataclass(frozen=True, eq=False)
class TimedCurvature(Curvature):
    """Curvature that waits for every product and writes it down.

    The first product of batches of one shape is made twice: it compiles.
    """

    clock: Clock = field(default_factory=Clock)

    def hvp(self, vector: jax.Array) -> jax.Array:
        """H v (d,)."""
        clock = self.clock
        if self._shape not in clock.compiled:
            clock.compiling += self._timed(vector)[1]
            clock.compiled.add(self._shape)
        product, seconds = self._timed(vector)
        clock.seconds += seconds
        clock.rows += self.rows
        return product

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return next(self.batches.chunks()).weights.shape

    def _timed(self, vector: jax.Array) -> tuple[jax.Array, float]:
        return timed(lambda: jax.block_until_ready(Curvature.hvp(self, vector)))


@dataclass(frozen=True, eq=False)
class TimedRequest(Request):
    """A request whose curvature is timed."""

    clock: Clock = field(default_factory=Clock)

    def curvature(self, sample: Sample | None) -> Curvature:
        """Curvature from a sample of the rows, or from all."""
        plain = super().curvature(sample)
        parts = {part.name: getattr(plain, part.name) for part in dataclasses.fields(plain)}
        return TimedCurvature(**parts, clock=self.clock)
