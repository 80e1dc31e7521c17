"""Projections in half precision or in bytes: a smaller index for slightly rounded scores.

float16 : 2k bytes an intervention instead of 4k. Columns are scaled by powers of two.
int8 : k + 4 bytes. Columns are divided by the root of their eigenvalue, so that all weigh alike in
    a score, then every row by its largest number: one scale for a column or a block of rows would
    round the many rows with small gradients to zero.

MNIST, logistic regression, k = 20, the least of 8 rank correlations with scores as computed: 60 000
deletions 0.999999 and 0.9997, 600 000 interventions 0.99998 and 0.9987 (98 of the top 100 stay).
Neither companding nor rotating the rows brought bytes to 0.999 for relabels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rainpp.errors import ArtifactError, SettingsError
from rainpp.index.arrayfile import ArrayFile, Finished
from rainpp.index.checks import Check
from rainpp.index.score import Projections
from rainpp.selection import leading

KINDS = ("float32", "float16", "int8")
# What Spearman's correlation of scores with those of the numbers as computed must reach.
LEAST_AGREEMENT = 0.999
_BLOCK_ROWS = 1 << 16
# The largest number of a column becomes at most this: 16 times as much still fits into a half.
_HALF_TOP = 2.0**12
_BYTE_TOP = 127
_COMPLAINTS, _COMPLAINT_ROWS, _SCORED_ROWS, _TOP = 8, 256, 1 << 18, 100

Arrays = dict[str, np.ndarray | Finished]


def check_storage(storage: Any) -> None:
    """Refuse a storage that is none.

    Raises
    ------
    SettingsError : it is not one of `KINDS`.
    """
    if storage not in KINDS:
        raise SettingsError(f"`storage` is {storage!r}; it must be one of {', '.join(KINDS)}.")


@dataclass(frozen=True, eq=False)
class Stored:
    """Arrays of an index in some storage, and what its manifest says about that."""

    arrays: Arrays
    notes: dict[str, Any]
    checks: list[dict[str, Any]]


def store_projections(
    arrays: Arrays, storage: str, eigenvalues: np.ndarray, *, seed: int
) -> Stored:
    """`projections` among `arrays` in another storage, its agreement measured; all else as it is.

    A file is written beside the file they come from.
    """
    if storage == "float32":
        return Stored(arrays, {}, [])
    full = _opened(arrays["projections"])
    columns = _half_scales(full) if storage == "float16" else np.sqrt(eigenvalues)
    columns = columns.astype(np.float32)
    values = _file_beside(arrays["projections"], storage, full.shape)
    rows = np.empty(len(full), np.float32) if storage == "int8" else None
    found = np.empty(full.shape, storage) if values is None else None
    for where in _blocks(len(full)):
        part, scale = _rounded(full[where], columns, storage)
        if values is None:
            assert found is not None  # one of them is there
            found[where] = part
        else:
            values.put(where.start, part)
        if rows is not None:
            rows[where] = scale
    if values is not None:
        values.sync()
        values.close()
    stored = found if values is None else values.finished
    assert stored is not None  # one of them is there
    more: Arrays = {"projections": stored, "projection_columns": columns}
    if rows is not None:
        more["projection_rows"] = rows
    compact = Projections(_opened(stored), columns, rows)
    agreement, shared = _agreement(
        full, compact, _opened(arrays["plausibility"]), eigenvalues, seed=seed
    )
    notes = {"storage": {"kind": storage, "agreement": agreement, "shared_top": shared}}
    return Stored({**arrays, **more}, notes, [asdict(_check(storage, agreement, shared))])


def stored_alike(arrays: Mapping[str, np.ndarray], new: np.ndarray) -> dict[str, np.ndarray]:
    """New projections in the storage of those among `arrays`, to follow them.

    Raises
    ------
    ArtifactError : a number is too large for half precision beside the ones that are there.
    """
    columns = arrays.get("projection_columns")
    if columns is None:
        return {"projections": new}
    storage = arrays["projections"].dtype.name
    values, scale = _rounded(new, columns, storage)
    if not np.isfinite(values).all():
        raise ArtifactError(
            "a new row has projections too large for the float16 storage of this index; run "
            "rainpp.precompute again for all rows."
        )
    found = {"projections": values}
    return found if scale is None else {**found, "projection_rows": scale}


def _rounded(
    part: np.ndarray, columns: np.ndarray, storage: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Some rows in a storage, and their scales if it has any."""
    scaled = part / columns
    if storage == "float16":
        with np.errstate(over="ignore"):  # infinity is refused by whoever can meet it
            return scaled.astype(np.float16), None
    scale = (np.abs(scaled).max(axis=1, initial=0.0) / _BYTE_TOP).astype(np.float32)
    safe = np.where(scale > 0, scale, 1.0)[:, None]
    whole = np.clip(np.rint(scaled / safe), -_BYTE_TOP, _BYTE_TOP)
    return whole.astype(np.int8), scale


def _half_scales(full: np.ndarray) -> np.ndarray:
    """Powers of two, which round nothing, that bring each column into the range of halves."""
    largest = np.zeros(full.shape[1])
    for where in _blocks(len(full)):
        largest = np.maximum(largest, np.abs(full[where]).max(axis=0, initial=0.0))
    return 2.0 ** np.ceil(np.log2(np.where(largest > 0, largest, _HALF_TOP) / _HALF_TOP))


def _agreement(
    full: np.ndarray,
    compact: Projections,
    plausibility: np.ndarray,
    eigenvalues: np.ndarray,
    *,
    seed: int,
) -> tuple[float, float]:
    """Least rank correlation between both scores of the same interventions, and share of the top.

    Complaints are sums of the gradients of 256 random rows, as counts and sums of predictions are.
    """
    from scipy.stats import rankdata

    generator = np.random.default_rng((seed, 0x57))
    ranked = _some(len(full), _SCORED_ROWS, generator)
    exact, chances = np.asarray(full[ranked], np.float64), plausibility[ranked]
    rows = None if compact.rows is None else compact.rows[ranked]
    parts = Projections(compact.values[ranked], compact.columns, rows)
    correlations, shares = [1.0], [1.0]
    for _ in range(_COMPLAINTS):
        chosen = _some(len(full), _COMPLAINT_ROWS, generator)
        direction = np.asarray(full[chosen], np.float64).sum(axis=0) / eigenvalues
        one = exact @ direction * chances
        other = (parts @ direction.astype(parts.dtype)).astype(np.float64) * chances
        if np.ptp(one) > 0:
            ranks = rankdata(one), rankdata(other)
            correlations.append(float(np.corrcoef(*ranks)[0, 1]))
            top = min(_TOP, len(one))
            both = np.intersect1d(leading(one, top), leading(other, top))
            shares.append(len(both) / top)
    return min(correlations), min(shares)


def _check(storage: str, agreement: float, shared: float) -> Check:
    passed = agreement >= LEAST_AGREEMENT
    advice = "" if passed else "Rows change places: use storage='float16', or 'float32'."
    note = f"rank correlation of {storage} scores, least of 8; {shared:.0%} of the top 100 stay"
    return Check("storage", agreement, LEAST_AGREEMENT, passed, note, advice)


def _some(size: int, most: int, generator: np.random.Generator) -> np.ndarray:
    return np.sort(generator.choice(size, min(size, most), replace=False))


def _opened(array: np.ndarray | Finished) -> np.ndarray:
    return np.load(array.file, "r", allow_pickle=False) if isinstance(array, Finished) else array


def _file_beside(
    array: np.ndarray | Finished, storage: str, shape: tuple[int, ...]
) -> ArrayFile | None:
    if not isinstance(array, Finished):
        return None
    return ArrayFile(
        array.file.with_suffix(f".{storage}.npy"), np.dtype(storage), shape, fresh=True
    )


def _blocks(size: int) -> Iterator[slice]:
    for start in range(0, size, _BLOCK_ROWS):
        yield slice(start, min(start + _BLOCK_ROWS, size))
