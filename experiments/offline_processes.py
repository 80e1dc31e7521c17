"""The offline stage on one core, by two processes of one core each, and by one process of both.

    python -m experiments.offline processes [--rows 60000] [--repeats 3] [--quick]

Every process is pinned to its cores and has one thread for each of them. Timed are whole calls of
`rainpp.precompute` with the index on disk, after one that compiled everything, from the first
process that starts to the last that ends. *Speedup* is one process on one core over two on two.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from experiments import models, results

K = 10
MODELS = ("logistic", "mlp")
CURVATURE_ROWS = ("all", "auto")
QUICK_ROWS = 4_000
# Cores of every process.
SETUPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "one process, one core": ((0,),),
    "two processes, one core each": ((0,), (1,)),
    "one process, two cores": ((0, 1),),
}
# Rows the weights are trained on: what is timed does not depend on how good they are.
_TRAINED_ON = 10_000


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child))))
        return
    rows = QUICK_ROWS if arguments.quick else arguments.rows
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            for curvature_rows in CURVATURE_ROWS:
                task = {
                    "model": model,
                    "rows": rows,
                    "curvature_rows": curvature_rows,
                    "repeats": arguments.repeats,
                    "weights": str(Path(folder) / f"{model}.npz"),
                }
                runs += compared(task)
                print(*runs[-len(SETUPS) :], sep="\n")
    if not arguments.quick:
        settings = {"k": K, "repeats": arguments.repeats, "seeds": [0]}
        command = "python -m experiments.offline processes"
        print(results.save("offline_processes", command=command, settings=settings, runs=runs))


def compared(task: dict[str, Any]) -> list[dict[str, Any]]:
    """One run for every setup, with its speedup over the first."""
    if not Path(task["weights"]).exists():
        _started(SETUPS["one process, two cores"], {**task, "train": True})
    found: list[dict[str, Any]] = []
    for setup, cores in SETUPS.items():
        load = os.getloadavg()[0]
        told = _started(cores, task)
        seconds = [max(times) for times in zip(*(one["seconds"] for one in told), strict=True)]
        typical = statistics.median(seconds)
        run = {
            **{key: task[key] for key in ("model", "rows", "curvature_rows")},
            "setup": setup,
            **told[0],
            "seconds": round(typical, 2),
            "all_seconds": [round(each, 2) for each in seconds],
            "speedup": round(found[0]["seconds"] / typical, 2) if found else 1.0,
            # What else ran: the load a minute before, and the part of its cores that a run got.
            "load_before": round(load, 2),
            "share_of_cores": round(statistics.mean(one["share_of_cores"] for one in told), 2),
        }
        found.append(run)
    return found


def _started(cores: tuple[tuple[int, ...], ...], task: dict[str, Any]) -> list[dict[str, Any]]:
    """What `measure` says in every process, each pinned to its cores."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        told = {**task, "folder": folder}
        running = [
            subprocess.Popen(
                [
                    *("taskset", "-c", ",".join(map(str, mine))),
                    *(sys.executable, "-m", "experiments.offline_processes"),
                    *("--child", json.dumps(told)),
                ],
                env={**os.environ, **_environment(mine, (number, len(cores), port))},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number, mine in enumerate(cores)
        ]
        outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("a measured process failed; its error stands above")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _environment(cores: tuple[int, ...], place: tuple[int, int, int]) -> dict[str, str]:
    number, count, port = place
    one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    threads = {"OMP_NUM_THREADS": str(len(cores)), "OPENBLAS_NUM_THREADS": str(len(cores))}
    told = {**threads, "XLA_FLAGS": one if len(cores) == 1 else ""}
    if count == 1:
        return told
    joined = {"JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(number)}
    return {**told, **joined, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: seconds of `repeats` builds, after one that is not counted."""
    if "JAX_NUM_PROCESSES" in os.environ:
        from rainpp.index.together import join_processes

        join_processes()
    import rainpp
    from experiments import cases, data, train
    from rainpp.errors import NotAtOptimumWarning

    warnings.simplefilter("ignore", NotAtOptimumWarning)
    digits, rows = data.mnist(), task["rows"]
    inputs, labels = digits.train_inputs[:rows], digits.train_labels[:rows]
    if task.get("train"):
        some = slice(0, _TRAINED_ON)
        fitted = cases.fit_digits(task["model"], inputs[some], labels[some])
        np.savez(task["weights"], **fitted.params)
        return {}
    network = models.softmax_regression() if task["model"] == "logistic" else models.mlp()
    with np.load(task["weights"]) as weights:
        model = rainpp.Model(network.apply, dict(weights), loss=network.loss, l2=train.L2)

    def built(number: int) -> tuple[_Clock, dict[str, Any]]:
        clock = _Clock()
        index = rainpp.precompute(
            model,
            inputs,
            labels,
            k=K,
            curvature_rows=task["curvature_rows"],
            memory="2GB",
            path=Path(task["folder"]) / f"{number}.rain",
            progress=clock,
        )
        clock.stop()
        return clock, index.manifest

    built(0)
    clocks, manifests = zip(*(built(number + 1) for number in range(task["repeats"])), strict=True)
    return {
        "seconds": [clock.seconds for clock in clocks],
        "parameters": model.num_params,
        "used_rows": manifests[0]["curvature"]["rows"],
        "products": manifests[0]["checks"]["num_products"],
        "stages": {
            name: round(statistics.median(clock.stages[name] for clock in clocks), 2)
            for name in clocks[0].stages
        },
        "share_of_cores": statistics.mean(clock.share for clock in clocks),
    }


class _Clock:
    """Seconds between the reports of `precompute`, counted for the stage that reports."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._worked = time.process_time()
        self.stages: dict[str, float] = {}
        self.seconds = self.share = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        del done, total, note
        now = time.perf_counter()
        name = stage.partition(",")[0]
        self.stages[name] = self.stages.get(name, 0.0) + now - self._last
        self._last = now

    def stop(self) -> None:
        """The call is over."""
        now = time.perf_counter()
        self.stages["checks and writing"] = now - self._last
        self.seconds = now - self._began
        cores = len(os.sched_getaffinity(0))
        self.share = (time.process_time() - self._worked) / self.seconds / cores


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="Few rows; nothing is saved.")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
