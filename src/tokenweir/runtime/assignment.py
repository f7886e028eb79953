"""What a worker owns, and how it takes partitions over: rules B2 and B3 of the revoke barrier.

Before the first record of a partition is read, the worker's own view of consent must be at least as new as the view
under which that partition's last record was decided. That view stands in the metadata of the committed offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentbinding import StoreError
from tokenweir.adapters.consentreader import ConsentSnapshot, ConsentStoreReader
from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.freshness import Freshness
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.adapters.producer import TRANSACTION_TIMEOUT_MS
from tokenweir.errors import RefusedError
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.offsets import (
    OffsetState,
    PartitionOffset,
    begun,
    consent_remedy,
    problems,
    read_offsets,
    repair,
)
from tokenweir.runtime.position import ConsentPosition, Source
from tokenweir.runtime.topicwatch import TopicWatch
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

PAUSE_SECONDS: Final = 0.05
_COMMITTED_SECONDS: Final = 2.0
#: Longer than a rebalance takes in which every member still reads; another member that hangs may hold it up for longer.
_OUTSIDE_SECONDS: Final = 45.0


@dataclass(frozen=True, slots=True)
class AssignmentSettings:
    """What taking partitions over depends on."""

    stream: str
    slot: int
    group: str
    policy_digest: str
    consent_topic: str
    max_staleness_seconds: float
    #: The key epochs that are fed, as they stand beside every offset.
    epochs: str = ""


class Pause(NamedTuple):
    """Why a partition waits."""

    offset: int
    schema_id: int


class Assignment:
    """The partitions of one worker: those that it reads, and those that it must still take over.

    Attributes:
        joined: Whether the group has given this member its partitions, be they none.
        blocked: Whether a takeover waits for a transaction that the broker should have ended long ago.
        next_offsets: Per partition that is read, the next offset to process.
        paused: Per partition that waits, where and for which schema id.
        queue: Records that were read and are not processed yet.
    """

    def __init__(  # noqa: PLR0913 - its parts.
        self,
        settings: AssignmentSettings,
        *,
        admin: Admin,
        store: ConsentStoreReader,
        freshness: Freshness,
        clock: Clock,
        topics: TopicWatch | None = None,
    ) -> None:
        """Put it together.

        Args:
            settings: What it depends on.
            admin: Knows what the group has committed.
            store: The consent state.
            freshness: Whether that may be used.
            clock: The time.
            topics: Watches the topics of the stream; None for a group that begins without a preflight of its own.
        """
        self._settings = settings
        self._topics = topics
        self._admin = admin
        self._store = store
        self._freshness = freshness
        self._clock = clock
        self._consumer: GroupConsumer | None = None
        self._taking: set[Partition] = set()
        self._required: dict[Partition, ConsentPosition] = {}
        self._found: Mapping[Partition, int] = {}
        self._generation_of_store = -1
        self._source: Source | None = None
        self._held = False
        self._stale_since: float | None = None
        self._pending_since: float | None = None
        self._outside_since: float | None = None
        self.blocked = False
        self.joined = False
        self.next_offsets: dict[Partition, int] = {}
        self.paused: dict[Partition, Pause] = {}
        self.queue: list[Message] = []

    def attach(self, consumer: GroupConsumer) -> None:
        """Use this consumer, whose callbacks the assignment is."""
        self._consumer = consumer

    @property
    def consumer(self) -> GroupConsumer:
        """The consumer."""
        if self._consumer is None:
            raise RuntimeError("the assignment has no consumer yet")
        return self._consumer

    @property
    def taking(self) -> bool:
        """Whether partitions wait to be taken over."""
        return bool(self._taking)

    # The three callbacks of a rebalance run inside a read. No transaction is open then, because a read is only made
    # between transactions, so that dropping the queue is all that there is to abort.

    def assigned(self, partitions: list[Partition]) -> None:
        """Note new partitions; they are taken over between reads."""
        self.drop()
        self.joined = True
        self._taking = set(partitions)
        self.log(Event.PARTITIONS_ASSIGNED, partitions=len(partitions))

    def revoked(self, partitions: list[Partition]) -> None:
        """Drop everything of the batch under way."""
        self.drop()
        self.log(Event.PARTITIONS_REVOKED, partitions=len(partitions))

    def lost(self, partitions: list[Partition]) -> None:
        """Drop everything of the batch under way."""
        self.drop()
        self.log(Event.PARTITIONS_LOST, partitions=len(partitions))

    def drop(self) -> None:
        """Forget every partition and every record."""
        self.joined = False
        self._taking.clear()
        self._found = {}
        self._required.clear()
        self.next_offsets.clear()
        self.paused.clear()
        self.queue.clear()

    # Reading and not reading.

    def idle(self) -> None:
        """Stay in the group while consent is not usable: nothing is fetched, and nothing fetched is kept."""
        if not self._held:
            self._hold()
        self.consumer.read(1, PAUSE_SECONDS)

    def resume(self) -> None:
        """Fetch again if that was stopped.

        Raises:
            RefusedError: a topic of the stream is missing, or the source is another one.
        """
        self._look_at_topics()
        if self._held:
            self.begin()

    def _look_at_topics(self) -> None:
        if self._topics is not None:
            self._topics.look()

    def begin(self) -> None:
        """Fetch from the next offset of every owned partition, whatever was fetched before."""
        self.queue.clear()
        self.paused.clear()
        self.consumer.begin(self.next_offsets)
        self._held = False

    def require_joined(self) -> None:
        """Give up a consumer that stays outside of its group while the brokers answer others.

        When the broker was killed a second time while the group was joining again, no member of it (librdkafka 2.16)
        ever asked to join once more.

        Raises:
            KafkaFault: It has been outside for too long, and a new consumer is to be made.
        """
        now = self._clock.monotonic_ns() / 1e9
        if self.joined or self._outside_since is None:
            self._outside_since = None if self.joined else now
        elif now - self._outside_since > _OUTSIDE_SECONDS:
            raise KafkaFault("join the group", "NOT_JOINED", f"for {_OUTSIDE_SECONDS:.0f} s", fatal=True)

    def _hold(self) -> None:
        self.queue.clear()
        self.paused.clear()
        self.consumer.hold()
        self._held = True

    def take_over_again(self) -> None:
        """Treat every owned partition as one that was just assigned."""
        if self.next_offsets:
            self._taking = set(self.next_offsets)
            self._found = {}
            self.next_offsets.clear()
            self._required.clear()
            self._hold()

    # Consent.

    def consent_usable(self) -> bool:
        """Whether consent is restored and fresh, and still the store under which the partitions were taken over."""
        if not self._freshness.restored:
            self.take_over_again()
            return False
        generation = self._freshness.generation
        if generation != self._generation_of_store:
            # The store was rebuilt: its position may have gone back, so every partition is taken over again (B3).
            self._generation_of_store = generation
            self.take_over_again()
            return False
        return self._fresh()

    def _fresh(self) -> bool:
        staleness = self.staleness_seconds()
        fresh = staleness <= self._settings.max_staleness_seconds
        now = self._clock.monotonic_ns() / 1e9
        topic = self._settings.consent_topic
        if fresh and self._stale_since is not None:
            self.log(Event.CONSENT_FRESH, topic=topic, seconds=now - self._stale_since)
            self._stale_since = None
        elif not fresh and self._stale_since is None:
            self.log(Event.CONSENT_STALE, topic=topic, seconds=staleness)
            self._stale_since = now
        return fresh

    def staleness_seconds(self) -> float:
        """Return the age of the last proof that no consent is missing."""
        return self._freshness.staleness_seconds(self._clock.monotonic_ns())

    def same_store(self, snapshot: ConsentSnapshot) -> bool:
        """Whether a snapshot is of the store under which the partitions were taken over."""
        return snapshot.generation == self._generation_of_store

    def position(self, snapshot: ConsentSnapshot) -> ConsentPosition:
        """Return the consent position of a snapshot."""
        offsets = dict(enumerate(snapshot.position))
        settings = self._settings
        return ConsentPosition(snapshot.topic_id, settings.policy_digest, offsets, self._source, settings.epochs)

    # Takeover (B2).

    def take_over(self) -> bool:
        """Try to begin the partitions that were assigned; call again until it returns true.

        Raises:
            RefusedError: a partition lost its offset, or the consent topic is another one.
            KafkaFault: the broker's answer will not get better by asking again.
        """
        partitions = sorted(self._taking)
        try:
            # Nobody else can commit what this member owns, so that the coordinator need not be asked again.
            starts = self._found = self._found or self._starts(partitions)
        except KafkaFault as fault:
            # A pending transaction looks like a time-out; it never means that nothing is committed.
            if not (fault.retriable or isinstance(fault, UnstableOffsetsError)):
                raise
            starts = {}
            self._note_pending(fault.code)
        else:
            self._note_decided()
        if not starts or not self._consent_covers(partitions):
            # The read keeps the member in the group and lets a rebalance in; nothing is assigned, so nothing comes.
            self.consumer.read(1, PAUSE_SECONDS)
            return False
        self._taking.clear()
        self._found = {}
        self.next_offsets = dict(starts)
        self.begin()
        for topic, number in sorted(starts):
            offset = starts[topic, number]
            self.log(Event.PARTITION_RESUMED, topic=topic, partition=number, offset=offset, reason="taken_over")
        return True

    def _note_pending(self, code: str) -> None:
        """Raise an alarm where offsets stay undecided for longer than any transaction may stay open.

        The broker aborts a transaction after its time-out. One that is still there after twice that time hangs, as it
        was seen with Kafka 4.4.0 when the broker was killed, and only a person can end it.
        """
        now = self._clock.monotonic_ns() / 1e9
        if self._pending_since is None:
            self._pending_since = now
        elif not self.blocked and now - self._pending_since > 2 * TRANSACTION_TIMEOUT_MS / 1000:
            self.blocked = True
            topic, number = min(self._taking)
            self.log(
                Event.OFFSETS_BLOCKED,
                topic=topic,
                partition=number,
                partitions=len(self._taking),
                code=code,
                seconds=now - self._pending_since,
            )

    def _note_decided(self) -> None:
        if self.blocked and self._pending_since is not None:
            self.log(Event.OFFSETS_DECIDED, seconds=self._clock.monotonic_ns() / 1e9 - self._pending_since)
        self._pending_since = None
        self.blocked = False

    def _starts(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        """Return where each partition begins, and note the consent that it needs."""
        self._look_at_topics()
        committed = self.consumer.committed(partitions, timeout_seconds=_COMMITTED_SECONDS)
        places = self._places({topic for topic, _ in partitions})
        starts: dict[Partition, int] = {}
        for partition in partitions:
            offset, metadata = committed[partition]
            place = places.get(partition)
            if place is None:
                raise KafkaFault("read committed offsets", "_WAIT_CACHE", "a partition is just added", retriable=True)
            starts[partition] = self._start_of_new(place) if offset is None else offset
            if partition not in self._required:
                self._required[partition] = self._required_position(metadata)
        return starts

    def _places(self, topics: Iterable[str]) -> dict[Partition, PartitionOffset]:
        """Return what the group has committed for all partitions of a topic, and note how many it has begun.

        Raises:
            RefusedError: Records would be repeated or skipped by going on from there.
        """
        places: list[PartitionOffset] = []
        for topic in topics:
            description = self._admin.describe_topic(topic)
            found = read_offsets(self._admin, self._settings.group, description)
            self._source = Source(description.topic_id, begun(found))
            places += found
        unfit = [place for place in places if place.state is OffsetState.LOST]
        if unfit and self._topics is not None:
            raise RefusedError(f"{problems(unfit)}; {self._repair(unfit)}")
        return {(place.topic, place.partition): place for place in places}

    def _start_of_new(self, place: PartitionOffset) -> int:
        """A partition without offset begins at its beginning if it is new to the group, and is refused otherwise."""
        if place.state in {OffsetState.OK, OffsetState.UNSTABLE}:
            raise KafkaFault("read committed offsets", "_WAIT_COORD", "they are being written", retriable=True)
        # The preflight has committed where a stream's group begins: one that has begun nothing has lost everything.
        has_begun = self._topics is None or (self._source is not None and self._source.partitions > 0)
        if place.state is OffsetState.NEW and has_begun:
            return place.low
        raise RefusedError(
            f"{place.topic}-{place.partition} has no committed offset in group {self._settings.group}, though it is "
            f"not new: it was deleted, or the topic was deleted and created again; {self._repair([place])}"
        )

    def _repair(self, unfit: Sequence[PartitionOffset]) -> str:
        return repair(self._settings.stream, [place.partition for place in unfit])

    def _required_position(self, metadata: str) -> ConsentPosition:
        """Return the consent under which a partition was last decided; without one, all that there is now."""
        position = ConsentPosition.parse(metadata)
        if position is not None:
            return position
        description = self._admin.describe_topic(self._settings.consent_topic)
        ends = self._admin.high_watermarks(self._settings.consent_topic, range(description.partitions))
        return ConsentPosition(description.topic_id, self._settings.policy_digest, ends)

    def _consent_covers(self, partitions: list[Partition]) -> bool:
        """Whether the store is at or past what every partition needs."""
        if not self._freshness.restored:
            return False
        try:
            with self._store.snapshot() as snapshot:
                self._generation_of_store = snapshot.generation
                position = self.position(snapshot)
        except StoreError:
            return False
        for partition in partitions:
            required = self._required[partition]
            if required.topic_id != position.topic_id:
                topic = self._settings.consent_topic
                raise RefusedError(
                    f"the consent topic {topic} is not the one under which group {self._settings.group} last ran; "
                    f"{consent_remedy(self._settings.stream, topic, required, position)}"
                )
            if not position.covers(required.offsets):
                return False
        return True

    def log(self, event: Event, **fields: str | float | None) -> None:
        """Log an event of this worker."""
        log(event, error=None, stream=self._settings.stream, slot=self._settings.slot, **fields)
