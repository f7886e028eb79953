"""The consent applier: keeps the local store equal to the consent topic, and proves how fresh it is.

It is the only writer of the store. Workers may decide anything only while the freshness file says that the store is
restored and young enough; whatever goes wrong here lets that age grow, and so stops them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.consentstore import ConsentStoreWriter, OpenReason, StoreCorruptError
from tokenweir.adapters.freshness import FreshnessWriter
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.topicreader import TopicBatch, TopicReader
from tokenweir.core.consent import Applied, ConsentRecord
from tokenweir.core.librdkafka import PropertyValue
from tokenweir.errors import RefusedError
from tokenweir.runtime.consentends import ConsentEnds, Observation, RebuildError, require_same
from tokenweir.runtime.proofs import FreshnessProofs
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

#: One LMDB transaction; with fewer keys its fixed cost would dominate a restore.
BATCH_RECORDS: Final = 1_000

#: How long a read waits for a full batch, and so the most that a decision waits here.
BATCH_SECONDS: Final = 0.05

#: How often the topic's end is asked for.
PROOF_SECONDS: Final = 1.0

CLIENT_ID: Final = "tokenweir.applier"
_ANSWER_SECONDS: Final = 3.0
_LOOK_NS: Final = 1_000_000_000
_CARE_NS: Final = 10 * _LOOK_NS
_SETTLED_NS: Final = 60 * _LOOK_NS
# A running store is rebuilt too if it lost the topic for so long that it may have missed a tombstone. Retentions
# below two minutes are for tests: proofs come once a second, and cannot show anything finer.
_SHORTEST_AGE_MS: Final = 60_000

# A connection that swallows everything, as a firewall leaves it, is given up after the first, and a broker that refused
# is tried again after the second: librdkafka's own 60 and 10 seconds would be the length of the pause.
_DEFAULTS: Final[Mapping[str, PropertyValue]] = {"socket.timeout.ms": 5_000, "reconnect.backoff.max.ms": 1_000}


class Stop(Protocol):
    """What a ``threading.Event`` and its kin of ``multiprocessing`` offer."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set or the time is up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the applier reports, after every change and at least once a second.

    Attributes:
        position: The next offset to apply, by partition; empty until the topic is known.
        staleness_seconds: The age of the oldest partition's last proof of freshness; infinite until it is restored.
        restored: Whether workers may use the store.
        generation: Another number after every rebuild of the store.
        blocked: Consent partitions with a key that could not be read; all subjects are denied.
        applied: Totals since the start.
    """

    position: tuple[int, ...]
    staleness_seconds: float
    restored: bool
    generation: int
    blocked: frozenset[int]
    applied: Applied


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def nobody(_progress: Progress) -> None:
    """Report to nobody."""


class ConsentApplier:
    """Restores the store, follows the topic, and keeps the freshness file. Run it once."""

    def __init__(  # noqa: PLR0913  # Its parts; the last ones have defaults that fit.
        self,
        properties: Mapping[str, PropertyValue],
        topic: str,
        store: ConsentStoreWriter,
        freshness: FreshnessWriter,
        *,
        on_progress: Callable[[Progress], None] = nobody,
        client_id: str = CLIENT_ID,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        """Put it together; nothing is contacted yet.

        Args:
            properties: The user's librdkafka properties with ``bootstrap.servers``.
            topic: The consent topic.
            store: Not open yet; closed when the run ends.
            freshness: Withdrawn when the run ends, and left to its owner.
            on_progress: Called in the thread that runs.
            client_id: The name in the broker's logs.
            monotonic_ns: The clock of the proofs; the one that readers of the freshness use.
            wall_ms: Milliseconds since 1970.
        """
        self._properties = {**_DEFAULTS, **properties}
        self._topic = topic
        self._store = store
        self._freshness = freshness
        self._on_progress = on_progress
        self._client_id = client_id
        self._monotonic_ns = monotonic_ns
        self._wall_ms = wall_ms
        self._ends = ConsentEnds(Admin(self._properties, client_id, _ANSWER_SECONDS), topic)
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="consent-proof")
        self._applied = Applied()
        self._described: TopicDescription | None = None
        self._max_age_ms = 0
        self._forget()

    def run(self, stop: Stop) -> None:
        """Work until ``stop`` is set.

        Raises:
            RefusedError: The topic was replaced or has another number of partitions, or too many, or another
                gateway uses the state directory.
            StoreUnavailableError: The disk does not take the store.
            KafkaFault: The client is unusable.
        """
        try:
            described = self._wait_for_topic(stop)
            if described is None:
                return
            reason = self._store.open(described.topic_id, described.partitions, self._max_age_ms, self._wall_ms())
            log(
                Event.CONSENT_STORE_OPENED,
                topic=self._topic,
                partitions=described.partitions,
                reason=reason.value,
            )
            self._log_blocked()
            self._begin()
            while not stop.is_set():
                try:
                    self._follow(stop)
                except (RebuildError, StoreCorruptError) as why:
                    self._freshness.withdraw()
                    cause = why.reason if isinstance(why, RebuildError) else OpenReason.CORRUPT.value
                    log(Event.CONSENT_STORE_REBUILT, topic=self._topic, reason=cause)
                    self._store.wipe(self._wall_ms())
                    self._begin()
        finally:
            self._freshness.withdraw()
            self._asker.shutdown(wait=False, cancel_futures=True)
            self._store.close()

    # --- start -------------------------------------------------------------------------------------------------------

    def _wait_for_topic(self, stop: Stop) -> TopicDescription | None:
        """Return the topic as it is, once the cluster answers; None if it is time to stop before that."""
        while not stop.is_set():
            try:
                self._described, self._max_age_ms = self._ends.describe()
            except KafkaFault as fault:
                if not fault.retriable:
                    raise RefusedError(f"the consent topic {self._topic} cannot be used: {fault}") from fault
                self._log_fault(fault, "find_topic")
                self._report()
                stop.wait(PROOF_SECONDS)
            else:
                return self._described
        return None

    def _begin(self) -> None:
        self._forget()
        self._freshness.begin(len(self._store.position), self._store.generation)
        self._report()

    def _forget(self) -> None:
        """Know nothing of the topic's end any more."""
        self._restored = False
        self._targets: Mapping[int, int] = {}
        self._proofs = FreshnessProofs(len(self._store.position))
        self._asked: Future[Observation] | None = None
        self._next_ask_ns = self._next_look_ns = self._next_care_ns = 0
        self._settles_at_ns: int | None = None

    # --- following the topic -----------------------------------------------------------------------------------------

    def _follow(self, stop: Stop) -> None:
        """Read on from the store's position until it is time to stop or the store has to be begun anew."""
        starts = self._first_offsets(stop)
        if starts is None:
            return
        reader = TopicReader(self._properties, self._topic, starts, self._client_id)
        try:
            while not stop.is_set():
                self._apply(reader.read(BATCH_RECORDS, BATCH_SECONDS))
                self._ask_and_hear()
                self._prove()
                self._take_care()
        finally:
            reader.close()

    def _first_offsets(self, stop: Stop) -> dict[int, int] | None:
        """Return where to begin to read; the high watermarks of this moment are what has to be restored."""
        while not stop.is_set():
            try:
                starts, self._targets = self._ends.starts(self._store.position)
            except KafkaFault as fault:
                if not fault.retriable:
                    raise
                self._log_fault(fault, "find_offsets")
                self._report()
                stop.wait(PROOF_SECONDS)
            else:
                return starts
        return None

    def _apply(self, batch: TopicBatch) -> None:
        if batch.offsets_gone:
            raise RebuildError("records_gone")
        for fault in batch.faults:
            if fault.fatal:
                raise fault
            self._log_fault(fault, "read")
        records = [
            ConsentRecord(
                message.partition() or 0,
                message.offset() or 0,
                _bytes(message.key()),
                _bytes(message.value()),
                message.timestamp()[1],
            )
            for message in batch.records
        ]
        position = {record.partition: record.offset + 1 for record in records}
        for partition, end in batch.ends.items():
            position[partition] = max(end, position.get(partition, 0))
        if not position:
            return
        applied = self._store.apply(records, position)
        self._applied += applied
        self._log_oddities(applied)
        self._report()

    def _log_oddities(self, applied: Applied) -> None:
        if applied.unreadable:
            self._log_blocked()
        if applied.undecodable:
            log(Event.CONSENT_UNDECODABLE, topic=self._topic, reason="state_undecodable")
        if applied.misplaced:
            log(Event.CONSENT_MISPLACED, topic=self._topic)
        if applied.unknown_purposes:
            log(Event.CONSENT_PURPOSE_UNKNOWN, topic=self._topic, records=applied.unknown_purposes)

    def _log_blocked(self) -> None:
        """Name what has to be acknowledged; until then every subject is denied."""
        for partition, offset in sorted(self._store.blocked_at.items()):
            log(
                Event.CONSENT_UNDECODABLE,
                topic=self._topic,
                partition=partition,
                offset=offset,
                reason="key_unreadable",
            )

    def _log_fault(self, fault: KafkaFault, phase: str) -> None:
        log(Event.KAFKA_FAULT, topic=self._topic, code=fault.code, phase=phase)

    # --- freshness ---------------------------------------------------------------------------------------------------

    def _ask_and_hear(self) -> None:
        """Ask once a second where the topic ends, without waiting, and take in the answer when it is there."""
        now_ns = self._monotonic_ns()
        if self._asked is None and now_ns >= self._next_ask_ns:
            self._next_ask_ns = now_ns + int(PROOF_SECONDS * 1e9)
            self._asked = self._asker.submit(self._ends.observe, now_ns, self._store.position)
        if self._asked is None or not self._asked.done():
            return
        answer, self._asked = self._asked, None
        try:
            seen = answer.result()
        except KafkaFault as fault:
            # No answer is no proof; the age grows.
            self._log_fault(fault, "find_end")
        else:
            require_same(self._described, seen)
            self._proofs.hear(seen.started_ns, seen.high, seen.stable)
        self._report()

    def _prove(self) -> None:
        """Publish what the answers so far prove at the present position."""
        proofs = self._proofs.prove(self._store.position)
        if not proofs:
            return
        self._freshness.prove(proofs)
        # A proof of every partition from after the start says as well that nothing below the targets is undecided.
        if (
            not self._restored
            and self._proofs.oldest_ns
            and all(self._store.position[partition] >= target for partition, target in self._targets.items())
        ):
            self._store.mark_complete(self._current_at_ms())
            self._freshness.restored()
            self._restored = True
            self._settles_at_ns = self._monotonic_ns() + _SETTLED_NS
            log(
                Event.CONSENT_RESTORED,
                topic=self._topic,
                partitions=len(self._store.position),
                records=self._applied.records,
            )
            self._report()

    def _current_at_ms(self) -> int:
        """Return the time of the oldest partition's last proof, on the wall clock."""
        return self._wall_ms() - (self._monotonic_ns() - self._proofs.oldest_ns) // 1_000_000

    # --- care --------------------------------------------------------------------------------------------------------

    def _take_care(self) -> None:
        """Do what is due every second and every ten."""
        now_ns = self._monotonic_ns()
        if now_ns < self._next_look_ns:
            return
        self._next_look_ns = now_ns + _LOOK_NS
        if self._store.corruption_reported():
            raise StoreCorruptError("a reader found an entry damaged")
        if self._restored and not self._young_enough():
            raise RebuildError("too_old")
        blocked_at = self._store.blocked_at
        if blocked_at:
            for partition in sorted(self._store.take_acknowledged()):
                log(Event.CONSENT_ACKNOWLEDGED, topic=self._topic, partition=partition, offset=blocked_at[partition])
        if now_ns < self._next_care_ns:
            return
        self._next_care_ns = now_ns + _CARE_NS
        self._store.reader_check()
        if self._restored:
            self._store.apply((), {}, self._current_at_ms())
        if self._settles_at_ns is not None and now_ns >= self._settles_at_ns:
            self._settles_at_ns = None
            self._store.settle()

    def _young_enough(self) -> bool:
        # The wall clock goes on while the machine sleeps, and the monotonic one does not.
        return self._wall_ms() - self._store.current_at_ms <= max(self._max_age_ms, _SHORTEST_AGE_MS)

    def _report(self) -> None:
        stale = (self._monotonic_ns() - self._proofs.oldest_ns) / 1e9 if self._restored else math.inf
        store = self._store
        self._on_progress(
            Progress(store.position, stale, self._restored, store.generation, store.blocked, self._applied)
        )


def _bytes(part: str | bytes | None) -> bytes | None:
    return part.encode() if isinstance(part, str) else part
