"""Several processes that build one index: how they join, and which of them writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from rainpp.errors import SettingsError, one_line
from rainpp.index.artifact import Index, load, save

_ADDRESS = "JAX_COORDINATOR_ADDRESS"
# How many processes there are and which one this is: our own words, Open MPI's, MPICH's, Slurm's.
_COUNTS = ("JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
_PLACES = ("JAX_PROCESS_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")


def join_processes() -> None:
    """Make this process one of those that a launcher started together, before JAX is used.

    With JAX_COORDINATOR_ADDRESS (host:port of process 0) in the environment, the launcher's own
    variables say which process this is, or JAX_NUM_PROCESSES and JAX_PROCESS_ID do. Without it
    JAX finds the others itself, as it can under Slurm.

    Raises
    ------
    SettingsError : nothing says how many processes there are, or they do not find each other.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address, count, place = os.environ.get(_ADDRESS), _first(_COUNTS), _first(_PLACES)
    try:
        if address and count and place:
            jax.distributed.initialize(address, int(count), int(place))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as problem:
        raise SettingsError(
            "the processes of this run do not find each other: "
            f"{one_line(problem).rstrip('.')}. Start them with srun or mpirun, and set "
            f"{_ADDRESS} to host:port of the first; elsewhere also {_COUNTS[0]} and {_PLACES[0]}."
        ) from problem


def _first(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


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
