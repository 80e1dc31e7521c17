"""How a monitor's hooks are attached, told, asked and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa

from rainpp.errors import ComplaintError, SettingsError
from rainpp.hooks.delivery import Courier, stop_all
from rainpp.hooks.desk import Counts
from rainpp.hooks.hook import Event, Hook, Outcome, Trial, attempt, check_hook
from rainpp.hooks.schedule import Schedule
from rainpp.inference import RegisteredModel
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.batch import Taken
from rainpp.monitoring.context import Context
from rainpp.monitoring.delta import Delta
from rainpp.monitoring.elsewhere import Elsewhere
from rainpp.monitoring.emission import Spoken, as_times
from rainpp.monitoring.figures import Figures, latest
from rainpp.monitoring.spec import Spec
from rainpp.stream.deliveries import Deliveries, Letter

# Seconds that closing waits for attempts that are under way; those are made again next time.
_CLOSING = 5.0


@dataclass(frozen=True)
class _Desk:
    """What a courier may ask of its monitor."""

    last: Callable[[], int]
    lines: Callable[[int, int], Sequence[Letter]]
    open: Callable[[Letter], tuple[Event, Context]]
    save: Callable[[str, Courier], None]


class Posting(Elsewhere):
    """A monitor that brings what it says to hooks, beside handlers that it calls itself."""

    def __init__(
        self,
        spec: Spec,
        registered: RegisteredModel,
        schemas: dict[str, pa.Schema] | None,
        store: str | Path,
    ) -> None:
        self._couriers: dict[str, Courier] = {}
        super().__init__(spec, registered, schemas, store)
        self._deliveries = Deliveries(self._store)

    def drain(self, timeout: float = 30.0) -> bool:
        """Wait until hooks have been told what was said so far; whether nothing waits any more.

        What was given up does not wait: see `dead_letters`. It is False at once where nothing is
        due within `timeout` seconds.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`timeout` is {timeout!r}; give seconds.")
        with self._lock:
            self._refresh()
            upto, couriers = self._at.seq, list(self._couriers.values())
        until = time.monotonic() + timeout
        done = [courier.drain(upto, max(0.0, until - time.monotonic())) for courier in couriers]
        self._write_progress()
        return all(done)

    def test(self, hook: Hook | str) -> Outcome:
        """What a hook makes of a test event, which is no line of the outbox.

        It goes the way of any other: the same payload, signature, address check and timeout.

        Parameters
        ----------
        hook : or the name of one that is attached.
        """
        self._check_open()
        found = self._attached(hook).hook if isinstance(hook, str) else hook
        if not isinstance(found, Hook):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`hook` is {hook!r}; give a hook, or the name of one.")
        check_hook(found, "*")
        trial = self._trial()
        context = Context(
            trial,
            sql=self.spec.sql,
            index=self._registered.index,  # pyright: ignore[reportArgumentType]
            classes=self._registered.classes,
            gradient=_nothing_wrong,
            result=lambda _: _nothing_wrong(),
            ask=self.sql,
        )
        return attempt(found, trial, context)

    def deliveries(self) -> pd.DataFrame:
        """How hooks are doing, those of earlier processes included.

        Columns: `hook`, `attached`, `disabled` (why, or ""), `delivered`, `failed` (attempts),
        `waiting`, `behind` (lines of the outbox not looked at), `next_due` (UTC), `why` (what went
        wrong last), `dead`.
        """
        here = {counts.hook: counts for counts in self.hook_counts()}
        with self._lock:
            self._refresh()
            written = self._deliveries.counts()
        lines: list[dict[str, Any]] = []
        for hook, disabled, delivered, failed, waiting, dead in written:
            counts = here.get(hook) or Counts(
                hook, (), disabled, delivered, failed, waiting, 0, None, ""
            )
            due = (
                None
                if counts.next_due is None
                else datetime.fromtimestamp(counts.next_due, UTC).replace(tzinfo=None)
            )
            lines.append(
                {**_named(counts), "attached": hook in here, "next_due": due, "dead": dead}
            )
        columns = ["hook", "attached", "disabled", "delivered", "failed", "waiting", "behind"]
        return pd.DataFrame(lines, columns=pd.Index([*columns, "next_due", "why", "dead"]))

    def hook_counts(self) -> list[Counts]:
        """How the attached hooks are doing, as of now; nothing is read from the state file."""
        return [courier.counts() for courier in list(self._couriers.values())]

    def figures(self, most: int = 100) -> Figures:
        """Its latest numbers, its watermark and what fires: what a metrics page shows.

        Parameters
        ----------
        most : groups; those with the most rows are taken.
        """
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`most` is {most!r}; give a number of groups >= 0.")
        with self._lock:
            self._refresh()
            numbers, left_out = ((), 0) if self._kept is None else latest(self._kept, most)
            mark = self._timeline.watermark
            return Figures(
                self.spec.name,
                numbers,
                left_out,
                None if mark is None else as_times((mark, mark))[0],
                {name: len(watch.firing) for name, watch in self._watches.items()},
                self._at.batch + 1,
                self._at.seq,
            )

    def dead_letters(self) -> pd.DataFrame:
        """What hooks could not be told, oldest first.

        Columns: `hook`, `seq`, `key`, `kind` ("change" or "alarm"), `attempts`, `given_up` (UTC),
        `why`, `body` (JSON).
        """
        self._write_progress()
        with self._lock:
            self._refresh()
            return self._deliveries.dead().to_pandas()

    def redeliver(self, hook: str | None = None, key: str | None = None) -> int:
        """Send dead letters again, as if they were new; how many.

        Parameters
        ----------
        hook : the name of one whose letters are meant; all by default. One that wanted no more
            (HTTP 410) is asked again.
        key : of one event; all by default.

        Raises
        ------
        SettingsError : there is no such hook.
        """
        self._write_progress()
        with self._lock:
            self._refresh()
            known = {line[0] for line in self._deliveries.counts()}
            if hook is not None and hook not in known:
                raise SettingsError(
                    f"there is no hook {hook!r}; known: {', '.join(sorted(known)) or 'none'}."
                )
            found = self._deliveries.revive(hook, key)
            for name, letters in found.items():
                if name in self._couriers:
                    self._couriers[name].revive(letters)
        return sum(map(len, found.values()))

    def _attach(self, topic: str, hook: Hook, schedule: Schedule | None) -> None:
        check_hook(hook, topic)
        with self._lock:
            self._refresh()
            courier = self._couriers.get(hook.name)
            if courier is not None and courier.hook is not hook:
                raise SettingsError(
                    f"there is a hook `{hook.name}` already; give this one another name=."
                )
            start = self._at.seq if hook.replay == "latest" else -1
            now = (schedule or Schedule()).clock()
            standing = self._deliveries.attach(hook.name, topic, start=start, now=now)
            if courier is None:
                desk = _Desk(lambda: self._at.seq, self._lines, self._opened, self._save)
                courier = Courier(hook, desk, standing, schedule or Schedule())
                self._couriers[hook.name] = courier
                courier.follow(topic, standing.cursors[topic])
                courier.start()
            else:
                courier.follow(topic, standing.cursors[topic])

    def _attached(self, name: str) -> Courier:
        if name not in self._couriers:
            known = ", ".join(sorted(self._couriers)) or "none"
            raise SettingsError(f"there is no hook {name!r}; attached: {known}.")
        return self._couriers[name]

    def _tell(self, spoken: Sequence[Spoken], taken: Taken) -> None:
        """Wake the couriers, then call the handlers."""
        if taken.deltas or taken.alarms:
            for courier in self._couriers.values():
                courier.wake()
        super()._tell(spoken, taken)

    def _stop_couriers(self) -> None:
        """Stop them; not to be called with the lock, which they may wait for."""
        stop_all(list(self._couriers.values()), _CLOSING)

    def _lines(self, after: int, most: int) -> list[Letter]:
        with self._lock:
            self._refresh()
            return [Letter(e.seq, e.kind, e.body) for e in self._store.entries(after, most)]

    def _opened(self, letter: Letter) -> tuple[Event, Context]:
        event = self._spoken(letter.seq, letter.kind, letter.body)
        with self._lock:
            return event, self.context(event)

    def _spoken(self, seq: int, kind: str, body: dict[str, Any]) -> Event:
        return (Alarm if kind == "alarm" else Delta).read(self.spec.name, seq, body)

    def _save(self, hook: str, courier: Courier) -> None:
        with self._lock:
            what = courier.progress()
            if what is None:
                return
            try:
                self._refresh()
                self._deliveries.save(hook, what, courier.schedule.clock())
            except BaseException:
                courier.unwritten(what)
                raise

    def _write_progress(self) -> None:
        for name, courier in list(self._couriers.items()):
            self._save(name, courier)

    def _trial(self) -> Trial:
        names = [name for part in self._names for name in part]
        return Trial(
            monitor=self.spec.name,
            name="test",
            status="firing",
            group={},
            window=(None, None),
            column=names[-1] if names else "n",
            value=0.0,
            relaxed=0.0,
            target=0.0,
            should="decrease",
            since=datetime.now(UTC),
            rows=0.0,
            vector=np.zeros(0),
            model="",
            seq=-1,
            because="this is a test",
        )


def _named(counts: Counts) -> dict[str, Any]:
    return {field.name: getattr(counts, field.name) for field in fields(counts)}


def _nothing_wrong() -> NoReturn:
    raise ComplaintError("this is a test: nothing is wrong.")
