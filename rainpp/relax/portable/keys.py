"""Group keys as columns, and as conditions that pick one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rainpp.errors import QueryError
from rainpp.relax.measures import Relaxation
from rainpp.relax.portable.expressions import literal
from rainpp.relax.portable.masks import Writer, class_column, condition, number_table
from rainpp.relax.query import Atom
from rainpp.relax.relaxed import comparable


@dataclass(frozen=True, eq=False, slots=True)
class Key:
    """One GROUP BY expression of some sources; a predicted one is kept as the code of its value."""

    name: str
    shown: str
    sources: frozenset[int]
    sql: str
    atom: Atom | None = None
    codes: tuple[int, ...] = ()
    values: tuple[object, ...] = ()

    def value(self) -> str:
        """SQL of the value that a code in column `name` stands for."""
        if self.atom is None:
            return self.name
        whens = [f"WHEN {i} THEN {literal(v, self.shown)}" for i, v in enumerate(self.values)]
        return f"CASE {self.name} {' '.join(whens)} END"

    def equals(self, value: object) -> str:
        """The condition that the key has one value.

        Raises
        ------
        QueryError : no class gives a predicted key this value.
        """
        if self.atom is None:
            same = "IS NULL" if value is None else f"= {literal(value, self.shown)}"
            return f"({self.sql} {same})"
        known = [comparable(v) for v in self.values]
        if comparable(value) not in known:
            raise QueryError(f"no class gives `{self.shown}` the value {value!r}; got {known}.")
        chosen = np.asarray(self.codes) == known.index(comparable(value))
        return f"({condition(chosen.astype(float), [class_column(self.atom)])})"


def keys_of(relaxed: Relaxation, writer: Writer) -> tuple[Key, ...]:
    """The group keys of a query, in GROUP BY order."""
    found: list[Key] = []
    for place, key in enumerate(writer.query.keys):
        name, axis = f"key_{place}", relaxed.axes.get(place)
        if axis is None:
            sql = f"({writer.scalar(key.scalar)})"
            found.append(Key(name, key.scalar.shown, key.scalar.sources, sql))
            continue
        codes, column = tuple(int(c) for c in axis.codes), class_column(axis.atom)
        code = number_table(axis.codes.astype(float), [column])
        sql = column if codes == tuple(range(len(codes))) else f"CAST({code} AS INTEGER)"
        sources = frozenset([axis.atom.source])
        found.append(Key(name, key.scalar.shown, sources, sql, axis.atom, codes, axis.values))
    return tuple(found)


def conditions_of(keys: Sequence[Key], values: Sequence[object]) -> list[tuple[Key, str]]:
    """Each key with the condition that it has the value given for it.

    Raises
    ------
    QueryError : another number of values than there are keys, or a value no class gives.
    """
    if len(keys) != len(values):
        shown = ", ".join(key.shown for key in keys) or "none"
        raise QueryError(f"a group has {len(keys)} keys ({shown}); got {len(values)} values.")
    return [(key, key.equals(value)) for key, value in zip(keys, values, strict=True)]
