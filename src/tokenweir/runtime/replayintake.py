"""The two ends of a replay's worker: letters with their source records in, one output of each or the letter out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consumer import Batch, Committed, GroupConsumer, Partition
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.core import wire
from tokenweir.core.batches import FATES, Leaving, OutputBatch, Rejection
from tokenweir.core.deadletter import DeadLetter
from tokenweir.core.librdkafka import PropertyValue
from tokenweir.core.outcome import Fate, Reason
from tokenweir.core.planning import NO_ID
from tokenweir.runtime.assignment import Assignment
from tokenweir.runtime.batch import Delivery, Intake, WorkBatch
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.plans import PlanCache
from tokenweir.runtime.replayledger import Intent, Ledger
from tokenweir.runtime.replayletters import Desk, Handled, Kind, Lot, Sorted
from tokenweir.runtime.replaysource import Sources
from tokenweir.runtime.status import StatusWriter
from tokenweir.runtime.tally import Tally
from tokenweir.telemetry.metrics import TransactionOutcome

#: What keeps a work from the engine that needs no decision; it is never shown.
_NOT_DECIDED: Final = Reason.ENGINE_ERROR

_NO_LETTER: Final = Sorted(None, "", Lot.FOREIGN)

_HANDLED: Final = {
    Fate.SANITIZED: Handled.SANITIZED,
    Fate.WITHHELD: Handled.WITHHELD,
    Fate.REJECTED: Handled.REJECTED,
}


@dataclass(slots=True, repr=False)
class ReplayBatch(WorkBatch):
    """Letters: messages, partitions and offsets are their own, what the engine is given is of their source records.

    Attributes:
        found: What each of them is.
        gone: Whether the source record of each is not there any more.
    """

    found: list[Sorted] = field(default_factory=list)
    gone: list[bool] = field(default_factory=list)

    def handled(self, row: int, fate: Fate) -> Handled:
        """Return what is done with a letter whose record has this fate."""
        lot = self.found[row].lot
        if lot is Lot.CHOSEN:
            return Handled.GONE if self.gone[row] else _HANDLED[fate]
        return Handled.PUT_BACK if lot is Lot.PUT_BACK else Handled.FOREIGN

    def columns(self) -> list[list[Any]]:
        """Return all columns."""
        return [*WorkBatch.columns(self), self.found, self.gone]


class ReplayIntake(Intake):
    """Makes work of letters: finds the source records of those that are chosen, and their plans."""

    def __init__(self, plans: PlanCache, clock: Clock, *, framed: bool, desk: Desk, sources: Sources) -> None:
        super().__init__(plans, clock, framed=framed)
        self._desk = desk
        self._sources = sources

    def chosen(self, message: Message) -> bool:
        """Whether a letter is chosen."""
        return self._desk.sort(message.value()).lot is Lot.CHOSEN

    def expect(self, messages: Iterable[Message]) -> None:
        """Read the source records of letters that will be asked for soon, all at once.

        Raises:
            KafkaFault: The source cannot be read.
        """
        found = (self._desk.sort(message.value()) for message in messages)
        self._sources.fetch(each.letter for each in found if each.lot is Lot.CHOSEN and each.letter is not None)

    def batch(self, topic: str, messages: list[Message], partitions: list[int], offsets: list[int]) -> ReplayBatch:
        """Return the batch that letters of these partitions and offsets are.

        Raises:
            KafkaFault: The source cannot be read.
        """
        found = [self._desk.sort(message.value()) for message in messages]
        sources = [self._source(each) for each in found]
        reasons = {row: _NOT_DECIDED for row, source in enumerate(sources) if source is None}
        # A letter without a source record stands for itself, so that every row has something in every column.
        columns = self.columns([source or message for source, message in zip(sources, messages, strict=True)])
        for row in reasons:
            columns["values"][row] = None
        batch = ReplayBatch(
            topic,
            messages,
            partitions,
            offsets,
            **columns,
            reasons=reasons,
            found=found,
            gone=[each.lot is Lot.CHOSEN and source is None for each, source in zip(found, sources, strict=True)],
        )
        self.plan(batch)
        return batch

    def _source(self, found: Sorted) -> Message | None:
        """Return the source record of a chosen letter, if it is still there."""
        return self._sources.get(found.letter) if found.lot is Lot.CHOSEN and found.letter is not None else None


@dataclass(frozen=True, slots=True)
class ReplayDelivery(Delivery):
    """Where letters go: each chosen one to its own output only, the others back to the end of their topic."""

    ledger: Ledger = field(kw_only=True)

    def produce(self, producer: TransactionalProducer, batch: WorkBatch, outcomes: Sequence[OutputBatch]) -> None:
        """Produce what becomes of each letter, in their order, after telling the ledger.

        Raises:
            KafkaFault: the producer does not take one.
        """
        letters = cast("ReplayBatch", batch)
        indices = [self._index(found) for found in letters.found]
        handled = [letters.handled(row, FATES[outcomes[index].fates[row]]) for row, index in enumerate(indices)]
        self.ledger.intend(self._intent(letters, handled))
        leaving = [output.leaving() for output in outcomes]
        rejected = [{entry.row: entry for entry in output.rejected} for output in outcomes]
        for row, (index, how) in enumerate(zip(indices, handled, strict=True)):
            if how is Handled.PUT_BACK:
                self._put_back(producer, letters.messages[row])
            elif how is Handled.SANITIZED:
                self._sanitized(producer, self.outputs[index], leaving[index][row])
            elif how is Handled.REJECTED:
                self._rejected(producer, letters, row, rejected[index][row])

    def _index(self, found: Sorted) -> int:
        """Return which of the outputs a letter names; for one that is not replayed any will do."""
        letter = found.letter
        return self.outputs.index(letter.output) if letter is not None and letter.output in self.outputs else 0

    @staticmethod
    def _intent(batch: ReplayBatch, handled: Sequence[Handled]) -> Intent:
        counts = Counter(
            Kind(found.audience, found.reason, how) for found, how in zip(batch.found, handled, strict=True)
        )
        gone = [
            (found.letter.source_partition, found.letter.source_offset)
            for found, how in zip(batch.found, handled, strict=True)
            if how is Handled.GONE and found.letter is not None
        ]
        next_offsets = {number: offset for (_, number), offset in batch.next_offsets({}).items()}
        return Intent.of(counts, next_offsets, gone)

    @staticmethod
    def _sanitized(producer: TransactionalProducer, topic: str, record: Leaving) -> None:
        headers = [(name, header) for name, header in record.headers if header is not None]
        producer.produce(topic, record.value, record.key, timestamp_ms=record.timestamp_ms, headers=headers)

    def _rejected(self, producer: TransactionalProducer, batch: ReplayBatch, row: int, rejection: Rejection) -> None:
        """Write a letter again, with the coordinates of the source."""
        letter, schema_id = batch.found[row].letter, batch.schema_id(row)
        if letter is None:
            return
        again = DeadLetter(
            source_topic=letter.source_topic,
            source_partition=letter.source_partition,
            source_offset=letter.source_offset,
            source_timestamp_ms=letter.source_timestamp_ms,
            schema_id=letter.schema_id if schema_id == NO_ID else schema_id,
            output=letter.output,
            reason=rejection.reason,
            field_path=rejection.field_path,
            policy_digest=self.policy_digest,
            gateway_version=self.version,
        )
        producer.produce(self.dead_letter_topic, wire.frame(self.dead_letter_schema_id, again.encode()))

    def _put_back(self, producer: TransactionalProducer, message: Message) -> None:
        """Write a letter once more as it is, with its time, so that it is kept no longer than it would have been."""
        _kind, timestamp_ms = message.timestamp()
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        producer.produce(
            self.dead_letter_topic,
            message.value(),
            message.key(),
            timestamp_ms=max(timestamp_ms, 0),
            headers=[(name, header) for name, header in headers if header is not None],
        )


class ReplayTally(Tally):
    """Hears from the worker what is committed. A replay is no part of the gateway's metrics, so it has no slot."""

    def __init__(self, status: StatusWriter, ledger: Ledger) -> None:
        self._status = status
        self.ledger = ledger

    def committed(
        self,
        *,
        outcomes: Sequence[OutputBatch],  # noqa: ARG002 - the ledger knows what was done.
        timestamps_ms: Sequence[int],  # noqa: ARG002 - as above.
        now_ms: int,  # noqa: ARG002 - as above.
        duration_seconds: float,  # noqa: ARG002 - as above.
    ) -> None:
        """Settle the transaction that was told last."""
        self.ledger.settle()

    def transaction(self, outcome: TransactionOutcome) -> None:
        """Forget the transaction that was told last, if it was aborted."""
        if outcome is TransactionOutcome.ABORTED:
            self.ledger.void()

    def registry_error(self, kind: str) -> None:
        """Nothing: the log has it."""

    def unclassified(self, fields: int) -> None:
        """Nothing: the gateway shows it."""

    def staleness(self, seconds: float) -> None:
        """Nothing: the gateway shows it."""

    def key_age(self, now_ms: int) -> None:
        """Nothing: the gateway shows it."""

    def lag(self, records: Mapping[int, int]) -> None:
        """Nothing: the parent shows how far the replay is."""


class LetterConsumer(GroupConsumer):
    """The one member of a replay's group: reads letters up to the ends that were taken at the start, and no further.

    It gives no metadata with committed offsets. So whoever takes partitions over waits for the consent high watermark
    that is read after the assignment, which is what lets the revoke barrier pass by a replay group without members
    (:func:`tokenweir.runtime.survey.read_groups`).
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        properties: Mapping[str, PropertyValue],
        group_id: str,
        client_id: str,
        owner: Assignment,
        *,
        admin: Admin,
        topic: str,
        ends: Mapping[int, int],
        limit: int | None,
        intake: ReplayIntake,
        ledger: Ledger,
    ) -> None:
        """Create the client; ``limit`` is how many chosen letters are taken at most."""
        super().__init__(properties, group_id, client_id, owner, partition_ends=True)
        self._owner = owner
        self._admin = admin
        self._ends = {(topic, number): end for number, end in ends.items()}
        self._limit = limit
        self._intake = intake
        self._ledger = ledger
        self._reached: dict[Partition, int] = {}
        self._delivered: dict[Partition, int] = {}
        self._under_way: set[tuple[Partition, int]] = set()
        self._shut: set[Partition] = set()

    @property
    def finished(self) -> bool:
        """Whether every letter below the ends is done with, or as many as the limit says."""
        if self._limit is not None and self._ledger.chosen >= self._limit:
            return True
        next_offsets = self._owner.next_offsets
        return all(
            place in next_offsets and (next_offsets[place] >= end or self._exhausted(place, end, next_offsets[place]))
            for place, end in self._ends.items()
        )

    def _exhausted(self, place: Partition, end: int, next_offset: int) -> bool:
        """Whether nothing but transaction markers lies between the next offset and the end: they are not delivered."""
        return self._reached.get(place, 0) >= end and self._delivered.get(place, -1) < next_offset

    def begin(self, starts: Mapping[Partition, int]) -> None:
        """Fetch exactly these partitions, from these offsets on."""
        self._forget()
        super().begin(starts)

    def hold(self) -> None:
        """Fetch nothing and forget what was fetched."""
        self._forget()
        super().hold()

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on from another offset of a partition."""
        place = (topic, partition)
        self._shut.discard(place)
        self._reached.pop(place, None)
        self._delivered.pop(place, None)
        self._under_way = {(other, at) for other, at in self._under_way if other != place or at < offset}
        super().seek(topic, partition, offset)

    def committed(self, partitions: Iterable[Partition], timeout_seconds: float) -> dict[Partition, Committed]:
        """Return the stable committed offsets, none before the beginning of its partition, without their metadata.

        Letters that retention deleted before any replay are passed over: there is nothing to lose by that.
        """
        found = super().committed(partitions, timeout_seconds)
        self._ledger.resolve({number: committed.offset for (_, number), committed in found.items()})
        lows: dict[Partition, int] = {}
        for topic in {topic for topic, _ in found}:
            numbers = [number for other, number in found if other == topic]
            lows |= {(topic, number): low for number, low in self._admin.low_watermarks(topic, numbers).items()}
        return {
            place: Committed(None if committed.offset is None else max(committed.offset, lows[place]), "")
            for place, committed in found.items()
        }

    def read(self, max_records: int, timeout_seconds: float) -> Batch:
        """Wait for letters as the base class does, and have their source records read."""
        batch = super().read(max_records, timeout_seconds)
        for place, end in batch.ends.items():
            self._reached[place] = max(end, self._reached.get(place, 0))
        records = [message for message in batch.records if self._takes(message)]
        self._intake.expect(records)
        return replace(batch, records=records)

    def _takes(self, message: Message) -> bool:
        """Note a letter; return whether it is below the end and within the limit."""
        place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
        if offset >= self._ends.get(place, 0):
            self._reached[place] = max(offset, self._reached.get(place, 0))
            return False
        if self._limit is not None and not self._within_limit(message, place, offset, self._limit):
            return False
        self._delivered[place] = max(offset, self._delivered.get(place, -1))
        return True

    def _within_limit(self, message: Message, place: Partition, offset: int, limit: int) -> bool:
        """Whether one more letter may be taken.

        A partition of which one was left stays shut until it is read from there again: with a letter that comes after
        it, it would be passed over.
        """
        next_offsets = self._owner.next_offsets
        self._under_way = {(other, at) for other, at in self._under_way if at >= next_offsets.get(other, 0)}
        if place in self._shut or self._ledger.chosen + len(self._under_way) >= limit:
            self._shut.add(place)
            return False
        if self._intake.chosen(message):
            self._under_way.add((place, offset))
        return True

    def _forget(self) -> None:
        self._shut.clear()
        self._reached.clear()
        self._delivered.clear()
        self._under_way.clear()
