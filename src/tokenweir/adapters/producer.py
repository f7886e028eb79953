"""A transactional producer whose every failure says whether to retry, to abort, or to begin anew."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    # When the last broker is lost, the default forgets all brokers and begins at the bootstrap servers. A call that
    # sends offsets then waits for ever for the coordinator that was forgotten (librdkafka 2.16, issue 5511).
    "metadata.recovery.strategy": "none",
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
    # A connection that is lost has to be told; see _Disturbances.
    "log.connection.close": "true",
}

_BATCH_BYTES = 1_000_000
"""librdkafka's default of ``batch.size``."""

_LOG_LEVEL = 6
"""The least level (syslog's ``info``) at which librdkafka tells of every lost connection."""

_DISTURBANCES = ("FAIL ", "REQTMOUT ")
"""How librdkafka's messages of a lost connection and of an unanswered request begin."""

EXPIRED = "TRANSACTION_EXPIRED"
"""The code of a fault that says: the broker has aborted a transaction that was open for too long."""

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


class _Disturbances:
    """Takes librdkafka's messages and passes them on; some of them are all that it says of a request that it repeats.

    The connection to a transaction's coordinator is lost without a word to an error callback (tried with 2.16).

    Attributes:
        seen: Whether a connection was lost or a request was given up.
    """

    def __init__(self) -> None:
        self.seen = False

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Do as :meth:`logging.Logger.log` does."""
        self.seen = self.seen or (message % arguments if arguments else message).startswith(_DISTURBANCES)
        KAFKA_LOGGER.log(level, message, *arguments)


class TransactionalProducer:
    """One slot's producer. Not thread-safe.

    Every method raises :class:`KafkaFault`. ``retriable``: call again. ``abortable``: :meth:`abort`, then begin
    again. ``fatal``: :meth:`purge` and create a new one.

    A broker fences a producer for two reasons that it does not tell apart: another one has taken its id, or its
    transaction has timed out (KIP-98, KIP-360), as it does when the process or the broker stood still for a while. If
    the transaction was open for that long the fault has the code :data:`EXPIRED`, and a new producer goes on.
    """

    def __init__(
        self,
        properties: Mapping[str, PropertyValue],
        transactional_id: str,
        client_id: str = "",
        *,
        max_batch_bytes: int = _BATCH_BYTES,
    ) -> None:
        """Create the client; no broker is contacted before :meth:`init_transactions`.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of consumers are left out.
            transactional_id: Stable for the slot, so that this producer fences the slot's former one.
            client_id: The name in the broker's logs and quotas; the transactional id if empty.
            max_batch_bytes: What every topic takes at once. A broker measures whole batches by a topic's
                ``max.message.bytes``, and librdkafka neither knows that limit nor tries again with smaller ones.

        Raises:
            ClientConfigurationError: librdkafka refused a property.
        """
        self._configuration: dict[str, object] = {
            **_DEFAULTS,
            **for_producer(properties),
            **_OWNED,
            "transactional.id": transactional_id,
            "client.id": client_id or transactional_id,
            "batch.size": str(min(int(properties.get("batch.size", _BATCH_BYTES)), max_batch_bytes)),
            "log_level": max(_LOG_LEVEL, int(properties.get("log_level", _LOG_LEVEL))),
        }
        self._disturbances = _Disturbances()
        self._producer = self._new_client()
        self._begun_seconds = 0.0

    def init_transactions(self, timeout_seconds: float = 60) -> None:
        """Fence the former producer of this id and wait until its transaction is decided."""
        with transaction_faults("initialize transactions"):
            self._producer.init_transactions(timeout_seconds)
        # What is under way from before carries another epoch.
        self._serve()
        self._disturbances.seen = False

    def begin(self) -> None:
        """Begin a transaction, with a new client if a connection was lost since the last one began.

        librdkafka repeats a request whose answer does not come, and tells nobody. Of two requests to end the last
        transaction the first may be late, and would then end this one in its midst: with records and without offsets,
        or the other way round (tried with librdkafka 2.16 and Kafka 4.1; KIP-890, librdkafka issue 5423). The same
        goes for offsets that are sent twice. A new client has a new epoch, and the broker refuses the old one's.
        """
        self._serve()
        if self._disturbances.seen:
            self.purge()
            self._producer = self._new_client()
            self.init_transactions()
        self._begun_seconds = _seconds_awake_or_not()
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
                with self._faults("produce"):
                    self._producer.poll(0.01)
            except KafkaException as error:
                raise self._expired(_produce_fault(error_of(error))) from None
            else:
                return

    def produce_all(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        headers: Mapping[int, Sequence[tuple[str, bytes | None]]],
    ) -> None:
        """Add records to the transaction in their order, as :meth:`produce` does; the key of each decides where to.

        Args:
            topic: Where to.
            values: The payload of each, None for a tombstone.
            keys: The key of each, None for none.
            timestamps_ms: Of each, in milliseconds since 1970.
            headers: Names and values, by the place of their record; a header without a value is left out.
        """
        produce = self._producer.produce
        for place, (value, key, timestamp_ms) in enumerate(zip(values, keys, timestamps_ms, strict=True)):
            try:
                if place in headers:
                    given = [(name, header) for name, header in headers[place] if header is not None]
                    self.produce(topic, value, key, timestamp_ms=timestamp_ms, headers=given)
                else:
                    # Positions cost the client half of what names do; those that are None are callbacks.
                    produce(topic, value, key, -1, None, None, timestamp_ms)
            except (BufferError, KafkaException):
                # It was not taken: the same record again, before the next, by the way that waits and tells of faults.
                self.produce(topic, value, key, timestamp_ms=timestamp_ms)

    def send_offsets(self, offsets: Iterable[OffsetToCommit], group_metadata: bytes) -> None:
        """Add the consumer group's offsets to the transaction.

        Args:
            offsets: All partitions that the member owns.
            group_metadata: What :meth:`GroupConsumer.group_metadata` gave before the first record was read.
        """
        positions = [TopicPartition(topic, partition, offset, text) for topic, partition, offset, text in offsets]
        with self._faults("send offsets"):
            self._producer.send_offsets_to_transaction(positions, group_metadata, _NO_LIMIT_SECONDS)

    def commit(self) -> None:
        """Flush and commit. Blocks until it is decided, for as long as the broker takes."""
        with self._faults("commit"):
            self._producer.commit_transaction(_NO_LIMIT_SECONDS)
        self._serve()

    def abort(self) -> None:
        """Abort the transaction and drop its records. Blocks until it is decided.

        After a broker refused a record, the next transaction may fail too, with ``OUT_OF_ORDER_SEQUENCE_NUMBER``:
        the number of the refused record was used up. A new producer has no such memory.
        """
        with self._faults("abort"):
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

    @contextmanager
    def _faults(self, operation: str) -> Iterator[None]:
        """Turn foreign exceptions of a call within a transaction into :class:`KafkaFault`."""
        try:
            with transaction_faults(operation):
                yield
        except KafkaFault as found:
            raise self._expired(found) from found.__cause__

    def _expired(self, found: KafkaFault) -> KafkaFault:
        """Return the fault, or the one that it means for a transaction which the broker has ended by itself."""
        open_seconds = _seconds_awake_or_not() - self._begun_seconds
        if not found.fenced or open_seconds < TRANSACTION_TIMEOUT_MS / 1000:
            return found
        return KafkaFault(found.operation, EXPIRED, f"{found.code} after {open_seconds:.0f} s", fatal=True)

    def _new_client(self) -> Producer:
        with configuration_faults("producer"):
            return Producer(self._configuration, logger=self._disturbances)

    def _serve(self) -> None:
        """Let librdkafka hand over its log messages and what has disturbed it.

        A poll also raises what made the producer unusable. The next call says so as well; here it would turn a
        commit that succeeded into a failure.
        """
        with suppress(KafkaException):
            self._producer.poll(0)


def _seconds_awake_or_not() -> float:
    """Return a reading of a clock that also runs while the machine is suspended, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _produce_fault(error: KafkaError) -> KafkaFault:
    if error.code() in _ABORTABLE_AT_PRODUCE:
        return KafkaFault("produce", error.name(), error.str(), abortable=True)
    return transaction_fault("produce", error)
