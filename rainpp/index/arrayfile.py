"""A .npy file of known size whose rows are written in any order, and nowhere held in memory."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The header of such an array's .npy file: compared, never parsed, so that none misleads us."""
    stream = io.BytesIO()
    about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


@dataclass(frozen=True, eq=False)
class Finished:
    """A .npy file that is complete: it can become a file of an index without another copy."""

    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]


class ArrayFile:
    """An array on disk that is being filled.

    Its space is reserved at once, so that a full disk is found before the work and not after it.
    Rows go out by `pwrite`: on a memory map a full disk would be a SIGBUS, and pages written would
    count as memory of the process.

    Parameters
    ----------
    fresh : whether to start anew; otherwise the file is there and of the right size.

    Raises
    ------
    OSError : the disk refuses.
    """

    def __init__(self, file: Path, dtype: np.dtype, shape: tuple[int, ...], *, fresh: bool) -> None:
        self.finished = Finished(file, dtype, shape)
        header = npy_header(dtype, shape)
        self._offset = len(header)
        self._row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        mode = os.O_TRUNC if fresh else 0
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | mode, 0o666)
        if not fresh:
            return
        try:
            _reserve(self._handle, self._offset + shape[0] * self._row_bytes)
            write_at(self._handle, header, 0)
        except BaseException:
            self.close()
            file.unlink()  # what it did get of the disk
            raise

    def put(self, start: int, rows: np.ndarray) -> None:
        """Write `rows` from row `start` on."""
        found = np.ascontiguousarray(rows, self.finished.dtype)
        if found.size:
            write_at(
                self._handle, found.view(np.uint8).data, self._offset + start * self._row_bytes
            )

    def sync(self) -> None:
        """Return when everything written is on the disk."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


def write_at(handle: int, content: bytes | memoryview, offset: int) -> None:
    """All of `content` from byte `offset` on: one `pwrite` may write only a part.

    Raises
    ------
    OSError : the disk refuses.
    """
    rest = memoryview(content).cast("B")
    while rest:
        written = os.pwrite(handle, rest, offset)
        rest, offset = rest[written:], offset + written


def _reserve(handle: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:  # macOS: the file has its size but not its space
        os.ftruncate(handle, size)
