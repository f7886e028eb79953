"""The revoke barrier on a real broker, with two workers and traffic of the very subject that withdraws."""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import pytest
from confluent_kafka import Producer
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import RunningGateway, World, until

from tokenweir.adapters.topicreader import read_until
from tokenweir.adapters.topicwriter import TopicWriter
from tokenweir.app.consentwriter import withdrawn
from tokenweir.app.enforcement import await_enforcement
from tokenweir.config import load_config
from tokenweir.core.consent import read_value, to_value
from tokenweir.core.policy.loader import load_policy
from tokenweir.runtime.barrier import State, Withdrawal
from tokenweir.runtime.position import ConsentPosition

pytestmark = pytest.mark.integration

Make = Callable[..., World]
_OUTPUT = "raw.crm"


@pytest.fixture(scope="module")
def make(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make worlds with names of their own."""

    def new(workers: int = 1) -> World:
        name = f"barrier-{uuid.uuid4().hex[:8]}"
        world = World(tmp_path_factory.mktemp(name), name, kafka.bootstrap, registry.url, workers)
        fixed = world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        return world

    return new


@pytest.fixture(scope="module")
def world(make: Make) -> World:
    """A world for two workers."""
    return make(workers=2)


@pytest.fixture(scope="module")
def running(world: World) -> Iterator[RunningGateway]:
    """A gateway of two workers."""
    gateway = world.start()
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture
def gateway(world: World, running: RunningGateway) -> RunningGateway:
    """The gateway, with both workers at work."""
    until(lambda: running.ready() and len(_owners(world)) == 2, running.log)
    return running


class Traffic:
    """Events of some customers on both source partitions, from a thread, until it is left."""

    def __init__(self, world: World, *customers: int) -> None:
        self._world, self._customers = world, customers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            for customer in self._customers:
                for partition in range(2):
                    self._world.send(customer, partition=partition)


class Placed(NamedTuple):
    """An output record and where it is."""

    partition: int
    offset: int
    key: bytes


def _placed(world: World) -> list[Placed]:
    """Return every record of the output that can be seen, with its place."""
    topic = f"{world.name}.{_OUTPUT}"
    ends = world.admin.high_watermarks(topic, range(world.admin.topics()[topic]), "read_committed")
    properties = load_config(world.config, {}).kafka.client_properties()
    found = read_until(properties, topic, {number: (0, end) for number, end in ends.items()})
    return [Placed(each.partition() or 0, each.offset() or 0, bytes(each.key() or b"")) for each in found]


def _token(world: World, gateway: RunningGateway, customer: int) -> bytes:
    """Let a customer allow, and return the key that its records have in the output."""
    gateway.allow(customer, "email_marketing")
    before = {placed.key for placed in _placed(world)}
    world.send(customer)
    found: set[bytes] = set()

    def arrived() -> bool:
        found.update({placed.key for placed in _placed(world)} - before)
        return bool(found)

    until(arrived, gateway.log)
    (token,) = found
    return token


def _drained(world: World) -> bool:
    """Whether every event has been processed."""
    ends = world.admin.high_watermarks(world.source, range(2))
    answers = world.admin.committed_each(f"{world.name}.interactions", world.source, range(2))
    return all(getattr(answers[number], "offset", None) == end for number, end in ends.items())


def _status(world: World, *arguments: str) -> dict[str, Any]:
    done = world.cli("consent", "status", "--format", "json", *arguments)
    return dict(json.loads(done.stdout))


def _owners(world: World) -> dict[int, str]:
    """Return which worker has each source partition."""
    (group,) = _status(world)["groups"]
    owners = {found["partition"]: found["worker"] for found in group["partitions"] if found["worker"]}
    return owners if len(set(owners.values())) == 2 else {}


def _revoke(world: World, customer: int, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = world.cli("consent", "revoke", f"customer:{customer:010}", "--format", "json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def _assert_nothing_at_or_past(world: World, enforcement: dict[str, Any], token: bytes, other: bytes) -> None:
    """No record of the withdrawn customer lies at or past H, though both customers' records lie on both sides of it."""
    first = {each["partition"]: each["high_watermark"] for each in enforcement["outputs"] if "crm" in each["topic"]}
    placed = _placed(world)
    late = {each.key for each in placed if each.offset >= first[each.partition]}
    early = {each.key for each in placed if each.offset < first[each.partition]}
    assert token not in late
    assert token in early
    assert other in late


def test_nothing_leaves_at_or_past_the_offsets_of_the_evidence(world: World, gateway: RunningGateway) -> None:
    """Under traffic of that very customer, before and after; the output is read to its end afterwards.

    The applier stands still for a while, less than the bound of staleness: the customer's records go on leaving after
    the withdrawal was written, so that an answer without a look at the groups would be wrong.
    """
    token, other = _token(world, gateway, 100), _token(world, gateway, 101)
    applier = gateway.pid("applier")
    with Traffic(world, 100, 101):
        time.sleep(0.5)
        os.kill(applier, signal.SIGSTOP)
        go_on = threading.Timer(1.5, os.kill, (applier, signal.SIGCONT))
        go_on.start()
        code, told = _revoke(world, 100, "--wait", "20")
        go_on.join()
        time.sleep(0.5)
    until(lambda: _drained(world), gateway.log)

    enforcement = told["enforcement"]
    assert (code, enforcement["state"], enforcement["holdups"]) == (0, "ENFORCED", [])
    _assert_nothing_at_or_past(world, enforcement, token, other)
    (group,) = enforcement["groups"]
    assert {found["partition"] for found in group["partitions"]} == {0, 1}
    assert all(found["applied_to"] > told["offset"] for found in group["partitions"])
    assert all(each["last_stable_offset"] >= each["high_watermark"] for each in enforcement["outputs"])
    assert {each["topic"] for each in enforcement["outputs"]} == {f"{world.source}.crm", f"{world.source}.ads"}


def test_a_stopped_worker_holds_it_up_by_name_until_it_goes_on(world: World, gateway: RunningGateway) -> None:
    """PENDING with the partitions of that worker and of no other; ENFORCED as soon as it has gone on."""
    worker = gateway.events("process_started")[-1]
    assert worker["kind"] == "worker"
    client = f"{world.name}.interactions.{worker['slot']}"
    stopped = {number for number, owner in _owners(world).items() if owner.startswith(client)}

    os.kill(worker["pid"], signal.SIGSTOP)
    try:
        # A stopped member is expelled after its session of 3 seconds; this is over before.
        code, told = _revoke(world, 110, "--wait", "1")
    finally:
        os.kill(worker["pid"], signal.SIGCONT)
    place = ("--partition", str(told["partition"]), "--offset", str(told["offset"]))
    later = world.cli("consent", "status", *place, "--wait", "20")

    enforcement = told["enforcement"]
    assert (code, enforcement["state"]) == (1, "PENDING")
    assert {holdup["partition"] for holdup in enforcement["holdups"]} == stopped
    assert {holdup["group"] for holdup in enforcement["holdups"]} == {f"{world.name}.interactions"}
    assert all(holdup["worker"].startswith(client) for holdup in enforcement["holdups"])
    assert enforcement["waited_seconds"] >= 1
    assert later.returncode == 0, later.stdout
    assert "ENFORCED after" in later.stdout


def test_an_open_transaction_in_an_output_holds_it_up(world: World, gateway: RunningGateway, kafka: Broker) -> None:
    """Its records would become visible later; whose transaction it is does not matter."""
    assert gateway.ready()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(f"{world.name}.{_OUTPUT}", b"pending", partition=1)
    producer.flush(20)

    code, told = _revoke(world, 120, "--wait", "1")
    producer.abort_transaction(20)
    place = ("--partition", str(told["partition"]), "--offset", str(told["offset"]))
    later = _status(world, *place, "--wait", "20")

    (holdup,) = told["enforcement"]["holdups"]
    assert (code, told["enforcement"]["state"]) == (1, "PENDING")
    assert (holdup["cause"], holdup["topic"], holdup["partition"]) == ("open_transaction", f"{world.name}.{_OUTPUT}", 1)
    assert later["enforcement"]["state"] == "ENFORCED"


def test_it_is_enforced_through_a_takeover_too(world: World, gateway: RunningGateway) -> None:
    """A worker is killed under traffic just before: its partitions move, and still nothing leaves past the offsets."""
    token, other = _token(world, gateway, 130), _token(world, gateway, 131)
    with Traffic(world, 130, 131):
        time.sleep(0.3)
        os.kill(gateway.pid("worker"), signal.SIGKILL)
        code, told = _revoke(world, 130, "--wait", "30")
        time.sleep(1)
    until(lambda: _drained(world), gateway.log)

    assert (code, told["enforcement"]["state"]) == (0, "ENFORCED")
    _assert_nothing_at_or_past(world, told["enforcement"], token, other)


def test_how_long_fifty_withdrawals_take(
    world: World, gateway: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """All are enforced; the time from before the record is written to the proof is printed, not judged."""
    assert gateway.ready()
    config = load_config(world.config, {})
    loaded = load_policy((world.directory / "policy.yaml").read_text(), "policy.yaml")
    topic = config.consent.topic
    topic_id = world.admin.describe_topic(topic).topic_id
    writer = TopicWriter(config.kafka.client_properties(), topic, "test")
    seconds = []
    with Traffic(world, 141):
        for customer in range(50):
            begun = time.monotonic()
            value = to_value(withdrawn(None, [], time.time_ns() // 1_000_000))
            place = writer.write(f"customer:{200 + customer:010}".encode(), value)
            withdrawal = Withdrawal(topic, topic_id, place.partition, place.offset)
            report = await_enforcement(config, loaded, withdrawal, 20)
            seconds.append(time.monotonic() - begun)
            assert report.state is State.ENFORCED, report.holdups
    p99 = statistics.quantiles(seconds, n=100)[98]
    with capsys.disabled():
        print(f"\n50 withdrawals, 2 workers: p50 {statistics.median(seconds):.3f} s, p99 {p99:.3f} s")  # noqa: T201


def test_a_group_without_members_is_not_running(make: Make) -> None:
    """Neither where there is no group, nor where all of its positions are far beyond the withdrawal."""
    world = make()
    group = f"{world.name}.interactions"

    missing_code, missing = _revoke(world, 1, "--wait", "0.5")
    position = ConsentPosition(missing["topic_id"], "policy", dict.fromkeys(range(8), 1_000))
    world.admin.set_committed(group, world.source, {number: (0, position.encode()) for number in range(2)})
    empty_code, empty = _revoke(world, 1, "--wait", "0.5")

    assert (missing_code, missing["enforcement"]["state"]) == (1, "NOT_RUNNING")
    assert [holdup["cause"] for holdup in missing["enforcement"]["holdups"]] == ["group_missing"]
    assert (empty_code, empty["enforcement"]["state"]) == (1, "NOT_RUNNING")
    assert [holdup["cause"] for holdup in empty["enforcement"]["holdups"]] == ["group_empty"]
    assert empty["enforcement"]["outputs"] == []
    shown = world.cli("consent", "status")
    assert "(nobody)" in shown.stdout
    assert "has no members" in shown.stderr


def test_a_withdrawal_keeps_what_it_does_not_mention(make: Make) -> None:
    """Of some purposes, of all of them by default, and at one source; without --wait it is written and that is all."""
    world = make()
    world.cli("consent", "set", "customer:0000000007", "email_marketing=allow", "ad_measurement=allow")

    one = world.cli("consent", "revoke", "customer:0000000007", "email_marketing")
    code, everything = _revoke(world, 7, "--source", "web")
    wrong = world.cli("consent", "revoke", "customer:0000000007", "emial_marketing")
    beyond = world.cli("consent", "status", "--partition", "0", "--offset", "1000")

    assert one.returncode == code == 0
    assert "withdrawal written to" in one.stdout
    assert everything["enforcement"] is None
    assert everything["subject"] == "customer:0000000007#web"
    assert {name: each["decision"] for name, each in everything["state"]["decisions"].items()} == {"*": "deny"}
    first, second = [record for record in world.read("consent") if b"#" not in record.key]
    allowed, withdrawn = (read_value(record.value, record.timestamp_ms).decisions for record in (first, second))
    assert withdrawn["ad_measurement"] == allowed["ad_measurement"]
    assert withdrawn["email_marketing"].decision == "deny"
    assert withdrawn["email_marketing"].decided_at_ms >= allowed["email_marketing"].decided_at_ms
    assert wrong.returncode == 2
    assert "did you mean 'email_marketing'" in wrong.stderr
    assert beyond.returncode == 2
    assert "nothing is at offset 1000" in beyond.stderr
