"""The body of a replay's child process: a worker whose topic is the dead letters, with ends and rules of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tokenweir import __version__
from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentreader import ConsentStoreReader
from tokenweir.adapters.consentstore import boot_id, store_directory
from tokenweir.adapters.freshness import FILE_NAME, Freshness
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.adapters.recordreader import RecordReader
from tokenweir.core.context import EpochOutput, fed_epochs
from tokenweir.core.engineapi import Engine
from tokenweir.core.keys import Keyset
from tokenweir.core.librdkafka import PropertyValue
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.runtime.assignment import Assignment, AssignmentSettings
from tokenweir.runtime.clock import Clock, SystemClock
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.plans import PlanCache
from tokenweir.runtime.quarantine import Suspects
from tokenweir.runtime.reading import WorkerSettings
from tokenweir.runtime.replayintake import LetterConsumer, ReplayDelivery, ReplayIntake, ReplayTally
from tokenweir.runtime.replayledger import Intent, Ledger
from tokenweir.runtime.replayletters import Choice, Desk
from tokenweir.runtime.replaysource import SourceRecords
from tokenweir.runtime.status import MAX_BATCH_RECORDS
from tokenweir.runtime.survey import replay_group
from tokenweir.runtime.worker import Worker
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

#: The one slot of a replay: a second replay fences the first.
SLOT: Final = 0

#: What the source records of one transaction may need at most, were each as large as its topic takes.
_BATCH_BYTES: Final = 128 << 20
#: Kafka's default of the topic's max.message.bytes.
_MESSAGE_BYTES: Final = 1_048_588
#: A member that another one leaves nothing has its say in the group long before this.
_NOTHING_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What a replay is to do.

    Attributes:
        choice: Which letters.
        ends: By partition of the dead-letter topic, where to stop.
        limit: How many chosen letters at most.
        unsettled: What the child before this one intended last and did not settle.
    """

    choice: Choice
    ends: Mapping[int, int]
    limit: int | None = None
    unsettled: Intent | None = None


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """What a replay has in common with the stream's workers."""

    gateway: Gateway
    loaded: LoadedPolicy
    stream: str
    keyset: Keyset
    properties: Mapping[str, PropertyValue]
    max_bytes: int
    admin: Admin
    engine: Engine
    plans: PlanCache
    outputs: tuple[EpochOutput, ...]
    dead_letter_schema_id: int
    tally: ReplayTally


def suspects_name(stream: str) -> str:
    """Return under which name the letters are counted that end a replay; no stream has it, for the dot."""
    return f"{stream}.replay"


def new_ledger(stream: str, source_topic: str, order: ReplayOrder) -> Ledger:
    """Return the ledger that tells the parent, on standard output, and the log which source records are gone."""

    def on_gone(partition: int, offset: int) -> None:
        log(Event.REPLAY_SOURCE_GONE, stream=stream, topic=source_topic, partition=partition, offset=offset)

    return Ledger(sys.stdout, order.unsettled, on_gone)


def run_replay(parts: ReplayParts, order: ReplayOrder, stopping: Callable[[], bool]) -> None:
    """Replay until the ends or the limit are reached, or ``stopping`` says so.

    Raises:
        KafkaFault: Another replay has taken over; or as :class:`Worker` says.
        RefusedError: as :class:`Worker` says.
    """
    gateway, stream, config = parts.gateway, parts.stream, parts.gateway.config
    source = parts.loaded.policy.streams[stream].source
    letters = gateway.dead_letter_topic(source.topic)
    group = replay_group(gateway.group(stream))
    transactional_id = f"{group}.{SLOT}"
    id_key, mac_key = parts.keyset.consent_store_keys()
    store = ConsentStoreReader(
        store_directory(config.state.directory, gateway.engine),
        id_key.reveal(),
        mac_key.reveal(),
        engine=gateway.engine,
    )
    clock = SystemClock()
    ledger = parts.tally.ledger
    assignment = Assignment(
        AssignmentSettings(
            stream=stream,
            slot=SLOT,
            group=group,
            policy_digest=parts.loaded.digest,
            consent_topic=config.consent.topic,
            max_staleness_seconds=config.consent.max_staleness_seconds,
            epochs=fed_epochs(parts.outputs),
        ),
        admin=parts.admin,
        store=store,
        freshness=Freshness(config.state.directory / FILE_NAME, boot_id()),
        clock=clock,
    )
    sources = SourceRecords(
        parts.admin,
        source.topic,
        lambda: RecordReader(
            parts.properties, source.topic, f"{transactional_id}.source", on_wait=parts.tally.heartbeat
        ),
    )
    intake = ReplayIntake(
        parts.plans,
        clock,
        framed=source.format != "json",
        desk=Desk(parts.loaded.policy, stream, order.choice, parts.outputs),
        sources=sources,
    )
    consumer = LetterConsumer(
        parts.properties,
        group,
        transactional_id,
        assignment,
        admin=parts.admin,
        topic=letters,
        ends=order.ends,
        limit=order.limit,
        intake=intake,
        ledger=ledger,
    )
    worker = Worker(
        WorkerSettings(
            topic=letters,
            interval_seconds=config.gateway.commit.interval_ms / 1000,
            max_records=_max_letters(parts.admin, source.topic),
            max_bytes=config.gateway.commit.bytes,
        ),
        consumer=lambda _owner: consumer,
        producer=lambda: TransactionalProducer(parts.properties, transactional_id, max_batch_bytes=parts.max_bytes),
        assignment=assignment,
        store=store,
        engine=parts.engine,
        plans=parts.plans,
        intake=intake,
        delivery=ReplayDelivery(
            outputs=tuple(output.topic for output in parts.outputs),
            dead_letter_topic=letters,
            dead_letter_schema_id=parts.dead_letter_schema_id,
            policy_digest=parts.loaded.digest,
            version=__version__,
            ledger=ledger,
        ),
        suspects=Suspects(config.state.directory, suspects_name(stream), SLOT),
        tally=parts.tally,
        clock=clock,
    )
    alone = _Alone(assignment, clock)
    try:
        worker.run(lambda: stopping() or consumer.finished or alone.check())
    finally:
        sources.close()


class _Alone:
    """Notices that another replay has every partition.

    The one that came later fences the other, which learns of it with its first transaction after the rebalance. Only
    if it was left no partition, it makes no transaction any more, and would wait for ever.
    """

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._nothing_since_ns: int | None = None

    def check(self) -> bool:
        """Return False.

        Raises:
            KafkaFault: There has been no partition for a while: as good as fenced.
        """
        assignment, now_ns = self._assignment, self._clock.monotonic_ns()
        if not assignment.joined or assignment.taking or assignment.next_offsets:
            self._nothing_since_ns = None
        elif self._nothing_since_ns is None:
            self._nothing_since_ns = now_ns
        elif (now_ns - self._nothing_since_ns) / 1e9 > _NOTHING_SECONDS:
            raise KafkaFault("replay", "_FENCED", "another member has all partitions", fatal=True)
        return False


def _max_letters(admin: Admin, source_topic: str) -> int:
    """Return how many letters one transaction may take, so that their source records fit the process."""
    message_bytes = int(admin.topic_config(source_topic).get("max.message.bytes", _MESSAGE_BYTES))
    return max(1, min(_BATCH_BYTES // max(message_bytes, 1), MAX_BATCH_RECORDS))
