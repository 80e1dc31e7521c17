"""The courier of one hook: takes what a monitor says from its outbox to the hook, at least once.

It works in a thread of its own and holds the monitor's lock only while it reads lines and while it
writes down how far it is, every second or every 512 events. Whoever is killed between delivering
and writing down delivers those again, with the same keys.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from rainpp.errors import RainError, named
from rainpp.hooks.desk import Counts, Desk
from rainpp.hooks.hook import Ack, Drop, Hook, Outcome, Retry, attempt
from rainpp.hooks.lanes import Lanes
from rainpp.hooks.schedule import Schedule
from rainpp.stream.deliveries import Letter, Progress, Standing

# Lines that are read at once; 256 of them take 2 ms.
_READ = 256
# Progress is written down after so many events, or so many seconds after the first of them.
_EVENTS, _SECONDS = 512, 1.0
# The monitor wakes its couriers; where it could not, they look by themselves.
_LOOK = 1.0
# Letters that wait for one hook: beyond that the outbox is not read further.
_MOST_WAITING = 10_000
_TROUBLE = 5.0
# Seconds that a process which ends without closing its monitors waits for attempts under way.
_LEAVING = 2.0
_running: weakref.WeakSet[Courier] = weakref.WeakSet()


class Courier:
    """Delivers what one hook of one monitor is owed."""

    def __init__(self, hook: Hook, desk: Desk, standing: Standing, schedule: Schedule) -> None:
        self.hook, self.schedule, self._desk = hook, schedule, desk
        self._changed = threading.Condition(threading.Lock())
        self._topics: dict[str, int] = {}
        self._at = -1
        self._fresh: deque[Letter] = deque()
        self._epoch = 0  # how often it was told to read lines again
        self._lanes, self._disabled = Lanes(standing.waiting), standing.disabled
        self._delivered, self._failed = standing.delivered, standing.failed
        self._paused = 0.0
        self._trouble = ""
        self._events, self._since = 0, 0.0
        self._moved: set[int] = set()
        self._dead: list[tuple[Letter, float]] = []
        self._woken = self._stopping = self._abandoned = False
        self._thread = threading.Thread(
            target=self._run, name=f"rainpp hook {hook.name}", daemon=True
        )

    # What the monitor calls.

    def start(self) -> None:
        """Begin."""
        _running.add(self)
        self._thread.start()

    def follow(self, topic: str, cursor: int) -> None:
        """Deliver also this topic, from the line after `cursor`."""
        with self._changed:
            if topic in self._topics:
                return
            # Lines up to here are done for the topics there were, not for the new one.
            self._topics = {name: max(at, self._at) for name, at in self._topics.items()}
            self._topics[topic] = cursor
            self._at = min(self._topics.values())
            self._fresh.clear()
            self._epoch += 1
            self._woken = True
            self._changed.notify_all()

    def revive(self, letters: Sequence[Letter]) -> None:
        """Deliver these, too, which the tables say wait again; the hook is asked again."""
        with self._changed:
            for letter in letters:
                if letter.seq not in self._lanes:
                    self._lanes.put(letter)
            self._disabled, self._paused, self._woken = None, 0.0, True
            self._changed.notify_all()

    def wake(self) -> None:
        """There may be something new."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def ask_to_stop(self) -> None:
        """Stop after the current attempt."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def stop(self, seconds: float) -> None:
        """Wait until it has stopped, but not for longer; then write down how far it is."""
        self.ask_to_stop()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        with self._changed:
            # What an attempt still brings is not known: it is made again after a restart.
            self._abandoned = True
        with suppress(RainError):  # the same; nothing is lost but progress
            self._desk.save(self.hook.name, self)

    def drain(self, upto: int, seconds: float) -> bool:
        """Wait until all lines up to one are delivered or given up; whether they are."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._stopping:
                left = until - time.monotonic()
                if self._at >= upto and not len(self._lanes):
                    return True
                if left <= 0 or self._nothing_before(upto, self.schedule.clock() + left):
                    return False
                self._changed.wait(min(left, 0.05))
        return False

    def counts(self) -> Counts:
        """How it is doing."""
        last = self._desk.last()
        with self._changed:
            first = self._lanes.next()
            return Counts(
                self.hook.name,
                tuple(self._topics),
                self._disabled or "",
                self._delivered,
                self._failed,
                len(self._lanes),
                max(0, last - self._at),
                None if first is None else max(first.due, self._paused),
                self._trouble or ("" if first is None else first.why),
            )

    def progress(self) -> Progress | None:
        """What is to be written down, once; None if nothing is."""
        with self._changed:
            if not self._events:
                return None
            here = {seq for seq in self._moved if seq in self._lanes}
            found = Progress(
                {name: max(at, self._at) for name, at in self._topics.items()},
                self._disabled,
                self._delivered,
                self._failed,
                gone=sorted(self._moved - here),
                waiting=[self._lanes[seq] for seq in sorted(here)],
                dead=self._dead,
            )
            self._events, self._moved, self._dead = 0, set(), []
            return found

    def unwritten(self, what: Progress) -> None:
        """It could not be written down: try again."""
        with self._changed:
            self._note(1)
            self._moved |= {*what.gone, *(letter.seq for letter in what.waiting)}
            self._dead = [*what.dead, *self._dead]

    # The thread.

    def _run(self) -> None:
        while not self._stopping:
            more, failed = False, False
            try:
                more = self._step()
                self._save_in_time()
                if not self._events:  # all of it is written down
                    self._trouble = ""
            # Whatever it is, the next event must find somebody who delivers it.
            except Exception as problem:  # noqa: BLE001
                failed, self._trouble = True, named(problem)
            with self._changed:
                if not (more or self._woken or self._stopping):
                    self._changed.wait(_TROUBLE if failed else self._pause())
                self._woken = False

    def _step(self) -> bool:
        """Make one attempt; whether there was one to make."""
        letter = self._next()
        if letter is None:
            return False
        outcome = self._outcome(letter)
        with self._changed:
            if not self._abandoned:
                self._settle(letter, outcome)
                self._changed.notify_all()
        return True

    def _outcome(self, letter: Letter) -> Outcome:
        if self._disabled is not None:
            return Drop(self._disabled)
        try:
            event, context = self._desk.open(letter)
        # One line that cannot be read must not hold up those behind it.
        except Exception as problem:  # noqa: BLE001
            return Retry(why=named(problem))
        return attempt(self.hook, event, context)

    def _next(self) -> Letter | None:
        """What waits and is due, else the next line of the outbox that the hook is owed."""
        with self._changed:
            now = self.schedule.clock()
            if now < self._paused and self._disabled is None:
                return None
            first = self._lanes.next()
            if first is not None and (first.due <= now or self._disabled is not None):
                return first
        while not self._stopping:
            with self._changed:
                while self._fresh:
                    letter = self._fresh[0]
                    if self._is_next(letter):
                        return letter
                    self._fresh.popleft()
                after, epoch, full = self._at, self._epoch, len(self._lanes) >= _MOST_WAITING
            if full or self._desk.last() <= after:
                return None
            found = self._desk.lines(after, _READ)
            with self._changed:
                if epoch == self._epoch:
                    self._fresh.extend(found)
            if not found:
                return None
            self._save_in_time()
        return None

    def _is_next(self, letter: Letter) -> bool:
        """Whether a line is to be sent now; else it is passed over, or waits behind another."""
        if self._owed(letter):
            if not self._lanes.blocked(letter):
                return True
            self._lanes.put(letter)
            self._moved.add(letter.seq)
        self._at = letter.seq
        # Lines passed over are no reason to write more often: they are passed over again.
        self._note(0)
        return False

    def _owed(self, letter: Letter) -> bool:
        """Whether the hook follows what it is about, and has not been told of it."""
        if letter.seq in self._lanes:
            return False
        names = ("change",) if letter.kind == "change" else ("*", letter.body["name"])
        known = [self._topics[name] for name in names if name in self._topics]
        return bool(known) and all(cursor < letter.seq for cursor in known)

    def _settle(self, letter: Letter, outcome: Outcome) -> None:
        """Take in what came of an attempt."""
        if (
            self._fresh and self._fresh[0] is letter
        ):  # not one that waited, nor read before `follow`
            self._fresh.popleft()
            self._at = letter.seq
        tried = replace(letter, attempts=letter.attempts + 1, why=getattr(outcome, "why", ""))
        if isinstance(outcome, Retry):
            self._again(tried, outcome)
        elif isinstance(outcome, Ack):
            self._delivered += 1
            self._done(letter.seq)
        else:
            self._give_up(tried)
            if outcome.disable:
                self._disabled = outcome.why or "it wants no event any more"
        self._note(_EVENTS if isinstance(outcome, Drop) and outcome.disable else 1)

    def _again(self, letter: Letter, outcome: Retry) -> None:
        self._failed += 1
        wait = self.schedule.wait(letter.attempts, outcome.after)
        if wait is None:
            self._give_up(letter)
            return
        due = self.schedule.clock() + wait
        if outcome.whole:
            self._paused = max(self._paused, due)
        self._lanes.put(replace(letter, due=due))
        self._moved.add(letter.seq)

    def _give_up(self, letter: Letter) -> None:
        self._dead.append((letter, self.schedule.clock()))
        self._done(letter.seq)

    def _done(self, seq: int) -> None:
        if self._lanes.take(seq):
            self._moved.add(seq)

    def _note(self, events: int) -> None:
        """Something is to be written down, the sooner the more events it is about."""
        if not self._events:
            self._since = time.monotonic()
        self._events = max(1, self._events + events)

    def _save_in_time(self) -> None:
        late = time.monotonic() - self._since >= _SECONDS
        if self._events >= _EVENTS or (self._events and late):
            self._desk.save(self.hook.name, self)

    def _pause(self) -> float:
        """Seconds until there is something to do by itself."""
        waits = [_LOOK]
        if self._events:
            waits.append(_SECONDS - (time.monotonic() - self._since))
        first = self._lanes.next()
        if first is not None:
            waits.append(max(first.due, self._paused) - self.schedule.clock())
        return max(0.0, min(waits))

    def _nothing_before(self, upto: int, then: float) -> bool:
        """Whether no attempt is due before a time, of what there is up to a line."""
        if self._paused > then:
            return True
        first = self._lanes.next()
        later = first is None or first.due > then
        return later and (self._at >= upto or len(self._lanes) >= _MOST_WAITING)


def stop_all(couriers: Sequence[Courier], seconds: float) -> None:
    """Stop them at once, and wait for all of them no longer than that."""
    for courier in couriers:
        courier.ask_to_stop()
    until = time.monotonic() + seconds
    for courier in couriers:
        courier.stop(until - time.monotonic())


@atexit.register
def _leave() -> None:
    """A thread that is within DuckDB or JAX while the interpreter goes away aborts the process."""
    stop_all(list(_running), _LEAVING)
