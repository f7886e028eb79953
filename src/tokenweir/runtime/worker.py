"""One worker: one consumer, one transactional producer, and the numbered steps of a transaction.

Each transaction uses one consent snapshot (B3) and group metadata taken before its first record (B4), and commits the
offsets of all owned partitions with the consent position in their metadata (B1, B5). How partitions are taken over
(B2) is in :mod:`tokenweir.runtime.assignment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import Message

from tokenweir.adapters.consentbinding import StoreError
from tokenweir.adapters.consentreader import ConsentStoreReader
from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.producer import OffsetToCommit, TransactionalProducer
from tokenweir.core.engineapi import Engine
from tokenweir.core.outcome import REASONS, Outcome, Reason
from tokenweir.errors import RefusedError
from tokenweir.runtime.assignment import Assignment, Pause
from tokenweir.runtime.batch import BatchWatch, Delivery, Intake, Work, offsets_after, run_engine
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.plans import PlanCache, logged_id
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.quarantine import MAX_ATTEMPTS, Suspects
from tokenweir.runtime.refusals import Refusals
from tokenweir.runtime.rejections import RejectionLog
from tokenweir.runtime.status import MAX_BATCH_RECORDS, ChildState, Phase, Place
from tokenweir.runtime.tally import Tally
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.metrics import TransactionOutcome

_KEEPALIVE_SECONDS: Final = 1.0
_SHOW_SECONDS: Final = 1.0
#: So many records are fetched at once at most, so that large ones cannot fill the memory before they are counted.
_READ_RECORDS: Final = 200


def _place(message: Message) -> tuple[Partition, int]:
    return (message.topic() or "", message.partition() or 0), message.offset() or 0


def _bytes_of(message: Message) -> int:
    """Return the size of a record; its key and headers may be larger than its value."""
    # A received record always has a list; the mapping and text that the library's types allow are for producing.
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    size = len(message.value() or b"") + len(message.key() or b"")
    return size + sum(len(name) + len(value or b"") for name, value in headers)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """When a transaction of a worker ends, and what it reads."""

    topic: str
    interval_seconds: float
    max_records: int
    max_bytes: int


class Worker:
    """Runs transactions until it is told to stop.

    Raises from :meth:`run`:
        KafkaFault: fatal and not cured by a new producer; fenced by another process with this slot.
        RefusedError: a partition lost its offset, the consent topic is another one, or an output cannot be written.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        settings: WorkerSettings,
        *,
        consumer: Callable[[Assignment], GroupConsumer],
        producer: Callable[[], TransactionalProducer],
        assignment: Assignment,
        store: ConsentStoreReader,
        engine: Engine,
        plans: PlanCache,
        intake: Intake,
        delivery: Delivery,
        suspects: Suspects,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._make_producer = producer
        self._assignment = assignment
        self._store = store
        self._engine = engine
        self._plans = plans
        self._intake = intake
        self._delivery = delivery
        self._suspects = suspects
        self._tally = tally
        self._watch = BatchWatch(tally.status, clock)
        self._clock = clock
        self._committed_position: ConsentPosition | None = None
        self._last_commit = 0.0
        self._last_shown = 0.0
        self._refusals = Refusals(delivery.outputs)
        self._rejections = RejectionLog(self._tell_rejections, self._seconds)
        self._consumer = consumer(assignment)
        assignment.attach(self._consumer)
        self._producer = producer()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Process until ``stopping`` says so; the transaction under way is finished first."""
        self._producer.init_transactions()
        self._consumer.subscribe([self._settings.topic])
        try:
            while not stopping():
                self._tally.heartbeat()
                self._show()
                self._turn()
        finally:
            self._plans.close()
            self._assignment.drop()
            self._consumer.close()
            self._producer.purge()

    def _turn(self) -> None:
        """Do the one thing that is due: take over, wait for consent, or run a transaction."""
        assignment = self._assignment
        if assignment.taking:
            self._tally.state(ChildState.BLOCKED if assignment.blocked else ChildState.WAITING)
            if assignment.take_over():
                self._last_commit = 0.0
                self._suspects.refresh({number: offset for (_, number), offset in assignment.next_offsets.items()})
        elif not assignment.consent_usable():
            self._tally.state(ChildState.WAITING)
            assignment.idle()
        else:
            # Consent that is fresh shows that the brokers answer.
            assignment.require_joined()
            # A member without partitions is ready too; one that has not joined yet is not.
            self._tally.state(ChildState.RUNNING if assignment.joined else ChildState.WAITING)
            self._one_transaction()

    # One transaction.

    def _one_transaction(self) -> None:
        """Step 1 to 8 of a transaction, or nothing where there is nothing to do."""
        assignment = self._assignment
        group_metadata = self._consumer.group_metadata()  # 1: before the first record of the transaction
        if group_metadata is None:
            # Nothing may be fetched meanwhile: a record that was read before the metadata were taken is not fenced.
            assignment.idle()
            return
        assignment.resume()
        self._resume_resolved()
        messages = self._read_batch()  # 3: rebalance callbacks run in here and drop what was read
        if assignment.taking or not assignment.next_offsets:
            return
        started = self._seconds()
        batch = self._prepare(messages)
        decided = self._decide(batch)  # 2 and 4: the snapshot is taken after the read, as late as can be
        if decided is None:
            assignment.idle()
            return
        position, outcomes = decided
        self._put_back([work.message for work in batch[len(outcomes) :]])
        del batch[len(outcomes) :]
        if not batch:
            self._keep_position(position, group_metadata)
            return
        offsets = offsets_after(assignment.next_offsets, batch)
        try:
            self._producer.begin()
            self._delivery.produce(self._producer, batch, outcomes)  # 5
            self._send_offsets(offsets, position, group_metadata)  # 6
            self._producer.commit()  # 7
        except KafkaFault as fault:
            self._recover(fault, batch)
            return
        assignment.next_offsets.update(offsets)
        self._refusals.committed(assignment.next_offsets)
        self._tally.status.committed()
        self._committed(position)
        self._count(batch, outcomes, started)  # 8

    def _decide(self, batch: Sequence[Work]) -> tuple[ConsentPosition, list[list[Outcome]]] | None:
        """Run the engine over one consent snapshot (B3), or return None while consent is not usable."""
        assignment = self._assignment
        if not assignment.consent_usable():
            return None
        try:
            with self._store.snapshot() as snapshot:
                if not assignment.same_store(snapshot):
                    return None
                now_ms = self._clock.now_ms()
                outputs = len(self._delivery.outputs)
                outcomes = run_engine(self._engine, batch, outputs, snapshot, now_ms, self._watch)
                return assignment.position(snapshot), outcomes
        except StoreError:
            # The applier knows of it and rebuilds the store; then every partition is taken over again.
            self._watch.end()
            return None

    def _read_batch(self) -> list[Message]:
        """Return owned records in order, within the limits of one transaction."""
        queue = self._assignment.queue
        limit = min(self._settings.max_records, MAX_BATCH_RECORDS)
        self._tally.status.phase(Phase.POLL)
        until_seconds = self._seconds() + (0 if queue else self._settings.interval_seconds)
        size = sum(map(_bytes_of, queue))
        # Also with a full queue there is a read: rebalances are noticed within.
        while True:
            wanted = min(max(limit - len(queue), 1), _READ_RECORDS)
            read = self._consumer.read(wanted, max(until_seconds - self._seconds(), 0))
            for fault in read.faults:
                self._check_read(fault)
            queue.extend(read.records)
            size += sum(map(_bytes_of, read.records))
            if len(read.records) < wanted or len(queue) >= limit or size > self._settings.max_bytes:
                break
        self._tally.status.phase(Phase.OTHER)
        return self._take(limit, size)

    def _take(self, limit: int, queued_bytes: int) -> list[Message]:
        """Take from the queue what one transaction holds: at least one record, where there is one."""
        queue = self._assignment.queue
        if len(queue) <= limit and queued_bytes <= self._settings.max_bytes:
            taken = queue[:]
            queue.clear()
            return taken
        size, taken = 0, []
        for message in queue:
            size += _bytes_of(message)
            if taken and size > self._settings.max_bytes:
                break
            taken.append(message)
            if len(taken) == limit:
                break
        del queue[: len(taken)]
        return taken

    def _check_read(self, fault: KafkaFault) -> None:
        if fault.code == "_AUTO_OFFSET_RESET":
            raise RefusedError(
                f"a committed offset of {self._settings.topic} lies outside of the topic: records were lost "
                "or the topic was created again; look at 'tokenweir offsets show', and say where to go on with "
                "'tokenweir offsets set'"
            )
        if fault.fatal or fault.denied:
            raise fault
        self._assignment.log(Event.KAFKA_FAULT, code=fault.code, phase="read")

    def _prepare(self, messages: Sequence[Message]) -> list[Work]:
        """Make work of messages; a partition whose schema is not known yet is paused at that record.

        A record that has ended a worker, or may be the one that an output refuses, runs alone: the next time it is
        known to be the one.
        """
        batch: list[Work] = []
        assignment, intake = self._assignment, self._intake
        # Nearly always no record is treated in another way than the rest.
        careful = bool(self._suspects or self._refusals)
        for index, message in enumerate(messages):
            partition, offset = _place(message)
            next_offset = assignment.next_offsets.get(partition)
            # Not owned, or done, or to come again once its partition goes on.
            if next_offset is None or offset < next_offset or self._comes_again(partition, offset):
                continue
            attempts, alone = self._past_of(partition, offset) if careful else (0, False)
            if alone and batch:
                self._put_back(messages[index:])
                break
            work = intake.work(message, partition, offset)
            if attempts >= MAX_ATTEMPTS:
                work.reject(Reason.QUARANTINED)
            elif careful and self._refusals.refused(partition, offset):
                work.reject(Reason.OUTPUT_REFUSED)
            if work.waits:
                self._pause(work)
            else:
                batch.append(work)
                if alone:
                    self._put_back(messages[index + 1 :])
                    break
        return batch

    def _past_of(self, partition: Partition, offset: int) -> tuple[int, bool]:
        """Return how often a record has ended a worker, and whether it is to have a transaction of its own."""
        attempts = self._suspects.attempts(partition[1], offset)
        return attempts, 0 < attempts < MAX_ATTEMPTS or self._refusals.alone(partition, offset)

    def _comes_again(self, partition: Partition, offset: int) -> bool:
        paused = self._assignment.paused
        return bool(paused) and partition in paused and offset >= paused[partition].offset

    def _put_back(self, messages: Sequence[Message]) -> None:
        """Begin the next batch with these. A rebalance in between drops them, as everything that was read before it."""
        queue = self._assignment.queue
        queue[:0] = [message for message in messages if not self._comes_again(*_place(message))]

    def _pause(self, work: Work) -> None:
        topic, number = work.partition
        self._plans.request(work.schema_id)
        self._assignment.paused[work.partition] = Pause(work.offset, work.schema_id)
        self._consumer.pause([work.partition])
        # What lies behind the record is read again; were it kept as well, it would be decided before the record.
        self._consumer.seek(topic, number, work.offset)
        queue = self._assignment.queue
        queue[:] = [message for message in queue if not self._comes_again(*_place(message))]
        self._assignment.log(
            Event.PARTITION_PAUSED,
            topic=topic,
            partition=number,
            offset=work.offset,
            reason="schema_not_known",
            schema_id=work.schema_id,
        )

    def _resume_resolved(self) -> None:
        """Read on from partitions whose schema is known now, and ask again for the others."""
        assignment = self._assignment
        for partition, pause in list(assignment.paused.items()):
            if self._plans.get(pause.schema_id) is None:
                self._plans.request(pause.schema_id)
                continue
            del assignment.paused[partition]
            self._consumer.resume([partition])
            topic, number = partition
            assignment.log(
                Event.PARTITION_RESUMED, topic=topic, partition=number, offset=pause.offset, reason="schema_answered"
            )

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
            self._send_offsets(self._assignment.next_offsets, position, group_metadata)
            self._producer.commit()
        except KafkaFault as fault:
            self._recover(fault, ())
            return
        self._committed(position)

    def _committed(self, position: ConsentPosition) -> None:
        self._committed_position = position
        self._last_commit = self._seconds()

    # Faults.

    def _recover(self, fault: KafkaFault, batch: Sequence[Work]) -> None:
        """Abort what can be aborted; after anything else only what the broker has committed counts."""
        assignment = self._assignment
        if fault.fenced or fault.denied:
            raise fault
        assignment.log(Event.TRANSACTION_ABORTED if fault.abortable else Event.TRANSACTION_UNCERTAIN, code=fault.code)
        self._tally.transaction(TransactionOutcome.ABORTED if fault.abortable else TransactionOutcome.UNCERTAIN)
        if fault.abortable:
            self._refusals.failed(fault.code, batch, assignment.next_offsets)
            if self._abort():
                assignment.begin()
                return
        self._producer.purge()
        self._producer = self._make_producer()
        self._producer.init_transactions()
        # The commit may have succeeded: begin again from the committed offsets, through a takeover.
        assignment.take_over_again()

    def _abort(self) -> bool:
        try:
            self._producer.abort()
        except KafkaFault as fault:
            self._assignment.log(Event.KAFKA_FAULT, code=fault.code, phase="abort")
            return False
        return True

    # Telling.

    def _seconds(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _show(self) -> None:
        """Once a second, whatever else happens, show lag and staleness: they matter most while nothing moves."""
        if self._seconds() - self._last_shown < _SHOW_SECONDS:
            return
        self._last_shown = self._seconds()
        self._rejections.tick()
        ends = self._consumer.known_ends()
        offsets = self._assignment.next_offsets
        self._tally.lag({place[1]: ends[place] - offset for place, offset in offsets.items() if place in ends})
        self._tally.staleness(self._assignment.staleness_seconds())
        self._tally.key_age(self._clock.now_ms())

    def _count(self, batch: Sequence[Work], outcomes: Sequence[Sequence[Outcome]], started: float) -> None:
        self._tally.committed(
            outcomes=outcomes,
            timestamps_ms=[work.timestamp_ms for work in batch],
            now_ms=self._clock.now_ms(),
            duration_seconds=self._seconds() - started,
        )
        rejected = [
            pair for pair in zip(batch, outcomes, strict=True) if [one for one in pair[1] if one.reason is not None]
        ]
        for work, _ in rejected:
            if work.reason is Reason.QUARANTINED:
                topic, number = work.partition
                self._assignment.log(
                    Event.RECORD_QUARANTINED, topic=topic, partition=number, offset=work.offset, attempts=MAX_ATTEMPTS
                )
        self._rejections.note(rejected)
        self._suspects.settle(Place(work.partition[1], work.offset) for work in batch)

    def _tell_rejections(self, reason: Reason, first: Work, field_path: str, records: int) -> None:
        topic, number = first.partition
        self._assignment.log(
            Event.RECORDS_REJECTED,
            topic=topic,
            partition=number,
            offset=first.offset,
            stage=REASONS[reason][0].value,
            reason=reason.value,
            field_path=field_path or None,
            records=records,
            schema_id=logged_id(first.schema_id),
        )
