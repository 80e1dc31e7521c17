"""A query as its user wrote it: which functions are models, and what is wrong with a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.dialect import spelling
from rainpp.relax.query import Slot
from rainpp.types import ClassValue


@dataclass(eq=False, slots=True)
class Written:
    """The text of a query and the functions registered as models."""

    sql: str
    dialect: Dialect
    functions: Mapping[str, tuple[ClassValue, ...]]

    def shown(self, node: exp.Expr) -> str:
        """`node` as the user wrote it."""
        return spelling(node, self.sql, self.dialect)

    def registered(self, node: exp.Expr) -> str | None:
        """The registered spelling of the function that `node` calls, None for anything else."""
        if not isinstance(node, exp.Anonymous):
            return None
        name = node.name.lower()
        return next((known for known in self.functions if known.lower() == name), None)

    def has_prediction(self, node: exp.Expr) -> bool:
        """Whether a registered function is called anywhere in `node`."""
        return any(self.registered(call) for call in node.find_all(exp.Anonymous))

    def check_bare(self, call: exp.Anonymous, model: str) -> None:
        """Refuse a call with a schema before it."""
        if isinstance(call.parent, exp.Dot):
            raise UnsupportedQueryError(
                self.shown(call.parent),
                why="a prediction has no schema",
                instead=f"Call it as {model}(...)",
            )

    def slot_number(self, slots: list[Slot], slot: Slot, call: exp.Expr) -> int:
        """The number of `slot` in `slots`, added if it is new.

        Raises
        ------
        UnsupportedQueryError : the model reads other columns of the same table elsewhere.
        """
        for number, known in enumerate(slots):
            if known == slot:
                return number
            if (known.model, known.table) == (slot.model, slot.table):
                raise UnsupportedQueryError(
                    self.shown(call),
                    why=f"`{slot.model}` already reads other arguments of `{slot.table}` in this "
                    "query",
                    instead="Use the same arguments everywhere, or register a second model",
                )
        slots.append(slot)
        return len(slots) - 1

    def no_argument(self, call: exp.Expr, model: str) -> QueryError:
        """A call of nothing."""
        return QueryError(f"`{self.shown(call)}` has no argument; write {model}(*) or columns.")

    def not_a_row(self, argument: exp.Expr, call: exp.Expr, model: str) -> QueryError:
        """A call of an expression."""
        return QueryError(
            f"`{self.shown(argument)}` in `{self.shown(call)}` is not a column or a row; write "
            f"{model}(column, ...), {model}(*) or {model}(table)."
        )

    def several_tables(self, call: exp.Expr) -> UnsupportedQueryError:
        """A call of columns that belong to different rows."""
        return UnsupportedQueryError(
            self.shown(call),
            why="its arguments come from several tables",
            instead="Predict from the columns of one table",
        )

    def ambiguous_star(self, call: exp.Expr, aliases: Iterable[str]) -> QueryError:
        """A call of * among several sources."""
        return QueryError(
            f"`{self.shown(call)}` is ambiguous: * could be a row of any of {', '.join(aliases)}; "
            "name one of them instead of *."
        )

    def table_or_column(self, call: exp.Expr, name: str, owner: str) -> QueryError:
        """A call of a name that is a source, and also a column of the source `owner`."""
        return QueryError(
            f"`{self.shown(call)}` is ambiguous: `{name}` is a table and a column; write "
            f"`{name}.*` for the row, `{owner}.{name}` for the column."
        )
