"""Expected averages and extremes against the list of all worlds and finite differences."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from rainpp.relax.nested.algebra import Aggregation, Intractable, Members
from rainpp.relax.nested.circuit import Circuit
from rainpp.relax.rowsums import Gradient
from tests.relax.nested.circuits import Both, centred
from tests.relax.nested.test_circuit import SHAPES
from tests.relax.nested.test_circuit_outcomes import CALLS, in_every_world, table

AVERAGES = [c for c in CALLS if c.kind == "avg" and not c.distinct]
EXTREMES = [
    Aggregation("max", "max(a2)", "a2"),
    Aggregation("min", "min(a1) FILTER (WHERE a4)", "a1", filters="a4"),
    Aggregation("max", "max(a0)", "a0"),
]


def moment(circuit, members, call):
    name = "average" if call.kind == "avg" else "extreme"
    return getattr(circuit, name)(members, call)


def expected(both: Both, values, count: int, tables=None):
    """E[value | not NULL] of every segment from its values in every world."""
    weights, out = both.weights(tables), np.zeros((2, count))
    for (w, s), (value,) in values.items():
        if value is not None:
            out[:, s] += weights[w] * np.array([1.0, float(value)])
    with np.errstate(invalid="ignore"):
        return out[1] / out[0]


def differences(both: Both, value, step: float = 1e-5):
    """Slopes of `value(tables)` along class c of a prediction, at the expense of all others."""
    out = [np.zeros(p.shape) for p in both.tables]
    for slot, p in enumerate(both.tables):
        for place, c in np.ndindex(p.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [q.copy() for q in both.tables]
                moved[slot][place] -= sign * step / p.shape[1]
                moved[slot][place, c] += sign * step
                ends.append(value(moved))
            out[slot][place, c] = (ends[0] - ends[1]) / (2 * step)
    return out


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("calls", [AVERAGES, EXTREMES], ids=["average", "extreme"])
def test_moments_are_those_of_the_worlds(seed, calls):
    both = Both(seed, SHAPES[seed % len(SHAPES)])
    both.literals()
    both.random_step(4)
    chosen = both.pick(int(both.rng.integers(1, 9)))
    segment = np.sort(both.rng.integers(0, 3, len(chosen)))
    members = Members(both.column(chosen), segment, 3, table(both.rng, len(chosen)))
    call = calls[seed % len(calls)]
    values = in_every_world(both, np.array([both.truth[i] for i in chosen]), members, [call])
    found = moment(both.circuit, members, call)
    np.testing.assert_allclose(found.value, expected(both, values, 3), rtol=1e-10, atol=1e-12)
    adjoint = both.rng.normal(size=3)
    gradient = Gradient([np.zeros(p.shape) for p in both.tables])
    found.push(adjoint, gradient)
    numeric = differences(both, lambda t: np.nansum(adjoint * expected(both, values, 3, t)))
    for mine, theirs in zip(centred(gradient.arrays), numeric, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-7)


@pytest.mark.parametrize("call", [AVERAGES[0], EXTREMES[2]], ids=["average", "extreme"])
def test_certain_predictions_give_the_plain_value(call):
    both = Both(1, [(6, 2)])
    p = np.zeros((6, 2))
    p[:, 1], p[2:4] = 1.0, [1.0, 0.0]
    circuit = Circuit(Both.predictions([p]), both.con)
    rows, data = np.arange(6), pa.table({"a0": [4, 1, 9, 9, 2, 7]})
    ids = circuit.literals(0, rows, np.ones(6, np.int64))
    found = moment(circuit, Members(ids, np.zeros(6, np.int64), 1, data), call)
    assert found.value[0] == pytest.approx(3.5 if call.kind == "avg" else 7.0, rel=1e-12)
    gradient = Gradient([np.zeros((6, 2))])
    found.push(np.ones(1), gradient)
    # With row 2, a 9, in as well: the slope of a certain world is the change it would make.
    slope = gradient.arrays[0][2, 1] - gradient.arrays[0][2, 0]
    assert slope == pytest.approx(4.6 - 3.5 if call.kind == "avg" else 2.0, rel=1e-9)


def test_many_values_at_once_in_one_part():
    """A part that adds a thousand values at once needs nodes near one."""
    p = np.array([[0.3, 0.7], [0.9, 0.1]])
    circuit = Circuit(Both.predictions([p]), duckdb.connect())
    places = np.r_[np.zeros(1000, np.int64), 1]
    ids = circuit.literals(0, places, np.ones(1001, np.int64))
    data = pa.table({"a0": np.r_[np.full(1000, 2), 5]})
    found = circuit.average(Members(ids, np.zeros(1001, np.int64), 1, data), AVERAGES[0])
    both, first, second = 0.7 * 0.1, 0.7 * 0.9, 0.3 * 0.1
    value = (both * 2005 / 1001 + first * 2 + second * 5) / (both + first + second)
    assert found.value[0] == pytest.approx(value, rel=1e-12)


def test_only_numbers_have_expected_extremes():
    both = Both(0, [(2, 2)])
    both.literals()
    members = Members(both.column([2, 4]), np.zeros(2, np.int64), 1, pa.table({"a3": ["a", "b"]}))
    with pytest.raises(Intractable, match="string"):
        both.circuit.extreme(members, CALLS[8])
