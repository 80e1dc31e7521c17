"""A sample of the predictions that still wait for their labels, in memory that does not grow.

Predictions and labels are joined on an id. A prediction has to be at hand when its label comes,
but not afterwards: a joined row leaves and makes room. Filling that room with whatever comes next,
as a classic reservoir would, makes rows that follow a burst of labels likelier to be kept than
rows before it (Shankar & Parameswaran, "Towards observability for production machine learning
pipelines", §3.2.1). Here a row is kept by a hash of its id alone, against a limit that only falls.

The rule. u(id) is uniform in [0, 1) and fixed by id and seed. A pane of time opens with the limit
t = 1 and keeps its rows with u < t. When more than `capacity` rows wait, the rows with the largest
u are dropped, whatever their pane; h is the smallest u that was dropped, and the limit of every
open pane becomes min(t, h). Labels and expiry remove rows; no limit ever rises.

What is guaranteed. Let row i be of pane p, and w = 1/t of p if i is in the sample, else 0, at any
moment at which i is waiting, or at which its label comes. If neither the order of events nor any
value y depends on the hashes, then E[w] = 1 exactly, E[w w'] = 1 for any two rows, and so

    Σ w y has the mean Σ y,   and   Σ over the sample of y² (1 - t)/t² has the mean Var(Σ w y).

Proof. Suppose u of row i is below the final t of its pane. All that was dropped while the pane was
open had a hash of at least t, hence above u. Had u been any other value below t, every step would
have counted the same number of rows and dropped the same ones: t would be the same. So with T the
limit that u = 0 leads to, i is in the sample if and only if u < T, and then t = T. T is a function
of the other rows' hashes, of which u is independent: E[w | the others] = P(u < T)/T = 1. The same
argument with two rows moved at once gives P(both)/(T T') = 1. ∎ (Ting, "Adaptive threshold
sampling", 2022, calls such limits substitutable.)

What is not: the chance of being kept is known for every row, not equal for all. Rows of different
panes, or a row labelled before and one labelled after the limit fell, have different ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.errors import DataError, SettingsError

__all__ = ["Joined", "Reservoir", "Total", "hash64"]

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Joined:
    """The labelled rows that were in the sample: weight each by 1/probability."""

    rows: NDArray[np.int64]  # positions among the ids whose labels came, ascending
    probabilities: NDArray[np.float64]  # chance with which each had been kept until now
    payload: dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Total:
    """Estimate of a sum over all waiting rows, and of its variance; both without bias."""

    value: float
    variance: float


class Reservoir:
    """At most `capacity` waiting predictions, each with a known chance of being kept.

    Parameters
    ----------
    capacity : rows kept at most. An overflow drops an eighth, so that the next is not at once.
    seed : of the hash. Reservoirs that are to be merged share it.

    Examples
    --------
    >>> waiting = Reservoir(100)
    >>> waiting.offer([7, 8, 9], {"predicted": [1, 0, 1]})
    3
    >>> joined = waiting.label([9, 5])
    >>> joined.rows.tolist(), joined.payload["predicted"].tolist(), len(waiting)
    ([0], [1], 2)
    """

    def __init__(self, capacity: int = 4096, *, seed: int = 0) -> None:
        self.capacity = _whole("capacity", capacity, least=1)
        self.seed = _whole("seed", seed, least=0)
        self._hashes = np.zeros(0, np.uint64)  # ascending, all different
        self._ids: NDArray[Any] | None = None
        self._panes = np.zeros(0, np.int64)
        self._payload: dict[str, NDArray[Any]] | None = None
        self._limits: dict[int, int] = {}  # pane -> largest hash that is kept
        self._horizon = -(1 << 63)

    def __len__(self) -> int:
        return self._hashes.size

    @property
    def ids(self) -> NDArray[Any]:
        """Ids of the sample (m,), in the order of all other arrays."""
        return np.zeros(0, np.int64) if self._ids is None else self._ids

    @property
    def panes(self) -> NDArray[np.int64]:
        """Pane of every sampled row (m,)."""
        return self._panes

    @property
    def payload(self) -> dict[str, NDArray[Any]]:
        """What was offered beside the ids: one array (m, ...) per name."""
        return dict(self._payload or {})

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Chance with which every sampled row was kept (m,), in (0, 1]."""
        return _share(self._limits_of(self._panes))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        columns = (self.payload or {}).values()
        arrays = [self._hashes, self._panes, self.ids, *columns]
        return sum(array.nbytes for array in arrays)

    def offer(self, ids: Any, payload: Mapping[str, Any] | None = None, *, panes: Any = 0) -> int:
        """New predictions; how many of them entered.

        Parameters
        ----------
        ids : (n,) integers or strings. One that is in the sample already is passed over.
        payload : arrays (n, ...), under the same names at every call.
        panes : (n,) integers, or one for all. Rows of expired panes are passed over.

        Raises
        ------
        DataError : ids are neither integers nor strings, or arrays differ in length or names.
        """
        keys = _ids(ids)
        columns = self._columns(payload or {}, keys.size)
        numbers = _panes(panes, keys.size)
        hashes = hash64(keys, self.seed)
        self._open(numbers)
        kept = np.flatnonzero((hashes <= self._limits_of(numbers)) & (numbers >= self._horizon))
        kept = kept[np.unique(hashes[kept], return_index=True)[1]]
        kept = kept[~np.isin(hashes[kept], self._hashes)]
        if kept.size:
            rows = {name: column[kept] for name, column in columns.items()}
            self._insert(hashes[kept], keys[kept], numbers[kept], rows)
        return int(np.isin(hashes[kept], self._hashes).sum()) if kept.size else 0

    def label(self, ids: Any) -> Joined:
        """The rows among `ids` that wait in the sample; they leave it.

        An id that is not in the sample, or is named for the second time, is passed over.
        """
        keys = _ids(ids)
        hashes = hash64(keys, self.seed)
        places = np.searchsorted(self._hashes, hashes)
        inside = np.flatnonzero(places < len(self))
        rows = inside[self._hashes[places[inside]] == hashes[inside]]
        rows = np.sort(rows[np.unique(hashes[rows], return_index=True)[1]])
        taken = places[rows]
        joined = Joined(
            rows=rows,
            probabilities=_share(self._limits_of(self._panes[taken])),
            payload={name: column[taken] for name, column in self.payload.items()},
        )
        if taken.size:
            stay = np.ones(len(self), bool)
            stay[taken] = False
            self._keep(stay)
        return joined

    def expire(self, before: int) -> None:
        """Forget every pane before this one, and whatever is offered for them later."""
        self._horizon = max(self._horizon, int(before))
        self._limits = {pane: t for pane, t in self._limits.items() if pane >= self._horizon}
        if (self._panes < self._horizon).any():
            self._keep(self._panes >= self._horizon)

    def estimate(self, values: Any) -> Total:
        """Sum of `values` over all waiting rows, by Horvitz and Thompson (1952).

        Parameters
        ----------
        values : (m,) numbers in the order of `ids`, or the name of a payload. Decay is a factor
            in it, such as ``0.5 ** (now - reservoir.panes)``.
        """
        column = self.payload.get(values) if isinstance(values, str) else np.asarray(values)
        if column is None:
            raise DataError(f"`values` is {values!r}; payloads are {sorted(self.payload)}.")
        if column.shape != (len(self),):
            raise DataError(
                f"`values` has shape {column.shape}; it must be ({len(self)},), one number per "
                "row of `ids`."
            )
        y, chance = column.astype(np.float64), self.probabilities
        return Total(float((y / chance).sum()), float((y**2 * (1 - chance) / chance**2).sum()))

    def merge(self, other: Reservoir) -> Reservoir:
        """Sample of the rows of both; the guarantee holds where they were offered different rows.

        A pane's limit is the smaller of the two.

        Raises
        ------
        SettingsError : seed or capacity differ.
        """
        if (self.seed, self.capacity) != (other.seed, other.capacity):
            raise SettingsError(
                f"`other` has seed {other.seed} and capacity {other.capacity}; this one has "
                f"{self.seed} and {self.capacity}. Create both alike to merge them."
            )
        merged = Reservoir(self.capacity, seed=self.seed)
        merged._horizon = max(self._horizon, other._horizon)
        for pane in sorted(self._limits.keys() | other._limits.keys()):
            if pane >= merged._horizon:
                limits = self._limits.get(pane, _WORD), other._limits.get(pane, _WORD)
                merged._limits[pane] = min(limits)
        for part in (self, other):
            stay = (part._panes >= merged._horizon) & ~np.isin(part._hashes, merged._hashes)
            stay &= part._hashes <= merged._limits_of(part._panes)
            rows = {name: column[stay] for name, column in part.payload.items()}
            if part._ids is not None:
                merged._insert(part._hashes[stay], part._ids[stay], part._panes[stay], rows)
        return merged

    def _open(self, panes: NDArray[np.int64]) -> None:
        for pane in _different(panes):
            if pane >= self._horizon:
                self._limits.setdefault(pane, _WORD)

    def _limits_of(self, panes: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Largest hash kept in the pane of every row."""
        if len(self._limits) == 1:
            return np.full(panes.size, next(iter(self._limits.values())), np.uint64)
        numbers, inverse = np.unique(panes, return_inverse=True)
        limits = [self._limits.get(pane, 0) for pane in numbers.tolist()]
        return np.array(limits, np.uint64)[inverse]

    def _insert(
        self,
        hashes: NDArray[np.uint64],
        ids: NDArray[Any],
        panes: NDArray[np.int64],
        payload: dict[str, NDArray[Any]],
    ) -> None:
        """Add rows, sort by hash, and drop the largest if there are too many."""
        if self._ids is None or self._payload is None:
            self._ids, self._payload = ids[:0], {name: col[:0] for name, col in payload.items()}
        if (self._ids.dtype.kind == "U") != (ids.dtype.kind == "U"):
            raise DataError("`ids` mixes integers and strings; use one kind in one reservoir.")
        everything = np.concatenate([self._hashes, hashes])
        order = np.argsort(everything)
        if order.size > self.capacity:
            room = self.capacity - self.capacity // 8
            limit = int(everything[order[room]]) - 1
            self._limits = {pane: min(t, limit) for pane, t in self._limits.items()}
            order = order[:room]
        self._hashes = everything[order]
        self._ids = np.concatenate([self._ids, ids])[order]
        self._panes = np.concatenate([self._panes, panes])[order]
        self._payload = {
            name: np.concatenate([column, payload[name]])[order]
            for name, column in self._payload.items()
        }

    def _keep(self, stay: NDArray[np.bool_]) -> None:
        self._hashes, self._panes = self._hashes[stay], self._panes[stay]
        self._ids = self.ids[stay]
        self._payload = {name: column[stay] for name, column in self.payload.items()}

    def _columns(self, payload: Mapping[str, Any], rows: int) -> dict[str, NDArray[Any]]:
        columns = {name: np.asarray(column) for name, column in payload.items()}
        if self._payload is not None and columns.keys() != self._payload.keys():
            raise DataError(
                f"`payload` has {sorted(columns)}; earlier rows came with {sorted(self._payload)}."
                " Offer the same names at every call."
            )
        for name, column in columns.items():
            if column.shape[:1] != (rows,):
                raise DataError(
                    f"`payload[{name!r}]` has shape {column.shape}; its length must be {rows}, "
                    "that of `ids`."
                )
        return columns


def hash64(ids: Any, seed: int = 0) -> NDArray[np.uint64]:
    """Uniform 64-bit numbers (n,), the same in every process; not meant to keep secrets.

    Integers pass twice through the finaliser of SplitMix64 (Steele, Lea & Flood 2014), a
    bijection: no two share a number. Of 10⁷ strings two do with a chance of 3e-6, and then count
    as one row. A trailing NUL is no part of a string here.

    Examples
    --------
    >>> hash64([1, 2]).tolist() == hash64([1, 2]).tolist() != hash64([1, 2], seed=1).tolist()
    True
    """
    keys = _ids(ids)
    first = _mix(np.array([(seed * _GOLDEN + _GOLDEN) & _WORD], np.uint64))
    if keys.dtype.kind != "U":
        return _mix(_mix(keys.view(np.uint64) ^ first) + first)
    state = np.broadcast_to(first, keys.shape).copy()
    letters = np.ascontiguousarray(keys).view(np.uint32).reshape(keys.size, -1)
    for letter in letters.T:
        # The padding of shorter strings must not count: widths differ from batch to batch.
        step = (state ^ letter.astype(np.uint64)) * np.uint64(_GOLDEN)
        step ^= step >> np.uint64(32)
        state = np.where(letter > 0, step, state)
    return _mix(_mix(state) + first)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _share(limits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Chance that a hash is at most the limit."""
    return (limits.astype(np.float64) + 1) / 2.0**64


def _different(panes: NDArray[np.int64]) -> list[int]:
    if panes.size and panes[0] == panes[-1] and (panes == panes[0]).all():
        return [int(panes[0])]
    return np.unique(panes).tolist()


def _ids(ids: Any) -> NDArray[Any]:
    keys = np.asarray(ids)
    if keys.ndim != 1:
        raise DataError(f"`ids` has shape {keys.shape}; it must be (n,).")
    if keys.size == 0:
        return keys if keys.dtype.kind == "U" else keys.astype(np.int64)
    if keys.dtype.kind == "O" and all(isinstance(key, str) for key in keys):
        keys = keys.astype(str)
    if keys.dtype.kind == "U":
        return keys if keys.dtype.itemsize else keys.astype("U1")
    if keys.dtype.kind not in "iu" or (keys.dtype == np.uint64 and keys.max() >> 63):
        raise DataError(
            f"`ids` has dtype {keys.dtype}; ids are 64-bit integers or strings. Convert others "
            "with astype(str)."
        )
    return np.ascontiguousarray(keys, np.int64)


def _panes(panes: Any, rows: int) -> NDArray[np.int64]:
    numbers = np.asarray(panes)
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise DataError(f"`panes` has dtype {numbers.dtype}; panes are whole numbers.")
    if numbers.shape not in ((), (rows,)):
        raise DataError(f"`panes` has shape {numbers.shape}; give one, or one per id ({rows},).")
    return np.broadcast_to(numbers.astype(np.int64), (rows,))


def _whole(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SettingsError(f"`{name}` is {value!r}; it must be a whole number >= {least}.")
    return int(value)
