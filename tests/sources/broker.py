"""The mock broker inside librdkafka, in a process of its own or in this one."""

from __future__ import annotations

import json
import sys


class Broker:
    """A broker that lives as long as the producer that holds it; topics have four partitions."""

    def __init__(self):
        from confluent_kafka import Producer

        # librdkafka names its address in a log line, which is not wanted.
        self.producer = Producer(
            {"test.mock.num.brokers": 1, "log_level": 0, "bootstrap.servers": "-"}
        )
        known = self.producer.list_topics(timeout=30).brokers.values()
        self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in known)

    def send(self, topic, values, partition=0):
        for value in values:
            self.producer.produce(topic, value, partition=partition)
            self.producer.poll(0)
        left = self.producer.flush(30)
        assert not left, f"{left} messages were not sent"


if __name__ == "__main__":
    broker = Broker()
    sys.stdout.write(f"{broker.servers}\n")
    sys.stdout.flush()
    for line in sys.stdin:  # {"topic": ..., "partition": ..., "values": [...]}
        asked = json.loads(line)
        broker.send(asked["topic"], [v.encode() for v in asked["values"]], asked["partition"])
        sys.stdout.write("sent\n")
        sys.stdout.flush()
