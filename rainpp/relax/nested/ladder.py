"""The ways to evaluate a nested query, one after the other: formulas, worlds listed, sampled."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass

import duckdb

from rainpp.errors import UnsupportedQueryError
from rainpp.relax.nested.algebra import Algebra, Intractable
from rainpp.relax.nested.circuit import Circuit
from rainpp.relax.nested.engine import Engine
from rainpp.relax.nested.forms import Candidates, candidates
from rainpp.relax.nested.names import Scope
from rainpp.relax.nested.relation import Context, Step
from rainpp.relax.nested.select import select
from rainpp.relax.nested.statement import Statement
from rainpp.relax.nested.worlds import MAX_WORLDS, Unlisted, Worlds
from rainpp.relax.rowsums import Predictions

# Fewer worlds where the events of many rows would not fit in memory.
_SAMPLES = (2000, 500, 125)


@dataclass(frozen=True, slots=True)
class Rung:
    """Which evaluation answered, and why those tried before it did not.

    Attributes
    ----------
    worlds : how many worlds were listed or sampled; 0 for formulas.
    listed : how many predictions were listed; 0 if worlds were sampled.
    refused : for every other way, its name and the reason.
    """

    worlds: int
    listed: int
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False, slots=True)
class Ladder:
    """A query with its predictions; what SQL has to see of it is registered until `stack` ends."""

    statement: Statement
    con: duckdb.DuckDBPyConnection
    predictions: Predictions
    stack: ExitStack

    def solved(self, *, exact: bool) -> tuple[Candidates, list[Step], Rung]:
        """The possible rows by the first algebra that reaches them."""
        try:
            circuit = Circuit(self.predictions, self.con, exact=exact)
            return *self._attempt(circuit), Rung(0, 0, ())
        except Intractable as reason:
            if not exact:
                raise UnsupportedQueryError(
                    self.statement.sql.strip(),
                    why=f"Rain's product rules do not reach it: {reason}",
                    instead='Use mode="exact"',
                ) from None
            refused = [("circuit", str(reason))]
        return self.by_worlds(refused)

    def by_worlds(self, refused: list[tuple[str, str]]) -> tuple[Candidates, list[Step], Rung]:
        """Enumerate the worlds of the predictions that matter if they are few, else sample."""
        variables: list[tuple[int, int]] = []
        sizes = [p.shape[1] for p in self.predictions.probabilities]
        reason = f"{{}} predictions have more than {MAX_WORLDS:,}"
        while math.prod(sizes[slot] for slot, _ in variables) <= MAX_WORLDS:
            try:
                worlds = Worlds(self.predictions, self.con, variables)
                found = self._attempt(worlds)
                return *found, Rung(worlds.num_worlds, len(variables), tuple(refused))
            except Unlisted as more:
                variables = [*variables, *more.variables]
            except Intractable as too_much:
                reason = str(too_much)
                break
        refused = [*refused, ("possible worlds", reason.format(len(variables)))]
        for samples in _SAMPLES:
            try:
                worlds = Worlds(self.predictions, self.con, None, samples)
                found = self._attempt(worlds)
                return *found, Rung(samples, 0, tuple(refused))
            except Intractable as too_much:
                reason = str(too_much)
                refused = [*refused, (f"{samples} sampled worlds", reason)]
        raise UnsupportedQueryError(
            self.statement.sql.strip(), why=reason, instead="Ask it over fewer rows"
        )

    def _attempt(self, algebra: Algebra) -> tuple[Candidates, list[Step]]:
        context = Context(
            self.con,
            self.statement.dialect,
            algebra,
            self.predictions,
            self.statement.slots,
            self.statement.classes,
            self.statement.bases,
            self.statement.calls,
            self.stack,
        )
        found = candidates(Engine(context, select), self.statement.tree, Scope())
        found.solve()
        return found, context.steps
