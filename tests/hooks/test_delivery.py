"""At least once, in order for each group, and no hook in the way of another."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict

import pytest

import rainpp
from rainpp.errors import DataError, SettingsError
from rainpp.hooks import Ack, Alertmanager, Callback, Drop, Retry, Schedule, Webhook
from rainpp.hooks.schedule import WAITS
from rainpp.monitoring import kept as room_of_kept
from rainpp.monitoring import state as room_of_state
from rainpp.stream.deliveries import Deliveries
from tests.hooks.receiver import Receiver, dies, fine, hangs, says
from tests.hooks.world import QUICK, SECRET, alarms, ones, opened, send
from tests.monitoring.world import START, arrow, trained


class Told:
    """A hook that remembers what it was told, and answers as a test says."""

    def __init__(self, name="told", answer=lambda *_: None, replay="latest"):
        self.name, self.replay, self.answer = name, replay, answer
        self.attempts = []
        self.accepted = []

    def __call__(self, event, _):
        self.attempts.append(event)
        found = self.answer(event, len(self.attempts)) or Ack()
        if isinstance(found, Ack):
            self.accepted.append(event)
        return found


def group(event):
    return getattr(event, "name", event.column), tuple(event.group.values())


def check_once_in_order(events, expected):
    """Every event came, for each group in order; what came twice came with the same key."""
    first = {}
    for event in events:
        first.setdefault(event.key, event)
    assert {event.key: event.seq for event in first.values()} == {
        event.key: event.seq for event in expected
    }
    lanes = defaultdict(list)
    for event in first.values():
        lanes[group(event)].append(event.seq)
    for seqs in lanes.values():
        assert seqs == sorted(seqs)


def test_a_hook_is_told_what_is_said_from_then_on():
    with opened() as monitor:
        send(monitor, 0, {"EU": 5})
        early, late = Told("early", replay="all"), Told("late")
        monitor.on("many", early)
        monitor.on("many", late)
        send(monitor, 1, {"US": 5, "EU": 1})
        assert monitor.drain(5)
        check_once_in_order(early.accepted, alarms(monitor))
        assert [event.group["region"] for event in early.accepted] == ["EU", "US"]
        assert [event.group["region"] for event in late.accepted] == ["US"]


def test_topics_of_one_hook():
    with opened() as monitor:
        monitor.alert("few", "n < 2", whole_windows=False)
        hook, everything = Told(), Told("everything")
        monitor.on("few", hook)
        monitor.on("change", hook)
        monitor.on("*", everything)
        monitor.on("few", everything)
        send(monitor, 0, {"EU": 5, "US": 1})
        assert monitor.drain(5)
        said = monitor.changes()
        check_once_in_order(hook.accepted, [e for e in said if getattr(e, "name", "") != "many"])
        check_once_in_order(everything.accepted, alarms(monitor))
        assert len(everything.accepted) == len(alarms(monitor)) == 2


def test_a_group_waits_for_its_earlier_event_and_others_do_not():
    refuses = [True]

    def answer(event, _):
        if event.group["region"] == "EU" and refuses[0]:
            return Retry(why="not this one")
        return None

    with opened() as monitor:
        hook = Told(answer=answer)
        monitor.on("change", hook, schedule=Schedule(waits=[0] + [0.05] * 100, jitter=0))
        for minute in range(3):
            send(monitor, minute, {"EU": 1, "US": 1})
        assert not monitor.drain(0.3)
        assert {event.group["region"] for event in hook.accepted} == {"US"}
        tried = {event.seq for event in hook.attempts if event.group["region"] == "EU"}
        assert len(tried) == 1
        (line,) = monitor.deliveries().to_dict("records")
        assert line["waiting"] > 1
        assert line["why"] == "not this one"
        refuses[0] = False
        assert monitor.drain(5)
        check_once_in_order(hook.accepted, monitor.changes())


def test_a_hook_that_hangs_is_in_nobodys_way():
    over = threading.Event()
    with opened() as monitor, Receiver(hangs) as receiver:
        good = Told()
        monitor.on("many", Callback(lambda *_: over.wait(20), name="hangs"))
        monitor.on("many", Webhook(receiver.url, secret=SECRET, allow_private=True, timeout=20))
        monitor.on("many", good)
        began = time.monotonic()
        send(monitor, 0, {"EU": 5})
        send(monitor, 1, {"EU": 5, "US": 5})
        while len(good.accepted) < 2:
            assert time.monotonic() - began < 5
            time.sleep(0.01)
        assert len(monitor.read()) > 0
        assert not monitor.drain(0.1)
        over.set()
        receiver.over.set()


def test_closing_does_not_wait_for_a_hook_that_hangs(monkeypatch, tmp_path):
    monkeypatch.setattr("rainpp.monitoring.posting._CLOSING", 0.2)
    over, told = threading.Event(), Told("hangs")
    monitor = opened(store=tmp_path / "m.duckdb")
    monitor.on("many", Callback(lambda *_: over.wait(20), name="hangs"))
    send(monitor, 0, {"EU": 5})
    time.sleep(0.1)
    began = time.monotonic()
    monitor.close()
    assert time.monotonic() - began < 2
    over.set()
    with opened(store=tmp_path / "m.duckdb") as again:
        again.on("many", told)  # what was abandoned is delivered now
        assert again.drain(5)
        check_once_in_order(told.accepted, alarms(again))
        assert len(told.accepted) == 1


def test_a_callback_that_fails_is_called_again_and_may_use_the_monitor():
    with opened() as monitor:
        seen = []

        def call(event, context):
            seen.append((event.key, len(context.explain().top(3)), len(monitor.read())))
            if len(seen) < 3:
                raise SystemExit("not yet")
            return 5

        monitor.on("many", Callback(call, name="mine"), schedule=QUICK)
        send(monitor, 0, {"EU": 5})
        assert monitor.drain(5)
        assert len(seen) == 3
        assert len(set(seen)) == 1
        (line,) = monitor.deliveries().to_dict("records")
        assert (line["delivered"], line["failed"], line["waiting"]) == (1, 2, 0)


def test_a_monitor_may_be_closed_by_its_own_hook(tmp_path):
    monitor, done = opened(store=tmp_path / "m.duckdb"), threading.Event()

    def call(*_):
        monitor.close()
        done.set()

    monitor.on("many", Callback(call, name="closes"))
    send(monitor, 0, {"EU": 5})
    assert done.wait(5)
    with pytest.raises(DataError, match="closed"):
        monitor.drain(1)


def test_what_never_arrives_is_a_dead_letter_and_can_be_sent_again():
    with opened() as monitor:
        bad = [True]
        hook = Told(answer=lambda *_: Retry(why="no") if bad[0] else None)
        monitor.on("many", hook, schedule=QUICK)
        send(monitor, 0, {"EU": 5, "US": 5})
        assert monitor.drain(5)  # given up is not waiting
        assert hook.accepted == []
        said = alarms(monitor)
        assert len(hook.attempts) == len(said) * len(QUICK.waits)
        letters = monitor.dead_letters()
        assert sorted(letters["key"]) == sorted(event.key for event in said)
        assert set(letters["attempts"]) == {10}
        assert set(letters["why"]) == {"no"}
        assert monitor.redeliver(key="nobody") == 0
        with pytest.raises(SettingsError, match="there is no hook 'x'; known: told"):
            monitor.redeliver(hook="x")
        bad[0] = False
        assert monitor.redeliver(hook="told", key=said[0].key) == 1
        assert monitor.drain(5)
        assert [event.key for event in hook.accepted] == [said[0].key]
        assert monitor.redeliver() == 1
        assert monitor.drain(5)
        check_once_in_order(hook.accepted, said)
        assert len(monitor.dead_letters()) == 0


def test_a_dropped_event_is_dead_at_once():
    with opened() as monitor:
        hook = Told(answer=lambda *_: Drop("too odd"))
        monitor.on("many", hook)
        send(monitor, 0, {"EU": 5})
        assert monitor.drain(5)
        assert len(hook.attempts) == 1
        assert monitor.dead_letters()["why"].tolist() == ["too odd"]


def test_a_receiver_that_is_gone_is_asked_no_more(tmp_path):
    with opened(store=tmp_path / "m.duckdb") as monitor, Receiver(says(410)) as receiver:
        hook = Webhook(receiver.url, secret=SECRET, allow_private=True, name="gone")
        monitor.on("many", hook)
        send(monitor, 0, {"EU": 5, "US": 5})
        send(monitor, 1, {"ASIA": 5})
        assert monitor.drain(5)
        assert len(receiver.attempts) == 1
        letters = monitor.dead_letters()
        assert sorted(letters["key"]) == sorted(event.key for event in alarms(monitor))
        assert all("wants no event" in why for why in letters["why"])
        (line,) = monitor.deliveries().to_dict("records")
        assert "410" in line["disabled"]
    with opened(store=tmp_path / "m.duckdb") as monitor, Receiver() as receiver:
        hook = Webhook(receiver.url, secret=SECRET, allow_private=True, name="gone")
        monitor.on("many", hook)
        send(monitor, 2, {"EU": 1, "US": 1, "ASIA": 1})
        send(monitor, 3, {"EU": 1, "US": 1, "ASIA": 1})
        assert monitor.drain(5)
        assert receiver.attempts == []
        assert len(monitor.dead_letters()) == len(alarms(monitor))
    with opened(store=tmp_path / "m.duckdb") as monitor, Receiver() as receiver:
        # Before it is attached, and so written down and not remembered.
        assert monitor.redeliver(hook="gone") == len(alarms(monitor))
        hook = Webhook(receiver.url, secret=SECRET, allow_private=True, name="gone")
        monitor.on("many", hook)
        assert monitor.drain(5)
        assert sorted(found.key for found in receiver.accepted) == sorted(
            event.key for event in alarms(monitor)
        )


def test_the_schedule_is_that_of_the_specification():
    assert WAITS == (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    schedule = Schedule()
    for attempts in range(1, 10):
        found = [schedule.wait(attempts) for _ in range(200)]
        assert 0.9 * WAITS[attempts] <= min(found) < WAITS[attempts] < max(found)
        assert max(found) <= 1.1 * WAITS[attempts]
        assert schedule.wait(attempts, 1e9) >= 86400
    assert schedule.wait(10) is None
    assert schedule.wait(1, 120) == 120


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


def test_attempts_follow_the_schedule_and_survive_a_restart(tmp_path):
    clock = Clock()
    schedule = Schedule(jitter=0, clock=clock)
    tried = []
    answer = lambda *_: tried.append(clock.now - Clock.now) or Retry(why="down")  # noqa: E731
    path = tmp_path / "m.duckdb"
    with opened(store=path) as monitor:
        monitor.on("many", Told(answer=answer), schedule=schedule)
        send(monitor, 0, {"EU": 5})
        for wait in (0, 4.9, 5, 304, 305):
            clock.now = Clock.now + wait
            monitor._couriers["told"].wake()
            time.sleep(0.1)
        assert tried == [0, 5, 305]
        assert monitor.drain(0.1) is False
    with opened(store=path) as monitor:
        monitor.on("many", Told(answer=answer), schedule=schedule)
        assert monitor.drain(0.2) is False
        assert len(tried) == 3
        for wait in (305 + 1799, 305 + 1800):
            clock.now = Clock.now + wait
            monitor._couriers["told"].wake()
            time.sleep(0.1)
        assert tried == [0, 5, 305, 2105]
        (line,) = monitor.deliveries().to_dict("records")
        assert (line["failed"], line["waiting"], line["why"]) == (4, 1, "down")
        for _ in range(6):
            clock.now += 90_000
            monitor._couriers["told"].wake()
            time.sleep(0.1)
        assert len(tried) == 10
        assert monitor.dead_letters()["attempts"].tolist() == [10]


def test_nothing_is_sent_to_a_receiver_that_asks_to_wait():
    def answer(handler, found, number):
        says(429, retry_after="1")(handler) if number == 1 else fine(handler, found, number)

    def first(handler, found, number):
        (says(429, retry_after="1") if number == 1 else fine)(handler, found, number)

    with opened() as monitor, Receiver(first) as receiver:
        hook = Webhook(receiver.url, secret=SECRET, allow_private=True)
        monitor.on("many", hook, schedule=QUICK)
        send(monitor, 0, {"EU": 5, "US": 5})
        send(monitor, 1, {"ASIA": 5})
        assert monitor.drain(5)
        waited = receiver.attempts[1].at - receiver.attempts[0].at
        assert 0.95 < waited < 2
        assert receiver.attempts[0].key == receiver.attempts[1].key
        assert len(receiver.accepted) == len(alarms(monitor)) == 3


def test_every_kind_of_failure_at_once():
    """Nothing lost, order kept, the same key at every attempt."""
    rng = random.Random(0)
    answers = [says(500), says(429, retry_after="0"), says(302, location="http://127.0.0.1:9/")]
    answers += [dies, says(503), hangs]

    def flaky(handler, found, number):
        good = rng.random() < 0.5
        (fine if good else rng.choice(answers))(handler, found, number)

    with opened() as monitor, Receiver(flaky) as receiver:
        hook = Webhook(receiver.url, secret=SECRET, allow_private=True, timeout=0.1)
        monitor.on("change", hook, schedule=Schedule([0] + [0.01] * 50, jitter=0))
        for minute in range(12):
            send(monitor, minute, {"EU": 1 + minute % 2, "US": 1, "ASIA": 2})
        assert monitor.drain(30)
        by_key = {event.key: event for event in monitor.changes() if not hasattr(event, "name")}
        assert len(monitor.dead_letters()) == 0
        check_once_in_order([by_key[found.key] for found in receiver.accepted], by_key.values())
        assert len(receiver.attempts) > len(receiver.accepted)


def test_what_was_not_delivered_is_after_a_restart(tmp_path):
    path, hook = tmp_path / "m.duckdb", Told()
    with opened(store=path) as monitor:
        monitor.on("many", hook)
        send(monitor, 0, {"EU": 5})
        assert monitor.drain(5)
    with opened(store=path) as monitor:
        send(monitor, 1, {"US": 5})  # said before the hook is attached again
        assert Deliveries(monitor._store).lowest_needed() == alarms(monitor)[0].seq + 1
    with opened(store=path) as monitor:
        monitor.on("many", hook)
        send(monitor, 2, {"ASIA": 5})
        assert monitor.drain(5)
        assert len(hook.accepted) == 3
        check_once_in_order(hook.accepted, alarms(monitor)[:1] + alarms(monitor)[1:])
        assert Deliveries(monitor._store).lowest_needed() == monitor.changes()[-1].seq + 1
        assert Deliveries(monitor._store).lowest_needed(time.time() + 31 * 86_400) is None


def test_a_state_without_hooks_needs_nothing_of_its_outbox():
    with opened() as monitor:
        found = Deliveries(monitor._store)
        assert found.lowest_needed() is None
        assert monitor.dead_letters().empty
        assert monitor.deliveries().empty
        assert monitor.redeliver() == 0
        assert monitor.drain(0)
        monitor.on("many", Told())
        assert found.lowest_needed() == 0


def test_the_outbox_keeps_what_a_hook_was_not_told(monkeypatch, tmp_path):
    monkeypatch.setattr(room_of_kept, "_KEPT_CHANGES", 0)
    monkeypatch.setattr(room_of_state, "_SUMMARY_EVERY", 2)
    with opened(store=tmp_path / "m.duckdb") as monitor:
        for minute in range(4):
            send(monitor, minute, {"north": 3})
        assert len(monitor.changes()) <= 2  # nobody needs older lines
    stuck = Told(answer=lambda *_: Retry(after=3600, whole=True))
    with opened(store=tmp_path / "m.duckdb") as monitor:
        monitor.on("change", stuck)
        first = monitor._at.seq + 1
        for minute in range(4, 10):
            send(monitor, minute, {"north": 3})
        last = monitor._at.seq
        assert [c.seq for c in monitor.changes(first)] == list(range(first + 1, last + 1))
        assert len(stuck.accepted) == 0


def test_what_waits_is_bounded(monkeypatch):
    """A group that is stuck stops the reading once enough stands behind it; nothing is lost."""
    monkeypatch.setattr("rainpp.hooks.delivery._MOST_WAITING", 5)
    monkeypatch.setattr("rainpp.hooks.delivery._READ", 2)
    refuses = [True]
    with opened() as monitor:
        hook = Told(answer=lambda *_: Retry(why="no") if refuses[0] else None)
        monitor.on("change", hook, schedule=Schedule([0] + [0.05] * 1000, jitter=0))
        for minute in range(12):
            send(monitor, minute, {"EU": 1})
        assert not monitor.drain(0.4)
        (counts,) = monitor.hook_counts()
        assert 5 <= counts.waiting <= 7
        assert counts.behind > 10
        refuses[0] = False
        assert monitor.drain(10)
        check_once_in_order(hook.accepted, monitor.changes())


def test_an_alarm_that_goes_off_twice_in_one_window_has_two_keys():
    """A receiver that knows a key ignores the event: the second would never be seen."""
    with opened() as monitor:
        hook = Told()
        monitor.on("many", hook)
        send(monitor, 0, {"EU": 5})
        send(monitor, 1, {"US": 1})
        with monitor.batch() as batch:
            batch.retract(list(range(4)))
        rows = ones().iloc[:4].assign(id=range(50, 54), region="EU", t=START)
        with monitor.batch() as batch:
            batch.predictions(arrow(rows))
        assert monitor.drain(5)
        said = alarms(monitor)
        assert [alarm.status for alarm in said] == ["firing", "resolved", "firing"]
        assert len({alarm.fingerprint for alarm in said}) == 1
        assert len({alarm.key for alarm in said}) == 3
        check_once_in_order(hook.accepted, said)


def test_changes_of_a_model_that_comes_back_have_keys_of_their_own():
    other = rainpp.precompute(
        trained().model, trained().problem.inputs, trained().problem.labels, k=4
    )
    with opened() as monitor:
        for minute, index in enumerate([trained().index, other, trained().index]):
            if minute:
                monitor.swap(trained().model, index)
            rows = ones().iloc[:2].assign(id=[minute, 10 + minute], region="EU", t=START)
            with monitor.batch() as batch:
                batch.predictions(arrow(rows))
        found = [event for event in monitor.changes() if event.revision == 0]
        assert found[0].model == found[-1].model
        assert len({event.key for event in monitor.changes()}) == len(monitor.changes())


def test_a_topic_that_joins_later_moves_nothing_of_the_others(tmp_path):
    """With the letters of one topic waiting, a second topic begins at the beginning."""
    refuses = [True]
    hook = Told(answer=lambda *_: Retry(why="no") if refuses[0] else None, replay="all")
    with opened(store=tmp_path / "m.duckdb") as monitor:
        # Enough attempts for a busy machine: none is given up before the second topic comes.
        monitor.on("many", hook, schedule=Schedule(waits=(0.0, *[0.02] * 2000), jitter=0.0))
        for minute in range(3):
            send(monitor, minute, {"EU": 5, "US": minute})
        time.sleep(0.05)
        refuses[0] = False
        monitor.on("change", hook)
        assert monitor.drain(5)
        check_once_in_order(hook.accepted, monitor.changes())


def test_progress_is_not_written_event_by_event(monkeypatch):
    written = []
    save = Deliveries.save
    monkeypatch.setattr(
        Deliveries, "save", lambda self, *rest: written.append(rest) or save(self, *rest)
    )
    with opened() as monitor:
        hook = Told()
        monitor.on("change", hook)
        for minute in range(40):
            send(monitor, minute, {"EU": 1, "US": 1, "ASIA": 1})
        assert monitor.drain(10)
        assert len(hook.accepted) > 100
        # One each second, and one by drain.
        assert 1 <= len(written) < 20


def test_progress_that_cannot_be_written_is_written_later(monkeypatch):
    save, fails = Deliveries.save, [True]

    def saves(self, *rest):
        if fails[0]:
            raise DataError("the disk is full")
        save(self, *rest)

    monkeypatch.setattr(Deliveries, "save", saves)
    monkeypatch.setattr("rainpp.hooks.delivery._TROUBLE", 0.05)
    with opened() as monitor:
        hook = Told(answer=lambda *_: Drop("odd"))
        monitor.on("many", hook)
        send(monitor, 0, {"EU": 5})
        with pytest.raises(DataError, match="full"):
            monitor.drain(1)
        time.sleep(1.3)
        assert "full" in monitor.hook_counts()[0].why
        fails[0] = False
        assert len(monitor.dead_letters()) == 1
        send(monitor, 1, {"US": 5})
        assert monitor.drain(5)
        assert len(hook.attempts) == 2


@pytest.mark.parametrize(
    ("topic", "hook", "said"),
    [
        ("late", Told(), "no line of the outbox"),
        ("nope", Told(), "there is no alarm"),
        ("many", Told(name=""), "name"),
        ("many", Told(name=5), "name"),
        ("many", Told(replay="some"), "replay"),
        ("change", Alertmanager("https://example.com/"), "alarms only"),
    ],
)
def test_hooks_that_cannot_be_attached(topic, hook, said):
    with opened() as monitor:
        with pytest.raises(SettingsError, match=said):
            monitor.on(topic, hook)
        assert monitor.hook_counts() == []


def test_an_event_wakes_its_courier(monkeypatch):
    monkeypatch.setattr("rainpp.hooks.delivery._LOOK", 60)
    came = threading.Event()
    with opened() as monitor:
        monitor.on("many", Callback(lambda *_: came.set(), name="mine"))
        time.sleep(0.2)  # it sleeps by now
        send(monitor, 0, {"EU": 5})
        assert came.wait(5)


def test_two_hooks_of_one_name_and_nonsense():
    with opened() as monitor:
        monitor.on("many", Told())
        with pytest.raises(SettingsError, match="already"):
            monitor.on("many", Told())
        with pytest.raises(SettingsError, match="schedule"):
            monitor.on("many", print, schedule=QUICK)
        for bad in (-1, "x", None, float("nan"), True):
            with pytest.raises(SettingsError, match="timeout"):
                monitor.drain(bad)
        with pytest.raises(SettingsError, match="there is no hook 'x'; attached: told"):
            monitor.test("x")
        with pytest.raises(SettingsError, match="give a hook"):
            monitor.test(print)
        assert monitor.test("told") == Ack()
        with pytest.raises(SettingsError, match="function"):
            Callback(5, name="x")
        with pytest.raises(SettingsError, match="name"):
            Callback(print, name="")


@pytest.mark.slow
def test_ten_thousand_events_through_a_flaky_receiver(record_property):
    rng = random.Random(1)

    def flaky(handler, found, number):
        good = rng.random() < 0.8
        bad = rng.choice([says(500), says(503, retry_after="0"), dies])
        (fine if good else bad)(handler, found, number)

    with opened() as monitor, Receiver(flaky) as receiver:
        hook = Webhook(receiver.url, secret=SECRET, allow_private=True)
        monitor.on("change", hook, schedule=Schedule([0] + [0.01] * 50, jitter=0))
        minute, began = 0, time.monotonic()
        while monitor._at.seq < 10_000:
            counts = {f"r{number}": 1 for number in range(50)}
            send(monitor, minute, counts)
            minute += 1
        said = time.monotonic() - began
        assert monitor.drain(300)
        record_property("seconds to say", said)
        record_property("seconds to deliver", time.monotonic() - began)
        by_key = {event.key: event for event in monitor.changes() if not hasattr(event, "name")}
        assert len(by_key) >= 9_900
        assert len(monitor.dead_letters()) == 0
        check_once_in_order([by_key[found.key] for found in receiver.accepted], by_key.values())
        assert len(receiver.attempts) > 1.1 * len(by_key)
