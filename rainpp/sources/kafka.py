"""Kafka topics as sources: one for each partition, resumed from what the monitors have taken."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rainpp.errors import DataError, RainError, SettingsError
from rainpp.monitoring.batch import Doing
from rainpp.sources.decoding import Format, parcel_of
from rainpp.sources.parcel import Parcel, checked_kind, checked_source

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

_log = logging.getLogger(__name__)
# What librdkafka says about each attempt to connect; we say it once.
_inner = logging.getLogger(f"{__name__}.librdkafka")
_inner.setLevel(logging.CRITICAL)
# What this class decides; given as options they would break what it promises.
_OURS = (
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "error_cb",
    "group.id",
)
_SECONDS = 10.0


class Kafka:
    """All partitions of some topics: a `Source`.

    A partition is a source `topic[partition]`, and its offsets are Kafka's. They are kept with the
    monitors' state and with nothing else: the group's offsets are neither read nor written, and
    partitions are not shared with other members of the group. New partitions are noticed. A
    message that cannot be read, or has no value, is set aside. A broker that is away is waited for.

    Parameters
    ----------
    topics : names, or one.
    brokers : such as "kafka-1:9092,kafka-2:9092".
    group : a name for the brokers' own books.
    kind, table : what the rows are, and for which table of the query.
    format : of a message: "json", an object with a value for each column, or "arrow", an IPC
        stream.
    lost : where messages were deleted before they were taken: "stop", or "skip" to go on with the
        first that is left. What was skipped is listed like a message that cannot be read.
    look : seconds between looks for new partitions.
    messages : taken at once.
    options : further settings of librdkafka, such as {"security.protocol": "SSL"}.

    Raises
    ------
    SettingsError : an option is wrong.
    RainError : confluent-kafka is not installed.
    """

    def __init__(
        self,
        topics: str | Sequence[str],
        brokers: str,
        group: str = "rainpp",
        *,
        kind: str = "predictions",
        table: str | None = None,
        format: Format = "json",
        lost: Literal["stop", "skip"] = "stop",
        look: float = 30.0,
        messages: int = 5_000,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.topics = (topics,) if isinstance(topics, str) else tuple(topics)
        self.name = checked_source(", ".join(self.topics))
        self._kind: Doing = checked_kind(kind)
        self._table, self._lost = table, lost
        self._form: Format = format
        self._look, self._messages = look, messages
        self._config = _config(brokers, group, options or {})
        if format not in ("json", "arrow") or lost not in ("stop", "skip"):
            raise SettingsError(
                f"`format` is {format!r} and `lost` {lost!r}; they are 'json' or 'arrow', and "
                "'stop' or 'skip'."
            )
        if messages < 1 or not look > 0:
            raise SettingsError(
                f"`messages` is {messages!r} and `look` {look!r}; both are positive."
            )
        _import()
        self._consumer: Consumer | None = None
        self._offsets: dict[str, int] = {}
        self._times: Collection[str] = ()
        self._assigned: set[tuple[str, int]] = set()
        self._ended: set[tuple[str, int]] = set()
        self._looked = 0.0
        self._away: str | None = None
        self.pause = 0.0  # a poll waits by itself
        self.problem: str | None = None

    @property
    def caught_up(self) -> bool:
        """Whether every partition was read to its end."""
        return bool(self._assigned) and self._assigned == self._ended

    def start(self, offsets: Mapping[str, int], times: Collection[str]) -> None:
        """Go on after these offsets."""
        kafka = _import()
        self._offsets, self._times = dict(offsets), times
        self.close()
        try:
            config = {**self._config, "error_cb": self._heard}
            self._consumer = kafka.Consumer(config, logger=_inner)
        except kafka.KafkaException as problem:
            raise SettingsError(f"Kafka refuses the options: {_said(problem.args[0])}.") from None
        self._assigned, self._ended, self._looked = set(), set(), 0.0

    def poll(self, timeout: float) -> Sequence[Parcel]:
        """Messages that came, as a parcel for each partition.

        Raises
        ------
        SettingsError : there is no such topic.
        DataError : messages were deleted before they were taken, and `lost` is "stop".
        """
        assert self._consumer is not None
        if not self._assigned or time.monotonic() - self._looked > self._look:
            self._assign(timeout)
        if not self._assigned:
            return []
        found: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        gaps: list[Parcel] = []
        for message in self._consumer.consume(self._messages, timeout):
            if message.error() is not None:
                gaps += self._failed(message)
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            self._ended.discard(place)
            value = message.value()
            found.setdefault(place, []).append((int(message.offset() or 0), value or b""))
            self._back()
        return [*gaps, *(self._parcel(place, records) for place, records in found.items())]

    def close(self) -> None:
        """Leave the brokers."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _parcel(self, place: tuple[str, int], records: list[tuple[int, bytes]]) -> Parcel:
        return parcel_of(
            _name(*place),
            records,
            kind=self._kind,
            table=self._table,
            form=self._form,
            times=self._times,
        )

    def _assign(self, timeout: float) -> None:
        """Take on the partitions there are, each from its offset on."""
        kafka = _import()
        assert self._consumer is not None
        try:
            known = self._consumer.list_topics(timeout=max(timeout, 1.0)).topics
        except kafka.KafkaException as problem:
            self._gone(_said(problem.args[0]))
            return
        fresh: list[Any] = []
        for topic in self.topics:
            if topic not in known or not known[topic].partitions:
                self._missing(topic, sorted(known))
                continue
            for number in sorted(known[topic].partitions):
                if (topic, number) not in self._assigned:
                    at = self._offsets.get(_name(topic, number))
                    start = kafka.OFFSET_BEGINNING if at is None else at + 1
                    fresh.append(kafka.TopicPartition(topic, number, start))
        self._looked = time.monotonic()
        if fresh:
            self._consumer.incremental_assign(fresh)
            self._assigned |= {(part.topic, part.partition) for part in fresh}
        self._back()

    def _missing(self, topic: str, known: Sequence[str]) -> None:
        if any(name == topic for name, _ in self._assigned):
            self._gone(f"the topic `{topic}` is gone")
            return
        listed = ", ".join(known[:20]) or "none"
        raise SettingsError(
            f"there is no topic `{topic}` at {self._config['bootstrap.servers']}; known: {listed}."
        )

    def _failed(self, message: Message) -> list[Parcel]:
        """What to do about an error in place of a message."""
        kafka = _import()
        error = message.error()
        assert error is not None
        place = (str(message.topic()), int(message.partition() or 0))
        if error.code() == kafka.KafkaError._PARTITION_EOF:
            self._ended.add(place)
            self._back()
            return []
        if error.code() == kafka.KafkaError._AUTO_OFFSET_RESET:
            return self._out_of_range(place, int(message.offset() or 0))
        if error.fatal():
            raise RainError(f"Kafka gave up: {_said(error)}.")
        self._gone(_said(error))
        return []

    def _out_of_range(self, place: tuple[str, int], wanted: int) -> list[Parcel]:
        """Messages are gone, or the topic was made anew."""
        kafka = _import()
        assert self._consumer is not None
        name, part = _name(*place), kafka.TopicPartition(*place)
        try:
            low, high = self._consumer.get_watermark_offsets(part, timeout=_SECONDS)
        except kafka.KafkaException as problem:
            self._gone(_said(problem.args[0]))
            low, high = -1, -1
        if low == -1 or wanted == high:  # nothing is lost; ask again
            self._consumer.incremental_assign([kafka.TopicPartition(*place, wanted)])
            return []
        if wanted > high:
            raise DataError(
                f"`{name}` was taken up to offset {wanted - 1}, but the broker has only up to "
                f"{high - 1}: the topic was made anew. Begin with a new state file."
            )
        gap = f"offsets {wanted} to {low - 1} of `{name}` were deleted before they were taken"
        if self._lost == "stop":
            raise DataError(f"{gap}. Go on without them with lost='skip'.")
        from rainpp.sources.asides import Aside

        self._consumer.incremental_assign([kafka.TopicPartition(*place, low)])
        return [Parcel(name, (), low - 1, (Aside(name, low - 1, gap, ""),))]

    def _heard(self, error: Any) -> None:
        """What librdkafka says beside messages: only that no broker is left matters."""
        if error.code() == _import().KafkaError._ALL_BROKERS_DOWN:
            self._gone(_said(error))

    def _gone(self, said: str) -> None:
        if self._away is None:
            _log.warning("Kafka is away: %s; waiting for it", said)
        self._away = self.problem = said

    def _back(self) -> None:
        if self._away is not None:
            _log.warning("Kafka is back")
        self._away = self.problem = None


def _name(topic: str, partition: int) -> str:
    return f"{topic}[{partition}]"


def _said(error: Any) -> str:
    return " ".join(str(error.str() if hasattr(error, "str") else error).split())


def _import() -> Any:
    try:
        import confluent_kafka
    except ImportError:
        raise RainError('confluent-kafka is not installed: pip install "rainpp[kafka]"') from None
    return confluent_kafka


def _config(brokers: str, group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    ours = sorted(set(options) & set(_OURS))
    if ours:
        raise SettingsError(f"`options` has {ours[0]!r}, which a source decides itself.")
    if not isinstance(brokers, str) or not brokers:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`brokers` is {brokers!r}; give host:port, several with commas.")
    return {
        **options,
        "bootstrap.servers": brokers,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # Where an offset is gone we decide: messages must not be passed over without a word.
        "auto.offset.reset": "error",
    }
