"""Eigenpairs from as few rows as give the same ranking as all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.errors import NotConverged, SettingsError
from rainpp.lanczos.agreement import (
    PROBE_ROWS,
    WANTED_CORRELATION,
    Agreement,
    compare,
    seen_from,
)
from rainpp.lanczos.choose_k import reason_for_many
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import (
    TOLERANCE,
    Eigenpairs,
    Forgetful,
    Keeper,
    Operator,
    Search,
    Wanted,
    check_k,
)
from rainpp.lanczos.sample import Sample, Strata
from rainpp.lanczos.watch import watched
from rainpp.model import Model
from rainpp.training_set import TrainingSet
from rainpp.types import silent

# Rows of the first halves. MNIST logistic regression agreed at 250 to 500, ADULT at 250.
FIRST_HALF = 256
# The same where the rule keeps thirty pairs: the last ones need more rows, and there are plenty.
# ADULT, AUC_R of Q4 / Q5 with 1 494 rows 0.873 / 0.766, with 4 096 0.892 / 0.792.
_FIRST_OF_MANY = 2048
# Above a fifth of the rows for a half, all rows once are not much dearer and need no argument.
_LARGEST_SHARE = 0.2
# Rows beyond those that should do: a trial more costs more than a few rows too many.
_MARGIN = 1.5
# Residual of pairs that are only judged: far below what another sample of rows changes.
_JUDGED = 1e-2
# Rows of a batch of a sample on a CPU: one compiled product serves samples of every size. A row of
# an MLP of 270 000 parameters takes 34 µs at 128 rows, 26 at 256, 19 at 512 and 20 at 1 024.
_SAMPLE_BATCH = 512


@dataclass(frozen=True, eq=False)
class Found:
    """Eigenpairs, with the rows they came from.

    Attributes
    ----------
    rows : how many rows the curvature was averaged over.
    trials : agreement of every pair of halves that was tried; empty if all rows were asked for.
    operator : the curvature from those rows.
    """

    pairs: Eigenpairs
    rows: int
    trials: tuple[Agreement, ...]
    operator: Operator


@dataclass(frozen=True, eq=False)
class Request:
    """What eigenpairs are wanted of which curvature.

    Attributes
    ----------
    rows : "auto", "all", or a number of rows.
    kind : "hessian" or "gauss_newton".
    keeper : by the name of a Lanczos run, what remembers how far it came.
    repairs : whether they are for an index with repairs.
    """

    model: Model
    training: TrainingSet
    k: int | str
    num_classes: int
    seed: int = 0
    rows: int | str = "auto"
    kind: str = "hessian"
    batch_size: int = 1024
    progress: Any = silent
    keeper: Callable[[str], Keeper] = Forgetful
    repairs: bool = False

    @property
    def many(self) -> str:
        """Why "auto" keeps thirty pairs; empty where it does not."""
        rows, parameters = self.training.num_rows, self.model.num_params
        return reason_for_many(rows, parameters, repairs=self.repairs)

    def search(self, operator: Any, name: str) -> Search:
        """A Lanczos run for the eigenpairs that are asked for, of an operator of this model."""
        check_k(self.k, operator.dimension)
        return Search(
            operator,
            Wanted(self.k, self.num_classes, self.many),
            seed=self.seed,
            progress=watched(self.progress, name, operator.rows),
            keeper=self.keeper(name),
        )

    def curvature(self, sample: Sample | None) -> Curvature:
        """Curvature from a sample of the rows, or from all."""
        apart = sample is not None and jax.default_backend() == "cpu"
        return Curvature.of(
            self.model,
            self.training,
            batch_size=min(self.batch_size, _SAMPLE_BATCH) if apart else self.batch_size,
            sample=sample,
            kind=self.kind,
            apart=apart,
        )


def check_rows(rows: Any, num_rows: int) -> None:
    """Refuse a number of curvature rows that makes no sense.

    Raises
    ------
    SettingsError : not "auto", "all" or a whole number from 2 to n.
    """
    if isinstance(rows, str) and rows in ("auto", "all"):
        return
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer):
        raise SettingsError(
            f"`curvature_rows` is {rows!r}; it must be 'auto', 'all' or a whole number."
        )
    if not 2 <= rows <= num_rows:
        raise SettingsError(
            f"`curvature_rows` is {rows}; the training set has {num_rows} rows, so "
            f"2 <= curvature_rows <= {num_rows}."
        )


def sampled_eigenpairs(request: Request) -> Found:
    """Eigenpairs of the curvature at the rows that `request` asks for.

    With "auto", two halves of a sample are drawn and grow until they agree; the pairs are those of
    both together. All rows are used when halves that would agree cost more.

    Raises
    ------
    NotConverged : as `find_eigenpairs`, from all rows.
    """
    num_rows = request.training.num_rows
    if request.rows == "all":
        return _from_all(request, ())
    strata = Strata(request.training.labels, seed=request.seed)
    if request.rows != "auto":
        half = -(-int(request.rows) // 2)
        both = _halves(request, strata, half)
        pairs = request.search(both, "both").until(TOLERANCE)
        return Found(pairs, both.rows, (_judged(request, both, pairs),), both)
    trials: list[Agreement] = []
    half = first_half(request.k, many=bool(request.many))
    largest = largest_half(num_rows)
    while half <= min(largest, strata.largest_half):
        both = _halves(request, strata, half)
        search = request.search(both, f"both-{half}")
        try:
            trial = _judged(request, both, search.until(_JUDGED))
            trials.append(trial)
            if trial.enough:
                return Found(search.until(TOLERANCE), both.rows, tuple(trials), both)
        except NotConverged:  # too few rows have positive curvature in too few directions
            half *= 2
            continue
        half = _next_half(half, trial)
    return _from_all(request, tuple(trials))


def first_half(k: int | str, *, many: bool) -> int:
    """Rows of the first halves that are tried."""
    return _FIRST_OF_MANY if many and isinstance(k, str) else FIRST_HALF


def largest_half(num_rows: int) -> int:
    """Rows of the largest halves before all rows are used."""
    return int(_LARGEST_SHARE * num_rows)


@dataclass(frozen=True, eq=False)
class _Halves:
    """Two disjoint samples' curvatures; together, the mean of their products.

    `probe` are rows to compare their rankings on, of every class as many.
    """

    first: Curvature
    second: Curvature
    rows: int
    probe: TrainingSet

    @property
    def dimension(self) -> int:
        """d."""
        return self.first.dimension

    @property
    def dtype(self) -> np.dtype:
        """Of vectors."""
        return self.first.dtype

    def hvp(self, vector: jax.Array) -> jax.Array:
        """H v (d,) of both halves together."""
        return (self.first.hvp(vector) + self.second.hvp(vector)) / 2


def _halves(request: Request, strata: Strata, half: int) -> _Halves:
    samples = [strata.half(half, which) for which in (0, 1)]
    first, second = (request.curvature(sample) for sample in samples)
    probe = request.training.take(strata.balanced(PROBE_ROWS))
    return _Halves(first, second, sum(sample.size for sample in samples), probe)


def _judged(request: Request, both: _Halves, pairs: Eigenpairs) -> Agreement:
    """How well the two halves agree on the eigenpairs of both together.

    What each half makes of them costs k products with one half: the other's follow from H v = λ v.
    """
    vectors = pairs.vectors
    images = np.stack([np.asarray(both.first.hvp(jnp.asarray(vector))) for vector in vectors])
    mirrored = 2 * pairs.values[:, None].astype(vectors.dtype) * vectors - images
    sides = (seen_from(vectors, images), seen_from(vectors, mirrored))
    return compare(request.model, both.probe, sides, rows=both.rows, seed=request.seed)


def _next_half(half: int, trial: Agreement) -> int:
    """Twice as many rows, or as many as should do: noise falls as one over the rows."""
    needed = _MARGIN * half * _noise(trial.correlation) / _noise(WANTED_CORRELATION)
    return int(min(max(2 * half, needed), 4 * half))


def _noise(correlation: float) -> float:
    """Variance of the noise over that of the truth, from a correlation with the truth."""
    return 1 / max(correlation, 0.1) ** 2 - 1


def _from_all(request: Request, trials: tuple[Agreement, ...]) -> Found:
    operator = request.curvature(None)
    pairs = request.search(operator, "all").until(TOLERANCE)
    return Found(pairs, request.training.num_rows, trials, operator)
