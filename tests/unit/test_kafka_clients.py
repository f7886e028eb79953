"""What the Kafka adapters promise without a broker: classes of failure, quiet clients, no secret in an error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consumer import GroupConsumer, Partition, committed_by_partition, generation
from tokenweir.adapters.kafka_errors import (
    ClientConfigurationError,
    KafkaFault,
    UnstableOffsetsError,
    faults,
    transaction_faults,
)
from tokenweir.adapters.mockcluster import MockCluster
from tokenweir.adapters.producer import TransactionalProducer

# A port of the loopback address where nothing listens.
_NOBODY: Mapping[str, str] = {"bootstrap.servers": "127.0.0.1:1", "reconnect.backoff.max.ms": "100"}


class _Silent:
    """Rebalance callbacks that do nothing."""

    def assigned(self, partitions: list[Partition]) -> None:
        del partitions

    def revoked(self, partitions: list[Partition]) -> None:
        del partitions

    def lost(self, partitions: list[Partition]) -> None:
        del partitions


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (b"CGMDv2:\x01\x00\x00\x00group\x00member\x00\x00", 1),
        (b"CGMDv2:\x00\x01\x00\x00group\x00", 256),
        (b"CGMDv2:\xff\xff\xff\xffgroup\x00", -1),
    ],
)
def test_the_generation_is_a_signed_little_endian_number(metadata: bytes, expected: int) -> None:
    """Bytes 7 to 10 are the generation."""
    assert generation(metadata) == expected


@pytest.mark.parametrize("metadata", [b"", b"CGMDv1:\x01\x00\x00\x00", b"CGMDv3:\x01\x00\x00\x00", b"CGMDv2:\x01\x00"])
def test_an_unknown_layout_is_refused(metadata: bytes) -> None:
    """Metadata of another librdkafka is a fatal fault, never a guess."""
    with pytest.raises(KafkaFault) as caught:
        generation(metadata)
    assert caught.value.fatal


@pytest.mark.parametrize(
    ("error", "flags"),
    [
        (KafkaError(KafkaError._TIMED_OUT, "x", retriable=True), (True, False, False)),
        (KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "x", txn_requires_abort=True), (False, True, False)),
        (KafkaError(KafkaError._FENCED, "x", fatal=True), (False, False, True)),
        # Seen after an abort that only seemed to succeed: no flag at all.
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "x"), (False, False, True)),
    ],
)
def test_transactional_errors_have_one_consequence(error: KafkaError, flags: tuple[bool, bool, bool]) -> None:
    """Retry, abort or begin anew; an error without a flag begins anew."""
    with pytest.raises(KafkaFault) as caught, transaction_faults("commit"):
        raise KafkaException(error)
    assert (caught.value.retriable, caught.value.abortable, caught.value.fatal) == flags
    assert caught.value.code == error.name()


@pytest.mark.parametrize(
    ("code", "retriable"),
    [(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, True), (KafkaError.TOPIC_AUTHORIZATION_FAILED, False)],
)
def test_other_errors_are_retriable_by_their_code(code: int, retriable: bool) -> None:  # noqa: FBT001 - a table.
    """Errors without flags are told apart by what may pass by itself."""
    with pytest.raises(KafkaFault) as caught, faults("ask"):
        raise KafkaException(KafkaError(code))
    assert (caught.value.retriable, caught.value.fatal) == (retriable, False)


def test_one_undecided_partition_makes_the_answer_unstable() -> None:
    """An undecided offset is an error of its own type and never read as an absent offset."""
    decided = TopicPartition("t", 0, 5)
    # The library lets nobody else set an error.
    undecided = SimpleNamespace(topic="t", partition=1, error=KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))

    assert committed_by_partition([decided, TopicPartition("t", 1)]) == {("t", 0): (5, ""), ("t", 1): (None, "")}
    with pytest.raises(UnstableOffsetsError) as caught:
        committed_by_partition(cast("list[TopicPartition]", [decided, undecided]))
    assert caught.value.retriable


@pytest.mark.parametrize(
    "properties", [{"compression.type": "canary-4711"}, {"ssl.key.pem": "canary-4711", "security.protocol": "ssl"}]
)
def test_a_refused_property_is_named_without_its_value(properties: dict[str, str]) -> None:
    """The value of a property may be a secret, so an error never quotes it."""
    with pytest.raises(ClientConfigurationError) as caught:
        TransactionalProducer({**_NOBODY, **properties}, "id")
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_refused_property_is_named() -> None:
    """The operator learns which property it is."""
    with pytest.raises(ClientConfigurationError, match=r"property security\.protocol"):
        TransactionalProducer({**_NOBODY, "security.protocol": "canary"}, "id")


def test_an_unknown_property_stops_every_client() -> None:
    """A misspelt property is refused, not ignored."""
    wrong = {**_NOBODY, "sasl.pasword": "canary"}
    with pytest.raises(ClientConfigurationError):
        GroupConsumer(wrong, "group", "client", _Silent())
    with pytest.raises(ClientConfigurationError):
        Admin(wrong)


def test_clients_speak_to_the_logger_only(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is not there is a log record and a typed fault; nothing is printed."""
    with caplog.at_level(logging.DEBUG, "tokenweir.kafka"):
        admin = Admin(_NOBODY, timeout_seconds=0.5)
        consumer = GroupConsumer(_NOBODY, "group", "client", _Silent())
        producer = TransactionalProducer(_NOBODY, "id")
        with pytest.raises(KafkaFault, match="list topics") as from_admin:
            admin.topics()
        with pytest.raises(KafkaFault) as from_producer:
            producer.init_transactions(0.5)
        consumer.subscribe(["topic"])
        batch = consumer.read(10, 0.5)
        consumer.close()
        producer.purge()

    assert (from_admin.value.retriable, from_producer.value.retriable) == (True, True)
    assert batch.records == []
    assert consumer.owned == frozenset()
    assert capfd.readouterr() == ("", "")
    assert any("127.0.0.1:1" in record.getMessage() for record in caplog.records)


def test_only_owned_partitions_can_be_read() -> None:
    """A partition that the group did not give is never read."""
    consumer = GroupConsumer(_NOBODY, "group", "client", _Silent())

    with pytest.raises(ValueError, match="only owned partitions"):
        consumer.begin({("topic", 0): 0})


class _FullQueue:
    """Stands in for a librdkafka producer whose queue is full for a while."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[bytes] = []
        self.polls = 0

    def produce(self, _topic: str, value: bytes, *_: Any, **__: Any) -> None:  # noqa: ANN401 - a stand-in.
        if self.refusals > 0:
            self.refusals -= 1
            raise BufferError
        self.taken.append(value)

    def poll(self, _timeout: float) -> int:
        self.polls += 1
        return 0


@pytest.mark.parametrize(("wanted", "expected"), [(None, "20000"), ("5000", "5000"), ("900000", "20000")])
def test_batches_are_no_larger_than_every_topic_takes(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, expected: str
) -> None:
    """Smaller ones are the user's choice."""
    made: list[dict[str, object]] = []
    monkeypatch.setattr("tokenweir.adapters.producer.Producer", lambda configuration, **_: made.append(configuration))
    properties = _NOBODY if wanted is None else {**_NOBODY, "batch.size": wanted}
    TransactionalProducer(properties, "id", max_batch_bytes=20_000)
    assert made[0]["batch.size"] == expected


def test_a_full_queue_keeps_the_order_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record that was refused is taken before the one that follows it."""
    producer = TransactionalProducer(_NOBODY, "id")
    queue = _FullQueue(refusals=3)
    monkeypatch.setattr(producer, "_producer", queue)

    for value in (b"first", b"second"):
        producer.produce("topic", value)

    assert queue.taken == [b"first", b"second"]
    assert queue.polls == 3


def test_a_full_queue_keeps_the_order_of_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record that was refused comes again before the next one, with its headers, wherever it stands."""
    values = [b"first", b"second", b"third"]
    headers = [("h", b"v"), ("without a value", None)]
    choices: list[dict[int, list[tuple[str, bytes | None]]]] = [{}, {0: headers}, {1: headers, 2: headers}]
    for kept in choices:
        producer = TransactionalProducer(_NOBODY, "id")
        queue = _FullQueue(refusals=2)
        monkeypatch.setattr(producer, "_producer", queue)
        producer.produce_all("topic", values, [b"k", None, b"k"], [1, 2, 3], kept)
        assert queue.taken == values


def test_each_record_arrives_with_what_is_its_own() -> None:
    """Value, key, timestamp and headers, by a client that a broker speaks with: they are given by their position."""
    cluster = MockCluster()
    cluster.create_topics(["out"])
    producer = TransactionalProducer({"bootstrap.servers": cluster.bootstrap_servers}, "id")
    producer.init_transactions()
    producer.begin()
    kept: dict[int, list[tuple[str, bytes | None]]] = {1: [("h", b"v"), ("h", b"w"), ("without a value", None)]}
    producer.produce_all("out", [b"one", b"two", None], [b"k", b"k", b"k"], [1_700_000_000_001, 5, 7], kept)
    producer.commit()
    producer.purge()
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g"})
    count = len(consumer.list_topics("out", timeout=10).topics["out"].partitions)
    consumer.assign([TopicPartition("out", number, 0) for number in range(count)])
    found = [message for message in consumer.consume(3, 30) if message.error() is None]
    consumer.close()
    assert [(entry.value(), entry.key(), entry.timestamp()[1], entry.headers()) for entry in found] == [
        (b"one", b"k", 1_700_000_000_001, None),
        (b"two", b"k", 5, [("h", b"v"), ("h", b"w")]),
        (None, b"k", 7, None),
    ]


def test_a_queue_that_stays_full_is_abortable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for room ends with the transaction's own time limit."""
    producer = TransactionalProducer(_NOBODY, "id")
    monkeypatch.setattr(producer, "_producer", _FullQueue(refusals=10))
    times = iter([100.0, 114.0, 115.1])
    monkeypatch.setattr("tokenweir.adapters.producer.time.monotonic", lambda: next(times))

    with pytest.raises(KafkaFault) as caught:
        producer.produce("topic", b"value")
    assert (caught.value.code, caught.value.abortable) == ("_QUEUE_FULL", True)


@pytest.mark.parametrize(
    ("code", "abortable"),
    [(KafkaError.MSG_SIZE_TOO_LARGE, True), (KafkaError._STATE, True), (KafkaError._FATAL, False)],
)
def test_a_refused_record_aborts_or_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    abortable: bool,  # noqa: FBT001 - a table.
) -> None:
    """A record that librdkafka refuses costs the transaction; an unknown refusal costs the producer."""

    def refuse(*_: object, **__: object) -> None:
        raise KafkaException(KafkaError(code))

    producer = TransactionalProducer(_NOBODY, "id")
    queue = _FullQueue(refusals=0)
    monkeypatch.setattr(queue, "produce", refuse)
    monkeypatch.setattr(producer, "_producer", queue)

    with pytest.raises(KafkaFault) as caught:
        producer.produce("topic", b"value")
    assert (caught.value.abortable, caught.value.fatal) == (abortable, not abortable)
