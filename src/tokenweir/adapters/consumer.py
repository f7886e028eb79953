"""A member of a consumer group that never commits by itself and never chooses where to begin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tokenweir.adapters.kafka_errors import KAFKA_LOGGER, KafkaFault, configuration_faults, fault, faults
from tokenweir.core.librdkafka import PropertyValue, for_consumer, text

Partition = tuple[str, int]
"""Topic and partition number."""

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's own codes begin with an underscore.

_DEFAULTS: Mapping[str, str] = {
    # Partitions that are added to a source are noticed, and waited for by the revoke barrier, within this time.
    "topic.metadata.refresh.interval.ms": "10000",
    # A killed worker's partitions move on after this, not after librdkafka's 45 s.
    "session.timeout.ms": "10000",
}

_OWNED: Mapping[str, str] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "group.protocol": "classic",
    # Eager: every rebalance releases every partition, so that no batch lives through one.
    "partition.assignment.strategy": "range",
    "allow.auto.create.topics": "false",
}

_METADATA_PREFIX = b"CGMDv2:"
_GENERATION = slice(len(_METADATA_PREFIX), len(_METADATA_PREFIX) + 4)


def generation(metadata: bytes) -> int:
    """Return the generation in serialized group metadata; below 0 means: not a member at the moment.

    librdkafka writes ``CGMDv2:``, the generation as a little-endian signed 32-bit integer, then the group id. The
    format is not public, so anything else is refused and a test compares it with a real group.

    Raises:
        KafkaFault: The bytes do not have this layout.
    """
    if not metadata.startswith(_METADATA_PREFIX) or len(metadata) < _GENERATION.stop:
        raise KafkaFault("read the group generation", "UNKNOWN_LAYOUT", "not written by this librdkafka", fatal=True)
    return int.from_bytes(metadata[_GENERATION], "little", signed=True)


class Committed(NamedTuple):
    """What a group has committed for a partition; ``offset`` is None where nothing is committed."""

    offset: int | None
    metadata: str


class RebalanceCallbacks(Protocol):
    """What the owner of a consumer does when partitions come and go; called from within :meth:`GroupConsumer.read`."""

    def assigned(self, partitions: list[Partition]) -> None:
        """Note the partitions: nothing is fetched from them before :meth:`GroupConsumer.begin`."""

    def revoked(self, partitions: list[Partition]) -> None:
        """Abort and drop whatever is under way: these partitions belong to someone else when this returns."""

    def lost(self, partitions: list[Partition]) -> None:
        """Abort and drop whatever is under way: these partitions may belong to someone else already."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read gave.

    Attributes:
        records: Records of owned partitions, in order within each partition. None of them carries an error.
        ends: Next offset of each partition whose end was reached; only with ``partition_ends``.
        faults: What librdkafka reported meanwhile; a fatal one means that the consumer must be made anew.
    """

    records: list[Message]
    ends: Mapping[Partition, int]
    faults: list[KafkaFault]


class GroupConsumer:
    """One member of a consumer group.

    Offsets are committed through a transactional producer only, so there is no commit here. Not thread-safe: one
    thread owns it, and the rebalance callbacks run in that thread. What a callback raises comes out of the read.
    """

    def __init__(
        self,
        properties: Mapping[str, PropertyValue],
        group_id: str,
        client_id: str,
        callbacks: RebalanceCallbacks,
        *,
        partition_ends: bool = False,
    ) -> None:
        """Create the client; no broker is contacted before :meth:`subscribe`.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``; those of producers are left out.
            group_id: The consumer group.
            client_id: The name in the broker's logs and quotas.
            callbacks: Told about every rebalance.
            partition_ends: Whether reads report the end of a partition.

        Raises:
            ClientConfigurationError: librdkafka refused a property.
        """
        configuration: dict[str, object] = {
            **_DEFAULTS,
            **for_consumer(properties),
            **_OWNED,
            "group.id": group_id,
            "client.id": client_id,
            "enable.partition.eof": text(partition_ends),
        }
        with configuration_faults("consumer"):
            self._consumer = Consumer(configuration, logger=KAFKA_LOGGER)
        self._callbacks = callbacks
        self._owned: frozenset[Partition] = frozenset()
        self._begun: frozenset[Partition] = frozenset()
        self._paused: set[Partition] = set()
        self._rebalanced = False

    def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for these topics; partitions come with the reads that follow."""
        with faults("subscribe"):
            self._consumer.subscribe(
                list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions that belong to this member now."""
        return self._owned

    def begin(self, starts: Mapping[Partition, int]) -> None:
        """Fetch exactly these partitions, from these offsets on; what was fetched or paused before is forgotten.

        Raises:
            ValueError: One of the partitions is not owned.
            KafkaFault: librdkafka refused.
        """
        if not starts.keys() <= self._owned:
            raise ValueError("only owned partitions can be read")
        self._assign(starts)

    def hold(self) -> None:
        """Fetch nothing and forget what was fetched; the partitions stay owned as long as reads go on."""
        self._assign({})

    def read(self, max_records: int, timeout_seconds: float) -> Batch:
        """Wait until so many records are there or the time is up, and return what there is.

        When partitions come or go during the call, what it fetched before is dropped: a record from before a
        rebalance must never count as one from after it.

        Raises:
            KafkaFault: The call itself failed.
        """
        self._rebalanced = False
        with faults("read"):
            messages = self._consumer.consume(max_records, timeout_seconds)
        records = [message for message in messages if message.error() is None]
        if len(records) == len(messages) and not self._rebalanced:
            return Batch(records, {}, [])
        found = [fault("read", error) for message in messages if (error := message.error()) and error.code() != _EOF]
        if self._rebalanced:
            return Batch([], {}, found)
        ends = {_place(message): message.offset() or 0 for message in messages if _is_end(message)}
        return Batch(records, ends, found)

    def group_metadata(self) -> bytes | None:
        """Return the metadata that a transaction needs to commit offsets, None while this is not a member.

        It must be taken before the first record of the transaction and used unchanged: it is what fences a member
        that was expelled meanwhile.

        Raises:
            KafkaFault: librdkafka gave metadata of a layout that this version does not know.
        """
        with faults("read the group metadata"):
            metadata: object = self._consumer.consumer_group_metadata()
        if not isinstance(metadata, bytes):
            raise KafkaFault("read the group metadata", "UNKNOWN_LAYOUT", fatal=True)
        return metadata if generation(metadata) >= 0 else None

    def committed(self, partitions: Iterable[Partition], timeout_seconds: float) -> dict[Partition, Committed]:
        """Return the stable committed offsets and their metadata.

        Raises:
            KafkaFault: The group's coordinator did not answer. ``_TIMED_OUT`` is also what a pending transaction
                looks like, so it never means that nothing is committed.
        """
        wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
        with faults("read committed offsets"):
            answers = self._consumer.committed(wanted, timeout_seconds)
        return committed_by_partition(answers)

    def known_ends(self) -> dict[Partition, int]:
        """Return the end of each partition being read as the last fetch told it; good for a lag, not for a proof.

        No broker is asked, and partitions that were not fetched yet are left out.
        """
        ends = {}
        for place in self._begun:
            with faults("read known ends"):
                _low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if high >= 0:
                ends[place] = high
        return ends

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on from another offset of a partition that is being read; records fetched ahead are dropped."""
        with faults("seek"):
            self._consumer.seek(TopicPartition(topic, partition, offset))

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Stop fetching from these partitions; the others go on."""
        places = list(partitions)
        with faults("pause"):
            self._consumer.pause([TopicPartition(*place) for place in places])
        self._paused.update(places)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch from these partitions again."""
        places = list(partitions)
        with faults("resume"):
            self._consumer.resume([TopicPartition(*place) for place in places])
        self._paused.difference_update(places)

    def close(self) -> None:
        """Leave the group. The revoke callback runs within."""
        with faults("leave the group"):
            self._consumer.close()

    def _assign(self, starts: Mapping[Partition, int]) -> None:
        # librdkafka keeps a pause through any assignment, even one after a rebalance: nothing would ever come again.
        self.resume(self._paused)
        with faults("take partitions"):
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        self._begun = frozenset(starts)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        places = [(partition.topic, partition.partition) for partition in partitions]
        # Without this librdkafka would begin at the committed offsets by itself.
        self._assign({})
        self._owned = frozenset(places)
        self._callbacks.assigned(places)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._release()
        self._callbacks.revoked([(partition.topic, partition.partition) for partition in partitions])

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._release()
        self._callbacks.lost([(partition.topic, partition.partition) for partition in partitions])

    def _release(self) -> None:
        self._rebalanced = True
        self._owned = self._begun = frozenset()


def committed_by_partition(answers: Iterable[TopicPartition]) -> dict[Partition, Committed]:
    """Return committed offsets by partition.

    Raises:
        UnstableOffsetsError: A transaction that sent offsets of one of the partitions is not decided.
        KafkaFault: Another error of one partition.
    """
    result = {}
    for answer in answers:
        if answer.error is not None:
            raise fault(f"read committed offsets of {answer.topic}-{answer.partition}", answer.error)
        result[answer.topic, answer.partition] = Committed(_offset_or_none(answer.offset), answer.metadata or "")
    return result


def _offset_or_none(offset: int) -> int | None:
    return offset if offset >= 0 else None


def _place(message: Message) -> Partition:
    return message.topic() or "", message.partition() or 0


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == _EOF
