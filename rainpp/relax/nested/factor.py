"""Disjunctions of conjunctions that multiply out: (a or b) and (x or y), from its four clauses."""

from __future__ import annotations

import numpy as np

from rainpp.relax.nested.arrays import Index, distinct, numbered, run_lengths, run_starts
from rainpp.relax.nested.connect import conjunctions, sums
from rainpp.relax.nested.gates import Flags, Gates
from rainpp.relax.nested.support import Supports

_LEAST_CLAUSES = 4


def factored(gates: Gates, products: Index) -> tuple[Flags, Index]:
    """Which products negate clauses that multiply out, and those as products of disjunctions.

    The literals that never stand beside a clause's first literal are tried as one factor: every
    clause must have one of them, and each of them the same other parts. Equality joins have this
    shape for every class. What is left of the clauses may be factored again.
    """
    owner, factors, _ = gates.children(products)
    fits = of_clauses(gates, owner, factors, len(products))
    fits &= np.bincount(owner, minlength=len(products)) >= _LEAST_CLAUSES
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


def told_apart(gates: Gates, supports: Supports, products: Index) -> tuple[Flags, Index]:
    """Which products negate clauses that a variable tells apart, and those as negated sums.

    Every clause has another class of that variable: they exclude one another. A pair of rows of
    equal class has this shape.
    """
    owner, factors, _ = gates.children(products)
    fits = of_clauses(gates, owner, factors, len(products))
    # An open variable may share predictions with what stands beside it.
    inner = np.flatnonzero(fits[owner])
    edge, literals, _ = gates.children(factors[inner] >> 1)
    fits[owner[inner[edge[~supports.is_token(literals >> 1)]]]] = False
    place = np.cumsum(fits) - 1
    keep = fits[owner]
    owner, clauses = place[owner[keep]], factors[keep] >> 1
    edge, literals, _ = gates.children(clauses)
    variable = _telling(gates, owner[edge], literals, np.bincount(owner))
    found = variable >= 0
    fits[fits] = found
    keep = found[owner]
    owner, clauses = (np.cumsum(found) - 1)[owner[keep]], clauses[keep]
    edge, literals, _ = gates.children(clauses)
    chosen = gates.variables(literals >> 1) == variable[found][owner[edge]]
    rest = conjunctions(gates, literals[~chosen], edge[~chosen], len(clauses), flat=False)
    return fits, sums(gates, literals[chosen], rest, owner, int(found.sum())) ^ 1


def _telling(gates: Gates, owner: Index, literals: Index, clauses: Index) -> Index:
    """For every owner a variable with as many different single classes as clauses, or -1."""
    single = (literals & 1 == 0) & gates.is_class(literals >> 1)
    keys = distinct((owner[single] << 32) | literals[single])
    whose, variables = keys >> 32, gates.variables((keys & ((1 << 32) - 1)) >> 1)
    # Classes of a variable are neighbours.
    starts = run_starts((whose << 32) | variables)
    enough = run_lengths(starts, len(keys)) == clauses[whose[starts]]
    out = np.full(len(clauses), -1)
    out[whose[starts[enough]]] = variables[starts[enough]]
    return out


def of_clauses(gates: Gates, owner: Index, factors: Index, count: int) -> Flags:
    """Whether all factors are negated products of classes."""
    nodes = factors >> 1
    fine = (factors & 1 == 1) & (nodes >= gates.first_gate)
    fine[fine] = ~gates.is_sum.all[nodes[fine] - gates.first_gate]
    edge, literals, _ = gates.children(nodes[fine])
    bad = gates.variables(literals >> 1) < 0
    fine[np.flatnonzero(fine)[edge[bad]]] = False
    out = np.ones(count, bool)
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
