"""The offline stage for the paper's largest network: WRN-26, 50 000 photos, k = 20.

    python -m experiments.offline wrn [--quick]

Trains the network on CIFAR-10 with 30 % of the automobiles labelled as horses, finds the eigenpairs
and projects every row with every change of its label, timing products and projections apart. FLOPs
are XLA's count for a row times the rows that were looked at. It wants a GPU: `--quick` is the same
with a WRN-10 and 300 rows, for a CPU, and keeps its result apart.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import rainpp
from experiments import deep_cases, results
from experiments.cases import Case
from experiments.deep_cases import Photographed
from experiments.timed_products import Clock, TimedRequest, timed
from experiments.train_nnx import Schedule
from rainpp.lanczos.batches import Batches
from rainpp.lanczos.curvature import product_kernel
from rainpp.lanczos.projection import TrainingProjections, project_training, training_kernel
from rainpp.lanczos.subsample import Found, sampled_eigenpairs
from rainpp.training_set import TrainingSet

# Dense TFLOP/s of matrix products of float32 numbers, from the makers' data sheets: with TF32 where
# the device has it, since XLA uses it by default. By a part of JAX's name of the device.
PEAKS = {
    "H200": 494.5, "H100 PCIe": 378.0, "H100": 494.5, "A100": 156.0, "A10": 62.5, "L40S": 183.0,
    "L4": 60.0, "V100": 15.7, "T4": 8.1,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """What is trained, and how it is taken apart."""

    photographed: Photographed
    k: int
    product_batch: int
    projection_batch: int
    rows: int | str = "auto"


# 1 553 626 parameters. Few passes: a network that has learned its wrong labels by heart has no
# gradient left on them.
FULL = Size(
    Photographed(
        "wrn26",
        Schedule(epochs=12, settling=3, batch_size=256, l2=5e-4),
        rows=50_000,
        tested=10_000,
    ),
    k=20,
    product_batch=512,
    projection_batch=256,
)
QUICK = Size(
    Photographed(
        "wrn10",
        Schedule(epochs=4, settling=1, batch_size=50, l2=1e-3),
        rows=300,
        tested=200,
        width=1,
        side=8,
    ),
    k=5,
    product_batch=50,
    projection_batch=50,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="A tiny network, in a minute or so.")
    quick = parser.parse_args().quick
    size, name = (QUICK, "offline_wrn_quick") if quick else (FULL, "offline_wrn")
    run = measure(size)
    for key, value in run.items():
        print(f"{key}: {value}")
    command = "python -m experiments.offline wrn" + " --quick" * quick
    settings = {"k": size.k, "curvature_rows": size.rows, "seeds": [size.photographed.seed]}
    print(results.save(name, command=command, settings=settings, runs=[run]))


def measure(size: Size) -> dict[str, Any]:
    """Train, find the eigenpairs, project, and rank; seconds, FLOPs and AUC_R."""
    (case, about), trained = timed(lambda: deep_cases.photo_case(size.photographed))
    run = {"case": case.name, "train_rows": case.training.num_rows} | about
    run |= {"parameters": case.model.num_params, "k": size.k, "training_seconds": round(trained, 1)}
    clock = Clock()
    found, seconds = timed(lambda: sampled_eigenpairs(_request(case, size, clock)))
    seconds -= clock.compiling
    vectors = found.pairs.vectors
    few = case.training.take(np.arange(size.projection_batch))
    _, compiling = timed(lambda: _projected(case.model, few, vectors, size))
    projected, projecting = timed(lambda: _projected(case.model, case.training, vectors, size))
    return run | {
        "curvature_rows": found.rows,
        "agreement": [dataclasses.asdict(trial) for trial in found.trials],
        "rows_multiplied": clock.rows,
        "product_seconds": round(clock.seconds, 3),
        "lanczos_seconds": round(seconds - clock.seconds, 3),
        "projection_seconds": round(projecting, 3),
        "offline_seconds": round(seconds + projecting, 3),
        "compiling_seconds": round(clock.compiling + compiling, 1),
        "products": _speed(_product_flops(case, size) * clock.rows, clock.seconds),
        "projections": _speed(_projection_flops(case, size) * case.training.num_rows, projecting),
        "auc_r": _quality(case, found, projected),
    }


def _request(case: Case, size: Size, clock: Clock) -> TimedRequest:
    return TimedRequest(
        case.model,
        case.training,
        size.k,
        case.num_classes,
        rows=size.rows,
        batch_size=size.product_batch,
        clock=clock,
    )


def _projected(
    model: rainpp.Model, training: TrainingSet, vectors: np.ndarray, size: Size
) -> TrainingProjections:
    return project_training(
        model, training, vectors, relabel=True, batch_size=size.projection_batch
    )


def _product_flops(case: Case, size: Size) -> float:
    """Of one row of a curvature product."""
    batch = size.product_batch
    rows, labels = _rows_like(case, (1, batch))  # a loop that runs once is counted once
    weights: Any = jax.ShapeDtypeStruct((1, batch), case.model.theta.dtype)
    kernel: Any = product_kernel(case.model.network, "hessian")
    theta = case.model.theta
    return _flops(kernel.lower(theta, Batches(rows, labels, weights), theta)) / batch


def _projection_flops(case: Case, size: Size) -> float:
    """Of one row and all its labels, on k vectors."""
    batch = size.projection_batch
    vectors = jax.ShapeDtypeStruct((size.k, case.model.num_params), case.model.theta.dtype)
    kernel: Any = training_kernel(case.model.network, relabel=True)
    return _flops(kernel.lower(case.model.theta, vectors, *_rows_like(case, (batch,)))) / batch


def _rows_like(case: Case, leading: tuple[int, ...]) -> tuple[Any, Any]:
    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*leading, *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(shape, case.training.inputs), shape(case.training.labels)


def _flops(lowered: Any) -> float:
    """XLA's count for the compiled kernel.

    A GPU's convolutions are calls into a library, which XLA may count as nothing: where the count
    falls below half of that before compilation, the latter stands.
    """
    before, after = (
        float((stage.cost_analysis() or {}).get("flops", 0))
        for stage in (lowered, lowered.compile())
    )
    return after if after >= before / 2 else before


def _speed(flops: float, seconds: float) -> dict[str, Any]:
    """TFLOP, TFLOP/s, and its share of what the device can do, None where that is not known."""
    reached = flops / seconds / 1e12
    peak = peak_of(jax.devices()[0].device_kind)
    return {
        "tflop": float(f"{flops / 1e12:.4g}"),
        "tflop_per_second": float(f"{reached:.4g}"),
        "share_of_peak": None if peak is None else round(reached / peak, 4),
    }


def peak_of(device_kind: str) -> float | None:
    """Dense TFLOP/s of float32 products by the maker's data sheet, None if it is not in `PEAKS`."""
    words = device_kind.replace("-", " ").split()
    for name, peak in PEAKS.items():
        if all(part in words for part in name.split()):
            return peak
    return None


def _quality(case: Case, found: Found, projected: TrainingProjections) -> dict[str, float]:
    """AUC_R of deletions by query."""
    pairs = found.pairs
    return {
        query: round(
            rainpp.metrics.auc_r(
                projected.gradients @ ((pairs.vectors @ np.asarray(along)) / pairs.values),
                case.corrupted,
            ),
            4,
        )
        for query, along in case.gradients().items()
    }


if __name__ == "__main__":
    main()
