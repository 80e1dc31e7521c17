"""What a hook is: something with a name that is told an event, and says what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from rainpp.errors import SettingsError, named
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.context import Context
from rainpp.monitoring.delta import Delta

Replay = Literal["latest", "all"]
Event = Delta | Alarm


@dataclass(frozen=True)
class Ack:
    """The event has arrived."""


@dataclass(frozen=True)
class Retry:
    """It has not; try again.

    Attributes
    ----------
    after : seconds that the receiver asks to be left alone for; None leaves it to the schedule.
    why : in words.
    whole : whether that is about the receiver and not about this event: nothing is sent until then.
    """

    after: float | None = None
    why: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Drop:
    """It will never arrive: it becomes a dead letter.

    Attributes
    ----------
    why : in words.
    disable : whether the receiver wants no event any more, as HTTP 410 says. What it was owed and
        what is said from then on are dead letters, until `Monitor.redeliver` enables it again.
    """

    why: str = ""
    disable: bool = False


Outcome = Ack | Retry | Drop


@dataclass(frozen=True)
class Trial(Alarm):
    """What `Monitor.test` sends: an alarm that says it is a test, and is in no outbox."""


@runtime_checkable
class Hook(Protocol):
    """Where changes and alarms go, at least once each, in order for each group.

    Attributes
    ----------
    name : what its progress is written down under. It goes on there after a restart.
    replay : whether a new hook begins with what is said from then on, or with all that is kept.
    """

    name: str
    replay: Replay

    def __call__(self, event: Event, context: Context) -> Outcome:
        """Deliver one event; an exception means the same as Retry."""
        ...


def attempt(hook: Hook, event: Event, context: Context) -> Outcome:
    """What came of handing one event to a hook: the one way for tests and for real."""
    try:
        return hook(event, context)
    # SystemExit of somebody's callback would end the thread, and delivery, without a word.
    except BaseException as problem:  # noqa: BLE001
        return Retry(why=named(problem))


def check_hook(hook: Hook, topic: str) -> None:
    """Refuse a hook that cannot be followed through a restart, or that cannot take the topic.

    Raises
    ------
    SettingsError : its name is no text, `replay` is unknown, or it takes alarms only.
    """
    if not isinstance(hook.name, str) or not hook.name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`name` of the hook is {hook.name!r}; give it a name of its own.")
    check_replay(hook.replay)
    if topic == "late":
        raise SettingsError(
            f"the hook `{hook.name}` cannot be told of 'late': rows that are not counted are no "
            "line of the outbox. Give a function, or see monitor.late()."
        )
    if topic == "change" and getattr(hook, "alarms_only", False):
        raise SettingsError(
            f"the hook `{hook.name}` takes alarms only; attach it to an alarm, or to '*'."
        )


def check_replay(replay: Replay) -> Replay:
    """The same, if it is known.

    Raises
    ------
    SettingsError : it is not.
    """
    if replay not in ("latest", "all"):
        raise SettingsError(f"`replay` is {replay!r}; give 'latest' or 'all'.")
    return replay


def check_name(name: str | None, otherwise: str) -> str:
    """A hook's name, or what it is called without one.

    Raises
    ------
    SettingsError : it is no text, or empty.
    """
    if name is None:
        return otherwise
    if not isinstance(name, str) or not name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`name` is {name!r}; give the hook a name, as text.")
    return name
