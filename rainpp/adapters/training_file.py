"""Training rows from .npz, .parquet, .arrow and .csv files, or a folder of one kind of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.adapters.shards import Shard, heads, sharded_inputs
from rainpp.errors import DataError
from rainpp.types import ClassValue, PyTree

_SUFFIXES = (".arrow", ".csv", ".npz", ".parquet")
# What NumPy and zipfile raise on bytes they cannot make sense of; the last two: methods and
# versions of compression that a flipped bit asks for, and encryption.
_DAMAGE = (
    ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What `rainpp.precompute` takes: inputs, labels and, where the file names them, ids."""

    inputs: PyTree
    labels: np.ndarray
    ids: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns (arrays, in .npz) are what; None takes the default of the format.

    Defaults. npz: `inputs`, `labels`, and `ids` if it is there. parquet, csv: every column but the
    label and the id, `label`, no ids.
    """

    inputs: Sequence[str] | None = None
    label: str | None = None
    id: str | None = None


def read_training(
    path: Path,
    columns: Columns | None = None,
    *,
    classes: Sequence[ClassValue] | None = None,
) -> TrainingRows:
    """The rows of a training file.

    Parameters
    ----------
    path : a file, or a folder of files with the same columns, taken in the order of their names.
    columns : which columns are inputs, label and id.
    classes : the model's classes in the order of its outputs; needed where labels are strings.

    Returns
    -------
    Rows. Scalar input columns are put side by side (n, number of columns) as float32; an array
    column alone stays as it is, (n, ...); several arrays of an npz become a dict by name.
    Inputs in a folder stay in their files (`adapters.shards.ShardedArray`).

    Raises
    ------
    DataError : nothing there, another format, damaged; a column that is missing, NULL somewhere,
        or not numeric; a label that is not among `classes`.
    """
    if path.is_dir():
        return _read_folder(path, columns or Columns(), classes)
    if not path.is_file():
        raise DataError(f"there is no training file `{path}`.")
    return _read_file(path, columns or Columns(), classes)


def _read_file(path: Path, columns: Columns, classes: Sequence[ClassValue] | None) -> TrainingRows:
    if path.suffix not in _SUFFIXES:
        raise DataError(f"cannot read `{path}`: its name must end in {', '.join(_SUFFIXES)}.")
    reader = _read_npz if path.suffix == ".npz" else _read_table
    rows = reader(path, columns)
    return TrainingRows(rows.inputs, _class_numbers(path, rows.labels, classes), rows.ids)


def _read_folder(
    folder: Path, columns: Columns, classes: Sequence[ClassValue] | None
) -> TrainingRows:
    """Labels and ids of every file now, inputs when they are needed."""
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    if not files:
        raise DataError(f"`{folder}` holds no training file: {', '.join(_SUFFIXES)} are read.")
    shards: list[Shard] = []
    labels: list[np.ndarray] = []
    ids: list[np.ndarray | None] = []
    for file in files:
        rows = _read_file(file, columns, classes)
        shards.append(Shard(file, len(rows.labels), heads(rows.inputs)))
        labels.append(rows.labels)
        ids.append(rows.ids)
    named = [part for part in ids if part is not None]
    if named and len(named) < len(files):
        missing = files[next(number for number, part in enumerate(ids) if part is None)]
        raise DataError(f"`{missing}` has no ids, but other files of `{folder}` have; add them.")
    inputs = sharded_inputs(shards, lambda file: _read_file(file, columns, classes).inputs)
    return TrainingRows(inputs, np.concatenate(labels), np.concatenate(named) if named else None)


def _class_numbers(
    path: Path, labels: np.ndarray, classes: Sequence[ClassValue] | None
) -> np.ndarray:
    """String labels as the position of their class; other labels unchanged."""
    if labels.dtype.kind not in "OUST":
        return labels
    if classes is None:
        raise DataError(
            f"the labels of `{path}` are strings, such as {str(labels[:1].tolist())[1:-1]}; write "
            "the model's classes, in the order of its outputs, under `[database] classes`."
        )
    numbers = {value: number for number, value in enumerate(classes)}
    unknown = [label for label in labels.tolist() if label not in numbers]
    if unknown:
        raise DataError(
            f"`{path}` has the label {unknown[0]!r} ({len(unknown)} rows), which is not among "
            f"`[database] classes`: {', '.join(map(repr, classes))}."
        )
    return np.array([numbers[label] for label in labels.tolist()], np.int32)


def _read_npz(path: Path, columns: Columns) -> TrainingRows:
    try:
        with path.open("rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"`{path}` holds one array without a name; inputs, labels needed.")
            return _rows_of(path, archive, columns)
    except _DAMAGE as problem:
        if isinstance(problem, DataError):
            raise
        first = str(problem).strip().splitlines()[:1] or [type(problem).__name__]
        raise DataError(f"`{path}` is damaged or not a NumPy archive: {first[0]}") from problem


def _rows_of(path: Path, archive: Any, columns: Columns) -> TrainingRows:
    names = list(archive.files)
    inputs, label = tuple(columns.inputs or ("inputs",)), columns.label or "labels"
    identity = columns.id or ("ids" if "ids" in names else None)
    for name in (*inputs, label, *([identity] if identity else ())):
        if name not in names:
            raise DataError(f"`{path}` has no array `{name}`; it has {', '.join(names)}.")
    arrays = {name: archive[name] for name in inputs}
    return TrainingRows(
        arrays[inputs[0]] if len(inputs) == 1 else arrays,
        archive[label],
        archive[identity] if identity else None,
    )


def _read_table(path: Path, columns: Columns) -> TrainingRows:
    table = _open_table(path)
    label = columns.label or "label"
    taken = {label, columns.id}
    inputs = columns.inputs or [name for name in table.column_names if name not in taken]
    for name in (*inputs, label, *([columns.id] if columns.id else ())):
        if name not in table.column_names:
            raise DataError(
                f"`{path}` has no column `{name}`; it has {', '.join(table.column_names)}."
            )
    if not inputs:
        raise DataError(f"`{path}` has no input columns beside `{label}`.")
    return TrainingRows(
        _side_by_side(path, {name: _column(path, table, name) for name in inputs}),
        _column(path, table, label),
        _plain_strings(_column(path, table, columns.id)) if columns.id else None,
    )


def _plain_strings(array: np.ndarray) -> np.ndarray:
    """Arrow's strings arrive as Python objects; ids are NumPy strings."""
    return array.astype(str) if array.dtype == object else array


def _open_table(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    readers = {".csv": csv.read_csv, ".arrow": feather.read_table, ".parquet": parquet.read_table}
    try:
        return readers[path.suffix](path)
    except (pa.ArrowException, OSError) as problem:
        first = str(problem).strip().splitlines()[0]
        raise DataError(f"`{path}` cannot be read as {path.suffix[1:]}: {first}") from problem


def _column(path: Path, table: Any, name: str) -> np.ndarray:
    if table.column_names.count(name) > 1:
        raise DataError(f"`{path}` has several columns called `{name}`; rename them.")
    column = table.column(name).combine_chunks()
    if column.null_count:
        row = int(column.is_null().to_numpy(zero_copy_only=False).argmax())
        raise DataError(
            f"`{name}` is NULL or empty in {column.null_count} rows of `{path}`, first in row "
            f"{row}; fill or drop them."
        )
    return _array(path, column, name)


def _array(path: Path, column: Any, name: str) -> np.ndarray:
    """Scalars as (n,), lists of equal length as (n, ...)."""
    import pyarrow as pa

    if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        if column.null_count:
            raise DataError(f"`{name}` in `{path}` has NULL inside its lists; fill or drop them.")
        return column.to_numpy(zero_copy_only=False)
    lengths = set(np.unique(column.value_lengths().to_numpy(zero_copy_only=False)).tolist())
    if len(lengths) > 1:
        raise DataError(f"`{name}` in `{path}` holds lists of different lengths; pad them.")
    inner = _array(path, column.flatten(), name)
    return inner.reshape(len(column), *(lengths or {0}), *inner.shape[1:])


def _side_by_side(path: Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    for name, array in columns.items():
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"`{name}` in `{path}` is not numeric, such as {array.ravel()[:1].tolist()}; "
                "encode it first, or name the input columns under `[training] inputs`."
            )
    arrays = list(columns.values())
    if len(arrays) == 1 and arrays[0].ndim > 1:
        return arrays[0]
    if any(array.ndim > 1 for array in arrays):
        raise DataError(f"`{path}` mixes array and scalar input columns; use one array column.")
    return np.stack(arrays, axis=-1, dtype=np.float32, casting="unsafe")
