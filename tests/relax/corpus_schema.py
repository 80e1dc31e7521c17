"""Random small databases for generated queries: NULLs in keys and measures, duplicates, ties."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import duckdb
import numpy as np

MODELS = {"predict": (0, 1, 2), "label": ("hi", "lo")}
COLUMNS = {
    "id": "BIGINT",
    "k": "BIGINT",
    "g": "VARCHAR",
    "a": "BIGINT",
    "b": "DOUBLE",
    "d": "DATE",
}


@dataclass
class Data:
    """Tables as rows of SQL literals; predicted tables have the feature `x` as last column."""

    tables: dict[str, list[list[str]]]
    predicted: dict[str, tuple[str, ...]]
    probabilities: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def statements(self) -> list[str]:
        """SQL that creates and fills the tables."""
        found: list[str] = []
        for name, rows in self.tables.items():
            columns = COLUMNS | ({"x": "BIGINT"} if name in self.predicted else {})
            listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            found.append(f"CREATE TABLE {name} ({listed})")
            if rows:
                values = ", ".join(f"({', '.join(row)})" for row in rows)
                found.append(f"INSERT INTO {name} VALUES {values}")
        return found

    def open(self) -> duckdb.DuckDBPyConnection:
        """A database in memory with the tables."""
        con = duckdb.connect(config={"threads": 2})
        for statement in self.statements():
            con.execute(statement)
        return con


def random_data(rng: random.Random, *, largest: int = 3, one_hot: bool = False) -> Data:
    """Two predicted tables t, u and a certain one s; at most `largest` rows in each of the first.

    `one_hot` makes every prediction certain.
    """
    predicted = {"t": ("predict", "label"), "u": ("predict",)}
    sizes = {
        "t": rng.randint(1, largest),
        "u": rng.choice([0, *range(1, largest)]),
        "s": rng.randint(0, max(4, largest)),
    }
    tables = {name: _rows(rng, size) for name, size in sizes.items()}
    for name in predicted:
        for row in tables[name]:
            row.append("0")
    _number(tables, predicted)
    data = Data(tables, predicted)
    numbers = np.random.default_rng(rng.getrandbits(32))
    for name, models in predicted.items():
        for model in models:
            data.probabilities[model, name] = _probabilities(
                numbers, sizes[name], len(MODELS[model]), one_hot=one_hot
            )
    return data


def _rows(rng: random.Random, size: int) -> list[list[str]]:
    rows: list[list[str]] = []
    for i in range(size):
        if rows and rng.random() < 0.2:
            rows.append([str(i), *rng.choice(rows)[1:]])
        else:
            rows.append([str(i), *_row(rng)])
    return rows


def _row(rng: random.Random) -> list[str]:
    return [
        _maybe(rng, str(rng.randint(0, 2))),
        _maybe(rng, rng.choice(["'p'", "'q'", "'hi'"])),
        _maybe(rng, str(rng.randint(-2, 3))),
        _maybe(rng, str(rng.randint(-6, 10) / 4)),
        f"DATE '2024-01-0{rng.randint(1, 3)}'",
    ]


def _maybe(rng: random.Random, value: str) -> str:
    return "NULL" if rng.random() < 0.2 else value


def _number(tables: dict[str, list[list[str]]], predicted: dict[str, tuple[str, ...]]) -> None:
    feature = 1
    for name in predicted:
        for row in tables[name]:
            row[-1] = str(feature)
            feature += 1


def _probabilities(
    rng: np.random.Generator, rows: int, classes: int, *, one_hot: bool
) -> np.ndarray:
    if one_hot:
        return np.eye(classes)[rng.integers(classes, size=rows)]
    found = rng.dirichlet(np.ones(classes), rows)
    for row in found:
        if rng.random() < 0.1:  # classes the model rules out
            row[rng.integers(classes)] = 0.0
            row /= row.sum()
    return found
