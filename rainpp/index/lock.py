"""One writer at a time: a lock on the directory of an index, gone when its holder dies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rainpp.errors import ArtifactError

if sys.platform != "win32":  # there, nothing keeps two writers apart
    import fcntl

NAME = ".lock"
_AGAIN_SECONDS = 0.1


@contextmanager
def locked(path: Path, *, wait_seconds: float = 0.0) -> Generator[None]:
    """Be the only process that writes to the index at `path`; reading needs no lock.

    The directory is made if it is not there. The system frees the lock when the process ends,
    however it ends; the file `.lock` that a killed process leaves says nothing by being there.

    Parameters
    ----------
    wait_seconds : how long to wait for another writer.

    Raises
    ------
    ArtifactError : another process, or another thread of this one, is writing there.
    """
    handle = _acquired(path, time.monotonic() + wait_seconds)
    try:
        yield
    finally:
        # Removed while it is still held: whoever opened this file meanwhile sees that it is not
        # the one at the path any more, and opens again.
        with contextlib.suppress(OSError):
            (path / NAME).unlink()
        os.close(handle)


def _acquired(path: Path, until: float) -> int:
    while True:
        handle = _open(path)
        try:
            if _take(handle):
                if _is_at(handle, path / NAME):
                    _sign(handle)
                    return handle
            elif time.monotonic() >= until:
                raise ArtifactError(
                    f"`{path}` is being written by {_holder(path)}. Wait until that has ended, or "
                    "choose another path."
                )
            else:
                time.sleep(_AGAIN_SECONDS)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(path: Path) -> int:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return os.open(path / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as problem:
        raise ArtifactError(
            f"cannot write the index `{path}`: {problem.strerror or problem}."
        ) from problem


def _take(handle: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as problem:  # a file system without locks is no reason not to work
            del problem
    return True


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Say who holds it; only another process's error message reads this."""
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(about).encode(), 0)


def _holder(path: Path) -> str:
    try:
        about: dict[str, Any] = json.loads((path / NAME).read_bytes())
        return f"process {about['pid']} on {about['host']} (since {about['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
