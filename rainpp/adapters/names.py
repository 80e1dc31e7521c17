"""Arrays of a pytree by name, and back into the structure of another tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from rainpp.errors import ArtifactError
from rainpp.types import PyTree

Name = tuple[str, ...]

# The name of the only array of a tree that is that array.
BARE = "__array__"


def restore_like(tree: PyTree, like: PyTree, *, ignore_extra: bool = False) -> PyTree:
    """The arrays of `tree` in the structure of `like`, matched by name.

    Lists, tuples, named tuples and NNX states are matched by position or field; names may be split
    by "." or "/". Floating arrays are cast to the type in `like`, and random keys made
    of their data.
    With `ignore_extra`, arrays `like` does not have are left out.

    Raises
    ------
    ArtifactError : naming the first array that is missing, not wanted, or of another shape or kind.
    """
    found = {joined(name): leaf for name, leaf in named_leaves(tree)}
    wanted = {joined(name): leaf for name, leaf in named_leaves(like)}
    if len(found) == 1 and set(wanted) == {BARE}:
        found = {BARE: next(iter(found.values()))}
    names = set(found) & set(wanted) if ignore_extra else set(found)
    _check_names(names, set(wanted))
    leaves = [fitted(name, found[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _check_names(found: set[str], wanted: set[str]) -> None:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if not missing and not extra:
        return
    parts = [
        f"{what} `{names[0]}`{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
        for what, names in (("is missing", missing), ("has an extra", extra))
        if names
    ]
    hint = " `ignore_extra=True` leaves out what is not asked for." if extra and not missing else ""
    raise ArtifactError(
        f"the saved tree {' and '.join(parts)}. Was it saved from another model?{hint}"
    )


def fitted(name: str, value: Any, like: Any) -> Any:
    """The array `value` in the type of `like`.

    Raises
    ------
    ArtifactError : another shape, or another kind of type.
    """
    if is_key(like):
        return _as_key(value, like)
    array, dtype = np.asarray(value), np.dtype(jax.numpy.result_type(like))
    shape = tuple(np.shape(like))
    if array.shape != shape:
        raise ArtifactError(f"`{name}` has shape {array.shape}; {shape} is needed.")
    if _kind(array.dtype) != _kind(dtype):
        raise ArtifactError(f"`{name}` has type {array.dtype}; {dtype} is needed.")
    return array.astype(dtype, copy=False)


def is_key(leaf: Any) -> bool:
    """Whether it holds JAX's typed random keys, as the dropout of an NNX model does."""
    kind = getattr(leaf, "dtype", None)
    return kind is not None and jax.numpy.issubdtype(kind, jax.dtypes.prng_key)


def _as_key(value: Any, like: Any) -> Any:
    if is_key(value):
        return value
    own = jax.random.key_impl(like) if isinstance(like, jax.Array) else None
    return jax.random.wrap_key_data(jax.numpy.asarray(value), impl=own)


def _kind(dtype: np.dtype[Any]) -> str:
    """NumPy's kind letter, with bfloat16 and its relatives counted as floating."""
    return "f" if jax.numpy.issubdtype(dtype, np.floating) else dtype.kind


def named_leaves(tree: PyTree) -> Iterable[tuple[Name, Any]]:
    """Every array with the parts of its name, in the order of `jax.tree.leaves`."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        yield _name_of(path), leaf


def _name_of(path: tuple[Any, ...]) -> Name:
    # An NNX variable is a node whose only child is called `value`: l.kernel, not l.kernel.value.
    if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path) or (BARE,)


def joined(name: Name) -> str:
    """The name as people write it: dense.kernel."""
    return ".".join(name).replace("/", ".")


def nested(arrays: Mapping[Name, Any]) -> PyTree:
    """A nested dict of arrays by name.

    Raises
    ------
    ArtifactError : a name is used twice, or for an array and for a group of arrays.
    """
    if set(arrays) == {(BARE,)}:
        return arrays[(BARE,)]
    root: dict[str, Any] = {}
    for name, array in arrays.items():
        node = root
        for part in name[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ArtifactError(f"the name `{joined(name)}` continues that of another array.")
        if name[-1] in node:
            raise ArtifactError(f"the name `{joined(name)}` is used twice.")
        node[name[-1]] = array
    return root
