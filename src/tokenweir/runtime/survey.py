"""What every consumer group of a gateway has committed, partition by partition, and which worker reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


def replay_group(group: str) -> str:
    """Return the group in which the dead letters of a stream are replayed; names of streams have no dot."""
    return f"{group}.replay"


@dataclass(frozen=True, slots=True)
class Flow:
    """A stream of the policy: its group reads the source and writes the outputs, and its dead letters can be replayed.

    A replay's group reads the dead letters and writes the same outputs; it has members only while a replay runs.
    ``former`` are outputs of key epochs that are fed no longer: a gateway that was not restarted since may still write
    them, and they may have been deleted. ``epochs`` are the key epochs of each output whose topics are among these;
    without them nobody asks.
    """

    stream: str
    group: str
    source: str
    outputs: tuple[str, ...]
    dead_letters: str = ""
    former: tuple[str, ...] = ()
    epochs: tuple[frozenset[int], ...] = ()


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
        replay: Whether it replays dead letters; then it may have no members without harm.
        members: How many members it had before anything else was read.
        partitions: Every partition of every topic that it reads or has read.
        fault: Why that is not known; ``partitions`` is not complete then.
    """

    group: str
    stream: str | None
    exists: bool = True
    replay: bool = False
    members: int = 0
    partitions: tuple[PartitionReading, ...] = ()
    fault: KafkaFault | None = None


def read_groups(questions: Questions, flows: Sequence[Flow], group_prefix: str, clock: Clock) -> list[GroupReading]:
    """Read all groups of the policy's streams, and every other one under the prefix.

    A group whose stream is no longer in the policy is read like the others: its workers may still run. The topics of a
    group are its stream's source (for a replay's group, its dead letters), those that it has offsets of, and those that
    its members have been given. A replay's group is there only once there was a replay.

    Raises:
        KafkaFault: The groups cannot be listed.
    """
    by_group = {flow.group: _Known(flow.stream, flow.source) for flow in flows}
    for flow in flows:
        by_group[replay_group(flow.group)] = _Known(flow.stream, flow.dead_letters, replay=True)
    existing = questions.groups(f"{group_prefix}.")
    missing = [GroupReading(flow.group, flow.stream, exists=False) for flow in flows if flow.group not in existing]
    found = [_read_group(questions, group, by_group.get(group, _Known()), clock) for group in sorted(existing)]
    return missing + found


class _Known(NamedTuple):
    """What the policy says of a group; nothing, where it has no such stream."""

    stream: str | None = None
    topic: str = ""
    replay: bool = False


def _read_group(questions: Questions, group: str, known: _Known, clock: Clock) -> GroupReading:
    """Read a group: whether it has members first, and then what it has committed.

    The barrier relies on this order for replays. Whoever replayed with an older position was a member before the
    withdrawal was written, because a replay that joined later waited for a consent position beyond it. If the group has
    no members now, the offsets of that member's transaction have reached the coordinator already, or never will: group
    metadata of a member that left do not commit. So the offsets that are read from here on show them, as committed or
    as unstable. With the questions the other way round, offsets could be sent after the offsets were read and before
    the member left.
    """
    try:
        members = questions.members(group)
        topics = questions.committed_topics(group) | {topic for member in members for topic, _ in member.partitions}
        if known.topic:
            # The offsets of a group's very first transaction do not show before it is decided, unless asked for.
            topics.add(known.topic)
        workers = {
            place: f"{member.client_id} on {member.host.removeprefix('/')}"
            for member in members
            for place in member.partitions
        }
        partitions = [
            reading for topic in sorted(topics) for reading in _read_topic(questions, group, topic, workers, clock)
        ]
    except KafkaFault as fault:
        return GroupReading(group, known.stream, replay=known.replay, fault=fault)
    return GroupReading(group, known.stream, replay=known.replay, members=len(members), partitions=tuple(partitions))


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
