"""What every consumer group of a gateway has committed, partition by partition, and which worker reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tokenweir.adapters.admin import Isolation, Member, TopicDescription
from tokenweir.adapters.consumer import Committed, Partition
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.position import ConsentPosition


class Questions(Protocol):
    """What is asked of a cluster: a part of :class:`tokenweir.adapters.admin.Admin`. All may raise KafkaFault."""

    def describe_topic(self, name: str) -> TopicDescription:
        """Return id and partitions of a topic as its cluster knows them now."""

    def groups(self, prefix: str = "") -> dict[str, bool]:
        """Return the groups whose name begins with a prefix."""

    def members(self, group: str) -> tuple[Member, ...]:
        """Return the members of a group, none where it is empty or does not exist."""

    def committed_topics(self, group: str) -> set[str]:
        """Return the topics of which a group has committed any offset."""

    def committed_each(self, group: str, topic: str, partitions: Iterable[int]) -> Mapping[int, Committed | KafkaFault]:
        """Return what a group has stably committed for exactly these partitions, or what is wrong with each."""

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Return the high watermarks, or with ``read_committed`` the last stable offsets."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A stream of the policy: its group reads the source and writes the outputs."""

    stream: str
    group: str
    source: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionReading:
    """What a group has stably committed for one source partition.

    Attributes:
        topic: The source topic.
        partition: The number of the partition.
        worker: Who has been given the partition, "" where that is nobody or not known.
        committed: Offset and metadata, or why they cannot be read.
        position: The consent position in the metadata; None where there is none that this project wrote.
        read_at_ms: When the broker had answered.
    """

    topic: str
    partition: int
    worker: str
    committed: Committed | KafkaFault
    position: ConsentPosition | None
    read_at_ms: int

    @property
    def committed_offset(self) -> int | None:
        """The offset, None where there is none or it cannot be read."""
        return None if isinstance(self.committed, KafkaFault) else self.committed.offset

    @property
    def fault(self) -> KafkaFault | None:
        """Why it cannot be read."""
        return self.committed if isinstance(self.committed, KafkaFault) else None


@dataclass(frozen=True, slots=True)
class GroupReading:
    """What is known of one group.

    Attributes:
        group: Its name.
        stream: The stream of the policy that it belongs to, None where it belongs to none.
        exists: Whether the broker knows it.
        members: How many members it has.
        partitions: Every partition of every topic that it reads or has read.
        fault: Why that is not known; ``partitions`` is not complete then.
    """

    group: str
    stream: str | None
    exists: bool = True
    members: int = 0
    partitions: tuple[PartitionReading, ...] = ()
    fault: KafkaFault | None = None


def read_groups(questions: Questions, flows: Sequence[Flow], group_prefix: str, clock: Clock) -> list[GroupReading]:
    """Read all groups of the policy's streams, and every other one under the prefix.

    A group whose stream is no longer in the policy is read like the others: its workers may still run. The topics of a
    group are its stream's source, those that it has offsets of, and those that its members have been given.

    Raises:
        KafkaFault: The groups cannot be listed.
    """
    by_group = {flow.group: flow for flow in flows}
    existing = questions.groups(f"{group_prefix}.")
    missing = [GroupReading(flow.group, flow.stream, exists=False) for flow in flows if flow.group not in existing]
    found = [_read_group(questions, group, by_group.get(group), clock) for group in sorted(existing)]
    return missing + found


def _read_group(questions: Questions, group: str, flow: Flow | None, clock: Clock) -> GroupReading:
    stream = None if flow is None else flow.stream
    try:
        members = questions.members(group)
        topics = questions.committed_topics(group) | {topic for member in members for topic, _ in member.partitions}
        if flow is not None:
            topics.add(flow.source)
        workers = {
            place: f"{member.client_id} on {member.host.removeprefix('/')}"
            for member in members
            for place in member.partitions
        }
        partitions = [
            reading for topic in sorted(topics) for reading in _read_topic(questions, group, topic, workers, clock)
        ]
    except KafkaFault as fault:
        return GroupReading(group, stream, fault=fault)
    return GroupReading(group, stream, members=len(members), partitions=tuple(partitions))


def _read_topic(
    questions: Questions, group: str, topic: str, workers: Mapping[Partition, str], clock: Clock
) -> list[PartitionReading]:
    """Read every partition that the topic has now, each named in the question: a pending one must not be left out."""
    numbers = range(questions.describe_topic(topic).partitions)
    answers = questions.committed_each(group, topic, numbers)
    now_ms = clock.now_ms()
    readings = []
    for number in numbers:
        committed = answers[number]
        position = None if isinstance(committed, KafkaFault) else ConsentPosition.parse(committed.metadata)
        worker = workers.get((topic, number), "")
        readings.append(PartitionReading(topic, number, worker, committed, position, now_ms))
    return readings
