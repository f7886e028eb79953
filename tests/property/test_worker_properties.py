"""The worker's loop against a model of Kafka: whatever is cut short, paused, aborted or lost, each record counts once.

The model keeps one log for each partition, what a fetcher would do with pauses and seeks, and what a transaction does
at its end. The engine decides as many records as it likes, schemas become known when they like, and records that have
ended a worker run alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.adapters.consumer import Batch, Partition
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.core import wire
from tokenweir.core.batches import OutputBatch, RecordBatch
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.errors import RefusedError
from tokenweir.runtime.assignment import Pause
from tokenweir.runtime.batch import WorkBatch
from tokenweir.runtime.plans import ReadyPlan
from tokenweir.runtime.quarantine import MAX_ATTEMPTS, Attempts, Suspects
from tokenweir.runtime.reading import WorkerSettings
from tokenweir.runtime.status import Place, StatusWriter
from tokenweir.runtime.worker import Worker

_TOPIC = "raw"
_READY = ReadyPlan(cast("Any", None), ())


@dataclass(frozen=True)
class _Message:
    """As much of a message as the loop looks at."""

    number: int
    place: int

    @property
    def schema_id(self) -> int:
        return self.number * 1000 + self.place

    def topic(self) -> str:
        return _TOPIC

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes:
        return b"x" * 7

    def key(self) -> bytes:
        return b"k"

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("h", b"v"), ("n", None)] if self.place % 2 else []


class _Clock:
    def now_ms(self) -> int:
        return 0

    def monotonic_ns(self) -> int:
        return 0


@dataclass
class _Kafka:
    """The broker, the fetcher of one consumer, and one transactional producer."""

    dice: random.Random
    logs: Mapping[Partition, Sequence[_Message]]
    committed: dict[Partition, int]
    faults: float
    unfit: AbstractSet[tuple[int, int]] = frozenset()
    delivered: list[tuple[Partition, int, str]] = field(default_factory=list)
    transactions: list[list[tuple[Partition, int, str]]] = field(default_factory=list)
    positions: dict[Partition, int] = field(default_factory=dict)
    paused: set[Partition] = field(default_factory=set)
    open: list[tuple[Partition, int, str]] = field(default_factory=list)
    offsets: dict[Partition, int] = field(default_factory=dict)

    # The consumer.

    def group_metadata(self) -> bytes:
        return b"generation 1"

    def begin(self, starts: Mapping[Partition, int]) -> None:
        self.positions, self.paused = dict(starts), set()

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self.positions[topic, partition] = offset

    def pause(self, partitions: Sequence[Partition]) -> None:
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self.paused.difference_update(partitions)

    def read(self, max_records: int, _timeout_seconds: float) -> Batch:
        found: list[Any] = []
        ready = [place for place in self.positions if place not in self.paused]
        while ready and len(found) < max_records and self.dice.random() < 0.9:
            place = self.dice.choice(ready)
            if self.positions[place] < len(self.logs[place]):
                found.append(self.logs[place][self.positions[place]])
                self.positions[place] += 1
            else:
                ready.remove(place)
        return Batch(found, {}, [])

    def known_ends(self) -> dict[Partition, int]:
        return {}

    def subscribe(self, topics: Sequence[str]) -> None:
        assert list(topics) == [_TOPIC]

    def close(self) -> None:
        pass

    # The producer.

    def init_transactions(self) -> None:
        self.open, self.offsets = [], {}

    def begin_transaction(self) -> None:
        assert not self.open

    def send_offsets(self, offsets: Sequence[Any], group_metadata: bytes) -> None:
        assert group_metadata == b"generation 1"
        self.offsets = {(entry.topic, entry.partition): entry.offset for entry in offsets}

    def commit(self) -> None:
        chance = self.dice.random()
        if chance < self.faults:
            raise KafkaFault("commit", "SOME", abortable=True)
        if any((place[1], offset) in self.unfit for place, offset, reason in self.open if not reason):
            raise KafkaFault("commit", "INVALID_TIMESTAMP", abortable=True)
        if chance < self.faults * 1.5:
            self.open, self.offsets = [], {}
            raise KafkaFault("commit", "_TIMED_OUT", fatal=True)
        self._apply()
        if chance < self.faults * 2:
            raise KafkaFault("commit", "_TIMED_OUT", fatal=True)

    def abort(self) -> None:
        self.open, self.offsets = [], {}

    def purge(self) -> None:
        pass

    def _apply(self) -> None:
        self.delivered += self.open
        self.transactions.append(self.open)
        self.committed.update(self.offsets)
        self.open, self.offsets = [], {}


class _Producer:
    """The producer's half under its own names."""

    def __init__(self, kafka: _Kafka) -> None:
        self.begin = kafka.begin_transaction
        self.init_transactions = kafka.init_transactions
        self.send_offsets = kafka.send_offsets
        self.commit, self.abort, self.purge = kafka.commit, kafka.abort, kafka.purge


class _Assignment:
    """All partitions belong to the worker, and consent is as it should be."""

    def __init__(self, kafka: _Kafka) -> None:
        self._kafka = kafka
        self.joined = self.taking = True
        self.blocked = False
        self.next_offsets: dict[Partition, int] = {}
        self.paused: dict[Partition, Pause] = {}
        self.queue: list[_Message] = []

    def require_joined(self) -> None:
        """It is in the group."""

    def attach(self, _consumer: object) -> None:
        pass

    def take_over(self) -> bool:
        self.next_offsets = dict(self._kafka.committed)
        self.taking = False
        self.begin()
        return True

    def take_over_again(self) -> None:
        self.next_offsets, self.taking = {}, True
        self._kafka.begin({})

    def begin(self) -> None:
        self.queue.clear()
        self.paused.clear()
        self._kafka.begin(self.next_offsets)

    def drop(self) -> None:
        pass

    resume = drop

    def consent_usable(self) -> bool:
        return True

    def same_store(self, _snapshot: object) -> bool:
        return True

    def position(self, _snapshot: object) -> _Position:
        return _Position()

    def staleness_seconds(self) -> float:
        return 0.0

    def log(self, _event: object, **_fields: object) -> None:
        pass


class _Position:
    def encode(self) -> str:
        return ""


class _Store:
    def snapshot(self) -> _Store:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, _subject: object) -> None:
        raise AssertionError("the engine of this test asks nobody")


class _Engine:
    """Decides at least one record, and stops when it likes."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def run(self, batch: RecordBatch, *_: object) -> list[OutputBatch]:
        output = OutputBatch()
        count = len(batch) if self._dice.random() < 0.5 else self._dice.randint(1, max(len(batch), 1))
        for _plan in batch.plans[:count]:
            output.add(Outcome(Fate.WITHHELD), b"")
        return [output] if len(batch) else []


class _Plans:
    """Some records wait for a schema, which is there after it was asked for a while."""

    def __init__(self, dice: random.Random, waiting: float) -> None:
        self._dice = dice
        self._waiting = waiting
        self._known: dict[int, bool] = {}

    def get(self, schema_id: int) -> object | None:
        if not self._known.setdefault(schema_id, self._dice.random() >= self._waiting):
            return None
        return _READY

    def request(self, schema_id: int) -> None:
        self._known[schema_id] = self._dice.random() < 0.3

    def close(self) -> None:
        pass


class _Intake:
    def __init__(self, plans: _Plans) -> None:
        self._plans = plans

    def batch(self, topic: str, messages: list[Any], partitions: list[int], offsets: list[int]) -> WorkBatch:
        values: list[bytes | None] = [wire.frame(message.schema_id, b"") for message in messages]
        keys: list[bytes | None] = [None for _ in messages]
        batch = WorkBatch(topic, messages, partitions, offsets, values, keys, [0] * len(messages), None, 5)
        batch.plans = [cast("Any", self._plans.get(message.schema_id)) for message in messages]
        batch.waiting = [row for row, plan in enumerate(batch.plans) if plan is None]
        return batch


class _Delivery:
    outputs = ("clean",)

    def __init__(self, kafka: _Kafka) -> None:
        self._kafka = kafka

    def produce(self, _producer: object, batch: WorkBatch, outcomes: Sequence[OutputBatch]) -> None:
        (output,) = outcomes
        assert len(output) == len(batch)
        reasons = {entry.row: entry.reason.value for entry in output.rejected}
        for row, (number, offset) in enumerate(zip(batch.partitions, batch.offsets, strict=True)):
            self._kafka.open.append(((batch.topic, number), offset, reasons.get(row, "")))


class _Tally:
    def __init__(self, status: StatusWriter) -> None:
        self.status = status

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _run(dice: random.Random, kafka: _Kafka, directory: Path, *, waiting: float, limit: int) -> None:
    """Run the loop until everything is committed; a loop that does not come to an end fails."""
    assignment = _Assignment(kafka)
    plans = _Plans(dice, waiting)
    turns = iter(range(20_000))
    ends = {place: len(log) for place, log in kafka.logs.items()}

    def stopping() -> bool:
        assert next(turns, None) is not None, "the loop does not get to the end"
        return kafka.committed == ends

    worker = Worker(
        WorkerSettings(topic=_TOPIC, interval_seconds=0.0, max_records=limit, max_bytes=dice.choice([15, 100, 10_000])),
        consumer=lambda _owner: cast("Any", kafka),
        producer=lambda: cast("Any", _Producer(kafka)),
        assignment=cast("Any", assignment),
        store=cast("Any", _Store()),
        engine=cast("Any", _Engine(dice)),
        plans=cast("Any", plans),
        intake=cast("Any", _Intake(plans)),
        delivery=cast("Any", _Delivery(kafka)),
        suspects=Suspects(directory, "clicks", 0),
        tally=cast("Any", _Tally(StatusWriter(directory / "worker.status"))),
        clock=_Clock(),
    )
    worker.run(stopping)


@dataclass(frozen=True)
class _World:
    """What a run is made of.

    Attributes:
        sizes: The records of each partition.
        limit: The records of a transaction at most.
        waiting: The part of records whose schema is not known at once.
        faults: The part of commits that are aborted, and half as many each whose answer is lost before and after.
        attempts: Partition, offset and how often that record has ended a worker.
        unfit: Partition and offset of records that the output does not take.
    """

    seed: int
    sizes: Sequence[int]
    limit: int
    waiting: float
    faults: float
    attempts: Mapping[tuple[int, int], int]
    unfit: AbstractSet[tuple[int, int]]

    def suspects(self) -> dict[Place, int]:
        """Return the attempts of the records that there are."""
        return {
            Place(*place): count
            for place, count in self.attempts.items()
            if place[0] < len(self.sizes) and place[1] < self.sizes[place[0]]
        }


_WORLDS = st.builds(
    _World,
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    limit=st.integers(1, 30),
    waiting=st.sampled_from([0.0, 0.05, 0.5]),
    faults=st.sampled_from([0.0, 0.05, 0.2]),
    attempts=st.dictionaries(
        st.tuples(st.integers(0, 3), st.integers(0, 39)), st.integers(1, MAX_ATTEMPTS), max_size=20
    ),
    unfit=st.frozensets(st.tuples(st.integers(0, 3), st.integers(0, 39)), max_size=10),
)


@given(world=_WORLDS)
@settings(max_examples=200, deadline=None)
def test_each_record_is_decided_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, world: _World) -> None:
    """In order within its partition; suspects alone in their transaction, and after three deaths not at all."""
    directory = tmp_path_factory.mktemp("worker")
    counts = Attempts(directory, "clicks")
    for place, count in world.suspects().items():
        for _ in range(count):
            counts.count([place])
    logs = {
        (_TOPIC, number): [_Message(number, offset) for offset in range(size)]
        for number, size in enumerate(world.sizes)
    }
    dice = random.Random(world.seed)
    kafka = _Kafka(dice, logs, dict.fromkeys(logs, 0), world.faults, world.unfit)

    try:
        _run(dice, kafka, directory, waiting=world.waiting, limit=world.limit)
    except RefusedError:
        assert world.faults, "only what fails again and again for no reason of its own may end the loop"
    else:
        assert kafka.committed == {place: len(log) for place, log in logs.items()}

    for partition, end in kafka.committed.items():
        assert [offset for found, offset, _ in kafka.delivered if found == partition] == list(range(end))
    _assert_suspects_kept_apart(world, kafka)
    for partition, offset, reason in kafka.delivered:
        unfit = (partition[1], offset) in world.unfit and reason != Reason.QUARANTINED.value
        assert (reason == Reason.OUTPUT_REFUSED.value) == unfit, "exactly what is not taken becomes a dead letter"


def _assert_suspects_kept_apart(world: _World, kafka: _Kafka) -> None:
    suspects = world.suspects()
    for transaction in kafka.transactions:
        for partition, offset, reason in transaction:
            count = suspects.get(Place(partition[1], offset), 0)
            assert len(transaction) == 1 or count in {0, MAX_ATTEMPTS}
            assert (reason == Reason.QUARANTINED.value) == (count == MAX_ATTEMPTS)
