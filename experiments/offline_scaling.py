"""Time and memory of the offline stage as rows and parameters grow.

    python -m experiments.offline_scaling [--quick]

Softmax regression on random rows of 784 features, k = 10, deletions and relabels, index on disk.
Every size runs in a process of its own, twice: the second time nothing compiles. Peak memory is
that of the anonymous pages (rows of a memory-mapped file can be dropped by the system at any time),
above what the process holds before it starts: the interpreter, JAX and the rows themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments import results

K = 10
FEATURES = 784
CLASSES = 10
ROWS = (10_000, 60_000, 600_000)
# Features, and so parameters, at 20 000 rows.
WIDTHS = (200, 784, 3_000)


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(measure(*arguments.child)))
        return
    sizes = [(rows, FEATURES) for rows in ROWS] + [(20_000, width) for width in WIDTHS]
    if arguments.quick:
        sizes = [(2_000, 50), (4_000, 50)]
    runs = [_in_a_process(rows, width) for rows, width in sizes]
    for run in runs:
        print(run)
    if not arguments.quick:
        fits = _fits(runs)
        print(fits)
        settings = {"k": K, "classes": CLASSES, "curvature_rows": "auto", "seeds": [0]}
        command = "python -m experiments.offline_scaling"
        print(
            results.save("offline_scaling", command=command, settings=settings, runs=[*runs, fits])
        )


def measure(rows: int, features: int) -> dict[str, Any]:
    """Seconds and peak memory of one precompute, after one that compiled everything."""
    import rainpp
    from experiments import models

    inputs, labels = _data(rows, features)
    network = models.softmax_regression(num_inputs=features)
    params = _solved(network, inputs, labels)
    model = rainpp.Model(network.apply, params, l2=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        rainpp.precompute(model, inputs, labels, k=K, path=Path(folder) / "first.rain")
        with _Peak() as peak:
            began = time.perf_counter()
            index = rainpp.precompute(model, inputs, labels, k=K, path=Path(folder) / "second.rain")
            seconds = time.perf_counter() - began
    budget = 3 * K * model.num_params * 4
    return {
        "rows": rows,
        "features": features,
        "parameters": model.num_params,
        "curvature_rows": index.manifest["curvature"]["rows"],
        "seconds": round(seconds, 3),
        "data_mb": round(inputs.nbytes / 1e6, 1),
        "basis_mb": round(budget / 1e6, 1),
        "index_mb": round(sum(array.nbytes for array in index.arrays.values()) / 1e6, 1),
        "above_data_mb": round(peak.above / 1e6, 1),
    }


class _Peak:
    """The most anonymous memory in a block, above that at its start; looked at every 5 ms."""

    def __enter__(self) -> _Peak:
        self._before = self._most = _anonymous()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def above(self) -> int:
        """Bytes."""
        return self._most - self._before

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._most = max(self._most, _anonymous())


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def _data(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten Gaussian clouds, written block by block: nothing beside the rows is ever allocated."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, features)).astype(np.float32) / 4
    labels = generator.integers(0, CLASSES, rows).astype(np.int32)
    inputs = np.empty((rows, features), np.float32)
    for start in range(0, rows, 10_000):
        part = slice(start, start + 10_000)
        generator.standard_normal(dtype=np.float32, out=inputs[part])
        inputs[part] *= 1 / np.sqrt(features)
        inputs[part] += centres[labels[part]] * np.float32(4 / np.sqrt(features))
    return inputs, labels


def _solved(network: Any, inputs: np.ndarray, labels: np.ndarray) -> Any:
    """Parameters at the optimum of the first rows: near that of all, which share a distribution."""
    import jax

    from experiments import train

    some = slice(0, 20_000)
    start = network.init(jax.random.key(0))
    return train.fit_convex(network.apply, start, inputs[some], labels[some], l2=1e-3)[0]


def _in_a_process(rows: int, width: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "experiments.offline_scaling",
        "--child",
        str(rows),
        str(width),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _fits(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Exponents of seconds ~ rows^a and ~ parameters^b, from the largest two of each."""
    by_rows = [run for run in runs if run["features"] == FEATURES and run["rows"] in ROWS][-2:]
    by_width = [run for run in runs if run["rows"] == 20_000][-2:]
    return {
        "exponent_in_rows": _slope(by_rows, "rows"),
        "exponent_in_parameters": _slope(by_width, "parameters"),
    }


def _slope(runs: list[dict[str, Any]], key: str) -> float:
    first, last = runs
    ratio = np.log(last["seconds"] / first["seconds"]) / np.log(last[key] / first[key])
    return round(float(ratio), 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Tiny sizes; nothing is saved.")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
