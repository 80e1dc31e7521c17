"""A circuit beside the list of all worlds: every operation is done on both."""

from __future__ import annotations

import itertools

import duckdb
import numpy as np

from rainpp.relax.nested.algebra import ALWAYS, NEVER
from rainpp.relax.nested.circuit import Circuit
from rainpp.relax.rowsums import Gradient, Predictions


class Both:
    """Events as circuit ids and as truth in every world."""

    def __init__(self, seed: int, shapes: list[tuple[int, int]], exact: bool = True) -> None:
        self.rng = np.random.default_rng(seed)
        self.tables = [self.rng.dirichlet(np.ones(r), v) for v, r in shapes]
        self.shapes = shapes
        self.con = duckdb.connect()
        self.circuit = Circuit(self.predictions(self.tables), self.con, exact=exact)
        self.variables = [(s, i) for s, (v, _) in enumerate(shapes) for i in range(v)]
        ranges = [range(shapes[s][1]) for s, _ in self.variables]
        self.worlds = np.array(list(itertools.product(*ranges)))
        self.ids = [NEVER, ALWAYS]
        self.truth = [np.zeros(len(self.worlds), bool), np.ones(len(self.worlds), bool)]

    @staticmethod
    def predictions(tables) -> Predictions:
        return Predictions((), (), tuple(tables))

    def add(self, ids, truth) -> list[int]:
        first = len(self.ids)
        self.ids.extend(int(i) for i in ids)
        self.truth.extend(truth)
        return list(range(first, len(self.ids)))

    def literals(self) -> None:
        """Every class of every prediction."""
        for number, (slot, place) in enumerate(self.variables):
            classes = np.arange(self.shapes[slot][1])
            ids = self.circuit.literals(slot, np.full(len(classes), place), classes)
            self.add(ids, [self.worlds[:, number] == c for c in classes])

    def pick(self, n: int) -> list[int]:
        return [int(i) for i in self.rng.integers(0, len(self.ids), n)]

    def column(self, chosen: list[int]):
        return np.array([self.ids[i] for i in chosen], np.int64)

    def random_step(self, n: int) -> None:
        """One vectorised operation on events picked at random."""
        kind = self.rng.choice(["every", "either", "negation", "some"])
        if kind == "negation":
            chosen = self.pick(n)
            self.add(self.circuit.negation(self.column(chosen)), [~self.truth[i] for i in chosen])
        elif kind == "some":
            chosen, count = self.pick(3 * n), n
            segment = self.rng.integers(0, count, len(chosen))
            truth = [np.zeros(len(self.worlds), bool) for _ in range(count)]
            for i, s in zip(chosen, segment, strict=True):
                truth[s] = truth[s] | self.truth[i]
            self.add(self.circuit.some(self.column(chosen), segment, count), truth)
        else:
            columns = [self.pick(n) for _ in range(self.rng.integers(1, 4))]
            combine = np.logical_and if kind == "every" else np.logical_or
            ids = getattr(self.circuit, kind)([self.column(c) for c in columns])
            rows = zip(*columns, strict=True)
            self.add(ids, [combine.reduce([self.truth[i] for i in row]) for row in rows])

    def weights(self, tables=None):
        tables = self.tables if tables is None else tables
        parts = [tables[s][i, self.worlds[:, k]] for k, (s, i) in enumerate(self.variables)]
        return np.prod(parts, axis=0)

    def expected(self, tables=None):
        return np.array([self.weights(tables) @ truth for truth in self.truth])

    def gradient(self, ids, adjoint) -> list:
        out = Gradient([np.zeros(shape) for shape in self.shapes])
        self.circuit.push(ids, adjoint, out)
        return out.arrays


def centred(arrays):
    """Without the part along each prediction's constant, which no change of P can show."""
    return [a - a.mean(axis=1, keepdims=True) for a in arrays]


def world_gradient(both: Both, adjoint):
    """d Σ adjoint · P(event) / dP by differentiating the products of all worlds."""
    value = adjoint @ np.array(both.truth, float)
    out = [np.zeros(shape) for shape in both.shapes]
    for k, (s, i) in enumerate(both.variables):
        others = [
            both.tables[t][j, both.worlds[:, m]]
            for m, (t, j) in enumerate(both.variables)
            if m != k
        ]
        rest = np.prod([np.ones(len(both.worlds)), *others], axis=0)
        np.add.at(out[s][i], both.worlds[:, k], rest * value)
    return out
