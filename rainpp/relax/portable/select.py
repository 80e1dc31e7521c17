"""One SELECT over joined rows and the probabilities of their predictions.

A row of it is a joined row together with a class for each prediction that matters; its weight is
the probability of those classes. In a self-join two of the predictions may be one variable, which
has one class and is counted once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rainpp.relax.catalog import quote
from rainpp.relax.portable.masks import TRUE, Writer, class_column, hole_alias
from rainpp.relax.query import Atom, Query, Scalar

ONE = "CAST(1 AS DOUBLE)"


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """A factor of a row's weight; `atom` is the prediction whose probability it is, if it is."""

    sql: str
    atom: Atom | None = None


@dataclass(eq=False, slots=True)
class Rows:
    """Joined rows being written: FROM, WHERE and the factors of the weight.

    The predictions of sources `apart` are separate variables even where the rows are the same.
    """

    writer: Writer
    sources: tuple[int, ...]
    atoms: tuple[Atom, ...]
    apart: tuple[int, int] | None = None
    tables: list[str] = field(default_factory=list[str])
    where: list[str] = field(default_factory=list[str])
    factors: list[Factor] = field(default_factory=list[Factor])

    @classmethod
    def of(
        cls,
        writer: Writer,
        sources: Sequence[int],
        conditions: Iterable[Scalar],
        atoms: Iterable[Atom],
        apart: tuple[int, int] | None = None,
    ) -> Rows:
        """The rows of some sources where certain conditions hold, by class of `atoms`."""
        rows = cls(writer, tuple(sources), tuple(sorted(atoms)), apart)
        rows.tables = [_table(writer, source, rows.atoms) for source in rows.sources]
        rows.where = [f"({writer.scalar(condition)})" for condition in conditions]
        for atom in rows.atoms:
            rows._add_probability(atom)
        return rows

    def weight(self, without: Atom | None = None) -> str:
        """The product of all factors, or its derivative by the probability of one prediction."""
        kept = [f.sql for f in self.factors if without is None or f.atom != without]
        return " * ".join(kept) or ONE

    def derivative_where(self, atom: Atom) -> list[str]:
        """Conditions of the rows whose weight has a derivative by `atom`'s own probability."""
        return [f"{a} <> {b}" for a, b in self._same_rows(atom)]

    def select(
        self,
        columns: Sequence[tuple[str, str]],
        more: Sequence[str] = (),
        *,
        distinct: bool = False,
    ) -> str:
        """SELECT of (SQL, name) columns; `more` are further conditions."""
        listed = ", ".join(f"{sql} AS {name}" for sql, name in columns)
        where = [part for part in (*self.where, *more) if part != f"({TRUE})"]
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        word = "SELECT DISTINCT" if distinct else "SELECT"
        return f"{word} {listed} FROM {', '.join(self.tables)}{condition}"

    def _add_probability(self, atom: Atom) -> None:
        cases: list[str] = []
        for earlier in self._earlier(atom):
            mine, other = (self.writer.row_id(a.source) for a in (atom, earlier))
            cases.append(f"WHEN {mine} = {other} THEN 1")
            self.where.append(
                f"({mine} <> {other} OR {class_column(atom)} = {class_column(earlier)})"
            )
        own = f"{hole_alias(atom)}.prob"
        sql = f"CASE {' '.join(cases)} ELSE {own} END" if cases else own
        self.factors.append(Factor(sql, atom))

    def _same_rows(self, atom: Atom) -> list[tuple[str, str]]:
        return [
            (self.writer.row_id(atom.source), self.writer.row_id(earlier.source))
            for earlier in self._earlier(atom)
        ]

    def _earlier(self, atom: Atom) -> list[Atom]:
        """Predictions before `atom` that may be the same variable."""
        return [
            other
            for other in self.atoms
            if other.slot == atom.slot
            and other.source < atom.source
            and {other.source, atom.source} != set(self.apart or ())
        ]


def summed(inner: str, keys: Sequence[str]) -> str:
    """Σ w of a SELECT, by one or more of its columns."""
    listed = ", ".join(keys)
    return f"SELECT {listed}, SUM(w) AS w FROM ({inner}) AS rainpp_rows GROUP BY {listed}"


def base_table(query: Query, source: int) -> str:
    """A table under the name that other databases know it by: its own, with a schema if shown."""
    found = query.sources[source]
    shown, stored = (_names(text) for text in (found.table, found.qualified))
    if shown[-1:] == stored[-1:]:
        return ".".join(quote(name) for name in stored[-len(shown) :])
    return quote(found.table)  # rows of a file, kept under a name of our own


def _names(text: str) -> list[str]:
    """The parts of a dotted name, quoted or not."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^."]+)', text)
    return [quoted.replace('""', '"') or plain for quoted, plain in found]


def probability_table(slot: int) -> str:
    """The name of a slot's table of probabilities."""
    return f"rainpp_p_{slot}"


def _table(writer: Writer, source: int, atoms: Sequence[Atom]) -> str:
    text = f"{base_table(writer.query, source)} AS {quote(writer.query.sources[source].alias)}"
    for atom in atoms:
        if atom.source == source:
            alias = hole_alias(atom)
            text += (
                f" JOIN {probability_table(atom.slot)} AS {alias}"
                f" ON {alias}.rid = {writer.row_id(source)}"
            )
    return text
