"""Several processes that build one index: how they join, and how all hear what one of them knows.

Only the first process reads and writes at the path of an index. What it finds there, and what the
disk refuses, is told to the others, so that all take the same way and none waits for the dead.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from rainpp import errors
from rainpp.errors import ArtifactError, RainError, SettingsError, named, one_line

_ADDRESS = "JAX_COORDINATOR_ADDRESS"
# How many processes there are and which one this is: our own words, Open MPI's, MPICH's, Slurm's.
_COUNTS = ("JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
_PLACES = ("JAX_PROCESS_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
# Seconds without a sign of life after which JAX ends a run. At its default of 100 a process whose
# peer was killed stayed for 75 s, and with it the port that the next run wants.
_HEARTBEAT = 30
# Bytes of a message that is sent in one piece; of an array, of which every piece is one shape.
_SHORT, _PIECE = 1 << 10, 1 << 24
_LENGTH = 8
# What gloo says once a process at the other end is gone.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


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
        given = address and count and place
        jax.distributed.initialize(
            address if given else None,
            int(count) if count and given else None,
            int(place) if place and given else None,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
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


def from_first(make: Callable[[], Any]) -> Any:
    """What `make` says in the first process, plain numbers and words, in all of them.

    Only there it is called. Every process has to come here, in the same order.

    Raises
    ------
    RainError : what `make` raised, in every process.
    """
    if not several_processes():
        return make()
    problem: Exception | None = None
    answer = ""
    if first_process():
        try:
            answer = json.dumps({"value": make()}, default=_plain)
        except Exception as caught:  # noqa: BLE001 - raised below, once nobody waits for it
            problem = caught
            answer = json.dumps({"error": type(caught).__name__, "says": str(caught)})
    heard = json.loads(_sent(answer.encode()))
    if problem is not None:
        raise problem
    if "error" in heard:
        raise _same(heard["error"], heard["says"])
    return heard["value"]


def _same(name: str, message: str) -> RainError:
    """An error of the first process for the others."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, RainError):
        return kind(message)
    return ArtifactError(f"the first process of this run failed: {name}: {message}")


def array_from_first(
    array: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype, *, keep: bool = True
) -> np.ndarray:
    """An array of the first process in all of them, to the last bit; it may be a memory map.

    Parameters
    ----------
    array : in the first process.
    keep : whether this process wants it; it takes part in any case, and gets nothing then.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    source = None if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    wanted = np.empty(size if keep and source is None else 0, np.uint8)
    for start in range(0, size, _PIECE):
        where = slice(start, min(start + _PIECE, size))
        piece = np.zeros(min(_PIECE, size), np.uint8)
        if source is not None:
            piece[: where.stop - start] = source[where]
        heard = multihost_utils.broadcast_one_to_all(piece)
        if wanted.size:
            wanted[where] = heard[: where.stop - start]
    if array is not None:
        return array
    return wanted.view(dtype).reshape(shape if keep else (0,))


def anywhere(flag: bool) -> bool:
    """Whether `flag` holds in some process."""
    return bool(multihost_utils.process_allgather(np.asarray(flag, np.uint8)).any())


def check_same(request: Mapping[str, Any]) -> None:
    """Refuse processes that were started for different things: they would wait for each other.

    Raises
    ------
    SettingsError : some process has another request.
    """
    if not several_processes():
        return
    digest = hashlib.sha256(json.dumps(dict(request), sort_keys=True).encode()).digest()
    found = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    other = np.flatnonzero((found != found[0]).any(axis=1))
    if other.size:
        raise SettingsError(
            f"process {other[0]} of this run has another model, other rows, settings or versions "
            "than process 0: start all of them with the same command and the same files."
        )


def lost(problem: BaseException) -> bool:
    """Whether an error says that another process of this run is gone."""
    return several_processes() and any(word in named(problem) for word in _LOST)


def _sent(message: bytes) -> bytes:
    """The first process's message, in all; the usual short one in a single broadcast."""
    block = np.zeros(_SHORT, np.uint8)
    head = len(message).to_bytes(_LENGTH, "little") + message[: _SHORT - _LENGTH]
    block[: len(head)] = np.frombuffer(head, np.uint8)
    heard = multihost_utils.broadcast_one_to_all(block).tobytes()
    length = int.from_bytes(heard[:_LENGTH], "little")
    if length <= _SHORT - _LENGTH:
        return heard[_LENGTH : _LENGTH + length]
    # Padded to a power of two: every shape is compiled once.
    rest = np.zeros(1 << (length - 1).bit_length(), np.uint8)
    rest[: len(message)] = np.frombuffer(message, np.uint8)
    return multihost_utils.broadcast_one_to_all(rest).tobytes()[:length]


def _plain(value: Any) -> Any:
    return value.item()  # a NumPy number
