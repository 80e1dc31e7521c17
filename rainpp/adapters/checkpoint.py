"""Parameters on disk, in the formats training libraries write; nothing here unpickles.

===================  =============================================================================
``*.npz``            NumPy archive, names like ``dense/kernel`` (or ``dense.kernel``)
``*.safetensors``    names like ``dense.kernel``
``*.msgpack``        Flax serialization
a directory          Orbax: one saved tree, or a CheckpointManager's directory (its latest step)
===================  =============================================================================
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from rainpp.adapters.names import BARE, Name, is_key, joined, named_leaves, nested, restore_like
from rainpp.errors import ArtifactError
from rainpp.types import PyTree

# What the readers below raise on bytes they cannot make sense of. AssertionError: Flax's msgpack
# chunks; the rest: zip archives, JSON headers, dtypes, shapes, ends of file.
_DAMAGE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, OSError, EOFError,
    NotImplementedError, MemoryError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_checkpoint(
    path: str | os.PathLike[str], like: PyTree = None, *, ignore_extra: bool = False
) -> PyTree:
    """The saved pytree, with NumPy arrays as leaves.

    Parameters
    ----------
    path : a file ending in .npz, .safetensors or .msgpack, or an Orbax directory.
    like : a pytree that gives structure, shapes and types; see `restore_like`. Without it the
        result is a nested dict (Orbax also keeps lists), keyed by the parts of the names.
    ignore_extra : read what `like` has and leave the rest, such as the state of an optimiser.

    Raises
    ------
    ArtifactError : nothing there, another format, damaged or cut short, pickled objects inside, or
        not the arrays `like` asks for.
    """
    place = Path(path)
    tree = _read(place)
    if like is None:
        return tree
    try:
        return restore_like(tree, like, ignore_extra=ignore_extra)
    except ArtifactError as problem:
        raise ArtifactError(f"checkpoint `{place}`: {problem}") from problem


def save_checkpoint(params: PyTree, path: str | os.PathLike[str]) -> Path:
    """Write the arrays of a pytree as .npz, .safetensors or .msgpack; returns the path written.

    The file appears whole or not at all: it is written under a temporary name beside its place.

    Raises
    ------
    ArtifactError : another suffix, a leaf that is no numeric array, a type or a name the format
        cannot hold, or a folder that cannot be written to.
    """
    place = Path(path)
    if place.suffix not in _WRITERS:
        raise ArtifactError(f"cannot write `{place}`: its name must end in {_either(_WRITERS)}.")
    arrays = {name: _plain(name, leaf) for name, leaf in named_leaves(params)}
    if not arrays:
        raise ArtifactError(f"cannot write `{place}`: there are no arrays to save.")
    _write_whole(place, lambda handle: _WRITERS[place.suffix](arrays, handle))
    return place


def _read(place: Path) -> PyTree:
    if not place.exists():
        raise ArtifactError(f"checkpoint `{place}` does not exist.")
    if not place.is_dir() and place.suffix not in _READERS:
        raise ArtifactError(
            f"checkpoint `{place}` is in a format rainpp does not read: {_either(_READERS)}, or an "
            "Orbax directory. Pickled checkpoints run code when opened; save it again as one of "
            "these."
        )
    reader = _read_orbax if place.is_dir() else _READERS[place.suffix]
    try:
        return reader(place)
    except ArtifactError as problem:
        raise ArtifactError(f"checkpoint `{place}`: {problem}") from problem
    except _DAMAGE as problem:
        raise ArtifactError(
            f"checkpoint `{place}` is damaged, cut short, or not what its name says "
            f"({_first_line(problem)}). Save it again."
        ) from problem


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:200] if lines else type(problem).__name__


def _either(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))


def _read_npz(place: Path) -> PyTree:
    # Opened here: numpy.load leaves its own handle open when the archive turns out to be damaged.
    with place.open("rb") as handle:
        archive = np.load(handle, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ArtifactError("it holds a single array without a name. Save it with numpy.savez.")
        arrays = {name: archive[name] for name in archive.files}
    separator = "/" if any("/" in name for name in arrays) else "."
    return nested({tuple(name.split(separator)): array for name, array in arrays.items()})


def _read_safetensors(place: Path) -> PyTree:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(place)
    except SafetensorError as problem:
        raise ValueError(_first_line(problem)) from problem
    return nested({tuple(name.split(".")): array for name, array in arrays.items()})


def _read_msgpack(place: Path) -> PyTree:
    import msgpack
    from flax.serialization import msgpack_restore

    try:
        tree = msgpack_restore(place.read_bytes())
    except msgpack.exceptions.UnpackException as problem:
        raise ValueError(_first_line(problem)) from problem
    if not isinstance(tree, dict | np.ndarray):
        raise ArtifactError(f"it holds a {type(tree).__name__} instead of named arrays.")
    for name, leaf in named_leaves(tree):
        if isinstance(leaf, msgpack.ExtType | bytes):
            raise ArtifactError(f"`{joined(name)}` is a serialised object, not an array.")
    return tree[BARE] if isinstance(tree, dict) and set(tree) == {BARE} else tree


def _read_orbax(place: Path) -> PyTree:
    import orbax.checkpoint as ocp

    item = _orbax_item(place.absolute())
    with ocp.PyTreeCheckpointer() as reader:
        # As NumPy arrays: the devices it was saved from need not exist here.
        names = reader.metadata(item).item_metadata.tree
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), names)
        tree = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=kinds))
    return _without_values(tree)


def _orbax_item(place: Path) -> Path:
    """The directory of one saved tree: this one, its only one, or that of its latest step."""
    if (place / "_METADATA").exists():
        return place
    folders = sorted(child for child in place.iterdir() if child.is_dir())
    steps = [child for child in folders if re.fullmatch(r"(\w+_)?\d+", child.name)]
    if steps:
        return _orbax_item(max(steps, key=lambda step: int(step.name.rpartition("_")[2])))
    items = [child for child in folders if (child / "_METADATA").exists()]
    if len(items) == 1:
        return items[0]
    found = f"the trees {', '.join(item.name for item in items)}" if items else "no saved tree"
    raise ArtifactError(f"the Orbax directory holds {found}; give the path of one tree.")


def _without_values(tree: PyTree) -> PyTree:
    """A saved NNX state without the `value` level that each of its variables adds."""
    arrays = dict(named_leaves(tree))
    if not all(len(name) > 1 and name[-1] == "value" for name in arrays):
        return tree
    return nested({name[:-1]: array for name, array in arrays.items()})


def _write_npz(arrays: Mapping[Name, np.ndarray], handle: IO[bytes]) -> None:
    # numpy.savez takes names as keyword arguments and cannot hold an array called `file`.
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            if array.dtype.kind == "V":
                raise ArtifactError(
                    f"`{joined(name)}` has type {array.dtype}, which .npz cannot hold. "
                    "Save as .safetensors or .msgpack."
                )
            entry = _separated(name, "/", ".npz") + ".npy"
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_safetensors(arrays: Mapping[Name, np.ndarray], handle: IO[bytes]) -> None:
    from safetensors.numpy import save

    named = {_separated(name, ".", ".safetensors"): array for name, array in arrays.items()}
    handle.write(save({name: np.asarray(array, order="C") for name, array in named.items()}))


def _write_msgpack(arrays: Mapping[Name, np.ndarray], handle: IO[bytes]) -> None:
    from flax.serialization import msgpack_serialize

    tree = nested(arrays)
    handle.write(msgpack_serialize(tree if isinstance(tree, dict) else {BARE: tree}))


def _separated(name: Name, separator: str, suffix: str) -> str:
    for part in name:
        if not part or "/" in part or "." in part:
            raise ArtifactError(
                f"the name `{part}` cannot be told from a path in a {suffix} file. "
                "Save as .msgpack, or rename it."
            )
    return separator.join(name)


def _plain(name: Name, leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    if array.dtype.hasobject or array.dtype.kind in "US":
        raise ArtifactError(f"`{joined(name)}` is a {type(leaf).__name__}, not a numeric array.")
    return array


def _write_whole(place: Path, write: Callable[[IO[bytes]], None]) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, place)
    except OSError as problem:
        raise ArtifactError(f"cannot write `{place}`: {problem.strerror or problem}.") from problem
    finally:
        temporary.unlink(missing_ok=True)


_READERS: dict[str, Callable[[Path], PyTree]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".msgpack": _read_msgpack,
}
_WRITERS: dict[str, Callable[[Mapping[Name, np.ndarray], IO[bytes]], None]] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".msgpack": _write_msgpack,
}
