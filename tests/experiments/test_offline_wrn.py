"""The script for the WRN-26 counts what it says it counts, and runs at a small size."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from experiments import deep_cases, nets, offline_wrn
from experiments.deep_cases import Photographed
from experiments.offline_wrn import Size, peak_of
from experiments.timed_products import Clock
from experiments.train_nnx import Schedule
from rainpp.errors import DataError
from rainpp.lanczos.subsample import Request, sampled_eigenpairs
from tests.experiments import files

WEIGHTS = 8 * 8 * 3 * 10


@pytest.fixture
def small(tmp_path, monkeypatch):
    """70 images and a linear model."""
    monkeypatch.setenv("RAINPP_DATA", str(tmp_path))
    files.write_photo_binaries(
        tmp_path, train=files.photos(70, seed=0), test=files.photos(20, seed=1)
    )
    monkeypatch.setattr(
        deep_cases, "photo_network", lambda _: nets.Linear(8 * 8 * 3, rngs=nnx.Rngs(0))
    )
    schedule = Schedule(epochs=1, settling=0, batch_size=10)
    asked = Photographed("cnn", schedule, rows=70, tested=20, side=8, rate=1.0)
    return Size(asked, k=2, product_batch=20, projection_batch=10)


def test_seconds_rows_and_flops_of_both_parts(small):
    run = offline_wrn.measure(small)
    assert run["images"] == "original"
    assert run["parameters"] == WEIGHTS + 10
    assert run["curvature_rows"] == 70
    # Every product is of 70 rows in batches of 20: 80 with padding.
    assert run["rows_multiplied"] % 80 == 0
    assert run["rows_multiplied"] >= 2 * 80
    # A multiplication and an addition for every weight: of the outputs, of their derivative along
    # the vector, and of the two gradients; of the outputs and their derivative along two vectors.
    multiplied = run["products"]["tflop"] * 1e12 / run["rows_multiplied"]
    assert multiplied == pytest.approx(2 * WEIGHTS * 3, rel=0.4)
    projected = run["projections"]["tflop"] * 1e12 / 70
    assert projected == pytest.approx(2 * WEIGHTS * 3, rel=0.4)
    parts = run["product_seconds"] + run["lanczos_seconds"] + run["projection_seconds"]
    assert run["offline_seconds"] == pytest.approx(parts, abs=0.003)
    assert run["compiling_seconds"] > 0
    assert set(run["auc_r"]) == {"Q1", "Q3"}
    assert run["products"]["share_of_peak"] is None  # no CPU is in the table


def test_timed_eigenpairs_are_those_of_the_library(small):
    case, _ = deep_cases.photo_case(small.photographed)
    clock = Clock()
    request = offline_wrn._request(case, small, clock)
    timed = sampled_eigenpairs(request).pairs
    fields = {name: value for name, value in vars(request).items() if name not in ("clock",)}
    plain = sampled_eigenpairs(Request(**fields)).pairs
    np.testing.assert_array_equal(timed.vectors, plain.vectors)
    assert clock.rows == 80 * plain.num_products


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 494.5),
        ("NVIDIA H100 80GB HBM3", 494.5),
        ("NVIDIA H100 PCIe", 378.0),
        ("NVIDIA A100-SXM4-40GB", 156.0),
        ("Tesla V100-SXM2-16GB", 15.7),
        ("NVIDIA L4", 60.0),
        ("NVIDIA L40S", 183.0),
        ("NVIDIA A10G", None),
        ("cpu", None),
    ],
)
def test_peaks_by_the_name_of_the_device(device, peak):
    assert peak_of(device) == peak


def test_the_full_size_is_the_papers():
    assert offline_wrn.FULL.k == 20
    assert offline_wrn.FULL.photographed.rows == 50_000
    assert offline_wrn.FULL.photographed.network == "wrn26"


@pytest.mark.slow
def test_the_quick_size_runs():
    try:
        run = offline_wrn.measure(offline_wrn.QUICK)
    except DataError as absent:
        pytest.skip(str(absent))
    assert run["train_rows"] == 300
    assert run["k"] == 5
