"""What an index proves about itself while it is built: a few products and passes over samples.

Each check is one number beside the limit it should keep. A check that fails does not stop the
build: the manifest keeps it, and `rainpp inspect` says what to do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from rainpp.errors import one_line
from rainpp.lanczos.agreement import random_complaints
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.devices import num_devices
from rainpp.lanczos.eigenpairs import Eigenpairs
from rainpp.lanczos.optimum import Optimality
from rainpp.lanczos.projection import example_losses, gradient_of_probabilities
from rainpp.lanczos.subsample import Found
from rainpp.model import Model
from rainpp.training_set import TrainingSet

if TYPE_CHECKING:  # it asks `storage`, which has a check of its own
    from rainpp.index.prepare import Prepared

# Scores from pairs at a residual of 1e-3 and of 1e-6 correlate above 0.99999; ten times the
# tolerance of Lanczos leaves room for rounding.
_LARGEST_RESIDUAL = 1e-2
# Rounding of float32 is 1e-6 to 1e-4 here (MNIST, ADULT, small nets); a model that mixes the rows
# of a batch, or draws random numbers, is off by 1e-2 and more.
_ROUNDING = 2e-3
# The same where matrix products are rounded to bfloat16: 2 to 3 digits.
_ROUNDING_IN_BFLOAT16 = 2e-2
_LARGEST_RELATIVE_GRADIENT = 0.05
_LEAST_COVERAGE = 0.5
_SPLIT_ROWS, _PRECISION_ROWS, _COVERAGE_ROWS = 64, 64, 256
_COMPLAINTS = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One number that says whether something can be trusted.

    Attributes
    ----------
    value : what was measured; None where it could not be.
    limit : what it should not exceed; for coverage, what it should reach.
    passed : whether it does; True where there is nothing to compare.
    note : what was measured, and on how much.
    advice : what to do, where it did not pass; else empty.
    """

    name: str
    value: float | None
    limit: float | None
    passed: bool
    note: str
    advice: str = ""


def run_checks(prepared: Prepared, found: Found, optimality: Optimality) -> list[dict[str, Any]]:
    """All checks, as the manifest keeps them."""
    seed = prepared.options.seed
    return [
        *(asdict(check) for check in _operator_checks(prepared, found)),
        asdict(_gradient(optimality)),
        asdict(_batch_split(prepared.model, _sample(prepared, _SPLIT_ROWS, seed))),
        asdict(_precision(prepared, found.pairs)),
        asdict(_coverage(prepared, found.pairs, seed=seed)),
    ]


def _sample(prepared: Prepared, size: int, seed: int) -> TrainingSet:
    num_rows = prepared.training.num_rows
    generator = np.random.default_rng((seed, 0xCE))
    chosen = generator.choice(num_rows, min(size, num_rows), replace=False)
    return prepared.training.take(np.sort(chosen))


def _operator_checks(prepared: Prepared, found: Found) -> list[Check]:
    """Residuals of all pairs from one product, and symmetry from one more.

    With x = Σ sⱼ vⱼ/λⱼ for random signs s, Hx - Σ sⱼ vⱼ = Σ sⱼ rⱼ/λⱼ for the residuals r: its
    size over √k is the root mean square of the relative residuals, in expectation over s.
    """
    operator, pairs = found.operator, found.pairs
    generator = np.random.default_rng((prepared.options.seed, 0xAD))
    signs = generator.choice([-1.0, 1.0], pairs.k)
    vectors = np.asarray(pairs.vectors, np.float64)
    known = signs @ vectors
    x = (signs / pairs.values) @ vectors
    image = np.asarray(operator.hvp(jnp.asarray(x, operator.dtype)), np.float64)
    residual = float(np.linalg.norm(image - known) / np.sqrt(pairs.k))
    other = generator.normal(size=x.size)
    back = np.asarray(operator.hvp(jnp.asarray(other, operator.dtype)), np.float64)
    scale = np.linalg.norm(other) * np.linalg.norm(image) + np.linalg.norm(x) * np.linalg.norm(back)
    gap = float(abs(other @ image - x @ back) / max(scale, np.finfo(np.float64).tiny))
    limit = _rounding(prepared)
    better = "matmul='float32'" if _is_rounded(prepared) else "weights in float64"
    return [
        Check(
            "eigenpair residuals",
            residual,
            _LARGEST_RESIDUAL,
            residual <= _LARGEST_RESIDUAL,
            f"|Hv - λv| / λ, root mean square over {pairs.k} pairs, recomputed",
            _unless(
                residual <= _LARGEST_RESIDUAL,
                f"The pairs do not belong to this curvature: a smaller k, or {better}.",
            ),
        ),
        Check(
            "adjoint",
            gap,
            limit,
            gap <= limit,
            "<u, Hv> against <Hu, v> for random u and v",
            _unless(
                gap <= limit,
                "Curvature products are not symmetric: the model is random (dropout?) or has a "
                "wrong custom derivative.",
            ),
        ),
    ]


def _is_rounded(prepared: Prepared) -> bool:
    return prepared.options.matmul == "bfloat16"


def _rounding(prepared: Prepared) -> float:
    """What rounding alone may change in a product."""
    return _ROUNDING_IN_BFLOAT16 if _is_rounded(prepared) else _ROUNDING


def _gradient(optimality: Optimality) -> Check:
    return Check(
        "gradient norm",
        finite(optimality.relative),
        _LARGEST_RELATIVE_GRADIENT,
        optimality.at_optimum,
        f"|grad J| is {optimality.gradient_norm:.3g}, {optimality.size}",
        _unless(
            optimality.at_optimum,
            "Train longer, or check that loss and l2 are the ones the model was trained with.",
        ),
    )


def _batch_split(model: Model, sample: TrainingSet) -> Check:
    """The losses of a sample in one batch against those in batches of about a third."""
    size = sample.num_rows
    third = max(size // (3 * num_devices()), 1)
    whole, parts = (
        example_losses(model, sample, batch_size=batch).astype(np.float64)
        for batch in (size, third)
    )
    gap = _relative(parts, whole)
    return Check(
        "batch split",
        gap,
        _ROUNDING,
        gap <= _ROUNDING,
        f"losses of {size} rows in one batch against batches of {third}",
        _unless(
            gap <= _ROUNDING,
            "Rows of a batch influence each other: put batch norm and the like in evaluation mode.",
        ),
    )


def _precision(prepared: Prepared, pairs: Eigenpairs) -> Check:
    """A curvature product as eigenpairs need them against float64, along all pairs at once."""
    name, limit, model = "float64", _rounding(prepared), prepared.model
    if model.theta.dtype == jnp.float64:
        return Check(name, None, limit, True, "the model is in float64 already")
    sample = _sample(prepared, _PRECISION_ROWS, prepared.options.seed)
    vector = np.sum(pairs.vectors, axis=0)
    single = np.asarray(_product(prepared.working.model, sample, vector), np.float64)
    try:
        double = _in_float64(model, sample, vector)
    except Exception as problem:  # noqa: BLE001 - whatever a user's model raises in float64
        first = one_line(problem)[:120]
        return Check(name, None, limit, True, f"the model does not run in float64: {first}")
    gap = _relative(single, double)
    how = (
        f"{model.theta.dtype}, matrix products in bfloat16," if _is_rounded(prepared) else "float32"
    )
    advice = (
        "Rounding to bfloat16 is too coarse for this model: use matmul='float32'."
        if _is_rounded(prepared)
        else "Rounding is large: give the model weights in float64 (jax_enable_x64), or scale the "
        "inputs."
    )
    note = f"a curvature product over {sample.num_rows} rows in {how} and in float64"
    return Check(name, gap, limit, gap <= limit, note, _unless(gap <= limit, advice))


def _in_float64(model: Model, sample: TrainingSet, vector: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        params = jax.tree.map(_doubled, model.params)
        inputs = jax.tree.map(_doubled, sample.inputs)
        doubled = Model(model.apply, params, loss=model.loss, l2=model.l2)
        rows = TrainingSet(inputs, _doubled(sample.labels), sample.ids, sample.weights)
        outputs = jax.eval_shape(doubled.outputs, doubled.theta, inputs)
        if outputs.dtype != jnp.float64:
            raise TypeError(f"its outputs stay {outputs.dtype}")
        return np.asarray(_product(doubled, rows, vector))


def _doubled(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _product(model: Model, sample: TrainingSet, vector: np.ndarray) -> jax.Array:
    curvature = Curvature.of(model, sample, batch_size=sample.num_rows)
    return curvature.hvp(jnp.asarray(vector, model.theta.dtype))


def _coverage(prepared: Prepared, pairs: Eigenpairs, *, seed: int) -> Check:
    """‖V g‖²/‖g‖² of random complaints, from a fiftieth of the sampled rows to all of them."""
    sample = _sample(prepared, _COVERAGE_ROWS, seed)
    shape = (sample.num_rows, prepared.num_outputs)
    complaints = random_complaints(shape, count=_COMPLAINTS, seed=seed)
    shares = [_share(prepared.model, sample, weights, pairs) for weights in complaints]
    median = float(np.median(shares))
    note = f"median over {_COMPLAINTS} random complaints; the least {min(shares):.2f}"
    passed = median >= _LEAST_COVERAGE
    advice = (
        "Rankings hold, but sizes of effects are too small: call ranking.refine(), or use a "
        "larger k."
    )
    return Check("coverage", median, _LEAST_COVERAGE, passed, note, _unless(passed, advice))


def _share(model: Model, sample: TrainingSet, weights: np.ndarray, pairs: Eigenpairs) -> float:
    gradient = np.asarray(gradient_of_probabilities(model, sample.inputs, weights), np.float64)
    total = float(gradient @ gradient)
    inside = np.asarray(pairs.vectors, np.float64) @ gradient
    return min(float(inside @ inside) / total, 1.0) if total else 1.0


def finite(value: float) -> float | None:
    """The value, None for infinity, which JSON has no word for."""
    return value if np.isfinite(value) else None


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    scale = float(np.linalg.norm(exact))
    return float(np.linalg.norm(found - exact)) / scale if scale else float(np.any(found != 0))


def _unless(passed: bool, advice: str) -> str:
    return "" if passed else advice
