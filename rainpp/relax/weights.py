"""Expected values of row formulas and their derivatives with respect to class probabilities.

A formula is a product or a union of parts that share no prediction, so expectations multiply.
A part over shared predictions is a tensor over their joint classes, contracted with the
probabilities. ``beliefs[v] (n, R)`` holds variable v's probabilities for each of n rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.masks import Factor

Array = NDArray[np.float64]
Beliefs = dict[int, Array]
# 4 M doubles, 32 MB: large enough for BLAS, small enough to stay out of the way of the data.
_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """E[f(X₁, ..., X_s)] for one joint table over the classes of `variables`.

    If `open_variable` is one of them the value keeps its class axis: entry c is the part of the
    expectation with that prediction equal to c.
    """

    variables: tuple[int, ...]
    factor: Factor
    open_variable: int | None = None

    def value(self, beliefs: Beliefs, n: int) -> Array:
        """(n,) expectations, or (n, R) with an open variable."""
        vectors = [beliefs[v] for v in self.variables]
        if self.open_variable is None:
            return contract(self.factor, vectors, n)
        keep = self.variables.index(self.open_variable)
        return _weighed(vectors[keep], contract(self.factor, vectors, n, keep=keep))

    def push(self, beliefs: Beliefs, adjoint: Array, into: Beliefs) -> None:
        """Add adjoint · ∂value/∂beliefs to `into`; `adjoint` has the shape of `value`."""
        n = len(adjoint)
        vectors = [beliefs[v] for v in self.variables]
        if self.open_variable is not None:
            place = self.variables.index(self.open_variable)
            slope = _weighed(adjoint, contract(self.factor, vectors, n, keep=place))
            _add(into, self.open_variable, slope)
            if len(self.variables) > 1:
                vectors[place] = vectors[place] * adjoint
        for keep, variable in enumerate(self.variables):
            if variable == self.open_variable:
                continue
            slope = contract(self.factor, vectors, n, keep=keep)
            _add(
                into,
                variable,
                slope if self.open_variable is not None else _scaled(adjoint, slope),
            )

    def restricted(self, rows: slice) -> Tensor:
        """The same expectation for a slice of the rows."""
        return Tensor(self.variables, self.factor.take(rows), self.open_variable)


@dataclass(frozen=True, eq=False, slots=True)
class Product:
    """Π parts; at most one of them, the first, may be open."""

    parts: tuple[Node, ...]

    def value(self, beliefs: Beliefs, n: int) -> Array:
        """(n,), or (n, R) if the first part is open."""
        if not self.parts:
            return np.ones(n)
        first = self.parts[0].value(beliefs, n)
        for part in self.parts[1:]:
            other = part.value(beliefs, n)
            first = first * (other[:, None] if first.ndim == 2 else other)
        return first

    def push(self, beliefs: Beliefs, adjoint: Array, into: Beliefs) -> None:
        """Add adjoint · ∂value/∂beliefs to `into`."""
        if len(self.parts) == 1:
            self.parts[0].push(beliefs, adjoint, into)
            return
        values = [part.value(beliefs, len(adjoint)) for part in self.parts]
        if values and values[0].ndim == 2:
            rest = np.prod(values[1:], axis=0)
            self.parts[0].push(beliefs, adjoint * rest[:, None], into)
            scalar, parts, values = (adjoint * values[0]).sum(axis=1), self.parts[1:], values[1:]
        else:
            scalar, parts = adjoint, self.parts
        for part, others in zip(parts, excluded_products(values), strict=True):
            part.push(beliefs, scalar * others, into)

    def restricted(self, rows: slice) -> Product:
        """The same product for a slice of the rows."""
        return Product(tuple(part.restricted(rows) for part in self.parts))


@dataclass(frozen=True, eq=False, slots=True)
class Union:
    """1 - Π(1 - part): at least one of several independent events."""

    parts: tuple[Node, ...]

    def value(self, beliefs: Beliefs, n: int) -> Array:
        """(n,) probabilities."""
        return 1.0 - np.prod([1.0 - part.value(beliefs, n) for part in self.parts], axis=0)

    def push(self, beliefs: Beliefs, adjoint: Array, into: Beliefs) -> None:
        """Add adjoint · ∂value/∂beliefs to `into`."""
        absent = [1.0 - part.value(beliefs, len(adjoint)) for part in self.parts]
        for part, others in zip(self.parts, excluded_products(absent), strict=True):
            part.push(beliefs, adjoint * others, into)

    def restricted(self, rows: slice) -> Union:
        """The same union for a slice of the rows."""
        return Union(tuple(part.restricted(rows) for part in self.parts))


Node = Tensor | Product | Union


def excluded_products(values: list[Array]) -> list[Array]:
    """Π_{j≠i} values[j] for every i, by prefixes and suffixes so that zeros do no harm."""
    before = [np.ones(1)]
    for value in values[:-1]:
        before.append(before[-1] * value)
    after = [np.ones(1)]
    for value in reversed(values[1:]):
        after.append(after[-1] * value)
    return (
        [left * right for left, right in zip(before, reversed(after), strict=True)]
        if values
        else []
    )


def contract(factor: Factor, vectors: list[Array], n: int, *, keep: int | None = None) -> Array:
    """Σ over the classes of every axis but `keep` of table · Π vectors.

    Parameters
    ----------
    factor : values (U, R₁, ..., R_s), one table for all rows or one per row.
    vectors : s arrays (n, R_i); the one at `keep` is not used.

    Returns
    -------
    (n,), or (n, R_keep).
    """
    if not vectors:
        table = factor.values
        return np.full(n, table[0]) if factor.index is None else table[factor.index]
    axes = [axis for axis in range(len(vectors)) if axis != keep]
    order = axes + ([] if keep is None else [keep])
    table = factor.values.transpose([0] + [axis + 1 for axis in order])
    used = [vectors[axis] for axis in axes]
    if factor.index is None:
        out = _contract_shared(table[0], used, n)
    else:
        step = max(1, _CHUNK // max(1, math.prod(table.shape[1:])))
        chunks = [
            _contract_rows(table[factor.index[s : s + step]], [u[s : s + step] for u in used])
            for s in range(0, n, step)
        ]
        out = np.concatenate(chunks) if chunks else np.zeros((0, *table.shape[len(used) + 1 :]))
    return out


def _contract_shared(table: Array, vectors: list[Array], n: int) -> Array:
    if not vectors:
        return np.broadcast_to(table, (n, *table.shape))
    first = vectors[0] @ table.reshape(table.shape[0], -1)
    return _contract_rows(first.reshape(n, *table.shape[1:]), vectors[1:])


def _contract_rows(tables: Array, vectors: list[Array]) -> Array:
    for vector in vectors:
        rest = tables.shape[2:]
        flat = tables.reshape(len(tables), vector.shape[1], math.prod(rest))
        tables = np.einsum("nr,nrk->nk", vector, flat).reshape(len(flat), *rest)
    return tables


def _weighed(values: Array, weights: Array) -> Array:
    """values * weights, without a pass over rows that are one row repeated or all ones."""
    if len(values) and weights.strides[0] == 0:
        if (weights[0] == 1.0).all():
            return values
        if values.strides[0] == 0:
            return np.broadcast_to(values[0] * weights[0], values.shape)
    return values * weights


def _scaled(adjoint: Array, slope: Array) -> Array:
    """adjoint[:, None] * slope, computed once where both are one value repeated for every row."""
    if len(adjoint) and adjoint.strides[0] == 0 and slope.strides[0] == 0:
        return np.broadcast_to(adjoint[0] * slope[0], slope.shape)
    return adjoint[:, None] * slope


def _add(into: Beliefs, variable: int, slope: Array) -> None:
    into[variable] = into[variable] + slope if variable in into else slope
