"""The scalar half of the query generator: values, conditions, aggregates and subqueries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.relax.corpus_schema import COLUMNS, MODELS
from tests.relax.enumeration import GIVEN, TOTAL

_TYPES = {"BIGINT": "int", "VARCHAR": "str", "DOUBLE": "num", "DATE": "date"}


@dataclass(frozen=True)
class Source:
    """An alias, its (column, type) pairs, and the models that predict its rows."""

    alias: str
    columns: list[tuple[str, str]]
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What an expression may refer to."""

    sources: list[Source]

    def columns(self, *kinds: str) -> list[str]:
        """Qualified columns of any of the types."""
        return [f"{s.alias}.{name}" for s in self.sources for name, k in s.columns if k in kinds]

    def calls(self, model: str) -> list[str]:
        """Predictions of a model."""
        return [f"{model}({s.alias}.x)" for s in self.sources if model in s.models]


def sources_of(table: str, alias: str) -> Source:
    """A base table under an alias."""
    columns = [(name, _TYPES[kind]) for name, kind in COLUMNS.items()]
    models = {"t": ("predict", "label"), "u": ("predict",), "s": ()}[table]
    return Source(alias, columns, models)


class Conditions:
    """Random expressions."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.used, self._aliases = rng, set[str](), 0
        self._by_row = rng.random() < 0.1

    def note(self, construct: str) -> None:
        """Remember that a construct was used."""
        self.used.add(construct)

    def alias(self) -> str:
        """A fresh table alias."""
        self._aliases += 1
        return f"q{self._aliases}"

    def column(self, scope: Scope, kind: str) -> str:
        """A column, or a literal if there is none of the type."""
        found = scope.columns(kind) or scope.columns(*(("int",) if kind == "num" else ()))
        return self.rng.choice(found) if found else self.literal(kind)

    def literal(self, kind: str) -> str:
        """A constant of a type."""
        if kind == "str":
            return self.rng.choice(["'p'", "'q'", "'hi'"])
        if kind == "bool":
            return self.rng.choice(["true", "false"])
        return str(self.rng.randint(0, 2)) if kind != "num" else str(self.rng.randint(-2, 6) / 4)

    def prediction(self, scope: Scope, model: str = "predict") -> str | None:
        """A call of a model, in one of its spellings."""
        calls = scope.calls(model)
        if not calls:
            return None
        call = self.rng.choice(calls)
        return call.replace(".x)", ")") if self._by_row else call

    def value(self, scope: Scope, kind: str) -> str:
        """An expression of a type, often over a prediction."""
        number, word = self.prediction(scope), self.prediction(scope, "label")
        some = self.rng.random()
        if kind == "class":
            return number or self.column(scope, "int")
        if kind == "bool":
            return f"({self.leaf(scope)})"
        if kind == "str" and word and some < 0.35:
            self.note("string classes")
            return word if some < 0.2 else f"upper({word})"
        if kind == "int" and number and some < 0.35:
            return self.computed(scope, number)
        if kind == "num" and some < 0.5:
            return self.arithmetic(scope)
        return self.column(scope, kind)

    def computed(self, scope: Scope, call: str) -> str:
        """An integer computed from a prediction."""
        column = self.column(scope, "int")
        choices = {
            "case": f"CASE WHEN {call} = 1 THEN {column} ELSE {call} END",
            "arithmetic": f"{call} + 1",
            "cast": f"CAST({call} = 1 AS BIGINT)",
            "coalesce": f"coalesce({column}, {call})",
        }
        chosen = self.rng.choice(list(choices))
        self.note(chosen + " in value")
        return choices[chosen]

    def arithmetic(self, scope: Scope) -> str:
        """A number, with a prediction where there is one."""
        call = self.prediction(scope)
        column = self.column(scope, self.rng.choice(["int", "num"]))
        if call is None:
            return f"{column} * 2"
        return self.rng.choice(
            [call, f"{column} * {call}", f"CASE WHEN {call} > 0 THEN {column} END"]
        )

    def leaf(self, scope: Scope) -> str:
        """A predicate without AND, OR, NOT or subquery."""
        calls = scope.calls("predict")
        if not calls or self.rng.random() < 0.25:
            return self.certain(scope)
        call, column = self.prediction(scope) or "", self.column(scope, "int")
        forms: list[tuple[str, Callable[[], str]]] = [
            ("=", lambda: f"{call} = {self.rng.randint(0, 2)}"),
            ("<>", lambda: f"{call} <> {self.rng.randint(0, 2)}"),
            ("in list", lambda: f"{call} IN ({self.rng.choice(['0, 2', '1', '1, 2, NULL'])})"),
            ("not in list", lambda: f"{call} NOT IN ({self.rng.choice(['0, 2', '1', '1, NULL'])})"),
            ("between", lambda: f"{call} BETWEEN {self.rng.choice(['1', column])} AND 2"),
            ("like", lambda: f"{call}::VARCHAR LIKE '1%'"),
            (
                "case",
                lambda: f"CASE WHEN {self.certain(scope)} THEN {call} = 1 ELSE {call} > 0 END",
            ),
            ("arithmetic", lambda: f"{call} + {column} > 1"),
            ("cast", lambda: f"CAST({call} AS DOUBLE) / 2 >= 0.5"),
            ("= column", lambda: f"{call} = {column}"),
            ("< column", lambda: f"{call} < {column}"),
            ("is null", lambda: f"{call} IS NULL"),
            ("distinct from", lambda: f"{call} IS DISTINCT FROM {column}"),
            (
                "two predictions",
                lambda: f"{call} {self.rng.choice(['=', '<>', '<'])} {self.prediction(scope)}",
            ),
        ]
        if scope.calls("label"):
            word = self.prediction(scope, "label") or ""
            forms += [
                ("string classes", lambda: f"{word} = 'hi'"),
                ("string classes", lambda: f"{word} = {self.column(scope, 'str')}"),
                ("like", lambda: f"{word} LIKE '%o'"),
                ("several models", lambda: f"({word} = 'lo') = ({call} = 1)"),
            ]
        name, form = self.rng.choice(forms)
        self.note(name)
        return form()

    def certain(self, scope: Scope) -> str:
        """A predicate over columns alone."""
        self.note("column predicate")
        number, word = self.column(scope, "int"), self.column(scope, "str")
        return self.rng.choice(
            [f"{number} > 0", f"{number} = 1", f"{word} = 'p'", f"{word} IS NULL", f"{number} <= 1"]
        )

    def condition(self, scope: Scope, depth: int) -> str:
        """A predicate with connectives and, while depth lasts, subqueries."""
        choice = self.rng.random()
        if choice < 0.5:
            return self.leaf(scope)
        if choice < 0.68 and depth > 0:
            return self.subquery(scope, depth - 1)
        if choice < 0.78:
            self.note("not")
            return f"NOT ({self.condition(scope, depth - 1)})" if depth > 0 else self.leaf(scope)
        word = self.rng.choice(["AND", "OR"])
        self.note(word.lower())
        left, right = self.condition(scope, depth - 1), self.leaf(scope)
        return f"({left} {word} {right})"

    def where(self, scope: Scope, depth: int) -> list[str]:
        """Conditions of a WHERE clause."""
        if self.rng.random() < 0.3:
            return []
        self.note("where")
        return [self.condition(scope, depth)]

    def join_condition(self, left: Scope, right: Source, both: Scope) -> str:
        """ON: keys, predictions, or anything over both sides."""
        other = Scope([right])
        parts: list[str] = []
        if self.rng.random() < 0.6:
            parts.append(f"{self.column(left, 'int')} = {self.column(other, 'int')}")
        mine, theirs = self.prediction(left), self.prediction(other)
        if mine and theirs and self.rng.random() < 0.4:
            self.note("join on two predictions")
            parts.append(f"{mine} = {theirs}")
        elif self.rng.random() < 0.5:
            self.note("uncertain join condition")
            parts.append(self.leaf(both))
        return " AND ".join(parts) or f"{self.column(left, 'int')} <= {self.column(other, 'int')}"

    def subquery(self, scope: Scope, depth: int) -> str:
        """EXISTS, IN or a scalar subquery, correlated or not."""
        table, alias = self.rng.choice("tus"), self.alias()
        inner = Scope([sources_of(table, alias)])
        both = Scope([*inner.sources, *scope.sources])
        test = [self.condition(inner, depth)]
        if self.rng.random() < 0.5:
            self.note("correlated subquery")
            test.append(
                self.rng.choice([f"{alias}.k = {self.column(scope, 'int')}", self.leaf(both)])
            )
        where = f"FROM {table} {alias} WHERE {' AND '.join(test)}"
        kind = self.rng.choice(["exists", "not exists", "in", "not in", "scalar"])
        self.note(kind + " subquery")
        if kind.endswith("exists"):
            return f"{kind.upper()} (SELECT 1 {where})"
        if kind == "scalar":
            return f"{self.value(scope, 'int')} >= (SELECT {self.aggregate(inner)[0]} {where})"
        return (
            f"{self.value(scope, 'int')} {kind.upper()} (SELECT {self.value(inner, 'int')} {where})"
        )

    def scalar_subquery(self, scope: Scope, depth: int) -> str:
        """(SELECT aggregate ...), correlated half of the time."""
        table, alias = self.rng.choice("tu"), self.alias()
        inner = Scope([sources_of(table, alias)])
        test = [self.condition(inner, 0 if depth < 1 else 1)]
        if self.rng.random() < 0.5:
            self.note("correlated scalar subquery")
            test.append(f"{alias}.k = {self.column(scope, 'int')}")
        return (
            f"(SELECT {self.aggregate(inner)[0]} FROM {table} {alias} WHERE {' AND '.join(test)})"
        )

    def aggregate(self, scope: Scope) -> tuple[str, str]:
        """An aggregate call and the role of its value."""
        number = self.value(scope, self.rng.choice(["num", "int"]))
        forms = {
            "count(*)": ("count(*)", TOTAL),
            "count": (f"count({self.value(scope, 'int')})", TOTAL),
            "count distinct": (f"count(DISTINCT {self.value(scope, 'int')})", TOTAL),
            "sum": (f"sum({number})", TOTAL),
            "sum case": (f"sum(CASE WHEN {self.leaf(scope)} THEN 1 ELSE 0 END)", TOTAL),
            "avg": (f"avg({number})", GIVEN),
            "min": (f"min({number})", GIVEN),
            "max": (f"max({number})", GIVEN),
        }
        name = self.rng.choices(list(forms), [5, 2, 2, 4, 2, 2, 2, 2])[0]
        self.note(name)
        sql, role = forms[name]
        if self.rng.random() < 0.15:
            self.note("filter clause")
            sql += f" FILTER (WHERE {self.leaf(scope)})"
        return sql, role

    def cell(self, scope: Scope) -> tuple[str, str, str]:
        """An aggregate column: SQL, role, type."""
        sql, role = self.aggregate(scope)
        choice = self.rng.random()
        if choice < 0.08:
            self.note("ratio of aggregates")
            return f"{sql} / nullif({self.aggregate(scope)[0]}, 0)", GIVEN, "num"
        if choice < 0.16 and role == TOTAL:
            self.note("linear combination")
            if sql.startswith("count"):
                return f"100 * {sql} - count(*) / 2", TOTAL, "num"
            return f"2 * {sql}", TOTAL, "num"
        return sql, role, "num"

    def having(self, scope: Scope) -> str:
        """A condition on aggregates."""
        first = f"{self.aggregate(scope)[0]} {self.rng.choice(['>', '>=', '<', '='])} " + str(
            self.rng.randint(0, 2)
        )
        if self.rng.random() < 0.7:
            return first
        word = self.rng.choice(["AND", "OR"])
        return f"{first} {word} {self.aggregate(scope)[0]} <= {self.rng.randint(0, 3)}"


__all__ = ["MODELS", "Conditions", "Scope", "Source", "sources_of"]
