"""One batch: what is said in a `with` block is taken in as a whole when the block ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from rainpp.errors import DataError
from rainpp.monitoring.counted import Counted

Doing = Literal["predictions", "feedback", "retract", "counted"]


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
    set_aside : what they were, and why: {"reason": ..., and a value for each column}.
    replayed : the offset had been seen: nothing was done.
    labels : taken in, first ones and corrections.
    retracted : rows taken back.
    """

    batch: int
    rows: int
    repeated: int
    late: int
    replayed: bool
    labels: int = 0
    retracted: int = 0
    deltas: list[Any] = field(default_factory=list[Any], repr=False)
    alarms: list[Any] = field(default_factory=list[Any], repr=False)
    set_aside: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]], repr=False)


class Batch:
    """Collects rows, labels and retractions; make one with `Monitor.batch` for each block.

    A block that an exception leaves takes nothing in.

    Attributes
    ----------
    operations : what was said in the block.
    taken : what became of it, once the block has ended.
    """

    def __init__(self, commit: Callable[[Batch], None]) -> None:
        self._commit = commit
        self.operations: list[Operation] = []
        self._open = self._used = False
        self.taken: Taken | None = None

    def predictions(self, rows: Any, *, table: str | None = None) -> None:
        """Rows to be predicted and counted: an Arrow table, a pandas frame, or columns by name."""
        self._add(Operation("predictions", rows, table))

    def feedback(self, rows: Any, *, table: str | None = None) -> None:
        """Labels: a table with the columns of ids and of labels.

        A later label of a row corrects an earlier one, and NULL takes it back. A label that is no
        class of the model counts as wrong; one whose row is not known is set aside.
        """
        self._add(Operation("feedback", rows, table))

    def retract(self, ids: Any, *, table: str | None = None) -> None:
        """Ids of rows that no longer count; a row may come again under such an id."""
        self._add(Operation("retract", ids, table))

    def counted(self, what: Counted) -> None:
        """Rows that were counted elsewhere, for one table; see `rainpp.spark`."""
        self._add(Operation("counted", what, None))

    def __enter__(self) -> Batch:
        if self._used:
            raise DataError("this batch has been used; call `monitor.batch(...)` for each block.")
        self._open = self._used = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        if kind is None:
            self._commit(self)

    def _add(self, operation: Operation) -> None:
        if not self._open:
            raise DataError(
                "the batch is not open; write `with monitor.batch(...) as b:` and call inside."
            )
        self.operations.append(operation)
