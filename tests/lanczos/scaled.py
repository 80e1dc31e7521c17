"""A run of the offline stage in a process of its own: `python scaled.py OUT [PORT ID COUNT]`."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path


def problem():
    """1003 rows, which no number of devices divides, and a net of two layers."""
    import jax.numpy as jnp
    import numpy as np

    from rainpp.model import Model

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(1003, 12)).astype(np.float32)
    labels = np.argmax(inputs[:, :4] + rng.normal(size=(1003, 4)), axis=1)
    params = {
        "a": rng.normal(size=(12, 20)).astype(np.float32) * 0.3,
        "b": rng.normal(size=(20, 4)).astype(np.float32) * 0.3,
    }
    model = Model(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, l2=0.1)
    return model, inputs, labels, rng.uniform(0.5, 2.0, 1003)


def main(out, *peers):
    import jax

    import rainpp
    from rainpp.index.together import join_processes

    if peers:
        port, own, count = peers
        os.environ |= {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "OMPI_COMM_WORLD_SIZE": count,  # as mpirun sets them
            "OMPI_COMM_WORLD_RANK": own,
        }
        join_processes()
    warnings.simplefilter("ignore")
    model, inputs, labels, weights = problem()
    for name, rows in (("all", "all"), ("auto", "auto")):
        rainpp.precompute(
            model,
            inputs,
            labels,
            k=3,
            weights=weights,
            curvature_rows=rows,
            memory="1GB",
            path=Path(out) / f"{name}.rain",
        )
    sys.stdout.write(f"{jax.device_count()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
