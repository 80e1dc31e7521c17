"""What Spark's workers load in tests: found in files, as a user's would be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import rainpp

FOLDER = "RAINPP_TESTED_MODEL"


def linear(params, inputs):
    return inputs @ params["w"] + params["b"][None, :]


def save(known, folder: Path) -> rainpp.Model:
    """Write the parameters and an index of a small trained model."""
    params = {name: np.asarray(value) for name, value in known.model.params.items()}
    np.savez(folder / "params.npz", **params)
    rainpp.precompute(
        model_in(folder),
        known.problem.inputs,
        known.problem.labels,
        k=6,
        interventions=[rainpp.Delete(), rainpp.Relabel()],
        path=folder / "index",
    )


def model_in(folder: Path) -> rainpp.Model:
    return rainpp.Model(linear, dict(np.load(folder / "params.npz")), l2=1e-2)


def load():
    """(model, index)."""
    return load_from(os.environ[FOLDER])


def load_from(folder: str):
    return model_in(Path(folder)), rainpp.load(Path(folder) / "index")


def broken():
    raise OSError("the disk is gone")


def forgetful():
    return load()[0]


def other():
    model, index = load()
    changed = {name: value + 1e-3 for name, value in model.params.items()}
    return model.with_params(changed), index
