"""The whole way to a first complaint beside general attribution libraries, on the same weights.

    python -m experiments.offline_peers --peers PYTHON [--models logistic mlp] [--quick]

PYTHON is the interpreter of an environment made from `experiments/peers/requirements.txt`. MNIST
with 30 % of the 1s labelled 7; the complaint: the count of predicted 1s is too low. All sides get
the same weights and 2 threads, in one run, one after the other. Imports and reading the rows are
off the clock, compiling is on it. The second complaint is about the count of another digit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import jax
import numpy as np
import pyarrow as pa

import rainpp
from experiments import data, results, train
from experiments.corrupt import Corruption, flip_classes
from experiments.mnist_flips import Case, fit

COMMAND = "python -m experiments.offline_peers --peers PYTHON"
SCRIPTS = Path(__file__).parent / "peers"
ROWS = {"logistic": 60_000, "mlp": 20_000}
THREADS = 2
# For both complaints of a peer together.
LIMIT_SECONDS = 1200
# The peers score the deletion of every row; by default rainpp scores the relabels as well.
INTERVENTIONS: list[list[rainpp.Delete | rainpp.Relabel]] = [
    [rainpp.Delete()],
    [rainpp.Delete(), rainpp.Relabel()],
]
QUERY = "SELECT count(*) AS n FROM digits WHERE predict(image) = {digit}"


@dataclass(frozen=True)
class PeerCall:
    """How one method of a peer is called.

    Attributes
    ----------
    library : `peers/<library>_scores.py` calls it.
    method : the first argument of that script.
    settings : the others, by name.
    """

    library: str
    method: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        pairs = [f"{name}={json.dumps(value)}" for name, value in self.settings.items()]
        return " ".join([self.method, *pairs])


@dataclass(frozen=True)
class Trained:
    """A model, its rows, and which of their labels were changed."""

    model: rainpp.Model
    digits: data.Dataset
    inputs: np.ndarray
    planted: Corruption


def calls(model: str) -> list[PeerCall]:
    """The peers' settings for one model.

    dattri takes a batch's gradients as one array, of n x d numbers, and copies it: 60 000 rows of
    the logistic regression take 6.5 GB, 1 000 of the network 5.6 GB. It does the complaint's own
    part again for every batch, so that larger batches are faster. CG takes its default of 10
    iterations; of the regularizations 0 (the default), 0.01 and 0.1, the last gave the best AUC_R
    on 2 000 rows: 0.934, 0.973, 0.985 with the logistic regression. kronfluence is called as its
    documentation does; its two dampings are the l2 term of the objective, and its own heuristic.
    Batches of 250 to 2 000 rows made no difference there, without `batch` it looks for the largest
    that fits.
    """
    batch = 60_000 if model == "logistic" else 2_000
    return [
        PeerCall("kronfluence", "ekfac", {"damping": train.L2, "batch": 1000}),
        PeerCall("kronfluence", "ekfac", {"damping": None, "batch": 1000}),
        PeerCall("dattri", "cg", {"max_iter": 10, "regularization": 0.1, "batch": batch}),
        PeerCall("dattri", "arnoldi", {"proj_dim": 20, "batch": batch}),
    ]


def main() -> None:
    arguments = _arguments()
    settings = {
        "rate": 0.3,
        "seeds": [0],
        "threads": THREADS,
        "limit_seconds": LIMIT_SECONDS,
        "environment": "experiments/peers/requirements.txt",
    }
    for name in arguments.models:
        case = Case(name, rate=0.3, seed=0, rows=2000 if arguments.quick else ROWS[name])
        kept = [] if arguments.quick else _of_others(name)
        runs: list[dict[str, Any]] = []
        for run in run_case(case, arguments.peers):
            print(run, flush=True)
            runs.append(run)
            if not arguments.quick:  # after every row: the whole takes half an hour
                results.save("offline_peers", command=COMMAND, settings=settings, runs=kept + runs)


def _of_others(model: str) -> list[dict[str, Any]]:
    """The rows that are there about other models."""
    return [run for run in results.runs("offline_peers") if run["model"] != model]


def run_case(case: Case, python: Path) -> Iterator[dict[str, Any]]:
    """rainpp and every peer on one trained model; peers are set against the first record."""
    digits = data.mnist()
    rows = np.sort(np.random.default_rng(case.seed).permutation(60_000)[: case.rows])
    inputs = digits.train_inputs[rows]
    planted = flip_classes(digits.train_labels[rows], [(1, 7)], rate=case.rate, seed=case.seed)
    model, _ = fit(case, inputs, planted.labels)
    about = {"model": case.name, "rows": case.rows, "parameters": model.num_params}
    trained = Trained(model, digits, inputs, planted)
    own = [about | own_run(trained, kinds) for kinds in INTERVENTIONS]
    yield from own
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "case.npz", **_arrays(trained))
        for call in calls(case.name):
            found = peer_run(Path(folder) / "case.npz", python, call)
            yield about | judged(found, own[0], planted.corrupted)


def own_run(
    trained: Trained, interventions: list[rainpp.Delete | rainpp.Relabel]
) -> dict[str, Any]:
    """From nothing to the first ranking; then complaints about the counts of the other digits."""
    jax.clear_caches()  # as in a process that has compiled nothing
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        index = rainpp.precompute(
            trained.model,
            trained.inputs,
            trained.planted.labels,
            interventions=interventions,
            path=Path(folder) / "mnist.rain",
        )
        built = time.perf_counter()
        database = _open(trained.digits, trained.model, index)
        opened = time.perf_counter()
        ranking = database.sql(QUERY.format(digit=1)).complain("n", should="increase").rank()
        ranking.top(100)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        deletions = ranking.scores[: ranking.interventions.num_rows]
        others = [database.sql(QUERY.format(digit=digit)) for digit in (7, 0, 2, 3, 4, 5, 6, 8, 9)]
        return {
            "library": "rainpp",
            "versions": [f"rainpp {rainpp.__version__}"],
            "method": " and ".join(f"{type(kind).__name__}()" for kind in interventions),
            "interventions": len(ranking),
            "k": index.k,
            "offline_seconds": round(opened - began, 2),
            "index_seconds": round(built - began, 2),
            "first_seconds": round(ended - opened, 4),
            "second_seconds": round(statistics.median(map(_complain, others)), 5),
            "cores": round(cpu / (ended - began), 2),
            "auc_r": round(rainpp.metrics.auc_r(deletions, trained.planted.corrupted), 4),
        }


def peer_run(
    case: Path, python: Path, call: PeerCall, *, limit: float | None = None
) -> dict[str, Any]:
    """One method of a peer in its own process, ended when the time is over.

    Parameters
    ----------
    limit : seconds; `LIMIT_SECONDS` by default.

    Returns
    -------
    Its scores, the seconds of the stages that ended, memory, and the bytes it left on disk; without
    `first_seconds` there are no scores.
    """
    script = SCRIPTS / f"{call.library}_scores.py"
    found: dict[str, Any] = {"library": call.library, "method": str(call), "script": script.name}
    # A folder of its own: some libraries keep what they computed beside their results.
    with tempfile.TemporaryDirectory(dir=case.parent) as folder:
        out = Path(folder) / "out.npz"
        command = [str(python), str(script), str(case), str(out), *str(call).split()]
        _run(command, LIMIT_SECONDS if limit is None else limit)
        if not out.exists():
            return found
        with np.load(out) as archive:
            measured = {name: archive[name] for name in archive.files}
        out.unlink()
        kept = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    found |= {"scores": measured.pop("scores"), "versions": measured.pop("versions").tolist()}
    found |= {"disk_mb": round(kept / 1e6, 2)}
    return found | {name: np.round(value, 5).tolist() for name, value in measured.items()}


def _run(command: list[str], limit: float) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
    try:
        subprocess.run(
            command,
            check=True,
            timeout=limit,
            env=os.environ | threads,
            stderr=subprocess.PIPE,
        )
    except subprocess.CalledProcessError as error:
        print(error.stderr.decode()[-2000:])
        raise
    except subprocess.TimeoutExpired:
        print(f"ended after {limit} s: {' '.join(command[1:])}", flush=True)


def judged(found: dict[str, Any], own: dict[str, Any], corrupted: np.ndarray) -> dict[str, Any]:
    """A peer's run with AUC_R in the place of its scores, and its times as multiples of ours.

    The libraries' signs differ from ours and from each other: the better of the two is counted.
    """
    record = {name: value for name, value in found.items() if name != "scores"}
    if "first_seconds" not in found:
        return record
    auc = max(rainpp.metrics.auc_r(sign * found["scores"], corrupted) for sign in (1, -1))
    ours = own["offline_seconds"] + own["first_seconds"]
    record["auc_r"] = round(auc, 4)
    record["times_from_nothing"] = round(
        (found["offline_seconds"] + found["first_seconds"]) / ours, 2
    )
    for stage in ("first", "second"):
        if f"{stage}_seconds" in found:
            record[f"times_{stage}"] = round(found[f"{stage}_seconds"] / own["second_seconds"])
    return record


def _complain(result: Any) -> float:
    began = time.perf_counter()
    result.complain("n", should="decrease").rank().top(100)
    return time.perf_counter() - began


def _open(digits: data.Dataset, model: rainpp.Model, index: rainpp.Index) -> rainpp.Database:
    """The 10 000 test images as a table, materialised."""
    connection = duckdb.connect()
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(digits.test_inputs.ravel()), 784)
    connection.register("pixels", pa.table({"image": pixels}))
    connection.execute("CREATE TABLE digits AS SELECT image FROM pixels")
    connection.unregister("pixels")
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    database.materialize("predict", table="digits", args=["image"])
    return database


def _arrays(trained: Trained) -> dict[str, Any]:
    params = {name: np.asarray(leaf) for name, leaf in dict(trained.model.params).items()}
    if "weights" in params:
        params = {f"{name}0": leaf for name, leaf in params.items()}
    return params | {
        "inputs": trained.inputs,
        "labels": trained.planted.labels,
        "asked": trained.digits.test_inputs,
        "counted": np.array([1, 7]),
        "l2": train.L2,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="Interpreter with the peers.")
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp"])
    parser.add_argument("--quick", action="store_true", help="2 000 rows; nothing is saved.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
