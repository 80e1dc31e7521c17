"""LIMIT over uncertain rows against the list of all worlds."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.relax.nested.algebra import ALWAYS, NEVER, Aggregation, Intractable, Members
from rainpp.relax.nested.prefix import Window
from tests.relax.nested.circuits import Both
from tests.relax.nested.test_circuit import check

COUNT = Aggregation("count", "count(*)", None)


def held(truth, skip: int, take: int | None):
    """(rows, worlds) which rows are there and in the window."""
    before = np.cumsum(truth, axis=0) - truth
    last = len(truth) + 1 if take is None else skip + take
    return truth & (before >= skip) & (before < last)


def limited(both: Both, rows: list[int], skip: int, take: int | None) -> list[int]:
    truth = np.array([both.truth[i] for i in rows]).reshape(len(rows), len(both.worlds))
    ids = both.circuit.leading(both.column(rows), skip, take)
    return both.add(ids, held(truth, skip, take))


def windows(seed: int) -> tuple[int, int | None]:
    rng = np.random.default_rng(seed)
    return int(rng.integers(0, 4)), [None, 0, 1, 2, 3, 9][int(rng.integers(0, 6))]


@pytest.mark.parametrize("seed", range(40))
def test_alternatives_of_predictions(seed):
    both = Both(seed, [(4, 3), (2, 2)][: 1 + seed % 2])
    both.literals()
    order = both.rng.permutation(len(both.ids))[: both.rng.integers(1, 14)]
    limited(both, [int(i) for i in order], *windows(seed))
    check(both)


@pytest.mark.parametrize("seed", range(30))
def test_largest_counts_of_disjoint_groups(seed):
    both = Both(seed, [(7, 2)] if seed % 2 else [(5, 3)])
    both.literals()
    r = both.shapes[0][1]
    rows = [2 + r * i for i in both.rng.permutation(both.shapes[0][0])]
    groups = np.sort(both.rng.integers(0, 3, len(rows)))
    members = Members(both.column(rows), groups, 3, None)
    found = both.circuit.outcomes(members, [COUNT])
    numbers, outcomes = np.asarray(found.table["v0"]), []
    for s, number, event in zip(found.segment, numbers, found.ids, strict=True):
        present = sum(
            both.truth[i].astype(int) for i, g in zip(rows, groups, strict=True) if g == s
        )
        outcomes += both.add([event], [present == number])
    order = np.lexsort((found.segment, -numbers))
    kept = limited(both, [outcomes[i] for i in order], *windows(seed))
    # A group is shown if any of its counts is.
    ids = both.circuit.some(both.column(kept), found.segment[order], 3)
    segment = found.segment[order]
    both.add(
        ids,
        [
            np.any(
                [both.truth[i] for i, g in zip(kept, segment, strict=True) if g == s]
                or [both.truth[0]],
                axis=0,
            )
            for s in range(3)
        ],
    )
    check(both)


def test_alternatives_of_several_predictions():
    both = Both(5, [(6, 2)])
    both.literals()
    rows: list[int] = []
    for a, b in ((0, 1), (2, 3), (4, 5)):
        pairs = [(2 + 2 * a + i, 2 + 2 * b + j) for i in (0, 1) for j in (0, 1)]
        ids = both.circuit.every([both.column([p[k] for p in pairs]) for k in (0, 1)])
        rows += both.add(ids, [both.truth[x] & both.truth[y] for x, y in pairs])[:3]
    limited(both, [int(i) for i in both.rng.permutation(rows)], 1, 1)
    limited(both, [int(i) for i in both.rng.permutation(rows)], 0, 2)
    check(both)


def test_rows_that_are_there_together_are_refused_but_for_the_first():
    both = Both(1, [(3, 3)])
    both.literals()
    ids = both.circuit.either([both.column([2, 2]), both.column([3, 4])])
    rows = both.add(ids, [both.truth[2] | both.truth[3], both.truth[2] | both.truth[4]])
    with pytest.raises(Intractable, match="LIMIT counts"):
        both.circuit.leading(both.column(rows), 0, 2)
    limited(both, [*rows, 5], 0, 1)
    check(both)


def test_limited_rows_that_meet_what_they_are_made_of_are_refused():
    both = Both(2, [(4, 2)])
    both.literals()
    first = both.circuit.leading(both.column([2, 4, 6]), 0, 2)
    both.circuit.probability(first)
    either = both.circuit.some(first, np.zeros(3, np.int64), 1)
    with pytest.raises(Intractable, match="LIMIT"):
        both.circuit.probability(either)
    np.testing.assert_allclose(both.circuit.probability(first[:1]), both.tables[0][0, 0])


def test_certain_and_impossible_rows():
    both = Both(0, [(2, 2)])
    both.literals()
    assert not len(both.circuit.leading(np.zeros(0, np.int64), 0, 1))
    limited(both, [0, 1, 2, 1, 0, 4], 1, 2)
    ids = both.circuit.leading(np.array([NEVER, ALWAYS, NEVER, ALWAYS]), 1, 1)
    assert ids.tolist() == [NEVER, NEVER, NEVER, ALWAYS]
    check(both)


def test_windows_of_many_parts_add_up():
    rng = np.random.default_rng(0)
    part, p = rng.permutation(3000) // 3, rng.random(3000) / 3
    wanted = np.zeros(40)
    wanted[30:] = 1.0
    shown = Window(part, wanted, 0.0).forward(p)[:3000]
    total = np.array([1.0])
    for q in np.bincount(part, p):
        total = np.convolve(total, [1 - q, q])
    expected = np.minimum(np.maximum(np.arange(len(total)) - 30, 0), 10) @ total
    np.testing.assert_allclose(shown.sum(), expected, rtol=1e-10)


def test_slopes_of_a_window_that_closes_early():
    rng = np.random.default_rng(1)
    part, p = rng.permutation(900) // 3, rng.random(900) / 3
    work = Window(part, np.array([0.0, 1.0, 1.0]), 0.0)
    slopes, direction = rng.normal(size=1200), rng.normal(size=900)
    work.forward(p)
    found = work.backward(slopes) @ direction
    ends = [slopes @ work.forward(p + h * direction) for h in (1e-6, -1e-6)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)
