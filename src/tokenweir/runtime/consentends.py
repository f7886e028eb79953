"""The consent topic from outside: which topic it is, where it begins and ends, and whether a store still fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.errors import RefusedError
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log


class RebuildError(Exception):
    """The store no longer follows from the topic.

    Attributes:
        reason: Why, as one word for the log: ``records_gone`` before they were applied, ``topic_ends_early`` before
            what was applied, or ``too_old`` because the topic was out of reach and a tombstone may have been missed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the topic: where it ended at some time after ``started_ns``."""

    started_ns: int
    position_before: tuple[int, ...]
    high: Mapping[int, int]
    stable: Mapping[int, int]
    topic: TopicDescription


class ConsentEnds:
    """Asks the cluster about the consent topic. Every method may raise :class:`KafkaFault`."""

    def __init__(self, admin: Admin, topic: str) -> None:
        self._admin = admin
        self._topic = topic

    def describe(self) -> tuple[TopicDescription, int]:
        """Return the topic as it is, and for how many milliseconds a store may be away from it.

        That is half of ``delete.retention.ms``, after which it might have missed a tombstone.
        """
        described = self._admin.describe_topic(self._topic)
        try:
            return described, int(self._admin.topic_config(self._topic)["delete.retention.ms"]) // 2
        except KafkaFault as fault:
            if fault.retriable:
                raise
            # Without the permission to ask, no age is known to be safe.
            log(Event.CONSENT_AGE_UNKNOWN, topic=self._topic, code=fault.code)
            return described, 0

    def starts(self, position: Sequence[int]) -> tuple[dict[int, int], Mapping[int, int]]:
        """Return by partition where to begin to read, and the high watermark of this moment.

        Raises:
            RebuildError: The topic does not have what follows the position.
        """
        partitions = range(len(position))
        low = self._admin.low_watermarks(self._topic, partitions)
        high = self._admin.high_watermarks(self._topic, partitions)
        for partition, offset in enumerate(position):
            if offset and offset < low[partition]:
                raise RebuildError("records_gone")
            if offset > high[partition]:
                raise RebuildError("topic_ends_early")
        return {partition: max(offset, low[partition]) for partition, offset in enumerate(position)}, high

    def observe(self, started_ns: int, position: tuple[int, ...]) -> Observation:
        """Look at where the topic ends."""
        partitions = range(len(position))
        high = self._admin.high_watermarks(self._topic, partitions)
        stable = self._admin.high_watermarks(self._topic, partitions, "read_committed")
        # After the offsets: if it is still the same topic now, they were that topic's.
        described = self._admin.describe_topic(self._topic)
        return Observation(started_ns, position, high, stable, described)


def require_same(known: TopicDescription | None, seen: Observation) -> None:
    """Refuse to go on with another topic than the one that the store was filled from.

    Raises:
        RefusedError: It was replaced, or has another number of partitions.
        RebuildError: It ends before what was applied.
    """
    topic = seen.topic.name
    if known is None or seen.topic.topic_id != known.topic_id:
        raise RefusedError(
            f"the consent topic {topic} was replaced while the gateway was running: whatever is not on the "
            "new one would count as never decided. Write every decision to it again (tokenweir consent import), "
            "accept it for each stream (tokenweir offsets set STREAM --all --to committed, which moves no offset), "
            "then start again"
        )
    if seen.topic.partitions != known.partitions:
        raise RefusedError(
            f"the consent topic {topic} had its number of partitions changed from {known.partitions} to "
            f"{seen.topic.partitions} while the gateway was running, so that subjects would be looked for in other "
            "partitions than those that they were written to: create a new topic with so many partitions, write "
            "every decision to it (tokenweir consent import), and name it in consent.topic"
        )
    if any(position > seen.high[partition] for partition, position in enumerate(seen.position_before)):
        raise RebuildError("topic_ends_early")
