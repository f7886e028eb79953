"""One worker: one consumer, one transactional producer, and the numbered steps of a transaction.

A worker owns partitions of one source topic. Before the first record of a partition it waits until its own view of
consent is at least as new as the view under which that partition's last record was decided (rule B2); each transaction
uses one consent snapshot (B3) and group metadata taken before its first record (B4), and commits the offsets of all
owned partitions with the consent position in their metadata (B1, B5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentfiles import StoreError
from tokenweir.adapters.consentreader import ConsentSnapshot, ConsentStoreReader
from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.freshness import Freshness
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.adapters.producer import OffsetToCommit, TransactionalProducer
from tokenweir.core import wire
from tokenweir.core.deadletter import DeadLetter
from tokenweir.core.engine import BoundPlan, Record, ReferenceEngine
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.core.planning import NO_ID
from tokenweir.errors import DecodeError, RefusedError
from tokenweir.runtime.plans import PlanCache, ReadyPlan, RefusedPlan
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.status import ChildState
from tokenweir.runtime.tally import Tally
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log
from tokenweir.telemetry.metrics import TransactionOutcome

#: Records of one transaction of the reference engine at most: about 0.3 s of work, so that one consent snapshot is
#: never used for long.
MAX_BATCH_RECORDS = 2_000

_TAKEOVER_PAUSE_SECONDS = 0.05
_KEEPALIVE_SECONDS = 1.0
_SHOW_SECONDS = 1.0
_MAX_SAME_ABORTS = 3


def is_fenced(fault: KafkaFault) -> bool:
    """Return whether another producer has taken the transactional id."""
    return fault.code in {"_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"}


class Clock(Protocol):
    """Time as a worker sees it."""

    def now_ms(self) -> int:
        """Wall clock in milliseconds of the epoch."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds, which is the same in all processes of the machine and never steps."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What one worker is told."""

    stream: str
    slot: int
    topic: str
    group: str
    dead_letter_topic: str
    dead_letter_schema_id: int
    policy_digest: str
    version: str
    framed: bool
    interval_seconds: float
    max_records: int
    max_bytes: int
    max_staleness_seconds: float


@dataclass(slots=True)
class _Work:
    """A record of the batch: either to be run by the engine, or rejected before it."""

    message: Message
    schema_id: int = NO_ID
    plan: ReadyPlan | None = None
    record: Record | None = None
    reason: Reason | None = None


@dataclass(slots=True)
class _Ownership:
    """What this worker owns. ``taking`` are partitions of which no record may be read yet."""

    joined: bool = False
    taking: set[Partition] = field(default_factory=set)
    next_offsets: dict[Partition, int] = field(default_factory=dict)
    paused: dict[Partition, int] = field(default_factory=dict)  # schema id that a partition waits for

    def clear(self) -> None:
        self.joined = False
        self.taking.clear()
        self.next_offsets.clear()
        self.paused.clear()


class Worker:
    """Runs transactions until it is told to stop.

    Raises from :meth:`run`:
        KafkaFault: fatal and not cured by a new producer; fenced by another process with this slot.
        RefusedError: a partition lost its offset, or the consent topic is another one.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        settings: WorkerSettings,
        *,
        consumer: Callable[[Worker], GroupConsumer],
        producer: Callable[[], TransactionalProducer],
        admin: Admin,
        store: ConsentStoreReader,
        freshness: Freshness,
        engine: ReferenceEngine,
        plans: PlanCache,
        outputs: list[str],
        tally: Tally,
        clock: Clock,
        consent_topic: str,
    ) -> None:
        self._settings = settings
        self._make_producer = producer
        self._admin = admin
        self._store = store
        self._freshness = freshness
        self._engine = engine
        self._plans = plans
        self._outputs = outputs
        self._tally = tally
        self._clock = clock
        self._consent_topic = consent_topic
        self._owned = _Ownership()
        self._queue: list[Message] = []
        self._required: dict[Partition, ConsentPosition] = {}
        self._generation_of_store = -1
        self._held = False
        self._committed_position: ConsentPosition | None = None
        self._last_commit = 0.0
        self._last_shown = 0.0
        self._stale_since: float | None = None
        self._aborts = 0
        self._last_abort_at: tuple[tuple[Partition, int], ...] = ()
        self._consumer = consumer(self)
        self._producer = producer()

    # The three callbacks of a rebalance run inside a read. No transaction is open then, because a read is only made
    # between transactions, so that dropping the queue is all that there is to abort.

    def assigned(self, partitions: list[Partition]) -> None:
        """Note new partitions; they are taken over between reads."""
        self._drop()
        self._owned.joined = True
        self._owned.taking = set(partitions)
        self._log(Event.PARTITIONS_ASSIGNED, partitions=len(partitions))

    def revoked(self, partitions: list[Partition]) -> None:
        """Drop everything of the batch under way."""
        self._drop()
        self._log(Event.PARTITIONS_REVOKED, partitions=len(partitions))

    def lost(self, partitions: list[Partition]) -> None:
        """Drop everything of the batch under way."""
        self._drop()
        self._log(Event.PARTITIONS_LOST, partitions=len(partitions))

    def _drop(self) -> None:
        self._queue.clear()
        self._required.clear()
        self._owned.clear()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Process until ``stopping`` says so; the transaction under way is finished first."""
        self._producer.init_transactions()
        self._consumer.subscribe([self._settings.topic])
        try:
            while not stopping():
                self._tally.heartbeat()
                self._show()
                if self._owned.taking:
                    self._tally.state(ChildState.WAITING)
                    self._take_over()
                elif not self._consent_usable():
                    self._tally.state(ChildState.WAITING)
                    self._idle()
                else:
                    # A member without partitions is ready too; one that has not joined yet is not.
                    self._tally.state(ChildState.RUNNING if self._owned.joined else ChildState.WAITING)
                    self._one_transaction()
        finally:
            self._plans.close()
            self._drop()
            self._consumer.close()
            self._producer.purge()

    def _idle(self) -> None:
        """Stay in the group while consent is not usable: nothing is fetched, and nothing fetched is kept."""
        if not self._held:
            self._hold()
        self._consumer.read(1, _TAKEOVER_PAUSE_SECONDS)

    def _hold(self) -> None:
        self._queue.clear()
        self._owned.paused.clear()
        self._consumer.hold()
        self._held = True

    def _begin(self) -> None:
        """Fetch again from the next offset of every owned partition."""
        self._queue.clear()
        self._owned.paused.clear()
        self._consumer.begin(self._owned.next_offsets)
        self._held = False

    def _consent_usable(self) -> bool:
        """Whether consent is restored and fresh, and still the store under which the partitions were taken over."""
        if not self._freshness.restored:
            self._require_again()
            return False
        generation = self._freshness.generation
        if generation != self._generation_of_store:
            # The store was rebuilt: its position may have gone back, so every partition is taken over again (B3).
            self._generation_of_store = generation
            self._require_again()
            return False
        staleness = self._freshness.staleness_seconds(self._clock.monotonic_ns())
        fresh = staleness <= self._settings.max_staleness_seconds
        if fresh and self._stale_since is not None:
            self._log(Event.CONSENT_FRESH, topic=self._consent_topic, seconds=self._seconds() - self._stale_since)
            self._stale_since = None
        elif not fresh and self._stale_since is None:
            self._log(Event.CONSENT_STALE, topic=self._consent_topic, seconds=staleness)
            self._stale_since = self._seconds()
        return fresh

    def _log(self, event: Event, **fields: str | float) -> None:
        log(event, error=None, stream=self._settings.stream, slot=self._settings.slot, **fields)

    def _seconds(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _require_again(self) -> None:
        if self._owned.next_offsets:
            self._owned.taking = set(self._owned.next_offsets)
            self._owned.next_offsets.clear()
            self._required.clear()
            self._hold()

    # Takeover (B2).

    def _take_over(self) -> None:
        """Try to begin the partitions that were assigned; called again until their consent is there."""
        partitions = sorted(self._owned.taking)
        try:
            starts = self._starts(partitions)
        except KafkaFault as fault:
            # A pending transaction looks like a time-out; it never means that nothing is committed.
            if not (fault.retriable or isinstance(fault, UnstableOffsetsError)):
                raise
            starts = None
        if starts is None or not self._consent_covers(partitions):
            # The read keeps the member in the group and lets a rebalance in; nothing is assigned, so nothing comes.
            self._consumer.read(1, _TAKEOVER_PAUSE_SECONDS)
            return
        self._owned.taking.clear()
        self._owned.next_offsets = dict(starts)
        self._begin()
        self._last_commit = 0.0
        for topic, number in sorted(starts):
            self._log(
                Event.PARTITION_RESUMED,
                topic=topic,
                partition=number,
                offset=starts[topic, number],
                reason="taken_over",
            )

    def _starts(self, partitions: list[Partition]) -> dict[Partition, int]:
        """Return where each partition begins, and note the consent that it needs."""
        committed = self._consumer.committed(partitions, timeout_seconds=2.0)
        starts: dict[Partition, int] = {}
        for partition in partitions:
            offset, metadata = committed[partition]
            if offset is None:
                starts[partition] = self._start_of_new(partition)
            else:
                starts[partition] = offset
            if partition not in self._required:
                self._required[partition] = self._required_position(metadata)
        return starts

    def _start_of_new(self, partition: Partition) -> int:
        """A partition without offset begins at its beginning if it is new to the group, and is refused otherwise."""
        topic, number = partition
        every = range(self._admin.describe_topic(topic).partitions)
        committed = self._admin.committed(self._settings.group, topic, every)
        known = [other for other, found in committed.items() if found.offset is not None]
        if known and number < max(known):
            raise RefusedError(
                f"{topic}-{number} has no committed offset in group {self._settings.group}, though others have: "
                "set it with kafka-consumer-groups.sh --reset-offsets before starting again"
            )
        return self._admin.low_watermarks(topic, [number])[number]

    def _required_position(self, metadata: str) -> ConsentPosition:
        """Return the consent under which a partition was last decided; without one, all that there is now (B2)."""
        position = ConsentPosition.parse(metadata)
        if position is not None:
            return position
        description = self._admin.describe_topic(self._consent_topic)
        ends = self._admin.high_watermarks(self._consent_topic, range(description.partitions))
        return ConsentPosition(description.topic_id, self._settings.policy_digest, ends)

    def _consent_covers(self, partitions: list[Partition]) -> bool:
        """Whether the store is at or past what every partition needs."""
        if not self._freshness.restored:
            return False
        try:
            with self._store.snapshot() as snapshot:
                self._generation_of_store = snapshot.generation
                position = self._position(snapshot)
        except StoreError:
            return False
        for partition in partitions:
            required = self._required[partition]
            if required.topic_id != position.topic_id:
                raise RefusedError(
                    f"the consent topic {self._consent_topic} is not the one under which group {self._settings.group} "
                    "last ran: it was deleted and created again"
                )
            if not position.covers(required.offsets):
                return False
        return True

    def _position(self, snapshot: ConsentSnapshot) -> ConsentPosition:
        return ConsentPosition(snapshot.topic_id, self._settings.policy_digest, dict(enumerate(snapshot.position)))

    # One transaction.

    def _one_transaction(self) -> None:
        """Step 1 to 8 of a transaction, or nothing where there is nothing to do."""
        group_metadata = self._consumer.group_metadata()  # 1: before the first record of the transaction
        if group_metadata is None:
            # Nothing may be fetched meanwhile: a record that was read before the metadata were taken is not fenced.
            self._idle()
            return
        if self._held:
            self._begin()
        self._resume_resolved()
        messages = self._read_batch()  # 3: rebalance callbacks run in here and drop what was read
        if self._owned.taking or not self._owned.next_offsets:
            return
        started = self._seconds()
        work = self._prepare(messages)
        decided = self._decide(work)  # 2 and 4: the snapshot is taken after the read, as late as can be
        if decided is None:
            self._idle()
            return
        position, outcomes = decided
        if not work:
            self._keep_position(position, group_metadata)
            return
        offsets = self._offsets_after(work)
        try:
            self._producer.begin()
            self._produce(work, outcomes)  # 5
            self._send_offsets(offsets, position, group_metadata)  # 6
            self._producer.commit()  # 7
        except KafkaFault as fault:
            self._recover(fault)
            return
        self._owned.next_offsets.update(offsets)
        self._committed(position)
        self._count(work, outcomes, started)  # 8

    def _decide(self, work: list[_Work]) -> tuple[ConsentPosition, list[list[Outcome]]] | None:
        """Run the engine over one consent snapshot (B3), or return None while consent is not usable."""
        if not self._consent_usable():
            return None
        try:
            with self._store.snapshot() as snapshot:
                if snapshot.generation != self._generation_of_store:
                    return None
                return self._position(snapshot), self._run_engine(work, snapshot)
        except StoreError:
            # The applier knows of it and rebuilds the store; then every partition is taken over again.
            return None

    def _read_batch(self) -> list[Message]:
        """Return owned records in order, within the limits of one transaction."""
        limit = min(self._settings.max_records, MAX_BATCH_RECORDS)
        if len(self._queue) < limit:
            batch = self._consumer.read(limit - len(self._queue), self._settings.interval_seconds)
            for fault in batch.faults:
                if fault.code == "_AUTO_OFFSET_RESET":
                    raise RefusedError(
                        f"a committed offset of {self._settings.topic} lies outside of the topic: records were lost "
                        "or the topic was created again; set the offset before starting again"
                    )
                if fault.fatal:
                    raise fault
                self._log(Event.KAFKA_FAULT, code=fault.code, phase="read")
            self._queue.extend(batch.records)
        size = 0
        taken: list[Message] = []
        for message in self._queue:
            size += len(message.value() or b"")
            if taken and size > self._settings.max_bytes:
                break
            taken.append(message)
        del self._queue[: len(taken)]
        return taken

    def _prepare(self, messages: list[Message]) -> list[_Work]:
        """Unframe records and find their plans; a partition whose schema is not known yet is paused at that record."""
        work: list[_Work] = []
        for message in messages:
            partition = (message.topic() or "", message.partition() or 0)
            offset = message.offset() or 0
            next_offset = self._owned.next_offsets.get(partition)
            if next_offset is None or offset < next_offset or partition in self._owned.paused:
                continue
            item = self._item(message)
            if item is None:
                continue
            if item.plan is None and item.reason is None:
                self._pause(partition, offset, item.schema_id)
                continue
            work.append(item)
        return work

    def _item(self, message: Message) -> _Work | None:
        value = message.value()
        item = _Work(message)
        if value is None:
            bound = self._plans.any_bound
            if bound is None:
                item.reason = Reason.TOMBSTONE
                return item
            item.plan = ReadyPlan(bound, tuple(NO_ID for _ in bound.outputs))
            item.record = self._record(message, None)
            return item
        if not self._settings.framed:
            found = self._plans.get(NO_ID)
            if isinstance(found, RefusedPlan):
                item.reason = found.reason
                return item
            item.plan = found
            item.record = self._record(message, value)
            return item
        try:
            item.schema_id, datum = wire.unframe(value)
        except DecodeError as error:
            item.reason = Reason(error.reason)
            return item
        found = self._plans.get(item.schema_id)
        if isinstance(found, RefusedPlan):
            item.reason = found.reason
        else:
            item.plan = found
            item.record = self._record(message, bytes(datum))
        return item

    def _record(self, message: Message, value: bytes | None) -> Record:
        _kind, timestamp_ms = message.timestamp()
        if timestamp_ms < 0:
            timestamp_ms = self._clock.now_ms()
        # A received record always has a list; the mapping and text that the library's types allow are for producing.
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        return Record(value, message.key(), timestamp_ms, headers)

    def _pause(self, partition: Partition, offset: int, schema_id: int) -> None:
        self._plans.request(schema_id)
        self._owned.paused[partition] = schema_id
        self._consumer.pause([partition])
        topic, number = partition
        self._consumer.seek(topic, number, offset)
        self._queue = [message for message in self._queue if (message.topic(), message.partition()) != partition]
        self._log(
            Event.PARTITION_PAUSED,
            topic=topic,
            partition=number,
            offset=offset,
            reason="schema_not_known",
            schema_id=schema_id,
        )

    def _resume_resolved(self) -> None:
        for partition, schema_id in list(self._owned.paused.items()):
            if self._plans.get(schema_id) is not None:
                del self._owned.paused[partition]
                self._consumer.resume([partition])
                topic, number = partition
                self._log(
                    Event.PARTITION_RESUMED,
                    topic=topic,
                    partition=number,
                    offset=self._owned.next_offsets[partition],
                    reason="schema_answered",
                )
            else:
                self._plans.request(schema_id)

    def _run_engine(self, work: list[_Work], snapshot: ConsentSnapshot) -> list[list[Outcome]]:
        batch: list[tuple[BoundPlan, Record]] = [
            (item.plan.bound, item.record) for item in work if item.plan is not None and item.record is not None
        ]
        results = iter(self._engine.process(batch, snapshot.lookup, self._clock.now_ms()))
        return [
            next(results) if item.reason is None else [Outcome.rejected(item.reason) for _ in self._outputs]
            for item in work
        ]

    def _produce(self, work: list[_Work], outcomes: list[list[Outcome]]) -> None:
        for item, entries in zip(work, outcomes, strict=True):
            for index, outcome in enumerate(entries):
                if outcome.fate is Fate.SANITIZED:
                    self._produce_sanitized(item, index, outcome)
                elif outcome.fate is Fate.REJECTED:
                    self._produce_dead_letter(item, index, outcome)

    def _produce_sanitized(self, item: _Work, index: int, outcome: Outcome) -> None:
        value = outcome.value
        output_id = NO_ID if item.plan is None else item.plan.output_ids[index]
        if value is not None and output_id != NO_ID:
            value = wire.frame(output_id, value)
        headers = [(name, header) for name, header in outcome.headers if header is not None]
        self._producer.produce(
            self._outputs[index], value, outcome.key, timestamp_ms=outcome.timestamp_ms, headers=headers
        )

    def _produce_dead_letter(self, item: _Work, index: int, outcome: Outcome) -> None:
        message = item.message
        _kind, timestamp_ms = message.timestamp()
        letter = DeadLetter(
            source_topic=message.topic() or "",
            source_partition=message.partition() or 0,
            source_offset=message.offset() or 0,
            source_timestamp_ms=timestamp_ms,
            schema_id=item.schema_id,
            output=self._outputs[index],
            reason=outcome.reason or Reason.ENGINE_ERROR,
            field_path=outcome.field_path,
            policy_digest=self._settings.policy_digest,
            gateway_version=self._settings.version,
        )
        value = wire.frame(self._settings.dead_letter_schema_id, letter.encode())
        self._producer.produce(self._settings.dead_letter_topic, value)

    def _offsets_after(self, work: list[_Work]) -> dict[Partition, int]:
        """Return the next offset of every owned partition, as it is once this batch is committed (B5)."""
        offsets = dict(self._owned.next_offsets)
        for item in work:
            partition = (item.message.topic() or "", item.message.partition() or 0)
            offsets[partition] = (item.message.offset() or 0) + 1
        return offsets

    def _send_offsets(self, offsets: Mapping[Partition, int], position: ConsentPosition, group_metadata: bytes) -> None:
        metadata = position.encode()
        self._producer.send_offsets(
            [OffsetToCommit(topic, number, offset, metadata) for (topic, number), offset in offsets.items()],
            group_metadata,
        )

    def _keep_position(self, position: ConsentPosition, group_metadata: bytes) -> None:
        """Without records, commit the offsets alone once a second while the consent position moves (B5)."""
        moved = position != self._committed_position
        due = self._seconds() - self._last_commit >= _KEEPALIVE_SECONDS
        if not (moved and due) and self._last_commit:
            return
        try:
            self._producer.begin()
            self._send_offsets(self._owned.next_offsets, position, group_metadata)
            self._producer.commit()
        except KafkaFault as fault:
            self._recover(fault)
            return
        self._committed(position)

    def _committed(self, position: ConsentPosition) -> None:
        self._committed_position = position
        self._last_commit = self._seconds()
        self._aborts = 0

    def _show(self) -> None:
        """Once a second, whatever else happens, show lag and staleness: they matter most while nothing moves."""
        if self._seconds() - self._last_shown < _SHOW_SECONDS:
            return
        self._last_shown = self._seconds()
        ends = self._consumer.known_ends()
        self._tally.lag(
            {
                partition[1]: ends[partition] - offset
                for partition, offset in self._owned.next_offsets.items()
                if partition in ends
            }
        )
        self._tally.staleness(self._freshness.staleness_seconds(self._clock.monotonic_ns()))
        self._tally.key_age(self._clock.now_ms())

    # Faults.

    def _recover(self, fault: KafkaFault) -> None:
        """Abort what can be aborted; after anything else only what the broker has committed counts."""
        event = Event.TRANSACTION_ABORTED if fault.abortable else Event.TRANSACTION_UNCERTAIN
        self._log(event, code=fault.code)
        self._tally.transaction(TransactionOutcome.ABORTED if fault.abortable else TransactionOutcome.UNCERTAIN)
        if is_fenced(fault):
            raise fault
        here = tuple(sorted(self._owned.next_offsets.items()))
        self._aborts = self._aborts + 1 if here == self._last_abort_at else 1
        self._last_abort_at = here
        if self._aborts >= _MAX_SAME_ABORTS and fault.abortable:
            raise RefusedError(f"the same batch failed {self._aborts} times ({fault.code}): is an output writable?")
        if fault.abortable and self._abort():
            self._begin()
            return
        self._producer.purge()
        self._producer = self._make_producer()
        self._producer.init_transactions()
        # The commit may have succeeded: begin again from the committed offsets, through a takeover.
        self._require_again()

    def _abort(self) -> bool:
        try:
            self._producer.abort()
        except KafkaFault as fault:
            self._log(Event.KAFKA_FAULT, code=fault.code, phase="abort")
            return False
        return True

    def _count(self, work: list[_Work], outcomes: list[list[Outcome]], started: float) -> None:
        now_ms = self._clock.now_ms()
        self._tally.committed(
            outcomes=outcomes,
            timestamps_ms=[item.message.timestamp()[1] for item in work],
            now_ms=now_ms,
            duration_seconds=self._seconds() - started,
        )
