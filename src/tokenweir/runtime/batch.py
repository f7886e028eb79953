"""From messages to records for the engine, and from outcomes to records for the producer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import Message

from tokenweir.adapters.consumer import Partition
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.core import wire
from tokenweir.core.deadletter import DeadLetter
from tokenweir.core.engineapi import ConsentLookup, Engine, Record, Watch
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.core.planning import NO_ID
from tokenweir.errors import DecodeError
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.plans import PlanCache, ReadyPlan, RefusedPlan
from tokenweir.runtime.status import Phase, StatusWriter

#: Records that cost much more than others end a transaction early: after this time no further one is decided, and to
#: finish what was decided takes about as long again. That is far below the broker's transaction.timeout.ms.
MAX_ENGINE_SECONDS: Final = 1.0


@dataclass(slots=True)
class Work:
    """A record of a batch: to be run by the engine, rejected before it, or (neither) to wait for its schema."""

    message: Message
    partition: Partition
    offset: int
    timestamp_ms: int
    schema_id: int = NO_ID
    plan: ReadyPlan | None = None
    record: Record | None = None
    reason: Reason | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing is known about its schema yet."""
        return self.plan is None and self.reason is None

    def reject(self, reason: Reason) -> None:
        """Keep the record from the engine, whatever is known of it."""
        self.reason, self.plan, self.record = reason, None, None


class Intake:
    """Makes work of messages: takes the frame off and finds the plan."""

    def __init__(self, plans: PlanCache, clock: Clock, *, framed: bool) -> None:
        self._plans = plans
        self._clock = clock
        self._framed = framed

    def work(self, message: Message, partition: Partition, offset: int) -> Work:
        """Return the work that a message is."""
        _kind, timestamp_ms = message.timestamp()
        work = Work(message, partition, offset, timestamp_ms if timestamp_ms >= 0 else self._clock.now_ms())
        value = message.value()
        if value is None:
            self._tombstone(work)
        elif not self._framed:
            self._planned(work, value)
        else:
            try:
                work.schema_id, datum = wire.unframe(value)
            except DecodeError as error:
                work.reason = Reason(error.reason)
            else:
                self._planned(work, datum)
        return work

    def _tombstone(self, work: Work) -> None:
        bound = self._plans.any_bound
        if bound is None:
            work.reason = Reason.TOMBSTONE
            return
        work.plan = ReadyPlan(bound, tuple(NO_ID for _ in bound.outputs))
        work.record = self._record(work, None)

    def _planned(self, work: Work, datum: bytes) -> None:
        found = self._plans.get(work.schema_id)
        if isinstance(found, RefusedPlan):
            work.reason = found.reason
            return
        work.plan = found
        work.record = self._record(work, datum)

    def _record(self, work: Work, value: bytes | None) -> Record:
        # A received record always has a list; the mapping and text that the library's types allow are for producing.
        headers = cast("list[tuple[str, bytes | None]]", work.message.headers() or [])
        return Record(value, work.message.key(), work.timestamp_ms, headers)


class BatchWatch(Watch):
    """Marks in the life signs on which records the engine works, and ends a batch that takes too long."""

    def __init__(self, status: StatusWriter, clock: Clock) -> None:
        self._status = status
        self._clock = clock
        self._deadline_ns = 0

    def begin(self, batch: Sequence[Work]) -> None:
        """Say which records the engine is given next; those that were rejected before it are not among them."""
        self._deadline_ns = self._clock.monotonic_ns() + int(MAX_ENGINE_SECONDS * 1e9)
        self._status.batch([(work.partition[1], work.offset) for work in batch])
        self._status.records(0, 0)
        self._status.phase(Phase.ENGINE)

    def end(self) -> None:
        """Say that the engine is done."""
        self._status.phase(Phase.OTHER)

    def alone(self, position: int) -> None:
        """Mark one record of the batch."""
        self._status.records(position, 1)

    def together(self, first: int, count: int) -> None:
        """Mark several records of the batch."""
        self._status.records(first, count)

    def enough(self) -> bool:
        """Whether the time of a batch is up."""
        return self._clock.monotonic_ns() > self._deadline_ns


def run_engine(  # noqa: PLR0913, PLR0917 - a batch and all that its outcomes depend on
    engine: Engine,
    batch: Sequence[Work],
    outputs: int,
    consent: ConsentLookup,
    now_ms: int,
    watch: BatchWatch,
) -> list[list[Outcome]]:
    """Return the outcomes of the first records of a batch, in order: of all, unless the time was up.

    What was rejected before the engine is rejected for each output. If an exception ends this, the marks stay: it may
    be the end of the process, and who handles it otherwise takes them away.
    """
    decidable = [work for work in batch if work.plan is not None and work.record is not None]
    watch.begin(decidable)
    pairs = [(work.plan.bound, work.record) for work in decidable if work.plan is not None and work.record is not None]
    decided = engine.process(pairs, consent, now_ms, watch)
    watch.end()
    if len(decidable) == len(batch):
        return decided
    results = iter(decided)
    outcomes: list[list[Outcome]] = []
    for work in batch:
        if work.reason is not None:
            outcomes.append([Outcome.rejected(work.reason) for _ in range(outputs)])
        elif (found := next(results, None)) is not None:
            outcomes.append(found)
        else:
            break
    return outcomes


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where outcomes go: topic by output, and the dead letters with the schema id that frames them."""

    outputs: tuple[str, ...]
    dead_letter_topic: str
    dead_letter_schema_id: int
    policy_digest: str
    version: str

    def produce(
        self, producer: TransactionalProducer, batch: Sequence[Work], outcomes: Sequence[Sequence[Outcome]]
    ) -> None:
        """Produce sanitized records and dead letters, in the order of their sources.

        Raises:
            KafkaFault: the producer does not take one.
        """
        for work, entries in zip(batch, outcomes, strict=True):
            for index, outcome in enumerate(entries):
                if outcome.fate is Fate.SANITIZED:
                    self._sanitized(producer, work, index, outcome)
                elif outcome.fate is Fate.REJECTED:
                    self._dead_letter(producer, work, index, outcome)

    def _sanitized(self, producer: TransactionalProducer, work: Work, index: int, outcome: Outcome) -> None:
        value = outcome.value
        if value is not None and work.plan is not None:
            value = work.plan.prefixes[index] + value
        headers = [(name, header) for name, header in outcome.headers if header is not None] if outcome.headers else ()
        producer.produce(self.outputs[index], value, outcome.key, timestamp_ms=outcome.timestamp_ms, headers=headers)

    def _dead_letter(self, producer: TransactionalProducer, work: Work, index: int, outcome: Outcome) -> None:
        topic, number = work.partition
        letter = DeadLetter(
            source_topic=topic,
            source_partition=number,
            source_offset=work.offset,
            source_timestamp_ms=work.timestamp_ms,
            schema_id=work.schema_id,
            output=self.outputs[index],
            reason=outcome.reason or Reason.ENGINE_ERROR,
            field_path=outcome.field_path,
            policy_digest=self.policy_digest,
            gateway_version=self.version,
        )
        producer.produce(self.dead_letter_topic, wire.frame(self.dead_letter_schema_id, letter.encode()))


def offsets_after(owned: Mapping[Partition, int], batch: Sequence[Work]) -> dict[Partition, int]:
    """Return the next offset of every owned partition, as it is once this batch is committed (B5)."""
    offsets = dict(owned)
    for work in batch:
        offsets[work.partition] = work.offset + 1
    return offsets
