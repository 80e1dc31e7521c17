"""Rows a second over HTTP: Arrow batches into `rainpp watch`, a client and a server on one machine.

A digits model of 64 inputs, a windowed count by source, state on disk. The server is a process of
its own, as a user runs it; the client sends bodies that were made before the clock starts, one
request after the other on one connection. Each request is one durable transaction.

    python -m experiments.push [--rows 1000 10000] [--batches 100]
"""

from __future__ import annotations

import argparse
import io
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import rainpp
from experiments import results
from rainpp.demo.digits import load_images, plant_errors
from rainpp.demo.training import L2, apply, make_fit

TOKEN = "measured, not guessed"
FACTORY = """
import rainpp
from rainpp.demo.training import L2, apply

def model(checkpoint_path):
    return rainpp.Model(apply, rainpp.load_checkpoint(checkpoint_path), l2=L2)
"""
TOML = f"""
state = "push.duckdb"
[model]
factory = "rainpp_push:model"
checkpoint = "model.npz"
[index]
path = "digits.rain"
[[monitor]]
name = "ones"
sql = "SELECT source, count(*) AS n FROM scans WHERE predict(image) = 1 GROUP BY source"
schema = {{ id = "BIGINT", at = "TIMESTAMP", source = "VARCHAR", image = "FLOAT[64]" }}
time = "at"
id = "id"
window = "1m"
retention = "1d"
[[source]]
type = "http"
name = "scans"
[server]
port = 0
token = "{TOKEN}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--batches", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = prepare(folder)
        runs: list[dict[str, Any]] = []
        for rows in asked.rows:
            runs.append(measure(folder, images, rows, asked.batches))
            print(runs[-1], flush=True)
    settings = {"pixels": 64, "connections": 1}
    print(results.save("push", command="python -m experiments.push", settings=settings, runs=runs))


def prepare(folder: Path) -> np.ndarray:
    """Write the model, its index and watch.toml; images to send."""
    data = plant_errors(*load_images(), seed=0)
    params = make_fit()(data.inputs, data.labels)
    rainpp.save_checkpoint(params, folder / "model.npz")
    model = rainpp.Model(apply, params, l2=L2)
    rainpp.precompute(model, data.inputs, data.labels, path=folder / "digits.rain")
    (folder / "rainpp_push.py").write_text(FACTORY)
    (folder / "watch.toml").write_text(TOML)
    return data.table_inputs


def measure(folder: Path, images: np.ndarray, rows: int, batches: int) -> dict[str, Any]:
    """Rows a second, and milliseconds of a request, after ten that warm it up."""
    import httpx

    for old in folder.glob("push.duckdb*"):
        old.unlink()
    bodies = [body(images, rows, number) for number in range(batches + 10)]
    server = subprocess.Popen(
        [sys.executable, "-m", "rainpp.cli", "watch", "watch.toml"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "listening at" in line)
        took: list[float] = []
        with httpx.Client(base_url=line.split()[-1], timeout=60) as http:
            for number, content in enumerate(bodies):
                start = time.perf_counter()
                answer = http.post(
                    "/push/scans",
                    params={"offset": number},
                    content=content,
                    headers={
                        "Authorization": f"Bearer {TOKEN}",
                        "Content-Type": "application/vnd.apache.arrow.stream",
                    },
                )
                took.append(time.perf_counter() - start)
                assert answer.json()["monitors"]["ones"]["rows"] == rows, answer.text
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    warm = took[10:]
    return {
        "rows_in_a_request": rows,
        "requests": batches,
        "rows_per_second": round(rows * batches / sum(warm)),
        "bytes_in_a_request": len(bodies[0]),
        **results.milliseconds(warm),
    }


def body(images: np.ndarray, rows: int, number: int) -> bytes:
    """One request: images drawn anew, a second of event time."""
    rng = np.random.default_rng(number)
    chosen = images[rng.integers(0, len(images), rows)].astype(np.float32)
    start = np.datetime64("2026-01-01T00:00:00", "us") + np.timedelta64(number, "s")
    table = pa.table(
        {
            "id": np.arange(rows) + rows * number,
            "at": start + rng.integers(0, 10**6, rows).astype("timedelta64[us]"),
            "source": np.array(["north", "south", "west"])[rng.integers(0, 3, rows)],
            "image": pa.FixedSizeListArray.from_arrays(pa.array(chosen.reshape(-1)), 64),
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


if __name__ == "__main__":
    main()
