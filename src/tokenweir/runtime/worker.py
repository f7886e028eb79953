"""One worker: one consumer, one transactional producer, and the numbered steps of a transaction.

Each transaction uses one consent snapshot (B3) and group metadata taken before its first record (B4), and commits the
offsets of all owned partitions with the consent position in their metadata (B1, B5). How partitions are taken over
(B2) is in :mod:`tokenweir.runtime.assignment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tokenweir.adapters.consentbinding import StoreError
from tokenweir.adapters.consentreader import ConsentStoreReader
from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.producer import OffsetToCommit, TransactionalProducer
from tokenweir.core.batches import OutputBatch
from tokenweir.core.engineapi import Engine
from tokenweir.core.outcome import REASONS, Reason
from tokenweir.runtime.assignment import Assignment
from tokenweir.runtime.batch import BatchWatch, Delivery, Intake, WorkBatch, run_engine
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.plans import PlanCache, logged_id
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.quarantine import MAX_ATTEMPTS, Suspects
from tokenweir.runtime.reading import Reading, WorkerSettings
from tokenweir.runtime.refusals import Refusals
from tokenweir.runtime.rejections import Origin, RejectionLog
from tokenweir.runtime.status import ChildState, Place
from tokenweir.runtime.tally import Tally
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.metrics import TransactionOutcome

_KEEPALIVE_SECONDS: Final = 1.0
_SHOW_SECONDS: Final = 1.0


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
        self._reading = Reading(
            settings,
            consumer=self._consumer,
            assignment=assignment,
            plans=plans,
            intake=intake,
            suspects=suspects,
            refusals=self._refusals,
            status=tally.status,
            seconds=self._seconds,
        )

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
        self._reading.resume_resolved()
        messages = self._reading.read()  # 3: rebalance callbacks run in here and drop what was read
        if assignment.taking or not assignment.next_offsets:
            return
        started = self._seconds()
        batch = self._reading.batch(messages)
        decided = self._decide(batch)  # 2 and 4: the snapshot is taken after the read, as late as can be
        if decided is None:
            assignment.idle()
            return
        position, outcomes = decided
        self._reading.put_back(batch, len(outcomes[0]))
        if not len(batch):
            self._keep_position(position, group_metadata)
            return
        offsets = batch.next_offsets(assignment.next_offsets)
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

    def _decide(self, batch: WorkBatch) -> tuple[ConsentPosition, list[OutputBatch]] | None:
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
            self._recover(fault, None)
            return
        self._committed(position)

    def _committed(self, position: ConsentPosition) -> None:
        self._committed_position = position
        self._last_commit = self._seconds()

    # Faults.

    def _recover(self, fault: KafkaFault, batch: WorkBatch | None) -> None:
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

    def _count(self, batch: WorkBatch, outcomes: Sequence[OutputBatch], started: float) -> None:
        self._tally.committed(
            outcomes=outcomes,
            timestamps_ms=batch.timestamps_ms,
            now_ms=self._clock.now_ms(),
            duration_seconds=self._seconds() - started,
        )
        for row, reason in batch.reasons.items():
            if reason is Reason.QUARANTINED:
                self._assignment.log(
                    Event.RECORD_QUARANTINED,
                    topic=batch.topic,
                    partition=batch.partitions[row],
                    offset=batch.offsets[row],
                    attempts=MAX_ATTEMPTS,
                )
        self._rejections.note(batch, outcomes)
        self._suspects.settle(map(Place, batch.partitions, batch.offsets))

    def _tell_rejections(self, reason: Reason, first: Origin, field_path: str, records: int) -> None:
        self._assignment.log(
            Event.RECORDS_REJECTED,
            topic=self._settings.topic,
            partition=first.partition,
            offset=first.offset,
            stage=REASONS[reason][0].value,
            reason=reason.value,
            field_path=field_path or None,
            records=records,
            schema_id=logged_id(first.schema_id),
        )
