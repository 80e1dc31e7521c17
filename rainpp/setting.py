"""A query with the predictions it ran against: enough to run it again with another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import duckdb

from rainpp.connection import exclusive
from rainpp.errors import DataError, UnsupportedQueryError
from rainpp.inference import InferenceTable, RegisteredModel, table_content
from rainpp.model import Model
from rainpp.relax.ask import MAX_ERROR, AnyAnswer, AnyPlan, Slot, answer, as_statement
from rainpp.relax.explain import explained
from rainpp.relax.numberplan import NumberPlan
from rainpp.relax.plan import make_plan
from rainpp.relax.portable import Portable, generate


@dataclass(frozen=True, eq=False)
class Setting:
    """What a query ran against; enough to run it again with a retrained model."""

    connection: duckdb.DuckDBPyConnection
    plan: AnyPlan
    mode: str
    tables: Mapping[Slot, InferenceTable]
    models: Mapping[str, RegisteredModel]
    max_error: float = MAX_ERROR

    def evaluate(self) -> AnyAnswer:
        """Run the query with the predictions of `tables`."""
        predictions = {slot: table.predictions for slot, table in self.tables.items()}
        with exclusive(self.connection):
            return answer(self.plan, self.connection, predictions, self.mode, self.max_error)

    def by_operators(self) -> Setting:
        """The same query evaluated operator by operator, whatever joined rows share."""
        with exclusive(self.connection):
            return replace(self, plan=as_statement(self.plan, self.connection))

    def portable(self, rid: str | Mapping[str, str] = "rid") -> Portable:
        """The query in the long form, for any database; see `relax.portable.generate`.

        Raises
        ------
        UnsupportedQueryError : the mode is not exact, or the query has no such form; it says why.
        """
        if self.mode != "exact":
            raise UnsupportedQueryError(
                self.plan.sql.strip(),
                why=f'portable SQL gives exact expectations, not those of mode="{self.mode}"',
                instead='Query again with mode="exact"',
            )
        if isinstance(self.plan, NumberPlan):
            raise UnsupportedQueryError(
                self.plan.sql.strip(),
                why="portable SQL reads classes, and this query probabilities or a regression",
                instead="Sum CASE WHEN model(x) = class THEN 1 ELSE 0 END for a probability",
            )
        functions = {name: model.classes for name, model in self.models.items()}
        with exclusive(self.connection):
            return generate(
                make_plan(self.plan.sql, self.connection, functions), self.connection, rid=rid
            )

    def explained(self, answer: AnyAnswer) -> str:
        """The plan behind an answer with its predicted cost, in the user's words."""
        with exclusive(self.connection):
            return explained(self.plan, self.connection, answer, self.mode)

    def check_unchanged(self) -> None:
        """Refuse to compare with an answer whose rows are no longer there as they were.

        Raises
        ------
        DataError : a table the models read has changed since the query ran.
        """
        with exclusive(self.connection):
            for slot, table in self.tables.items():
                entry, arguments = self.plan.entry(slot), table.predictions.arguments
                if table.content != table_content(self.connection, entry, arguments):
                    raise DataError(
                        f"table `{slot.table}` has changed since the query ran; ask again and "
                        "complain about the new answer."
                    )

    def with_model(self, name: str, model: Model) -> Setting:
        """The same query over the same rows, predicted by another model."""
        tables = {
            slot: _repredict(table, model) if slot.model == name else table
            for slot, table in self.tables.items()
        }
        return replace(self, tables=tables)


def _repredict(table: InferenceTable, model: Model) -> InferenceTable:
    if table.inputs is None:  # an empty table: bare probabilities cannot be ranked or retrained
        return table
    predictions = replace(table.predictions, probabilities=model.probabilities(table.inputs))
    return InferenceTable(predictions, table.content, table.inputs)
