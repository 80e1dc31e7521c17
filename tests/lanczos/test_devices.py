"""Rows divided over devices and processes give what one device gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rainpp

SCRIPT = Path(__file__).parent / "scaled.py"
ROOT = SCRIPT.parents[2]


def start(out, *peers, devices=1):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), *peers],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        out, problem = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, problem
    return int(out.split()[-1])


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The indexes of one device in one process."""
    out = tmp_path_factory.mktemp("single")
    assert finish(start(out)) == 1
    return out


def assert_same(found, expected):
    """Every array to 1e-5 of its largest number; eigenvectors up to their sign."""
    for name in ("all.rain", "auto.rain"):
        one, other = rainpp.load(expected / name), rainpp.load(found / name)
        assert other.k == one.k
        signs = np.sign(np.sum(one.eigenvectors * other.eigenvectors, axis=1))
        columns = {"projections": signs, "eigenvectors": signs[:, None]}
        # Ritz vectors are converged to a residual of 1e-3 only: what is in them beyond that moves.
        for array in ("eigenvalues", "projections", "plausibility", "losses"):
            left, right = one.arrays[array], other.arrays[array] * columns.get(array, 1)
            assert np.abs(left - right).max() <= 1e-5 * np.abs(left).max(), (name, array)
        assert one.manifest["curvature"]["rows"] == other.manifest["curvature"]["rows"]


def test_eight_devices_agree_with_one(single, tmp_path):
    assert finish(start(tmp_path, devices=8)) == 8
    assert_same(tmp_path, single)


def test_two_processes_agree_with_one(single, tmp_path):
    port = free_port()
    processes = [start(tmp_path, port, str(own), "2") for own in range(2)]
    assert [finish(process) for process in processes] == [2, 2]
    assert_same(tmp_path, single)
    # Only the first process writes: no work and no second copy is left behind.
    assert sorted(item.name for item in tmp_path.iterdir()) == ["all.rain", "auto.rain"]
