"""Sums of a term over captured rows, by group and by predicted group key, with their gradients."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rainpp.relax.capture import Index, Relation
from rainpp.relax.formula import Compiler, Term, blocks
from rainpp.relax.masks import Factor
from rainpp.relax.query import Atom, Slot
from rainpp.relax.smooth import NumberTable, winning_bands
from rainpp.relax.weights import Beliefs, Product
from rainpp.types import PredictionTable

Array = NDArray[np.float64]
_FOLD = 128


@dataclass(frozen=True, eq=False, slots=True)
class KeyAxis:
    """A predicted group key: class c gives `values[codes[c]]`."""

    atom: Atom
    codes: Index
    values: tuple[object, ...]

    def mask(self, code: int) -> tuple[bool, ...]:
        """Which classes give the key this value."""
        return tuple(bool(same) for same in self.codes == code)

    def indicator(self, code: int) -> Array:
        """(R,) ones at the classes that give the key this value."""
        return (self.codes == code).astype(float)

    def summed(self, sums: Array) -> Array:
        """(n, values) from (n, R): classes that give the key one value are added up."""
        return sums @ (self.codes[:, None] == np.arange(len(self.values))).astype(float)


def num_values(key: KeyAxis | None) -> int:
    """How many values a predicted key has; one without it."""
    return len(key.values) if key else 1


def indicator(key: KeyAxis | None, code: int) -> Array:
    """`KeyAxis.indicator`; a side without a key has one class, which counts."""
    return key.indicator(code) if key else np.ones(1)


def by_value(sums: Array, key: KeyAxis | None) -> Array:
    """(n, values) from (n, R); without a key the class axis is added up."""
    return key.summed(sums) if key else sums.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """Probabilities of every slot in float64, with the tables they came from."""

    slots: tuple[Slot, ...]
    tables: tuple[PredictionTable, ...]
    probabilities: tuple[Array, ...]

    def likeliest(self, slot: int, places: Index) -> Index:
        """The classes that the plain answer takes for some rows; ties go to the first class."""
        table = self.tables[slot] if self.tables else None
        if isinstance(table, NumberTable) and table.number.bounds is not None:
            return winning_bands(table.values[places], table.number)
        return np.argmax(self.probabilities[slot][places], axis=1)


@dataclass(eq=False, slots=True)
class Gradient:
    """d(something)/dP for every slot, accumulated in place."""

    arrays: list[Array]

    @classmethod
    def zeros(cls, predictions: Predictions) -> Gradient:
        """No slope anywhere."""
        return cls([np.zeros(p.shape) for p in predictions.probabilities])

    def add(self, slot: int, places: Index, slope: Array) -> None:
        """Add `slope (n, R)` at rows `places (n,)`, which may repeat; the order is fixed."""
        if not len(places):
            return
        target, low = self.arrays[slot], int(places[0])
        if len(places) == int(places[-1]) - low + 1 and (np.diff(places) == 1).all():
            target[low : low + len(places)] += slope
        elif np.bincount(places, minlength=1).max() == 1:
            target[places] += slope
        else:
            # Rows of one place keep their order: counting sort, then one pass over the slopes.
            rows = (np.ones(len(places)), (places, np.arange(len(places))))
            target += sparse.coo_array(rows, shape=(len(target), len(places))).tocsr() @ slope


def log_absence(presence: Array) -> Array:
    """log(1 - p); rounding may have made a probability larger than one."""
    with np.errstate(divide="ignore"):
        return np.log1p(-np.minimum(presence, 1.0))


def segment_sums(values: Array, starts: Index) -> Array:
    """Σ values[starts[g] : starts[g + 1]] for every g, in order; zero if empty."""
    if len(starts) == 2:
        return column_sums(values[starts[0] : starts[1]])
    if values.ndim == 2:
        # reduceat takes 230 ms for a million rows of ten in a thousand segments, this 41 ms.
        n = int(starts[-1])
        ones = sparse.csr_array(
            (np.ones(n), np.arange(n, dtype=np.int32), starts), shape=(len(starts) - 1, n)
        )
        return np.asarray(ones @ values[:n])
    out = np.zeros(len(starts) - 1)
    filled = starts[1:] > starts[:-1]
    if filled.any():
        out[filled] = np.add.reduceat(values[: starts[-1]], starts[:-1][filled], axis=0)
    return out


def column_sums(values: Array) -> Array:
    """(1, w), or (1,) for one-dimensional values: the sum of all rows.

    NumPy adds narrow rows one at a time; folded into wide ones a million rows of ten take 13 ms,
    not 40.
    """
    if values.ndim == 1 or not values.flags.c_contiguous or len(values) < 2 * _FOLD:
        return values.sum(axis=0, keepdims=True)
    n, width = values.shape
    whole = n // _FOLD * _FOLD
    folded = values[:whole].reshape(-1, _FOLD * width).sum(axis=0).reshape(_FOLD, width)
    return (folded.sum(axis=0) + values[whole:].sum(axis=0))[None, :]


@dataclass(eq=False)
class RowTerm:
    """One term over one relation: per-row expectations, and how they move with probabilities."""

    relation: Relation
    term: Term
    predictions: Predictions
    constants: dict[str, Factor]
    shared: bool = True
    _blocks: list[tuple[Index | None, Product, dict[int, Atom]]] = field(init=False)

    def __post_init__(self) -> None:
        self._blocks = []
        for rows, variable in blocks(self.relation, self.term.atoms(), shared=self.shared):
            factors = dict(self.constants)
            factors |= {
                name: factor if rows is None else factor.take(rows)
                for name, factor in self.relation.factors.items()
            }
            atom_of = {v: atom for atom, v in reversed(variable.items())}
            sizes = {
                v: self.predictions.probabilities[atom.slot].shape[1] for v, atom in atom_of.items()
            }
            node = Compiler(factors, variable, sizes).compile(self.term)
            self._blocks.append((rows, node, atom_of))

    def message(self, *, possible: bool = False) -> Array:
        """(n,) expectations, or (n, R) by class of the opened prediction.

        With `possible` all probabilities are one: zero means that no prediction lets the row count.
        """
        n, opened = len(self.relation), self.term.opened
        width = () if opened is None else (self.predictions.probabilities[opened.slot].shape[1],)
        if len(self._blocks) == 1 and self._blocks[0][0] is None:
            _, node, atom_of = self._blocks[0]
            return node.value(self._beliefs(atom_of, slice(0, n), possible=possible), n)
        out = np.zeros((n, *width))
        for rows, node, atom_of in self._blocks:
            chosen = np.arange(n) if rows is None else rows
            beliefs = self._beliefs(atom_of, chosen, possible=possible)
            out[chosen] = node.value(beliefs, len(chosen))
        return out

    def wide_message(self, *, possible: bool = False) -> Array:
        """`message` with a class axis always: (n, 1) without an opened prediction."""
        message = self.message(possible=possible)
        return message if message.ndim == 2 else message[:, None]

    def push(self, rows: slice, adjoint: Array, gradient: Gradient) -> None:
        """Add Σ_t adjoint[t] · ∂message[t]/∂P to `gradient` for the rows of a slice."""
        for members, node, atom_of in self._blocks:
            if members is None:
                inside, chosen, scale = slice(0, len(adjoint)), rows, adjoint
            else:
                low, high = np.searchsorted(members, [rows.start, rows.stop])
                inside = slice(int(low), int(high))
                chosen = members[inside]
                scale = adjoint[chosen - rows.start]
            into: Beliefs = {}
            node.restricted(rows if members is None else inside).push(
                self._beliefs(atom_of, chosen, possible=False), scale, into
            )
            for variable, slope in into.items():
                atom = atom_of[variable]
                places = self._places(atom)[chosen]
                gradient.add(atom.slot, places, slope)

    def _places(self, atom: Atom) -> Index:
        return self.relation.place(atom.slot, atom.source, self.predictions.tables[atom.slot])

    def _beliefs(self, atom_of: dict[int, Atom], rows: Index | slice, *, possible: bool) -> Beliefs:
        found: Beliefs = {}
        for variable, atom in atom_of.items():
            probabilities, places = self.predictions.probabilities[atom.slot], self._places(atom)
            chosen = places[rows]
            if possible:
                found[variable] = np.ones((len(chosen), probabilities.shape[1]))
            elif (
                len(chosen)
                and len(chosen) == chosen[-1] - chosen[0] + 1
                and (np.diff(chosen) == 1).all()
            ):
                found[variable] = probabilities[chosen[0] : chosen[-1] + 1]
            else:
                found[variable] = probabilities[chosen]
        return found


@dataclass(eq=False)
class RowSums:
    """A term summed by group and predicted keys.

    `first` keeps its class axis open, so one pass serves all its values; every combination of the
    other keys' values is a pass of its own.
    """

    relation: Relation
    num_groups: int
    term: Term
    keys: tuple[KeyAxis, ...]
    predictions: Predictions
    constants: dict[str, Factor]
    shared: bool = True
    starts: Index = field(init=False)
    _terms: list[RowTerm] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = np.searchsorted(self.relation.group, np.arange(self.num_groups + 1))
        opened = self.keys[0].atom if self.keys else None
        rest = [range(len(key.values)) for key in self.keys[1:]]
        self._terms = []
        for codes in itertools.product(*rest):
            masks = tuple(
                (key.atom, key.mask(code)) for key, code in zip(self.keys[1:], codes, strict=True)
            )
            term = Term(self.term.events, self.term.payload, opened, masks)
            self._terms.append(
                RowTerm(self.relation, term, self.predictions, self.constants, self.shared)
            )
        self._messages: dict[tuple[int, bool], Array] = {}

    def totals(self, *, possible: bool = False) -> Array:
        """(groups, values of the first key, combinations of the others)."""
        messages = [self._message(i, possible=possible) for i in range(len(self._terms))]
        sums = [segment_sums(message, self.starts) for message in messages]
        out = [self.keys[0].summed(s) if self.keys else s[:, None] for s in sums]
        return np.stack(out, axis=2)

    def rows(self, group: int) -> slice:
        """The rows of a group; they are contiguous."""
        return slice(int(self.starts[group]), int(self.starts[group + 1]))

    def weights(self, group: int, code: tuple[int, int]) -> Array:
        """(n,) expectations of the group's rows for one combination of predicted keys."""
        message = self._message(code[1], possible=False)[self.rows(group)]
        if not self.keys:
            return message
        return message @ self.keys[0].indicator(code[0])

    def push(
        self, group: int, code: tuple[int, int], scale: Array | float, gradient: Gradient
    ) -> None:
        """Add Σ_t scale[t] · ∂weights[t]/∂P to `gradient`."""
        rows = self.rows(group)
        adjoint = np.broadcast_to(np.asarray(scale, float), (rows.stop - rows.start,))
        if self.keys:
            adjoint = adjoint[:, None] * self.keys[0].indicator(code[0])
        self._terms[code[1]].push(rows, adjoint, gradient)

    def _message(self, number: int, *, possible: bool) -> Array:
        if (number, possible) not in self._messages:
            self._messages[number, possible] = self._terms[number].message(possible=possible)
        return self._messages[number, possible]


@dataclass(frozen=True, eq=False, slots=True)
class Diagonal:
    """Pairs of a row with itself in a self-join: what one shared prediction changes.

    Sums over two sides take the two predictions of a pair as `separate`, but they are `shared`.
    """

    shared: RowSums
    separate: RowSums

    def totals(self) -> Array:
        """What to add to totals, in the shape of `RowSums.totals`."""
        return self.shared.totals() - self.separate.totals()

    def push(self, group: int, code: tuple[int, int], scale: float, gradient: Gradient) -> None:
        """Add scale · ∂totals[group, code]/∂P to `gradient`."""
        self.shared.push(group, code, scale, gradient)
        self.separate.push(group, code, -scale, gradient)
