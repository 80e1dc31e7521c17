"""Reader of `tests/sql/*.sql`: data, probabilities, queries and the numbers they must give.

See `tests/sql/README.md` for the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np

from tests.relax.enumeration import GIVEN, TOTAL, Slot

FOLDER = Path(__file__).parents[1] / "sql"


@dataclass
class Setup:
    """Statements that make the tables; classes and probabilities of their predictions."""

    statements: str = ""
    classes: dict[str, tuple] = field(default_factory=dict)
    probabilities: dict[Slot, np.ndarray] = field(default_factory=dict)

    def open(self) -> duckdb.DuckDBPyConnection:
        """A database in memory with the tables."""
        con = duckdb.connect()
        con.execute(self.statements)
        return con


@dataclass
class Pair:
    """One query with the rows its relaxed answer must have."""

    name: str
    setup: Setup
    sql: str
    header: list[str]
    rows: list[list[str]]

    @property
    def cells(self) -> dict[str, str]:
        """Cells and how their expectation is taken."""
        return {
            name.split()[1]: name.split()[0]
            for name in self.header
            if name.split()[0] in (TOTAL, GIVEN)
        }


def read(path: Path) -> Iterator[Pair]:
    """The cases of one file."""
    setup, lines = Setup(), path.read_text().splitlines()
    blocks = re.split(r"\n(?=-- (?:setup|case:))", "\n" + "\n".join(lines))
    for block in blocks[1:]:
        first = block.splitlines()[0]
        if first.startswith("-- setup"):
            setup = _setup(block)
        else:
            yield _case(block, setup)


def _setup(block: str) -> Setup:
    found = Setup(statements="\n".join(x for x in block.splitlines() if not x.startswith("--")))
    slot: Slot | None = None
    rows: dict[Slot, list[list[float]]] = {}
    for line in block.splitlines():
        head = re.fullmatch(r"-- (\w+) of (\w+): (.*)", line)
        if head:
            slot = head[1], head[2]
            found.classes[head[1]] = tuple(_value(part) for part in head[3].split(","))
            rows[slot] = []
        elif slot and re.fullmatch(r"--( +[\d.]+)+", line):
            rows[slot].append([float(part) for part in line[2:].split()])
    found.probabilities = {slot: np.array(listed) for slot, listed in rows.items()}
    return found


def _value(text: str) -> object:
    text = text.strip()
    return text[1:-1] if text.startswith("'") else int(text)


def _case(block: str, setup: Setup) -> Pair:
    lines = block.splitlines()
    sql = "\n".join(line for line in lines if line and not line.startswith("--"))
    table = [line[4:].strip(" |").split("|") for line in lines if line.startswith("-- |")]
    header, *rows = [[part.strip() for part in line] for line in table]
    return Pair(lines[0].removeprefix("-- case:").strip(), setup, sql.rstrip(";"), header, rows)


def number(con: duckdb.DuckDBPyConnection, text: str) -> tuple[float, float]:
    """A number and its tolerance: arithmetic is exact, ~0.82 was rounded by whoever printed it."""
    if text.startswith("~"):
        digits = len(text.partition(".")[2])
        return float(text[1:]), 0.5 * 10.0**-digits + 1e-9
    found = con.execute(f"SELECT ({_doubles(text)})::DOUBLE").fetchall()[0][0]
    return (float("nan") if found is None else found), 1e-9


def _doubles(text: str) -> str:
    return re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)(?![\w.])", r"\1::DOUBLE", text)


def identity(con: duckdb.DuckDBPyConnection, text: str) -> object:
    """A value of an identity column: NULL, a number, or a word without quotes."""
    if re.fullmatch(r"NULL|true|false|-?[\d.]+", text):
        return con.execute(f"SELECT {text}").fetchall()[0][0]
    return text
