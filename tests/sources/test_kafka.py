"""Kafka: partitions as sources, restarts, and brokers, topics and messages that are not there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from rainpp.errors import DataError, RainError, SettingsError
from rainpp.sources import Asides, Kafka
from rainpp.sources import kafka as room
from rainpp.sources.feeding import Feeding
from tests.sources.world import NO_IDS, drain, drain_with_crashes, images, lines, opened, rows

confluent_kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
from tests.sources.broker import Broker  # noqa: E402 - it needs confluent-kafka

ROOT = Path(__file__).parents[2]
PARTITIONS = 4  # of every topic of the mock broker


@pytest.fixture(scope="module")
def broker():
    return Broker()


def fill(broker, topic, numbers):
    for number in numbers:
        broker.send(topic, lines(rows(5, number)), number % PARTITIONS)


def total(monitor):
    return int(monitor.sql("SELECT count(*) AS n FROM rows_0")["n"].iloc[0])


def test_crashes_lose_and_double_nothing(tmp_path, broker, monkeypatch):
    fill(broker, "crashes", range(6))

    def source():
        return Kafka("crashes", broker.servers, messages=3)

    # Which partition is heard first decides how far the watermark runs ahead: none is final here.
    calm = {"lateness": "1h", **NO_IDS}
    with opened(tmp_path / "whole.duckdb", **calm) as monitors:
        drain(source(), monitors)
        expected = images(monitors)
        assert monitors[0].offsets == {
            "crashes[0]": 9, "crashes[1]": 9, "crashes[2]": 4, "crashes[3]": 4,
        }  # fmt: skip
        assert total(monitors[0]) == 30
    found, died = drain_with_crashes(
        source, tmp_path / "torn.duckdb", monkeypatch, seed=1, crashes=5, **calm
    )
    assert died >= 3
    assert found == expected


def test_arrow_messages_labels_and_several_topics(broker):
    sink = io.BytesIO()
    table = rows(6, 1)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    broker.send("shots", [sink.getvalue()])
    broker.send("kinds", [json.dumps({"id": 1000 + i, "label": 1}).encode() for i in range(3)])
    with opened(names=["money"]) as monitors:
        drain(Kafka(["shots"], broker.servers, format="arrow"), monitors)
        drain(Kafka("kinds", broker.servers, kind="feedback"), monitors)
        assert total(monitors[0]) == 6
        assert monitors[0].offsets == {"shots[0]": 0, "kinds[0]": 2}
        (line,) = monitors[0].confusion().sum(axis=None, numeric_only=True).reshape(-1)
        assert line >= 3


def test_messages_that_cannot_be_read_are_set_aside(broker):
    good = lines(rows(4, 2))
    broker.send("dirty", [good[0], b"oops", good[1], None, b"[]", good[2], b'{"id": 7}', good[3]])
    asides = Asides()
    with opened(names=["money"]) as monitors:
        drain(Kafka("dirty", broker.servers), monitors, asides)
        assert total(monitors[0]) == 4
        assert monitors[0].offsets == {"dirty[0]": 7}
    found = sorted((aside.source, aside.offset, aside.monitor) for aside in asides.read())
    assert [item[:2] for item in found] == [("dirty[0]", at) for at in (1, 3, 4, 6)]
    assert [item[2] for item in found] == [None, None, None, "money"]


def test_a_topic_that_is_not_there(broker):
    broker.send("people", [b"{}"])
    with opened(names=["money"]) as monitors, pytest.raises(SettingsError) as caught:
        drain(Kafka("peopel", broker.servers), monitors)
    assert "no topic `peopel`" in str(caught.value)
    assert "people" in str(caught.value)


class Elsewhere:
    """A broker in a process of its own, which can be stopped and go on."""

    def __init__(self):
        command = [sys.executable, "-m", "tests.sources.broker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.servers = self.process.stdout.readline().strip()

    def send(self, topic, values, partition=0):
        asked = {"topic": topic, "partition": partition, "values": [v.decode() for v in values]}
        self.process.stdin.write(f"{json.dumps(asked)}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "sent\n"

    def close(self):
        self.process.kill()
        self.process.communicate()


def test_a_broker_that_is_away_and_comes_back(caplog):
    away = Elsewhere()
    fill(away, "away", [0])
    options = {"reconnect.backoff.max.ms": 100, "socket.timeout.ms": 1000}
    source = Kafka("away", away.servers, options=options, look=0.5)
    with opened(names=["money"]) as monitors:
        feed = Feeding(monitors)
        source.start(feed.offsets(), feed.times())

        def poll_until(done):
            for _ in range(100):
                for parcel in source.poll(0.2):
                    feed.give(parcel)
                if done():
                    return
            raise AssertionError("it does not come to that")

        poll_until(lambda: source.caught_up)
        assert total(monitors[0]) == 5
        os.kill(away.process.pid, signal.SIGSTOP)
        poll_until(lambda: source.problem is not None)
        os.kill(away.process.pid, signal.SIGCONT)
        fill(away, "away", [4, 1])
        poll_until(lambda: total(monitors[0]) == 15)
        poll_until(lambda: source.problem is None)
        source.close()
    away.close()
    said = [line for line in caplog.messages if "Kafka is" in line]
    assert "Kafka is away" in said[0]
    assert said[1:] == ["Kafka is back"]


def test_no_broker_is_waited_for(caplog):
    source = Kafka("any", "127.0.0.1:1")
    source.start({}, ())
    assert source.poll(0.2) == []
    assert source.poll(0.2) == []
    assert not source.caught_up
    source.close()
    assert sum("Kafka is away" in line for line in caplog.messages) == 1


def test_a_topic_made_anew_stops_the_source(broker):
    fill(broker, "anew", [0])
    with opened(names=["money"]) as monitors:
        with monitors[0].batch("anew[0]", upto=50):
            pass
        with pytest.raises(DataError, match="made anew"):
            drain(Kafka("anew", broker.servers), monitors)


@pytest.mark.parametrize("lost", ["stop", "skip"])
def test_messages_that_were_deleted_are_not_passed_over_in_silence(broker, lost):
    fill(broker, "gone", [4])
    with opened(names=["money"]) as monitors:
        source = Kafka("gone", broker.servers, lost=lost)
        source.start({}, ())
        source._consumer = _Short(source._consumer)
        if lost == "stop":
            with pytest.raises(DataError, match="offsets 1 to 2 of `gone"):
                source._out_of_range(("gone", 0), 1)
        else:
            (parcel,) = source._out_of_range(("gone", 0), 1)
            assert parcel.upto == 2
            assert "offsets 1 to 2" in parcel.aside[0].reason
            feed = Feeding(monitors)
            feed.give(parcel)
            assert monitors[0].offsets == {"gone[0]": 2}
            assert len(feed.asides.read()) == 1
        source.close()


class _Short:
    """A consumer of a topic whose first messages were deleted."""

    def __init__(self, real):
        self._real = real

    def get_watermark_offsets(self, *_, **__):
        return 3, 9

    def __getattr__(self, name):
        return getattr(self._real, name)


def test_new_partitions_are_noticed(broker, monkeypatch):
    fill(broker, "grows", range(8))
    source = Kafka("grows", broker.servers, look=0.05)
    real = confluent_kafka.Consumer.list_topics
    few = [True]

    def listed(self, *args, **options):
        found = real(self, *args, **options)
        if few[0]:
            for number in (1, 2, 3):
                found.topics["grows"].partitions.pop(number, None)
        return found

    class Narrow(confluent_kafka.Consumer):
        list_topics = listed

    monkeypatch.setattr(confluent_kafka, "Consumer", Narrow)
    with opened(names=["money"]) as monitors:
        feed = Feeding(monitors)
        source.start(feed.offsets(), feed.times())
        for few[0] in (True, False):
            for _ in range(100):
                for parcel in source.poll(0.1):
                    feed.give(parcel)
                if source.caught_up and len(source._assigned) == (1 if few[0] else 4):
                    break
            assert total(monitors[0]) == (10 if few[0] else 40)
        source.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"brokers": ""}, "`brokers` is ''"),
        ({"format": "avro"}, "`format` is 'avro'"),
        ({"lost": "maybe"}, "`lost` 'maybe'"),
        ({"messages": 0}, "both are positive"),
        ({"kind": "x"}, "`kind` is 'x'"),
        ({"topics": ()}, "a name"),
        ({"options": {"group.id": "x"}}, "'group.id'"),
    ],
)
def test_wrong_options(options, match):
    with pytest.raises(SettingsError, match=match):
        Kafka(**{"topics": "t", "brokers": "x:1", **options})


def test_an_option_librdkafka_does_not_know():
    source = Kafka("t", "x:1", options={"no.such": "1"})
    with pytest.raises(SettingsError, match="refuses the options"):
        source.start({}, ())


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(RainError, match="rainpp\\[kafka\\]"):
        room._import()
