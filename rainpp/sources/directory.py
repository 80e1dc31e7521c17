"""A directory of files as a source: each file in the order of names, each row once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rainpp.errors import SettingsError
from rainpp.monitoring.batch import Doing
from rainpp.sources.files import Read, Unfinished, read_lines, read_parquet
from rainpp.sources.ledger import Ledger
from rainpp.sources.parcel import Parcel, checked_kind, checked_source

_log = logging.getLogger(__name__)
# An offset is the number of a file, then 40 bits for the position in it: 8 million files of 1 TB.
_BITS = 40
_LEDGER = ".rainpp-files.jsonl"
_FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Directory:
    """Files of a directory, and those that come: a `Source`.

    Files are taken in the order of their names, so a new file must have a name after all others;
    one that has not is reported and not taken. Names that begin with "." or "_" are left alone: a
    writer may use one until a file is whole. A Parquet file is taken once it has its footer, a
    JSONL file line by line while it grows. A file that cannot be read stops the source there: it is
    reported once and tried again, so that nothing behind it is taken before. A line that cannot be
    read is set aside.

    Parameters
    ----------
    path, pattern : which files.
    name : of the source; its path by default.
    kind : what the rows are: "predictions", "feedback" or "retract".
    table : which table of the query they are for.
    format : "parquet" or "jsonl"; by the ending of `pattern` by default.
    ledger : a file in which files are numbered as they are taken, so that files may be deleted
        later; in the directory itself by default. Each state file needs its own.
    rows : taken at once.
    every : seconds between looks.

    Raises
    ------
    SettingsError : an option is wrong, or there is no such directory.
    """

    def __init__(
        self,
        path: str | Path,
        pattern: str = "*.parquet",
        *,
        name: str | None = None,
        kind: str = "predictions",
        table: str | None = None,
        format: str | None = None,
        ledger: str | Path | None = None,
        rows: int = 10_000,
        every: float = 1.0,
    ) -> None:
        self.path, self._pattern = Path(path), pattern
        self.name = checked_source(str(path) if name is None else name)
        self.pause = every
        self._kind: Doing = checked_kind(kind)
        self._table, self._rows = table, rows
        self._format = _checked_format(pattern, format)
        if "/" in pattern or not pattern:
            raise SettingsError(
                f"`pattern` is {pattern!r}; it is of names in one directory, such as '*.jsonl'."
            )
        if not self.path.is_dir():
            raise SettingsError(f"`path` is `{path}`, which is no directory.")
        if rows < 1 or not every > 0:
            raise SettingsError(f"`rows` is {rows!r} and `every` {every!r}; both are positive.")
        self._ledger = Ledger(self.path / _LEDGER if ledger is None else Path(ledger))
        self._number, self._position = 0, 0
        self._times: Collection[str] = ()
        self._reading: Iterator[Read] | None = None
        self._last = False  # whether a later file is there, so that this one has ended
        self._said: set[str] = set()
        self._sizes: dict[str, int] = {}
        self.caught_up = False
        self.problem: str | None = None

    def start(self, offsets: Mapping[str, int], times: Collection[str]) -> None:
        """Go on after the offset of this source."""
        self._times, self._reading, self._last = times, None, False
        offset = offsets.get(self.name)
        if offset is None:
            self._number = self._position = 0
            return
        self._number, self._position = offset >> _BITS, offset & (1 << _BITS) - 1
        if self._number >= len(self._ledger.names):
            raise SettingsError(
                f"`{self.name}` was read up to file number {self._number}, but only "
                f"{len(self._ledger.names)} files are known to `{self._ledger.path}`; restore it, "
                "or begin with a new state file."
            )

    def poll(self, timeout: float) -> Sequence[Parcel]:
        """The next rows, if there are any; it does not wait."""
        del timeout
        listed = self._listed()
        self._look_for_strays(listed)
        try:
            while True:
                read = self._next(listed)
                if read is not None:
                    self.caught_up, self.problem = False, None
                    return [self._parcel(read)]
                if not self._advance(listed):
                    self.caught_up, self.problem = True, None
                    return []
        except Unfinished as problem:
            self._reading = None
            self.caught_up = True
            self._stand(str(problem))
            return []

    def close(self) -> None:
        """Close the file that is being read."""
        self._reading = None

    def _listed(self) -> list[str]:
        try:
            return sorted(
                found.name
                for found in self.path.glob(self._pattern)
                if found.name[0] not in "._" and found.is_file()
            )
        except OSError as problem:
            raise SettingsError(f"cannot read `{self.path}`: {problem.strerror}.") from None

    def _next(self, listed: Sequence[str]) -> Read | None:
        """The next rows of the file that is being taken; None at its end."""
        if self._number >= len(self._ledger.names):
            return None
        if self._reading is None:
            name = self._ledger.names[self._number]
            if name not in listed:
                self._once(f"{self.path / name} is gone before all of it was known to be taken")
                return None
            self._reading = self._read(self.path / name)
        found = next(self._reading, None)
        if found is None:
            self._reading = None
        return found

    def _read(self, path: Path) -> Iterator[Read]:
        if self._format == "parquet":
            return read_parquet(path, self._position, self._rows, self._kind, self._table)
        return read_lines(
            path,
            self._position,
            self._rows,
            self._kind,
            self._table,
            times=self._times,
            last=self._last,
        )

    def _behind(self, listed: Sequence[str]) -> list[str]:
        """Files after all that have a number."""
        last = self._ledger.names[-1] if self._ledger.names else ""
        return [name for name in listed if name > last]

    def _advance(self, listed: Sequence[str]) -> bool:
        """Go on to the next file; whether there is one."""
        names = self._ledger.names
        if self._number < len(names):
            if self._number == len(names) - 1 and not self._behind(listed):
                return False
            if not self._last:  # it may have grown since it was looked at
                self._last = True
                return True
            self._finish(names[self._number])
            self._number, self._position, self._last = self._number + 1, 0, False
        if self._number == len(names):
            fresh = self._behind(listed)
            if not fresh:
                return False
            self._ledger.begin(fresh[0])
        return True

    def _finish(self, name: str) -> None:
        path = self.path / name
        if path.exists():
            size = self._position if self._format == "jsonl" else path.stat().st_size
            self._ledger.finish(name, size)

    def _parcel(self, read: Read) -> Parcel:
        """What was read, with offsets of the whole directory."""
        chunks, aside, position = read
        base = self._number << _BITS
        self._position = position
        return Parcel(
            self.name,
            tuple(replace(chunk, offsets=chunk.offsets + base) for chunk in chunks),
            base + position,
            tuple(replace(a, source=self.name, offset=a.offset + base) for a in aside),
            str(self.path / self._ledger.names[self._number]),
        )

    def _look_for_strays(self, listed: Sequence[str]) -> None:
        """Report files that came out of order, and lines that came after a later file."""
        names = self._ledger.names
        for name in listed:
            number = self._ledger.number(name)
            path = self.path / name
            if number is None and names and name < names[-1]:
                self._once(
                    f"{path} is not taken: its name comes before {names[-1]}, which has been. "
                    "Give it a name after all others",
                    about=f"{path} is not taken",  # the last name is another with every new file
                )
            size = self._ledger.sizes.get(name)
            if size is not None and number is not None and number < self._number:
                try:
                    grown = path.stat().st_size > size
                except OSError:
                    continue
                if grown:
                    self._once(f"{path} has grown after a later file was begun; that is not taken")

    def _stand(self, problem: str) -> None:
        """A file cannot be read. The last one may be about to be finished: it is given a while."""
        name = self._ledger.names[self._number]
        path = self.path / name
        try:
            size = path.stat().st_size
        except OSError:
            size = -1
        settled = self._sizes.get(name) == size
        self._sizes[name] = size
        self.problem = f"{path} {problem}"
        if settled:
            self._once(
                f"{self.problem}. The source {self.name} waits: finish the file, or move it away "
                "to go on without it"
            )

    def _once(self, text: str, *, about: str | None = None) -> None:
        """Say it unless it was said before, as far as it is `about` the same."""
        key = text if about is None else about
        if key not in self._said:
            self._said.add(key)
            _log.warning("%s", text)


def _checked_format(pattern: str, asked: str | None) -> str:
    found = _FORMATS.get(Path(pattern).suffix) if asked is None else asked
    if found is None or found not in _FORMATS.values():
        raise SettingsError(
            f"`format` is {asked!r} and `pattern` {pattern!r}; the format must be 'parquet' or "
            "'jsonl', or the pattern end with .parquet, .jsonl or .ndjson."
        )
    return found
