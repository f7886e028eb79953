"""Reads given partitions of one topic from given offsets, committed records only, without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tokenweir.adapters.kafka_errors import KAFKA_LOGGER, KafkaFault, configuration_faults, fault, faults
from tokenweir.core.librdkafka import PropertyValue, for_consumer

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's own codes begin with an underscore.

_OWNED: Mapping[str, str] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "allow.auto.create.topics": "false",
    "enable.partition.eof": "true",
}

_BATCH_RECORDS: Final = 5_000
_BATCH_SECONDS: Final = 0.1

_GONE = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})


@dataclass(frozen=True, slots=True)
class TopicBatch:
    """What one read gave.

    Attributes:
        records: In order within each partition; none of them carries an error.
        ends: The next offset of partitions whose end was reached. It counts transaction markers and aborted records,
            which are never delivered, and stays before a transaction that is not decided.
        faults: What librdkafka reported meanwhile.
    """

    records: list[Message]
    ends: Mapping[int, int]
    faults: list[KafkaFault]

    @property
    def offsets_gone(self) -> bool:
        """Whether a partition stopped because the topic no longer has the offset that comes next."""
        return any(found.code in _GONE for found in self.faults)


class TopicReader:
    """A consumer of partitions that are given to it. Not thread-safe."""

    def __init__(
        self, properties: Mapping[str, PropertyValue], topic: str, starts: Mapping[int, int], client_id: str
    ) -> None:
        """Create the client and begin to fetch.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of producers are left out.
            topic: The topic.
            starts: The first offset to read, by partition.
            client_id: The name in the broker's logs and quotas.

        Raises:
            KafkaFault: librdkafka refused a property or the assignment.
        """
        # librdkafka asks for a group's name even where no group is joined and nothing is committed.
        configuration: dict[str, object] = {
            **for_consumer(properties),
            **_OWNED,
            "group.id": client_id,
            "client.id": client_id,
        }
        with configuration_faults("consumer"):
            self._consumer = Consumer(configuration, logger=KAFKA_LOGGER)
        with faults("take partitions"):
            self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])

    def read(self, max_records: int, timeout_seconds: float) -> TopicBatch:
        """Wait until so many records are there or the time is up, and return what there is.

        Raises:
            KafkaFault: The call itself failed.
        """
        with faults("read"):
            messages = self._consumer.consume(max_records, timeout_seconds)
        records: list[Message] = []
        ends: dict[int, int] = {}
        found: list[KafkaFault] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == _EOF:
                ends[message.partition() or 0] = message.offset() or 0
            else:
                found.append(fault("read", error))
        return TopicBatch(records, ends, found)

    def close(self) -> None:
        """Stop fetching."""
        with faults("close the consumer"):
            self._consumer.close()


def read_until(
    properties: Mapping[str, PropertyValue],
    topic: str,
    spans: Mapping[int, tuple[int, int]],
    *,
    patience_seconds: float = 20,
) -> Iterator[Message]:
    """Yield the committed records of a topic in given spans, without a group and without a trace.

    Args:
        properties: librdkafka properties with ``bootstrap.servers``.
        topic: The topic.
        spans: By partition the first offset to read, and the end: the first offset that is not needed.
        patience_seconds: How long nothing may come.

    Raises:
        KafkaFault: The records do not come, or are no longer there. An end that lies behind a transaction which is
            not decided is not reached either.
    """
    open_spans = {partition: span for partition, span in spans.items() if span[0] < span[1]}
    if not open_spans:
        return
    starts = {partition: start for partition, (start, _end) in open_spans.items()}
    reader = TopicReader(properties, topic, starts, "tokenweir-reader")
    heard_seconds = time.monotonic()
    try:
        while open_spans:
            batch = reader.read(_BATCH_RECORDS, _BATCH_SECONDS)
            _raise_lasting(batch.faults)
            for message in batch.records:
                if (message.offset() or 0) < spans[message.partition() or 0][1]:
                    yield message
            _close_reached(open_spans, batch)
            if batch.records:
                heard_seconds = time.monotonic()
            elif time.monotonic() - heard_seconds > patience_seconds:
                detail = "its end is not reached; a transaction may be undecided there"
                raise KafkaFault(f"read topic {topic}", "_TIMED_OUT", detail, retriable=True)
    finally:
        reader.close()


def _raise_lasting(found: list[KafkaFault]) -> None:
    for each in found:
        if each.fatal or not each.retriable:
            raise each


def _close_reached(open_spans: dict[int, tuple[int, int]], batch: TopicBatch) -> None:
    """Take away the spans whose end is reached: by a record, or because nothing but markers comes before it."""
    reached = dict(batch.ends)
    for message in batch.records:
        partition = message.partition() or 0
        reached[partition] = max(reached.get(partition, 0), (message.offset() or 0) + 1)
    for partition, next_offset in reached.items():
        if partition in open_spans and next_offset >= open_spans[partition][1]:
            del open_spans[partition]
