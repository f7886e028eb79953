"""The consent applier on a real broker: restore, freshness, rebuilds and refusals."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from tests.support.rig import Broker
from tests.support.stores import ENGINES, store_of

from tokenweir.adapters import consentfiles
from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentstore import (
    MAX_PARTITIONS,
    ConsentStoreReader,
    StoreUnavailableError,
    acknowledge,
    boot_id,
)
from tokenweir.adapters.freshness import FILE_NAME, Freshness
from tokenweir.core.consent import Decision, SourceState, SubjectConsent, Verdict, Word, answer, format_key, to_value
from tokenweir.core.subjects import Subject, partition_of
from tokenweir.errors import RefusedError
from tokenweir.runtime.applier import Progress
from tokenweir.runtime.applierprocess import ApplierSettings, run_applier

pytestmark = pytest.mark.integration

PARTITIONS = 3
PATIENCE_SECONDS = 30.0
ANN, BOB, CID = (Subject("customer", f"{number:010}") for number in (1, 2, 3))
_TOPICS = iter(range(1_000))


def now_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


def until(true: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until something holds; return how long it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - started


def value(word: Word) -> bytes:
    """Return a state that decides one purpose now."""
    return to_value(SourceState(now_ms(), {"a": Decision(word, now_ms())}))


class Topic:
    """A consent topic and who writes on it."""

    def __init__(self, broker: Broker, config: Mapping[str, str] | None = None, partitions: int = PARTITIONS) -> None:
        self.name = f"consent-{next(_TOPICS)}"
        self.bootstrap = broker.bootstrap
        self.partitions = partitions
        self.config = {"cleanup.policy": "compact", **(config or {})}
        broker.create_topic(self.name, partitions, self.config)
        self._producer = Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 0, "log_level": 0, "enable.idempotence": True}
        )

    def decide(self, *decisions: tuple[Subject, Word | None], source: str = "") -> None:
        """Write decisions, each where Kafka's Java client would."""
        for subject, word in decisions:
            self.write(format_key(subject, source), None if word is None else value(word))

    def write(self, key: bytes, content: bytes | None, partition: int | None = None) -> None:
        """Write a record and wait until it is acknowledged."""
        place = partition_of(key, self.partitions) if partition is None else partition
        self._producer.produce(self.name, content, key, place)
        assert self._producer.flush(PATIENCE_SECONDS) == 0

    def transaction(self, *decisions: tuple[Subject, Word]) -> Producer:
        """Write decisions in a transaction that stays open."""
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "transactional.id": self.name, "linger.ms": 0, "log_level": 0}
        )
        producer.init_transactions(PATIENCE_SECONDS)
        producer.begin_transaction()
        for subject, word in decisions:
            key = format_key(subject)
            producer.produce(self.name, value(word), key, partition_of(key, self.partitions))
        assert producer.flush(PATIENCE_SECONDS) == 0
        return producer


class Gateway:
    """An applier in a process of its own, and a worker's view of its store in this one."""

    engine = "reference"

    def __init__(self, topic: Topic, state: Path) -> None:
        self.settings = ApplierSettings(
            {"bootstrap.servers": topic.bootstrap, "log_level": 0},
            topic.name,
            state,
            bytes(range(32)),
            bytes(range(32, 64)),
            boot_id(),
            frozenset({"a"}),
            engine=self.engine,
        )
        self.directory = store_of(state, self.engine)
        self.reader = ConsentStoreReader(
            self.directory, self.settings.id_key, self.settings.mac_key, engine=self.engine
        )
        self.freshness = Freshness(state / FILE_NAME, self.settings.boot_id)
        self.seen: list[Progress] = []
        self.refusal = ""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(self.settings, self._stop, sender))
        self.process.start()
        sender.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.process.join(PATIENCE_SECONDS)
        self.listen()
        self.reader.close()
        self.freshness.close()
        assert self.process.exitcode is not None
        self._receiver.close()

    def listen(self) -> list[Progress]:
        """Take in what the process reported, and return all of it."""
        try:
            while self._receiver.poll():
                message = self._receiver.recv()
                if isinstance(message, str):
                    self.refusal = message
                else:
                    self.seen.append(message)
        except EOFError:
            pass
        return self.seen

    @property
    def restored(self) -> bool:
        """Whether a worker that allows two seconds may use the store; a killed applier's word stands until then."""
        return self.staleness_seconds < 2

    @property
    def staleness_seconds(self) -> float:
        """The age that a worker sees."""
        return self.freshness.staleness_seconds(time.monotonic_ns())

    def word(self, subject: Subject) -> Verdict:
        """Return what a worker is told about a subject."""
        with self.reader.snapshot() as snapshot:
            return answer(snapshot.lookup(subject), "a", now_ms()).kind

    def all_of(self, subject: Subject) -> SubjectConsent:
        """Return all that a worker is told of a subject."""
        with self.reader.snapshot() as snapshot:
            return snapshot.lookup(subject)

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join(PATIENCE_SECONDS)


@pytest.fixture(autouse=True, params=ENGINES)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test use both bindings of LMDB."""
    monkeypatch.setattr(Gateway, "engine", request.param)


def _run(settings: ApplierSettings, stop: Event, reports: Connection) -> None:
    try:
        run_applier(settings, stop, reports.send)
    except RefusedError as refusal:
        reports.send(str(refusal))


def test_a_topic_is_restored_whole(kafka: Broker, tmp_path: Path) -> None:
    """Every subject has its last state, and the position is the end of every partition."""
    topic = Topic(kafka)
    subjects = [Subject("customer", f"{number:010}") for number in range(2_500)]
    for subject in subjects:
        topic._producer.produce(
            topic.name, value("allow"), format_key(subject), partition_of(format_key(subject), PARTITIONS)
        )
        topic._producer.poll(0)
    topic.decide((subjects[7], "deny"), (subjects[8], None))

    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)

        assert [gateway.word(subject) for subject in subjects[6:10]] == ["allow", "deny", "unknown", "allow"]
        assert {gateway.word(subject) for subject in subjects[9:]} == {Verdict.ALLOW}
        ends = Admin(gateway.settings.properties).high_watermarks(topic.name, range(PARTITIONS))
        with gateway.reader.snapshot() as snapshot:
            assert dict(enumerate(snapshot.position)) == ends
        until(lambda: gateway.staleness_seconds < 2)
        assert gateway.listen()[-1].applied.records == 2_502


@pytest.mark.parametrize("committed", [True, False])
def test_an_open_transaction_below_the_end_keeps_it_unready(kafka: Broker, tmp_path: Path, *, committed: bool) -> None:
    """A restore that ends at the last stable offset would miss the withdrawals behind it."""
    topic = Topic(kafka, partitions=1)
    topic.decide((ANN, "allow"), (BOB, "allow"))
    transaction = topic.transaction((CID, "allow"))
    topic.decide((ANN, "deny"))

    with Gateway(topic, tmp_path) as gateway:
        until(lambda: any(progress.position == (2,) for progress in gateway.listen()))
        time.sleep(2.5)
        assert not gateway.restored
        with pytest.raises(StoreUnavailableError):
            gateway.reader.snapshot()

        if committed:
            transaction.commit_transaction(PATIENCE_SECONDS)
        else:
            transaction.abort_transaction(PATIENCE_SECONDS)

        until(lambda: gateway.restored)
        assert gateway.word(ANN) is Verdict.DENY
        assert gateway.word(CID) is (Verdict.ALLOW if committed else Verdict.UNKNOWN)
        assert gateway.listen()[-1].position == (5,)


def test_live_decisions_arrive_within_a_second(kafka: Broker, tmp_path: Path) -> None:
    """From the producer's acknowledgement to a worker's snapshot, and the store stays fresh meanwhile."""
    topic = Topic(kafka)
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        for round_number in range(6):
            word: Word = "deny" if round_number % 2 else "allow"
            topic.decide((ANN, word))
            assert until(lambda word=word: gateway.word(ANN) == word) < 1  # type: ignore[misc]  # Bound per round.
        until(lambda: gateway.staleness_seconds < 1.9)


def test_an_undecided_live_transaction_makes_it_stale(kafka: Broker, tmp_path: Path) -> None:
    """What may still become a withdrawal is not overlooked; an abort, which delivers nothing, makes it fresh again."""
    topic = Topic(kafka)
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        transaction = topic.transaction((ANN, "deny"))
        until(lambda: gateway.staleness_seconds > 3)
        assert gateway.freshness.restored
        transaction.abort_transaction(PATIENCE_SECONDS)
        until(lambda: gateway.staleness_seconds < 1.5)
        assert gateway.word(ANN) is Verdict.UNKNOWN


def test_a_restart_goes_on_where_it_was(kafka: Broker, tmp_path: Path) -> None:
    """A closed store, and one whose writer was killed, are kept; only what came since is read."""
    topic = Topic(kafka)
    topic.decide((ANN, "allow"), (BOB, "allow"))
    with Gateway(topic, tmp_path) as first:
        until(lambda: first.restored)
    assert not first.restored

    topic.decide((ANN, "deny"))
    with Gateway(topic, tmp_path) as second:
        until(lambda: second.restored)
        assert (second.word(ANN), second.word(BOB)) == ("deny", "allow")
        assert second.listen()[-1].applied.records == 1
        second.kill()
        until(lambda: second.staleness_seconds > 2)

    topic.decide((BOB, "deny"))
    with Gateway(topic, tmp_path) as third:
        until(lambda: third.restored)
        assert (third.word(ANN), third.word(BOB)) == ("deny", "deny")
        last = third.listen()[-1]
        assert last.applied.records == 1
        assert last.generation == first.seen[-1].generation


def test_a_store_that_may_have_missed_a_tombstone_is_rebuilt(kafka: Broker, tmp_path: Path) -> None:
    """Older than half of the topic's delete.retention.ms."""
    topic = Topic(kafka, {"delete.retention.ms": "2000"})
    topic.decide((ANN, "allow"))
    with Gateway(topic, tmp_path) as first:
        until(lambda: first.restored)
    time.sleep(1.5)
    with Gateway(topic, tmp_path) as second:
        until(lambda: second.restored)
        assert second.word(ANN) is Verdict.ALLOW
        assert second.listen()[-1].applied.records == 1
    assert second.seen[-1].generation != first.seen[-1].generation


def test_records_that_are_gone_mean_a_rebuild(kafka: Broker, tmp_path: Path) -> None:
    """What was deleted below the position of nobody was never applied, so the rest is read anew."""
    topic = Topic(kafka, {"cleanup.policy": "compact,delete"}, partitions=1)
    topic.decide((ANN, "allow"))
    with Gateway(topic, tmp_path) as first:
        until(lambda: first.restored)
    topic.decide((BOB, "deny"), (CID, "deny"))
    Admin(first.settings.properties).delete_records(topic.name, {0: 2})
    with Gateway(topic, tmp_path) as second:
        until(lambda: second.restored)
        assert [second.word(subject) for subject in (ANN, BOB, CID)] == ["unknown", "unknown", "deny"]


def test_a_replaced_topic_is_refused(kafka: Broker, tmp_path: Path) -> None:
    """A topic of the same name is another topic, and what it does not say was not taken back."""
    topic = Topic(kafka)
    topic.decide((ANN, "deny"))
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        Admin(gateway.settings.properties).delete_topic(topic.name)
        until(lambda: topic.name not in Admin(gateway.settings.properties).topics())
        kafka.create_topic(topic.name, PARTITIONS, topic.config)
        gateway.process.join(PATIENCE_SECONDS)
        gateway.listen()
        assert "replaced" in gateway.refusal
        assert not gateway.restored


def test_added_partitions_are_refused(kafka: Broker, tmp_path: Path) -> None:
    """Keys would lie in other partitions than before."""
    topic = Topic(kafka)
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        client = AdminClient({"bootstrap.servers": topic.bootstrap})
        client.create_partitions([NewPartitions(topic.name, 4)])[topic.name].result(PATIENCE_SECONDS)
        gateway.process.join(PATIENCE_SECONDS)
        gateway.listen()
        assert "number of partitions" in gateway.refusal


def test_a_missing_or_too_wide_topic_is_refused(kafka: Broker, tmp_path: Path) -> None:
    """Without its topic, or with one whose position cannot be stored, a gateway does not start."""
    topic = Topic(kafka, partitions=MAX_PARTITIONS + 1)
    with Gateway(topic, tmp_path / "wide") as wide:
        wide.process.join(PATIENCE_SECONDS)
    assert str(MAX_PARTITIONS) in wide.refusal
    topic.name = "consent-that-is-not-there"
    with Gateway(topic, tmp_path / "missing") as missing:
        missing.process.join(PATIENCE_SECONDS)
    assert "UNKNOWN_TOPIC_OR_PART" in missing.refusal


def test_a_second_applier_is_refused_and_harms_nothing(kafka: Broker, tmp_path: Path) -> None:
    """Two gateways cannot share a state directory, and the first does not notice the attempt."""
    topic = Topic(kafka)
    with Gateway(topic, tmp_path) as first:
        until(lambda: first.restored)
        with Gateway(topic, tmp_path) as second:
            second.process.join(PATIENCE_SECONDS)
        assert "state directory" in second.refusal
        assert first.restored
        until(lambda: first.staleness_seconds < 1.5)


def test_damage_that_a_worker_finds_is_repaired(kafka: Broker, tmp_path: Path) -> None:
    """The store is rebuilt from the topic; meanwhile nothing is restored, and its generation tells the workers."""
    topic = Topic(kafka)
    topic.decide((ANN, "allow"))
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        generation = gateway.freshness.generation
        consentfiles.report_corrupt(gateway.directory, consentfiles.inode(gateway.directory))
        until(lambda: gateway.freshness.generation not in (0, generation))
        until(lambda: gateway.restored)
        assert gateway.word(ANN) is Verdict.ALLOW
        rebuilt = [progress.restored for progress in gateway.listen() if progress.generation != generation]
        assert rebuilt[0] is False
        assert rebuilt[-1] is True


def test_records_that_cannot_be_read_deny(kafka: Broker, tmp_path: Path) -> None:
    """A bad value or a wrong partition denies its subject, a bad key everyone until somebody looked at it."""
    topic = Topic(kafka)
    topic.decide((ANN, "allow"), (BOB, "allow"), (CID, "allow"))
    ann, bob = format_key(ANN), format_key(BOB)
    topic.write(ann, b'{"version": 2}')
    topic.write(bob, value("allow"), (partition_of(bob, PARTITIONS) + 1) % PARTITIONS)
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        assert [gateway.word(subject) for subject in (ANN, BOB, CID)] == ["deny", "deny", "allow"]
        applied = gateway.listen()[-1].applied
        assert (applied.undecodable, applied.misplaced) == (1, 1)

        topic.write(b"nobody", b"{}", 0)
        until(lambda: gateway.word(CID) is Verdict.DENY)
        until(lambda: gateway.listen()[-1].blocked == {0})
        with gateway.reader.snapshot() as snapshot:
            topic_id, offset = snapshot.topic_id, snapshot.position[0] - 1
        acknowledge(gateway.directory.parent, topic_id, 0, offset)
        until(lambda: gateway.word(CID) is Verdict.ALLOW)

        topic.write(ann, value("allow"))
        topic.write(bob, None, (partition_of(bob, PARTITIONS) + 1) % PARTITIONS)
        until(lambda: [gateway.word(subject) for subject in (ANN, BOB)] == ["allow", "allow"])


def test_no_log_or_report_shows_a_subject(kafka: Broker, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever stands on the topic, nothing of it is said by the applier."""
    canary = "canary-7f3a"
    topic = Topic(kafka)
    topic.write(f"{canary}".encode(), canary.encode(), 0)
    topic.decide((Subject("customer", canary), "allow"), source=canary)
    topic.write(f"customer:{canary}".encode(), canary.encode(), 0)
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
    said = capfd.readouterr()
    assert canary not in said.out + said.err + repr(gateway.seen)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or (canary.encode() not in path.read_bytes() or path.name == "data.mdb")


def test_the_broker_may_go_away_and_come_back(broker_factory: Callable[..., Broker], tmp_path: Path) -> None:
    """Without the topic the store goes stale, and it is fresh again by itself once the broker answers."""
    broker = broker_factory()
    broker.start()
    topic = Topic(broker)
    topic.decide((ANN, "allow"))
    with Gateway(topic, tmp_path) as gateway:
        until(lambda: gateway.restored)
        broker.kill()
        until(lambda: gateway.staleness_seconds > 3)
        broker.start()
        until(lambda: gateway.staleness_seconds < 2, 60)
        assert gateway.process.is_alive()
        assert gateway.word(ANN) is Verdict.ALLOW
