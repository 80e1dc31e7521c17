"""Outcomes of aggregates against DuckDB run in every world."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from rainpp.relax.nested.algebra import ALWAYS, NEVER, Aggregation, Intractable, Members
from rainpp.relax.nested.circuit import Circuit
from tests.relax.nested.circuits import Both
from tests.relax.nested.test_circuit import SHAPES, check

CALLS = [
    Aggregation("count", "count(*)", None),
    Aggregation("count", "count(a0)", "a0"),
    Aggregation("count", "count(*) FILTER (WHERE a4)", None, filters="a4"),
    Aggregation("sum", "sum(a0)", "a0"),
    Aggregation("sum", "sum(a1)", "a1"),
    Aggregation("sum", "sum(a2) FILTER (WHERE a4)", "a2", filters="a4"),
    Aggregation("avg", "avg(a0)", "a0"),
    Aggregation("avg", "avg(a1)", "a1"),
    Aggregation("min", "min(a3)", "a3"),
    Aggregation("max", "max(a2)", "a2"),
    Aggregation("min", "min(a1) FILTER (WHERE a4)", "a1", filters="a4"),
    Aggregation("count", "count(DISTINCT a3)", "a3", distinct=True),
    Aggregation("sum", "sum(DISTINCT a1)", "a1", distinct=True),
    Aggregation("avg", "avg(DISTINCT a0)", "a0", distinct=True),
    Aggregation("bool_or", "bool_or(a4)", "a4"),
]


def table(rng, n: int) -> pa.Table:
    """Few distinct values, some NULL; halves add up exactly."""

    def holes(values):
        return [None if rng.random() < 0.2 else v for v in values]

    return pa.table(
        {
            "a0": pa.array(holes(rng.integers(-2, 3, n).tolist()), pa.int32()),
            "a1": pa.array(
                holes([Decimal(int(i)) / 4 for i in rng.integers(-3, 4, n)]), pa.decimal128(8, 2)
            ),
            "a2": pa.array(holes((rng.integers(-2, 3, n) / 2).tolist()), pa.float64()),
            "a3": pa.array(holes(rng.choice(["b", "é", "a", ""], n).tolist()), pa.string()),
            "a4": pa.array(holes((rng.random(n) < 0.6).tolist()), pa.bool_()),
        }
    )


def in_every_world(both: Both, truth, members: Members, calls):
    """world -> segment -> results, by DuckDB."""
    worlds, rows = np.nonzero(truth.T)
    data = members.table.append_column("s", pa.array(members.segment))
    present = data.take(rows).append_column("w", pa.array(worlds))
    both.con.register("present", present)
    sql = f"SELECT w, s, {', '.join(c.sql for c in calls)} FROM present GROUP BY w, s"
    found = both.con.sql(sql).fetchall()
    both.con.unregister("present")
    return {(w, s): values for w, s, *values in found}


def check_outcomes(both: Both, chosen: list[int], calls) -> None:
    n, count = len(chosen), int(both.rng.integers(1, 4))
    segment = np.sort(both.rng.integers(0, count, n))
    members = Members(both.column(chosen), segment, count, table(both.rng, n))
    found = both.circuit.outcomes(members, calls)
    assert (np.diff(found.segment) >= 0).all()
    truth = np.array([both.truth[i] for i in chosen]).reshape(n, len(both.worlds))
    worlds = in_every_world(both, truth, members, calls)
    rows = [tuple(row.values()) for row in found.table.to_pylist()]
    held = [np.zeros(len(both.worlds), bool) for _ in rows]
    seen = {(int(s), row): j for j, (s, row) in enumerate(zip(found.segment, rows, strict=True))}
    assert len(seen) == len(rows)
    for (w, s), values in worlds.items():
        held[seen[s, tuple(values)]][w] = True
    both.con.register("members", members.table.slice(0, 0))
    sql = ", ".join(f"{c.sql} AS v{i}" for i, c in enumerate(calls))
    expected = both.con.sql(f"SELECT {sql} FROM members").to_arrow_table().schema
    assert found.table.schema.types == expected.types
    both.add(found.ids, held)
    assert found.absent is not None
    both.add(found.absent, [~truth[segment == s].any(axis=0) for s in range(count)])


@pytest.mark.parametrize("seed", range(60))
def test_outcomes_are_those_of_the_worlds(seed):
    both = Both(seed, SHAPES[seed % len(SHAPES)])
    both.literals()
    both.random_step(8)
    for _ in range(2):
        calls = [CALLS[i] for i in both.rng.integers(0, len(CALLS), both.rng.integers(1, 4))]
        check_outcomes(both, both.pick(int(both.rng.integers(0, 8))), calls)
        both.random_step(6)
    check(both)


@pytest.mark.parametrize("shapes", [[], [(0, 3)], [(2, 2)]], ids=["no model", "no rows", "rows"])
def test_without_uncertain_rows_outcomes_are_plain_results(shapes):
    both = Both(0, shapes)
    nothing = np.zeros(0, np.int64)
    call, data = Aggregation("sum", "sum(a0)", "a0"), pa.table({"a0": [1, 2, 4]})
    empty = both.circuit.outcomes(Members(nothing, nothing, 2, data.slice(0, 0)), [call])
    assert not len(empty.ids)
    ids, segment = np.array([ALWAYS, ALWAYS, NEVER]), np.array([0, 0, 1])
    found = both.circuit.outcomes(Members(ids, segment, 2, data), [call])
    assert (found.table.to_pylist(), found.segment.tolist()) == ([{"v0": Decimal(3)}], [0])
    assert found.ids.tolist() == [ALWAYS]
    assert both.circuit.some(nothing, nothing, 2).tolist() == [NEVER, NEVER]
    assert both.circuit.probability(nothing).shape == (0,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Aggregation("string_agg", "string_agg(a3)", "a3"), "plain"),
        (Aggregation("sum", "sum(a0 + 1)", None, plain=False), "plain"),
        (Aggregation("sum", "sum(a0)", "a0"), "62 bits"),
    ],
)
def test_aggregates_that_cannot_be_followed(call, words):
    both = Both(0, [(2, 2)])
    both.literals()
    members = Members(
        both.column([2, 4]),
        np.zeros(2, np.int64),
        1,
        pa.table({"a0": [1 << 62, 1], "a3": ["x", "y"]}),
    )
    with pytest.raises(Intractable, match=words):
        both.circuit.outcomes(members, [call])


def test_a_count_of_a_thousand_rows_is_poisson_binomial():
    both = Both(0, [(1, 1)])
    p = both.rng.dirichlet(np.ones(3), 1000)
    circuit = Circuit(Both.predictions([p]), both.con)
    ids = circuit.literals(0, np.arange(1000), np.zeros(1000, np.int64))
    found = circuit.outcomes(Members(ids, np.zeros(1000, np.int64), 1, None), CALLS[:1])
    expected = np.ones(1)
    for q in p[:, 0]:
        expected = np.convolve(expected, [1 - q, q])
    numbers = np.asarray(found.table["v0"])
    assert sorted(numbers) == list(range(1, 1001))
    np.testing.assert_allclose(circuit.probability(found.ids), expected[numbers], atol=1e-15)
    at_most = circuit.some(found.ids[numbers <= 340], np.zeros(340, np.int64), 1)
    tail = circuit.probability(circuit.negation(at_most))
    np.testing.assert_allclose(tail, expected[341:].sum() + expected[0], rtol=1e-10)


def test_counts_of_too_many_rows_are_refused_at_once():
    both = Both(0, [(1, 1)])
    circuit = Circuit(Both.predictions([np.full((200_000, 2), 0.5)]), both.con)
    rows = np.arange(200_000)
    members = Members(circuit.literals(0, rows, rows * 0), rows * 0, 1, None)
    with pytest.raises(Intractable, match="too many results"):
        circuit.outcomes(members, CALLS[:1])


def test_members_with_entangled_formulas_are_compiled_below_their_count():
    both = Both(0, [(6, 2)])
    both.literals()
    row = [2 + 2 * i for i in range(6)]
    # Of rows a, b, c at least two; the members share no prediction with one another.
    for a, b, c in (row[:3], row[3:]):
        ids = both.circuit.every([both.column([a, b, a]), both.column([b, c, c])])
        pairs = [both.truth[x] & both.truth[y] for x, y in ((a, b), (b, c), (a, c))]
        both.add(both.circuit.some(ids, np.zeros(3, np.int64), 1), [np.logical_or.reduce(pairs)])
    first = len(both.ids) - 2
    check_outcomes(both, [first, first + 1], CALLS[:1])
    # Alone: asked for with their members, the members would be compiled for their own sake.
    found = both.circuit.probability(np.array(both.ids[first + 2 :]))
    np.testing.assert_allclose(found, both.expected()[first + 2 :], atol=1e-12)


def test_the_same_aggregate_twice_is_one_variable():
    both = Both(2, [(4, 3)])
    both.literals()
    chosen = [2, 3, 5, 6, 8, 9, 11, 12, 2, 3, 5, 6]
    members = Members(both.column(chosen), np.repeat([0, 1, 2], 4), 3, table(both.rng, 12))
    first, again = (both.circuit.outcomes(members, CALLS[:1]) for _ in range(2))
    assert first.ids.tolist() == again.ids.tolist()
    per_segment = [first.ids[first.segment == s].tolist() for s in range(3)]
    assert per_segment[0] == per_segment[2] != per_segment[1]
    assert both.circuit.every([first.ids, again.ids]).tolist() == first.ids.tolist()
