"""A complaint as a file of k numbers and no row: written beside the data, ranked beside the rows.

The users of a model see the database and the wrong number; its owners hold the training rows. A
file of one JSON object passes between them: the complaint's vector, its words, and which index the
vector is along. It is signed with HMAC-SHA256 when both sides know a secret; without one it carries
a plain SHA-256, which shows damage but not forgery.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rainpp.errors import ArtifactError, SettingsError
from rainpp.index.artifact import Index, save
from rainpp.index.store import MANIFEST, as_path, read_manifest, replace_file
from rainpp.ranking import Ranking
from rainpp.trust import Circumstances
from rainpp.types import ClassValue

if TYPE_CHECKING:
    from rainpp.bound_complaint import BoundComplaint

KIND, SCHEMA = "rainpp complaint", 1
# 30 000 numbers in full precision; an index has tens of eigenpairs. More is not read at all.
LARGEST_FILE = 1 << 20
_CHECKSUM, _SIGNED = "sha256", "hmac-sha256"
# What complaints are made with. Named one by one: an array nobody thought of stays with the owners.
_FOR_USERS = ("eigenvalues", "eigenvectors", "residuals", "spectrum")
_TABLE = "inference-"

Secret = str | bytes


@dataclass(frozen=True, eq=False)
class SavedComplaint:
    """A complaint read from a file: enough to rank, and nothing else.

    Attributes
    ----------
    vector : (k,), what `complaint.vector()` was.
    words : what it says; empty when it was written without.
    classes : SQL values of the model's classes.
    coverage : share of the complaint's gradient that the vector holds; see `Ranking.coverage`.
    basis : which eigenpairs the vector is along; see `basis_of`.
    model : fingerprint of the weights, the loss and l2.
    signed : whether a secret vouches for it. Without one, whoever had the file could change it.
    """

    vector: np.ndarray = field(repr=False)
    words: str
    classes: tuple[ClassValue, ...]
    coverage: float
    basis: str
    model: str
    signed: bool

    def rank(self, index: Index) -> Ranking:
        """Rank the interventions of the index the vector belongs to.

        Raises
        ------
        ArtifactError : it belongs to another model or another index, or this one has no training
            rows in it.
        """
        _check_index(index)
        index.check_has_rows()
        if self.model != index.manifest["model_fingerprint"]:
            raise ArtifactError(
                f"the complaint is about another model ({self.model[:12]}) than the index "
                f"({index.manifest['model_fingerprint'][:12]}): other weights, loss or l2."
            )
        if self.basis != basis_of(index):
            raise ArtifactError(
                "the complaint was written with another index of this model: its "
                f"{self.vector.size} numbers are along other directions. Write it again with a "
                "copy of this index (rainpp.users_half)."
            )
        if self.classes and len(self.classes) != index.manifest["num_classes"]:
            raise ArtifactError(
                f"`classes` of the complaint names {len(self.classes)} classes; the model of this "
                f"index has {index.manifest['num_classes']}."
            )
        ranking = index.rank(self.vector, classes=self.classes or None)
        ranking.words = _printable(self.words)
        ranking.take_coverage(self.coverage)
        checks = index.manifest["checks"]
        ranking.circumstances = lambda: Circumstances(
            at_optimum=checks["at_optimum"], gradient=checks["relative_gradient_norm"]
        )
        return ranking

    def __repr__(self) -> str:
        how = "signed" if self.signed else "not signed"
        words = _printable(self.words) or "a complaint without words"
        return f"SavedComplaint({words}; {self.vector.size} numbers, {how})"


def basis_of(index: Index) -> str:
    """SHA-256 over the model's fingerprint and the eigenvalues, to the last bit.

    Two builds share it only if they gave the same eigenpairs. Rows that are appended do not change
    it, and a vector stays good for the grown index. Neither half of an index needs more than this.
    """
    digest = hashlib.sha256(index.manifest["model_fingerprint"].encode())
    digest.update(np.ascontiguousarray(index.eigenvalues, "<f8").tobytes())
    return digest.hexdigest()


def users_half(index: Index, path: str | Path | None = None) -> Index:
    """The part of an index that complaints are made with: no training row, label or id.

    What stays: eigenvalues, eigenvectors, and the tables that were materialised.

    Parameters
    ----------
    path : where to write it; in memory by default.

    Raises
    ------
    ArtifactError : the disk refuses, or `path` holds a whole index.
    """
    _check_index(index)
    target = None if path is None else as_path(path)
    if target is not None:
        _keep_whole(target)
    arrays = {
        name: array
        for name, array in index.arrays.items()
        if name in _FOR_USERS or name.startswith(_TABLE)
    }
    manifest = {**index.manifest, "interventions": [], "arrays": {}}
    half = Index(manifest, arrays)
    return half if target is None else save(half, target)


def _check_index(index: Any) -> None:
    if not isinstance(index, Index):
        raise ArtifactError(
            f"`index` is a {type(index).__name__}; give what rainpp.load or rainpp.precompute "
            "returns."
        )


def _keep_whole(path: Path) -> None:
    """Refuse to put half an index in the place of a whole one: its training rows would be lost."""
    if (path / MANIFEST).exists() and read_manifest(path)["interventions"]:
        raise ArtifactError(
            f"`{path}` holds a whole index, with its training rows; write the half for the users "
            "of the model to another path."
        )


def _printable(words: str) -> str:
    """Words of a stranger, without what would move the cursor or change colours."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in words)


def write_complaint(
    complaint: BoundComplaint, path: str | Path, *, secret: Secret | None = None, words: bool = True
) -> Path:
    """Write a complaint for the owner of the model, replacing the file in one step.

    Parameters
    ----------
    secret : what both sides know; signs the file. Without one it only shows damage.
    words : also say what the complaint is. Words name the cell, and so values of its group.

    Raises
    ------
    SettingsError : the secret is empty or no text.
    ArtifactError : the disk refuses.
    """
    vector = np.asarray(complaint.vector(), np.float64)
    if not np.isfinite(vector).all():
        raise ArtifactError(f"the vector of {complaint!r} holds NaN or infinity; nothing written.")
    body: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        "vector": vector.tolist(),
        "words": str(complaint.complaint) if words else "",
        "classes": list(complaint.registered.classes),
        "coverage": _coverage(complaint),
        "basis": basis_of(complaint.index),
        "model": complaint.index.manifest["model_fingerprint"],
    }
    key = _read_secret(secret)
    body["algorithm"] = _CHECKSUM if key is None else _SIGNED
    body["signature"] = _signature(body, key)
    target = as_path(path, of="the file of a complaint")
    if not target.name or target.is_dir():
        raise ArtifactError(f"cannot write the complaint `{target}`: it is a directory.")
    try:
        replace_file(target, json.dumps(body, indent=1).encode())
    except OSError as problem:
        raise ArtifactError(
            f"cannot write the complaint `{target}`: {problem.strerror or problem}."
        ) from problem
    return target


def _coverage(complaint: BoundComplaint) -> float:
    # `backing` knows `bound_complaint`, which writes files through this module.
    from rainpp.backing import RetrainableBacking

    return RetrainableBacking((complaint,), np.ones(1)).coverage()


def read_complaint(path: str | Path, *, secret: Secret | None = None) -> SavedComplaint:
    """Read a complaint that somebody else wrote; nothing in it is run.

    Parameters
    ----------
    secret : needed for a signed file; with one, a file that is not signed is refused.

    Raises
    ------
    ArtifactError : it cannot be read, is too large, malformed, damaged, or not signed with this
        secret; the message names the field.
    SettingsError : the secret is empty or no text.
    """
    key, source = _read_secret(secret), as_path(path, of="the file of a complaint")
    body = _parse(_contents(source), source)
    _check_fields(body, source)
    _check_signature(body, key, source)
    return SavedComplaint(
        np.asarray(body["vector"], np.float64),
        body["words"],
        tuple(body["classes"]),
        body["coverage"],
        body["basis"],
        body["model"],
        key is not None,
    )


def _read_secret(secret: Any) -> bytes | None:
    if secret is None:
        return None
    try:
        key = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:
        raise SettingsError("`secret` holds half of a character pair, which is no text.") from None
    if not isinstance(key, bytes) or not key:
        raise SettingsError(
            f"`secret` is {'empty' if key in (b'', '') else 'a ' + type(secret).__name__}; give "
            "text or bytes that both sides know, or leave it out."
        )
    return key


def _signature(body: Mapping[str, Any], key: bytes | None) -> str:
    """Over every other field, in an order and spelling that do not depend on who wrote it."""
    signed = {name: value for name, value in body.items() if name != "signature"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    if key is None:
        return hashlib.sha256(text).hexdigest()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def _check_signature(body: Mapping[str, Any], key: bytes | None, source: Path) -> None:
    if body["algorithm"] == _SIGNED and key is None:
        raise ArtifactError(
            f"`{source}` is signed; give the secret= it was signed with, so that it can be checked."
        )
    if body["algorithm"] == _CHECKSUM and key is not None:
        raise ArtifactError(
            f"`{source}` is not signed, so nobody vouches for it. Have it written with the secret, "
            "or read it without one."
        )
    if not hmac.compare_digest(_signature(body, key), body["signature"]):
        why = "it was changed" if key is None else "it was changed, or signed with another secret"
        raise ArtifactError(f"the `signature` of `{source}` does not fit its contents: {why}.")


def _contents(source: Path) -> bytes:
    if source.exists() and not source.is_file():
        raise ArtifactError(f"cannot read the complaint `{source}`: it is no regular file.")
    try:
        with source.open("rb") as file:
            contents = file.read(LARGEST_FILE + 1)
    except OSError as problem:
        raise ArtifactError(
            f"cannot read the complaint `{source}`: {problem.strerror or problem}."
        ) from problem
    if len(contents) > LARGEST_FILE:
        raise ArtifactError(
            f"`{source}` is larger than {LARGEST_FILE:,} bytes; a complaint is k numbers."
        )
    return contents


def _parse(contents: bytes, source: Path) -> dict[str, Any]:
    try:
        found = json.loads(contents, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise ArtifactError(f"`{source}` is no JSON that rainpp wrote: {problem}.") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"`{source}` holds no JSON object, so it is no complaint.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is there twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    # A whole number beyond 64-bit floats cannot be one of ours.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def _are_classes(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    known = all(
        isinstance(item, str) or _is_number(item) or isinstance(item, bool) for item in value
    )
    return known and len(set(value)) == len(value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: value == KIND, repr(KIND)),
    "schema": (lambda value: type(value) is int and value == SCHEMA, f"{SCHEMA}, as this version"),
    "vector": (_is_vector, "a list of finite numbers"),
    "words": (_is_text, "text"),
    "classes": (_are_classes, "a list of SQL values"),
    "coverage": (lambda value: _is_number(value) and 0 <= value <= 1, "a share from 0 to 1"),
    "basis": (_is_digest, "64 hexadecimal digits"),
    "model": (_is_digest, "64 hexadecimal digits"),
    "algorithm": (lambda value: value in (_CHECKSUM, _SIGNED), f"{_CHECKSUM!r} or {_SIGNED!r}"),
    "signature": (_is_digest, "64 hexadecimal digits"),
}


def _check_fields(body: Mapping[str, Any], source: Path) -> None:
    """Every field there, of its kind, and no other."""
    for name, (fits, wanted) in _FIELDS.items():
        if name not in body:
            raise ArtifactError(f"`{source}` has no field `{name}`; it must be {wanted}.")
        if not fits(body[name]):
            shown = repr(body[name])
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            raise ArtifactError(f"`{name}` of `{source}` is {shown}; it must be {wanted}.")
    unknown = sorted(set(body) - set(_FIELDS))
    if unknown:
        raise ArtifactError(f"`{source}` has a field no complaint has: {unknown[0][:60]!r}.")
