"""One file of a directory, read from a position on: whole Parquet files, growing JSONL files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rainpp.errors import DataError, one_line
from rainpp.monitoring.batch import Doing
from rainpp.sources.asides import Aside
from rainpp.sources.decoding import parcel_of, read_object
from rainpp.sources.parcel import Chunk

# Bytes of a JSONL file that are looked at at once, and the longest line there may be.
_BLOCK, _LONGEST_LINE = 2**20, 64 * 2**20

Read = tuple[tuple[Chunk, ...], tuple[Aside, ...], int]


class Unfinished(DataError):
    """The file cannot be taken as it is: still being written, or broken."""


def read_parquet(
    path: Path, position: int, most: int, kind: Doing, table: str | None
) -> Iterator[Read]:
    """The rows of a Parquet file after the first `position`, at most `most` at once.

    Positions are counts of rows.

    Raises
    ------
    Unfinished : it has no footer, or its rows cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            at = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if at + rows <= position:
                    at += rows
                    continue
                for batch in file.iter_batches(most, row_groups=[group]):
                    first = max(0, position - at)
                    if first < batch.num_rows:
                        kept = pa.Table.from_batches([batch.slice(first)])
                        offsets = np.arange(at + first + 1, at + batch.num_rows + 1)
                        end = at + batch.num_rows
                        yield (Chunk(kind, kept, offsets.astype(np.int64), table),), (), end
                    at += batch.num_rows
    except (pa.ArrowException, OSError) as problem:
        raise Unfinished(f"cannot be read as Parquet: {one_line(problem)}") from None


def read_lines(
    path: Path,
    position: int,
    most: int,
    kind: Doing,
    table: str | None,
    *,
    times: Collection[str],
    last: bool,
) -> Iterator[Read]:
    """The lines of a JSONL file after the first `position` bytes, at most `most` at once.

    Positions are counts of bytes, after each line. A last line without its end is taken only where
    no more will come (`last`) and it is a whole object.

    Raises
    ------
    Unfinished : it ends within a line, became shorter, or a line is too long.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size < position:
                raise Unfinished(
                    f"was {position} bytes long when it was read and is {path.stat().st_size} now"
                )
            file.seek(position)
            rest = b""
            while block := file.read(_BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    raise Unfinished(f"has a line of more than {_LONGEST_LINE:,} bytes")
                for first in range(0, len(lines), most):
                    part = lines[first : first + most]
                    read = _lines(part, position, kind, table, times)
                    position = read[2]
                    yield read
            if not rest.strip():
                return
            if not last:
                return
            try:
                read_object(rest)
            except DataError:
                raise Unfinished(
                    "ends in the middle of a line, and a later file is there"
                ) from None
            chunks, aside, _ = _lines([rest], position, kind, table, times)
            yield chunks, aside, position + len(rest)
    except OSError as problem:
        raise Unfinished(f"cannot be read: {problem.strerror or problem}") from None


def _lines(
    lines: list[bytes], position: int, kind: Doing, table: str | None, times: Collection[str]
) -> Read:
    """Lines as chunks; offsets are positions after each."""
    records: list[tuple[int, bytes]] = []
    for line in lines:
        position += len(line) + 1
        if line.strip():
            records.append((position, line))
    if not records:
        return (), (), position
    parcel = parcel_of("", records, kind=kind, table=table, times=times)
    return parcel.chunks, parcel.aside, position
