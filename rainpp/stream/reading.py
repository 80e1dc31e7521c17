"""Records of a window read as the answer of the query: cells, their spread and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainpp.stream.cells import Key, Layout
from rainpp.stream.standing import Standing, Term

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reading:
    """One number of the answer.

    Attributes
    ----------
    plain : under the likeliest classes; NaN for NULL.
    relaxed : its expectation; an AVG is the expected sum over the expected count.
    spread : standard deviation of the number if every prediction came true with its probability;
        NaN where it is not kept.
    slope : (k,), of `relaxed` along the eigenvectors; or a function that makes it when it is asked
        for.
    """

    plain: float
    relaxed: float
    spread: float
    slope: Array | Callable[[], Array]

    @property
    def gradient(self) -> Array:
        """Derivative of `relaxed` along the eigenvectors (k,)."""
        return self.slope() if callable(self.slope) else self.slope


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the answer.

    Attributes
    ----------
    present : whether it is in the plain answer.
    rows : how many rows, or joined rows, could count for it.
    cells : by column name.
    """

    key: Key
    present: bool
    rows: float
    cells: dict[str, Reading]


@dataclass(frozen=True, eq=False)
class _Sum:
    """A sum of the query for one row of the answer."""

    plain: float
    value: float
    variance: float
    gradient: Array


def read_rows(
    query: Standing, layouts: Sequence[Layout], sides: Sequence[tuple[list[Key], Array]]
) -> list[Row]:
    """The answer for one window.

    Parameters
    ----------
    layouts, sides : of every side of the query; keys and records (n, width) of its cells.
    """
    if len(query.sides) == 1:
        keys, records = sides[0]
        sums = [_Own(layouts[0], record) for record in records]
        rows = [float(record[0]) for record in records]
        found = [_row(query, key, sum_, n) for key, sum_, n in zip(keys, sums, rows, strict=True)]
    else:
        found = _joined_rows(query, layouts, sides)
    if not found and not query.keys:
        k = layouts[0].k
        found = [_row(query, (), _Nothing(k), 0.0)]
    return sorted(found, key=lambda row: tuple(map(_order, row.key)))


def absent_row(query: Standing, key: Key, k: int) -> Row:
    """A row of the answer that no row counts for."""
    return _row(query, key, _Nothing(k), 0.0)


def _order(value: object) -> tuple[str, object]:
    """Values of one kind in their order, kinds and NULL apart."""
    if isinstance(value, bool | int | float):
        return "", float(value)
    return type(value).__name__, value if isinstance(value, str) else str(value)


class _Own:
    """Sums of a query over one table: columns of a record."""

    def __init__(self, layout: Layout, record: Array) -> None:
        self._layout, self._record = layout, record

    def __getitem__(self, weights: tuple[int, ...]) -> _Sum:
        layout, record, part = self._layout, self._record, weights[0]
        return _Sum(
            float(record[layout.plain(part)]),
            float(record[layout.value(part)]),
            float(record[layout.variance(part)]),
            record[layout.gradient(part)],
        )


class _Nothing:
    """Sums of no rows."""

    def __init__(self, k: int) -> None:
        self._sum = _Sum(0.0, 0.0, 0.0, np.zeros(k))

    def __getitem__(self, weights: tuple[int, ...]) -> _Sum:
        return self._sum


class _Product:
    """Sums over joined rows: for every join key the product of the sides' sums."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self._layouts = layouts
        self._pairs: list[tuple[Array, Array]] = []

    def add(self, left: Array, right: Array) -> None:
        self._pairs.append((left, right))

    @property
    def rows(self) -> float:
        return float(sum(left[0] * right[0] for left, right in self._pairs))

    def __getitem__(self, weights: tuple[int, ...]) -> _Sum:
        (a, b), (first, second) = weights, self._layouts
        left = np.stack([pair[0] for pair in self._pairs])
        right = np.stack([pair[1] for pair in self._pairs])
        values = left[:, first.value(a)], right[:, second.value(b)]
        return _Sum(
            float(left[:, first.plain(a)] @ right[:, second.plain(b)]),
            float(values[0] @ values[1]),
            float("nan"),  # joined rows share predictions
            values[1] @ left[:, first.gradient(a)] + values[0] @ right[:, second.gradient(b)],
        )


def _joined_rows(
    query: Standing, layouts: Sequence[Layout], sides: Sequence[tuple[list[Key], Array]]
) -> list[Row]:
    joins = query.sides[0].joins
    by_join: dict[Key, list[int]] = {}
    for place, key in enumerate(sides[1][0]):
        by_join.setdefault(key[:joins], []).append(place)
    found: dict[Key, _Product] = {}
    for place, key in enumerate(sides[0][0]):
        if None in key[:joins]:
            continue
        for other in by_join.get(key[:joins], ()):
            both = (key, sides[1][0][other])
            out = tuple(both[side][at] for side, at, _ in query.keys)
            product = found.setdefault(out, _Product(layouts))
            product.add(sides[0][1][place], sides[1][1][other])
    return [_row(query, key, product, product.rows) for key, product in found.items()]


def _row(query: Standing, key: Key, sums: _Own | _Product | _Nothing, rows: float) -> Row:
    everything = tuple(0 for _ in query.sides)
    present = not query.keys or sums[everything].plain > 0.5
    terms = [_term(term, sums) for term in query.terms]
    cells: dict[str, Reading] = {}
    for cell in query.cells:
        chosen = [(scale, terms[at]) for scale, at in cell.terms]
        variance = sum(scale**2 * term.variance for scale, term in chosen)
        cells[query.columns[cell.position]] = Reading(
            cell.constant + sum(scale * term.plain for scale, term in chosen),
            cell.constant + sum(scale * term.value for scale, term in chosen),
            # Two sums of one row are not independent.
            float(np.sqrt(max(variance, 0.0))) if len(chosen) == 1 else float("nan"),
            np.sum([scale * term.gradient for scale, term in chosen], axis=0),
        )
    return Row(key, present, rows, cells)


def _term(term: Term, sums: _Own | _Product | _Nothing) -> _Sum:
    value = sums[term.value]
    if term.count is None:
        return value
    count = sums[term.count]
    plain = value.plain if count.plain > 0.5 else float("nan")
    if term.kind == "SUM":
        return _Sum(plain, value.value, value.variance, value.gradient)
    if not count.value:
        return _Sum(float("nan"), float("nan"), float("nan"), np.zeros_like(value.gradient))
    mean = value.value / count.value
    variance = value.variance / count.value**2 if not count.variance else float("nan")
    return _Sum(
        plain / count.plain if count.plain else plain,
        mean,
        variance,
        (value.gradient - mean * count.gradient) / count.value,
    )
