"""What a running gateway does when topics, records or permissions change under it: never guess, never wait for ever."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # Public names that its typing does not list.
    AclOperation,
    ResourceType,
)
from tests.support.rig import Broker, SchemaRegistry
from tests.support.starting import (
    GUARDED,
    add_partitions,
    created,
    deny,
    group_of,
    has_committed,
    last_words_of,
    refusals,
    send_anew,
)
from tests.support.worlds import RunningGateway, World, until

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault

pytestmark = pytest.mark.chaos

Make = Callable[..., World]


@pytest.fixture
def make(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make worlds with names of their own, on the shared broker or another one."""

    def new(workers: int = 1, start: str = "earliest", *, broker: Broker = kafka, fixed: bool = True) -> World:
        name = f"start-{uuid.uuid4().hex[:8]}"
        world = World(tmp_path_factory.mktemp(name), name, broker.bootstrap, registry.url, workers, start)
        if fixed:
            done = world.cli("doctor", "--fix", "--format", "json")
            assert "created" in done.stdout, done.stderr
        return world

    return new


@pytest.fixture
def run() -> Iterator[Callable[[World], RunningGateway]]:
    """Start gateways; none outlives the test."""
    running: list[RunningGateway] = []

    def start(world: World) -> RunningGateway:
        running.append(world.start())
        until(running[-1].ready, running[-1].log)
        return running[-1]

    yield start
    for gateway in running:
        gateway.stop()


@pytest.fixture
def guarded(broker_factory: Callable[..., Broker]) -> Broker:
    """A broker that asks its access lists; what is on none of them is open to everybody."""
    broker = broker_factory(GUARDED)
    broker.start()
    return broker


def test_partitions_that_are_added_are_processed_from_their_beginning(
    make: Make, run: Callable[[World], RunningGateway]
) -> None:
    """Several at once, with two workers and records from before they are noticed; within a refresh and a rebalance."""
    world = make(workers=2)
    gateway = run(world)
    gateway.allow(1, "email_marketing")
    world.send(1, 4, partition=0)
    until(has_committed(world, 4, 0), gateway.log)

    add_partitions(world, 6)
    added = time.monotonic()
    send_anew(world, *((number, number) for number in range(2, 6)))
    until(has_committed(world, 4, 0, 2, 3, 4, 5), gateway.log, 60)
    taken_seconds = time.monotonic() - added

    assert len(world.read("raw.crm")) == 4 + 2 + 3 + 4 + 5
    assert gateway.stop() == 0
    # A loaded machine is slow to rebalance; without the gateway's own refresh it would be five minutes.
    assert taken_seconds < 40
    restarted = run(world)
    world.send(1, 1, partition=1)
    until(has_committed(world, 4, 1, 2, 3, 4, 5), restarted.log)


@pytest.mark.parametrize("pause_seconds", [0.0, 3.0])
def test_a_source_that_is_created_again_stops_the_gateway(
    make: Make, run: Callable[[World], RunningGateway], pause_seconds: float
) -> None:
    """Nothing of the new topic is skipped without a word, however fast it was; after the repair all of it is there."""
    world = make()
    gateway = run(world)
    gateway.allow(1, "email_marketing")
    world.send(1, 20, partition=0)
    until(has_committed(world, 20, 0), gateway.log)

    world.admin.delete_topic(world.source)
    time.sleep(pause_seconds)
    until(lambda: created(world, world.source))
    send_anew(world, (0, 30))
    said = last_words_of(gateway)
    refused = refusals(world)
    repaired = world.cli("offsets", "set", "interactions", "--all", "--to", "earliest", "--yes")
    before = len(world.read("raw.crm"))
    restarted = run(world)
    until(has_committed(world, 30, 0), restarted.log)

    assert f"the source topic {world.source} was deleted and created again while the gateway was running" in said
    assert "'tokenweir offsets set interactions --all --to earliest|latest|OFFSET|TIME'" in said
    # Either the broker has forgotten the offsets, or a worker wrote them again, of the old topic.
    assert not refused or "is of a topic that was deleted and created again" in refused[0]
    assert repaired.returncode == 0, repaired.stderr
    assert len(world.read("raw.crm")) == before + 30


@pytest.mark.parametrize("auto_create", ["true", "false"])
def test_an_output_that_is_deleted_stops_the_gateway_and_is_not_created(
    make: Make, run: Callable[[World], RunningGateway], broker_factory: Callable[..., Broker], auto_create: str
) -> None:
    """Whatever the broker would allow; the source's offsets stay where they were."""
    broker = broker_factory({"auto.create.topics.enable": auto_create})
    broker.start()
    world = make(broker=broker)
    gateway = run(world)
    gateway.allow(1, "email_marketing")
    world.send(1, 4, partition=0)
    until(has_committed(world, 4, 0), gateway.log)

    world.admin.delete_topic(f"{world.source}.crm")
    world.send(1, 4, partition=0)
    said = last_words_of(gateway, 120)

    assert f"topic {world.source}.crm of stream interactions went missing while the gateway was running" in said
    assert f"{world.source}.crm" not in world.admin.topics()
    until(has_committed(world, 4, 0))
    assert refusals(world) == [
        f"output topic {world.source}.crm: does not exist (create it, or run 'tokenweir doctor --fix')"
    ]
    assert f"{world.source}.crm" not in world.admin.topics()


def test_a_source_that_is_deleted_stops_the_gateway(make: Make, run: Callable[[World], RunningGateway]) -> None:
    """A consumer of a topic that is gone would wait for ever and look healthy."""
    world = make()
    gateway = run(world)
    world.admin.delete_topic(world.source)
    assert f"topic {world.source} of stream interactions went missing" in last_words_of(gateway)
    assert world.source not in world.admin.topics()


def test_a_consent_topic_that_is_created_again_stops_the_gateway(
    make: Make, run: Callable[[World], RunningGateway]
) -> None:
    """And every start after it, until it is accepted."""
    world = make()
    gateway = run(world)
    world.admin.delete_topic(f"{world.name}.consent")
    until(lambda: created(world, f"{world.name}.consent", 8, {"cleanup.policy": "compact"}))
    assert f"the consent topic {world.name}.consent was replaced" in last_words_of(gateway)
    assert "--to committed" in refusals(world)[0]


def test_records_that_are_deleted_before_they_are_read_stop_the_gateway(
    make: Make, run: Callable[[World], RunningGateway]
) -> None:
    """A worker that was frozen comes back behind the first record that is left."""
    world = make()
    gateway = run(world)
    gateway.allow(1, "email_marketing")
    world.send(1, 4, partition=0)
    until(has_committed(world, 4, 0), gateway.log)

    worker = gateway.pid("worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        # The broker answers the open fetch with the first of these; what comes later is gone before it is asked for.
        world.send(1, 1, partition=0)
        time.sleep(1)
        world.send(1, 40, partition=0)
        world.admin.delete_records(world.source, {0: 40})
    finally:
        os.kill(worker, signal.SIGCONT)
    said = last_words_of(gateway)
    assert world.source in said
    assert "lies outside of the topic" in said or "lies before its first record (40)" in said
    assert "lies before its first record (40)" in refusals(world)[0]


def test_a_permission_that_is_lost_stops_the_gateway(
    make: Make, run: Callable[[World], RunningGateway], guarded: Broker
) -> None:
    """The batch fails, is not tried again, and nothing of it is committed."""
    world = make(broker=guarded)
    gateway = run(world)
    gateway.allow(1, "email_marketing")
    world.send(1, 4, partition=0)
    until(has_committed(world, 4, 0), gateway.log)

    deny(world, f"{world.source}.crm", AclOperation.WRITE)
    until(lambda: bool(refusals(world)))
    world.send(1, 4, partition=0)
    said = last_words_of(gateway, 120)

    assert "TOPIC_AUTHORIZATION_FAILED" in said
    assert "'tokenweir doctor' names what is not permitted" in said
    # The broker aborts what the worker left open.
    until(has_committed(world, 4, 0))
    assert len(world.read("raw.crm")) == 4


def test_a_transactional_id_that_is_denied_stops_the_gateway(
    make: Make, run: Callable[[World], RunningGateway], guarded: Broker
) -> None:
    """A worker that may not publish any more is not started again and again."""
    world = make(broker=guarded)
    gateway = run(world)
    deny(world, f"{group_of(world)}.0", AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID)
    world.send(1, 4, partition=0)

    assert "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" in last_words_of(gateway, 120)


def test_an_administrators_client_survives_restarts_of_the_broker(broker_factory: Callable[..., Broker]) -> None:
    """The same client answers again, though its picture of the cluster is out of date (FENCED_LEADER_EPOCH)."""
    broker = broker_factory()
    broker.start()
    admin = Admin({"bootstrap.servers": broker.bootstrap}, timeout_seconds=5)
    admin.create_topic("raw", 4, 1)
    codes: set[str] = set()

    def answers() -> bool:
        try:
            return admin.high_watermarks("raw", range(4)) == dict.fromkeys(range(4), 0)
        except KafkaFault as fault:
            codes.add(fault.code)
            return False

    until(answers)
    for _ in range(3):
        broker.kill()
        broker.start()
        until(answers, seconds=60)
    assert "FENCED_LEADER_EPOCH" in codes, codes
