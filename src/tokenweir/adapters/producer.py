"""A transactional producer whose every failure says whether to retry, to abort, or to begin anew."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from tokenweir.adapters.kafka_errors import (
    KAFKA_LOGGER,
    KafkaFault,
    configuration_faults,
    error_of,
    transaction_fault,
    transaction_faults,
)
from tokenweir.core.librdkafka import PropertyValue, for_producer

TRANSACTION_TIMEOUT_MS = 15_000
"""After this time the broker aborts a transaction whose producer is silent."""

_NO_LIMIT_SECONDS = -1
"""Commit and abort wait until they are decided: giving up leaves librdkafka and the broker of two minds."""

_DEFAULTS: Mapping[str, str] = {
    # A broker refuses the next transaction while it completes the last; the default back-off of 100 ms would then
    # be the whole cost of a transaction.
    "retry.backoff.ms": "5",
    "retry.backoff.max.ms": "1000",
    "linger.ms": "2",
}

_OWNED: Mapping[str, str | bool] = {
    "enable.idempotence": "true",
    "acks": "all",
    # Equal keys go where Kafka's Java clients send them.
    "partitioner": "murmur2_random",
    "transaction.timeout.ms": str(TRANSACTION_TIMEOUT_MS),
    "allow.auto.create.topics": "false",
    # A commit reports the failure of any record, so no report per record is needed. Here the client wants a bool.
    "delivery.report.only.error": True,
}

_ABORTABLE_AT_PRODUCE = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - librdkafka's own codes begin with an underscore.
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - as above.
        # The transaction has failed already; aborting it tells whether the producer survives.
        KafkaError._STATE,  # noqa: SLF001 - as above.
    }
)


class OffsetToCommit(NamedTuple):
    """The next offset to read of a partition, with the metadata that is stored beside it."""

    topic: str
    partition: int
    offset: int
    metadata: str


class TransactionalProducer:
    """One slot's producer. Not thread-safe.

    Every method raises :class:`KafkaFault`. ``retriable``: call again. ``abortable``: :meth:`abort`, then begin
    again. ``fatal``: :meth:`purge` and create a new one.
    """

    def __init__(self, properties: Mapping[str, PropertyValue], transactional_id: str, client_id: str = "") -> None:
        """Create the client; no broker is contacted before :meth:`init_transactions`.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of consumers are left out.
            transactional_id: Stable for the slot, so that this producer fences the slot's former one.
            client_id: The name in the broker's logs and quotas; the transactional id if empty.

        Raises:
            ClientConfigurationError: librdkafka refused a property.
        """
        configuration: dict[str, object] = {
            **_DEFAULTS,
            **for_producer(properties),
            **_OWNED,
            "transactional.id": transactional_id,
            "client.id": client_id or transactional_id,
        }
        with configuration_faults("producer"):
            self._producer = Producer(configuration, logger=KAFKA_LOGGER)

    def init_transactions(self, timeout_seconds: float = 60) -> None:
        """Fence the former producer of this id and wait until its transaction is decided."""
        with transaction_faults("initialize transactions"):
            self._producer.init_transactions(timeout_seconds)

    def begin(self) -> None:
        """Begin a transaction."""
        with transaction_faults("begin a transaction"):
            self._producer.begin_transaction()

    def produce(  # noqa: PLR0913 - the parts of a Kafka record.
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        partition: int = -1,
        timestamp_ms: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Add a record to the transaction; whether it arrives is known at the commit.

        While librdkafka's queue is full this waits, so that the order of records is kept.

        Args:
            topic: Where to.
            value: The payload, None for a tombstone.
            key: The key, None for none.
            partition: -1 lets the key decide.
            timestamp_ms: Milliseconds since 1970; 0 lets librdkafka take the time.
            headers: Names and values.
        """
        deadline_seconds = 0.0
        while True:
            try:
                if headers:
                    self._producer.produce(topic, value, key, partition, timestamp=timestamp_ms, headers=list(headers))
                else:
                    self._producer.produce(topic, value, key, partition, timestamp=timestamp_ms)
            except BufferError:
                now_seconds = time.monotonic()
                deadline_seconds = deadline_seconds or now_seconds + TRANSACTION_TIMEOUT_MS / 1000
                if now_seconds > deadline_seconds:
                    raise KafkaFault("produce", "_QUEUE_FULL", "nothing is taken", abortable=True) from None
                with transaction_faults("produce"):
                    self._producer.poll(0.01)
            except KafkaException as error:
                raise _produce_fault(error_of(error)) from None
            else:
                return

    def send_offsets(self, offsets: Iterable[OffsetToCommit], group_metadata: bytes) -> None:
        """Add the consumer group's offsets to the transaction.

        Args:
            offsets: All partitions that the member owns.
            group_metadata: What :meth:`GroupConsumer.group_metadata` gave before the first record was read.
        """
        positions = [TopicPartition(topic, partition, offset, text) for topic, partition, offset, text in offsets]
        with transaction_faults("send offsets"):
            self._producer.send_offsets_to_transaction(positions, group_metadata, _NO_LIMIT_SECONDS)

    def commit(self) -> None:
        """Flush and commit. Blocks until it is decided, for as long as the broker takes."""
        with transaction_faults("commit"):
            self._producer.commit_transaction(_NO_LIMIT_SECONDS)
        self._serve()

    def abort(self) -> None:
        """Abort the transaction and drop its records. Blocks until it is decided.

        After a broker refused a record, the next transaction may fail too, with ``OUT_OF_ORDER_SEQUENCE_NUMBER``:
        the number of the refused record was used up. A new producer has no such memory.
        """
        with transaction_faults("abort"):
            self._producer.abort_transaction(_NO_LIMIT_SECONDS)
        self._serve()

    def purge(self) -> None:
        """Drop every record that is not acknowledged and end the client at once, without waiting for a broker.

        The next producer of the same id fences this one and aborts what it left open. Nothing else may be called
        after this.
        """
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._serve()
        del self._producer

    def _serve(self) -> None:
        """Let librdkafka hand over its log messages.

        A poll also raises what made the producer unusable. The next call says so as well; here it would turn a
        commit that succeeded into a failure.
        """
        with suppress(KafkaException):
            self._producer.poll(0)


def _produce_fault(error: KafkaError) -> KafkaFault:
    if error.code() in _ABORTABLE_AT_PRODUCE:
        return KafkaFault("produce", error.name(), error.str(), abortable=True)
    return transaction_fault("produce", error)
