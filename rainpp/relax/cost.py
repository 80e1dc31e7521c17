"""What a way of answering a query costs, before it runs: counts, and milliseconds made of them.

Counts come from the plan and from DuckDB's estimates of how many rows it will hand over (`EXPLAIN`,
which runs nothing). Milliseconds are a fixed sum over the counts, so one plan over one database
has one prediction, on any machine; how good it is, `experiments/relaxation_cost.py` measures.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Any, cast

import duckdb

from rainpp.relax.catalog import rows

# Nanoseconds per unit of a count, and for an answer that counts nothing, as printed by
# `python -m experiments.relaxation_cost --fit` on 2 cores that other work shared; none below 1.
# Rows kept have no price of their own: there are as many multiply-adds, which stand for them.
ANSWER = 1.1e7
NANOSECONDS = {
    "read": 53.0,
    "operators": 2.3e6,
    "events": 59.0,
    "groups": 1.4e3,
    "pairs": 4.4,
    "multiply_adds": 12.0,
    "in_worlds": 26.0,
}
_WORDS = {
    "operators": "operators",
    "read": "rows read",
    "kept": "rows kept",
    "events": "rows with events",
    "groups": "groups",
    "pairs": "pairs of rows visited",
    "multiply_adds": "multiply-adds",
    "in_worlds": "rows times worlds",
    "held": "bytes held",
}
# Joins that try every pair of rows of their two inputs.
_PAIRWISE = ("CROSS_PRODUCT", "BLOCKWISE_NL_JOIN", "NESTED_LOOP_JOIN")


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated counts of what one evaluation does.

    Attributes
    ----------
    operators : relational operators that hand on rows with events; 0 for sums over one block.
    read : rows of the tables, which DuckDB reads for the relaxed and for the plain answer.
    kept : rows fetched for the sums of one block.
    events : rows that operators hand on, one for every class of a prediction they read.
    groups : rows the answer may have.
    pairs : pairs of rows that are visited one by one.
    multiply_adds : of the sums, value only; a gradient takes up to five times as many.
    in_worlds : rows that operators hand on in one world, times the worlds.
    held : bytes of rows, messages and worlds in memory.
    """

    operators: int = 0
    read: int = 0
    kept: int = 0
    events: int = 0
    groups: int = 0
    pairs: int = 0
    multiply_adds: int = 0
    in_worlds: int = 0
    held: int = 0

    @property
    def milliseconds(self) -> float:
        """Predicted time of the plain and the relaxed answer, without a gradient."""
        spent = (per * getattr(self, name) for name, per in NANOSECONDS.items())
        return (ANSWER + math.fsum(spent)) / 1e6

    def __str__(self) -> str:
        counts = [(field.name, int(getattr(self, field.name))) for field in fields(self)]
        listed = [_counted(count, _WORDS[name]) for name, count in counts if count]
        return f"{written(self.milliseconds)}: {', '.join(listed)}"


def written(milliseconds: float) -> str:
    """A predicted time in two digits: more would be a promise."""
    return f"about {float(f'{milliseconds:.2g}'):,g} ms"


def _counted(count: int, words: str) -> str:
    noun, *rest = words.split(" ")
    return " ".join([f"{count:,}", noun[:-1] if count == 1 and noun[-1] == "s" else noun, *rest])


@dataclass(frozen=True, slots=True)
class Estimate:
    """DuckDB's guesses about a query.

    Attributes
    ----------
    rows : rows of its result.
    passed : rows that all its operators hand on, projections aside.
    pairs : pairs of rows that joins without an equality try.
    """

    rows: int
    passed: int
    pairs: int


def estimate(con: duckdb.DuckDBPyConnection, sql: str) -> Estimate:
    """Ask DuckDB's optimizer about `sql`; nothing runs. Takes 1 to 3 ms.

    Raises
    ------
    duckdb.Error : DuckDB refuses it.
    """
    (tree,) = json.loads(str(rows(con, f"EXPLAIN (FORMAT json) {sql}")[0][1]))
    found = _flat(tree)
    return Estimate(
        _rows(tree),
        sum(_rows(node) for node in found if node["name"] != "PROJECTION"),
        sum(math.prod(map(_rows, node["children"])) for node in found if _is_pairwise(node)),
    )


def table_rows(con: duckdb.DuckDBPyConnection, qualified: str) -> int:
    """How many rows a table has; DuckDB looks it up."""
    return int(str(rows(con, f"SELECT count(*) FROM {qualified}")[0][0]))


def _flat(node: dict[str, Any]) -> list[dict[str, Any]]:
    children = cast("list[dict[str, Any]]", node["children"])
    return [node, *(below for child in children for below in _flat(child))]


def _is_pairwise(node: dict[str, Any]) -> bool:
    return node["name"] in _PAIRWISE and len(node["children"]) == 2


def _rows(node: dict[str, Any]) -> int:
    """Estimated rows of an operator; DuckDB takes a cross product to be as long as one side."""
    below = [_rows(child) for child in node["children"]]
    text = node["extra_info"].get("Estimated Cardinality")
    if node["name"] == "CROSS_PRODUCT":
        return math.prod(below)
    if text is None or (node["name"] == "PROJECTION" and below):
        return max(below, default=1)
    return int(str(text))
