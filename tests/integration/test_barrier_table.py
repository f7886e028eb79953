"""What can hold a withdrawal up, one after the other, on a real broker: each is named, and passes as it should.

One gateway of two streams serves all tests; every test leaves it as it was, but for the last, which stops it.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # Not in its stub's __all__.
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import SCHEMA, RunningGateway, World, until

from tokenweir.adapters.admin import Admin
from tokenweir.app.enforcement import flows_of
from tokenweir.config import load_config
from tokenweir.core.policy.loader import load_policy
from tokenweir.runtime.barrier import Barrier, State, Withdrawal, wait
from tokenweir.runtime.clock import SystemClock

pytestmark = pytest.mark.integration

_STREAMS = ("interactions", "orders")
_WORKERS = 2


@pytest.fixture(scope="module")
def world(kafka: Broker, registry: SchemaRegistry, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two streams."""
    name = f"table-{uuid.uuid4().hex[:8]}"
    world = World(tmp_path_factory.mktemp(name), name, kafka.bootstrap, registry.url, _WORKERS)
    world.admin.create_topic(f"{name}.orders", 2)
    world.registry.register(f"{name}.orders-value", json.dumps(SCHEMA), "AVRO")
    policy = world.directory / "policy.yaml"
    first, _, stream = policy.read_text().partition("  interactions:\n")
    assert stream
    orders = stream.replace(f"{name}.raw", f"{name}.orders")
    policy.write_text(f"{first}  interactions:\n{stream}  orders:\n{orders}")
    # Added partitions are noticed after ten seconds by default.
    config = world.config.read_text()
    world.config.write_text(config.replace("properties: {", "properties: {topic.metadata.refresh.interval.ms: 1000, "))
    fixed = world.cli("doctor", "--fix", "--format", "json")
    assert fixed.returncode == 0, fixed.stdout
    return world


@pytest.fixture(scope="module")
def running(world: World) -> Iterator[RunningGateway]:
    """The gateway."""
    gateway = world.start()
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture
def gateway(world: World, running: RunningGateway) -> RunningGateway:
    """The gateway, with every worker at work."""
    _until_owned(world, running)
    return running


def _until_owned(world: World, gateway: RunningGateway) -> None:
    def owned() -> bool:
        groups = _status(world)["groups"]
        workers = [{found["worker"] for found in group["partitions"]} for group in groups]
        return gateway.ready() and [len(found - {None}) for found in workers] == [_WORKERS] * len(_STREAMS)

    until(owned, gateway.log, 60)


def _group(world: World, stream: str) -> str:
    return f"{world.name}.{stream}"


def _status(world: World) -> dict[str, Any]:
    return dict(json.loads(world.cli("consent", "status", "--format", "json").stdout))


def _revoke(world: World, customer: int, seconds: float) -> tuple[dict[str, Any], Withdrawal]:
    """Withdraw, and return the enforcement with the exit code as ``code``, and where it was written."""
    subject = f"customer:{customer:010}"
    done = world.cli("consent", "revoke", subject, "--wait", str(seconds), "--format", "json")
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    withdrawal = Withdrawal(told["topic"], told["topic_id"], told["partition"], told["offset"])
    return {**told["enforcement"], "code": done.returncode}, withdrawal


def _later(world: World, withdrawal: Withdrawal, seconds: float = 30) -> str:
    """Return what is said of an older withdrawal at the end of a wait."""
    place = ("--partition", str(withdrawal.partition), "--offset", str(withdrawal.offset))
    done = world.cli("consent", "status", *place, "--wait", str(seconds), "--format", "json")
    return str(json.loads(done.stdout)["enforcement"]["state"])


def _workers(gateway: RunningGateway, stream: str) -> list[int]:
    """Return the processes of a stream's workers, which none of these tests ends."""
    return [event["pid"] for event in gateway.events("process_started") if event.get("stream") == stream]


def _causes(enforcement: dict[str, Any]) -> set[tuple[str, str, int | None]]:
    return {(found["cause"], found["group"], found["partition"]) for found in enforcement["holdups"]}


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """Let a process stand still for as long as it takes."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_one_of_many_streams_holds_it_up_by_its_group(world: World, gateway: RunningGateway) -> None:
    """The other group is through, and is not named."""
    with _frozen(_workers(gateway, "orders")[-1]):
        held, withdrawal = _revoke(world, 1, 2)
    assert (held["code"], held["state"]) == (1, "PENDING")
    assert {group for _, group, _ in _causes(held)} == {_group(world, "orders")}
    assert {group["group"] for group in held["groups"]} == {_group(world, stream) for stream in _STREAMS}
    assert _later(world, withdrawal) == "ENFORCED"


def test_a_lagging_store_holds_every_partition_up(world: World, gateway: RunningGateway) -> None:
    """The applier stands still: first the workers decide with what they have, then, with stale consent, not at all."""
    with _frozen(gateway.pid("applier")):
        held, withdrawal = _revoke(world, 2, 1)
        stale, _ = _revoke(world, 3, 2.5)
    every = {("behind", _group(world, stream), number) for stream in _STREAMS for number in range(2)}
    assert (held["state"], _causes(held)) == ("PENDING", every)
    assert (stale["state"], _causes(stale)) == ("PENDING", every)
    assert _later(world, withdrawal) == "ENFORCED"


class _LaterClock(SystemClock):
    """The system's clock, some seconds later."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def monotonic_ns(self) -> int:
        """Monotonic clock."""
        return super().monotonic_ns() + int(self.ahead_seconds * 1e9)


def test_offsets_that_stay_undecided_raise_an_alarm(world: World, gateway: RunningGateway, kafka: Broker) -> None:
    """A transaction has sent offsets and does not end: never ENFORCED, an alarm after 30 s, and then what helps."""
    assert gateway.ready()
    group = _group(world, "interactions")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(20)
    producer.begin_transaction()
    outsider = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    # Without a member and a generation the broker takes them from anybody.
    producer.send_offsets_to_transaction(
        [TopicPartition(world.source, 1, 0, "")], outsider.consumer_group_metadata(), 20
    )
    outsider.close()
    held, withdrawal = _revoke(world, 4, 1)
    clock = _LaterClock()
    barrier = _barrier(world, withdrawal, clock)
    waited = wait(barrier, 2, sleep=time.sleep)
    clock.ahead_seconds = 30
    late = barrier.look()
    producer.abort_transaction(20)

    assert (held["state"], _causes(held)) == ("PENDING", {("offsets_unstable", group, 1)})
    assert (waited.state, late.state) == (State.PENDING, State.PENDING)
    assert not any(holdup.alarm for holdup in waited.holdups)
    (alarm,) = late.holdups
    assert alarm.alarm
    assert alarm.worker.startswith(f"{group}.")
    assert "a transaction with its offsets is not decided, for 3" in str(alarm)
    assert "restart the worker of this slot" in alarm.remedy
    assert _later(world, withdrawal) == "ENFORCED"


def _barrier(world: World, withdrawal: Withdrawal, clock: SystemClock) -> Barrier:
    config = load_config(world.config, {})
    loaded = load_policy((world.directory / "policy.yaml").read_text(), "policy.yaml")
    admin = Admin(config.kafka.client_properties())
    prefix = config.gateway.group_prefix
    return Barrier(admin, clock, withdrawal, flows_of(config, loaded.policy), prefix, loaded.digest)


def test_a_stream_that_was_removed_counts_until_its_group_is_deleted(
    world: World, gateway: RunningGateway, kafka: Broker
) -> None:
    """Its positions may be as they like: a worker with an older state may still join."""
    assert gateway.ready()
    removed = _group(world, "removed")
    world.admin.set_committed(removed, world.source, {0: (0, "")})
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    held, withdrawal = _revoke(world, 5, 0.5)
    client.delete_consumer_groups([removed])[removed].result(20)

    assert (held["code"], held["state"]) == (1, "NOT_RUNNING")
    assert ("group_empty", removed, None) in _causes(held)
    assert {group for _, group, _ in _causes(held)} == {removed}
    assert _later(world, withdrawal) == "ENFORCED"


def test_an_added_partition_holds_it_up_until_it_is_taken_over(
    world: World, gateway: RunningGateway, kafka: Broker
) -> None:
    """From the moment in which it exists, though no worker knows of it yet."""
    assert gateway.ready()
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    topic = f"{world.name}.orders"
    with ExitStack() as stack:
        # Meanwhile nobody can be faster.
        for pid in _workers(gateway, "orders"):
            stack.enter_context(_frozen(pid))
        client.create_partitions([NewPartitions(topic, 3)])[topic].result(20)
        held, withdrawal = _revoke(world, 6, 0)
    state = _later(world, withdrawal)

    assert held["state"] == "PENDING"
    assert ("not_committed", _group(world, "orders"), 2) in _causes(held)
    assert state == "ENFORCED"
    (orders,) = [group for group in _status(world)["groups"] if group["group"] == _group(world, "orders")]
    applied = {found["partition"]: found["position"] for found in orders["partitions"]}
    assert applied[2][str(withdrawal.partition)] > withdrawal.offset


def test_a_stopped_gateway_is_not_running_and_its_reset_offsets_wait_for_all_consent(
    world: World, gateway: RunningGateway
) -> None:
    """A tool has set the offsets, so that nothing shows with which consent they were decided."""
    assert gateway.stop() == 0
    held, withdrawal = _revoke(world, 7, 0.5)
    for stream, topic in zip(_STREAMS, (world.source, f"{world.name}.orders"), strict=True):
        numbers = range(2 if topic == world.source else 3)
        world.admin.set_committed(_group(world, stream), topic, dict.fromkeys(numbers, (0, "")))
    reset, _ = _revoke(world, 8, 0)
    positions = {found["position"] for group in _status(world)["groups"] for found in group["partitions"]}
    again = world.start()
    try:
        state = _later(world, withdrawal, 60)
    finally:
        code = again.stop()

    assert (held["code"], held["state"]) == (1, "NOT_RUNNING")
    assert {cause for cause, _, _ in _causes(held)} >= {"group_empty"}
    assert {cause for cause, _, _ in _causes(reset)} == {"group_empty", "position_missing"}
    assert positions == {None}
    assert (state, code) == ("ENFORCED", 0)
