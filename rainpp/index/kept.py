"""What an unfinished build keeps on disk: Lanczos runs and projections."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.errors import ArtifactError
from rainpp.index.arrayfile import ArrayFile, Finished, write_at
from rainpp.index.projecting import Rows
from rainpp.index.store import replace_file
from rainpp.lanczos.krylov import Krylov

# Seconds between two saves: a sync of 30 vectors of 270 000 numbers takes about as long as one
# product of a small model, so saving each would double its time. What is killed loses this much.
EVERY_SECONDS = 2.0

Writing = Callable[[], contextlib.AbstractContextManager[None]]


class KeptRun:
    """Remembers one Lanczos run: rows are only ever appended, then a small file says how many.

    Parameters
    ----------
    folder, name : the files are <name>.rows and <name>.json.
    writing : a context that turns an OSError into a clear error.
    """

    def __init__(self, folder: Path, name: str, writing: Writing) -> None:
        self._rows, self._about = folder / f"{name}.rows", folder / f"{name}.json"
        self._writing = writing
        self._kept = 0
        self._pending: tuple[Krylov, dict[str, Any], int] | None = None
        self._saved_at = time.monotonic()

    def restore(self, krylov: Krylov) -> None:
        """Bring a new run to where the remembered one was, if there is one."""
        state = self.known(krylov)
        if state is not None:
            krylov.restore(state, self.rows(krylov))

    def known(self, krylov: Krylov) -> dict[str, Any] | None:
        """The remembered state of a run like this one, None if there is none; goes on from it."""
        about = read_json(self._about)
        if about is None or about["dimension"] != krylov.dimension:
            return None
        if about["dtype"] != krylov.dtype.name or not self._rows.exists():
            return None
        row = krylov.dtype.itemsize * krylov.dimension
        if self._rows.stat().st_size < (about["size"] + 1) * row:
            return None
        self._kept = about["size"]
        return about["state"]

    def rows(self, krylov: Krylov) -> np.ndarray:
        """Rows of the basis, then the next vector, of the state that is `known`."""
        return np.memmap(self._rows, krylov.dtype, "r", 0, (self._kept + 1, krylov.dimension))

    def save(self, krylov: Krylov) -> None:
        """Called after every product; writes at most every few seconds."""
        self._pending = krylov, krylov.state(), krylov.size
        if time.monotonic() - self._saved_at >= EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written. Also right when the next step was cut short.

        Rows up to the size that was saved are those of that moment: a step appends what was the
        next vector before it computes another.
        """
        if self._pending is None:
            return
        krylov, state, size = self._pending
        with self._writing():
            self._append(krylov.rows(self._kept)[: size + 1 - self._kept])
            about = {"dimension": krylov.dimension, "dtype": krylov.dtype.name}
            write_json(self._about, {**about, "size": size, "state": state})
        # The last row is the next vector: it is written again, with the same bytes, as a row.
        self._kept, self._pending, self._saved_at = size, None, time.monotonic()

    def _append(self, rows: np.ndarray) -> None:
        content = np.ascontiguousarray(rows)
        handle = os.open(self._rows, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            width = content.dtype.itemsize * content.shape[1]
            write_at(handle, content.view(np.uint8).data, self._kept * width)
            os.fsync(handle)
        finally:
            os.close(handle)


class KeptProjections:
    """Projections on disk, and how many training rows are safely there.

    Parameters
    ----------
    vectors : SHA-256 of the vectors that rows are projected on; rows on others are not used.
    """

    def __init__(self, folder: Path, vectors: str, writing: Writing) -> None:
        self._folder, self._writing = folder, writing
        self._about, self._vectors = folder / "projections.json", vectors
        self._arrays: dict[str, ArrayFile] = {}
        self._saved_at = time.monotonic()
        self._known: dict[str, Any] = {}
        self.done, self.alive = 0, False
        kept = read_json(self._about)
        if kept is None or kept["vectors"] != vectors:
            return
        if all((folder / f"{name}.npy").exists() for name in kept["arrays"]):
            self.done, self.alive, self._known = kept["rows"], kept["alive"], kept["arrays"]

    def array(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Rows:
        """The array of this name, as far as it has been filled."""
        about = {"dtype": dtype.str, "shape": [*shape]}
        if name not in self._arrays:
            fresh = self._known.get(name) != about
            if fresh and self.done:
                raise ArtifactError(
                    f"the unfinished work in `{self._folder}` is of another shape or type than "
                    "what is built now; delete that folder."
                )
            with self._writing():
                file = self._folder / f"{name}.npy"
                self._arrays[name] = ArrayFile(file, dtype, shape, fresh=fresh)
            self._known[name] = about
        return _Guarded(self._arrays[name], self._writing)

    def commit(self, rows: int, *, alive: bool, last: bool) -> None:
        """The first `rows` training rows have been put; remembered every few seconds."""
        self.done, self.alive = rows, alive
        if last or time.monotonic() - self._saved_at >= EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring what has been committed to the disk, then its count."""
        if not self._arrays:
            return
        with self._writing():
            for array in self._arrays.values():
                array.sync()
            about = {"rows": self.done, "alive": self.alive, "arrays": self._known}
            write_json(self._about, {**about, "vectors": self._vectors})
        self._saved_at = time.monotonic()

    def finished(self) -> dict[str, np.ndarray | Finished]:
        """The arrays as files."""
        return {
            name: Finished(
                self._folder / f"{name}.npy", np.dtype(about["dtype"]), tuple(about["shape"])
            )
            for name, about in self._known.items()
        }

    def close(self) -> None:
        """Let go of the files."""
        for array in self._arrays.values():
            array.close()
        self._arrays.clear()


class _Guarded:
    def __init__(self, array: ArrayFile, writing: Writing) -> None:
        self._array, self._writing = array, writing

    def put(self, start: int, rows: np.ndarray) -> None:
        with self._writing():
            self._array.put(start, rows)


def read_json(file: Path) -> Any:
    """What `write_json` wrote, None if it did not."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None


def write_json(file: Path, content: Any) -> None:
    """Write in one step; numbers come back to the last bit.

    Raises
    ------
    OSError : the disk refuses; what was there stays.
    """
    replace_file(file, json.dumps(content, default=_plain).encode())


def _plain(value: Any) -> Any:
    return value.item()  # a NumPy number
