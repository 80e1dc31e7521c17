"""What a monitor was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from rainpp.monitoring.drift import Drift
from rainpp.monitoring.setup import Columns, Keep
from rainpp.stream.buckets import Buckets
from rainpp.stream.window import Window


@dataclass(frozen=True)
class Spec:
    """What a monitor was asked for, as it is written into its state file."""

    name: str
    sql: str
    function: str
    columns: Columns
    window: Window
    lateness: int
    retention: int
    ahead: int
    idle: int
    keep: Keep
    buckets: Buckets | None = None
    drift: Drift | None = None

    @property
    def also(self) -> tuple[str, ...]:
        """Columns that are kept although the query does not read them: those of the buckets."""
        found = () if self.buckets is None else self.buckets.columns
        return tuple(str(column["name"]) for column in found)

    def about(self) -> dict[str, str]:
        """What must agree when the state file is opened again."""
        return {
            "name": self.name,
            "sql": self.sql.strip(),
            "function": self.function,
            "window": repr(self.window),
            **{name: str(value) for name, value in vars(self.columns).items()},
            "retention": str(self.retention),
        }
