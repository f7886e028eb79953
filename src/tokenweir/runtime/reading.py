"""What a worker reads: records of owned partitions, up to the limits of one transaction, made into a batch.

A record that may be the one that ends a process, or that an output refuses, runs alone. A partition whose next schema
is not known yet is paused, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import le
from typing import Final

from confluent_kafka import Message

from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.core.outcome import Reason
from tokenweir.errors import RefusedError
from tokenweir.runtime.assignment import Assignment, Pause
from tokenweir.runtime.batch import Intake, WorkBatch, headers_of
from tokenweir.runtime.plans import PlanCache
from tokenweir.runtime.quarantine import MAX_ATTEMPTS, Suspects
from tokenweir.runtime.refusals import Refusals
from tokenweir.runtime.status import MAX_BATCH_RECORDS, Phase, StatusWriter
from tokenweir.telemetry.events import Event

#: So many records are fetched at once at most, so that large ones cannot fill the memory before they are counted.
_READ_RECORDS: Final = 200
#: The next offset of a partition that is not owned.
_NEVER: Final = 2**63


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """When a transaction of a worker ends, and what it reads."""

    topic: str
    interval_seconds: float
    max_records: int
    max_bytes: int


class Reading:
    """The worker's way from the consumer to a batch.

    What was read and is not processed yet stands in the queue of the assignment.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: WorkerSettings,
        *,
        consumer: GroupConsumer,
        assignment: Assignment,
        plans: PlanCache,
        intake: Intake,
        suspects: Suspects,
        refusals: Refusals,
        status: StatusWriter,
        seconds: Callable[[], float],
    ) -> None:
        """Put it together; ``seconds`` is a monotonic clock."""
        self._settings = settings
        self._consumer = consumer
        self._assignment = assignment
        self._plans = plans
        self._intake = intake
        self._suspects = suspects
        self._refusals = refusals
        self._status = status
        self._seconds = seconds

    def read(self) -> list[Message]:
        """Return records in order, within the limits of one transaction; some may be owned no longer, or done.

        Raises:
            RefusedError: a partition lost its offset.
            KafkaFault: fatal, or this member may not read.
        """
        queue = self._assignment.queue
        limit = min(self._settings.max_records, MAX_BATCH_RECORDS)
        self._status.phase(Phase.POLL)
        until_seconds = self._seconds() + (0 if queue else self._settings.interval_seconds)
        size = _bytes_of(queue)
        # Also with a full queue there is a read: rebalances are noticed within.
        while True:
            wanted = min(max(limit - len(queue), 1), _READ_RECORDS)
            read = self._consumer.read(wanted, max(until_seconds - self._seconds(), 0))
            for fault in read.faults:
                self._check(fault)
            queue.extend(read.records)
            size += _bytes_of(read.records)
            if len(read.records) < wanted or len(queue) >= limit or size > self._settings.max_bytes:
                break
        self._status.phase(Phase.OTHER)
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
            size += _bytes_of([message])
            if taken and size > self._settings.max_bytes:
                break
            taken.append(message)
            if len(taken) == limit:
                break
        del queue[: len(taken)]
        return taken

    def _check(self, fault: KafkaFault) -> None:
        if fault.code == "_AUTO_OFFSET_RESET":
            raise RefusedError(
                f"a committed offset of {self._settings.topic} lies outside of the topic: records were lost "
                "or the topic was created again; look at 'tokenweir offsets show', and say where to go on with "
                "'tokenweir offsets set'"
            )
        if fault.fatal or fault.denied:
            raise fault
        self._assignment.log(Event.KAFKA_FAULT, code=fault.code, phase="read")

    def batch(self, messages: list[Message]) -> WorkBatch:
        """Make a batch of messages; a partition whose schema is not known yet is paused at that record."""
        partitions = [message.partition() or 0 for message in messages]
        offsets = [message.offset() or 0 for message in messages]
        rows = self._wanted_rows(partitions, offsets)
        # Nearly always no record is treated in another way than the rest.
        careful = bool(self._suspects or self._refusals)
        if careful:
            rows = self._apart(messages, partitions, offsets, rows)
        if len(rows) < len(messages):
            messages = [messages[row] for row in rows]
            partitions, offsets = [partitions[row] for row in rows], [offsets[row] for row in rows]
        batch = self._intake.batch(self._settings.topic, messages, partitions, offsets)
        if careful:
            self._reject_known(batch)
        if batch.waiting:
            self._pause(batch)
        return batch

    def _wanted_rows(self, partitions: Sequence[int], offsets: Sequence[int]) -> Sequence[int]:
        """Return which records are owned, not done, and not to come again once their partition goes on."""
        topic, paused = self._settings.topic, self._assignment.paused
        starts = {number: offset for (_, number), offset in self._assignment.next_offsets.items()}
        if not paused and all(map(le, [starts.get(number, _NEVER) for number in partitions], offsets)):
            return range(len(offsets))
        return [
            row
            for row, (number, offset) in enumerate(zip(partitions, offsets, strict=True))
            if starts.get(number, _NEVER) <= offset and not self._comes_again((topic, number), offset)
        ]

    def _apart(
        self, messages: Sequence[Message], partitions: Sequence[int], offsets: Sequence[int], rows: Sequence[int]
    ) -> Sequence[int]:
        """Return the first of these rows up to one that runs alone, or that one, and put back the rest.

        A record that has ended a worker, or may be the one that an output refuses, runs alone: the next time it is
        known to be the one.
        """
        for place, row in enumerate(rows):
            if self._alone(partitions[row], offsets[row]):
                end = max(place, 1)
                self._put_back([messages[later] for later in rows[end:]])
                return rows[:end]
        return rows

    def _alone(self, number: int, offset: int) -> bool:
        attempts = self._suspects.attempts(number, offset)
        return 0 < attempts < MAX_ATTEMPTS or self._refusals.alone((self._settings.topic, number), offset)

    def _reject_known(self, batch: WorkBatch) -> None:
        """Reject what must not be decoded once more, and what no output takes."""
        for row, (number, offset) in enumerate(zip(batch.partitions, batch.offsets, strict=True)):
            if self._suspects.attempts(number, offset) >= MAX_ATTEMPTS:
                batch.reject(row, Reason.QUARANTINED)
            elif self._refusals.refused((batch.topic, number), offset):
                batch.reject(row, Reason.OUTPUT_REFUSED)

    def _comes_again(self, partition: Partition, offset: int) -> bool:
        paused = self._assignment.paused
        return bool(paused) and partition in paused and offset >= paused[partition].offset

    def put_back(self, batch: WorkBatch, decided: int) -> None:
        """Leave only the first records in a batch, and begin the next one with the others."""
        if decided < len(batch):
            self._put_back(batch.messages[decided:])
            batch.keep(range(decided))

    def _put_back(self, messages: Iterable[Message]) -> None:
        """Begin the next batch with these. A rebalance in between drops them, as everything that was read before it."""
        self._assignment.queue[:0] = [message for message in messages if not self._message_comes_again(message)]

    def _message_comes_again(self, message: Message) -> bool:
        return self._comes_again((self._settings.topic, message.partition() or 0), message.offset() or 0)

    def _pause(self, batch: WorkBatch) -> None:
        """Pause the partitions of records that wait, and take those and what lies behind them out of the batch."""
        assignment = self._assignment
        for row in batch.waiting:
            partition, offset = (batch.topic, batch.partitions[row]), batch.offsets[row]
            if self._comes_again(partition, offset):
                continue
            schema_id = batch.schema_id(row)
            self._plans.request(schema_id)
            assignment.paused[partition] = Pause(offset, schema_id)
            self._consumer.pause([partition])
            # What lies behind the record is read again; were it kept as well, it would be decided before the record.
            self._consumer.seek(*partition, offset)
            assignment.log(
                Event.PARTITION_PAUSED,
                topic=batch.topic,
                partition=batch.partitions[row],
                offset=offset,
                reason="schema_not_known",
                schema_id=schema_id,
            )
        queue = assignment.queue
        queue[:] = [message for message in queue if not self._message_comes_again(message)]
        batch.keep(self._wanted_rows(batch.partitions, batch.offsets))

    def resume_resolved(self) -> None:
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


def _bytes_of(messages: Sequence[Message]) -> int:
    """Return the size of records; their keys and headers may be larger than their values."""
    values, keys = [message.value() for message in messages], [message.key() for message in messages]
    size = sum(map(len, filter(None, values))) + sum(map(len, filter(None, keys)))
    headers = headers_of(messages)
    if headers is not None:
        size += sum(len(name) + len(value or b"") for entries in headers for name, value in entries)
    return size
