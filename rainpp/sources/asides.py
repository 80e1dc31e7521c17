"""Records that could not be taken in: listed in a file with their offsets, never dropped."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rainpp.errors import ArtifactError, SettingsError

# Of a record that is written down; the source has the rest.
_LONGEST = 10_000
# Kept in memory where there is no file.
_MOST = 10_000


@dataclass(frozen=True)
class Aside:
    r"""One record that was not taken in.

    Attributes
    ----------
    source, offset : which.
    reason : what is wrong with it.
    record : its text, cut off after 10,000 characters; bytes that are no text as \xNN.
    monitor : which monitor refused it; None if it cannot be read at all.
    """

    source: str
    offset: int
    reason: str
    record: str
    monitor: str | None = None


class Asides:
    """The list of such records, in a JSONL file or in memory.

    A record is written before its offset is: after a crash it may be written again, and is read
    once.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int, str | None], Aside] = {}
        if self.path is not None:
            for aside in _read(self.path):
                self._note(aside)

    def add(self, aside: Aside) -> bool:
        """Write a record down; whether it was new.

        Raises
        ------
        ArtifactError : the disk refuses.
        """
        with self._lock:
            if _key(aside) in self._known:
                return False
            if self.path is not None:
                _append(self.path, asdict(aside))
            self._note(aside)
            return True

    def read(self) -> list[Aside]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._known.values()) if self.path is None else _unique(_read(self.path))

    def _note(self, aside: Aside) -> None:
        self._known[_key(aside)] = aside
        self.counts[aside.source] += 1
        if len(self._known) > _MOST:
            self._known.pop(next(iter(self._known)))


def shown(record: bytes | str) -> str:
    """A record as text that can be written down."""
    if isinstance(record, bytes):
        record = record[: 4 * _LONGEST].decode("utf-8", errors="backslashreplace")
    return record[:_LONGEST]


def _key(aside: Aside) -> tuple[str, int, str | None]:
    return aside.source, aside.offset, aside.monitor


def _unique(found: list[Aside]) -> list[Aside]:
    return list({_key(aside): aside for aside in found}.values())


def _read(path: Path) -> list[Aside]:
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as problem:
        raise SettingsError(f"cannot read `{path}`: {problem.strerror or problem}.") from None
    found: list[Aside] = []
    for line in lines:
        try:
            found.append(Aside(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # cut off by a crash, before the offset was written: it came again
    return found


def _append(path: Path, body: Mapping[str, Any]) -> None:
    """One more line, on disk when this returns."""
    text = json.dumps(body, ensure_ascii=True)
    try:
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                text = text if file.read(1) == b"\n" else f"\n{text}"
            file.write(f"{text}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise ArtifactError(
            f"cannot write to `{path}`: {problem.strerror or problem}; nothing was set aside."
        ) from None
