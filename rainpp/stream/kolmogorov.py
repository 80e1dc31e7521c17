"""Kolmogorov-Smirnov distance of live rows to the training data, from counts that add up.

The training features are cut once into bins of nearly equal mass; a batch of live rows becomes one
vector of counts. Windows slide by adding panes and subtracting them, a retraction subtracts what
the row once added, and neither the training rows nor the live ones are kept (Shankar and
Parameswaran 2021, §3.3.3, who ask for K-S measures without holding both in memory).

    reference = Reference.of(training_columns)
    window = reference.count(pane_1) + reference.count(pane_2)
    window -= reference.count(retracted)
    reference.distance(window)          # one D per feature, in the order of reference.names
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rainpp.errors import ArtifactError, DataError, SettingsError

Counts = NDArray[np.int64]

# Categories beyond these, the rarest ones, share the slot of values never seen: a sketch stays one.
_CATEGORIES = 4096
_CATEGORY = "category"


@dataclass(frozen=True, eq=False)
class Feature:
    """One feature of the training data, as its bins and how many training rows fall in each.

    `edges (e,)` rise strictly; bin i of the e + 1 holds values in (edges[i-1], edges[i]]. A feature
    of categories has `categories` instead, a bin for each and one for all others. `counts` has one
    slot more than there are bins: the last one is for missing values (NaN, None).
    """

    name: str
    edges: NDArray[np.floating[Any]] | None
    categories: tuple[str | bool | int | float, ...]
    counts: Counts

    @property
    def kind(self) -> str:
        """The type live values are compared in: ``float32``, ``float64`` or ``category``."""
        return _CATEGORY if self.edges is None else str(self.edges.dtype)

    @cached_property
    def _slots(self) -> _Slots:
        return _Slots(self.categories)

    def count(self, values: NDArray[Any]) -> Counts:
        """Live values by slot; `values` are as `_column` returns them."""
        if self.edges is None:
            found = np.fromiter(map(self._slot, values.tolist()), np.intp, len(values))
            return np.bincount(found, minlength=len(self.counts))
        if len(values) <= len(self.edges):
            found = self.edges.searchsorted(values)
            found[np.isnan(values)] = len(self.edges) + 1
            return np.bincount(found, minlength=len(self.counts))
        # NumPy sorts 1e5 float32 in 6 ns each and then a search per edge is cheap; searching for
        # every value costs 60 ns. NaN is sorted to the end.
        ordered = np.sort(values)
        ends = np.zeros(len(self.counts) + 1, np.int64)
        ends[1:-2] = ordered.searchsorted(self.edges, "right")
        ends[-2:] = ordered.searchsorted(np.nan), len(ordered)
        return np.diff(ends)

    def _slot(self, value: Any) -> int:
        try:
            return self._slots[value]
        except TypeError:  # cannot be hashed, or says no truth: pandas.NA
            if _is_missing(value):
                return len(self.categories) + 1
            raise _not_a_category(self.name, value) from None


class _Slots(dict[Any, int]):
    """Categories to slots; what is not among them is missing, or other."""

    def __init__(self, categories: tuple[Any, ...]) -> None:
        super().__init__({value: slot for slot, value in enumerate(categories)})
        self._other = len(categories)

    def __missing__(self, value: Any) -> int:
        return self._other + int(_is_missing(value))


@dataclass(frozen=True, eq=False)
class Reference:
    """The training features as bins: what live rows are counted into and compared with.

    Counts are int64 vectors with the slots of all features one after another, so windows, merges
    and retractions are sums and differences, exact in any order. A stack (w, slots) is w windows.
    """

    features: tuple[Feature, ...]

    @classmethod
    def of(cls, columns: Mapping[str, ArrayLike], bins: int = 512) -> Reference:
        """The sketch of training columns.

        Parameters
        ----------
        columns : name -> values (n,), one per row. Numbers and truth values are compared by their
            distribution function, in float32 where that holds them (float16, float32, int16 and
            smaller) and in float64 otherwise; strings and mixed objects by category. NaN and None
            are missing.
        bins : the most training rows a bin of a numeric feature holds, as a share: 1/bins, unless
            they all have the same value. Where a feature has at most `bins` values every one has
            a bin to itself.

        Raises
        ------
        SettingsError : fewer than 2 bins.
        DataError : no column, no row, columns of unequal lengths, values of an unusable type.

        Examples
        --------
        >>> reference = Reference.of({"age": [20, 30, 40, 50], "city": ["A", "A", "B", None]})
        >>> live = reference.count({"age": [35, 45, 60, 70], "city": ["A", "B", "C", "C"]})
        >>> reference.distance(live)
        array([0.5, 0.5])
        """
        if bins < 2:
            raise SettingsError(f"`bins` is {bins}; it must be at least 2. 512 keep D within 0.002")
        arrays = {name: _as_feature(name, values) for name, values in columns.items()}
        _one_length(arrays)
        return cls(tuple(_feature(name, values, bins) for name, values in arrays.items()))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Features, in the order of everything that is returned."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def counts(self) -> Counts:
        """The training rows, counted as live ones are: (slots,)."""
        return np.concatenate([feature.counts for feature in self.features])

    def count(self, columns: Mapping[str, ArrayLike]) -> Counts:
        """A batch of live rows by slot (slots,): to be added, merged, and subtracted on expiry.

        Numbers are rounded to the type of the training column first.

        Raises
        ------
        DataError : a column is missing, unknown, of another length or kind; or there is no row.

        Cost: 10 to 20 ns per number, 40 ns per category, one sorted copy of a column at a time.
        """
        unknown = [name for name in columns if name not in self.names]
        missing = [name for name in self.names if name not in columns]
        if unknown or missing:
            what = f"`{unknown[0]}` is no feature" if unknown else f"`{missing[0]}` is missing"
            raise DataError(
                f"columns of a batch: {what}. The reference has {', '.join(self.names)}; pass "
                "exactly these"
            )
        arrays = {item.name: _column(item, columns[item.name]) for item in self.features}
        _one_length(arrays)
        return np.concatenate([item.count(arrays[item.name]) for item in self.features])

    def distance(self, counts: Counts) -> NDArray[np.float64]:
        """How far live rows are from the training rows, per feature: (..., m), each in [0, 1].

        Numbers: the Kolmogorov-Smirnov statistic, the largest difference between the two empirical
        distribution functions, read off at the edges of the bins. Between two edges they may differ
        by more, at most by the share of training rows in between: the true statistic exceeds the
        one returned by at most the mass of a bin that is not one value, ≤ 1/bins. So it is exact
        where a feature has at most `bins` values. Categories: total variation, ½ Σ|p - q|, values
        not in the training data counted as one. Missing values are left out: see `missing`. NaN
        where a feature has no live value.

        Raises
        ------
        DataError : counts of another reference, or more rows retracted than were counted.
        """
        live, train = self._present(counts), self._present(self.counts)
        apart = np.abs(self._cumulative(live) - self._cumulative(train))
        largest = np.maximum.reduceat(apart, self._starts, axis=-1)
        moved = np.abs(self._shares(live) - self._shares(train))
        return np.where(
            self._is_category, np.add.reduceat(moved, self._starts, axis=-1) / 2, largest
        )

    def divergence(self, counts: Counts) -> NDArray[np.float64]:
        """Jensen-Shannon divergence of the binned values in bits, per feature: (..., m) in [0, 1].

        It counts bins, not order, and is biased upward by about bins/(8·ln 2·rows) on rows without
        any drift: use it for windows with many more rows than bins. Missing values are left out.
        """
        live = self._shares(self._present(counts))
        train = self._shares(self._present(self.counts))
        mean = (live + train) / 2
        bits = (_p_log_p(live) + _p_log_p(train)) / 2 - _p_log_p(mean)
        return np.add.reduceat(bits, self._starts, axis=-1).clip(0.0, 1.0)

    def missing(self, counts: Counts) -> NDArray[np.float64]:
        """Share of missing values per feature, (..., m); NaN in an empty window."""
        live = self._checked(counts)
        rows = np.add.reduceat(live, self._starts, axis=-1)
        with np.errstate(invalid="ignore"):
            return live[..., self._missing] / rows

    def rows(self, counts: Counts) -> Counts:
        """Live rows in each window: (...)."""
        live = self._checked(counts)
        return live[..., : len(self.features[0].counts)].sum(axis=-1)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The sketch as plain arrays, for `numpy.savez` and `from_arrays`."""
        edges = [item.edges for item in self.features if item.edges is not None]
        return {
            "names": np.array(self.names),
            "kinds": np.array([item.kind for item in self.features]),
            "num_slots": np.array([len(item.counts) for item in self.features]),
            "edges": np.concatenate([np.zeros(0), *edges]),
            "categories": np.array([json.dumps(item.categories) for item in self.features]),
            "counts": self.counts,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Reference:
        """The sketch that `to_arrays` wrote.

        Raises
        ------
        ArtifactError : an array is missing, or they do not fit together.
        """
        try:
            return cls(tuple(_read(arrays)))
        except (KeyError, ValueError, TypeError, IndexError) as problem:
            raise ArtifactError(
                f"these arrays are no K-S reference ({problem}); write it again from "
                "`Reference.of(...)`"
            ) from problem

    @cached_property
    def _sizes(self) -> NDArray[np.intp]:
        return np.array([len(feature.counts) for feature in self.features])

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        return np.cumsum(self._sizes) - self._sizes

    @cached_property
    def _missing(self) -> NDArray[np.intp]:
        return np.cumsum(self._sizes) - 1

    @cached_property
    def _is_category(self) -> NDArray[np.bool_]:
        return np.array([feature.edges is None for feature in self.features])

    def _present(self, counts: Counts) -> Counts:
        """Rows by slot, without those where the value is missing."""
        present = self._checked(counts).copy()
        present[..., self._missing] = 0
        return present

    def _cumulative(self, present: Counts) -> NDArray[np.float64]:
        """Distribution function at the upper end of every bin."""
        totals = np.add.reduceat(present, self._starts, axis=-1)
        before = np.cumsum(totals, axis=-1) - totals  # whole numbers, so the difference is exact
        return self._over(np.cumsum(present, axis=-1) - self._spread(before), totals)

    def _shares(self, present: Counts) -> NDArray[np.float64]:
        """Each bin's share of the values of its feature."""
        return self._over(present, np.add.reduceat(present, self._starts, axis=-1))

    def _over(self, counts: Counts, totals: Counts) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # no value: NaN
            return counts / self._spread(totals)

    def _spread(self, by_feature: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(by_feature, self._sizes, axis=-1)

    def _checked(self, counts: Counts) -> Counts:
        counts = np.asarray(counts)
        if counts.ndim == 0 or counts.shape[-1] != len(self.counts):
            raise DataError(
                f"`counts` has shape {counts.shape}; this reference counts into (..., "
                f"{len(self.counts)}). Pass sums of what its own `count` returned"
            )
        if counts.min(initial=0) < 0:
            raise DataError(
                f"`counts` holds {counts.min()}: more rows were taken out of the window than were "
                "put in. Retract only what `count` added"
            )
        return counts


def _p_log_p(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return p * np.log2(np.where(p > 0.0, p, 1.0))


def _feature(name: str, values: NDArray[Any], bins: int) -> Feature:
    """Bins of one training column, and its rows in them."""
    if values.dtype != object:
        edges = _edges(values[~np.isnan(values)], bins)
        empty = Feature(name, edges, (), np.zeros(len(edges) + 2, np.int64))
    else:
        categories = _most_frequent(name, values)
        empty = Feature(name, None, categories, np.zeros(len(categories) + 2, np.int64))
    if not len(values):
        raise DataError(f"`{name}` has no row; a reference needs at least one")
    return Feature(name, empty.edges, empty.categories, empty.count(values))


def _edges(values: NDArray[np.floating[Any]], bins: int) -> NDArray[np.floating[Any]]:
    """Where to cut: bins of at most 1/bins of the rows, and a bin of its own for heavier values.

    A value has a bin of its own where an edge lies on it and one just below; the one below tells it
    from live values in the gap before it.
    """
    distinct, counts = np.unique(values, return_counts=True)
    depth = len(values) / bins
    heavy = (counts > depth / 2) | (len(distinct) <= bins)
    light, counts = distinct[~heavy], counts[~heavy]
    # A bin begins at the first light value with `step` rows more before it than the last one's, so
    # it holds at most step + the rows of its last value.
    step = depth - counts.max(initial=0)
    begins = np.diff((np.cumsum(counts) - counts) // max(step, 1.0)) > 0
    below = np.nextafter(distinct[heavy], -np.inf, dtype=values.dtype)
    return np.unique(np.concatenate([light[:-1][begins], distinct[heavy], below]))


def _most_frequent(name: str, values: NDArray[Any]) -> tuple[Any, ...]:
    """Categories by falling frequency, those seen first before others as frequent."""
    found: dict[Any, int] = {}
    for value in values.tolist():
        if not _is_missing(value):
            if not isinstance(value, (str, bool, int, float)):
                raise _not_a_category(name, value)
            found[value] = found.get(value, 0) + 1
    return tuple(sorted(found, key=found.__getitem__, reverse=True)[:_CATEGORIES])


def _as_feature(name: str, values: ArrayLike) -> NDArray[Any]:
    """A training column as float32, float64 or an object array of categories."""
    array = _plain(name, values)
    if array.dtype != object:
        return array.astype(np.result_type(array.dtype, np.float32), copy=False)
    numbers = _numbers(array)
    return array if numbers is None else numbers


def _column(feature: Feature, values: ArrayLike) -> NDArray[Any]:
    """A live column in the type of the reference."""
    array = _plain(feature.name, values)
    if not len(array):  # of no kind; `_one_length` says what is wrong
        return array
    if feature.edges is None:
        if array.dtype == object:
            return array
    else:
        numbers = _numbers(array) if array.dtype == object else array
        if numbers is not None:
            with np.errstate(over="ignore"):  # beyond float32 is infinite, and so compared
                return numbers.astype(feature.edges.dtype, copy=False)
    wanted = "categories (strings)" if feature.edges is None else f"numbers ({feature.kind})"
    raise DataError(
        f"`{feature.name}` holds {'objects' if array.dtype == object else array.dtype}, the "
        f"reference {wanted}. Convert the live column, or build the reference from columns like it"
    )


def _plain(name: str, values: ArrayLike) -> NDArray[Any]:
    """One-dimensional, of numbers or of objects, nothing masked."""
    gone = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    try:
        array = np.asarray(values)
    except ValueError as problem:
        raise DataError(f"`{name}` is no column: {problem}. Pass one value per row") from None
    if array.ndim != 1:
        raise DataError(f"`{name}` has shape {array.shape}; a column has one value per row: (n,)")
    if array.dtype.kind in "OUT":
        array = array.astype(object)
        if gone is not None:
            array[gone] = None
        return array
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"`{name}` holds {array.dtype}; a feature holds numbers, truth values or strings. Cast "
            "dates to seconds, and bytes to strings"
        )
    if array.dtype.itemsize > 8 or (gone is not None and array.dtype.kind != "f"):
        array = array.astype(np.float64)
    return array if gone is None else np.where(gone, np.array(np.nan, array.dtype), array)


def _numbers(array: NDArray[Any]) -> NDArray[np.float64] | None:
    """Objects as numbers, the missing ones NaN; nothing where one of them is not a number."""
    listed = array.tolist()
    gone = [_is_missing(value) for value in listed]
    fit = all(
        absent or (isinstance(value, (int, float, np.number)) and not isinstance(value, bool))
        for value, absent in zip(listed, gone, strict=True)
    )
    if not fit:
        return None
    pairs = zip(listed, gone, strict=True)
    return np.array([np.nan if absent else float(value) for value, absent in pairs], np.float64)


def _is_missing(value: Any) -> bool:
    """None, NaN, or another library's word for them: no other value differs from itself."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA has no truth; an array has several
        return type(value).__name__ == "NAType"


def _not_a_category(name: str, value: Any) -> DataError:
    return DataError(
        f"`{name}` holds {value!r}, a {type(value).__name__}; a category is a string, a number or "
        "a truth value. Convert the column"
    )


def _one_length(arrays: Mapping[str, NDArray[Any]]) -> None:
    if not arrays:
        raise DataError("there is no column; pass at least one feature by its name")
    lengths = {name: len(values) for name, values in arrays.items()}
    first, rows = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != rows:
            raise DataError(
                f"`{name}` has {length} rows and `{first}` has {rows}; pass columns of one length"
            )
    if not rows:
        raise DataError(f"`{first}` has no row; skip an empty batch")


def _read(arrays: Mapping[str, NDArray[Any]]) -> list[Feature]:
    """The features of `Reference.to_arrays`."""
    take = _taker(np.asarray(arrays["counts"], np.int64)), _taker(arrays["edges"])
    features: list[Feature] = []
    columns = (arrays[name].tolist() for name in ("names", "kinds", "num_slots", "categories"))
    for name, kind, slots, listed in zip(*columns, strict=True):
        categories = tuple(json.loads(listed))
        edges = None if kind == _CATEGORY else take[1](slots - 2).astype(kind)
        if (len(categories) if edges is None else len(edges)) + 2 != slots:
            raise ValueError(f"`{name}` has {slots} slots, which is not what its bins need")
        features.append(Feature(name, edges, categories, take[0](slots)))
    if (
        not features
        or len(take[0](0))
        or sum(len(item.counts) for item in features) != len(arrays["counts"])
    ):
        raise ValueError("`counts` does not have as many slots as the features")
    return features


def _taker(flat: NDArray[Any]) -> Callable[[int], NDArray[Any]]:
    """Hands out a flat array piece by piece."""
    at = 0

    def take(length: int) -> NDArray[Any]:
        nonlocal at
        at += length
        if at > len(flat):
            raise ValueError("an array ends too early")
        return flat[at - length : at]

    return take
