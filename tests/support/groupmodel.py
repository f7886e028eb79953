"""One cluster in memory, as far as the revoke barrier depends on it, and workers of the product on top of it.

The workers, their consumers and producers, and the barrier are the product's own; replaced are librdkafka's clients,
the store, the engine and the clock. Each call of a client first passes :meth:`Cluster.passage`, in which a test may let
anything else happen, so that a worker stands still at exactly this point: every interleaving is one of nested calls.

What brokers do is taken from Kafka's group and transaction coordinators: a commit of offsets is checked for member and
generation, except where it gives neither; offsets and records are decided by markers that arrive one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tokenweir.adapters import consumer as consumer_module
from tokenweir.adapters import producer as producer_module
from tokenweir.adapters.admin import Isolation, Member, TopicDescription
from tokenweir.adapters.consumer import Committed, GroupConsumer, Partition
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.runtime.assignment import Assignment, AssignmentSettings
from tokenweir.runtime.barrier import Barrier, Withdrawal
from tokenweir.runtime.batch import Work
from tokenweir.runtime.plans import ReadyPlan
from tokenweir.runtime.quarantine import Suspects
from tokenweir.runtime.status import StatusWriter
from tokenweir.runtime.survey import Flow
from tokenweir.runtime.worker import Worker, WorkerSettings

SOURCE: Final = "raw"
OUTPUT: Final = "clean"
CONSENT: Final = "consent"
GROUP: Final = "gw.clicks"
POLICY: Final = "policy-1"
BARRIER: Final = "barrier"
CALLS: Final = (
    "metadata",
    "consume",
    "fetched",
    "snapshot",
    "decided",
    "begin",
    "produced",
    "send offsets",
    "offsets sent",
    "commit",
    "ended",
    "marked",
    "read offsets",
)
"""The calls of a worker at which it can stand still, in the order of a transaction; the last is of a takeover."""
QUESTIONS: Final = ("describe consent", "describe raw", "committed", "read_uncommitted clean", "read_committed clean")
"""The questions of the barrier, in the order in which it asks."""

_READY: Final = ReadyPlan(cast("Any", None), ())


class Message(NamedTuple):
    """As much of a record of the source as a worker looks at."""

    number: int
    place: int

    def topic(self) -> str:
        """The source."""
        return SOURCE

    def partition(self) -> int:
        """Its partition."""
        return self.number

    def offset(self) -> int:
        """Its offset."""
        return self.place

    def value(self) -> bytes:
        """Something."""
        return b"x"

    def error(self) -> None:
        """None: it is a record."""


@dataclass(slots=True)
class Transaction:
    """A transaction; without a verdict as long as it is open.

    Attributes:
        owner: Its transactional id.
        committed: How it ended, None before that.
        offsets: What it sent for the group, with metadata.
        unmarked: Where the marker has not arrived yet.
    """

    owner: str
    committed: bool | None = None
    offsets: dict[Partition, tuple[int, str]] = field(default_factory=dict)
    unmarked: set[str] = field(default_factory=lambda: {"offsets", "records"})


class Sanitized(NamedTuple):
    """A record of the output: which record of the source, and the consent position under which it was decided."""

    transaction: Transaction
    source: Partition
    offset: int
    decided: tuple[int, ...]


@dataclass(repr=False)
class Cluster:
    """The broker. There is one output, with one partition.

    Attributes:
        records: Records of the source, by partition.
        consent: The ends of the consent partitions.
        topic_id: The id of the consent topic.
        output: The log; None is a marker.
        committed: Offsets and metadata of the group that are decided.
        transactions: The last one of each producer.
        members: The assignment of each member, by member id.
        generation: The group's.
        rejoined: Who has given its partitions back, while the group waits for all; None while it is stable.
        passage: Told of each call of a client, with the client id and the name of the call.
    """

    records: dict[Partition, list[Message]] = field(default_factory=lambda: {(SOURCE, 0): [], (SOURCE, 1): []})
    consent: dict[int, int] = field(default_factory=lambda: {0: 5, 1: 5})
    topic_id: str = "id-1"
    output: list[Sanitized | None] = field(default_factory=list)
    committed: dict[Partition, tuple[int, str]] = field(default_factory=dict)
    transactions: dict[str, Transaction] = field(default_factory=dict)
    members: dict[str, frozenset[Partition]] = field(default_factory=dict)
    generation: int = 0
    rejoined: set[str] | None = None
    passage: Callable[[str, str], None] = lambda _client, _call: None

    # What a test does.

    def add_records(self, count: int = 1) -> None:
        """Write to every partition of the source."""
        for partition in self.records:
            self.add_records_to(partition, count)

    def add_records_to(self, partition: Partition, count: int) -> None:
        """Write to one partition of the source."""
        log = self.records[partition]
        log += [Message(partition[1], len(log) + each) for each in range(count)]

    def expel(self, client: str) -> None:
        """End the session of a client."""
        for member in [member for member in self.members if client_of(member) == client]:
            del self.members[member]
            self.rebalance()
            self._complete()

    def expire(self, owner: str) -> None:
        """Abort the transaction of a producer if it is open: its time is up."""
        transaction = self.transactions.get(owner)
        if transaction is not None and transaction.committed is None:
            self.end(transaction, committed=False)
            self.mark(transaction)

    def mark(self, transaction: Transaction, which: Iterable[str] = ("offsets", "records")) -> None:
        """Let markers of an ended transaction arrive."""
        arrived = transaction.unmarked.intersection(which)
        if transaction.committed is None or not arrived:
            return
        transaction.unmarked -= arrived
        if "offsets" in arrived and transaction.committed:
            self.committed.update(transaction.offsets)
        if "records" in arrived and any(entry and entry.transaction is transaction for entry in self.output):
            self.output.append(None)

    @property
    def last_stable_offset(self) -> int:
        """The first record of the output whose transaction is not decided, or its end."""
        undecided = (at for at, entry in enumerate(self.output) if entry and "records" in entry.transaction.unmarked)
        return next(undecided, len(self.output))

    def undecided(self, partition: Partition) -> bool:
        """Whether offsets of a partition hang on a transaction."""
        return any(
            partition in transaction.offsets and "offsets" in transaction.unmarked
            for transaction in self.transactions.values()
        )

    # The group coordinator.

    def join(self, member: str) -> None:
        """Let somebody in."""
        self.members[member] = frozenset()
        self.rebalance()
        self.rejoin(member)

    def reset(self) -> None:
        """Write offsets without metadata, as a tool does; a broker lets it only while there are no members."""
        if not self.members and not any(self.undecided(partition) for partition in self.records):
            self.committed = {partition: (offset, "") for partition, (offset, _) in self.committed.items()}

    def rebalance(self) -> None:
        """Ask everybody to give its partitions back."""
        self.rejoined = set() if self.rejoined is None else self.rejoined

    def rejoin(self, member: str) -> None:
        """Note that a member holds nothing any more."""
        assert self.rejoined is not None
        self.rejoined.add(member)
        self._complete()

    def _complete(self) -> None:
        if self.rejoined is None or not self.members or not self.rejoined >= self.members.keys():
            return
        self.rejoined = None
        self.generation += 1
        order = sorted(self.members)
        for index, member in enumerate(order):
            self.members[member] = frozenset(
                partition for at, partition in enumerate(sorted(self.records)) if at % len(order) == index
            )

    # The transaction coordinator.

    def send_offsets(
        self, transaction: Transaction, offsets: Mapping[Partition, tuple[int, str]], member: str, generation: int
    ) -> None:
        """Take offsets into a transaction, if the group lets this member do so."""
        if (member or generation >= 0) and member not in self.members:
            raise _exception(KafkaError.UNKNOWN_MEMBER_ID, abortable=True)
        if (member or generation >= 0) and generation != self.generation:
            raise _exception(KafkaError.ILLEGAL_GENERATION, abortable=True)
        transaction.offsets.update(offsets)

    def end(self, transaction: Transaction, *, committed: bool) -> None:
        """Decide a transaction."""
        transaction.committed = committed
        if not transaction.offsets:
            transaction.unmarked.discard("offsets")


def client_of(member: str) -> str:
    """Return the client id of a member."""
    return member.partition("/")[0]


def _exception(code: int, *, abortable: bool = False, fatal: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "as the model says", fatal, False, abortable))


class ConsumerModel:
    """What librdkafka's consumer does with eager rebalances: they are served in calls of consume."""

    def __init__(self, cluster: Cluster, configuration: Mapping[str, Any], **_: object) -> None:
        self._cluster = cluster
        self._client = str(configuration["client.id"])
        self._stable = configuration["isolation.level"] == "read_committed"
        self._joins = 0
        self._member = ""
        self._generation = -1
        self._fetched: dict[Partition, int] = {}
        self._given: frozenset[Partition] = frozenset()

    def subscribe(self, _topics: Sequence[str], **callbacks: Callable[..., None]) -> None:
        """Remember whom to tell."""
        self._callbacks = callbacks

    def consume(self, limit: int, _timeout: float) -> list[Message]:
        """Serve what the group wants, and fetch."""
        self._cluster.passage(self._client, "consume")
        found: list[Message] = []
        for partition, at in self._fetched.items():
            fetched = self._cluster.records[partition][at : at + limit - len(found)]
            found += fetched
            self._fetched[partition] = at + len(fetched)
        self._cluster.passage(self._client, "fetched")
        # A rebalance may be served after records were fetched: they are returned nevertheless.
        self._serve()
        return found

    def _serve(self) -> None:
        cluster = self._cluster
        if self._member and self._member not in cluster.members:
            # The coordinator's answer to a heartbeat.
            self._member, self._generation = "", -1
            self._tell("on_lost")
        if not self._member:
            self._joins += 1
            self._member = f"{self._client}/{self._joins}"
            cluster.join(self._member)
        elif cluster.rejoined is not None and self._member not in cluster.rejoined:
            self._tell("on_revoke")
            cluster.rejoin(self._member)
        if cluster.rejoined is None and self._generation != cluster.generation:
            self._generation = cluster.generation
            self._given = cluster.members[self._member]
            self._tell("on_assign")

    def _tell(self, callback: str) -> None:
        self._fetched = {}
        self._callbacks[callback](self, [TopicPartition(*partition) for partition in sorted(self._given)])
        if callback != "on_assign":
            self._given = frozenset()

    def assign(self, starts: Sequence[TopicPartition]) -> None:
        """Fetch from these places."""
        self._fetched = {(start.topic, start.partition): start.offset for start in starts}

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Nothing is ever paused: every schema is known."""
        assert not places

    def consumer_group_metadata(self) -> bytes:
        """Return the generation as librdkafka writes it."""
        self._cluster.passage(self._client, "metadata")
        expelled = self._member not in self._cluster.members
        member, generation = ("", -1) if expelled else (self._member, self._generation)
        return b"CGMDv2:" + struct.pack("<i", generation) + f"{GROUP}\0{member}\0".encode()

    def committed(self, partitions: Sequence[TopicPartition], _timeout: float) -> list[TopicPartition]:
        """Return stable offsets; while one is not, the time is up."""
        self._cluster.passage(self._client, "read offsets")
        places = [(partition.topic, partition.partition) for partition in partitions]
        if self._stable and any(self._cluster.undecided(place) for place in places):
            raise _exception(KafkaError._TIMED_OUT)
        return [TopicPartition(*place, *self._cluster.committed.get(place, (-1001, ""))) for place in places]

    def get_watermark_offsets(self, _place: TopicPartition, **_: object) -> tuple[int, int]:
        """Return nothing known."""
        return -1001, -1001

    def close(self) -> None:
        """Leave the group."""
        self._cluster.members.pop(self._member, None)


class ProducerModel:
    """What librdkafka's transactional producer does: the next one of the same id fences it."""

    def __init__(self, cluster: Cluster, configuration: Mapping[str, Any], **_: object) -> None:
        self._cluster = cluster
        self._id = str(configuration["transactional.id"])
        self._transaction = Transaction(self._id)

    def init_transactions(self, _timeout: float) -> None:
        """Abort what the former one left open."""
        self._cluster.expire(self._id)

    def begin_transaction(self) -> None:
        """Begin."""
        self._cluster.passage(self._id, "begin")
        self._transaction = self._cluster.transactions[self._id] = Transaction(self._id)

    def produce(self, _topic: str, source: Partition, offset: int, decided: tuple[int, ...]) -> None:
        """Write a record of the output at once; that the broker refused it is told later."""
        if self._transaction.committed is None:
            self._cluster.output.append(Sanitized(self._transaction, source, offset, decided))
        self._cluster.passage(self._id, "produced")

    def send_offsets_to_transaction(self, offsets: Sequence[TopicPartition], metadata: bytes, _timeout: float) -> None:
        """Send the offsets."""
        self._cluster.passage(self._id, "send offsets")
        self._open()
        generation = int.from_bytes(metadata[7:11], "little", signed=True)
        member = metadata[11:].split(b"\0")[1].decode()
        sent = {(each.topic, each.partition): (each.offset, each.metadata or "") for each in offsets}
        self._cluster.send_offsets(self._transaction, sent, member, generation)
        self._cluster.passage(self._id, "offsets sent")

    def commit_transaction(self, _timeout: float) -> None:
        """Commit; the markers arrive before this returns."""
        self._cluster.passage(self._id, "commit")
        self._open()
        self._cluster.end(self._transaction, committed=True)
        self._cluster.passage(self._id, "ended")
        self._cluster.mark(self._transaction)
        self._cluster.passage(self._id, "marked")

    def abort_transaction(self, _timeout: float) -> None:
        """Abort."""
        self._cluster.expire(self._id)

    def _open(self) -> None:
        """Refuse what the broker would: the time of the transaction is up, and the epoch has moved on."""
        if self._transaction.committed is not None:
            raise _exception(KafkaError.INVALID_PRODUCER_EPOCH, abortable=True)

    def poll(self, _timeout: float) -> None:
        """Serve nothing."""

    def purge(self, **_: object) -> None:
        """Forget nothing: what was produced is written."""


class Questions:
    """The administrator's client of a worker or of the barrier."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._cluster, self._client = cluster, client

    def describe_topic(self, name: str) -> TopicDescription:
        """Id and partitions."""
        self._cluster.passage(self._client, f"describe {name}")
        partitions = {SOURCE: len(self._cluster.records), CONSENT: len(self._cluster.consent), OUTPUT: 1}[name]
        return TopicDescription(name, self._cluster.topic_id, partitions, None)

    def groups(self, prefix: str = "") -> dict[str, bool]:
        """The one group."""
        return {GROUP: bool(self._cluster.members)} if GROUP.startswith(prefix) else {}

    def members(self, _group: str) -> tuple[Member, ...]:
        """Its members."""
        return tuple(Member(client_of(member), "/h", given) for member, given in self._cluster.members.items())

    def committed_topics(self, _group: str) -> set[str]:
        """The source."""
        return {topic for topic, _ in self._cluster.committed}

    def committed_each(
        self, _group: str, topic: str, partitions: Iterable[int]
    ) -> Mapping[int, Committed | KafkaFault]:
        """Stable offsets."""
        self._cluster.passage(self._client, "committed")
        return {number: self._committed((topic, number)) for number in partitions}

    def _committed(self, partition: Partition) -> Committed | KafkaFault:
        if self._cluster.undecided(partition):
            return UnstableOffsetsError("read committed offsets", "UNSTABLE_OFFSET_COMMIT", retriable=True)
        offset, metadata = self._cluster.committed.get(partition, (None, ""))
        return Committed(offset, metadata)

    def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        """Stable offsets, all or none."""
        answers = self.committed_each(group, topic, partitions)
        for answer in answers.values():
            if isinstance(answer, KafkaFault):
                raise answer
        return cast("dict[int, Committed]", dict(answers))

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Nothing was ever deleted."""
        return dict.fromkeys(partitions, 0)

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Ends of consent and output."""
        self._cluster.passage(self._client, f"{isolation} {topic}")
        if topic == CONSENT:
            return {number: self._cluster.consent[number] for number in partitions}
        end = len(self._cluster.output) if isolation == "read_uncommitted" else self._cluster.last_stable_offset
        return dict.fromkeys(partitions, end)


@dataclass(repr=False)
class Store:
    """The consent store of one gateway and its freshness.

    Attributes:
        cluster: Where the consent topic is.
        client: The worker that reads it.
        position: What is applied.
        generation: Another after each rebuild.
        restored: Whether workers may use it.
    """

    cluster: Cluster
    client: str
    position: list[int] = field(default_factory=lambda: [5, 5])
    generation: int = 1
    restored: bool = True

    def apply(self) -> None:
        """Apply everything that there is."""
        self.position = [self.cluster.consent[number] for number in sorted(self.cluster.consent)]

    def rebuild(self) -> None:
        """Begin anew with the oldest state that can be."""
        self.position = [0 for _ in self.position]
        self.generation += 1

    def staleness_seconds(self, _now_ns: int) -> float:
        """Fresh: how stale consent may be is no part of the barrier."""
        return 0.0

    def snapshot(self) -> Snapshot:
        """The store as it is now."""
        self.cluster.passage(self.client, "snapshot")
        return Snapshot(self.cluster.topic_id, self.generation, tuple(self.position))


@dataclass(frozen=True)
class Snapshot:
    """What was applied at one time."""

    topic_id: str
    generation: int
    position: tuple[int, ...]
    blocked: frozenset[int] = frozenset()

    def lookup(self, _subject: object) -> tuple[int, ...]:
        """Return the position, which is all that the engine of this model looks at."""
        return self.position

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Clock:
    """Moves by a second at each look, so that whatever is done once a second is always due."""

    def __init__(self) -> None:
        self._ns = 0

    def now_ms(self) -> int:
        """Wall clock."""
        return self._ns // 1_000_000

    def monotonic_ns(self) -> int:
        """Monotonic clock."""
        self._ns += 1_000_000_000
        return self._ns


class _Engine:
    """Lets every record pass, with the consent position that it was decided under."""

    def __init__(self, decided: Callable[[], None]) -> None:
        self._decided = decided

    def process(self, batch: Sequence[object], consent: Callable[[object], Any], *_: object) -> list[list[Outcome]]:
        outcomes = self._outcomes(batch, consent)
        self._decided()
        return outcomes

    def _outcomes(self, batch: Sequence[object], consent: Callable[[object], Any]) -> list[list[Outcome]]:
        return [[Outcome(Fate.SANITIZED, value=cast("Any", consent(None)))] for _ in batch]


class _Plans:
    def get(self, _schema_id: int) -> ReadyPlan:
        return _READY

    def close(self) -> None:
        pass


class _Intake:
    def work(self, message: object, partition: Partition, offset: int) -> Work:
        return Work(cast("Any", message), partition, offset, 0, plan=_READY, record=cast("Any", message))


class _Delivery:
    outputs = (OUTPUT,)

    def produce(self, producer: Any, batch: Sequence[Work], outcomes: Sequence[Sequence[Outcome]]) -> None:  # noqa: ANN401 - its client is the model's.
        for work, (outcome,) in zip(batch, outcomes, strict=True):
            producer._producer.produce(OUTPUT, work.partition, work.offset, outcome.value)


class _Tally:
    def __init__(self, status: StatusWriter) -> None:
        self.status = status

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def use_models(monkeypatch: pytest.MonkeyPatch, cluster: Callable[[], Cluster]) -> None:
    """Let the product's clients stand on the model instead of on librdkafka."""
    consumer = lambda *given, **named: ConsumerModel(cluster(), *given, **named)  # noqa: E731 - one line each.
    producer = lambda *given, **named: ProducerModel(cluster(), *given, **named)  # noqa: E731 - as above.
    monkeypatch.setattr(consumer_module, "Consumer", consumer)
    monkeypatch.setattr(producer_module, "Producer", producer)


class RunningWorker:
    """A worker of the product that is moved turn by turn."""

    def __init__(self, cluster: Cluster, slot: int, directory: Path, store: Store | None = None) -> None:
        self.name = f"{GROUP}.{slot}"
        self.store = Store(cluster, self.name) if store is None else store
        self.busy = False
        clock = Clock()
        self.assignment = Assignment(
            AssignmentSettings("clicks", slot, GROUP, POLICY, CONSENT, 5),
            admin=cast("Any", Questions(cluster, self.name)),
            store=cast("Any", self.store),
            freshness=cast("Any", self.store),
            clock=clock,
        )
        self.worker: Any = Worker(
            WorkerSettings(SOURCE, interval_seconds=0.1, max_records=100, max_bytes=1_000_000),
            consumer=lambda owner: GroupConsumer({}, GROUP, self.name, owner),
            producer=lambda: TransactionalProducer({}, self.name),
            assignment=self.assignment,
            store=cast("Any", self.store),
            engine=cast("Any", _Engine(lambda: cluster.passage(self.name, "decided"))),
            plans=cast("Any", _Plans()),
            intake=cast("Any", _Intake()),
            delivery=cast("Any", _Delivery()),
            suspects=Suspects(directory, "clicks", slot),
            tally=cast("Any", _Tally(StatusWriter(directory / f"{slot}.status"))),
            clock=clock,
        )
        # What its run does before the loop.
        self.worker._producer.init_transactions()
        self.worker._consumer.subscribe([SOURCE])

    def turn(self) -> None:
        """Turn once, unless it stands still within a turn."""
        if self.busy:
            return
        self.busy = True
        try:
            self.worker._turn()
        finally:
            self.busy = False


def barrier(cluster: Cluster, withdrawal: Withdrawal) -> Barrier:
    """Return the barrier of a withdrawal."""
    flows = (Flow("clicks", GROUP, SOURCE, (OUTPUT,)),)
    return Barrier(Questions(cluster, BARRIER), Clock(), withdrawal, flows, "gw", POLICY)


def violations(cluster: Cluster, withdrawal: Withdrawal, high_watermark: int) -> list[Sanitized]:
    """Return the records at or past H that have left and were decided without the withdrawal."""
    return [
        entry
        for entry in cluster.output[high_watermark:]
        if entry and entry.transaction.committed and entry.decided[withdrawal.partition] <= withdrawal.offset
    ]
