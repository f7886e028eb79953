"""One Kafka cluster in memory, as far as the revoke barrier depends on it.

The product's own consumers, producers and barrier work on it, with the clients of :mod:`tests.support.groupclients` in
place of librdkafka's. Each call of a client passes :attr:`Cluster.passage`, in which a test may let anything else
happen, so that a process stands still at exactly this point: every interleaving is one of nested calls.

What brokers do is taken from Kafka's group and transaction coordinators: a commit of offsets is checked for member and
generation, except where it gives neither; offsets and records are decided by markers that arrive one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from tokenweir.adapters.consumer import Partition
from tokenweir.adapters.kafka_errors import KafkaFault

SOURCE: Final = "raw"
OUTPUT: Final = "clean"
CONSENT: Final = "consent"
GROUP: Final = "gw.clicks"
POLICY: Final = "policy-1"
BARRIER: Final = "barrier"
TOOL: Final = "tool"
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
LAST_LOOKS: Final = ("describe consent", "read_uncommitted consent", "describe raw", "committed")
"""The questions of the tool that sets offsets before it has read what it compares, in the order in which it asks.

Between its last answer and its write a gateway can come and go unseen: no request of Kafka closes that gap.
"""


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

    def key(self) -> None:
        """None."""

    def headers(self) -> None:
        """None."""

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

    def set_committed(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Take offsets from outside of the group, as a broker does while there are no members: it compares nothing."""
        if self.members:
            raise KafkaFault("set committed offsets", "UNKNOWN_MEMBER_ID")
        self.committed.update(offsets)

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
            raise kafka_exception(KafkaError.UNKNOWN_MEMBER_ID, abortable=True)
        if (member or generation >= 0) and generation != self.generation:
            raise kafka_exception(KafkaError.ILLEGAL_GENERATION, abortable=True)
        transaction.offsets.update(offsets)

    def end(self, transaction: Transaction, *, committed: bool) -> None:
        """Decide a transaction."""
        transaction.committed = committed
        if not transaction.offsets:
            transaction.unmarked.discard("offsets")


def client_of(member: str) -> str:
    """Return the client id of a member."""
    return member.partition("/")[0]


def kafka_exception(code: int, *, abortable: bool = False, fatal: bool = False) -> KafkaException:
    """Return what librdkafka raises."""
    return KafkaException(KafkaError(code, "as the model says", fatal, False, abortable))
