"""Where a group's committed offsets lie in their topic, and which partitions nobody may begin by guessing.

A partition without a committed offset is new, or it lost its offset: the first begins at its beginning, the second
would repeat or skip records without anyone knowing. A committed offset outside of the topic points to records that
are not there. Both wait for ``tokenweir offsets set``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from tokenweir.adapters.admin import Isolation, TopicDescription
from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.runtime.position import ConsentPosition
from tokenweir.words import counted

_SHOWN: Final = 8
_SHOWN_PROBLEMS: Final = 5


class OffsetState(StrEnum):
    """What a partition's committed offset is worth."""

    OK = "ok"
    NEW = "new"
    """There is none, and none is needed: the partition, or the whole group, has not begun yet."""
    LOST = "lost"
    """It lies outside of the topic, or is of a former topic of the same name."""
    MISSING = "missing"
    """There is none, though the partition is not new."""
    UNSTABLE = "unstable"
    """A transaction that sent it is not decided yet."""


#: States in which no worker may begin.
REFUSED: Final = frozenset({OffsetState.LOST, OffsetState.MISSING})


class Questions(Protocol):
    """What is asked of a cluster: a part of :class:`tokenweir.adapters.admin.Admin`. All may raise KafkaFault."""

    def committed_each(self, group: str, topic: str, partitions: Iterable[int]) -> Mapping[int, Committed | KafkaFault]:
        """Return what a group has stably committed for exactly these partitions, or what is wrong with each."""

    def low_watermarks(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the first offset that is still there, of each partition."""

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Return the next offset to be written, of each partition."""


@dataclass(frozen=True, slots=True)
class PartitionOffset:
    """One partition of a source and what its group has committed for it.

    Attributes:
        topic: The source topic.
        partition: The number of the partition.
        committed: The next offset to process; None where there is none, or where it is not stable.
        metadata: The text that is stored beside it.
        low: The first offset that the topic still has.
        high: The next offset that will be written.
        state: What the committed offset is worth.
        former: Whether it is of a topic of the same name that was deleted.
    """

    topic: str
    partition: int
    committed: int | None
    metadata: str
    low: int
    high: int
    state: OffsetState
    former: bool = False

    @property
    def lag(self) -> int | None:
        """How many offsets are not processed yet; None where the committed offset does not say."""
        return None if self.committed is None or self.state is not OffsetState.OK else self.high - self.committed

    @property
    def position(self) -> ConsentPosition | None:
        """The consent position in the metadata; None where there is none that this project wrote."""
        return ConsentPosition.parse(self.metadata)

    @property
    def problem(self) -> str:
        """In words, why no worker may begin here; "" where one may."""
        place = f"{self.topic}-{self.partition}"
        if self.state is OffsetState.MISSING:
            return f"{place} has no committed offset, though it is not new"
        if self.state is not OffsetState.LOST or self.committed is None:
            return ""
        if self.former:
            return f"the committed offset {self.committed} of {place} is of a topic that was deleted and created again"
        if self.committed > self.high:
            return (
                f"the committed offset {self.committed} of {place} lies beyond its end ({self.high}): "
                "the topic was created again, or lost records"
            )
        gone = counted(self.low - self.committed, "record")
        return (
            f"the committed offset {self.committed} of {place} lies before its first record ({self.low}): "
            f"up to {gone} were deleted before anyone read them"
        )


def read_offsets(questions: Questions, group: str, source: TopicDescription) -> list[PartitionOffset]:
    """Read and judge a group's offsets of every partition of a topic.

    Raises:
        KafkaFault: Something cannot be read; an undecided transaction is a state and no fault.
    """
    numbers, topic = range(source.partitions), source.name
    # In this order, because gateway and retention may be at work meanwhile: no offset may look lost by that.
    low = questions.low_watermarks(topic, numbers)
    answers = questions.committed_each(group, topic, numbers)
    high = questions.high_watermarks(topic, numbers)
    found = [_judge(source, number, answers[number], low[number], high[number]) for number in numbers]
    return [_judge_missing(place, found) if place.state is OffsetState.MISSING else place for place in found]


def _judge(
    source: TopicDescription, number: int, answer: Committed | KafkaFault, low: int, high: int
) -> PartitionOffset:
    """Judge a partition by itself."""
    if isinstance(answer, UnstableOffsetsError):
        return PartitionOffset(source.name, number, None, "", low, high, OffsetState.UNSTABLE)
    if isinstance(answer, KafkaFault):
        raise answer
    offset, metadata = answer
    if offset is None:
        return PartitionOffset(source.name, number, None, "", low, high, OffsetState.MISSING)
    position = ConsentPosition.parse(metadata)
    former = position is not None and position.source is not None and position.source.topic_id != source.topic_id
    state = OffsetState.OK if low <= offset <= high and not former else OffsetState.LOST
    return PartitionOffset(source.name, number, offset, metadata, low, high, state, former)


def _judge_missing(place: PartitionOffset, found: Sequence[PartitionOffset]) -> PartitionOffset:
    """Judge a partition without an offset, by the others: new, no longer new, or not to be told yet."""
    if any(other.state is OffsetState.UNSTABLE for other in found):
        return replace(place, state=OffsetState.UNSTABLE)
    # Without any offset the group has never begun, and gateway.start says where it does.
    return replace(place, state=OffsetState.NEW) if place.partition >= begun(found) else place


def begun(found: Sequence[PartitionOffset]) -> int:
    """Return how many partitions a group has begun: from this number on, one without an offset is new to it.

    Several may be new at once, and the workers that take them over commit one after the other. So the number stands in
    the metadata of every offset, as it was when its worker took it over; without it, the highest offset tells.
    """
    with_offset = [place for place in found if place.committed is not None]
    said = [
        place.partition + 1 if position is None or position.source is None else position.source.partitions
        for place in with_offset
        for position in [place.position]
    ]
    unbroken = next((index for index, place in enumerate(found) if place.committed is None), len(found))
    return max(*said, unbroken, 0) if said else 0


def problems(places: Sequence[PartitionOffset]) -> str:
    """Return the problems of partitions; of very many only the first ones."""
    said = "; ".join(place.problem for place in places[:_SHOWN_PROBLEMS])
    more = len(places) - _SHOWN_PROBLEMS
    return said + (f"; and {counted(more, 'more partition')}" if more > 0 else "")


def consent_remedy(stream: str, topic: str, position: ConsentPosition | None, now: ConsentPosition) -> str:
    """Return what to do where :func:`other_consent` gives a reason."""
    again = f"write every decision and withdrawal to {topic} again"
    if position is not None and position.topic_id == now.topic_id:
        # The partition of a key follows from their number, so what was written before lies in wrong ones.
        again = "write every decision and withdrawal to a new topic with so many partitions, name it in consent.topic"
    return f"{again}, then accept it: 'tokenweir offsets set {stream} --all --to committed' moves no offset"


def repair(stream: str, partitions: Sequence[int] | None = None) -> str:
    """Return what to do about partitions at which no worker may begin: these, or all."""
    which = "--all"
    if partitions is not None:
        which = " ".join(map(str, partitions)) if len(partitions) <= _SHOWN else "PARTITION..."
    return (
        f"stop the gateway, look at 'tokenweir offsets show --stream {stream}', and say where to go on: "
        f"'tokenweir offsets set {stream} {which} --to earliest|latest|OFFSET|TIME'"
    )


def other_consent(position: ConsentPosition | None, now: ConsentPosition) -> str:
    """Return in words why a consent position cannot be compared with that of now, "" where it can or is missing."""
    if position is None:
        return ""
    if position.topic_id != now.topic_id:
        return "the consent topic is another one: it was deleted and created again, or consent.topic was changed"
    if len(position.offsets) != len(now.offsets):
        return f"the consent topic had {counted(len(position.offsets), 'partition')}, and now has {len(now.offsets)}"
    return ""
