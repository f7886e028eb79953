"""Replays of dead letters on a real broker: the right output, exactly once, under the consent of now."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.replays import Letters, event
from tests.support.rig import Broker, SchemaRegistry
from tests.support.scan import CanaryScanner, plain_segments
from tests.support.worlds import NEXT_SCHEMA, RunningGateway, World, until

from tokenweir.adapters.consumer import GroupConsumer, Partition
from tokenweir.adapters.producer import OffsetToCommit, TransactionalProducer
from tokenweir.adapters.recordreader import RecordReader
from tokenweir.core import avro, avro_codec, deadletter, wire
from tokenweir.core.outcome import Reason
from tokenweir.runtime.position import ConsentPosition

Make = Callable[[], Letters]
SEED = int(os.environ.get("TOKENWEIR_SEED", "7"))


@pytest.fixture(scope="module")
def make(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Make worlds with names of their own and dead letters in one partition, so that the letters have an order."""

    def new() -> Letters:
        name = f"replay-{uuid.uuid4().hex[:8]}"
        world = World(tmp_path_factory.mktemp(name), name, kafka.bootstrap, registry.url)
        world.admin.create_topic(f"{world.source}.dead-letters", 1)
        fixed = world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        made.append(Letters(world, kafka.bootstrap))
        return made[-1]

    made: list[Letters] = []
    yield new
    for letters in made:
        letters.end()


@pytest.fixture(scope="module")
def beside(make: Make) -> Letters:
    """A world in which a gateway runs."""
    return make()


@pytest.fixture(scope="module")
def gateway(beside: Letters) -> Iterator[RunningGateway]:
    """That gateway."""
    running = beside.world.start()
    try:
        until(running.ready, running.log)
        yield running
    finally:
        running.stop()


def _status(letters: Letters, told: dict[str, Any], seconds: str) -> dict[str, Any]:
    """Return the barrier's answer for a withdrawal that was written before."""
    place = ("--partition", str(told["partition"]), "--offset", str(told["offset"]), "--wait", seconds)
    done = letters.world.cli("consent", "status", *place, "--format", "json")
    return dict(json.loads(done.stdout)["enforcement"])


def _revoke(letters: Letters, customer: int, seconds: str) -> dict[str, Any]:
    done = letters.world.cli("consent", "revoke", f"customer:{customer:010}", "--wait", seconds, "--format", "json")
    return dict(json.loads(done.stdout))


# Beside a gateway that runs


@pytest.mark.chaos
def test_a_schema_that_is_registered_later_makes_good_what_was_rejected(
    beside: Letters, gateway: RunningGateway
) -> None:
    """Keys, values, times and order are the gateway's own for the same records; a second replay adds nothing."""
    world = beside.world
    beside.allow(1, 2)
    gateway.wait_for_consent()
    known = beside.write_events((number % 2, 1 + number % 2, f"known-{number}") for number in range(8))
    until(lambda: len(world.read("raw.crm")) == 8, gateway.log)
    # Ids are given in order, so that the next one is known before it exists.
    probe = world.registry.register(f"{world.name}-probe", json.dumps({"type": "string"}), "AVRO")
    for customer in (1, 2, 3):
        late = event(customer, f"late-{customer}", NEXT_SCHEMA)
        beside.write_events([(customer % 2, customer, "")] * 3, schema_id=probe + 1, datum=late)
    until(lambda: len(beside.letters()) == 18, gateway.log)
    beside.write_letters(known)
    assert world.register(NEXT_SCHEMA) == probe + 1

    counted = json.loads(world.cli("replay", "interactions", "--dry-run", "--format", "json").stdout)
    first = beside.replay()
    second = beside.replay()

    assert (counted["chosen"], counted["source_records_present"]) == (26, 26)
    assert {each["schema_id"]: each["letters"] for each in counted["letters"] if each["audience"] == "crm"} == {
        world.schema_id: 8,
        probe + 1: 9,
    }
    assert (first["end"], first["read"], first["chosen"]) == ("done", 26, 26)
    by_audience = {each["audience"]: (each["sanitized"], each["withheld"]) for each in first["letters"]}
    assert by_audience == {"crm": (14, 3), "ads": (0, 9)}
    assert (second["read"], second["end"]) == (0, "done")
    assert beside.kinds() == Counter({**{source.kind: 2 for source in known}, "late-1": 3, "late-2": 3})
    by_key: dict[bytes, list[tuple[bytes, int]]] = {}
    for record in world.read("raw.crm"):
        if b"known-" in record.value:
            by_key.setdefault(record.key, []).append((record.value, record.timestamp_ms))
    assert len(by_key) == 2
    for twice in by_key.values():
        assert twice[:4] == twice[4:]
    assert world.read("raw.ads") == []


@pytest.mark.integration
def test_a_replay_at_work_holds_a_withdrawal_up_and_one_that_has_ended_does_not(
    beside: Letters, gateway: RunningGateway
) -> None:
    """A replay that stands still is named; once it goes on, nothing of that customer lies at or past the evidence."""
    world = beside.world
    beside.allow(10, 11)
    gateway.wait_for_consent()
    sources = beside.write_events((number % 2, 10 + number % 3 % 2, f"held-{number}") for number in range(3_000))
    until(lambda: sum(beside.kinds().values()) >= len(sources), gateway.log, 60)
    beside.write_letters(sources)
    more = beside.publishes_more()
    group = f"{world.name}.interactions.replay"

    replaying = beside.start()
    until(more, replaying.log)
    child = replaying.child()
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    try:
        # A stopped member is expelled after its session of 3 seconds; this is over before.
        told = _revoke(beside, 10, "1")
    finally:
        os.kill(child, signal.SIGCONT)
    through = _status(beside, told, "20")
    done = replaying.wait()
    resting = _revoke(beside, 12, "10")

    holdups = told["enforcement"]["holdups"]
    assert told["enforcement"]["state"] == "PENDING"
    assert {holdup["group"] for holdup in holdups if holdup["group"]} == {group}
    assert through["state"] == "ENFORCED"
    assert done.returncode == 0, done.stderr
    assert resting["enforcement"]["state"] == "ENFORCED"
    (of_replay,) = [found for found in resting["enforcement"]["groups"] if found["group"] == group]
    assert (of_replay["replay"], of_replay["members"]) == (True, 0)
    counts = json.loads(done.stdout)
    assert counts["sanitized"] + counts["withheld"] == len(sources)
    assert counts["withheld"] > 0
    ends = {each["partition"]: each["high_watermark"] for each in through["outputs"] if each["topic"].endswith("crm")}
    tokens = {each.kind: each.key for each in beside.sanitized()}
    early, late = tokens["held-0"], tokens["held-1"]
    assert early != late
    beyond = {each.key for each in beside.placed() if each.offset >= ends[each.partition]}
    assert early not in beyond
    assert late in beyond


class _Member:
    """A member of a replay's group that takes no partition over, and a transaction of its own."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._properties = {"bootstrap.servers": bootstrap}
        self.consumer = GroupConsumer(self._properties, group, group, self)
        self.producer = TransactionalProducer(self._properties, f"{group}.0")
        self.consumer.subscribe([topic])
        self.joined = False
        self._topic = topic

    def assigned(self, _partitions: list[Partition]) -> None:
        """Note that it is a member."""
        self.joined = True

    def revoked(self, _partitions: list[Partition]) -> None:
        """Nothing is under way."""

    def lost(self, _partitions: list[Partition]) -> None:
        """Nothing is under way."""

    def poll(self) -> bool:
        """Stay in the group; return whether it is a member."""
        self.consumer.read(1, 0.1)
        return self.joined

    def leave_undecided(self, offset: int) -> None:
        """Send offsets in a transaction, and leave the group before it is decided."""
        metadata = self.consumer.group_metadata()
        assert metadata is not None
        self.producer.init_transactions()
        self.producer.begin()
        position = ConsentPosition("old", "policy", {0: 0}).encode()
        self.producer.send_offsets([OffsetToCommit(self._topic, 0, offset, position)], metadata)
        self.consumer.close()


@pytest.mark.integration
def test_offsets_that_are_not_decided_hold_a_withdrawal_up_without_members(
    beside: Letters, gateway: RunningGateway, kafka: Broker
) -> None:
    """A replay ended between its offsets and its commit: its member is gone, and its transaction may still commit."""
    assert gateway.ready()
    world = beside.world
    group = f"{world.name}.interactions.replay"
    member = _Member(kafka.bootstrap, group, beside.topic)
    until(member.poll)
    member.leave_undecided(1)
    until(lambda: world.admin.members(group) == ())

    told = _revoke(beside, 13, "1")
    member.producer.abort()
    through = _status(beside, told, "20")

    (holdup,) = told["enforcement"]["holdups"]
    assert (told["enforcement"]["state"], holdup["cause"], holdup["group"]) == ("PENDING", "offsets_unstable", group)
    assert (holdup["topic"], holdup["partition"]) == (beside.topic, 0)
    assert through["state"] == "ENFORCED"


# Without a gateway


@pytest.mark.integration
def test_each_letter_has_the_fate_that_it_should(make: Make) -> None:
    """A range, put back, rejected again, gone, withheld after a withdrawal, and made good by another policy.

    No gateway runs, so that the replay has an applier of its own.
    """
    letters = make()
    world, policy = letters.world, letters.world.directory / "policy.yaml"
    lenient = policy.read_text()
    policy.write_text(lenient.replace("do: {tokenize: email}}", "do: {tokenize: email}, on_invalid: reject}"))
    assert policy.read_text() != lenient
    letters.allow(1, 2)
    good = letters.write_events((0, 1 + number % 2, f"good-{number}") for number in range(8))
    gone = letters.write_events((1, 1, f"gone-{number}") for number in range(3))
    bad = letters.write_events([(1, 1, "bad")], datum=event(1, "bad", email="none"))
    kept = letters.write_events([(1, 1, "kept")])
    letters.write_letters([*good, *gone, *kept])
    letters.write_letters(bad, reason=Reason.VALUE_INVALID)
    world.write("raw.dead-letters", b"", b"no letter", 0)

    a_range = letters.replay("--partition", "0", "--from", "2", "--to", "5")
    after_the_range = letters.kinds()
    one_reason = letters.replay("--reason", "value_invalid")
    policy.write_text(lenient)
    world.admin.delete_records(world.source, {1: bad[0].offset})
    world.cli("consent", "revoke", "customer:0000000002")
    rest = letters.start().wait()
    nothing = letters.replay()

    words = ("read", "sanitized", "withheld", "rejected", "gone", "put_back", "foreign")
    assert [a_range[word] for word in words] == [14, 4, 0, 0, 0, 9, 1]
    assert after_the_range == Counter(f"good-{number}" for number in range(2, 6))
    assert [one_reason[word] for word in words] == [9, 0, 0, 1, 0, 8, 0]
    told = json.loads(rest.stdout)
    assert rest.returncode == 0, rest.stderr
    assert [told[word] for word in words] == [9, 4, 2, 0, 3, 0, 0]
    assert nothing["read"] == 0
    assert letters.kinds() == Counter(["good-0", *(f"good-{number}" for number in range(2, 7)), "bad", "kept"])
    again = [letter for letter in letters.letters() if letter.policy_digest != "digest"]
    assert [(letter.reason, letter.source_offset, letter.output) for letter in again] == [
        ("value_invalid", bad[0].offset, f"{world.source}.crm")
    ]
    lines = [json.loads(line) for line in rest.stderr.splitlines() if "replay_source_gone" in line]
    assert {(line["partition"], line["offset"]) for line in lines} == {(1, source.offset) for source in gone}


@pytest.mark.integration
def test_a_record_is_gone_only_where_it_is(make: Make, kafka: Broker) -> None:
    """Records that lie apart, next to a marker, at both ends, below the beginning and beyond the end of the topic."""
    letters = make()
    sources = letters.write_events((0, 1, f"kind-{number}") for number in range(1_500))
    letters.world.admin.delete_records(letters.world.source, {0: 100})
    reader = RecordReader({"bootstrap.servers": kafka.bootstrap}, letters.world.source, "test")

    wanted = [(0, offset) for offset in (0, 99, 100, 101, 700, 1_300, 1_499, 1_500, 9_999)]
    found = reader.read(wanted)
    again = reader.read([(0, 100), (1, 0)])
    reader.close()

    assert len(sources) == 1_500
    assert sorted(found) == [(0, 100), (0, 101), (0, 700), (0, 1_300), (0, 1_499)]
    assert all(message.offset() == offset for (_, offset), message in found.items())
    assert sorted(again) == [(0, 100)]


@pytest.mark.integration
def test_letters_that_no_gateway_wrote_are_counted_and_harm_nobody(make: Make) -> None:
    """Whoever may write to the dead-letter topic can name any place and any time, and steer no terminal by a reason."""
    letters = make()
    world = letters.world
    letters.allow(1)
    (source,) = letters.write_events([(0, 1, "once")])
    write = avro_codec.writer(avro.parse(deadletter.SCHEMA))

    def letter(partition: int, offset: int, timestamp_ms: int, reason: str = "engine_error") -> bytes:
        coordinates = [world.source, partition, offset, timestamp_ms, 7, f"{world.source}.crm"]
        return wire.frame(1, write([*coordinates, "treat", reason, "", "", ""]))

    places = [(0, 10**15), (0, 2**62), (0, -7), (-3, 0), (2**31 - 1, 0)]
    world.write("raw.dead-letters", b"", letter(0, source.offset, source.timestamp_ms, "\x1b]0;pwned\x07"), 0)
    world.write("raw.dead-letters", b"", letter(0, source.offset, 2**62), 0)
    for partition, offset in places:
        world.write("raw.dead-letters", b"", letter(partition, offset, source.timestamp_ms), 0)

    shown = world.cli("replay", "interactions", "--dry-run")
    other = world.cli("replay", "interactions", "--partition", "1", "--yes")
    missing = world.cli("replay", "interactions", "--partition", "77", "--yes")
    done = world.cli("replay", "interactions", "--yes")

    assert shown.returncode == 0, shown.stderr
    assert "7 letters in" in shown.stdout
    assert "2 source records are still there" in shown.stdout
    assert "4611686018427387904 ms since 1970" in shown.stdout
    assert (other.returncode, missing.returncode) == (0, 2)
    assert f"none of 7 letters of 'interactions' in {world.source}.dead-letters match" in other.stderr
    assert f"{world.source} has the partitions 0 to 1, and not 77" in missing.stderr
    assert done.returncode == 0, done.stderr
    assert ["crm", "(unknown)", "1", "0", "0", "0", "0"] in [line.split() for line in done.stdout.splitlines()]
    assert ["crm", "engine_error", "0", "0", "0", "6", "0"] in [line.split() for line in done.stdout.splitlines()]
    assert not {"\x1b", "\x07"} & {*shown.stdout, *shown.stderr, *done.stdout, *done.stderr}


# Kills


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_killed_replays_lose_nothing_and_double_nothing(make: Make, kafka: Broker) -> None:
    """Parent or child is killed at a random moment, again and again; then the rest is replayed, and nothing leaked."""
    dice = random.Random(SEED)
    letters = make()
    world = letters.world
    log = world.directory / "replay.log"
    customers = [dice.randrange(10**9, 10**10) for _ in range(50)]
    letters.allow(*customers[:40])
    events = [(number % 2, customers[number % 50], f"event-{number}") for number in range(6_000)]
    sources = letters.write_events(events)
    letters.write_letters(sources, audiences=("crm", "ads"))

    reports, kills = [], 0
    while kills < 12:
        replaying = letters.start(stderr=log)
        while kills < 12 and replaying.process.poll() is None:
            time.sleep(dice.uniform(0.2, 4))
            child = replaying.child()
            if child is not None and dice.random() < 0.5:
                replaying.kill(child)
            else:
                replaying.kill()
            kills += 1
        if kills < 12:
            replaying.wait()
    reports.append(replaying.wait())
    letters.replay_all(log)

    expected = Counter(kind for _, customer, kind in events if customer in customers[:40])
    assert letters.kinds() == expected, log.read_text()[-3000:]
    assert letters.kinds("ads") == Counter()
    assert json.loads(world.cli("replay", "interactions", "--dry-run", "--format", "json").stdout)["read"] == 0
    _assert_no_canary(letters, kafka, customers)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_the_report_is_exact_although_children_were_killed(make: Make) -> None:
    """The parent's sums count each letter once, whenever the child dies."""
    dice = random.Random(SEED)
    letters = make()
    letters.allow(1)
    sources = letters.write_events((number % 2, 1, f"event-{number}") for number in range(8_000))
    letters.write_letters(sources)

    replaying = letters.start("--limit", "7500")
    for _ in range(4):
        until(letters.publishes_more(), replaying.log, 60)
        time.sleep(dice.uniform(0, 0.1))
        until(lambda: replaying.child() is not None, replaying.log)
        replaying.kill(replaying.child() or pytest.fail("the child went away"))
    done = replaying.wait()
    told = json.loads(done.stdout)
    rest = letters.replay()

    assert done.returncode == 0, done.stderr
    assert (told["sanitized"], told["read"], told["uncertain"]) == (7_500, 7_500, 0)
    assert rest["sanitized"] == 500
    assert letters.kinds() == Counter(source.kind for source in sources)


@pytest.mark.chaos
def test_a_second_replay_takes_over_from_the_first(make: Make) -> None:
    """The first says so and ends; together they publish each record once."""
    letters = make()
    letters.allow(1)
    sources = letters.write_events((number % 2, 1, f"event-{number}") for number in range(8_000))
    letters.write_letters(sources)

    first = letters.start()
    until(letters.publishes_more(), first.log, 60)
    child = first.child()
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    second = letters.start()
    # The first one's session ends meanwhile, so that the second has all letters when the first goes on.
    until(letters.publishes_more(), second.log, 60)
    os.kill(child, signal.SIGCONT)
    ended, done = first.wait(), second.wait()

    assert ended.returncode == 3, ended.stderr
    assert "another replay of 'interactions' was started" in ended.stderr
    assert done.returncode == 0, done.stderr
    assert letters.kinds() == Counter(source.kind for source in sources)


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_finishes_its_transaction_and_says_what_it_did(
    make: Make, number: signal.Signals
) -> None:
    """What it reports is what is in the output, and the next replay does the rest."""
    letters = make()
    letters.allow(1)
    sources = letters.write_events((number % 2, 1, f"event-{number}") for number in range(6_000))
    letters.write_letters(sources)

    replaying = letters.start()
    until(letters.publishes_more(), replaying.log, 60)
    replaying.process.send_signal(number)
    done = replaying.wait()
    first = json.loads(done.stdout)
    seen = letters.kinds().total()
    rest = letters.replay()

    assert done.returncode == 130
    assert (first["end"], first["uncertain"]) == ("interrupted", 0)
    assert 0 < first["sanitized"] == seen < len(sources)
    assert first["sanitized"] + rest["sanitized"] == len(sources)
    assert letters.kinds() == Counter(source.kind for source in sources)


def _assert_no_canary(letters: Letters, kafka: Broker, customers: list[int]) -> None:
    """Nothing of the records is in the outputs and letters, aborted ones included, in logs, or in the state."""
    scanner = CanaryScanner([str(customer) for customer in customers], [])
    world = letters.world
    hits = []
    for topic in (letters.topic, f"{world.source}.crm", f"{world.source}.ads"):
        segments = [path for path in kafka.log_directory.glob(f"{topic}-[0-9]*/*") if path.suffix == ".log"]
        assert segments
        for path in segments:
            assert plain_segments(path.read_bytes())
            hits += scanner.scan_file(path)
    for path in (path for path in world.directory.rglob("*") if path.is_file()):
        hits += scanner.scan_file(path)
    assert hits == []
    source = next(kafka.log_directory.glob(f"{world.source}-0/*.log"))
    assert scanner.scan_file(source), "the search finds nothing where everything is"
