"""Several processes that build one index: how they join, and which of them writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from rainpp.errors import SettingsError
from rainpp.index.artifact import Index, load, save

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join_processes() -> None:
    """Make this process one of those that a launcher started together, before JAX is used.

    Slurm and Open MPI are recognised by JAX; anything else sets JAX_COORDINATOR_ADDRESS
    (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises
    ------
    SettingsError : nothing says how many processes there are, or they do not find each other.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    given = [os.environ.get(name) for name in _VARIABLES]
    try:
        if all(given):
            address, count, own = (str(value) for value in given)
            jax.distributed.initialize(address, int(count), int(own))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as problem:
        raise SettingsError(
            f"the processes of this run do not find each other: {problem}. Start them with srun "
            f"or mpirun, or set {', '.join(_VARIABLES)} for each."
        ) from problem


def several_processes() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def first_process() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def save_once(index: Index, path: Path) -> Index:
    """Write an index that all processes hold, in the first of them; the others wait for it.

    A process that cannot see the path keeps the index in memory.

    Raises
    ------
    ArtifactError : the disk refuses.
    """
    try:
        if first_process():
            return save(index, path)
    finally:
        multihost_utils.sync_global_devices("the index is written")
    return replace(load(path, verify=False), training=index.training) if path.exists() else index
