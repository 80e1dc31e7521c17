"""A Python function as a hook: retried, in order, and remembered over a restart."""

from __future__ import annotations

from collections.abc import Callable

from rainpp.errors import SettingsError
from rainpp.hooks.hook import Ack, Drop, Event, Outcome, Replay, Retry, check_name, check_replay
from rainpp.monitoring.context import Context


class Callback:
    """Calls `function(event, context)` in a thread of its own.

    What it returns is ignored unless it is Ack, Retry or Drop; an exception means that the event is
    sent again. It may be called twice with the same event: `event.key` is the same then.
    """

    def __init__(
        self,
        function: Callable[[Event, Context], object],
        *,
        name: str,
        replay: Replay = "latest",
    ) -> None:
        if not callable(function):
            raise SettingsError(f"`function` is {function!r}; give a function of (event, context).")
        self.function = function
        self.name, self.replay = check_name(name, ""), check_replay(replay)

    def __call__(self, event: Event, context: Context) -> Outcome:
        """Call it."""
        found = self.function(event, context)
        return found if isinstance(found, Ack | Retry | Drop) else Ack()

    def __repr__(self) -> str:
        return f"Callback({self.name!r})"
