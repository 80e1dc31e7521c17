"""Content hashes that tie an index to the weights and rows it was built from."""

from __future__ import annotations

import hashlib

import jax
import numpy as np

from rainpp.types import PyTree


def fingerprint(tree: PyTree, *notes: str) -> str:
    """SHA-256 over every leaf's path, type, shape and bytes, and over `notes`. Hex, 64 digits."""
    digest = hashlib.sha256()
    for note in notes:
        digest.update(note.encode() + b"\0")
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
