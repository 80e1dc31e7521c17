"""Disjunctions of conjunctions that multiply out: (a or b) and (x or y), from its four clauses."""

from __future__ import annotations

import numpy as np

from rainpp.relax.nested.arrays import Index, distinct, numbered, run_lengths, run_starts
from rainpp.relax.nested.connect import conjunctions
from rainpp.relax.nested.gates import Flags, Gates

_LEAST_CLAUSES = 4


def factored(gates: Gates, products: Index) -> tuple[Flags, Index]:
    """Which products negate clauses that multiply out, and those as products of disjunctions.

    The literals that never stand beside a clause's first literal are tried as one factor: every
    clause must have one of them, and each of them the same other parts. Equality joins have this
    shape for every class. What is left of the clauses may be factored again.
    """
    owner, factors, _ = gates.children(products)
    fits = _of_clauses(gates, owner, factors, len(products))
    keep = fits[owner]
    owner, clauses = owner[keep], factors[keep] >> 1
    edge, literals, _ = gates.children(clauses)
    whose = owner[edge]
    beside = _beside_first(whose, edge, literals)
    alone = np.bincount(edge[~beside], minlength=len(clauses)) == 1
    fits[owner[~alone]] = False
    rest = conjunctions(gates, literals[beside], edge[beside], len(clauses))
    first, at_first, _ = numbered((whose[~beside] << 32) | _ranked(literals)[~beside])
    kinds, at_kind, _ = numbered((owner << 32) | _ranked(rest))
    sizes = [np.bincount(keys >> 32, minlength=len(products)) for keys in (first, kinds)]
    fits &= sizes[0] * sizes[1] == np.bincount(owner, minlength=len(products))
    starters = np.flatnonzero(~beside)[at_first]
    left = _disjunctions(gates, literals[starters], whose[starters], fits)
    right = _disjunctions(gates, rest[at_kind], owner[at_kind], fits)
    count = int(fits.sum())
    both = conjunctions(
        gates, np.concatenate([left, right]), np.tile(np.arange(count), 2), count, flat=False
    )
    return fits, both ^ 1


def _of_clauses(gates: Gates, owner: Index, factors: Index, count: int) -> Flags:
    """Whether all factors are negated products of classes, and there are some."""
    nodes = factors >> 1
    fine = (factors & 1 == 1) & (nodes >= gates.first_gate)
    fine[fine] = ~gates.is_sum.all[nodes[fine] - gates.first_gate]
    edge, literals, _ = gates.children(nodes[fine])
    bad = gates.variables(literals >> 1) < 0
    fine[np.flatnonzero(fine)[edge[bad]]] = False
    out = np.bincount(owner, minlength=count) >= _LEAST_CLAUSES
    out[owner[~fine]] = False
    return out


def _beside_first(owner: Index, clause: Index, literals: Index) -> Flags:
    """Whether a literal stands in a clause with the smallest literal of its owner."""
    ranks = _ranked(literals)
    starts = run_starts(owner)
    if not len(starts):
        return np.zeros(0, bool)
    least = np.repeat(np.minimum.reduceat(ranks, starts), run_lengths(starts, len(owner)))
    is_first = ranks == least
    with_first = np.zeros(int(clause[-1]) + 1, bool)
    with_first[clause[is_first]] = True
    keys = (owner << 32) | ranks
    near = distinct(keys[with_first[clause] & ~is_first])
    if not len(near):
        return np.zeros(len(keys), bool)
    return near[np.minimum(np.searchsorted(near, keys), len(near) - 1)] == keys


def _ranked(events: Index) -> Index:
    """Small numbers for events, equal for equal ones."""
    return numbered(events)[2]


def _disjunctions(gates: Gates, events: Index, owner: Index, chosen: Flags) -> Index:
    """Disjunctions of the events of chosen owners."""
    keep = chosen[owner]
    place = np.cumsum(chosen) - 1
    return conjunctions(gates, events[keep] ^ 1, place[owner[keep]], int(chosen.sum())) ^ 1
