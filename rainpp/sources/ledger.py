"""Which file of a directory has which number: offsets rest on it, whatever is deleted later."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rainpp.errors import ArtifactError, SettingsError


class Ledger:
    """Files in the order in which they are taken, numbered from 0, and their sizes at the end.

    Written before the first row of a file is taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.sizes: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._load(path)

    def number(self, name: str) -> int | None:
        """The number of a file, None if it has none yet."""
        return self._known.get(name)

    def begin(self, name: str) -> int:
        """Give the next file its number.

        Raises
        ------
        ArtifactError : the disk refuses.
        """
        self._write({"file": name})
        return self._add(name)

    def finish(self, name: str, size: int) -> None:
        """Write down how large a file was when all of it had been taken.

        Raises
        ------
        ArtifactError : the disk refuses.
        """
        if self.sizes.get(name) != size:
            self._write({"file": name, "size": size})
            self.sizes[name] = size

    def _add(self, name: str) -> int:
        self._known[name] = len(self.names)
        self.names.append(name)
        return self._known[name]

    def _load(self, path: Path) -> None:
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as problem:
            raise SettingsError(f"cannot read `{path}`: {problem.strerror or problem}.") from None
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                body = json.loads(line)
                name = str(body["file"])
            except (ValueError, TypeError, KeyError):
                raise ArtifactError(
                    f"`{path}` is damaged: {line[:80]!r} names no file. It says how far the files "
                    "were taken; restore it, or begin with a new state file."
                ) from None
            if "size" in body:
                self.sizes[name] = int(body["size"])
            elif name not in self._known:
                self._add(name)
        if len(whole) < len(content):  # cut off by a crash, before anything of the file was taken
            os.truncate(path, len(whole))

    def _write(self, body: dict[str, str | int]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(f"{json.dumps(body)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise ArtifactError(
                f"cannot write to `{self.path}`: {problem.strerror or problem}."
            ) from None
