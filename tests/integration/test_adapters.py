"""The Kafka adapters against a real broker: transactions, offsets, rebalances, and what each failure looks like."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from confluent_kafka import Message
from tests.support.rig import Broker

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consumer import Committed, GroupConsumer, Partition, generation
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.adapters.producer import OffsetToCommit, TransactionalProducer
from tokenweir.core.librdkafka import PropertyValue

pytestmark = pytest.mark.integration

_numbers = itertools.count()


class Member:
    """A group's member that begins every partition where ``starts`` says, else at 0, and remembers what happened."""

    def __init__(self, starts: Mapping[Partition, int] | None = None) -> None:
        self.consumer: GroupConsumer
        self.starts = dict(starts or {})
        self.calls: list[tuple[str, list[Partition]]] = []
        self.faults: list[KafkaFault] = []
        self.ends: dict[Partition, int] = {}
        self._begun = False

    def assigned(self, partitions: list[Partition]) -> None:
        """Note it; the partitions are begun after the read."""
        self.calls.append(("assigned", sorted(partitions)))
        self._begun = False

    def revoked(self, partitions: list[Partition]) -> None:
        """Note what was revoked."""
        self.calls.append(("revoked", sorted(partitions)))

    def lost(self, partitions: list[Partition]) -> None:
        """Note what was lost."""
        self.calls.append(("lost", sorted(partitions)))

    @property
    def owned(self) -> frozenset[Partition]:
        """What the member owns."""
        return self.consumer.owned

    def read(self, max_records: int, timeout_seconds: float = 0.1) -> list[Message]:
        """Read, beginning partitions that were assigned since the last read."""
        if not self._begun and self.owned:
            self.consumer.begin({place: self.starts.get(place, 0) for place in self.owned})
            self._begun = True
        batch = self.consumer.read(max_records, timeout_seconds)
        self.faults += batch.faults
        self.ends.update(batch.ends)
        return batch.records


class Clients:
    """Clients of one test; everything is closed when the test ends."""

    def __init__(self, broker: Broker) -> None:
        self.properties: dict[str, PropertyValue] = {
            "bootstrap.servers": broker.bootstrap,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300,
        }
        self.admin = Admin(self.properties)
        self._members: list[Member] = []

    def topic(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create a topic of the test's own."""
        name = f"adapters.{next(_numbers)}.{time.monotonic_ns()}"
        self.admin.create_topic(name, partitions, 1, config)
        return name

    def producer(self, transactional_id: str) -> TransactionalProducer:
        """Give a producer that has fenced its predecessors."""
        producer = TransactionalProducer(self.properties, transactional_id)
        producer.init_transactions()
        return producer

    def member(self, topic: str, member: Member | None = None, *, partition_ends: bool = False) -> Member:
        """Give a member of the topic's group."""
        member = member or Member()
        member.consumer = GroupConsumer(
            self.properties, f"group.{topic}", "test", member, partition_ends=partition_ends
        )
        member.consumer.subscribe([topic])
        self._members.append(member)
        return member

    def write(self, topic: str, values: list[bytes], partition: int = 0) -> None:
        """Write committed records."""
        producer = self.producer(f"writer.{topic}")
        producer.begin()
        for value in values:
            producer.produce(topic, value, partition=partition)
        producer.commit()

    def close(self) -> None:
        """Leave every group."""
        for member in self._members:
            member.consumer.close()


@pytest.fixture
def clients(kafka: Broker) -> Iterator[Clients]:
    """Give the clients of one test."""
    clients = Clients(kafka)
    yield clients
    clients.close()


def _until(condition: Callable[[], object], *members: Member) -> list[Message]:
    """Let every member read until the condition holds; return the records."""
    records: list[Message] = []
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        for member in members:
            records += member.read(100)
    return records


def _values(member: Member, count: int) -> list[bytes | None]:
    """Read so many values."""
    values: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while len(values) < count:
        assert time.monotonic() < deadline, f"only {len(values)} records came"
        values += [message.value() for message in member.read(count - len(values))]
    return values


def _stable(admin: Admin, topic: str) -> Committed:
    """Ask until the broker has completed a transaction that is decided already."""
    for _ in range(200):
        try:
            return admin.committed(f"group.{topic}", topic, [0])[0]
        except UnstableOffsetsError:
            time.sleep(0.05)
    raise AssertionError("the offsets never became stable")


def test_the_generation_is_that_of_a_real_group(clients: Clients) -> None:
    """None before the group is joined, 1 at first, one more at each rebalance: the barrier relies on this layout."""
    topic = clients.topic(2)
    one = clients.member(topic)
    assert one.consumer.group_metadata() is None

    _until(lambda: one.owned, one)
    before = one.consumer.group_metadata()
    two = clients.member(topic)
    _until(lambda: len(one.owned) == len(two.owned) == 1, one, two)
    after = one.consumer.group_metadata()

    assert before is not None
    assert after is not None
    assert (generation(before), generation(after)) == (1, 2)
    assert f"group.{topic}".encode() in before


def test_a_commit_shows_records_and_offsets_with_metadata(clients: Clients) -> None:
    """Records, offsets and metadata become visible together, for the group's members and for an administrator."""
    source, target = clients.topic(), clients.topic()
    clients.write(source, [b"a", b"b"])
    member = clients.member(source)
    assert _values(member, 2) == [b"a", b"b"]
    metadata = member.consumer.group_metadata()
    assert metadata is not None

    now_ms = 1000 * int(time.time())
    producer = clients.producer(f"slot.{source}")
    producer.begin()
    producer.produce(target, b"sanitized", b"key", timestamp_ms=now_ms - 5000, headers=[("h", b"v")])
    producer.produce(target, None, b"key")
    producer.send_offsets([OffsetToCommit(source, 0, 2, "tw1;position")], metadata)
    producer.commit()

    expected = Committed(2, "tw1;position")
    assert member.consumer.committed([(source, 0)], 10) == {(source, 0): expected}
    assert _stable(clients.admin, source) == expected
    reader = clients.member(target, partition_ends=True)
    message, tombstone = _until(lambda: len(reader.ends) == 1, reader)
    assert (message.key(), message.value(), message.timestamp()[1]) == (b"key", b"sanitized", now_ms - 5000)
    assert message.headers() == [("h", b"v")]
    assert tombstone.value() is None


def test_an_aborted_record_is_never_read(clients: Clients) -> None:
    """A reader passes over an aborted transaction; the end counts it and both markers."""
    topic = clients.topic()
    producer = clients.producer(f"slot.{topic}")
    producer.begin()
    producer.produce(topic, b"aborted")
    _until(lambda: clients.admin.high_watermarks(topic, [0]) == {0: 1})
    producer.abort()
    producer.begin()
    producer.produce(topic, b"committed")
    producer.commit()
    member = clients.member(topic, partition_ends=True)

    records = _until(lambda: member.ends.get((topic, 0)) == 4, member)

    assert [message.value() for message in records] == [b"committed"]
    assert member.faults == []


def test_an_undecided_transaction_is_told_apart(clients: Clients) -> None:
    """Pending offsets are unstable, not absent, and the last stable offset stays below the high watermark."""
    source, target = clients.topic(), clients.topic()
    clients.write(source, [b"a"])
    member = clients.member(source)
    _values(member, 1)
    metadata = member.consumer.group_metadata()
    assert metadata is not None
    group = f"group.{source}"

    producer = clients.producer(f"slot.{source}")
    producer.begin()
    producer.produce(target, b"pending")
    producer.send_offsets([OffsetToCommit(source, 0, 1, "m")], metadata)
    _until(lambda: clients.admin.high_watermarks(target, [0])[0] == 1, member)

    with pytest.raises(UnstableOffsetsError) as from_admin:
        clients.admin.committed(group, source, [0])
    with pytest.raises(KafkaFault) as from_consumer:
        member.consumer.committed([(source, 0)], 1)
    assert (from_admin.value.retriable, from_consumer.value.retriable) == (True, True)
    assert clients.admin.committed(group, source, [0], require_stable=False) == {0: (None, "")}
    assert clients.admin.high_watermarks(target, [0], "read_committed") == {0: 0}

    producer.commit()
    assert _stable(clients.admin, source) == (1, "m")
    # The marker of the transaction is a record too.
    _until(lambda: clients.admin.high_watermarks(target, [0], "read_committed") == {0: 2}, member)


def test_a_successor_fences_its_predecessor(clients: Clients) -> None:
    """A second producer of the same id makes the first one fail for good and aborts what it left open."""
    topic = clients.topic()
    first = clients.producer(f"slot.{topic}")
    first.begin()
    first.produce(topic, b"zombie")
    second = clients.producer(f"slot.{topic}")
    second.begin()
    second.produce(topic, b"successor")
    second.commit()

    with pytest.raises(KafkaFault) as caught:
        first.commit()
    first.purge()

    assert (caught.value.fatal, caught.value.code) == (True, "_FENCED")
    assert _values(clients.member(topic), 1) == [b"successor"]


def test_offsets_of_an_expelled_member_are_refused(clients: Clients) -> None:
    """Group metadata from before a rebalance does not commit: the fence of the revoke barrier."""
    topic = clients.topic(2)
    one = clients.member(topic)
    _until(lambda: one.owned, one)
    stale = one.consumer.group_metadata()
    assert stale is not None
    two = clients.member(topic)
    _until(lambda: two.owned, one, two)

    producer = clients.producer(f"slot.{topic}")
    producer.begin()
    with pytest.raises(KafkaFault) as caught:
        producer.send_offsets([OffsetToCommit(topic, 0, 1, "")], stale)
    producer.abort()

    assert (caught.value.abortable, caught.value.code) == (True, "ILLEGAL_GENERATION")
    producer.begin()
    producer.commit()


def test_a_record_over_the_limit_of_librdkafka_costs_the_transaction_only(clients: Clients) -> None:
    """The record is refused at once; after the abort the producer goes on."""
    topic = clients.topic()
    producer = clients.producer(f"slot.{topic}")
    producer.begin()
    with pytest.raises(KafkaFault) as caught:
        producer.produce(topic, b"x" * 2_000_000)
    producer.abort()
    producer.begin()
    producer.produce(topic, b"fits")
    producer.commit()

    assert (caught.value.abortable, caught.value.code) == (True, "MSG_SIZE_TOO_LARGE")
    assert _values(clients.member(topic), 1) == [b"fits"]


def test_a_record_over_the_limit_of_the_broker_fails_the_commit(clients: Clients) -> None:
    """No report per record is needed: the commit fails, and a new producer of the same id goes on."""
    topic = clients.topic(config={"max.message.bytes": "2000"})
    producer = clients.producer(f"slot.{topic}")
    producer.begin()
    producer.produce(topic, b"fits")
    producer.produce(topic, b"x" * 5000)
    with pytest.raises(KafkaFault) as caught:
        producer.commit()
    producer.abort()
    producer.purge()
    successor = clients.producer(f"slot.{topic}")
    successor.begin()
    successor.produce(topic, b"successor")
    successor.commit()

    assert (caught.value.abortable, caught.value.fatal) == (True, False)
    assert _values(clients.member(topic), 1) == [b"successor"]


def test_a_missing_output_topic_fails_the_transaction(clients: Clients) -> None:
    """A topic that does not exist is not created by writing to it, and the transaction does not commit."""
    missing = f"missing.{time.monotonic_ns()}"
    producer = TransactionalProducer(
        {**clients.properties, "topic.metadata.propagation.max.ms": 500}, f"slot.{missing}"
    )
    producer.init_transactions()
    producer.begin()
    producer.produce(missing, b"lost?")
    with pytest.raises(KafkaFault) as caught:
        producer.commit()
    producer.abort()

    assert (caught.value.abortable, caught.value.fatal) == (True, False)
    assert missing not in clients.admin.topics()


def test_nothing_is_read_before_a_partition_is_begun(clients: Clients) -> None:
    """An assignment alone reads nothing, even where an offset is committed; reads keep the membership."""

    class Idle(Member):
        def read(self, max_records: int, timeout_seconds: float = 0.1) -> list[Message]:
            return self.consumer.read(max_records, timeout_seconds).records

    topic = clients.topic()
    clients.write(topic, [b"a", b"b"])
    clients.admin.set_committed(f"group.{topic}", topic, {0: (1, "kept")})
    member = clients.member(topic, Idle())

    _until(lambda: member.owned, member)
    assert member.consumer.committed([(topic, 0)], 10) == {(topic, 0): (1, "kept")}
    assert member.consumer.read(1, 1.0).records == []
    member.consumer.begin({(topic, 0): 1})
    assert _values(member, 1) == [b"b"]
    assert member.consumer.known_ends() == {(topic, 0): 3}
    assert clients.admin.committed(f"group.{topic}", topic, [0]) == {0: (1, "kept")}


def test_a_held_consumer_reads_nothing_until_it_begins_again(clients: Clients) -> None:
    """Holding forgets what was fetched ahead; beginning reads it again; the partitions stay owned."""
    topic = clients.topic()
    clients.write(topic, [b"a", b"b", b"c"])
    member = clients.member(topic)
    assert _values(member, 1) == [b"a"]

    member.consumer.hold()
    assert member.consumer.read(1, 1.0).records == []
    assert member.owned == {(topic, 0)}
    member.consumer.begin({(topic, 0): 1})

    assert _values(member, 2) == [b"b", b"c"]
    assert [name for name, _places in member.calls] == ["assigned"]


def test_a_start_below_the_log_is_reported(clients: Clients) -> None:
    """Records that were deleted before they were read are a fault, not a silent jump."""
    topic = clients.topic()
    clients.write(topic, [b"a", b"b", b"c"])
    assert clients.admin.delete_records(topic, {0: 2}) == {0: 2}
    member = clients.member(topic, Member({(topic, 0): 1}))

    records = _until(lambda: member.faults, member)

    assert [found.code for found in member.faults] == ["_AUTO_OFFSET_RESET"]
    assert records == []
    assert clients.admin.low_watermarks(topic, [0]) == {0: 2}


def test_every_partition_is_released_at_a_rebalance(clients: Clients) -> None:
    """When a member joins, the first one gives up all it has, then gets its share; no partition has two owners."""
    topic = clients.topic(4)
    one = clients.member(topic)
    _until(lambda: len(one.owned) == 4, one)
    two = clients.member(topic)
    _until(lambda: len(one.owned) == len(two.owned) == 2, one, two)

    everything = [(topic, number) for number in range(4)]
    assert one.calls[:2] == [("assigned", everything), ("revoked", everything)]
    assert sorted(one.owned | two.owned) == everything
    assert one.owned.isdisjoint(two.owned)


def test_no_record_is_lost_or_doubled_by_rebalances(clients: Clients) -> None:
    """With starts taken from a ledger of what was read, members that come see every record exactly once."""
    topic = clients.topic(4)
    for partition in range(4):
        clients.write(topic, [b"%d" % number for number in range(500)], partition)
    seen: list[tuple[int | None, bytes | None]] = []
    shared = Member()
    members = [clients.member(topic)]
    members[0].starts = shared.starts
    deadline = time.monotonic() + 60
    while len(seen) < 2000 and time.monotonic() < deadline:
        if len(members) < 4 and len(seen) >= 400 * len(members):
            members.append(clients.member(topic))
            members[-1].starts = shared.starts
        for member in members:
            for message in member.read(37, 0.05):
                shared.starts[topic, message.partition() or 0] = (message.offset() or 0) + 1
                seen.append((message.partition(), message.value()))

    assert len(members) == 4
    for partition in range(4):
        assert [value for place, value in seen if place == partition] == [b"%d" % number for number in range(500)]


def test_a_failing_callback_comes_out_of_the_read(clients: Clients) -> None:
    """What a callback raises is not swallowed, and nothing is read from what it did not accept."""

    class Failing(Member):
        def assigned(self, partitions: list[Partition]) -> None:
            super().assigned(partitions)
            raise LookupError("not accepted")

    topic = clients.topic()
    clients.write(topic, [b"a"])
    # With a committed offset librdkafka could begin without being told where.
    clients.admin.set_committed(f"group.{topic}", topic, {0: (0, "")})
    member = clients.member(topic, Failing())

    with pytest.raises(LookupError, match="not accepted"):
        _until(lambda: False, member)
    assert member.consumer.read(1, 1.0).records == []


def test_pause_seek_and_resume(clients: Clients) -> None:
    """A paused partition stays owned and silent while another goes on; a seek goes back."""
    topic = clients.topic(2)
    clients.write(topic, [b"a", b"b"])
    member = clients.member(topic)
    assert _values(member, 2) == [b"a", b"b"]

    member.consumer.pause([(topic, 0)])
    member.consumer.seek(topic, 0, 1)
    clients.write(topic, [b"other"], 1)
    assert _values(member, 1) == [b"other"]
    assert member.read(1, 0.5) == []
    member.consumer.resume([(topic, 0)])

    assert _values(member, 1) == [b"b"]


def test_what_an_administrator_sees(clients: Clients) -> None:
    """Topics, ids, permissions, configurations and groups; missing and existing topics have their own codes."""
    topic = clients.topic(3, {"cleanup.policy": "compact", "retention.ms": "1234567"})
    described = clients.admin.describe_topic(topic)
    other = clients.topic()
    clients.admin.delete_topic(other)
    _until(lambda: other not in clients.admin.topics())
    member = clients.member(topic)
    _until(lambda: member.owned, member)

    assert clients.admin.topics()[topic] == 3
    assert (described.name, described.partitions) == (topic, 3)
    assert described.topic_id not in {"", "AAAAAAAAAAAAAAAAAAAAAA"}
    assert described.operations is not None
    assert {"READ", "WRITE"} <= described.operations
    assert clients.admin.describe_topic(topic).topic_id == described.topic_id
    assert clients.admin.topic_config(topic)["cleanup.policy"] == "compact"
    assert clients.admin.topic_config(topic)["retention.ms"] == "1234567"
    assert clients.admin.groups(f"group.{topic}") == {f"group.{topic}": True}
    with pytest.raises(KafkaFault) as existing:
        clients.admin.create_topic(topic, 1, 1)
    assert existing.value.code == "TOPIC_ALREADY_EXISTS"
    with pytest.raises(KafkaFault) as missing:
        clients.admin.describe_topic(other)
    assert missing.value.code == "UNKNOWN_TOPIC_OR_PART"


def test_offsets_cannot_be_set_while_a_group_has_members(clients: Clients) -> None:
    """A running gateway's offsets are not moved from outside."""
    topic = clients.topic()
    member = clients.member(topic)
    _until(lambda: member.owned, member)

    with pytest.raises(KafkaFault) as caught:
        clients.admin.set_committed(f"group.{topic}", topic, {0: (0, "")})
    assert not caught.value.retriable
    assert clients.admin.committed(f"group.{topic}", topic, [0]) == {0: (None, "")}
    assert clients.admin.committed(f"never.{topic}", topic, [0]) == {0: (None, "")}


def test_a_producer_is_replaced_after_its_broker_crashed(broker_factory: Callable[..., Broker]) -> None:
    """Purging a producer waits for no broker; its successor aborts the open transaction and goes on."""
    broker = broker_factory()
    broker.start()
    clients = Clients(broker)
    topic = clients.topic()
    producer = clients.producer("slot")
    producer.begin()
    producer.produce(topic, b"open")
    broker.kill()
    producer.produce(topic, b"never acknowledged")

    started = time.monotonic()
    producer.purge()
    assert time.monotonic() - started < 5

    broker.start()
    successor = clients.producer("slot")
    successor.begin()
    successor.produce(topic, b"successor")
    successor.commit()
    assert _values(clients.member(topic), 1) == [b"successor"]
    clients.close()
