"""Sums over a tree of sides: messages go up, adjoints come down, joined rows are never formed.

Every side keeps at most one prediction open. With S_e the pairing of an edge and M_e its class
relation, a side's message is

    up[row, c] = own[row, c] · Π_{children e} (S_e (up_e M_eᵀ))[row, c] ,

and a total is Σ up over the rows of a group of the root. Reverse mode reads the same formula
backwards: an adjoint D of `up` gives D ∘ Π to `own` and S_eᵀ(D ∘ own ∘ Π_others) M_e to a child
(Yannakakis' algorithm with classes as hidden attributes). In a self-join of two sides a pair may be
one row with itself; those pairs are summed again as rows and the difference is added.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rainpp.relax.capture import Relation, joined, same_rows
from rainpp.relax.pairing import Pairing
from rainpp.relax.rowsums import (
    Diagonal,
    Gradient,
    KeyAxis,
    RowTerm,
    by_value,
    indicator,
    log_absence,
    num_values,
    segment_sums,
)
from rainpp.relax.stream import StreamedPairs
from rainpp.relax.weights import excluded_products

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    """A child side under its parent: rows meet by `pairing`, whose left rows are the parent's.

    `flipped` says that the parent is the right side of the pairing instead.
    """

    parent: int
    child: int
    pairing: Pairing
    flipped: bool

    def up(self, values: Array) -> Array:
        """(parent rows, w) from (child rows, w)."""
        return self.pairing.to_right(values) if self.flipped else self.pairing.to_left(values)

    def down(self, values: Array) -> Array:
        """(child rows, w) from (parent rows, w)."""
        return self.pairing.to_left(values) if self.flipped else self.pairing.to_right(values)


@dataclass(frozen=True, eq=False, slots=True)
class Tree:
    """Relations and branches, parents first. `other` is the one side beside the root with groups.

    Output group g · (groups of `other`) + h is group g of the root and h of `other`.
    """

    relations: tuple[Relation, ...]
    branches: tuple[Branch, ...]
    root: int
    other: int | None

    @property
    def groups(self) -> list[tuple[int, int]]:
        """(root group, other group) of every output group."""
        return list(
            itertools.product(
                range(len(self.relations[self.root].groups)), range(self.num_other_groups)
            )
        )

    @property
    def num_groups(self) -> int:
        """How many output groups there may be."""
        return len(self.relations[self.root].groups) * self.num_other_groups

    def diagonal(self, twin: tuple[int, int] | None) -> Relation | None:
        """Row pairs of two sides that are one row with itself; `twin` names the sources."""
        if twin is None:
            return None
        (branch,) = self.branches
        left, right = (self.relations[0], self.relations[1])
        i, j = branch.pairing.among(*same_rows(left.rids[twin[0]], right.rids[twin[1]]))
        main, rest = (left.group[i], right.group[j])
        if self.root != 0:
            main, rest = rest, main
        group = main * self.num_other_groups + (rest if self.other is not None else 0)
        by_group = np.lexsort([j, i, group])
        return joined(left, right, (i[by_group], j[by_group]), group[by_group])

    def joined_rows(self) -> float:
        """Joined rows of the whole tree; 0 where pairs are streamed, since counting is running."""
        if any(isinstance(branch.pairing, StreamedPairs) for branch in self.branches):
            return 0.0
        counts = [np.ones((len(relation), 1)) for relation in self.relations]
        for branch in reversed(self.branches):
            counts[branch.parent] = counts[branch.parent] * branch.up(counts[branch.child])
        return float(counts[self.root].sum())

    @property
    def num_other_groups(self) -> int:
        """Groups of `other`, 1 without it."""
        return 1 if self.other is None else len(self.relations[self.other].groups)


@dataclass(frozen=True, slots=True)
class Choice:
    """A group and a predicted key of the tree's other side."""

    group: int
    code: int


@dataclass(eq=False)
class TreeSums:
    """One measure over a tree of sides, summed by group and by the predicted key of two sides.

    `matrices[b] (R_parent, R_child)` relates the opened predictions of branch b; None where it
    relates nothing. A side without an open prediction has width 1.
    """

    tree: Tree
    terms: tuple[RowTerm, ...]
    matrices: tuple[Array | None, ...]
    root_key: KeyAxis | None
    other_key: KeyAxis | None
    diagonal: Diagonal | None = None
    _up: dict[tuple[Choice, bool], list[Array]] = field(
        default_factory=dict[tuple[Choice, bool], list[Array]], init=False
    )
    _absent: dict[Choice, Array] = field(default_factory=dict[Choice, Array], init=False)

    def totals(self, *, possible: bool = False) -> Array:
        """(groups, values of the root's key, values of the other key)."""
        tree, codes = self.tree, range(num_values(self.other_key))
        out = np.zeros((tree.num_groups, num_values(self.root_key), len(codes)))
        for group, code in itertools.product(range(tree.num_other_groups), codes):
            up = self._messages(Choice(group, code), possible=possible)[tree.root]
            sums = by_value(segment_sums(up, self._starts), self.root_key)
            out[group :: tree.num_other_groups, :, code] = sums
        if self.diagonal and not possible:
            out = out + self.diagonal.totals().reshape(out.shape)
        return out

    def push(self, group: int, code: tuple[int, int], scale: float, gradient: Gradient) -> None:
        """Add scale · ∂totals[group, code]/∂P to `gradient`."""
        tree = self.tree
        main, rest = divmod(group, tree.num_other_groups)
        choice = Choice(rest, code[1])
        up = self._messages(choice, possible=False)
        adjoint = np.zeros_like(up[tree.root])
        rows = slice(int(self._starts[main]), int(self._starts[main + 1]))
        adjoint[rows] = scale * indicator(self.root_key, code[0])
        self._descend(tree.root, adjoint, choice, gradient)
        if self.diagonal:
            at = code if self.root_key else (code[1], 0)
            self.diagonal.push(group, at, scale, gradient)

    def existence(self, group: int, code: tuple[int, int]) -> float:
        """Probability of a row, were different rows of a side independent given their class."""
        main, rest = divmod(group, self.tree.num_other_groups)
        choice = Choice(rest, code[1])
        if choice not in self._absent:
            some = self._present(self.tree.root, choice)
            codes = range(num_values(self.root_key))
            kept = [(some * indicator(self.root_key, code)).sum(axis=1) for code in codes]
            logs = log_absence(np.stack(kept, axis=1))
            self._absent[choice] = segment_sums(logs, self._starts)
        return float(-np.expm1(self._absent[choice][main, code[0]]))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        root = self.tree.relations[self.tree.root]
        return np.searchsorted(root.group, np.arange(len(root.groups) + 1))

    def _messages(self, choice: Choice, *, possible: bool) -> list[Array]:
        """`up` of every side."""
        if (choice, possible) not in self._up:
            up = [self._own(side, choice, possible) for side in range(len(self.terms))]
            for number in reversed(range(len(self.tree.branches))):
                branch = self.tree.branches[number]
                up[branch.parent] = up[branch.parent] * self._arrived(number, up[branch.child])
            self._up[choice, possible] = up
        return self._up[choice, possible]

    def _own(self, side: int, choice: Choice, possible: bool) -> Array:
        message = self.terms[side].wide_message(possible=possible)
        return message if side != self.tree.other else message * self._chosen(choice)

    def _chosen(self, choice: Choice) -> Array:
        """Rows and classes of the other side that count, (n, 1) or (n, R)."""
        assert self.tree.other is not None
        relation = self.tree.relations[self.tree.other]
        inside = (relation.group == choice.group).astype(float)[:, None]
        return inside * indicator(self.other_key, choice.code)

    def _arrived(self, number: int, message: Array) -> Array:
        """What a branch brings to its parent, (n, R) or (n, 1)."""
        matrix = self.matrices[number]
        return self.tree.branches[number].up(_related(message, matrix))

    def _descend(self, side: int, adjoint: Array, choice: Choice, gradient: Gradient) -> None:
        """Hand the adjoint of `up` to the side's own term and to its children."""
        up = self._messages(choice, possible=False)
        numbers = [n for n, b in enumerate(self.tree.branches) if b.parent == side]
        own = self._own(side, choice, False)
        factors = [own, *(self._arrived(n, up[self.tree.branches[n].child]) for n in numbers)]
        mine, *theirs = [adjoint * other for other in excluded_products(factors)]
        if side == self.tree.other:
            mine = mine * self._chosen(choice)
        term = self.terms[side]
        everything = slice(0, len(self.tree.relations[side]))
        term.push(everything, mine if term.term.opened else mine.sum(axis=1), gradient)
        for number, slope in zip(numbers, theirs, strict=True):
            branch, matrix = self.tree.branches[number], self.matrices[number]
            if matrix is None:
                down = branch.down(slope.sum(axis=1, keepdims=True))
                down = np.broadcast_to(down, up[branch.child].shape)
            else:
                down = _related(branch.down(slope), matrix.T)
            self._descend(branch.child, down, choice, gradient)

    def _present(self, side: int, choice: Choice) -> Array:
        """Per row and class: the row counts and has a partner in every child."""
        some = self._own(side, choice, False)
        for number, branch in enumerate(self.tree.branches):
            if branch.parent == side:
                below, matrix = self._present(branch.child, choice), self.matrices[number]
                logs = log_absence(_related(below, matrix))
                some = some * -np.expm1(branch.up(np.maximum(logs, -1e3)))
        return some


def _related(message: Array, matrix: Array | None) -> Array:
    """`message` by the classes of the other side: message matrixᵀ; without a relation the sum."""
    if matrix is None:
        return message.sum(axis=1, keepdims=True)
    same = matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix)))
    return message if same else message @ matrix.T
