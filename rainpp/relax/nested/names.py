"""Names one block sees besides its own tables: CTEs, and the rows of the query around it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rainpp.relax.catalog import quote
from rainpp.relax.nested.relation import Relation

KEY = "__key"


@dataclass(frozen=True, eq=False)
class Scope:
    """CTEs in sight: uncertain ones as relations, certain ones as the text of a WITH clause.

    `keys` are the outer rows a correlated subquery is evaluated for, under the alias `outer`.
    """

    relations: dict[str, Relation] = field(default_factory=dict[str, Relation])
    certain: dict[str, str] = field(default_factory=dict[str, str])
    keys: Relation | None = None
    outer: str = ""

    def prefix(self) -> str:
        """The WITH clause in front of every statement that may read a certain CTE."""
        if not self.certain:
            return ""
        listed = ", ".join(f"{quote(name)} AS ({sql})" for name, sql in self.certain.items())
        return f"WITH {listed} "

    def without_keys(self) -> Scope:
        """The same names outside any correlated subquery."""
        return Scope(self.relations, self.certain)
