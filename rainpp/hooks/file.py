"""Events as lines of JSON at the end of a file."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rainpp.errors import SettingsError
from rainpp.hooks.hook import Ack, Event, Outcome, Replay, Retry, check_name, check_replay
from rainpp.hooks.payload import described, kind_of, plain
from rainpp.monitoring.context import Context

# The end of the file is looked at, not the file: as much as the last line needs.
_TAIL = 1 << 14
_OURS = b'{"key": "'
# Monitors may write into one file, each through a hook of its own.
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class File:
    """Appends {"key", "type", "data"} for every event, and is done when the disk has it.

    A line that is already the last one is not written twice. After a crash up to a few hundred
    events may be there again, with the same keys; a line that was cut short by it is taken away.

    Parameters
    ----------
    path : of the file; its folder must be there.
    name : under which its progress is written down; by default made of the path.
    replay : "latest" begins with what is said from now on, "all" with everything kept.

    Raises
    ------
    SettingsError : nothing can be written there.
    """

    def __init__(
        self, path: str | Path, *, name: str | None = None, replay: Replay = "latest"
    ) -> None:
        self.path = _checked(path)
        self.name = check_name(name, f"file {self.path}")
        self.replay = check_replay(replay)

    def __call__(self, event: Event, context: Context) -> Outcome:
        """Append it."""
        line = {"key": event.key, "type": kind_of(event), "data": plain(described(event, context))}
        text = json.dumps(line, ensure_ascii=False, allow_nan=False).encode(errors="replace")
        try:
            with _locks[os.path.realpath(self.path)]:
                _append(self.path, text + b"\n", event.key)
        except OSError as problem:
            return Retry(why=f"cannot write to {self.path}: {problem.strerror or problem}")
        return Ack()

    def __repr__(self) -> str:
        return f"File({str(self.path)!r})"


def _checked(path: Any) -> Path:
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise SettingsError(f"`path` is {path!r}; give the path of a file.")
    found = Path(path).absolute()
    if found.is_dir() or not found.parent.is_dir():
        raise SettingsError(f"`path` is {str(path)!r}; give a file in a folder that is there.")
    if not os.access(found if found.exists() else found.parent, os.W_OK):
        raise SettingsError(f"`path` is {str(path)!r}, which may not be written to.")
    return found


def _append(path: Path, line: bytes, key: str) -> None:
    # `r+b` and not append: a line that a crash has cut is overwritten.
    with _opened(path) as file:
        end, tail = _tail(file)
        whole, _, torn = tail.rpartition(b"\n")
        if torn and torn.startswith(_OURS[: len(torn)]):
            end -= len(torn)
        elif torn:  # somebody else's last line, without its end
            line = b"\n" + line
        elif _key(whole.rpartition(b"\n")[2]) == key:
            return
        _write(file, end, line)


def _write(file: Any, end: int, line: bytes) -> None:
    try:
        file.seek(end)
        file.truncate()
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(number, "r+b", buffering=0) as file:
        yield file


def _tail(file: Any) -> tuple[int, bytes]:
    end, size = file.seek(0, os.SEEK_END), _TAIL
    while True:
        file.seek(max(0, end - size))
        tail = file.read()
        # The end of the line before the last.
        if size >= end or b"\n" in tail[:-1]:
            return end, tail
        size *= 4


def _key(line: bytes) -> str | None:
    try:
        return json.loads(line)["key"]
    except (ValueError, KeyError, TypeError):
        return None
