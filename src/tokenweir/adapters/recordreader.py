"""Reads single committed records of a topic at given places, without a consumer group and without a trace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tokenweir.adapters.kafka_errors import KAFKA_LOGGER, KafkaFault, configuration_faults, fault, faults
from tokenweir.core.librdkafka import PropertyValue, for_consumer

RecordPlace = tuple[int, int]
"""Partition and offset."""

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's own codes begin with an underscore.

#: The partition does not have the offset at which it was to be read.
_NOT_THERE: Final = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})

_OWNED: Mapping[str, str] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "allow.auto.create.topics": "false",
    "enable.partition.eof": "true",
    # What is fetched ahead is mostly dropped.
    "queued.min.messages": "1000",
    "queued.max.messages.kbytes": "16384",
    # A jump waits for the request that is under way; with the defaults of 500 ms and 1 s that would be all the time.
    "fetch.wait.max.ms": "10",
    "fetch.queue.backoff.ms": "10",
}

_READ_RECORDS: Final = 1_000
_READ_SECONDS: Final = 0.1
#: To fetch again costs more than to read over so many records that are not wanted.
_NEAR_RECORDS: Final = 500


class RecordReader:
    """A consumer that jumps to the records that are asked for. Not thread-safe."""

    def __init__(
        self,
        properties: Mapping[str, PropertyValue],
        topic: str,
        client_id: str,
        *,
        patience_seconds: float = 30,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the client; no broker is contacted before the first read.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of producers are left out.
            topic: The topic.
            client_id: The name in the broker's logs and quotas.
            patience_seconds: How long nothing may come.
            on_wait: Called every now and then during a read.

        Raises:
            ClientConfigurationError: librdkafka refused a property.
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
        self._jumped: dict[int, int] = {}
        self._topic = topic
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait

    def read(self, places: Iterable[RecordPlace]) -> dict[RecordPlace, Message]:
        """Return the records at these places, as far as they are there.

        Raises:
            KafkaFault: The broker does not answer, or answers with an error that does not pass, such as that there is
                no such partition.
        """
        wanted: dict[int, deque[int]] = {}
        for partition, offset in sorted(set(places)):
            wanted.setdefault(partition, deque()).append(offset)
        found: dict[RecordPlace, Message] = {}
        self._take({partition: offsets[0] for partition, offsets in wanted.items()})
        heard_seconds = time.monotonic()
        while wanted:
            self._on_wait()
            messages = self._read_some()
            for message in messages:
                self._arrived(message, wanted, found)
            if messages:
                heard_seconds = time.monotonic()
            elif time.monotonic() - heard_seconds > self._patience_seconds:
                raise KafkaFault(f"read topic {self._topic}", "_TIMED_OUT", "no record comes", retriable=True)
        # Nothing is fetched between two reads.
        self._take({})
        return found

    def _read_some(self) -> list[Message]:
        """Wait for one answer, and return it with all that are there: more are not waited for."""
        with faults("read"):
            messages = self._consumer.consume(1, _READ_SECONDS)
            return messages + self._consumer.consume(_READ_RECORDS, 0) if messages else messages

    def close(self) -> None:
        """Stop fetching."""
        with faults("close the consumer"):
            self._consumer.close()

    def _take(self, starts: Mapping[int, int]) -> None:
        self._jumped.clear()
        with faults("take partitions"):
            self._consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in starts.items()])

    def _arrived(self, message: Message, wanted: dict[int, deque[int]], found: dict[RecordPlace, Message]) -> None:
        """Take one answer into account: a record, the end of a partition, or an error."""
        partition, offset = message.partition() or 0, message.offset() or 0
        error = message.error()
        if error is not None and not self._tells_of_place(error):
            return
        offsets = wanted.get(partition)
        if offsets is None:
            return
        if error is None:
            _pass(message, (partition, offset), offsets, found)
        elif error.code() == _EOF:
            offsets.clear()
        else:
            offsets.popleft()
        if not offsets:
            del wanted[partition]
        elif error is not None:
            # A partition that ran into an error is fetched no longer and cannot be moved, only taken anew.
            self._take({number: rest[0] for number, rest in wanted.items()})
        elif offsets[0] - offset > _NEAR_RECORDS and self._jumped.get(partition) != offsets[0]:
            # Records from before the jump may still come; one jump to each place is enough.
            self._jumped[partition] = offsets[0]
            with faults("seek"):
                self._consumer.seek(TopicPartition(self._topic, partition, offsets[0]))

    def _tells_of_place(self, error: KafkaError) -> bool:
        """Whether an error says what is at a place; others pass, or are raised."""
        found = fault(f"read topic {self._topic}", error)
        if error.code() == _EOF or found.code in _NOT_THERE:
            return True
        if found.fatal or not found.retriable:
            raise found
        return False


def _pass(message: Message, place: RecordPlace, offsets: deque[int], found: dict[RecordPlace, Message]) -> None:
    """Keep a record if it is wanted, and give up what would have come before it."""
    offset = place[1]
    while offsets and offsets[0] < offset:
        offsets.popleft()
    if offsets and offsets[0] == offset:
        found[place] = message
        offsets.popleft()
