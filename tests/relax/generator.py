"""Random queries over predictions: a grammar of more than thirty constructs, seeded.

`random_query(rng)` writes one SELECT over the tables of `corpus_schema`. Group keys and plain
columns are called k0, k1, ...; cells, which have a relaxed value, c0, c1, ...
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.relax.corpus_conditions import Conditions, Scope, Source, sources_of
from tests.relax.enumeration import GIVEN, TOTAL

Item = tuple[str, str, str]
"""Expression, output name, type."""


@dataclass(frozen=True)
class Generated:
    """A query, what its cells mean, and what it is made of."""

    sql: str
    cells: dict[str, str]
    constructs: frozenset[str]


@dataclass
class Block:
    """One SELECT block while it is being written."""

    items: list[Item]
    source: str
    where: list[str] = field(default_factory=list)
    tail: str = ""
    distinct: str = ""
    cells: dict[str, str] = field(default_factory=dict)

    def sql(self) -> str:
        """The block's text."""
        items = ", ".join(f"{sql} AS {name}" for sql, name, _ in self.items)
        where = f" WHERE {' AND '.join(self.where)}" if self.where else ""
        return f"SELECT {self.distinct}{items} FROM {self.source}{where}{self.tail}"


class Writer(Conditions):
    """Writes blocks; `used` collects names of constructs."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.ctes: dict[str, list[tuple[str, str]]] = {}

    def source(self, depth: int, *, certain: bool = False) -> tuple[str, Source]:
        """A table, derived table or CTE with a fresh alias."""
        alias = self.alias()
        choice = self.rng.random()
        if depth > 0 and choice < 0.2 and not certain:
            self.note("derived table")
            block = self.part(depth - 1)
            return f"({block[0]}) {alias}", Source(alias, block[1])
        if self.ctes and choice < 0.5 and not certain:
            name = self.rng.choice(list(self.ctes))
            return f"{name} {alias}", Source(alias, self.ctes[name])
        table = "s" if certain else self.rng.choices("tus", [5, 3, 2])[0]
        return f"{table} {alias}", sources_of(table, alias)

    def tables(self, depth: int, *, most: int = 3) -> tuple[str, Scope]:
        """A FROM clause."""
        text, first = self.source(depth)
        scope = Scope([first])
        for _ in range(self.rng.choices([0, 1, 2], [6, 5, 1])[0] if most > 1 else 0):
            kind = self.rng.choices(
                [
                    ",",
                    "CROSS JOIN",
                    "JOIN",
                    "LEFT JOIN",
                    "RIGHT JOIN",
                    "FULL JOIN",
                    "SEMI JOIN",
                    "ANTI JOIN",
                ],
                [1, 1, 5, 3, 1.5, 1.5, 1, 1],
            )[0]
            right, source = self.source(depth)
            self.note(kind.lower() if kind != "," else "comma join")
            if kind in (",", "CROSS JOIN"):
                text = f"{text}{'' if kind == ',' else ' '}{kind} {right}"
                scope = Scope([*scope.sources, source])
                if kind == ",":
                    break
                continue
            both = Scope([*scope.sources, source])
            text = f"{text} {kind} {right} ON {self.join_condition(scope, source, both)}"
            scope = scope if kind in ("SEMI JOIN", "ANTI JOIN") else both
        return text, scope

    def rows(self, depth: int, types: Sequence[str], *, start: int = 0) -> Block:
        """A block that returns rows, columns of the given types."""
        text, scope = self.tables(depth, most=2)
        items = [(self.value(scope, kind), f"k{start + i}", kind) for i, kind in enumerate(types)]
        block = Block(items, text, self.where(scope, depth))
        if self.rng.random() < 0.3:
            block.distinct = "DISTINCT "
            self.note("distinct")
        return block

    def grouped(self, depth: int, *, keys: int | None = None) -> Block:
        """A block with GROUP BY, or a global aggregate."""
        text, scope = self.tables(depth)
        count = self.rng.choices([0, 1, 2], [3, 5, 2])[0] if keys is None else keys
        items: list[Item] = []
        for i in range(count):
            kind = self.rng.choice(["str", "int", "class", "bool"])
            items.append((self.value(scope, kind), f"k{i}", kind))
        block = Block(items, text, self.where(scope, depth))
        keys_only = list(items)
        cells = {}
        for i in range(self.rng.randint(1, 3)):
            sql, role, kind = self.cell(scope)
            items.append((sql, f"c{i}", kind))
            cells[f"c{i}"] = role
        block.cells = cells
        block.tail = self.grouping(keys_only)
        if self.rng.random() < 0.25:
            self.note("having")
            block.tail += f" HAVING {self.having(scope)}"
            block.cells = dict.fromkeys(cells, GIVEN)
        return block

    def grouping(self, keys: list[Item]) -> str:
        """GROUP BY in one of its spellings."""
        if not keys:
            self.note("global aggregate")
            return ""
        self.note("group by prediction" if any("(" in k[0] for k in keys) else "group by column")
        spelled = self.rng.choice(["all", "ordinal", "expression"])
        if spelled == "all":
            return " GROUP BY ALL"
        if spelled == "ordinal":
            return " GROUP BY " + ", ".join(str(i + 1) for i in range(len(keys)))
        return " GROUP BY " + ", ".join(key[0] for key in keys)

    def rollup(self, depth: int) -> Block:
        """ROLLUP or GROUPING SETS over two keys."""
        text, scope = self.tables(depth, most=2)
        first, second = self.column(scope, "str"), self.column(scope, "int")
        items: list[Item] = [
            (first, "k0", "str"),
            (second, "k1", "int"),
            (f"grouping({first}, {second})", "k2", "int"),
        ]
        sql, role, kind = self.cell(scope)
        items.append((sql, "c0", kind))
        sets = self.rng.choice(
            [f"ROLLUP ({first}, {second})", f"GROUPING SETS (({first}), ({second}), ())"]
        )
        self.note(sets.split(" (")[0].lower())
        block = Block(items, text, self.where(scope, depth), f" GROUP BY {sets}")
        block.cells = {"c0": role}
        return block

    def window(self) -> Block:
        """SUM, COUNT or AVG over a partition by certain columns."""
        table = self.rng.choice("tu")
        alias = self.alias()
        scope = Scope([sources_of(table, alias)])
        call = self.rng.choice(
            ["count(*)", f"sum({self.value(scope, 'num')})", f"avg({self.value(scope, 'num')})"]
        )
        self.note("window " + call.split("(")[0])
        over = self.rng.choice(["", f"PARTITION BY {self.column(scope, 'str')}"])
        items: list[Item] = [
            (f"{alias}.id", "k0", "int"),
            (self.column(scope, "str"), "k1", "str"),
            (f"{call} OVER ({over})", "c0", "num"),
        ]
        where = [self.condition(scope, 1)] if self.rng.random() < 0.7 else []
        return Block(items, f"{table} {alias}", where, cells={"c0": GIVEN})

    def scalar_item(self, depth: int) -> Block:
        """Rows with a scalar subquery among their columns."""
        table = self.rng.choice("tu")
        alias = self.alias()
        scope = Scope([sources_of(table, alias)])
        items: list[Item] = [
            (f"{alias}.id", "k0", "int"),
            (self.scalar_subquery(scope, depth), "c0", "num"),
        ]
        self.note("scalar subquery in select")
        return Block(items, f"{table} {alias}", self.where(scope, 0), cells={"c0": GIVEN})

    def part(self, depth: int) -> tuple[str, list[tuple[str, str]]]:
        """A block for use inside another query, and its columns."""
        if self.rng.random() < 0.35:
            block = self.grouped(depth, keys=self.rng.randint(1, 2))
            return block.sql(), [(name, kind) for _, name, kind in block.items]
        if self.rng.random() < 0.25:
            sql, types = self.set_operation(depth)
            return sql, [(f"k{i}", kind) for i, kind in enumerate(types)]
        types = self.rng.choices(["str", "int", "class", "num"], k=self.rng.randint(1, 3))
        block = self.rows(depth, types)
        columns = [(name, kind) for _, name, kind in block.items]
        return block.sql(), columns

    def set_operation(self, depth: int, *, merged: bool = False) -> tuple[str, list[str]]:
        """UNION, INTERSECT or EXCEPT of two row blocks."""
        types = self.rng.choice([["str"], ["int"], ["class"], ["str", "int"]])
        sides = [self.rows(depth, types).sql() for _ in range(2)]
        word = self.rng.choices(
            ["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL", "INTERSECT ALL"],
            [0 if merged else 3, 3, 2, 2, 0.5, 0.5],
        )[0]
        self.note(word.lower())
        return f"{sides[0]} {word} {sides[1]}", types

    def outer(self, depth: int) -> tuple[str, dict[str, str], int]:
        """The outermost block: SQL, roles of cells, number of columns."""
        kind = self.rng.choices(
            [
                "grouped",
                "rows",
                "distinct",
                "set",
                "union",
                "window",
                "rollup",
                "scalar",
                "filtered",
            ],
            [10, 2, 1, 2, 1, 1.5, 1, 1.5, 1],
        )[0]
        if kind == "set":
            sql, types = self.set_operation(depth, merged=True)
            return sql, {}, len(types)
        if kind == "union":
            return self.union_all(depth)
        if kind == "filtered":
            return self.filtered(depth)
        block = {
            "grouped": lambda: self.grouped(depth),
            "rows": lambda: self.plain_rows(depth),
            "distinct": lambda: self.distinct(depth),
            "window": self.window,
            "rollup": lambda: self.rollup(depth),
            "scalar": lambda: self.scalar_item(depth),
        }[kind]()
        return block.sql(), block.cells, len(block.items)

    def plain_rows(self, depth: int) -> Block:
        """Rows of tables, named by their ids; numbers over predictions are cells."""
        self.note("plain rows")
        text, scope = self.tables(0, most=2)
        items: list[Item] = [(f"{s.alias}.id", f"k{i}", "int") for i, s in enumerate(scope.sources)]
        cells = {}
        for i, kind in enumerate(self.rng.choices(["str", "int", "class", "num"], k=2)):
            sql = self.column(scope, kind) if kind == "str" else self.value(scope, kind)
            cell = "predict(" in sql
            name = f"c{i}" if cell else f"k{len(scope.sources) + i}"
            items.append((sql, name, kind))
            if cell:
                cells[name] = GIVEN
        return Block(items, text, self.where(scope, depth), cells=cells)

    def union_all(self, depth: int) -> tuple[str, dict[str, str], int]:
        """Rows or groups of two queries, told apart by a number."""
        self.note("union all")
        sides: list[str] = []
        wanted = self.rng.choice([TOTAL, GIVEN])
        for number in range(2):
            text, scope = self.tables(depth, most=2)
            sql, role, _ = self.cell(scope)
            while role != wanted:
                sql, role, _ = self.cell(scope)
            key = self.column(scope, "str")
            where = self.where(scope, depth)
            items: list[Item] = [(str(number), "k0", "int"), (key, "k1", "str")]
            items.append((sql, "c0", "num"))
            sides.append(Block(items, text, where, f" GROUP BY {key}").sql())
        return " UNION ALL ".join(sides), {"c0": wanted}, 3

    def distinct(self, depth: int) -> Block:
        """Different rows, predictions among them."""
        types = self.rng.choices(["str", "int", "class", "num"], k=self.rng.randint(1, 3))
        block = self.rows(depth, types)
        block.distinct = "DISTINCT "
        self.note("distinct")
        return block

    def filtered(self, depth: int) -> tuple[str, dict[str, str], int]:
        """Groups of a derived table that pass a test on an aggregate."""
        block = self.grouped(depth, keys=1)
        self.note("filter on derived aggregate")
        names = [name for _, name, _ in block.items]
        test = f"{self.alias()}"
        sql = (
            f"SELECT {', '.join(f'{test}.{n} AS {n}' for n in names)} FROM ({block.sql()}) {test} "
            f"WHERE {test}.c0 {self.rng.choice(['>', '<=', '<>'])} {self.rng.randint(-1, 2)}"
        )
        return sql, dict.fromkeys(block.cells, GIVEN), len(names)

    def query(self, depth: int) -> Generated:
        """A whole query."""
        prefix = ""
        if self.rng.random() < 0.2:
            sql, columns = self.part(depth - 1)
            self.ctes["w"] = columns
            prefix = f"WITH w AS ({sql}) "
            self.note("cte")
        sql, cells, width = self.outer(depth)
        body = prefix + sql
        uses = len(re.findall(r"\bw q\d", sql))
        if prefix and not uses:
            body = sql
        if uses > 1:
            self.note("cte used twice")
        if self.rng.random() < 0.3:
            order = ", ".join(f"{i + 1}" for i in self.rng.sample(range(width), width))
            body += f" ORDER BY {order}"
            self.note("order by")
            if self.rng.random() < 0.4:
                body += f" LIMIT {self.rng.randint(1, 2)}"
                cells = dict.fromkeys(cells, GIVEN)
                self.note("limit")
        return Generated(body, cells, frozenset(self.used))


def random_query(rng: random.Random, *, depth: int = 2) -> Generated:
    """A query that calls a model; not necessarily one that DuckDB accepts."""
    while True:
        found = Writer(rng).query(rng.randint(0, depth))
        if slots(found.sql):
            return found


def num_worlds(sql: str, sizes: Mapping[tuple[str, str], tuple[int, int]]) -> int:
    """How many worlds a generated query has, given (V, R) of every (model, table)."""
    return math.prod(sizes[slot][1] ** sizes[slot][0] for slot in slots(sql))


def slots(sql: str) -> list[tuple[str, str]]:
    """The (model, table) pairs that a generated query predicts, in order of appearance."""
    tables = {alias: table for table, alias in re.findall(r"\b([tus]) (q\d+)\b", sql)}
    found = re.findall(r"\b(predict|label)\((q\d+)", sql)
    return list(dict.fromkeys((model, tables[alias]) for model, alias in found))


__all__ = ["GIVEN", "TOTAL", "Generated", "num_worlds", "random_query", "slots"]
