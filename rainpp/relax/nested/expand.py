"""Shannon expansion of many products at once, each by a variable of its own choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainpp.relax.nested.algebra import Intractable
from rainpp.relax.nested.arrays import (
    Hash,
    Index,
    distinct,
    mixed,
    run_lengths,
    run_starts,
    spans,
    unknown,
)
from rainpp.relax.nested.connect import conjunctions, sums
from rainpp.relax.nested.gates import Gates
from rainpp.relax.nested.restrict import restricted
from rainpp.relax.nested.support import Supports

MAX_EDGES = 20_000_000


def expanded(gates: Gates, supports: Supports, products: Index) -> tuple[Index, Index]:
    """Every product as a sum over blocks of classes of one variable, and how many blocks."""
    owner, factors, _ = gates.children(products)
    chosen = most_shared(gates, supports, owner, factors)
    blocks = class_blocks(gates, supports, owner, factors >> 1, chosen)
    count = np.bincount(blocks.first_owner, minlength=len(products))
    lengths = np.bincount(owner, minlength=len(products))
    starts = np.cumsum(lengths) - lengths
    if int(lengths[blocks.first_owner].sum()) > MAX_EDGES:
        raise Intractable("too many rows depend on one prediction in different ways")
    edge = spans(starts[blocks.first_owner], lengths[blocks.first_owner])
    block = np.repeat(np.arange(len(blocks.first_owner)), lengths[blocks.first_owner])
    given = restricted(
        gates, supports, factors[edge], chosen[blocks.first_owner][block], blocks.first_class[block]
    )
    rest = conjunctions(gates, given, block, len(blocks.first_owner))
    return branches(gates, chosen, blocks, rest), count


def most_shared(gates: Gates, supports: Supports, owner: Index, events: Index) -> Index:
    """The variable to expand by, for each of ascending owners 0, 1, ... of events.

    A variable that occurs at the top of several events, alone or in a clause, comes before ones
    deep inside: knowing it settles whole clauses. Failing that the one in most events wins.
    """
    out = np.full(int(owner[-1]) + 1, -1, np.int64)
    _most_frequent(out, gates.num_variables, _at_the_top(gates, supports, owner, events), 2)
    deep = out[owner] < 0
    if deep.any():
        whose = owner[deep]
        at, variables = supports.expand(supports.of(events[deep] >> 1))
        _most_frequent(out, gates.num_variables, whose[at] * gates.num_variables + variables, 1)
    return out


def _most_frequent(out: Index, width: int, keys: Index, least: int) -> None:
    """Set `out[owner]` to the variable of the most keys owner · width + variable."""
    keys = np.sort(keys)
    starts = run_starts(keys)
    times = run_lengths(starts, len(keys))
    keys, times = keys[starts[times >= least]], times[times >= least]
    owner = keys // width
    order = np.lexsort((-keys, times, owner))
    last = order[np.r_[owner[order[1:]] != owner[order[:-1]], True][: len(order)]]
    out[owner[last]] = keys[last] % width


def _at_the_top(gates: Gates, supports: Supports, owner: Index, events: Index) -> Index:
    """Keys owner · width + variable of literals among the events or among their factors."""
    width, nodes = gates.num_variables, events >> 1
    token = supports.is_token(nodes)
    literal = owner[token] * width + gates.variables(nodes[token])
    inner = np.flatnonzero(~token)
    edge, below, _ = gates.children(nodes[inner])
    below >>= 1
    token = supports.is_token(below)
    event = inner[edge[token]]
    return np.concatenate([literal, owner[event] * width + gates.variables(below[token])])


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """Blocks of classes nothing tells apart: owner and first class of each; block of each class.

    `owner` and `number` list every class of the variables, `block` where it belongs.
    """

    first_owner: Index
    first_class: Index
    owner: Index
    number: Index
    block: Index


def class_blocks(
    gates: Gates, supports: Supports, owner: Index, nodes: Index, chosen: Index
) -> Blocks:
    """Classes of variable `chosen[o]` in blocks that the nodes of owner o cannot tell apart."""
    sizes = gates.num_classes(chosen)
    offset = np.cumsum(sizes) - sizes
    signature: Hash = np.zeros(int(sizes.sum()), np.uint64)
    whose, literals = _literals_below(gates, supports, owner, nodes, chosen)
    at, classes = gates.members(literals)
    np.add.at(signature, offset[whose[at]] + classes, mixed(literals)[at])
    all_owner = np.repeat(np.arange(len(chosen)), sizes)
    number = np.arange(len(all_owner)) - offset[all_owner]
    order = np.lexsort((number, signature, all_owner))
    fresh = (all_owner[order[1:]] != all_owner[order[:-1]]) | (
        signature[order[1:]] != signature[order[:-1]]
    )
    first = order[np.flatnonzero(np.r_[True, fresh])]
    block = np.empty(len(order), np.int64)
    block[order] = np.cumsum(np.r_[0, fresh])
    return Blocks(all_owner[first], number[first], all_owner, number, block)


def _literals_below(
    gates: Gates, supports: Supports, owner: Index, nodes: Index, chosen: Index
) -> tuple[Index, Index]:
    """Distinct pairs of an owner and a literal of its chosen variable below its nodes."""
    size = len(gates)
    seen, found = np.zeros(0, np.int64), np.zeros(0, np.int64)
    while True:
        here = supports.contain(supports.of(nodes), chosen[owner])
        ahead = unknown(distinct(owner[here] * size + nodes[here]), seen)
        if not len(ahead):
            return found // size, found % size
        seen = np.sort(np.concatenate([seen, ahead]))
        owner, nodes = ahead // size, ahead % size
        token = supports.is_token(nodes)
        found = np.concatenate([found, ahead[token]])
        edge, left, right = gates.children(nodes[~token])
        owner = np.tile(owner[~token][edge], 2)
        nodes = np.concatenate([left, right]) >> 1


def branches(gates: Gates, chosen: Index, blocks: Blocks, rest: Index) -> Index:
    """Σ (variable in block) · rest of the block, for every owner; equal rests are one branch."""
    owner = blocks.first_owner
    order = np.lexsort((rest, owner))
    fresh = np.r_[
        True,
        (owner[order[1:]] != owner[order[:-1]]) | (rest[order[1:]] != rest[order[:-1]]),
    ]
    branch = np.empty(len(order), np.int64)
    branch[order] = np.cumsum(fresh) - 1
    first = order[fresh]
    of_class = branch[blocks.block]
    sorting = np.lexsort((blocks.number, of_class))
    literal = gates.class_sets(chosen[owner[first]], of_class[sorting], blocks.number[sorting])
    return sums(gates, literal, rest[first], owner[first], len(chosen))
