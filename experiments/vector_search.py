"""Top 100 of very many interventions: score them all, the longest rows alone, or FAISS cells.

Synthetic projections with the spectrum and the lengths of 600 000 interventions of MNIST logistic
regression (k = 20): eigenvalues fall from 1.6 to 0.08, lengths of the rows have its quantiles, and
directions gather around 90 centres, as pairs of labels do. Complaints are sums of the gradients of
20, 256 or 3 000 rows. Rows of one length are searched as well: there lengths say nothing.

    python -m experiments.vector_search [--rows 1000000 10000000] [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from experiments import results
from rainpp.index.ann import Approximate, Ordered, Table
from rainpp.index.score import Projections, Streamed
from rainpp.index.storage import store_projections

K, TOP, COMPLAINTS = 20, 100, 20
CENTRES, NOISE = 90, 0.5
PROBES = (16, 64, 256)
# Quantiles of |plausibility · projection / √λ| over the 600 000 interventions.
_SHARES = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)
_LENGTHS = (1e-12, 1.7e-10, 1.1e-6, 3.0e-3, 0.77, 8.7, 31.0)
_BLOCK = 1 << 18


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--quick", action="store_true", help="100 000 rows")
    arguments = parser.parse_args()
    sizes = [100_000] if arguments.quick else arguments.rows
    runs: list[dict[str, Any]] = []
    for size in sizes:
        for lengths in ("as measured", "all one"):
            if lengths == "all one" and size != sizes[0]:
                continue
            for run in search(size, lengths):
                print(run, flush=True)
                runs.append(run)
    settings = {"k": K, "top": TOP, "complaints": COMPLAINTS, "faiss": version("faiss-cpu")}
    command = "python -m experiments.vector_search"
    if arguments.quick:
        return
    print(results.save("vector_search", command=command, settings=settings, runs=runs))


def search(size: int, lengths: str) -> list[dict[str, Any]]:
    """Every method on one table; recall is against scores in 64 bits."""
    table = synthetic(size, lengths)
    vectors = complaints(table)
    exact = [_exact(table, vector) for vector in vectors]
    about = {"rows": size, "lengths": lengths}
    runs = [about | run for run in _scanning(table, vectors, exact)]
    runs.append(about | _longest(table, vectors, exact))
    return runs + [about | run for run in _cells(table, vectors, exact)]


def _longest(table: Table, vectors: list[np.ndarray], exact: list[np.ndarray]) -> dict[str, Any]:
    began = time.process_time()
    ordered, seconds = Ordered.of(table), time.process_time() - began
    read: list[int] = []

    def find(vector: np.ndarray) -> np.ndarray:
        best, rows = ordered.search(vector, TOP)
        read.append(rows)
        return best.positions

    record = measured(find, vectors, exact)
    return {
        "method": "longest rows, exact",
        "build_cpu_s": round(seconds, 2),
        "bytes": ordered.rows.nbytes + ordered.norms.nbytes + ordered.positions.nbytes,
        "rows_read": round(float(np.median(read)) / len(table), 4),
    } | record


def _scanning(
    table: Table, vectors: list[np.ndarray], exact: list[np.ndarray]
) -> list[dict[str, Any]]:
    """All rows, in memory and from files; the whole way a user goes without a search structure."""
    runs: list[dict[str, Any]] = []
    full: dict[str, Any] = {
        "projections": table.projections.values,
        "plausibility": table.plausibility,
    }
    for storage in ("float32", "float16", "int8"):
        began = time.process_time()
        stored = store_projections(full, storage, table.eigenvalues, seed=0)
        seconds = time.process_time() - began
        compact = Projections.of(stored.arrays)  # pyright: ignore[reportArgumentType] - in memory
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "values.npy", compact.values)
            mapped = np.load(Path(folder) / "values.npy", "r")
            placed = Projections(mapped, compact.columns, compact.rows)
            record = measured(lambda v, t=placed: _scan(table, t, v), vectors, exact)
        extra = 0 if compact.rows is None else compact.rows.nbytes
        notes = stored.notes.get("storage", {})
        runs.append(
            {"method": f"all rows, {storage}", "build_cpu_s": round(seconds, 2)}
            | {"bytes": compact.values.nbytes + extra}
            | {name: round(notes[name], 6) for name in ("agreement", "shared_top") if notes}
            | record
        )
    return runs


def _cells(
    table: Table, vectors: list[np.ndarray], exact: list[np.ndarray]
) -> list[dict[str, Any]]:
    import faiss  # pyright: ignore[reportMissingImports]

    began = time.process_time()
    # A fixed number: with 4·√N cells the centroids of 10 M rows took most of the time.
    cells = Approximate.of(table, num_cells=1024)
    seconds = time.process_time() - began
    size = int(faiss.serialize_index(cells.cells).nbytes)
    return [
        {"method": f"FAISS, {probes} of 1 024 cells", "build_cpu_s": round(seconds, 2)}
        | {"bytes": size}
        | measured(lambda v, p=probes: cells.search(v, TOP, num_probes=p).positions, vectors, exact)
        for probes in PROBES
    ]


def measured(
    find: Callable[[np.ndarray], np.ndarray], vectors: list[np.ndarray], exact: list[np.ndarray]
) -> dict[str, Any]:
    """Recall and time of one method; processor time too, for a machine that is not alone."""
    find(vectors[0])
    wall: list[float] = []
    processor: list[float] = []
    recalls: list[float] = []
    for vector, expected in zip(vectors, exact, strict=True):
        began, used = time.perf_counter(), time.process_time()
        found = find(vector)
        processor.append(time.process_time() - used)
        wall.append(time.perf_counter() - began)
        recalls.append(len(np.intersect1d(found, expected)) / TOP)
    return {
        "recall": round(float(np.mean(recalls)), 4),
        "worst_recall": round(min(recalls), 4),
        "cpu_ms": round(float(np.median(processor)) * 1e3, 3),
    } | results.milliseconds(wall)


def synthetic(size: int, lengths: str) -> Table:
    """A table whose rows y have the measured lengths; plausibility is part of these."""
    rng = np.random.default_rng(0)
    eigenvalues = np.geomspace(1.6, 0.08, K)
    centres = rng.normal(size=(CENTRES, K)).astype(np.float32)
    values = np.empty((size, K), np.float32)
    for start in range(0, size, _BLOCK):
        count = min(_BLOCK, size - start)
        part = centres[rng.integers(0, CENTRES, count)]
        part = part + NOISE * rng.standard_normal((count, K), dtype=np.float32)
        part /= np.linalg.norm(part, axis=1)[:, None]
        if lengths == "as measured":
            shares = rng.random(count)
            part *= np.exp(np.interp(shares, _SHARES, np.log(_LENGTHS)))[:, None]
        values[start : start + count] = part * np.sqrt(eigenvalues)
    return Table(Projections(values), np.ones(size, np.float32), eigenvalues, size)


def complaints(table: Table) -> list[np.ndarray]:
    """Vectors as a database would send them."""
    rng = np.random.default_rng(1)
    sizes = [(20, 256, 3000)[i % 3] for i in range(COMPLAINTS)]
    chosen = [rng.choice(len(table), size, replace=False) for size in sizes]
    return [table.projections.picked(rows).astype(np.float64).sum(axis=0) for rows in chosen]


def _exact(table: Table, vector: np.ndarray) -> np.ndarray:
    direction = vector / table.eigenvalues / table.num_train
    return _best(table.projections, table.plausibility, direction.astype(np.float64))


def _scan(table: Table, projections: Projections, vector: np.ndarray) -> np.ndarray:
    direction = vector / table.eigenvalues / table.num_train
    return _best(projections, table.plausibility, direction.astype(np.float32))


def _best(projections: Projections, plausibility: np.ndarray, direction: np.ndarray) -> np.ndarray:
    best = Streamed(projections, plausibility, TOP) @ direction
    return best.positions


if __name__ == "__main__":
    main()
