"""Writes records with keys to one topic, outside of any transaction, and waits until the cluster has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from tokenweir.adapters.kafka_errors import KAFKA_LOGGER, KafkaFault, configuration_faults, fault, faults
from tokenweir.core.librdkafka import PropertyValue, for_producer

PARTITION_UA = -1
"""No partition is named: the key says which."""

DELIVERY_SECONDS = 30
"""After this time a record that is not acknowledged is given up; it may have been written nevertheless."""

_OWNED: Mapping[str, str] = {
    "enable.idempotence": "true",
    "acks": "all",
    # Equal keys go where Kafka's Java clients send them.
    "partitioner": "murmur2_random",
    "delivery.timeout.ms": str(DELIVERY_SECONDS * 1000),
    "allow.auto.create.topics": "false",
}

_POLL_SECONDS = 0.1


class Acknowledged(NamedTuple):
    """Where a record was written."""

    partition: int
    offset: int


class TopicWriter:
    """A producer for one topic. Not thread-safe. A single record of a key is under way at a time, or in order."""

    def __init__(self, properties: Mapping[str, PropertyValue], topic: str, client_id: str) -> None:
        """Create the client; no broker is contacted yet.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of consumers are left out.
            topic: The topic.
            client_id: The name in the broker's logs and quotas.

        Raises:
            ClientConfigurationError: librdkafka refused a property.
        """
        configuration: dict[str, object] = {**for_producer(properties), **_OWNED, "client.id": client_id}
        with configuration_faults("producer"):
            self._producer = Producer(configuration, logger=KAFKA_LOGGER)
        self._topic = topic
        self._fault: KafkaFault | None = None

    def write(
        self, key: bytes, value: bytes | None, *, partition: int = PARTITION_UA, timestamp_ms: int = 0
    ) -> Acknowledged:
        """Write one record and return where it is.

        Args:
            key: Its key.
            value: Its value, None for a tombstone.
            partition: Where it goes; by default where its key belongs.
            timestamp_ms: Its time in milliseconds since 1970; 0 is now.

        Raises:
            KafkaFault: It was not acknowledged.
        """
        places: list[Acknowledged] = []
        report = partial(self._reported, key, lambda _key, place: places.append(place))
        self._produce(key, value, report, partition, timestamp_ms)
        self._flush()
        return places[0]

    def write_all(
        self, records: Iterable[tuple[bytes, bytes | None]], on_acknowledged: Callable[[bytes, Acknowledged], None]
    ) -> None:
        """Write records, the next before the last is acknowledged; the records of one key stay in order.

        Raises:
            KafkaFault: One was not acknowledged. What ``on_acknowledged`` was told of is written; of the others some
                may be.
        """
        for key, value in records:
            self._produce(key, value, partial(self._reported, key, on_acknowledged))
            if self._fault is not None:
                break
        self._flush()

    def _flush(self) -> None:
        with faults("write"):
            waiting = self._producer.flush(DELIVERY_SECONDS + 5)
        if self._fault is not None:
            raise self._fault
        if waiting:
            raise KafkaFault("write", "_TIMED_OUT", f"{waiting} records are not acknowledged", retriable=True)

    def _produce(
        self,
        key: bytes,
        value: bytes | None,
        report: Callable[[KafkaError | None, Message], None],
        partition: int = PARTITION_UA,
        timestamp_ms: int = 0,
    ) -> None:
        while True:
            try:
                with faults("write"):
                    self._producer.produce(
                        self._topic, value, key, partition, on_delivery=report, timestamp=timestamp_ms
                    )
                    self._producer.poll(0)
            except BufferError:
                self._producer.poll(_POLL_SECONDS)
            else:
                return

    def _reported(
        self,
        key: bytes,
        on_acknowledged: Callable[[bytes, Acknowledged], None],
        error: KafkaError | None,
        message: Message,
    ) -> None:
        if error is not None:
            self._fault = self._fault or fault(f"write to topic {self._topic}", error)
            return
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None:
            self._fault = self._fault or KafkaFault("write", "INCOMPLETE_ANSWER", "no offset was given")
            return
        on_acknowledged(key, Acknowledged(partition, offset))
