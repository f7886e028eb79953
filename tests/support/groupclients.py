"""The clients of the model of a cluster: what librdkafka's consumer, producer and administrator do there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, TopicPartition
from tests.support.groupmodel import (
    CONSENT,
    GROUP,
    OUTPUT,
    SOURCE,
    Cluster,
    Message,
    Sanitized,
    Transaction,
    client_of,
    kafka_exception,
)

from tokenweir.adapters import consumer as consumer_module
from tokenweir.adapters import producer as producer_module
from tokenweir.adapters.admin import Isolation, Member, TopicDescription
from tokenweir.adapters.consumer import Committed, Partition
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError


class ConsumerModel:
    """What librdkafka's consumer does with eager rebalances: they are served in calls of consume."""

    def __init__(self, cluster: Cluster, configuration: Mapping[str, Any], **_: object) -> None:
        self._cluster = cluster
        self._client = str(configuration["client.id"])
        self._stable = configuration["isolation.level"] == "read_committed"
        self._joins = 0
        self._member = ""
        self._generation = -1
        self._fetched: dict[Partition, int] = {}
        self._given: frozenset[Partition] = frozenset()

    def subscribe(self, _topics: Sequence[str], **callbacks: Callable[..., None]) -> None:
        """Remember whom to tell."""
        self._callbacks = callbacks

    def consume(self, limit: int, _timeout: float) -> list[Message]:
        """Serve what the group wants, and fetch."""
        self._cluster.passage(self._client, "consume")
        found: list[Message] = []
        for partition, at in self._fetched.items():
            fetched = self._cluster.records[partition][at : at + limit - len(found)]
            found += fetched
            self._fetched[partition] = at + len(fetched)
        self._cluster.passage(self._client, "fetched")
        # A rebalance may be served after records were fetched: they are returned nevertheless.
        self._serve()
        return found

    def _serve(self) -> None:
        cluster = self._cluster
        if self._member and self._member not in cluster.members:
            # The coordinator's answer to a heartbeat.
            self._member, self._generation = "", -1
            self._tell("on_lost")
        if not self._member:
            self._joins += 1
            self._member = f"{self._client}/{self._joins}"
            cluster.join(self._member)
        elif cluster.rejoined is not None and self._member not in cluster.rejoined:
            self._tell("on_revoke")
            cluster.rejoin(self._member)
        if cluster.rejoined is None and self._generation != cluster.generation:
            self._generation = cluster.generation
            self._given = cluster.members[self._member]
            self._tell("on_assign")

    def _tell(self, callback: str) -> None:
        self._fetched = {}
        self._callbacks[callback](self, [TopicPartition(*partition) for partition in sorted(self._given)])
        if callback != "on_assign":
            self._given = frozenset()

    def assign(self, starts: Sequence[TopicPartition]) -> None:
        """Fetch from these places."""
        self._fetched = {(start.topic, start.partition): start.offset for start in starts}

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Nothing is ever paused: every schema is known."""
        assert not places

    def consumer_group_metadata(self) -> bytes:
        """Return the generation as librdkafka writes it."""
        self._cluster.passage(self._client, "metadata")
        expelled = self._member not in self._cluster.members
        member, generation = ("", -1) if expelled else (self._member, self._generation)
        return b"CGMDv2:" + struct.pack("<i", generation) + f"{GROUP}\0{member}\0".encode()

    def committed(self, partitions: Sequence[TopicPartition], _timeout: float) -> list[TopicPartition]:
        """Return stable offsets; while one is not, the time is up."""
        self._cluster.passage(self._client, "read offsets")
        places = [(partition.topic, partition.partition) for partition in partitions]
        if self._stable and any(self._cluster.undecided(place) for place in places):
            raise kafka_exception(KafkaError._TIMED_OUT)
        return [TopicPartition(*place, *self._cluster.committed.get(place, (-1001, ""))) for place in places]

    def get_watermark_offsets(self, _place: TopicPartition, **_: object) -> tuple[int, int]:
        """Return nothing known."""
        return -1001, -1001

    def close(self) -> None:
        """Leave the group."""
        self._cluster.members.pop(self._member, None)


class ProducerModel:
    """What librdkafka's transactional producer does: the next one of the same id fences it."""

    def __init__(self, cluster: Cluster, configuration: Mapping[str, Any], **_: object) -> None:
        self._cluster = cluster
        self._id = str(configuration["transactional.id"])
        self._transaction = Transaction(self._id)

    def init_transactions(self, _timeout: float) -> None:
        """Abort what the former one left open."""
        self._cluster.expire(self._id)

    def begin_transaction(self) -> None:
        """Begin."""
        self._cluster.passage(self._id, "begin")
        self._transaction = self._cluster.transactions[self._id] = Transaction(self._id)

    def produce(self, _topic: str, source: Partition, offset: int, decided: tuple[int, ...]) -> None:
        """Write a record of the output at once; that the broker refused it is told later."""
        if self._transaction.committed is None:
            self._cluster.output.append(Sanitized(self._transaction, source, offset, decided))
        self._cluster.passage(self._id, "produced")

    def send_offsets_to_transaction(self, offsets: Sequence[TopicPartition], metadata: bytes, _timeout: float) -> None:
        """Send the offsets."""
        self._cluster.passage(self._id, "send offsets")
        self._open()
        generation = int.from_bytes(metadata[7:11], "little", signed=True)
        member = metadata[11:].split(b"\0")[1].decode()
        sent = {(each.topic, each.partition): (each.offset, each.metadata or "") for each in offsets}
        self._cluster.send_offsets(self._transaction, sent, member, generation)
        self._cluster.passage(self._id, "offsets sent")

    def commit_transaction(self, _timeout: float) -> None:
        """Commit; the markers arrive before this returns."""
        self._cluster.passage(self._id, "commit")
        self._open()
        self._cluster.end(self._transaction, committed=True)
        self._cluster.passage(self._id, "ended")
        self._cluster.mark(self._transaction)
        self._cluster.passage(self._id, "marked")

    def abort_transaction(self, _timeout: float) -> None:
        """Abort."""
        self._cluster.expire(self._id)

    def _open(self) -> None:
        """Refuse what the broker would: the time of the transaction is up, and the epoch has moved on."""
        if self._transaction.committed is not None:
            raise kafka_exception(KafkaError.INVALID_PRODUCER_EPOCH, abortable=True)

    def poll(self, _timeout: float) -> None:
        """Serve nothing."""

    def purge(self, **_: object) -> None:
        """Forget nothing: what was produced is written."""


class Questions:
    """The administrator's client of a worker, of the barrier or of a tool."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._cluster, self._client = cluster, client

    def describe_topic(self, name: str) -> TopicDescription:
        """Id and partitions."""
        self._cluster.passage(self._client, f"describe {name}")
        partitions = {SOURCE: len(self._cluster.records), CONSENT: len(self._cluster.consent), OUTPUT: 1}[name]
        return TopicDescription(name, self._cluster.topic_id, partitions, None)

    def groups(self, prefix: str = "") -> dict[str, bool]:
        """The one group."""
        return {GROUP: bool(self._cluster.members)} if GROUP.startswith(prefix) else {}

    def members(self, _group: str) -> tuple[Member, ...]:
        """Its members."""
        return tuple(Member(client_of(member), "/h", given) for member, given in self._cluster.members.items())

    def committed_topics(self, _group: str) -> set[str]:
        """The source."""
        return {topic for topic, _ in self._cluster.committed}

    def committed_each(
        self, _group: str, topic: str, partitions: Iterable[int]
    ) -> Mapping[int, Committed | KafkaFault]:
        """Stable offsets."""
        self._cluster.passage(self._client, "committed")
        return {number: self._committed((topic, number)) for number in partitions}

    def _committed(self, partition: Partition) -> Committed | KafkaFault:
        if self._cluster.undecided(partition):
            return UnstableOffsetsError("read committed offsets", "UNSTABLE_OFFSET_COMMIT", retriable=True)
        offset, metadata = self._cluster.committed.get(partition, (None, ""))
        return Committed(offset, metadata)

    def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        """Stable offsets, all or none."""
        answers = self.committed_each(group, topic, partitions)
        for answer in answers.values():
            if isinstance(answer, KafkaFault):
                raise answer
        return cast("dict[int, Committed]", dict(answers))

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Nothing was ever deleted."""
        return dict.fromkeys(partitions, 0)

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Ends of consent, source and output."""
        self._cluster.passage(self._client, f"{isolation} {topic}")
        if topic == SOURCE:
            return {number: len(self._cluster.records[SOURCE, number]) for number in partitions}
        if topic == CONSENT:
            return {number: self._cluster.consent[number] for number in partitions}
        end = len(self._cluster.output) if isolation == "read_uncommitted" else self._cluster.last_stable_offset
        return dict.fromkeys(partitions, end)


class Tool(Questions):
    """The administrator's client of a tool, which writes as well."""

    def set_committed(self, _group: str, topic: str, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Set offsets and metadata, whatever stands there."""
        self._cluster.set_committed({(topic, number): stored for number, stored in offsets.items()})


def use_models(monkeypatch: pytest.MonkeyPatch, cluster: Callable[[], Cluster]) -> None:
    """Let the product's clients stand on the model instead of on librdkafka."""
    consumer = lambda *given, **named: ConsumerModel(cluster(), *given, **named)  # noqa: E731 - one line each.
    producer = lambda *given, **named: ProducerModel(cluster(), *given, **named)  # noqa: E731 - as above.
    monkeypatch.setattr(consumer_module, "Consumer", consumer)
    monkeypatch.setattr(producer_module, "Producer", producer)
