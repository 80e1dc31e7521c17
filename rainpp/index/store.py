"""A directory of arrays and one manifest; replacing the manifest is the only commit.

Arrays are files named by their content, ``arrays/<name>-<hash>.npy``. A write adds the new files,
then renames a new ``manifest.json`` over the old one, then removes files nothing refers to. Killed
at any moment, the directory is the old index or the new one. No pickle is read or written.

An index that is being built keeps its work in ``.building`` (see `workbench`), and whoever writes
holds ``.lock`` (see `lock`); both are gone when the index is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rainpp.errors import ArtifactError
from rainpp.index import lock
from rainpp.index.arrayfile import Finished, npy_header

SCHEMA = 1
MANIFEST = "manifest.json"
BUILDING = ".building"
_ARRAYS = "arrays"
_AGAIN = "Build it again with rainpp.precompute."
# Names this module gives to files: only such files are ever removed.
_ARRAY_FILE = re.compile(r"[\w-]+-[0-9a-f]{16}\.npy|\.[\w-]+\.tmp").fullmatch
_TEMPORARY = re.compile(r"\.manifest\.json\.\d+\.tmp").fullmatch
_WORK = re.compile(r"[0-9a-f]{16}").fullmatch


def write(
    path: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray | Finished]
) -> None:
    """Write an index to `path`, replacing the one that is there in one step.

    Parameters
    ----------
    arrays : by name; a `Finished` file on the same disk is linked, not copied, and must not change.

    Raises
    ------
    ArtifactError : `path` exists and is not an index, or the disk refuses; the old index stays.
    """
    try:
        commit(path, manifest, arrays)
    except OSError as problem:
        raise ArtifactError(
            f"cannot write the index `{path}`: {problem.strerror or problem}. "
            "What was there before is unchanged."
        ) from problem


def commit(
    path: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray | Finished]
) -> None:
    """What `write` does; it may also raise the OSError of a disk that refuses."""
    check_target(path)
    (path / _ARRAYS).mkdir(parents=True, exist_ok=True)
    entries = {name: _write_array(path, name, array) for name, array in arrays.items()}
    sealed = _seal({**manifest, "schema": SCHEMA, "arrays": entries})
    replace_file(path / MANIFEST, json.dumps(sealed, indent=1, sort_keys=True).encode())
    _remove_unused(path, {entry["file"] for entry in entries.values()})


def read(
    path: Path, *, verify: bool | Literal["on use"] = True
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Manifest and memory-mapped arrays of the index at `path`.

    Parameters
    ----------
    verify : compare every file with its checksum (reads the whole index once), now or when it is
        first used.

    Raises
    ------
    ArtifactError : missing, incomplete, damaged, or written by an unknown version.
    """
    manifest = read_manifest(path)
    entries: dict[str, dict[str, Any]] = manifest["arrays"]
    arrays = {
        name: _read_array(path, name, entry, verify=verify is True)
        for name, entry in entries.items()
    }
    if verify != "on use":
        return manifest, arrays
    return manifest, CheckedOnUse(arrays, {n: (path / e["file"], e) for n, e in entries.items()})


class CheckedOnUse(Mapping[str, np.ndarray]):
    """Arrays whose files are compared with their checksums when they are first asked for.

    Asking raises an ArtifactError for a damaged one, every time.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], files: dict[str, tuple[Path, dict[str, Any]]]
    ) -> None:
        self._arrays, self._unchecked = arrays, files

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        if name in self._unchecked:
            _check_sum(*self._unchecked[name])
            self._unchecked.pop(name, None)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def as_path(path: Any, *, of: str = "the directory of an index") -> Path:
    """`path` as a Path.

    Parameters
    ----------
    of : what it should be the path of, for messages.

    Raises
    ------
    ArtifactError : not a path, or one the file system cannot hold.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ArtifactError(f"`path` is {path!r}; it must be {of}.")
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError("it holds a zero byte")
        os.path.lexists(path)
        Path(path).exists()
    except (OSError, ValueError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else problem
        raise ArtifactError(f"`path` cannot be used: {said}.") from None
    return Path(path)


def check_target(path: Path) -> None:
    """Refuse a path where an index cannot be written, or where something else lives.

    Raises
    ------
    ArtifactError : a file, a directory of other things, or a place that cannot be created.
    """
    if path.is_dir():
        if not _looks_like_ours(path):
            raise ArtifactError(
                f"`{path}` is a directory with other things in it; choose another path for the "
                "index."
            )
        return
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ArtifactError(f"`{existing}` is a file, not an index; choose another path.")
    if not os.access(existing, os.W_OK):
        raise ArtifactError(f"cannot write the index `{path}`: `{existing}` is read-only.")


def _looks_like_ours(path: Path) -> bool:
    """An index, what an interrupted write left of one, or an empty directory."""
    manifest, arrays = path / MANIFEST, path / _ARRAYS
    if manifest.exists():
        try:
            found = json.loads(manifest.read_bytes())
        except OSError as problem:
            raise ArtifactError(
                f"cannot read `{manifest}`: {problem.strerror or problem}."
            ) from problem
        except ValueError:
            return False
        return isinstance(found, dict) and {"schema", "arrays", "sha256"} <= set(found)
    work = path / BUILDING
    ours = {arrays, work, path / lock.NAME}
    others = [item for item in path.iterdir() if item not in ours and not _TEMPORARY(item.name)]
    inside = list(arrays.iterdir()) if arrays.is_dir() else []
    begun = list(work.iterdir()) if work.is_dir() else []
    known = all(_ARRAY_FILE(item.name) for item in inside) and all(_WORK(b.name) for b in begun)
    return not others and known


def _write_array(path: Path, name: str, array: np.ndarray | Finished) -> dict[str, Any]:
    if isinstance(array, Finished):
        return _adopt(path, name, array)
    if array.dtype.hasobject:
        raise ArtifactError(f"`{name}` holds Python objects, which an index does not store.")
    handle, temporary = tempfile.mkstemp(dir=path / _ARRAYS, prefix=f".{name}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(_Writer(file.write), np.asarray(array, order="C"), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        digest = _hash_file(Path(temporary))
        final = f"{_ARRAYS}/{name}-{digest[:16]}.npy"
        os.replace(temporary, path / final)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return _entry(path, Finished(path / final, array.dtype, array.shape), digest)


@dataclass(frozen=True)
class _Writer:
    """Nothing but `write`: given a real file, NumPy does not say why a disk refuses."""

    write: Callable[[Any], int]


def _adopt(path: Path, name: str, array: Finished) -> dict[str, Any]:
    """The entry of a complete file, which becomes a file of the index."""
    digest = _hash_file(array.file)
    final = path / _ARRAYS / f"{name}-{digest[:16]}.npy"
    if array.file == final:  # it stays; without hard links, moving it would risk the old index
        return _entry(path, array, digest)
    temporary = final.with_name(f".{name}-{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(array.file, temporary)
    except OSError:  # a file system without hard links: moved, and lost if we are killed before
        os.replace(array.file, temporary)
    os.replace(temporary, final)
    temporary.unlink(missing_ok=True)  # renaming one link of a file to another does nothing
    return _entry(path, Finished(final, array.dtype, array.shape), digest)


def _entry(path: Path, array: Finished, digest: str) -> dict[str, Any]:
    return {
        "file": array.file.relative_to(path).as_posix(),
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": array.file.stat().st_size,
        "sha256": digest,
    }


def replace_file(target: Path, content: bytes) -> None:
    """Put `content` at `target` in one step: there is always the old file or the new one.

    Raises
    ------
    OSError : the disk refuses; the old file stays.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_unused(path: Path, used: set[str]) -> None:
    """Remove files of older writes, finished or killed. Failing to remove them harms nothing."""
    with contextlib.suppress(OSError):
        arrays = [f for f in (path / _ARRAYS).iterdir() if f"{_ARRAYS}/{f.name}" not in used]
        stale = [file for file in arrays if _ARRAY_FILE(file.name)]
        stale += [file for file in path.iterdir() if _TEMPORARY(file.name)]
        for file in stale:
            with contextlib.suppress(OSError):
                file.unlink()


def _seal(manifest: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the index at `path`, its checksum compared.

    Raises
    ------
    ArtifactError : as `read`.
    """
    file = path / MANIFEST
    if not path.is_dir():
        raise ArtifactError(f"there is no index at `{path}`. Build one with rainpp.precompute.")
    if not file.exists():
        why = "its writing was interrupted" if _looks_like_ours(path) else "it is not an index"
        begun = (path / BUILDING).is_dir()
        again = "The same rainpp.precompute goes on where it stopped." if begun else _AGAIN
        raise ArtifactError(f"`{path}` has no {MANIFEST}: {why}. {again}")
    try:
        manifest = json.loads(file.read_bytes())
        schema, sealed = manifest["schema"], manifest["sha256"]
    except OSError as problem:
        raise ArtifactError(f"cannot read `{file}`: {problem.strerror or problem}.") from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise ArtifactError(f"`{file}` is damaged: it is not a manifest. {_AGAIN}") from problem
    if _seal(manifest)["sha256"] != sealed:
        raise ArtifactError(f"`{file}` is damaged: its checksum does not match. {_AGAIN}")
    if schema != SCHEMA:
        raise ArtifactError(
            f"`{path}` has schema {schema}; this version of rainpp reads schema {SCHEMA}. {_AGAIN}"
        )
    return manifest


def _read_array(path: Path, name: str, entry: dict[str, Any], *, verify: bool) -> np.ndarray:
    file = path / entry["file"]
    if not file.exists():
        raise ArtifactError(f"`{path}` is incomplete: {entry['file']} is missing. {_AGAIN}")
    size = file.stat().st_size
    if size != entry["bytes"]:
        raise ArtifactError(
            f"`{file}` is damaged: {size} bytes instead of {entry['bytes']}. {_AGAIN}"
        )
    if verify:
        _check_sum(file, entry)
    try:
        header = npy_header(np.dtype(entry["dtype"]), tuple(entry["shape"]))
        with file.open("rb") as stream:
            agrees = stream.read(len(header)) == header
    except OSError as problem:
        raise ArtifactError(f"cannot read `{file}`: {problem.strerror or problem}.") from problem
    if not agrees:
        raise ArtifactError(f"`{file}` does not hold the {name} the manifest describes. {_AGAIN}")
    return _map(file, entry, offset=len(header))


def _check_sum(file: Path, entry: dict[str, Any]) -> None:
    try:
        found = _hash_file(file)
    except OSError as problem:
        raise ArtifactError(f"cannot read `{file}`: {problem.strerror or problem}.") from problem
    if found != entry["sha256"]:
        raise ArtifactError(f"`{file}` is damaged: its checksum does not match. {_AGAIN}")


def _map(file: Path, entry: dict[str, Any], *, offset: int) -> np.ndarray:
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    if 0 in shape:
        return np.zeros(shape, dtype)  # there is nothing to map
    mapped = np.memmap(file, dtype, "r", offset, (int(np.prod(shape, dtype=np.int64)),))
    return np.asarray(mapped).reshape(shape)


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
