"""Content hashes that tie an index to the weights and rows it was built from."""

from __future__ import annotations

import hashlib

import jax
import numpy as np

from rainpp.types import PyTree, row_blocks


def fingerprint(tree: PyTree, *notes: str) -> str:
    """SHA-256 over every leaf's path, type, shape and bytes, and over `notes`. Hex, 64 digits."""
    digest = hashlib.sha256()
    for note in notes:
        digest.update(note.encode() + b"\0")
    for path, leaf in jax.tree.leaves_with_path(tree):
        kind = np.dtype(leaf.dtype) if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        digest.update(f"{jax.tree_util.keystr(path)} {kind.str} {np.shape(leaf) or (1,)}".encode())
        for part in row_blocks(leaf):
            array = np.ascontiguousarray(part)
            digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
