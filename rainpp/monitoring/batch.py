"""One batch: what is said in a `with` block is taken in as a whole when the block ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from rainpp.errors import DataError

Doing = Literal["predictions", "feedback", "retract"]


@dataclass(frozen=True)
class Operation:
    """One call inside a batch."""

    doing: Doing
    what: Any
    table: str | None


@dataclass(frozen=True)
class Taken:
    """What became of a batch.

    Attributes
    ----------
    rows : counted.
    repeated : rows and labels that were known already.
    late : rows, labels and retractions set aside; see `Monitor.late`.
    replayed : the offset had been seen: nothing was done.
    """

    batch: int
    rows: int
    repeated: int
    late: int
    replayed: bool
    deltas: list[Any] = field(default_factory=list[Any], repr=False)
    alarms: list[Any] = field(default_factory=list[Any], repr=False)


class Batch:
    """Collects rows, labels and retractions; make one with `Monitor.batch`.

    Attributes
    ----------
    taken : what became of it, once the block has ended.
    """

    def __init__(self, commit: Callable[[list[Operation]], Taken]) -> None:
        self._commit = commit
        self._operations: list[Operation] = []
        self._open = False
        self.taken: Taken | None = None

    def predictions(self, rows: Any, *, table: str | None = None) -> None:
        """Rows to be predicted and counted: an Arrow table, a pandas frame, or columns by name."""
        self._add(Operation("predictions", rows, table))

    def feedback(self, rows: Any, *, table: str | None = None) -> None:
        """Labels: a table with the columns of ids and of labels."""
        self._add(Operation("feedback", rows, table))

    def retract(self, ids: Any, *, table: str | None = None) -> None:
        """Ids of rows that no longer count."""
        self._add(Operation("retract", ids, table))

    def __enter__(self) -> Batch:
        self._open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        if kind is None:
            self.taken = self._commit(self._operations)

    def _add(self, operation: Operation) -> None:
        if not self._open:
            raise DataError(
                "the batch is not open; write `with monitor.batch(...) as b:` and call inside."
            )
        self._operations.append(operation)
