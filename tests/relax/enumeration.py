"""Possible worlds, one DuckDB run each: what a relaxed answer must be, from nothing but SQL.

The query runs exactly as written. `predict(x)` is a macro that looks the feature `x` up in the
list of classes of the present world, so views, CTEs and subqueries need no rewriting. Features
must therefore be distinct numbers 1, 2, ... across all predicted tables.

Rows of different worlds are one row if their identity columns (all that are not cells) agree; the
j-th of several equal rows is matched with the j-th of the other worlds.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

Slot = tuple[str, str]
Key = tuple[object, ...]
MAX_WORLDS = 20_000

TOTAL = "total"
"""Expectation with 0 where the row is absent or the cell NULL: COUNT and SUM of a GROUP BY."""
GIVEN = "given"
"""Expectation given that the row is there and the cell not NULL: every other cell."""


def plain(sql: str, models: Iterable[str]) -> str:
    """The same query with row references `predict(t)` and `predict(*)` spelled `predict(t.x)`."""
    for model in models:
        sql = re.sub(rf"\b{model}\(\s*\*\s*\)", f"{model}(x)", sql, flags=re.IGNORECASE)
        sql = re.sub(
            rf"\b{model}\(\s*(?!x\b)(\w+)\s*\)", rf"{model}(\1.x)", sql, flags=re.IGNORECASE
        )
    return sql


def comparable(value: object) -> object:
    """Equal SQL values as equal, hashable Python values."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if isinstance(value, (list, dict)):
        return str(value)
    return value


@dataclass(frozen=True, eq=False)
class Prediction:
    """One (model, table): the features of the table's rows, their class probabilities (V, R)."""

    slot: Slot
    features: np.ndarray
    probabilities: np.ndarray
    classes: tuple[object, ...]


class Oracle:
    """A cursor beside the tested connection on which models are macros."""

    def __init__(self, con: duckdb.DuckDBPyConnection, models: Mapping[str, Sequence]) -> None:
        self._con = con.cursor()
        self._con.execute("SET threads = 1")
        # DuckDB 2.0's statistics propagation drops filters over sums it wrongly believes bounded.
        self._con.execute("PRAGMA disable_optimizer")
        self.models = {name: tuple(classes) for name, classes in models.items()}
        for name in self.models:
            self._con.execute(
                f"CREATE OR REPLACE TEMP MACRO {name}(f) AS "
                f"list_extract(getvariable('world_of_{name}'), f)"
            )

    def close(self) -> None:
        """Close the cursor."""
        self._con.close()

    def prediction(self, slot: Slot, probabilities: np.ndarray) -> Prediction:
        """Read the features of a table in the order of its rows."""
        found = self._con.execute(f'SELECT x FROM "{slot[1]}" ORDER BY rowid').fetchall()
        features = np.array([row[0] for row in found], dtype=np.int64)
        return Prediction(slot, features, np.asarray(probabilities), self.models[slot[0]])

    def run(self, sql: str, predictions: Sequence[Prediction], world: Sequence[int]) -> list[tuple]:
        """The plain answer to SQL from `plain`, variables taking the classes numbered `world`."""
        self._set(predictions, world)
        return self._con.execute(sql).fetchall()

    def hard(self, sql: str, predictions: Sequence[Prediction]) -> list[tuple]:
        """The plain answer under the likeliest classes."""
        world = [int(row.argmax()) for p in predictions for row in p.probabilities]
        return self.run(plain(sql, self.models), predictions, world)

    def contradicts(self, sql: str, predictions: Sequence[Prediction]) -> bool:
        """Whether DuckDB's optimizer changes the plain answer."""
        without = self.hard(sql, predictions)
        self._con.execute("PRAGMA enable_optimizer")
        with_it = self.hard(sql, predictions)
        self._con.execute("PRAGMA disable_optimizer")
        return sorted(map(str, without)) != sorted(map(str, with_it))

    def names(self, sql: str, predictions: Sequence[Prediction]) -> list[str]:
        """Column names of the answer."""
        self._set(predictions, [0] * sum(len(p.features) for p in predictions))
        self._con.execute(plain(sql, self.models)).fetchall()
        return [column[0] for column in self._con.description or ()]

    def _set(self, predictions: Sequence[Prediction], world: Sequence[int]) -> None:
        chosen: dict[str, dict[int, object]] = {name: {} for name in self.models}
        numbers = iter(world)
        for prediction in predictions:
            for feature in prediction.features:
                name = prediction.slot[0]
                chosen[name][int(feature)] = prediction.classes[next(numbers)]
        for name, classes in chosen.items():
            size = max(classes, default=0)
            values = ", ".join(_literal(classes.get(f)) for f in range(1, size + 1))
            kind = "VARCHAR" if isinstance(self.models[name][0], str) else "BIGINT"
            self._con.execute(f"SET VARIABLE world_of_{name} = [{values}]::{kind}[]")


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


class Enumeration:
    """Existence and cells of every row that some world has, with slopes."""

    def __init__(
        self,
        oracle: Oracle,
        sql: str,
        probabilities: Mapping[Slot, np.ndarray],
        cells: Mapping[str, str],
    ) -> None:
        self.predictions = [oracle.prediction(slot, p) for slot, p in probabilities.items()]
        self.cells = dict(cells)
        self.names = oracle.names(sql, self.predictions)
        ranges = [range(len(p.classes)) for p in self.predictions for _ in range(len(p.features))]
        if math.prod(len(r) for r in ranges) > MAX_WORLDS:
            raise ValueError(f"more than {MAX_WORLDS} worlds")
        self.worlds = np.array(list(itertools.product(*ranges)), dtype=np.int64)
        self.worlds = self.worlds.reshape(math.prod(len(r) for r in ranges), len(ranges))
        self._probability = [row for p in self.predictions for row in p.probabilities]
        self.weights = self._weights(skip=None)
        sql = plain(sql, oracle.models)
        self._rows = [self._keyed(oracle.run(sql, self.predictions, w)) for w in self.worlds]

    @property
    def keys(self) -> list[Key]:
        """Identities of all rows of all worlds of positive probability, in order of appearance."""
        alive = (rows for rows, w in zip(self._rows, self.weights, strict=True) if w > 0)
        return list(dict.fromkeys(key for rows in alive for key in rows))

    def hard_keys(self) -> list[Key]:
        """Identities of the rows of the likeliest world, in order."""
        world = np.array([int(p.argmax()) for p in self._probability], dtype=np.int64)
        return list(self._rows[int((self.worlds == world).all(axis=1).argmax())])

    def key(self, row: Sequence[object], seen: dict[Key, int]) -> Key:
        """Identity of a row of an answer; `seen` counts the equal ones before it."""
        identity = tuple(
            comparable(v) for v, name in zip(row, self.names, strict=True) if name not in self.cells
        )
        seen[identity] = seen.get(identity, 0) + 1
        return (*identity, seen[identity])

    def repeats(self, key: Key) -> bool:
        """Whether some world has several rows of this identity."""
        return any((*key[:-1], 2) in rows for rows in self._rows)

    def existence(self, key: Key) -> float:
        """Probability that the row is in the answer."""
        return float(self.weights @ self._present(key))

    def cell(self, key: Key, name: str, role: str | None = None) -> float:
        """Expected value of a cell; NaN if the row is there only with a NULL."""
        return _ratio(*self._sums(key, name, role or self.cells[name], self.weights))

    def existence_slopes(self, key: Key) -> dict[Slot, np.ndarray]:
        """D existence / dP, each row centred: only directions within the simplex mean something."""
        return self._slopes(lambda weights: float(weights @ self._present(key)))

    def slopes(self, key: Key, name: str, role: str | None = None) -> dict[Slot, np.ndarray]:
        """D cell / dP of the multilinear extension, each row centred."""
        role = role or self.cells[name]
        top, bottom = self._sums(key, name, role, self.weights)
        if bottom == 0:
            return self._slopes(lambda _: 0.0)

        def derivative(weights: np.ndarray) -> float:
            up, down = self._sums(key, name, role, weights, derivative=True)
            return (up - top / bottom * down) / bottom

        return self._slopes(derivative)

    def _present(self, key: Key) -> np.ndarray:
        return np.array([key in rows for rows in self._rows], dtype=float)

    def _sums(
        self, key: Key, name: str, role: str, weights: np.ndarray, *, derivative: bool = False
    ) -> tuple[float, float]:
        values = [rows.get(key, {}).get(name) for rows in self._rows]
        known = np.array([v is not None for v in values], dtype=float)
        numbers = np.array([0.0 if v is None else float(v) for v in values])
        if role == TOTAL:
            return float(weights @ numbers), 0.0 if derivative else float(known.any())
        return float(weights @ numbers), float(weights @ known)

    def _slopes(self, derivative) -> dict[Slot, np.ndarray]:
        found: dict[Slot, np.ndarray] = {}
        variable = 0
        for prediction in self.predictions:
            slopes = np.zeros(prediction.probabilities.shape)
            for row in range(len(slopes)):
                others = self._weights(skip=variable)
                for c in range(slopes.shape[1]):
                    slopes[row, c] = derivative(others * (self.worlds[:, variable] == c))
                variable += 1
            found[prediction.slot] = centred(slopes)
        return found

    def _weights(self, skip: int | None) -> np.ndarray:
        weights = np.ones(len(self.worlds))
        for variable, p in enumerate(self._probability):
            if variable != skip:
                weights = weights * p[self.worlds[:, variable]]
        return weights

    def _keyed(self, rows: Iterable[tuple]) -> dict[Key, dict[str, object]]:
        seen: dict[Key, int] = {}
        return {
            self.key(row, seen): {
                name: value
                for value, name in zip(row, self.names, strict=True)
                if name in self.cells
            }
            for row in rows
        }


def centred(slopes: np.ndarray) -> np.ndarray:
    """Slopes (V, R) less the mean of each row."""
    return slopes - slopes.mean(axis=1, keepdims=True) if slopes.size else slopes


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else float("nan")
