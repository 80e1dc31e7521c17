"""A directory of arrays and one manifest; replacing the manifest is the only commit.

Arrays are files named by their content, ``arrays/<name>-<hash>.npy``. A write adds the new files,
then renames a new ``manifest.json`` over the old one, then removes files nothing refers to. Killed
at any moment, the directory is the old index or the new one. No pickle is read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rainpp.errors import ArtifactError

SCHEMA = 1
MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_AGAIN = "Build it again with rainpp.precompute."


def write(path: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write an index to `path`, replacing the one that is there in one step.

    Raises
    ------
    ArtifactError : `path` exists and is not an index, or the disk refuses; the old index stays.
    """
    _check_target(path)
    try:
        (path / _ARRAYS).mkdir(parents=True, exist_ok=True)
        entries = {name: _write_array(path, name, array) for name, array in arrays.items()}
        sealed = _seal({**manifest, "schema": SCHEMA, "arrays": entries})
        _replace(path / MANIFEST, json.dumps(sealed, indent=1, sort_keys=True).encode())
    except OSError as problem:
        raise ArtifactError(
            f"cannot write the index `{path}`: {problem.strerror or problem}. "
            "What was there before is unchanged."
        ) from problem
    _remove_unused(path, {entry["file"] for entry in entries.values()})


def read(path: Path, *, verify: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and memory-mapped arrays of the index at `path`.

    Parameters
    ----------
    verify : compare every file with its checksum (reads the whole index once).

    Raises
    ------
    ArtifactError : missing, incomplete, damaged, or written by an unknown version.
    """
    manifest = _read_manifest(path)
    arrays = {
        name: _read_array(path, name, entry, verify=verify)
        for name, entry in manifest["arrays"].items()
    }
    return manifest, arrays


def _check_target(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise ArtifactError(f"`{path}` is a file, not an index; choose another path.")
    names = {item.name for item in path.iterdir()}
    if names and MANIFEST not in names and _ARRAYS not in names:
        raise ArtifactError(
            f"`{path}` is a directory with other things in it ({sorted(names)[0]}, ...); "
            "choose another path for the index."
        )


def _write_array(path: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    handle, temporary = tempfile.mkstemp(dir=path / _ARRAYS, prefix=f".{name}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        digest = _hash_file(Path(temporary))
        final = f"{_ARRAYS}/{name}-{digest[:16]}.npy"
        os.replace(temporary, path / final)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return {
        "file": final,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": (path / final).stat().st_size,
        "sha256": digest,
    }


def _replace(target: Path, content: bytes) -> None:
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
    for item in (path / _ARRAYS).iterdir():
        if f"{_ARRAYS}/{item.name}" not in used:
            item.unlink(missing_ok=True)


def _seal(manifest: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not path.is_dir():
        raise ArtifactError(f"there is no index at `{path}`. Build one with rainpp.precompute.")
    if not file.exists():
        raise ArtifactError(f"`{path}` has no {MANIFEST}: its writing was interrupted. {_AGAIN}")
    try:
        manifest = json.loads(file.read_bytes())
        schema, sealed = manifest["schema"], manifest["sha256"]
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
    if verify and _hash_file(file) != entry["sha256"]:
        raise ArtifactError(f"`{file}` is damaged: its checksum does not match. {_AGAIN}")
    array = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    if array.dtype.str != entry["dtype"] or list(array.shape) != entry["shape"]:
        raise ArtifactError(f"`{file}` does not hold the {name} the manifest describes. {_AGAIN}")
    return array


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
