"""From messages to records for the engine, and from outcomes to records for the producer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict, cast

from confluent_kafka import Message

from tokenweir.adapters.consumer import Partition
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.core import wire
from tokenweir.core.batches import Headers, OutputBatch, RecordBatch
from tokenweir.core.deadletter import DeadLetter
from tokenweir.core.engineapi import ConsentLookup, Engine, Watch
from tokenweir.core.outcome import Reason
from tokenweir.core.planning import NO_ID
from tokenweir.errors import DecodeError
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.plans import PlanCache, ReadyPlan, RefusedPlan
from tokenweir.runtime.status import Phase, StatusWriter

#: Records that cost much more than others end a transaction early: after this time no further one is decided, and to
#: finish what was decided takes about as long again. That is far below the broker's transaction.timeout.ms.
MAX_ENGINE_SECONDS: Final = 1.0


@dataclass(slots=True, repr=False)
class WorkBatch:
    """The records of a transaction, as columns: in each of them a record has the same place, its row.

    A record is to be run by the engine, rejected before it, or (neither) to wait for its schema.

    Attributes:
        topic: Where they are from.
        messages: They themselves.
        partitions: The number of the partition of each.
        offsets: The offset of each.
        values: What the engine is given of each: the value with its frame,
        keys: the key,
        timestamps_ms: and the timestamp.
        headers: Also the headers of each; None where no record has any.
        frame_bytes: The bytes before each datum.
        plans: The plan of each; None for those that are rejected or wait.
        reasons: Why records are rejected before the engine, by row.
        waiting: The rows of records of whose schema nothing is known yet, in order.
    """

    topic: str
    messages: list[Message]
    partitions: list[int]
    offsets: list[int]
    values: list[bytes | None]
    keys: list[bytes | None]
    timestamps_ms: list[int]
    headers: list[Headers] | None
    frame_bytes: int
    plans: list[ReadyPlan | None] = field(default_factory=list)
    reasons: dict[int, Reason] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.messages)

    def reject(self, row: int, reason: Reason) -> None:
        """Keep a record from the engine, whatever is known of it."""
        self.reasons[row], self.plans[row] = reason, None
        self.waiting = [other for other in self.waiting if other != row]

    def schema_id(self, row: int) -> int:
        """Return the schema id in the frame of a record."""
        try:
            return wire.unframe(self.values[row] or b"")[0] if self.frame_bytes else NO_ID
        except DecodeError:
            return NO_ID

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all records but these; no record of a batch that is kept from waits any more."""
        for column in self.columns():
            column[:] = [column[row] for row in rows]
        self.reasons = {new: self.reasons[row] for new, row in enumerate(rows) if row in self.reasons}
        self.waiting.clear()

    def columns(self) -> list[list[Any]]:
        """Return all columns."""
        columns: list[list[Any]] = [self.messages, self.partitions, self.offsets, self.values, self.keys]
        columns += [self.timestamps_ms, self.plans]
        return columns if self.headers is None else [*columns, self.headers]

    def records(self) -> RecordBatch:
        """Return the columns that an engine looks at."""
        plans = cast("list[ReadyPlan]", self.plans)  # It is given only rows that have one.
        return RecordBatch(plans, self.values, self.keys, self.timestamps_ms, self.headers, self.frame_bytes)

    def next_offsets(self, owned: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return the next offset of every owned partition, as it is once this batch is committed (B5)."""
        # Of several records of a partition the last one counts.
        last = dict(zip(self.partitions, self.offsets, strict=True))
        return {**owned, **{(self.topic, number): offset + 1 for number, offset in last.items()}}


class Columns(TypedDict):
    """What an engine is given of records; see :class:`WorkBatch`."""

    values: list[bytes | None]
    keys: list[bytes | None]
    timestamps_ms: list[int]
    headers: list[Headers] | None
    frame_bytes: int


class Intake:
    """Makes batches of messages: takes their parts, and finds the plans."""

    def __init__(self, plans: PlanCache, clock: Clock, *, framed: bool) -> None:
        self._plans = plans
        self._clock = clock
        self._frame_bytes = wire.FRAME_BYTES if framed else 0
        #: What values begin with that have a plan. A plan that is ready stays so.
        self._known: dict[bytes, ReadyPlan] = {}

    def batch(self, topic: str, messages: list[Message], partitions: list[int], offsets: list[int]) -> WorkBatch:
        """Return the batch that messages of these partitions and offsets are."""
        batch = WorkBatch(topic, messages, partitions, offsets, **self.columns(messages))
        self.plan(batch)
        return batch

    def columns(self, messages: Sequence[Message]) -> Columns:
        """Return what the engine is given of messages."""
        return {
            "values": [message.value() for message in messages],
            "keys": [message.key() for message in messages],
            "timestamps_ms": self._timestamps_ms(messages),
            "headers": headers_of(messages),
            "frame_bytes": self._frame_bytes,
        }

    def _timestamps_ms(self, messages: Iterable[Message]) -> list[int]:
        """Return the timestamps of messages; where there is none, it is now."""
        found = [message.timestamp()[1] for message in messages]
        if min(found, default=0) < 0:
            now_ms = self._clock.now_ms()
            found = [timestamp_ms if timestamp_ms >= 0 else now_ms for timestamp_ms in found]
        return found

    def plan(self, batch: WorkBatch) -> None:
        """Find the plans of a batch; no record for which a reason stands there already gets one."""
        known, end = self._known, self._frame_bytes
        batch.plans = [None if value is None else known.get(value[:end]) for value in batch.values]
        if not all(batch.plans):
            for row, plan in enumerate(batch.plans):
                if plan is None and row not in batch.reasons:
                    self._plan_row(batch, row)

    def _plan_row(self, batch: WorkBatch, row: int) -> None:
        """Find the plan of one record, or why it has none."""
        value, schema_id = batch.values[row], NO_ID
        if value is None:
            batch.plans[row] = self._plans.any_plan
            if batch.plans[row] is None:
                batch.reasons[row] = Reason.TOMBSTONE
            return
        if self._frame_bytes:
            try:
                schema_id, _ = wire.unframe(value)
            except DecodeError as error:
                batch.reasons[row] = Reason(error.reason)
                return
        found = self._plans.get(schema_id)
        if isinstance(found, RefusedPlan):
            batch.reasons[row] = found.reason
        elif found is None:
            batch.waiting.append(row)
        else:
            batch.plans[row] = self._known[value[: self._frame_bytes]] = found


def headers_of(messages: Iterable[Message]) -> list[Headers] | None:
    """Return the headers of messages, None where no message has any."""
    found = [message.headers() for message in messages]
    # A received record always has a list; the mapping and text that the library's types allow are for producing.
    return [cast("Headers", headers or ()) for headers in found] if any(found) else None


class BatchWatch(Watch):
    """Marks in the life signs on which records the engine works, and ends a batch that takes too long."""

    def __init__(self, status: StatusWriter, clock: Clock) -> None:
        self._status = status
        self._clock = clock
        self._deadline_ns = 0

    def begin(self, partitions: Sequence[int], offsets: Sequence[int]) -> None:
        """Say which records the engine is given next; those that were rejected before it are not among them."""
        self._deadline_ns = self._clock.monotonic_ns() + int(MAX_ENGINE_SECONDS * 1e9)
        self._status.batch(partitions, offsets)
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
    engine: Engine, batch: WorkBatch, outputs: int, consent: ConsentLookup, now_ms: int, watch: BatchWatch
) -> list[OutputBatch]:
    """Return for each output what becomes of the first records of a batch: of all, unless the time was up.

    What was rejected before the engine is rejected for each output. If an exception ends this, the marks stay: it may
    be the end of the process, and who handles it otherwise takes them away.
    """
    records, partitions, offsets = batch.records(), batch.partitions, batch.offsets
    rows: Sequence[int] = range(len(batch))
    if batch.reasons:
        rows = [row for row in rows if row not in batch.reasons]
        records = records.of_rows(rows)
        partitions, offsets = [partitions[row] for row in rows], [offsets[row] for row in rows]
    watch.begin(partitions, offsets)
    made = engine.run(records, consent, now_ms, watch) or [OutputBatch() for _ in range(outputs)]
    watch.end()
    return [output.with_rejected(rows, batch.reasons) for output in made] if batch.reasons else made


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where outcomes go: topic by output, and the dead letters with the schema id that frames them."""

    outputs: tuple[str, ...]
    dead_letter_topic: str
    dead_letter_schema_id: int
    policy_digest: str
    version: str

    def produce(self, producer: TransactionalProducer, batch: WorkBatch, outcomes: Sequence[OutputBatch]) -> None:
        """Produce sanitized records and dead letters, those of each topic in the order of their sources.

        Raises:
            KafkaFault: the producer does not take one.
        """
        for topic, output in zip(self.outputs, outcomes, strict=True):
            producer.produce_all(topic, output.values, output.keys, output.timestamps_ms, output.headers)
        rejected = [
            (entry.row, index, entry.reason, entry.field_path)
            for index, output in enumerate(outcomes)
            for entry in output.rejected
        ]
        for row, index, reason, field_path in sorted(rejected):
            letter = DeadLetter(
                source_topic=batch.topic,
                source_partition=batch.partitions[row],
                source_offset=batch.offsets[row],
                source_timestamp_ms=batch.timestamps_ms[row],
                schema_id=batch.schema_id(row),
                output=self.outputs[index],
                reason=reason,
                field_path=field_path,
                policy_digest=self.policy_digest,
                gateway_version=self.version,
            )
            producer.produce(self.dead_letter_topic, wire.frame(self.dead_letter_schema_id, letter.encode()))
